//! What the zones of the route map draw, and how their rows lie.

use crate::analysis::causes::least_squares::Estimate;
use crate::analysis::timeline::ages::oldest_expected;
use crate::analysis::timeline::{Ages, Layout, RouteFit, RouteTimeline, Row};
use crate::app::names::{self, LayerGroup};
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::config::MixtureKind;
use crate::protocol::{CausesReport, DistanceSample, LayerPins, SIDES, Side};
use egui::{Color32, Rangef, Rect};

/// Least and largest height of a layer.
const ROW: [f32; 2] = [12.0, 60.0];

/// What all zones draw.
pub struct Map<'a> {
    pub ctx: &'a PanelCtx<'a>,
    pub run: &'a RunView,
    pub timeline: &'a RouteTimeline,
    /// The layers by name, in the order of the timeline.
    pub layers: &'a [LayerGroup],
    /// The module that is shown of layers with several; absent: all.
    pub module: Option<&'a str>,
    /// The step at the playhead, and what is recorded of it.
    pub step: u64,
    pub row: Row<'a>,
    pub ages: &'a Ages,
    pub fit: Option<&'a RouteFit>,
    pub causes: Option<&'a CausesReport>,
    pub trails: bool,
}

impl Map<'_> {
    pub fn theme(&self) -> &Theme {
        self.ctx.theme
    }

    pub fn layout(&self) -> &Layout {
        self.timeline.layout()
    }

    pub fn kind(&self) -> MixtureKind {
        self.run.config.mixture.kind
    }

    /// The module of a layer whose single draws are shown; absent where all of several are.
    pub fn site_of(&self, layer: usize) -> Option<usize> {
        let sites = &self.layers.get(layer)?.sites;
        match (sites.as_slice(), self.module) {
            ([site], _) => Some(*site),
            (_, Some(module)) => sites.iter().copied().find(|&site| names::part(&self.layout().sites[site]) == module),
            _ => None,
        }
    }

    /// Whether every layer shows the single draws of one module.
    pub fn reads_single(&self) -> bool {
        !self.layout().is_mixed() && (0..self.layers.len()).all(|layer| self.site_of(layer).is_some())
    }

    /// The names of a layer's modules, where there are several.
    pub fn modules(&self) -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        for site in self.layers.iter().filter(|layer| layer.sites.len() > 1).flat_map(|layer| &layer.sites) {
            let part = names::part(&self.layout().sites[*site]);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts
    }

    /// The pins of a layer.
    pub fn pins(&self, layer: usize) -> Option<&LayerPins> {
        let number = self.number(layer);
        self.causes?.pin_effects.iter().find(|pins| pins.layer == number)
    }

    /// The consensus of a layer's experts.
    pub fn consensus(&self, layer: usize) -> Option<f64> {
        *self.causes?.consensus.get(self.number(layer))?
    }

    /// What a layer adds to the disagreement where its draws differ. Of a layer of several modules: the chosen one's, or the
    /// largest, with its index; the whole layer's while the modules' are not known.
    pub fn slope(&self, layer: usize) -> Option<(Estimate, Option<usize>)> {
        let fit = self.fit?;
        let of = |site: usize| Some((fit.sites.get(site).copied().flatten()?, Some(site)));
        let sites = &self.layers.get(layer)?.sites;
        let own = match self.site_of(layer) {
            Some(site) => of(site),
            None => sites.iter().filter_map(|&site| of(site)).max_by(|a, b| a.0.value.total_cmp(&b.0.value)),
        };
        own.or_else(|| Some((fit.found.layers.get(layer).copied().flatten()?, None)))
    }

    /// The consensus of a layer's experts in a sample: the mean over its modules and the sides that are drawn.
    pub fn consensus_of(&self, layer: usize, sample: &DistanceSample) -> Option<f64> {
        let own = |site: usize| SIDES.map(|side| *sample.consensus.get(site * SIDES.len() + side as usize)?);
        let shown = self.site_of(layer).map_or_else(|| self.layers[layer].sites.clone(), |site| vec![site]);
        let known: Vec<f64> = shown.into_iter().flat_map(own).flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// The number of a layer in the model.
    fn number(&self, layer: usize) -> usize {
        self.layout().layers.get(layer).and_then(|layer| layer.number).unwrap_or(layer)
    }

    /// The age from which on boxes look the same: a little more than the oldest of uniform draws.
    pub fn oldest(&self) -> u64 {
        let layout = self.layout();
        let all = layout.sites.len() * layout.drawn().map(|side| layout.experts[side as usize]).sum::<usize>();
        oldest_expected(all, layout.most_experts(), layout.chances()) + 3
    }

    /// The grey of a box whose expert learned so many steps ago; absent: never.
    pub fn age_color(&self, age: Option<u64>) -> Color32 {
        let Some(age) = age else { return Color32::TRANSPARENT };
        let fresh = 1.0 - (age as f32 / self.oldest() as f32).min(1.0);
        grey(self.theme(), 0.08 + 0.62 * fresh)
    }

    /// What a draw of a layer was, such as `layer 3 down: pass A expert 2, pass B expert 0`.
    pub fn words(&self, layer: usize, side: Side, row: &Row<'_>) -> String {
        let side_name = names::side(self.kind(), side);
        let Some(group) = self.layers.get(layer) else { return String::new() };
        if !self.layout().draws(side) {
            return format!("{} {side_name}: one matrix shared by all experts; nothing is drawn", group.name);
        }
        let of = |site: usize| {
            let passes = 0..self.layout().passes;
            let words: Vec<String> = passes.map(|pass| self.pass_words(site, side, pass, row)).collect();
            words.join(", ")
        };
        match self.site_of(layer) {
            Some(site) if group.sites.len() == 1 => format!("{} {side_name}: {}", group.name, of(site)),
            Some(site) => format!("{} {side_name}: {}", names::layer(&self.layout().sites[site]), of(site)),
            None => {
                let parts = group
                    .sites
                    .iter()
                    .map(|&site| format!("\n{}: {}", names::part(&self.layout().sites[site]), of(site)));
                format!("{} {side_name}{}", group.name, parts.collect::<String>())
            }
        }
    }

    fn pass_words(&self, site: usize, side: Side, pass: usize, row: &Row<'_>) -> String {
        let what = if self.layout().is_mixed() {
            let shares = row.shares(pass, site, side);
            let shares = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
            let shares: Vec<String> = shares.map(|(e, &share)| format!("expert {e} {}", names::share(share))).collect();
            shares.join(", ")
        } else {
            row.pick(pass, site, side).map_or_else(|| "nothing".to_owned(), |expert| format!("expert {expert}"))
        };
        match self.layout().passes {
            1 => what,
            _ => format!("{} {what}", pass_name(pass)),
        }
    }
}

pub fn pass_name(pass: usize) -> &'static str {
    if pass == 0 { "pass A" } else { "pass B" }
}

/// A grey between the ground (0) and ink (1).
pub fn grey(theme: &Theme, ink: f32) -> Color32 {
    let (ground, full) = if theme.dark { (26.0, 240.0) } else { (250.0, 20.0) };
    Color32::from_gray((ground + (full - ground) * ink.clamp(0.0, 1.0)).round() as u8)
}

/// The rows of a zone: a band for each layer, the lowest at the bottom.
#[derive(Clone, Copy)]
pub struct Rows {
    pub rect: Rect,
    pub layers: usize,
}

impl Rows {
    /// How high all rows are together where there is `room`.
    pub fn height(layers: usize, room: f32) -> f32 {
        let layers = layers.max(1) as f32;
        layers * (room / layers).clamp(ROW[0], ROW[1])
    }

    /// Height of a layer.
    pub fn pitch(&self) -> f32 {
        self.rect.height() / self.layers.max(1) as f32
    }

    /// The band of a layer.
    pub fn band(&self, layer: usize) -> Rangef {
        let bottom = self.rect.bottom() - layer as f32 * self.pitch();
        Rangef::new(bottom - self.pitch(), bottom)
    }

    /// The layer at a height.
    pub fn layer_at(&self, y: f32) -> Option<usize> {
        let layer = ((self.rect.bottom() - y) / self.pitch()).floor();
        (layer >= 0.0 && (layer as usize) < self.layers).then_some(layer as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::{pos2, vec2};

    #[test]
    fn the_lowest_layer_is_at_the_bottom() {
        assert_eq!([Rows::height(4, 400.0), Rows::height(48, 300.0), Rows::height(4, 100.0)], [240.0, 576.0, 100.0]);
        let rows = Rows { rect: Rect::from_min_size(pos2(0.0, 100.0), vec2(50.0, 80.0)), layers: 4 };
        assert_eq!(rows.band(0), Rangef::new(160.0, 180.0));
        assert_eq!(rows.band(3), Rangef::new(100.0, 120.0));
        assert_eq!(
            [rows.layer_at(179.0), rows.layer_at(101.0), rows.layer_at(181.0), rows.layer_at(99.0)],
            [Some(0), Some(3), None, None]
        );
    }
}
