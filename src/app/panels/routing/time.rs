//! Time: the draws of all steps, as finely as there is room for, below the loss and the disagreement of the passes.

use super::map::{Map, Rows, grey};
use super::tiles::{COLUMNS, Detail, Envelope, Look, OUTSIDE, Tiles};
use crate::app::actions::Action;
use crate::app::run_view;
use crate::app::widgets::dot_plot::ticks;
use crate::format;
use egui::{Align2, Color32, FontId, Mesh, Rangef, Rect, Sense, Shape, Stroke, Ui, pos2, vec2};

/// Height of the strip of a curve.
pub const CURVE: f32 = 36.0;
/// Height of the axis below the rows.
pub const AXIS: f32 = 30.0;
/// From this width on a step has a cell; from 1 on it has a column.
const CELL: f32 = 4.0;
/// Widest step.
const WIDEST: f32 = 24.0;
/// Fewest steps in the window.
const FEWEST: f64 = 12.0;

/// The part of the time that is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    /// Steps before it.
    from: f64,
    /// Steps in it.
    width: f64,
}

/// What the zone remembers.
#[derive(Default)]
pub struct TimeZone {
    /// Absent: everything.
    window: Option<Window>,
    tiles: Tiles,
    /// The playhead at the last frame.
    seen: Option<u64>,
}

/// Steps on the screen.
#[derive(Clone, Copy)]
struct Scale {
    left: f32,
    from: f64,
    /// Points of a step.
    step: f64,
}

impl Scale {
    /// The left edge of a step's column.
    fn x(&self, step: f64) -> f32 {
        self.left + ((step - 1.0 - self.from) * self.step) as f32
    }

    fn middle(&self, step: u64) -> f32 {
        self.x(step as f64 + 0.5)
    }

    fn step_at(&self, x: f32) -> u64 {
        (self.from + f64::from(x - self.left) / self.step).floor().max(0.0) as u64 + 1
    }
}

impl TimeZone {
    /// How many curves stand above the rows.
    pub fn curves(map: &Map<'_>) -> usize {
        if map.layout().passes == 2 { 3 } else { 1 }
    }

    /// Shows everything, or a part `factor` times as wide around the playhead.
    pub fn zoom(&mut self, map: &Map<'_>, factor: Option<f64>) {
        let Some(factor) = factor else { return self.window = None };
        let all = everything(map);
        let window = self.window.unwrap_or(all);
        let width = (window.width * factor).max(FEWEST);
        let centre = map.step as f64;
        self.window = (width < all.width).then_some(Window { from: centre - 0.5 * width, width });
    }

    /// The first and last recorded step on screen.
    pub fn shown(&self, map: &Map<'_>) -> [u64; 2] {
        let all = everything(map);
        let window = self.window.unwrap_or(all);
        let first = (window.from.max(all.from) as u64 + 1).max(map.timeline.first().max(1));
        [first, ((window.from + window.width) as u64).clamp(first, map.timeline.last().max(first))]
    }

    /// Whether a part is shown.
    pub fn is_zoomed(&self) -> bool {
        self.window.is_some()
    }

    /// The window, moved so that the playhead is in it where that has moved.
    fn follow(&mut self, map: &Map<'_>) -> Window {
        let all = everything(map);
        let Some(window) = &mut self.window else { return all };
        window.width = window.width.clamp(FEWEST.min(all.width), all.width);
        let step = map.step as f64;
        if self.seen != Some(map.step) && !(window.from..window.from + window.width).contains(&(step - 0.5)) {
            window.from = step - if map.ctx.session.playhead.is_none() { window.width } else { 0.5 * window.width };
        }
        self.seen = Some(map.step);
        window.from = window.from.clamp(all.from, (all.from + all.width - window.width).max(all.from));
        *window
    }

    /// Draws the zone: the curves into `head`, the rows, the axis below them.
    pub fn ui(&mut self, map: &Map<'_>, head: Rect, rows: &Rows, sentence: &str, ui: &Ui) {
        let window = self.follow(map);
        let width = f64::from(rows.rect.width());
        let step = (width / window.width).min(f64::from(WIDEST));
        let scale = Scale { left: rows.rect.left(), from: window.from, step };
        let level = if step >= 1.0 { 0 } else { (1.0 / step).log2().ceil() as u32 };
        let detail = detail(map, step as f32, rows.pitch());
        let last_shown = (window.from + width / step).min(map.timeline.last() as f64).max(1.0);
        let tile = |step: f64| (step.max(1.0) as u64 - 1) >> level >> COLUMNS.trailing_zeros();
        let range = [tile(window.from + 1.0), tile(last_shown)];
        let look = Look {
            run: map.run.dir.clone(),
            dark: map.theme().dark,
            detail,
            level,
            module: map.module.map(str::to_owned),
            fitted: map.fit.map_or(0, |fit| fit.until),
        };
        let compares = map.layout().compares() || matches!(detail, Detail::Cells { .. });
        self.tiles.update(map, &look, range, ui);
        let ground = ui.visuals().faint_bg_color;
        let painter = ui.painter().with_clip_rect(rows.rect.intersect(ui.clip_rect()));
        painter.rect_filled(rows.rect, 2.0, ground);
        for index in range[0]..=range[1] {
            let first = ((index * COLUMNS) << level) as f64 + 1.0;
            let left = scale.x(first);
            let right = scale.x(first + (COLUMNS << level) as f64);
            let place = Rect::from_min_max(pos2(left, rows.rect.top()), pos2(right, rows.rect.bottom()));
            self.tiles.draw(index, place, rows.layers, &painter);
        }
        separators(map, rows, &painter);
        if !compares {
            let words = "A step has several draws in each pass: no two of them can be compared";
            painter.text(
                rows.rect.center(),
                Align2::CENTER_CENTER,
                words,
                FontId::proportional(11.0),
                map.theme().muted,
            );
        }
        self.curves_ui(map, head, scale, (level, range), ui);
        self.axis_ui(map, rows, scale, window, ui);
        self.legend(map, head, detail, range, ui);
        self.pointer_ui(map, head.union(rows.rect), rows, scale, sentence, ui);
    }

    /// Loss, disagreement, and the disagreement beyond what is expected of a step whose passes differ in as many layers.
    fn curves_ui(&self, map: &Map<'_>, head: Rect, scale: Scale, (level, range): (u32, [u64; 2]), ui: &Ui) {
        let painter = ui.painter().with_clip_rect(head.intersect(ui.clip_rect()));
        let names = ["loss", "KL: how far the passes' answers differ", "KL less what h differing layers explain"];
        let small = FontId::proportional(10.5);
        let first = head.bottom() - Self::curves(map) as f32 * CURVE;
        for (curve, name) in names.iter().enumerate().take(Self::curves(map)) {
            let top = first + curve as f32 * CURVE;
            let strip = Rect::from_min_size(pos2(head.left(), top + 2.0), vec2(head.width(), CURVE - 4.0));
            painter.rect_filled(strip, 2.0, ui.visuals().faint_bg_color);
            let mut values: Vec<(f32, f32, Envelope)> = Vec::new();
            for index in range[0]..=range[1] {
                for (column, own) in self.tiles.curves(index).iter().enumerate() {
                    let step = ((index * COLUMNS + column as u64) << level) as f64 + 1.0;
                    let x = [scale.x(step), scale.x(step + (1u64 << level) as f64)];
                    if x[1] >= strip.left() && x[0] <= strip.right() && own[curve].low.is_finite() {
                        values.push((x[0], x[1], own[curve]));
                    }
                }
            }
            let [low, high] = ends(&values, curve == 2);
            let y = |value: f32| strip.bottom() - 2.0 - (value - low) / (high - low) * (strip.height() - 4.0);
            let mut mesh = Mesh::default();
            if curve == 2 {
                let zero = Rect::from_min_max(pos2(strip.left(), y(0.0)), pos2(strip.right(), y(0.0) + 1.0));
                mesh.add_colored_rect(zero, grey(map.theme(), 0.35));
            }
            let ink = grey(map.theme(), 0.72);
            for (left, right, own) in &values {
                let (top, bottom) = (y(own.high), y(own.low).max(y(own.high) + 1.2));
                mesh.add_colored_rect(Rect::from_min_max(pos2(*left, top), pos2(right.max(left + 1.0), bottom)), ink);
            }
            painter.add(Shape::mesh(mesh));
            let range = if values.is_empty() {
                if curve == 2 { ", once there are enough steps".to_owned() } else { String::new() }
            } else {
                format!(", {} to {}", format::significant(low.into(), 2), format::significant(high.into(), 2))
            };
            let text = format!("{name}{range}");
            let galley = painter.layout_no_wrap(text, small.clone(), map.theme().muted);
            let at = pos2(strip.left() + 4.0, strip.top() + 1.0);
            let behind = Rect::from_min_size(at, galley.size()).expand(1.0);
            painter.rect_filled(behind, 2.0, map.theme().card.gamma_multiply(0.75));
            painter.galley(at, galley, map.theme().muted);
        }
    }

    /// Step numbers, marks of events, the place of the window in the whole.
    fn axis_ui(&self, map: &Map<'_>, rows: &Rows, scale: Scale, window: Window, ui: &Ui) {
        let theme = map.theme();
        let (left, right, top) = (rows.rect.left(), rows.rect.right(), rows.rect.bottom());
        let painter = ui
            .painter()
            .with_clip_rect(Rect::from_min_max(pos2(left, 0.0), pos2(right, top + AXIS)).intersect(ui.clip_rect()));
        let small = FontId::proportional(10.0);
        let until = window.from + f64::from(rows.rect.width()) / scale.step;
        let wanted = ((rows.rect.width() / 72.0) as usize).clamp(2, 14);
        for tick in ticks(window.from, until, wanted).into_iter().filter(|tick| *tick >= 1.0 && tick.fract() < 1e-9) {
            let x = scale.middle(tick as u64);
            painter.line_segment([pos2(x, top), pos2(x, top + 4.0)], Stroke::new(1.0, theme.muted));
            let anchor = if x < left + 14.0 { Align2::LEFT_TOP } else { Align2::CENTER_TOP };
            painter.text(pos2(x, top + 4.0), anchor, format::tick(tick), small.clone(), theme.muted);
        }
        let mut marks: Vec<(String, u64)> =
            run_view::marks(map.run).into_iter().map(|(name, step)| (name.into_owned(), step)).collect();
        marks.extend(map.timeline.gaps().into_iter().take(20).map(|gap| ("gap".to_owned(), *gap.start())));
        for (name, step) in marks {
            let x = scale.middle(step);
            if (left..=right).contains(&x) {
                let ink = grey(theme, 0.6);
                painter.extend(Shape::dotted_line(&[pos2(x, rows.rect.top()), pos2(x, top + 14.0)], ink, 3.0, 0.7));
                let anchor = if x > right - 90.0 { Align2::RIGHT_TOP } else { Align2::LEFT_TOP };
                painter.text(pos2(x, top + 15.0), anchor, name, small.clone(), ink);
            }
        }
        if self.window.is_some() {
            let all = everything(map);
            let bar = Rect::from_min_max(pos2(left, top + AXIS - 4.0), pos2(right, top + AXIS));
            painter.rect_filled(bar, 2.0, ui.visuals().faint_bg_color);
            let at = |step: f64| left + ((step - all.from) / all.width) as f32 * bar.width();
            let seen = Rangef::new(at(window.from), at(window.from + window.width).max(at(window.from) + 3.0));
            painter.rect_filled(Rect::from_x_y_ranges(seen, bar.y_range()), 2.0, grey(theme, 0.45));
        }
    }

    /// What a column shows, in the first line of the head.
    fn legend(&self, map: &Map<'_>, head: Rect, detail: Detail, range: [u64; 2], ui: &Ui) {
        let two = map.layout().passes == 2;
        let who = if two { "pass A and pass B" } else { "a step and the one before" };
        let words = match detail {
            Detail::Cells { height: 1 } => "A cell a step, pass A above pass B; colour: the expert.".to_owned(),
            Detail::Cells { .. } if two => {
                "A cell a step, pass A above pass B; height and colour: the expert.".to_owned()
            }
            Detail::Cells { .. } => "A cell a step; height and colour: the expert.".to_owned(),
            Detail::Agree => format!("Dark: {who} differ in a layer; light: they agree."),
            Detail::Share => {
                let [all, outside] = self.tiles.judged(range);
                let mean = format::percent(1.0 - 1.0 / map.layout().most_experts().max(1) as f64);
                let grey = format!("Grey: share of steps in which {who} differ (uniform: {mean})");
                match all {
                    0 => format!("{grey}."),
                    _ => format!(
                        "{grey}; coloured outside of the band of 999 in 1,000 uniform cells: {} of {}, by chance about {}.",
                        format::count(outside),
                        format::count(all),
                        format::significant(f64::from(all) * OUTSIDE, 2)
                    ),
                }
            }
        };
        let room = head.width() - 4.0;
        let galley = ui.painter().layout(words, FontId::proportional(10.5), map.theme().muted, room);
        ui.painter().with_clip_rect(head.intersect(ui.clip_rect())).galley(
            head.min + vec2(2.0, 0.0),
            galley,
            map.theme().muted,
        );
    }

    /// The playhead; dragging scrubs, Ctrl and the wheel zoom, a horizontal wheel moves.
    fn pointer_ui(&mut self, map: &Map<'_>, place: Rect, rows: &Rows, scale: Scale, sentence: &str, ui: &Ui) {
        let x = scale.middle(map.step);
        if place.x_range().contains(x) {
            let top = rows.rect.top() - Self::curves(map) as f32 * CURVE;
            let half = (0.5 * scale.step as f32).clamp(0.6, 12.0);
            let bar = Rect::from_x_y_ranges(Rangef::new(x - half, x + half), Rangef::new(top, rows.rect.bottom()));
            ui.painter().rect_filled(bar, 0.0, map.theme().accent.gamma_multiply(0.22));
            let line = [pos2(x, top), pos2(x, rows.rect.bottom() + 3.0)];
            ui.painter().line_segment(line, Stroke::new(1.0, map.theme().accent));
        }
        let response = ui.interact(place, egui::Id::unique("route map time"), Sense::click_and_drag());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Slider, true, sentence));
        if response.is_pointer_button_down_on() || response.clicked() {
            response.request_focus();
            if let Some(at) = response.interact_pointer_pos() {
                let step = map.timeline.nearest(scale.step_at(at.x));
                if step.is_some() && step != map.ctx.session.playhead {
                    map.ctx.push(Action::SetPlayhead(step));
                }
            }
        }
        let Some(pointer) = response.hover_pos() else { return };
        let (zoom, moved) = ui.input(|input| (input.zoom_delta(), input.smooth_scroll_delta().x));
        if (zoom - 1.0).abs() > 1e-3 || moved != 0.0 {
            let all = everything(map);
            let window = self.window.unwrap_or(all);
            let width = (window.width / f64::from(zoom)).clamp(FEWEST.min(all.width), all.width);
            let share = f64::from((pointer.x - rows.rect.left()) / rows.rect.width());
            let from = window.from + share * (window.width - width) - f64::from(moved) / scale.step;
            self.window = (width < all.width).then_some(Window { from, width });
        }
        let step = scale.step_at(pointer.x);
        let words = match (map.timeline.row(step), rows.layer_at(pointer.y)) {
            (Some(row), Some(layer)) => {
                let sides = map.layout().drawn().rev().map(|side| map.words(layer, side, &row));
                format!("step {}\n{}", format::count(step), sides.collect::<Vec<_>>().join("\n"))
            }
            (Some(row), None) => super::words::step_numbers(step, &row, map.fit),
            (None, _) => format!("step {}: nothing is recorded", format::count(step)),
        };
        response.on_hover_text_at_pointer(words);
    }
}

/// All recorded steps.
fn everything(map: &Map<'_>) -> Window {
    let (first, last) = (map.timeline.first().max(1), map.timeline.last());
    Window { from: first as f64 - 1.0, width: (last.saturating_sub(first) + 1) as f64 }
}

/// What there is room for.
fn detail(map: &Map<'_>, step: f32, pitch: f32) -> Detail {
    if step < 1.0 {
        return Detail::Share;
    }
    if step < CELL || !map.reads_single() {
        return Detail::Agree;
    }
    let most = map.layout().most_experts();
    let rows = (map.layout().drawn().count() * map.layout().passes).max(1);
    // Half a point for each expert is seen; less is not.
    let height = if pitch / rows as f32 >= 0.9 * most as f32 { most } else { 1 };
    Detail::Cells { height }
}

/// Lines between the layers.
fn separators(map: &Map<'_>, rows: &Rows, painter: &egui::Painter) {
    let mut mesh = Mesh::default();
    let color: Color32 = map.theme().card;
    let thick = if rows.pitch() > 24.0 { 2.0 } else { 1.0 };
    for layer in 1..rows.layers {
        let y = rows.band(layer).max;
        let line =
            Rect::from_min_max(pos2(rows.rect.left(), y - 0.5 * thick), pos2(rows.rect.right(), y + 0.5 * thick));
        mesh.add_colored_rect(line, color);
    }
    painter.add(Shape::mesh(mesh));
}

/// Lowest and highest value of a strip; `around`: zero is in the middle.
fn ends(values: &[(f32, f32, Envelope)], around: bool) -> [f32; 2] {
    let low = values.iter().map(|(.., own)| own.low).fold(f32::INFINITY, f32::min);
    let high = values.iter().map(|(.., own)| own.high).fold(f32::NEG_INFINITY, f32::max);
    if low > high {
        return [0.0, 1.0];
    }
    if around {
        let far = low.abs().max(high.abs()).max(1e-9);
        return [-far, far];
    }
    if high > low { [low, high] } else { [low - 1e-6, high + 1e-6] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_place_and_a_place_its_step() {
        let scale = Scale { left: 100.0, from: 10.0, step: 4.0 };
        assert_eq!((scale.x(11.0), scale.middle(11)), (100.0, 102.0));
        assert_eq!([scale.step_at(100.0), scale.step_at(103.9), scale.step_at(104.0)], [11, 11, 12]);
        let tiny = Scale { left: 0.0, from: 0.0, step: 0.01 };
        assert_eq!(tiny.step_at(10.0), 1001);
        assert_eq!(tiny.step_at(-5.0), 1);
    }

    #[test]
    fn a_strip_ends_at_its_values_or_lies_around_zero() {
        let value = |low, high| (0.0, 1.0, Envelope { low, high });
        assert_eq!(ends(&[value(0.2, 0.5), value(0.1, 0.3)], false), [0.1, 0.5]);
        assert_eq!(ends(&[value(-0.1, 0.5)], true), [-0.5, 0.5]);
        assert_eq!(ends(&[], false), [0.0, 1.0]);
    }
}
