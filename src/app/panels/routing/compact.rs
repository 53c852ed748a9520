//! The experts of the newest step in a line for each layer: a cell for each module and side.

use super::diagram::cell;
use crate::app::names::{self, LayerGroup};
use crate::app::theme::Theme;
use crate::app::widgets::{canvas, cards, part};
use crate::config::MixtureKind;
use crate::protocol::{RoutingSnapshot, SIDES, Side};
use egui::{Align2, FontId, Rect, Stroke, StrokeKind, Ui, pos2, vec2};

const NAMES: f32 = 64.0;
const HEADER: f32 = 30.0;
const ROW: f32 = 17.0;
/// Width of a cell.
const CELL: [f32; 2] = [24.0, 72.0];

/// Draws the layers, the top one first.
pub fn ui(theme: &Theme, routing: &RoutingSnapshot, kind: MixtureKind, layers: &[LayerGroup], ui: &mut Ui) {
    let drawn: Vec<Side> = SIDES.into_iter().filter(|&side| routing.experts[side as usize] > 1).collect();
    let mut parts: Vec<String> = Vec::new();
    for name in routing.sites.iter().map(|site| names::part(site)) {
        if !parts.contains(&name) {
            parts.push(name);
        }
    }
    let columns = (parts.len() * drawn.len()).max(1);
    let words = if routing.passes > 1 {
        "Left half of a cell: pass A; right half: pass B. Colour and number: the expert."
    } else {
        "Colour and number: the expert that runs."
    };
    cards::caption(ui, theme, words);
    egui::ScrollArea::horizontal().id_salt("routes of all layers").show(ui, |ui| {
        let pitch = ((ui.available_width() - NAMES) / columns as f32).clamp(CELL[0], CELL[1]);
        let size = vec2(NAMES + pitch * columns as f32, HEADER + ROW * layers.len() as f32);
        let (rect, response) = canvas(ui, size, egui::Role::Figure, "Experts of the newest step, layer by layer");
        let (painter, small) = (ui.painter().clone(), FontId::proportional(11.0));
        for (i, part) in parts.iter().enumerate() {
            let left = rect.left() + NAMES + (i * drawn.len()) as f32 * pitch;
            let middle = left + 0.5 * drawn.len() as f32 * pitch;
            let color = ui.visuals().text_color();
            painter.text(pos2(middle, rect.top()), Align2::CENTER_TOP, part, small.clone(), color);
            for (k, &side) in drawn.iter().enumerate() {
                // The name is short where cells are narrow.
                let name = names::side(kind, side);
                let name = if pitch < 40.0 { name.trim_start_matches("lora_") } else { name };
                let at = pos2(left + (k as f32 + 0.5) * pitch, rect.top() + 14.0);
                painter.text(at, Align2::CENTER_TOP, name, small.clone(), theme.muted);
            }
        }
        for (row, layer) in layers.iter().rev().enumerate() {
            let top = rect.top() + HEADER + row as f32 * ROW;
            let line = Rect::from_min_size(pos2(rect.left(), top), vec2(size.x, ROW));
            if !ui.is_rect_visible(line) {
                continue;
            }
            let at = pos2(rect.left(), line.center().y);
            painter.text(at, Align2::LEFT_CENTER, &layer.name, small.clone(), ui.visuals().text_color());
            for &site in &layer.sites {
                let own = names::part(&routing.sites[site]);
                let column = parts.iter().position(|part| *part == own).unwrap_or(0) * drawn.len();
                for (k, &side) in drawn.iter().enumerate() {
                    let left = rect.left() + NAMES + (column + k) as f32 * pitch;
                    let place = Rect::from_min_size(pos2(left, top), vec2(pitch, ROW)).shrink2(vec2(1.5, 1.0));
                    cell_ui(theme, routing, site, side, place, ui);
                    let name = format!("{} {}", names::layer(&routing.sites[site]), names::side(kind, side));
                    let about = format!("{name}: {}", cell_text(routing, site, side));
                    part(ui, place, response.id.with((site, side as usize)), &about);
                }
            }
        }
    });
}

fn cell_ui(theme: &Theme, routing: &RoutingSnapshot, site: usize, side: Side, place: Rect, ui: &Ui) {
    let painter = ui.painter();
    let half = place.width() / routing.passes.clamp(1, 2) as f32;
    for pass in 0..routing.passes.min(2) {
        let Some(shares) = routing.current.get(cell(routing, pass, site, side)) else { continue };
        let left = place.left() + pass as f32 * half;
        let area = Rect::from_min_max(pos2(left, place.top()), pos2(left + half, place.bottom()));
        let mut bottom = area.bottom();
        for (expert, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let top = (bottom - share * area.height()).max(area.top());
            let color = theme.series(expert);
            let bar = Rect::from_min_max(pos2(area.left(), top), pos2(area.right(), bottom));
            painter.rect_filled(bar, 0.0, color);
            if share > 0.999 && half >= 11.0 {
                let font = FontId::monospace(10.5);
                painter.text(bar.center(), Align2::CENTER_CENTER, expert.to_string(), font, Theme::text_on(color));
            }
            bottom = top;
        }
    }
    painter.rect_stroke(place, 0.0, Stroke::new(1.0, theme.card_border), StrokeKind::Outside);
}

/// `pass A expert 2, pass B expert 0`, or the shares of all experts.
fn cell_text(routing: &RoutingSnapshot, site: usize, side: Side) -> String {
    let passes = (0..routing.passes.min(2)).filter_map(|pass| {
        let shares = routing.current.get(cell(routing, pass, site, side))?;
        let drawn: Vec<String> = shares
            .iter()
            .enumerate()
            .filter(|(_, share)| **share > 0.0)
            .map(|(expert, &share)| {
                let share = if share > 0.999 { String::new() } else { format!(" {}", names::share(share)) };
                format!("expert {expert}{share}")
            })
            .collect();
        Some(format!("{} {}", if pass == 0 { "pass A" } else { "pass B" }, drawn.join(", ")))
    });
    passes.collect::<Vec<String>>().join("; ")
}
