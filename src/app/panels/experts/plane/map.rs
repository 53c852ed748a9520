//! The map of a plane: where things lie, what is drawn on it, and the same for files.

use super::name;
use crate::analysis::plane::contour;
use crate::app::theme::Theme;
use crate::app::widgets::dot_plot::ticks;
use crate::app::widgets::heatmap::{Place, Scale, color};
use crate::app::widgets::part;
use crate::figure::{self, Axis, ColorBar, Content, Figure, MapLine};
use crate::format;
use crate::protocol::{PlaneMark, PlanePoint, PlaneReport};
use egui::{Align2, Color32, FontId, Pos2, Rect, Stroke, StrokeKind, Ui, pos2, vec2};

/// Contours that are aimed at.
const CONTOURS: usize = 7;
/// Share of the values that the colours tell apart; the rest has the last colour.
pub(super) const COLOURED: f64 = 0.95;
/// Colours of a bar on paper.
const BAR: usize = 48;

/// What the map shows.
pub(super) struct Shown<'a> {
    pub(super) values: &'a [f64],
    n: usize,
    pub(super) unit: String,
    /// Values of the first and the last colour.
    ends: [f64; 2],
    /// The value that lies farthest from the good end.
    pub(super) worst: f64,
    pub(super) levels: Vec<f64>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(report: &'a PlaneReport, accuracy: bool, unit: &str) -> Self {
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

    pub(super) fn scale(&self) -> Scale {
        Scale::Sequential(self.ends[0] as f32, self.ends[1] as f32)
    }

    /// The value in a row from the top and a column.
    pub(super) fn at(&self, (row, col): Place) -> f64 {
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
pub(super) fn coordinates(report: &PlaneReport, (row, col): Place) -> [f64; 2] {
    let part = |i: usize| i as f64 / report.grid.saturating_sub(1).max(1) as f64;
    let along = |ends: [f64; 2], share: f64| ends[0] + share * (ends[1] - ends[0]);
    [along(report.x, part(col)), along(report.y, part(report.grid.saturating_sub(row + 1)))]
}

pub(super) fn about(report: &PlaneReport, shown: &Shown<'_>, place: Place) -> String {
    let [x, y] = coordinates(report, place);
    format!("x {x:.3}, y {y:.3}: {} {}", format::significant(shown.at(place), 5), shown.unit)
}

/// Where things lie on screen.
pub(super) struct Field<'a> {
    pub(super) rect: Rect,
    pub(super) report: &'a PlaneReport,
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

    pub(super) fn axes(&self, theme: &Theme, ui: &Ui) {
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

    pub(super) fn contours(&self, theme: &Theme, shown: &Shown<'_>, ui: &Ui) {
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

    pub(super) fn paths(&self, theme: &Theme, ui: &Ui) {
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

    pub(super) fn marks(&self, theme: &Theme, ui: &Ui) {
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
            part(
                ui,
                Rect::from_center_size(at, vec2(14.0, 14.0)),
                egui::Id::unique(("plane mark", name(mark.point))),
                || mark_text(mark),
            );
        }
        painter.rect_stroke(self.rect, 0.0, Stroke::new(1.0, theme.card_border), StrokeKind::Outside);
    }
}

pub(super) fn mark_text(mark: &PlaneMark) -> String {
    let accuracy = mark.accuracy.map_or_else(String::new, |share| format!(", accuracy {share:.4}"));
    format!("{}: loss {:.4} ± {:.4}{accuracy}", name(mark.point), mark.loss, mark.standard_error)
}

pub(super) fn mark_color(theme: &Theme, point: PlanePoint) -> Color32 {
    match point {
        PlanePoint::Expert(expert) => theme.series(expert),
        PlanePoint::Merged => Color32::BLACK,
        PlanePoint::Start => Color32::from_rgb(0x77, 0x77, 0x77),
    }
}

/// Whether a point lies on the plane, but for rounding.
pub(super) fn is_on(report: &PlaneReport, mark: &PlaneMark) -> bool {
    mark.place.off <= 1e-3 * (report.x[1] - report.x[0])
}

pub(super) fn axis_names(report: &PlaneReport) -> [String; 2] {
    let [a, b, c] = report.points.map(name);
    [format!("from {a} to {b}: distance of weights"), format!("across, towards {c}")]
}

/// The map for files.
pub(super) fn figure(report: &PlaneReport, shown: &Shown<'_>, paths: bool) -> Figure {
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

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

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
    }
}
