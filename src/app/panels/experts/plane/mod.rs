//! The loss on a plane through three points of the mixture: a map with contours, points and paths, and the barriers.

mod map;
mod tables;

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::heatmap::{HeatMapSpec, HeatMapView, Matrix, Place};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, export_menu, labeled, legend};
use crate::format;
use crate::protocol::{ModelQuery, PlaneLine, PlanePlan, PlanePoint, PlaneReport, Study};
use egui::{ComboBox, Rect, Ui, vec2};
use map::{COLOURED, Field, Shown, about, figure};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use tables::tables_ui;

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
                labeled::toggle(ui, "Trails of the experts", tip, &mut self.paths);
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
     nothing. Trails show where the experts were at the recorded steps, projected; the loss below them is that of the head now.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Barrier, OnPlane, PlaneMark};

    pub(super) fn report(height: f64) -> PlaneReport {
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
}
