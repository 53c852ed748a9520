//! Scores on one axis: points of different shapes, ranges, standard errors.

use super::{canvas, export_menu, part};
use crate::app::theme::Theme;
pub use crate::figure::ticks::linear as ticks;
use crate::figure::{Axis, Content, Figure, Score, Scores};
use crate::format;
use egui::{Align2, Color32, FontId, Pos2, Rect, Shape, Stroke, StrokeKind, Ui, pos2, vec2};

/// Shape of a point, in addition to its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkShape {
    Disc,
    Square,
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A short upright line.
    Tick,
}

/// One line of the plot.
#[derive(Clone, Debug)]
pub struct ScoreEntry {
    /// Its name, left of the axis.
    pub name: String,
    /// Where the point stands.
    pub value: f64,
    /// A range drawn as a band.
    pub band: Option<[f64; 2]>,
    /// Single values drawn as small rings.
    pub singles: Vec<f64>,
    /// Half the length of the whisker: one standard error.
    pub error: Option<f64>,
    /// Ends of a whisker of its own: an interval.
    pub interval: Option<[f64; 2]>,
    pub mark: MarkShape,
    pub color: Color32,
}

#[derive(Clone, Debug)]
pub struct ScoreAxis {
    pub name: String,
    pub range: [f64; 2],
    /// An upright line across all entries, with its name.
    pub reference: Option<(f64, String)>,
    /// The score that intervals are looked at against: a thin upright line.
    pub line: Option<f64>,
}

const ROW: f32 = 22.0;
const NAMES: f32 = 150.0;
const VALUES: f32 = 64.0;

pub fn ui(ui: &mut Ui, theme: &Theme, name: &str, entries: &[ScoreEntry], axis: &ScoreAxis) {
    let width = ui.available_width().max(NAMES + VALUES + 120.0);
    let height = 20.0 + entries.len() as f32 * ROW + 34.0;
    let (rect, response) = canvas(ui, vec2(width, height), egui::Role::Figure, name);
    let field = Rect::from_min_max(rect.min + vec2(NAMES, 20.0), rect.max - vec2(VALUES, 34.0));
    let [low, high] = axis.range;
    let x_of = |value: f64| field.left() + field.width() * ((value - low) / (high - low)) as f32;
    axis_ui(ui, theme, field, axis, x_of);
    let painter = ui.painter();
    let text = ui.visuals().text_color();
    for (i, entry) in entries.iter().enumerate() {
        let y = field.top() + (i as f32 + 0.5) * ROW;
        let inside = painter.with_clip_rect(field.expand2(vec2(7.0, 0.0)).intersect(painter.clip_rect()));
        if let Some([from, to]) = entry.band {
            let band = Rect::from_min_max(pos2(x_of(from), y - 6.0), pos2(x_of(to).max(x_of(from) + 1.0), y + 6.0));
            inside.rect(band, 2.0, entry.color.gamma_multiply(0.25), Stroke::new(1.0, entry.color), StrokeKind::Inside);
        }
        for &single in &entry.singles {
            inside.circle_stroke(pos2(x_of(single), y), 2.5, Stroke::new(1.0, entry.color));
        }
        let error = entry.error.map(|error| [entry.value - error, entry.value + error]);
        for [from, to] in [error, entry.interval].into_iter().flatten() {
            let (a, b) = (x_of(from), x_of(to));
            inside.hline(a..=b, y, Stroke::new(1.5, text));
            for x in [a, b] {
                inside.vline(x, y - 4.0..=y + 4.0, Stroke::new(1.5, text));
            }
        }
        if entry.value.is_finite() {
            mark_at(&inside, pos2(x_of(entry.value), y), entry.mark, entry.color);
        }
        let font = FontId::proportional(12.5);
        painter.text(pos2(rect.left(), y), Align2::LEFT_CENTER, &entry.name, font, text);
        let value = format::metric(entry.value);
        painter.text(pos2(rect.right(), y), Align2::RIGHT_CENTER, value, FontId::monospace(12.0), text);
        let row = Rect::from_min_max(pos2(rect.left(), y - 0.5 * ROW), pos2(rect.right(), y + 0.5 * ROW));
        part(ui, row, response.id.with(("entry", i)), || describe(entry));
    }
    export_menu::corner(ui, rect, name, &[], || (figure(theme, name, entries, axis), None));
}

/// The same as a figure.
fn figure(theme: &Theme, name: &str, entries: &[ScoreEntry], axis: &ScoreAxis) -> Figure {
    let score = |entry: &ScoreEntry| Score {
        name: entry.name.clone(),
        value: entry.value,
        band: entry.band,
        singles: entry.singles.clone(),
        error: entry.error,
        interval: entry.interval,
        color: theme.on_paper(entry.color),
    };
    let content = Scores {
        axis: Axis { name: axis.name.clone(), log: false, range: Some(axis.range), limits: None },
        entries: entries.iter().map(score).collect(),
        reference: axis.reference.clone(),
    };
    Figure::new(name, Content::Scores(content))
}

fn describe(entry: &ScoreEntry) -> String {
    let mut words = format!("{}: {}", entry.name, format::metric(entry.value));
    if let Some([from, to]) = entry.band {
        words.push_str(&format!(", from {} to {}", format::metric(from), format::metric(to)));
    }
    if let Some(error) = entry.error {
        words.push_str(&format!(", standard error {}", format::metric(error)));
    }
    if let Some([from, to]) = entry.interval {
        words.push_str(&format!(", interval {} to {}", format::metric(from), format::metric(to)));
    }
    words
}

fn axis_ui(ui: &Ui, theme: &Theme, field: Rect, axis: &ScoreAxis, x_of: impl Fn(f64) -> f32) {
    let painter = ui.painter();
    let grid = Stroke::new(1.0, theme.card_border);
    let small = FontId::proportional(11.0);
    painter.hline(field.x_range(), field.bottom(), Stroke::new(1.0, theme.muted));
    let [low, high] = axis.range;
    for tick in ticks(low, high, 8) {
        painter.vline(x_of(tick), field.y_range(), grid);
        let (at, text) = (pos2(x_of(tick), field.bottom() + 3.0), format::tick(tick));
        painter.text(at, Align2::CENTER_TOP, text, small.clone(), theme.muted);
    }
    if let Some(line) = axis.line.filter(|line| (low..=high).contains(line)) {
        painter.vline(x_of(line), field.y_range(), Stroke::new(1.0, theme.muted));
    }
    let below = pos2(field.center().x, field.bottom() + 18.0);
    painter.text(below, Align2::CENTER_TOP, &axis.name, small.clone(), theme.muted);
    if let Some((value, name)) = &axis.reference
        && (low..=high).contains(value)
    {
        let x = x_of(*value);
        let points = [pos2(x, field.top() - 4.0), pos2(x, field.bottom())];
        painter.extend(Shape::dashed_line(&points, Stroke::new(1.5, theme.muted), 4.0, 3.0));
        let anchor = if x > field.center().x { Align2::RIGHT_BOTTOM } else { Align2::LEFT_BOTTOM };
        painter.text(pos2(x, field.top() - 5.0), anchor, name, small, theme.muted);
    }
}

fn mark_at(painter: &egui::Painter, at: Pos2, mark: MarkShape, color: Color32) {
    let r = 5.0;
    let shape = match mark {
        MarkShape::Disc => Shape::circle_filled(at, r, color),
        MarkShape::Square => Shape::rect_filled(Rect::from_center_size(at, vec2(9.0, 9.0)), 1.0, color),
        MarkShape::Triangle => {
            let corners = vec![at + vec2(0.0, -r), at + vec2(r, r * 0.8), at + vec2(-r, r * 0.8)];
            Shape::convex_polygon(corners, color, Stroke::NONE)
        }
        MarkShape::Diamond => {
            let r = r + 1.0;
            let corners = vec![at + vec2(0.0, -r), at + vec2(r, 0.0), at + vec2(0.0, r), at + vec2(-r, 0.0)];
            Shape::convex_polygon(corners, color, Stroke::NONE)
        }
        MarkShape::Tick => Shape::vline(at.x, at.y - 8.0..=at.y + 8.0, Stroke::new(3.0, color)),
    };
    painter.add(shape);
}
