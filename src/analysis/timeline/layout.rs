//! What a run can draw: its modules by layer, the sides with several experts, the passes.

use crate::config::{MixtureConfig, RoutingPolicy};
use crate::records::{SIDES, Side};

/// The adapted modules of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Number of the layer in the model; absent where the modules' names have none.
    pub number: Option<usize>,
    /// Its modules by index, in their order.
    pub sites: Vec<usize>,
}

/// What a run can draw in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Names of the adapted modules in order, such as `layers.3.ffn`.
    pub sites: Vec<String>,
    /// Experts of the down side and of the up side; 1: shared, nothing is drawn.
    pub experts: [usize; 2],
    /// Passes of a step: 2 with consistency.
    pub passes: usize,
    /// The law of the draws.
    pub policy: RoutingPolicy,
    /// Micro-batches of a step, each with its own draws.
    pub micro_batches: usize,
    /// The modules by layer, the lowest first.
    pub layers: Vec<Layer>,
}

/// The number of a layer in a module's name, and what stands for the layer where it has none.
fn layer_of(name: &str) -> (Option<usize>, &str) {
    let rest = name.strip_prefix("layers.").unwrap_or_default();
    let number = rest.split('.').next().unwrap_or_default();
    match number.parse() {
        Ok(n) => (Some(n), number),
        Err(_) => (None, name),
    }
}

impl Layout {
    /// Of a mixture on these modules.
    pub fn of(mixture: &MixtureConfig, sites: Vec<String>, micro_batches: usize) -> Self {
        let mut keys: Vec<(Option<usize>, &str)> = Vec::new();
        let mut layers: Vec<Layer> = Vec::new();
        for (site, name) in sites.iter().enumerate() {
            let key = layer_of(name);
            match keys.iter().position(|known| *known == key) {
                Some(layer) => layers[layer].sites.push(site),
                None => {
                    keys.push(key);
                    layers.push(Layer { number: key.0, sites: vec![site] });
                }
            }
        }
        Self {
            experts: [mixture.down_experts(), mixture.up_experts()],
            passes: if mixture.consistency { 2 } else { 1 },
            policy: mixture.routing,
            micro_batches: micro_batches.max(1),
            layers,
            sites,
        }
    }

    /// Whether a side has several experts.
    pub fn draws(&self, side: Side) -> bool {
        self.experts[side as usize] > 1
    }

    /// The sides with several experts.
    pub fn drawn(&self) -> impl DoubleEndedIterator<Item = Side> {
        SIDES.into_iter().filter(|side| self.draws(*side))
    }

    /// The layer of each module, by place in [`Layout::layers`].
    pub fn layer_of(&self) -> Vec<usize> {
        let mut of = vec![0; self.sites.len()];
        for (layer, group) in self.layers.iter().enumerate() {
            group.sites.iter().for_each(|&site| of[site] = layer);
        }
        of
    }

    /// Whether examples or tokens draw for themselves, so that a step has no single path.
    pub fn is_mixed(&self) -> bool {
        !self.policy.is_per_batch()
    }

    /// Whether a step is a single draw of every side: one micro-batch, one expert for all of it.
    pub fn is_whole(&self) -> bool {
        !self.is_mixed() && self.micro_batches == 1
    }

    /// Whether draws can be compared: those of two passes, and those of one pass with the step before where a step is a single draw.
    pub fn compares(&self) -> bool {
        (self.passes == 2 || self.is_whole()) && self.drawn().next().is_some()
    }

    /// Most experts of a side.
    pub fn most_experts(&self) -> usize {
        self.experts[0].max(self.experts[1])
    }

    /// Draws of a layer in one pass of one micro-batch.
    pub fn draws_of(&self, layer: usize) -> usize {
        self.layers.get(layer).map_or(0, |layer| layer.sites.len()) * self.drawn().count()
    }

    /// In how many of a step's draws an expert has its chance: passes times micro-batches.
    pub fn chances(&self) -> usize {
        self.passes * self.micro_batches
    }

    /// Place of a side among the picks of a pass.
    pub(super) fn place(&self, site: usize, side: Side) -> Option<usize> {
        let index = self.drawn().position(|drawn| drawn == side)?;
        (site < self.sites.len()).then(|| site * self.drawn().count() + index)
    }

    /// Sides of a pass that draw.
    pub(super) fn width(&self) -> usize {
        self.sites.len() * self.drawn().count()
    }

    /// Shares of one step where draws are mixed.
    pub(super) fn share_width(&self) -> usize {
        if self.is_mixed() { self.passes * self.sites.len() * self.drawn_experts() } else { 0 }
    }

    /// Experts of the sides that draw.
    pub(super) fn drawn_experts(&self) -> usize {
        self.drawn().map(|side| self.experts[side as usize]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_grouped_by_layer_and_a_shared_side_draws_nothing() {
        let mixture = MixtureConfig { sharing_up: true, consistency: true, ..MixtureConfig::default() };
        let sites = ["layers.1.q", "layers.1.v", "layers.4.q", "pooler"].map(str::to_owned).to_vec();
        let layout = Layout::of(&mixture, sites, 1);
        assert_eq!(layout.layer_of(), [0, 0, 1, 2]);
        assert_eq!(layout.layers.iter().map(|layer| layer.number).collect::<Vec<_>>(), [Some(1), Some(4), None]);
        assert!(layout.draws(Side::Down) && !layout.draws(Side::Up));
        assert_eq!((layout.width(), layout.draws_of(0), layout.chances()), (4, 2, 2));
        assert_eq!((layout.place(2, Side::Down), layout.place(2, Side::Up)), (Some(2), None));
        let both = Layout { experts: [4, 4], ..layout };
        assert_eq!((both.place(2, Side::Up), both.place(4, Side::Down), both.width()), (Some(5), None, 8));
    }
}
