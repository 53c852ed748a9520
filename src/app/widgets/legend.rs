//! Legends: of a colour scale, and of the colours of a drawing.

use super::heatmap::{Scale, color};
use super::{canvas, cards};
use crate::app::theme::Theme;
use crate::format;
use egui::text::{LayoutJob, TextFormat};
use egui::{Align2, Color32, FontId, Rect, Response, Stroke, StrokeKind, Ui, pos2, vec2};

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

/// One colour of a drawing with its name, and a muted note after it.
pub fn key(ui: &mut Ui, theme: &Theme, color: Color32, name: &str, note: &str) -> Response {
    let mut line = LayoutJob::default();
    let small = egui::TextStyle::Small.resolve(ui.style());
    for (text, color) in [("■ ", color), (name, ui.visuals().text_color()), (note, theme.muted)] {
        line.append(text, 0.0, TextFormat::simple(small.clone(), color));
    }
    ui.add(egui::Label::new(line).wrap_mode(egui::TextWrapMode::Extend))
}
