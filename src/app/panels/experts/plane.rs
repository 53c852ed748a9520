//! The loss on a plane through three points of the mixture: a map with contours, points and paths, and the barriers.

use crate::analysis::plane::contour;
use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::dot_plot::ticks;
use crate::app::widgets::heatmap::{HeatMapSpec, HeatMapView, Matrix, Place, Scale, color};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, export_menu, labeled, legend};
use crate::figure::{self, Axis, ColorBar, Content, Figure, MapLine, Table};
use crate::format;
use crate::protocol::{ModelQuery, PlaneLine, PlaneMark, PlanePlan, PlanePoint, PlaneReport, Study};
use egui::{Align2, Color32, ComboBox, FontId, Pos2, Rect, RichText, Stroke, StrokeKind, Ui, pos2, vec2};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Contours that are aimed at.
const CONTOURS: usize = 7;
/// Share of the values that the colours tell apart; the rest has the last colour.
const COLOURED: f64 = 0.95;
/// Colours of a bar on paper.
const BAR: usize = 48;
/// From this width on, the tables stand beside the map.
const BESIDE: f32 = 1080.0;

/// What was chosen, and the map between frames.
pub struct PlaneView {
    points: Option<[PlanePoint; 3]>,
    grid: usize,
    rows: usize,
    accuracy: bool,
    paths: bool,
    cursor: Option<Place>,
    view: HeatMapView,
}

impl Default for PlaneView {
    fn default() -> Self {
        let (grid, rows) = (PlanePlan::GRID, PlanePlan::PROBE_ROWS);
        Self { points: None, grid, rows, accuracy: false, paths: true, cursor: None, view: HeatMapView::default() }
    }
}

/// A point in a sentence.
fn name(point: PlanePoint) -> String {
    match point {
        PlanePoint::Expert(expert) => format!("expert {expert}"),
        other => other.to_string(),
    }
}

/// What the loss is measured in.
pub fn unit(run: &RunView) -> &'static str {
    match (run.writes(), run.start.labels.is_empty()) {
        (true, _) => "loss in nats a token",
        (false, true) => "squared error",
        (false, false) => "loss in nats",
    }
}

impl PlaneView {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
        let experts = run.config.mixture.num_experts;
        cards::card(ui, ctx.theme, "The loss on a plane through three points", |ui| {
            if experts < 2 {
                cards::muted(ui, ctx.theme, "This run has one expert: its plane would be a point.");
                return;
            }
            let words = "Every place of the plane is a model: a weighted sum of the three points in all adapted modules. \
                         Averaging works where the way from the experts to their mean leads over no hill.";
            cards::caption(ui, ctx.theme, words);
            self.ask_ui(ctx, experts, ui);
            let query = &ctx.session.studies.plane;
            if let Some(report) = &query.value {
                weights_line::answer_ui(ctx, ui, query.weights);
                self.report_ui(ctx.theme, report, unit(run), ui);
            }
            cards::explanation(ui, ctx.theme, "How to read the plane", &EXPLANATION);
        });
    }

    fn ask_ui(&mut self, ctx: &PanelCtx<'_>, experts: usize, ui: &mut Ui) {
        let usual = PlanePlan::of(experts);
        let known = |point: &PlanePoint| !matches!(point, PlanePoint::Expert(expert) if *expert >= experts);
        let mut points = self.points.filter(|points| points.iter().all(known)).unwrap_or(usual.points);
        let options: Vec<PlanePoint> =
            (0..experts).map(PlanePoint::Expert).chain([PlanePoint::Merged, PlanePoint::Start]).collect();
        ui.horizontal_wrapped(|ui| {
            for (title, point) in ["First point", "Second point", "Third point"].into_iter().zip(&mut points) {
                let tip = "An expert in all modules, all experts merged, or the merged weights before the first step";
                let label = ui.label(title).on_hover_text(tip);
                let list = ComboBox::from_id_salt(title).selected_text(name(*point)).width(92.0);
                let list = list.show_ui(ui, |ui| {
                    for option in &options {
                        ui.selectable_value(point, *option, name(*option));
                    }
                });
                drop(list.response.labelled_by(label.id).on_hover_text(tip));
            }
        });
        self.points = Some(points);
        ui.horizontal_wrapped(|ui| {
            let mut number = |title: &str, tip: &str, value: &mut usize, range| {
                let label = ui.label(title).on_hover_text(tip);
                drop(
                    ui.add(egui::DragValue::new(value).range(range).speed(0.2))
                        .labelled_by(label.id)
                        .on_hover_text(tip),
                );
            };
            number(
                "Places a side",
                "The field has so many places along each side",
                &mut self.grid,
                3..=PlanePlan::MOST,
            );
            number("Rows", "Evaluation rows that each loss is the mean of, spread evenly", &mut self.rows, 2..=100_000);
            let plan = PlanePlan { points, grid: self.grid, probe_rows: self.rows };
            let cost = format!(
                "{0} × {0} places, {1} points and {2} lines: {3} passes over at most {4} rows",
                plan.grid,
                experts + 2,
                plan.lines().len(),
                format::count(plan.forwards(experts)),
                format::count(plan.probe_rows),
            );
            cards::caption(ui, ctx.theme, cost);
        });
        if let Some(subject) = ctx.session.subject() {
            let plan = PlanePlan { points, grid: self.grid, probe_rows: self.rows };
            let ask = Action::Query(subject, ModelQuery::Study(Study::Plane(plan)));
            ctx.job_ui(ui, ask, &ctx.session.studies.plane, "measuring the plane");
        }
    }

    fn report_ui(&mut self, theme: &Theme, report: &PlaneReport, unit: &str, ui: &mut Ui) {
        let (found, words) = verdict_text(report);
        verdict::line(ui, theme, found, &words);
        ui.horizontal_wrapped(|ui| {
            if report.accuracy.is_some() {
                ui.selectable_value(&mut self.accuracy, false, "Loss").on_hover_text("The mean loss of the rows");
                ui.selectable_value(&mut self.accuracy, true, "Accuracy").on_hover_text("The share of right answers");
            }
            if report.paths.iter().any(|path| path.steps.len() > 1) {
                let tip = "Where each expert was at the start and at the checkpoints, projected onto the plane";
                labeled::toggle(ui, "Paths of the experts", tip, &mut self.paths);
            }
        });
        if ui.available_width() >= BESIDE {
            ui.columns(2, |columns| {
                let [left, right] = columns else { return };
                self.map_ui(theme, report, unit, left);
                tables_ui(theme, report, unit, right);
            });
        } else {
            self.map_ui(theme, report, unit, ui);
            tables_ui(theme, report, unit, ui);
        }
    }

    fn map_ui(&mut self, theme: &Theme, report: &PlaneReport, unit: &str, ui: &mut Ui) {
        let shown = Shown::of(report, self.accuracy, unit);
        let n = report.grid;
        let side = (ui.available_width() - 110.0).clamp(180.0, 460.0);
        let mut version = DefaultHasher::new();
        shown.values.iter().for_each(|value| value.to_bits().hash(&mut version));
        let at = |row: usize, col: usize| shown.at((row, col)) as f32;
        let title = format!("Plane through {}: {}", report.points.map(name).join(", "), shown.unit);
        let spec = HeatMapSpec {
            matrix: Matrix { rows: n, cols: n, at: &at },
            scale: shown.scale(),
            version: version.finish(),
            size: vec2(side, side),
            name: &title,
        };
        ui.add_space(4.0);
        let drawn = ui.horizontal(|ui| {
            ui.add_space(52.0);
            self.view.ui(ui, theme, spec, &mut self.cursor, |place| about(report, &shown, place))
        });
        let field = Field { rect: drawn.inner.rect, report };
        field.axes(theme, ui);
        field.contours(theme, &shown, ui);
        if self.paths {
            field.paths(theme, ui);
        }
        field.marks(theme, ui);
        let corner = Rect::from_min_size(field.rect.right_top() + vec2(8.0, 21.0), vec2(26.0, 18.0));
        let paths = self.paths;
        let save = format!("plane of the experts, {}", if self.accuracy { "accuracy" } else { "loss" });
        export_menu::corner(ui, corner, &save, &[], || (figure(report, &shown, paths), None));
        ui.add_space(36.0);
        legend::bar(ui, theme, shown.scale(), &shown.unit, 220.0);
        let beyond = format!(
            "Colours tell {} of the places apart; the farthest are {}. Lines: {}. Click the map and use the arrow keys for the \
             value of a place.",
            format::percent(COLOURED),
            format::significant(shown.worst, 3),
            shown.levels.iter().map(|level| format::tick(*level)).collect::<Vec<_>>().join(", "),
        );
        cards::caption(ui, theme, beyond);
        if let Some(place) = self.cursor {
            ui.label(about(report, &shown, place));
        }
    }
}

/// What the map shows.
struct Shown<'a> {
    values: &'a [f64],
    n: usize,
    unit: String,
    /// Values of the first and the last colour.
    ends: [f64; 2],
    /// The value that lies farthest from the good end.
    worst: f64,
    levels: Vec<f64>,
}

impl<'a> Shown<'a> {
    fn of(report: &'a PlaneReport, accuracy: bool, unit: &str) -> Self {
        let right = report.accuracy.as_deref().filter(|_| accuracy);
        let values = right.unwrap_or(&report.losses);
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let pick = |share: f64| sorted.get((share * sorted.len().saturating_sub(1) as f64) as usize).copied();
        // The bad end is cut: a wall at the edge must not hide the valley.
        let (ends, worst) = match right.is_some() {
            true => ([pick(1.0 - COLOURED), pick(1.0)], pick(0.0)),
            false => ([pick(0.0), pick(COLOURED)], pick(1.0)),
        };
        let ends = ends.map(|end| end.unwrap_or(0.0));
        let unit = if right.is_some() { "share of right answers" } else { unit };
        Self {
            values,
            n: report.grid,
            unit: unit.to_owned(),
            ends,
            worst: worst.unwrap_or(f64::NAN),
            levels: ticks(ends[0], ends[1], CONTOURS),
        }
    }

    fn scale(&self) -> Scale {
        Scale::Sequential(self.ends[0] as f32, self.ends[1] as f32)
    }

    /// The value in a row from the top and a column.
    fn at(&self, (row, col): Place) -> f64 {
        let index = self.n.saturating_sub(row + 1) * self.n + col;
        self.values.get(index).copied().unwrap_or(f64::NAN)
    }

    /// Contours with their levels, in coordinates of the plane.
    fn contours(&self, report: &PlaneReport) -> Vec<(f64, Vec<[[f64; 2]; 2]>)> {
        let step = |ends: [f64; 2]| (ends[1] - ends[0]) / self.n.saturating_sub(1).max(1) as f64;
        let place = |[col, row]: [f64; 2]| [report.x[0] + step(report.x) * col, report.y[0] + step(report.y) * row];
        let of = |level: &f64| {
            let pieces = contour(self.values, self.n, *level).into_iter();
            (*level, pieces.map(|[a, b]| [place(a), place(b)]).collect())
        };
        self.levels.iter().map(of).collect()
    }
}

/// Coordinates of a cell.
fn coordinates(report: &PlaneReport, (row, col): Place) -> [f64; 2] {
    let part = |i: usize| i as f64 / report.grid.saturating_sub(1).max(1) as f64;
    let along = |ends: [f64; 2], share: f64| ends[0] + share * (ends[1] - ends[0]);
    [along(report.x, part(col)), along(report.y, part(report.grid.saturating_sub(row + 1)))]
}

fn about(report: &PlaneReport, shown: &Shown<'_>, place: Place) -> String {
    let [x, y] = coordinates(report, place);
    format!("x {x:.3}, y {y:.3}: {} {}", format::significant(shown.at(place), 5), shown.unit)
}

/// Where things lie on screen.
struct Field<'a> {
    rect: Rect,
    report: &'a PlaneReport,
}

impl Field<'_> {
    /// Coordinates of the plane on screen: places are the middles of cells.
    fn at(&self, [x, y]: [f64; 2]) -> Pos2 {
        let n = self.report.grid as f64;
        let part =
            |ends: [f64; 2], value: f64| (((value - ends[0]) / (ends[1] - ends[0]) * (n - 1.0) + 0.5) / n) as f32;
        let (right, up) = (part(self.report.x, x), part(self.report.y, y));
        pos2(self.rect.left() + right * self.rect.width(), self.rect.bottom() - up * self.rect.height())
    }

    fn axes(&self, theme: &Theme, ui: &Ui) {
        let (painter, small) = (ui.painter(), FontId::proportional(10.5));
        let line = Stroke::new(1.0, theme.muted);
        for x in ticks(self.report.x[0], self.report.x[1], 6) {
            let at = pos2(self.at([x, self.report.y[0]]).x, self.rect.bottom());
            painter.vline(at.x, at.y..=at.y + 4.0, line);
            painter.text(at + vec2(0.0, 5.0), Align2::CENTER_TOP, format::tick(x), small.clone(), theme.muted);
        }
        for y in ticks(self.report.y[0], self.report.y[1], 6) {
            let at = pos2(self.rect.left(), self.at([self.report.x[0], y]).y);
            painter.hline(at.x - 4.0..=at.x, at.y, line);
            painter.text(at - vec2(6.0, 0.0), Align2::RIGHT_CENTER, format::tick(y), small.clone(), theme.muted);
        }
        let [across, up] = axis_names(self.report);
        let below = self.rect.center_bottom() + vec2(0.0, 19.0);
        painter.text(below, Align2::CENTER_TOP, across, small.clone(), theme.muted);
        let galley = painter.layout_no_wrap(up, small, theme.muted);
        let start = self.rect.left_center() + vec2(-50.0, 0.5 * galley.size().x);
        painter.add(egui::epaint::TextShape::new(start, galley, theme.muted).with_angle(-std::f32::consts::FRAC_PI_2));
    }

    fn contours(&self, theme: &Theme, shown: &Shown<'_>, ui: &Ui) {
        let painter = ui.painter().with_clip_rect(self.rect.intersect(ui.clip_rect()));
        let scale = shown.scale();
        for (level, pieces) in shown.contours(self.report) {
            let ink = Theme::text_on(color(theme, scale, level as f32));
            for [a, b] in &pieces {
                painter.line_segment([self.at(*a), self.at(*b)], Stroke::new(1.0, ink.gamma_multiply(0.65)));
            }
            // Each line is named once, at its right end.
            let right = pieces.iter().flatten().max_by(|a, b| a[0].total_cmp(&b[0]));
            if let Some(end) = right {
                let at = self.at(*end) - vec2(3.0, 0.0);
                painter.text(at, Align2::RIGHT_CENTER, format::tick(level), FontId::proportional(9.5), ink);
            }
        }
    }

    fn paths(&self, theme: &Theme, ui: &Ui) {
        let painter = ui.painter().with_clip_rect(self.rect.intersect(ui.clip_rect()));
        for path in &self.report.paths {
            let points: Vec<Pos2> = path.places.iter().map(|place| self.at([place.x, place.y])).collect();
            painter.line(points.clone(), Stroke::new(3.5, Color32::WHITE.gamma_multiply(0.8)));
            painter.line(points.clone(), Stroke::new(2.0, theme.series(path.expert)));
            for point in points {
                painter.circle_filled(point, 2.5, theme.series(path.expert));
            }
        }
    }

    fn marks(&self, theme: &Theme, ui: &Ui) {
        let painter = ui.painter().with_clip_rect(self.rect.expand(8.0).intersect(ui.clip_rect()));
        let mut taken: Vec<Rect> = Vec::new();
        for mark in &self.report.marks {
            let at = self.at([mark.place.x, mark.place.y]);
            if !self.rect.expand(2.0).contains(at) {
                continue;
            }
            let ink = mark_color(theme, mark.point);
            painter.circle_filled(at, 7.0, Color32::WHITE);
            // What lies off the plane is a ring.
            if is_on(self.report, mark) {
                painter.circle_filled(at, 5.0, ink);
            } else {
                painter.circle_stroke(at, 4.5, Stroke::new(2.0, ink));
            }
            painter.circle_stroke(at, 7.0, Stroke::new(1.0, Color32::BLACK));
            let galley = painter.layout_no_wrap(name(mark.point), FontId::proportional(11.5), Color32::BLACK);
            let size = galley.size() + vec2(6.0, 2.0);
            let right = at.x + 10.0 + size.x < self.rect.right();
            let left = if right { at.x + 10.0 } else { at.x - 10.0 - size.x };
            let places =
                [0.0, -16.0, 16.0, -32.0, 32.0].map(|dy| Rect::from_min_size(pos2(left, at.y - 8.0 + dy), size));
            let free = |place: &&Rect| taken.iter().all(|other| !other.intersects(**place));
            let place = *places.iter().find(free).unwrap_or(&places[0]);
            painter.rect_filled(place, 3.0, Color32::WHITE.gamma_multiply(0.88));
            painter.galley(place.min + vec2(3.0, 1.0), galley, Color32::BLACK);
            taken.push(place);
            let about = mark_text(mark);
            crate::app::widgets::part(
                ui,
                Rect::from_center_size(at, vec2(14.0, 14.0)),
                egui::Id::unique(("plane mark", name(mark.point))),
                &about,
            );
        }
        painter.rect_stroke(self.rect, 0.0, Stroke::new(1.0, theme.card_border), StrokeKind::Outside);
    }
}

fn mark_text(mark: &PlaneMark) -> String {
    let accuracy = mark.accuracy.map_or_else(String::new, |share| format!(", accuracy {share:.4}"));
    format!("{}: loss {:.4} ± {:.4}{accuracy}", name(mark.point), mark.loss, mark.standard_error)
}

fn mark_color(theme: &Theme, point: PlanePoint) -> Color32 {
    match point {
        PlanePoint::Expert(expert) => theme.series(expert),
        PlanePoint::Merged => Color32::BLACK,
        PlanePoint::Start => Color32::from_rgb(0x77, 0x77, 0x77),
    }
}

/// Whether a point lies on the plane, but for rounding.
fn is_on(report: &PlaneReport, mark: &PlaneMark) -> bool {
    mark.place.off <= 1e-3 * (report.x[1] - report.x[0])
}

fn axis_names(report: &PlaneReport) -> [String; 2] {
    let [a, b, c] = report.points.map(name);
    [format!("from {a} to {b}: distance of weights"), format!("across, towards {c}")]
}

/// The largest barrier, and whether it is more than chance.
pub fn verdict_text(report: &PlaneReport) -> (Verdict, String) {
    let merged: Vec<&PlaneLine> = report.lines.iter().filter(|line| line.to == PlanePoint::Merged).collect();
    let lines: Vec<&PlaneLine> = if merged.is_empty() { report.lines.iter().collect() } else { merged };
    // Of equal ones the first.
    let highest = lines.iter().rev().max_by(|a, b| a.barrier.height.total_cmp(&b.barrier.height));
    let Some(line) = highest else { return (Verdict::Open, "No line was measured.".to_owned()) };
    let (from, to, barrier) = (name(line.from), name(line.to), line.barrier);
    if barrier.height <= 2.0 * barrier.standard_error {
        let words = format!(
            "No straight line to {to} leads over a hill that is more than chance on {} rows: all lie in one basin.",
            format::count(report.probe_rows)
        );
        return (Verdict::Passed, words);
    }
    let words = format!(
        "From {from} to {to} the loss rises by {} ± {} above the line between both ends, at {} of the way.",
        format::significant(barrier.height, 2),
        format::significant(barrier.standard_error, 2),
        format::percent(barrier.at)
    );
    (Verdict::Unsure, words)
}

fn tables_ui(theme: &Theme, report: &PlaneReport, unit: &str, ui: &mut Ui) {
    type Point<'a> = Column<'a, PlaneMark>;
    ui.label(RichText::new("Points").strong());
    let columns = vec![
        Point::new("Point", "", |ui, mark| ui.label(name(mark.point))),
        Point::number("Loss", "Mean over the rows", |mark| format!("{:.4}", mark.loss)),
        Point::number("±", "Standard error of the mean", |mark| format!("{:.4}", mark.standard_error)),
        Point::number("Accuracy", "Share of right answers", |mark| {
            mark.accuracy.map_or_else(|| "-".to_owned(), |share| format!("{share:.4}"))
        }),
        Point::number("x", "Along the first axis", |mark| format!("{:.3}", mark.place.x)),
        Point::number("y", "Along the second axis", |mark| format!("{:.3}", mark.place.y)),
        Point::number("Off", "Distance from the plane", |mark| format!("{:.3}", mark.place.off)),
    ];
    listing::grid(ui, "points of the plane", columns, &report.marks);
    export_menu::table(ui, "points of the plane table", || points_table(report));
    type Line<'a> = Column<'a, PlaneLine>;
    ui.label(RichText::new("Barriers on straight lines").strong());
    let columns = vec![
        Line::new("From", "", |ui, line| ui.label(name(line.from))),
        Line::new("To", "", |ui, line| ui.label(name(line.to))),
        Line::number("Barrier", "Largest loss above the line that joins the losses of both ends", |line| {
            format!("{:.4}", line.barrier.height)
        }),
        Line::number("±", "Standard error over the rows, paired", |line| {
            format!("{:.4}", line.barrier.standard_error)
        }),
        Line::number("At", "Share of the way", |line| match line.barrier.height > 0.0 {
            true => format::percent(line.barrier.at),
            false => "-".to_owned(),
        }),
    ];
    listing::grid(ui, "barriers of the plane", columns, &report.lines);
    export_menu::table(ui, "barriers of the plane table", || lines_table(report));
    let curve = |(i, line): (usize, &PlaneLine)| {
        let places = line.losses.len().saturating_sub(1).max(1) as f64;
        let points = line.losses.iter().enumerate().map(|(k, &loss)| [k as f64 / places, loss]).collect();
        let words = format!("{} to {}", name(line.from), name(line.to));
        Curve { dots: true, ..Curve::line(words, theme.series(i), points) }
    };
    let curves: Vec<Curve> = report.lines.iter().enumerate().map(curve).collect();
    let title = if unit == "squared error" { "Squared error" } else { "Loss on the straight lines" };
    let options =
        PlotOptions { title, height: 170.0, legend: true, x: Some("share of the way"), ..PlotOptions::default() };
    metric_plot::ui(ui, theme, "loss on the straight lines", &curves, &[], &options);
    let words = format!(
        "{} evaluation rows, {} passes, {}; the head stays as it is after step {}.",
        format::count(report.probe_rows),
        format::count(report.forwards),
        format::duration(report.seconds),
        format::count(report.step)
    );
    cards::caption(ui, theme, words);
}

fn points_table(report: &PlaneReport) -> Table {
    let mut table = Table::new(["point", "x", "y", "off_plane", "loss", "standard_error", "accuracy"]);
    for mark in &report.marks {
        table.push([
            name(mark.point).into(),
            mark.place.x.into(),
            mark.place.y.into(),
            mark.place.off.into(),
            mark.loss.into(),
            mark.standard_error.into(),
            mark.accuracy.into(),
        ]);
    }
    table
}

fn lines_table(report: &PlaneReport) -> Table {
    let places = report.lines.first().map_or(0, |line| line.losses.len());
    let head = ["from", "to", "barrier", "standard_error", "at"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain((0..places).map(|i| format!("loss_{i}_of_{}", places - 1))));
    for line in &report.lines {
        let front = [name(line.from).into(), name(line.to).into(), line.barrier.height.into()];
        let rest = [line.barrier.standard_error.into(), line.barrier.at.into()];
        table.push(front.into_iter().chain(rest).chain(line.losses.iter().map(|&loss| loss.into())));
    }
    table
}

/// The map for files.
fn figure(report: &PlaneReport, shown: &Shown<'_>, paths: bool) -> Figure {
    let (paper, n) = (Theme::new(false), report.grid);
    let rgb = |color: Color32| {
        let [r, g, b, _] = color.to_array();
        [r, g, b]
    };
    let (scale, [low, high]) = (shown.scale(), shown.ends);
    // Places are the middles of cells, so that the field reaches half a cell farther.
    let axis = |name: &str, ends: [f64; 2]| {
        let half = 0.5 * (ends[1] - ends[0]) / n.saturating_sub(1).max(1) as f64;
        Axis { name: name.to_owned(), range: Some([ends[0] - half, ends[1] + half]), ..Axis::default() }
    };
    let row =
        |row: usize| (0..n).map(|col| shown.at((row, col))).map(|v| (v, rgb(color(&paper, scale, v as f32)))).collect();
    let ink = |level: f64| rgb(Theme::text_on(color(&paper, scale, level as f32)));
    let contours = shown.contours(report).into_iter().flat_map(|(level, pieces)| {
        pieces.into_iter().map(move |piece| MapLine { points: piece.to_vec(), color: ink(level), ..MapLine::default() })
    });
    let ways = report.paths.iter().filter(|_| paths).map(|path| MapLine {
        points: path.places.iter().map(|place| [place.x, place.y]).collect(),
        color: rgb(paper.series(path.expert)),
        strong: true,
        dashed: false,
    });
    let [across, up] = axis_names(report);
    let steps = |i: usize| low + (high - low) * i as f64 / (BAR - 1) as f64;
    let map = figure::Map {
        x: axis(&across, report.x),
        y: axis(&up, report.y),
        downwards: false,
        equal: true,
        columns: (0..n).map(|col| coordinates(report, (0, col))[0]).collect(),
        rows: (0..n).map(|row| coordinates(report, (row, 0))[1]).collect(),
        cells: (0..n).map(row).collect(),
        lines: contours.chain(ways).collect(),
        marks: report
            .marks
            .iter()
            .map(|mark| (name(mark.point), [mark.place.x, mark.place.y], rgb(mark_color(&paper, mark.point))))
            .collect(),
        bar: ColorBar {
            name: shown.unit.clone(),
            range: [low, high],
            colors: (0..BAR).map(|i| rgb(color(&paper, scale, steps(i) as f32))).collect(),
        },
    };
    let title = format!("Plane through {}, step {}", report.points.map(name).join(", "), format::count(report.step));
    let note = format!(
        "{} on {} rows; contours at {}",
        shown.unit,
        format::count(report.probe_rows),
        shown.levels.iter().map(|level| format::tick(*level)).collect::<Vec<_>>().join(", ")
    );
    Figure { note, ..Figure::new(title, Content::Map(map)) }
}

const EXPLANATION: [&str; 4] = [
    "Three points that do not lie on a line span a plane. The place with weights a, b and c of the three points (they sum to 1, \
     and may be negative outside of the triangle) is the model with a · first + b · second + c · third in every adapted module. \
     Both axes are distances of weights, in the same scale.",
    "A barrier is how far the loss rises above the straight line between the losses of both ends. Where there is none, the mean of \
     both is at least as good as the mean of their losses: this is why averaging works, and it holds for experts that were \
     trained together, not for any two models.",
    "A filled point lies on the plane, a ring off it: then the colour under it is not its loss, which is in the table. The merged \
     model of more than three experts does not lie on the plane of three of them.",
    "Colours are means over the chosen rows, with an error: differences smaller than the standard errors in the table mean \
     nothing. Paths show where the experts were at the recorded steps, projected; the loss below them is that of the head now.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Barrier, OnPlane};

    fn report(height: f64) -> PlaneReport {
        let place = OnPlane::default();
        let mark = |point| PlaneMark { point, place, loss: 0.5, standard_error: 0.01, accuracy: Some(0.75) };
        let points = [PlanePoint::Expert(0), PlanePoint::Expert(1), PlanePoint::Merged];
        let barrier = Barrier { height, standard_error: 0.01, at: 0.5 };
        PlaneReport {
            step: 240,
            points,
            marks: points.map(mark).to_vec(),
            grid: 3,
            x: [0.0, 2.0],
            y: [10.0, 12.0],
            losses: (0..9).map(f64::from).collect(),
            accuracy: None,
            lines: vec![PlaneLine { from: points[0], to: points[2], losses: vec![0.5; 3], barrier }],
            paths: Vec::new(),
            probe_rows: 64,
            forwards: 14,
            seconds: 1.0,
        }
    }

    #[test]
    fn a_barrier_counts_beyond_two_standard_errors() {
        assert_eq!(verdict_text(&report(0.015)).0, Verdict::Passed);
        let (verdict, words) = verdict_text(&report(0.3));
        assert_eq!(verdict, Verdict::Unsure);
        assert!(words.contains("From expert 0 to merged the loss rises by 0.30 ± 0.010 above"), "{words}");
    }

    #[test]
    fn the_highest_y_is_at_the_top() {
        let report = report(0.0);
        let shown = Shown::of(&report, false, "loss in nats");
        assert_eq!((shown.at((0, 0)), shown.at((2, 2))), (6.0, 2.0));
        assert_eq!(coordinates(&report, (0, 1)), [1.0, 12.0]);
        assert_eq!(shown.worst, 8.0);
        let figure = figure(&report, &shown, true);
        let Content::Map(map) = &figure.content else { panic!("no map") };
        assert_eq!((map.rows.as_slice(), map.columns.as_slice()), (&[12.0, 11.0, 10.0][..], &[0.0, 1.0, 2.0][..]));
        assert_eq!((map.cells[0][0].0, map.marks.len(), map.x.range), (6.0, 3, Some([-0.5, 2.5])));
        assert!(figure.table().csv().lines().nth(1).unwrap().starts_with("12,6,7,8"));
        // Contours lie between the values they divide: level 4 goes through the middle.
        let level = shown.contours(&report).into_iter().find(|(level, _)| *level == 4.0).unwrap();
        assert!(level.1.iter().flatten().any(|&[x, y]| (x - 1.0).abs() < 1e-9 && (y - 11.0).abs() < 1e-9));
        assert_eq!(points_table(&report).rows.len(), 3);
        assert!(lines_table(&report).csv().starts_with("from,to,barrier,standard_error,at,loss_0_of_2"));
    }
}
