//! Legends: of a colour scale, and of the colours of a drawing.

use super::heatmap::{Scale, color};
use super::{canvas, cards};
use crate::app::theme::Theme;
use crate::format;
use egui::text::{LayoutJob, TextFormat};
use egui::{Align2, Color32, FontId, Rect, Response, Stroke, StrokeKind, Ui, pos2, vec2};
use std::collections::BTreeSet;

/// Room for the menu of a plot.
const CORNER: f32 = 32.0;
/// Strips of a colour bar.
const STRIPS: usize = 48;

/// A colour bar with its ends, its middle and its unit.
pub fn bar(ui: &mut Ui, theme: &Theme, scale: Scale, unit: &str, width: f32) {
    let (low, high) = match scale {
        Scale::Diverging(limit) => (-limit, limit),
        Scale::Sequential(low, high) => (low, high),
    };
    let number = |value: f32| format::significant(f64::from(value), 3);
    let words = format!("Colours from {} to {}: {unit}", number(low), number(high));
    ui.horizontal(|ui| {
        let (rect, _) = canvas(ui, vec2(width, 26.0), egui::Role::Image, &words);
        let strip = Rect::from_min_size(rect.min, vec2(rect.width(), 10.0));
        let step = strip.width() / STRIPS as f32;
        for i in 0..STRIPS {
            let value = low + (high - low) * (i as f32 + 0.5) / STRIPS as f32;
            let min = pos2(strip.left() + i as f32 * step, strip.top());
            // A hair wider than the step, so that no gap shows between two strips.
            ui.painter().rect_filled(Rect::from_min_size(min, vec2(step + 0.5, 10.0)), 0.0, color(theme, scale, value));
        }
        ui.painter().rect_stroke(strip, 0.0, Stroke::new(1.0, theme.card_border), StrokeKind::Outside);
        let font = FontId::proportional(10.5);
        let ends = [
            (strip.left(), Align2::LEFT_TOP, low),
            (strip.center().x, Align2::CENTER_TOP, 0.5 * (low + high)),
            (strip.right(), Align2::RIGHT_TOP, high),
        ];
        for (x, anchor, value) in ends {
            ui.painter().text(pos2(x, strip.bottom() + 3.0), anchor, number(value), font.clone(), theme.muted);
        }
        cards::caption(ui, theme, unit);
    });
}

/// A curve in the legend of a plot.
#[derive(Clone, Debug)]
pub struct LegendEntry {
    /// Its name; curves of the same name are hidden together.
    pub name: String,
    pub color: Color32,
    /// Drawn in the legend as the curve is: a line, a dashed line.
    pub dashed: bool,
}

/// The legend of a plot, beside it and never on it: a click hides a curve or shows it again. Returns the hidden names.
pub fn toggles(ui: &mut Ui, theme: &Theme, plot: &str, entries: &[LegendEntry]) -> BTreeSet<String> {
    let id = egui::Id::unique(("hidden curves", plot));
    let mut hidden: BTreeSet<String> = ui.data(|data| data.get_temp(id)).unwrap_or_default();
    let small = egui::TextStyle::Small.resolve(ui.style());
    ui.horizontal_wrapped(|ui| {
        // The menu of the plot is in its corner, over the end of the last line.
        ui.set_max_width((ui.available_width() - CORNER).max(CORNER));
        ui.spacing_mut().item_spacing.x = 2.0;
        for entry in entries {
            let shown = !hidden.contains(&entry.name);
            let color = if shown { entry.color } else { theme.muted.gamma_multiply(0.6) };
            let text = if shown { ui.visuals().text_color() } else { theme.muted };
            let mut line = LayoutJob::default();
            line.append(if entry.dashed { "╌╌ " } else { "━━ " }, 0.0, TextFormat::simple(small.clone(), color));
            let strikethrough = if shown { Stroke::NONE } else { Stroke::new(1.0, theme.muted) };
            line.append(&entry.name, 0.0, TextFormat { strikethrough, ..TextFormat::simple(small.clone(), text) });
            let button = ui.add(egui::Button::new(line).frame_when_inactive(false));
            button.widget_info(|| {
                egui::WidgetInfo::selected(egui::Role::CheckBox, true, shown, format!("Curve {}", entry.name))
            });
            if button.on_hover_text("Hides or shows this curve").clicked() && !hidden.remove(&entry.name) {
                hidden.insert(entry.name.clone());
            }
        }
    });
    ui.data_mut(|data| data.insert_temp(id, hidden.clone()));
    hidden
}

/// One colour of a drawing with its name, and a muted note after it.
pub fn key(ui: &mut Ui, theme: &Theme, color: Color32, name: &str, note: &str) -> Response {
    let mut line = LayoutJob::default();
    let small = egui::TextStyle::Small.resolve(ui.style());
    for (text, color) in [("■ ", color), (name, ui.visuals().text_color()), (note, theme.muted)] {
        line.append(text, 0.0, TextFormat::simple(small.clone(), color));
    }
    ui.add(egui::Label::new(line).wrap_mode(egui::TextWrapMode::Extend))
}
