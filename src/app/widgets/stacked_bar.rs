//! Parts of a whole as one horizontal bar, with a legend that gives every part's name and number.

use super::{canvas, legend};
use crate::app::theme::Theme;
use egui::{Align2, Color32, FontId, Rect, Stroke, StrokeKind, Ui, pos2, vec2};

#[derive(Clone, Debug, PartialEq)]
pub struct BarPart {
    pub name: String,
    /// In any unit.
    pub value: f32,
    /// `value` as text, such as `12.3 ms`.
    pub text: String,
    /// Description: tooltip and text for screen readers.
    pub about: String,
    pub color: Color32,
}

const HEIGHT: f32 = 26.0;

/// Draws the bar over the whole width and the legend below it. `name` is read by screen readers.
pub fn ui(ui: &mut Ui, theme: &Theme, name: &str, parts: &[BarPart]) {
    let total: f32 = parts.iter().map(|part| part.value.max(0.0)).sum();
    let (rect, bar) = canvas(ui, vec2(ui.available_width(), HEIGHT), egui::Role::Image, name);
    if !(total > 0.0 && total.is_finite()) {
        ui.painter().rect_stroke(rect, 3.0, Stroke::new(1.0, theme.card_border), StrokeKind::Inside);
        return;
    }
    let mut left = rect.left();
    for (i, part) in parts.iter().enumerate() {
        let share = part.value.max(0.0) / total;
        let right = left + rect.width() * share;
        let place = Rect::from_min_max(pos2(left, rect.top()), pos2(right, rect.bottom()));
        left = right;
        // A gap between two parts, so that they are not told apart by colour alone.
        let seen = place.shrink2(vec2(f32::min(0.5, place.width() / 4.0), 0.0));
        ui.painter().rect_filled(seen, 2.0, part.color);
        let words = format!("{:.0} %", 100.0 * share);
        let galley = ui.painter().layout_no_wrap(words, FontId::proportional(11.5), Theme::text_on(part.color));
        if galley.size().x + 6.0 <= place.width() {
            let at = Align2::CENTER_CENTER.anchor_size(place.center(), galley.size()).min;
            ui.painter().galley(at, galley, Theme::text_on(part.color));
        }
        if super::part(ui, place, bar.id.with(("part", i)), || &part.about).hovered() {
            ui.painter().rect_stroke(seen, 2.0, Stroke::new(1.5, ui.visuals().text_color()), StrokeKind::Inside);
        }
    }
    ui.add_space(2.0);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for part in parts {
            let note = format!("  {} ({:.1} %)", part.text, 100.0 * part.value.max(0.0) / total);
            legend::key(ui, theme, part.color, &part.name, &note).on_hover_text(&part.about);
        }
    });
}
