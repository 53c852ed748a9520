//! Heat maps of the weights.

use super::{Focus, histogram};
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::heatmap::{HeatMapView, Matrix, Scale};
use crate::app::widgets::{cards, labeled, legend, verdict};
use crate::config::MixtureKind;
use crate::format;
use crate::protocol::{HeatMap, Side};
use egui::{Sense, Stroke, Ui, vec2};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Largest number of heat maps below each other.
const STACK: usize = 8;

/// The heat maps, kept between frames.
#[derive(Default)]
pub struct HeatMaps {
    own_scale: bool,
    only_chosen: bool,
    /// One for each expert.
    views: Vec<HeatMapView>,
}

/// Rows and columns as drawn: the hidden size, the longer side, to the right.
fn shape(map: &HeatMap) -> (usize, usize) {
    (map.rows.min(map.cols), map.rows.max(map.cols))
}

impl HeatMaps {
    /// Draws heat maps and histogram; a click on a heat map chooses its expert.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, ui: &mut Ui) {
        let fits = focus.snapshot.focus == (focus.site, Some(focus.side)) && !focus.snapshot.heat_maps.is_empty();
        let side = focus.side_in_words();
        let title = format!(
            "{}{} of {}: {} × {} (outputs × inputs)",
            side[..1].to_uppercase(),
            &side[1..],
            names::layer(&focus.snapshot.sites[focus.site]),
            focus.data.rows,
            focus.data.cols,
        );
        cards::card(ui, ctx.theme, &title, |ui| {
            if fits {
                self.heat_maps_ui(ctx, focus, expert, ui);
            } else {
                cards::loading(ui, "Waiting for the heat maps of this side", None);
            }
        });
        cards::card(ui, ctx.theme, "Distribution of the weights", |ui| histogram::ui(ctx.theme, focus, *expert, ui));
    }

    fn heat_maps_ui(&mut self, ctx: &PanelCtx<'_>, focus: &Focus<'_>, expert: &mut usize, ui: &mut Ui) {
        let Self { own_scale, only_chosen, views } = self;
        let (theme, maps) = (ctx.theme, &focus.snapshot.heat_maps);
        let experts = maps.len();
        views.resize_with(experts, HeatMapView::default);
        if experts > 1 {
            ui.horizontal_wrapped(|ui| {
                labeled::toggle(ui, "Only the chosen expert", "Draws one heat map, larger", only_chosen);
                let tip = "Off: one scale for all experts, so that colours can be compared between them";
                labeled::toggle(ui, "Own colour scale for each", tip, own_scale);
            });
        }
        let largest = |map: &HeatMap| map.values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let largest: Vec<f32> = maps.iter().map(largest).collect();
        let common = largest.iter().copied().fold(0.0, f32::max);
        let one = *only_chosen || experts > STACK;
        let mut shown_scale = common;
        for (i, (map, view)) in maps.iter().zip(views).enumerate() {
            if one && i != *expert {
                continue;
            }
            let limit = if *own_scale { largest[i] } else { common };
            shown_scale = limit;
            let room = ui.available_width() - 34.0;
            let (rows, cols) = shape(map);
            let height = (room * rows as f32 / cols.max(1) as f32).clamp(36.0, if one { 320.0 } else { 90.0 });
            ui.horizontal(|ui| {
                let (area, choose) = ui.allocate_exact_size(vec2(22.0, height), Sense::click());
                let name = format!("Choose expert {i}");
                choose.widget_info(|| egui::WidgetInfo::selected(egui::Role::Button, true, i == *expert, &name));
                if i == *expert {
                    let color = ui.visuals().text_color();
                    ui.painter().vline(area.left() + 1.0, area.y_range(), Stroke::new(3.0, color));
                }
                if choose.clicked() {
                    *expert = i;
                }
                let chip = egui::Rect::from_center_size(area.center() + vec2(2.0, 0.0), vec2(16.0, 16.0));
                verdict::chip_at(ui, theme, chip, i);
                // Drawn with rows and columns swapped where the hidden size is the number of rows.
                let index = |row, col| if map.rows > map.cols { col * map.cols + row } else { row * map.cols + col };
                let at = |row, col| map.values.get(index(row, col)).copied().unwrap_or(f32::NAN);
                let mut version = DefaultHasher::new();
                (focus.snapshot.step, focus.site, focus.side as usize, limit.to_bits()).hash(&mut version);
                ctx.session.shown().map(|run| &run.dir).hash(&mut version);
                let name = format!("Expert {i}, largest |weight| {}", format::significant(f64::from(largest[i]), 3));
                let (matrix, scale) = (Matrix { rows, cols, at: &at }, Scale::Diverging(limit));
                view.ui(ui, theme, matrix, scale, version.finish(), vec2(room, height), &name);
            });
        }
        ui.add_space(2.0);
        if *own_scale && !one {
            legend::bar(ui, theme, Scale::Diverging(1.0), "share of the expert's largest |weight|", 220.0);
        } else {
            legend::bar(ui, theme, Scale::Diverging(shown_scale), "weight (no unit)", 220.0);
        }
        cards::caption(ui, theme, reduced_text(focus));
    }
}

/// Which way is which, and what was left out to fit.
fn reduced_text(focus: &Focus<'_>) -> String {
    let (long, short) = (focus.data.rows.max(focus.data.cols), focus.data.rows.min(focus.data.cols));
    let mut words = match focus.kind {
        MixtureKind::Adapter => "Hidden size to the right, bottleneck downwards.",
        MixtureKind::Lora if focus.side == Side::Down => "Inputs to the right, rank downwards.",
        MixtureKind::Lora => "Outputs to the right, rank downwards.",
    }
    .to_owned();
    if let Some((rows, cols)) = focus.snapshot.heat_maps.first().map(shape)
        && (cols < long || rows < short)
    {
        words.push_str(&format!(
            " {short} × {long} weights in {rows} × {cols} cells: each shows its weight with the largest absolute value."
        ));
    }
    words
}
