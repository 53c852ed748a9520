//! Every way of running a classifier on one axis for each class: merged as a bar, the others as marks under it.

use crate::app::theme::Theme;
use crate::app::widgets::dot_plot::ticks;
use crate::app::widgets::{canvas, cards, legend};
use crate::format;
use crate::protocol::{KnownAnswer, TryReport};
use egui::{
    Align2, Color32, FontId, Painter, Pos2, Rect, Response, RichText, Shape, Stroke, StrokeKind, Ui, pos2, vec2,
};

/// Classes shown unless all are wanted.
const SHOWN: usize = 6;
/// Height of a class, of its bar, and of the lane under it.
const ROW: f32 = 46.0;
const BAR: f32 = 14.0;
const VALUES: f32 = 58.0;
const AXIS: f32 = 18.0;
/// Seconds between two falling dots, and that one falls.
const BETWEEN: f64 = 0.09;
const FALL: f64 = 0.25;
/// A mark this near to the pointer is named first.
const NEAR: f32 = 7.0;

/// What a mark stands for.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Merged,
    Expert(usize),
    Route(usize),
    Ensemble,
    Base,
}

struct Mark {
    way: Way,
    value: f64,
}

/// One line of the drawing.
struct Line {
    name: String,
    known: bool,
    marks: Vec<Mark>,
}

impl Line {
    /// Number `at` of every list of the report.
    fn new(report: &TryReport, at: usize, name: String, known: bool) -> Self {
        let mut marks = Vec::new();
        let mut add = |way, values: &[f64]| marks.extend(values.get(at).map(|&value| Mark { way, value }));
        add(Way::Merged, &report.merged);
        report.experts.iter().enumerate().for_each(|(expert, values)| add(Way::Expert(expert), values));
        report.routes.iter().enumerate().for_each(|(route, values)| add(Way::Route(route), values));
        report.ensemble.iter().for_each(|values| add(Way::Ensemble, values));
        report.base.iter().for_each(|values| add(Way::Base, values));
        Self { name, known, marks }
    }
}

/// Draws the axis of each class, or that of the value. `since`: seconds since the random routes began to fall.
pub fn ui(ui: &mut Ui, theme: &Theme, report: &TryReport, since: f64, all: &mut bool) {
    let (lines, range, left) = lines(report, *all);
    if report.merged_with.is_some() {
        legend_ui(ui, theme, report);
    }
    let names = (0.28 * ui.available_width()).clamp(60.0, 170.0);
    let size = vec2(ui.available_width().max(names + VALUES + 60.0), lines.len() as f32 * ROW + AXIS);
    let (rect, response) = canvas(ui, size, egui::Role::Figure, "Every way of running the model");
    let field = Rect::from_min_max(rect.min + vec2(names, 0.0), rect.max - vec2(VALUES, AXIS));
    let frame = Frame { theme, field, range, percent: !report.labels.is_empty() };
    frame.axis(ui, report);
    for (number, line) in lines.iter().enumerate() {
        let top = rect.top() + number as f32 * ROW;
        let row = Rect::from_min_max(pos2(rect.left(), top), pos2(rect.right(), top + ROW));
        frame.line(ui, row, line, since);
        let part = ui.interact(row, response.id.with(("way", number)), egui::Sense::hover());
        part.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, frame.describe(line, report)));
        frame.tip(part, line, report);
    }
    if since < report.routes.len() as f64 * BETWEEN + FALL {
        ui.ctx().request_repaint();
    }
    if left > 0 || *all && report.labels.len() > SHOWN {
        let words = if *all { "The likeliest classes only".to_owned() } else { format!("{left} more classes") };
        if ui.button(words).on_hover_text("Classes in order of the merged probability").clicked() {
            *all = !*all;
        }
    }
}

/// The lines, the ends of the axis, and the number of classes that are left out.
fn lines(report: &TryReport, all: bool) -> (Vec<Line>, [f64; 2], usize) {
    if report.labels.is_empty() {
        let line = Line::new(report, 0, "value".to_owned(), false);
        let values = line.marks.iter().map(|mark| mark.value).filter(|value| value.is_finite());
        let start = report.range.unwrap_or([f64::INFINITY, f64::NEG_INFINITY]);
        let [low, high] = values.fold(start, |[low, high], value| [low.min(value), high.max(value)]);
        let [low, high] = if low < high { [low, high] } else { [low - 0.5, low + 0.5] };
        return (vec![line], [low, high], 0);
    }
    let known = match report.known {
        Some(KnownAnswer::Class(class)) => Some(class),
        _ => None,
    };
    let mut order: Vec<usize> = (0..report.labels.len().min(report.merged.len())).collect();
    if order.len() > SHOWN {
        order.sort_by(|&a, &b| report.merged[b].total_cmp(&report.merged[a]));
    }
    let most = if all { order.len() } else { SHOWN };
    let shown: Vec<usize> = order
        .iter()
        .enumerate()
        .filter(|(rank, class)| *rank < most || Some(**class) == known)
        .map(|(_, c)| *c)
        .collect();
    let left = order.len() - shown.len();
    let line = |class: usize| Line::new(report, class, report.label(class), Some(class) == known);
    (shown.into_iter().map(line).collect(), [0.0, 1.0], left)
}

fn way_name(way: Way, report: &TryReport) -> String {
    match way {
        Way::Merged if report.merged_with.is_none() => "Model".to_owned(),
        Way::Merged => "Merged".to_owned(),
        Way::Expert(expert) => format!("Expert {expert}"),
        Way::Route(route) => format!("Random route {route}"),
        Way::Ensemble => format!("Ensemble of {} routes", report.routes.len()),
        Way::Base => "Base model under the trained head".to_owned(),
    }
}

/// The bar has no colour of its own: those are the experts'.
fn merged_color(ui: &Ui) -> Color32 {
    ui.visuals().text_color().gamma_multiply(0.65)
}

/// What the marks are.
fn legend_ui(ui: &mut Ui, theme: &Theme, report: &TryReport) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        let color = merged_color(ui);
        legend::key(ui, theme, color, "merged", "");
        for expert in 0..report.experts.len() {
            let tip = format!("Expert {expert} in every layer");
            legend::key(ui, theme, theme.series(expert), &format!("expert {expert}"), "").on_hover_text(tip);
        }
        let small = |ui: &mut Ui, words: &str, tip: &str| {
            ui.label(RichText::new(words).small()).on_hover_text(tip);
        };
        if !report.routes.is_empty() {
            small(ui, "● random route", "One expert drawn for each layer and side");
            small(ui, "◆ ensemble", "The mean of the probabilities of these random routes");
        }
        small(
            ui,
            "□ base model, trained head",
            "The base model without adapters under the trained head. The head has learned to read \
                                   the adapted model, so this is no measure of the base model itself",
        );
    });
}

struct Frame<'a> {
    theme: &'a Theme,
    field: Rect,
    range: [f64; 2],
    percent: bool,
}

impl Frame<'_> {
    fn x(&self, value: f64) -> f32 {
        let [low, high] = self.range;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        self.field.left() + self.field.width() * share as f32
    }

    fn number(&self, value: f64) -> String {
        if self.percent { format::percent(value) } else { format::significant(value, 4) }
    }

    fn axis(&self, ui: &Ui, report: &TryReport) {
        let (field, theme, painter) = (self.field, self.theme, ui.painter());
        let font = FontId::proportional(10.5);
        let [low, high] = self.range;
        for tick in ticks(low, high, if field.width() < 220.0 { 2 } else { 4 }) {
            painter.vline(self.x(tick), field.y_range(), Stroke::new(1.0, theme.card_border));
            let words = if self.percent { format!("{:.0} %", 100.0 * tick) } else { format::tick(tick) };
            let at = pos2(self.x(tick), field.bottom() + 2.0);
            painter.text(at, Align2::CENTER_TOP, words, font.clone(), theme.muted);
        }
        if let Some(KnownAnswer::Value(known)) = report.known {
            let points = [pos2(self.x(known), field.top()), pos2(self.x(known), field.bottom())];
            painter.extend(Shape::dashed_line(&points, Stroke::new(1.5, ui.visuals().text_color()), 4.0, 3.0));
        }
    }

    fn line(&self, ui: &Ui, row: Rect, line: &Line, since: f64) {
        let (painter, theme) = (ui.painter(), self.theme);
        let text = ui.visuals().text_color();
        let width = self.field.left() - row.left() - 8.0;
        let middle = row.top() + 2.0 + 0.5 * BAR;
        let name = elided(ui, &line.name, width, text);
        painter.galley(pos2(row.left(), middle - 0.5 * name.size().y), name, text);
        if line.known {
            let at = pos2(row.left(), row.top() + BAR + 6.0);
            painter.text(at, Align2::LEFT_TOP, "the row's label", FontId::proportional(10.5), theme.muted);
        }
        let track = Rect::from_min_size(pos2(self.field.left(), row.top() + 2.0), vec2(self.field.width(), BAR));
        painter.rect_filled(track, 2.0, theme.card_border.gamma_multiply(0.5));
        for mark in &line.marks {
            if mark.way == Way::Merged {
                let bar = Rect::from_min_max(track.min, pos2(self.x(mark.value), track.bottom()));
                painter.rect_filled(bar, 2.0, merged_color(ui));
                let at = pos2(row.right(), middle);
                painter.text(at, Align2::RIGHT_CENTER, self.number(mark.value), FontId::monospace(12.0), text);
            }
        }
        // Random routes below, so that they do not hide the others.
        let lane = track.bottom() + 3.0;
        line.marks.iter().for_each(|mark| self.mark(painter, mark, lane, since, text));
    }

    fn mark(&self, painter: &Painter, mark: &Mark, lane: f32, since: f64, text: Color32) {
        let x = self.x(mark.value);
        match mark.way {
            Way::Merged => {}
            Way::Expert(expert) => {
                let color = self.theme.series(expert);
                painter.vline(x, lane..=lane + 10.0, Stroke::new(3.0, color));
            }
            Way::Ensemble => diamond(painter, pos2(x, lane + 5.0), text),
            Way::Base => {
                let square = Rect::from_center_size(pos2(x, lane + 5.0), vec2(8.0, 8.0));
                painter.rect_stroke(square, 0.0, Stroke::new(1.5, text), StrokeKind::Inside);
            }
            Way::Route(route) => {
                let share = (since - route as f64 * BETWEEN) / FALL;
                if share <= 0.0 {
                    return;
                }
                let share = share.min(1.0) as f32;
                // Three lines of dots: neighbours do not cover each other.
                let rest = lane + 13.5 + 3.5 * (route % 3) as f32;
                let y = rest - 18.0 * (1.0 - share * share);
                painter.circle(pos2(x, y), 2.8, self.theme.muted.gamma_multiply(0.75), Stroke::new(0.5, text));
            }
        }
    }

    /// All values in words.
    fn describe(&self, line: &Line, report: &TryReport) -> String {
        let values: Vec<String> = line
            .marks
            .iter()
            .map(|mark| format!("{} {}", way_name(mark.way, report), self.number(mark.value)))
            .collect();
        format!("{}: {}", line.name, values.join(", "))
    }

    /// The marks at the pointer with their values; away from all of them, every one.
    fn tip(&self, part: Response, line: &Line, report: &TryReport) {
        let pointer = part.hover_pos();
        part.on_hover_ui_at_pointer(|ui| {
            ui.label(RichText::new(&line.name).strong());
            let near = |mark: &&Mark| pointer.is_some_and(|at| (self.x(mark.value) - at.x).abs() <= NEAR);
            let mut shown: Vec<&Mark> = line.marks.iter().filter(near).collect();
            if shown.is_empty() {
                shown = line.marks.iter().filter(|mark| !matches!(mark.way, Way::Route(_))).collect();
            }
            for mark in shown {
                let color = match mark.way {
                    Way::Expert(expert) => self.theme.series(expert),
                    _ => ui.visuals().text_color(),
                };
                let words = format!("{:>8}  {}", self.number(mark.value), way_name(mark.way, report));
                ui.label(RichText::new(words).monospace().small().color(color));
            }
            let routes = line.marks.iter().filter(|mark| matches!(mark.way, Way::Route(_))).map(|mark| mark.value);
            let [low, high] =
                routes.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)]);
            if low <= high {
                let words = format!("random routes from {} to {}", self.number(low), self.number(high));
                cards::caption(ui, self.theme, words);
            }
        });
    }
}

fn diamond(painter: &Painter, at: Pos2, color: Color32) {
    let r = 5.5;
    let corners = vec![at + vec2(0.0, -r), at + vec2(r, 0.0), at + vec2(0.0, r), at + vec2(-r, 0.0)];
    painter.add(Shape::convex_polygon(corners, color, Stroke::NONE));
}

/// A line of text that ends with … where it is wider.
fn elided(ui: &Ui, text: &str, width: f32, color: Color32) -> std::sync::Arc<egui::Galley> {
    let mut job = egui::text::LayoutJob::simple_singleline(text.to_owned(), FontId::proportional(12.5), color);
    job.wrap = egui::text::TextWrapping::truncate_at_width(width);
    ui.fonts_mut(|fonts| fonts.layout_job(job))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(classes: usize) -> TryReport {
        TryReport {
            labels: (0..classes).map(|class| format!("c{class}")).collect(),
            merged: (0..classes).map(|class| class as f64 / 100.0).collect(),
            known: Some(KnownAnswer::Class(0)),
            ..TryReport::default()
        }
    }

    #[test]
    fn few_classes_keep_their_order_and_many_are_sorted_with_the_label() {
        let names = |classes, all| {
            let (lines, _, left) = lines(&report(classes), all);
            (lines.into_iter().map(|line| line.name).collect::<Vec<_>>().join(" "), left)
        };
        assert_eq!(names(3, false), ("c0 c1 c2".to_owned(), 0));
        assert_eq!(names(20, false), ("c19 c18 c17 c16 c15 c14 c0".to_owned(), 13));
        assert_eq!(names(20, true).1, 0);
    }

    #[test]
    fn the_axis_of_a_value_holds_every_mark() {
        let report =
            TryReport { merged: vec![7.0], base: Some(vec![-2.0]), range: Some([0.0, 5.0]), ..TryReport::default() };
        assert_eq!(lines(&report, false).1, [-2.0, 7.0]);
        let alone = TryReport { merged: vec![1.0], ..TryReport::default() };
        assert_eq!(lines(&alone, false).1, [0.5, 1.5]);
    }
}
