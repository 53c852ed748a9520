//! The mixture of adaptation modules (paper section 3; symbols: M = `num_experts`, r = `adapter_size`, λ = `consistency_weight`).

use super::law::{LawChange, RoutingLaw, RoutingPolicy};
use super::{require, within};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What each expert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixtureKind {
    /// A bottleneck adapter at the end of each feed-forward block: the paper's encoders.
    #[default]
    Adapter,
    /// A low-rank addition to some linear layers (LoRA): the paper's language models.
    Lora,
}

/// How LoRA's A starts; B always starts at zero, so that training starts from the untouched model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoraInit {
    /// Each expert of each layer drawn on its own, uniform in ± 1 / √d.
    #[default]
    Independent,
    /// One such draw for each kind of matrix, copied to all experts and all layers, as in the reference.
    Copied,
}

/// The nonlinearity between the down- and the up-projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x Φ(x) with the exact normal distribution: BERT's and RoBERTa's, and the reference adapter's.
    #[default]
    Gelu,
    /// The tanh approximation of GPT-2.
    GeluTanh,
    /// max(0, x).
    Relu,
    /// x σ(x), also called SiLU.
    Swish,
}

/// How the experts start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterInit {
    /// N(0, `init_std`) for both projections, each expert drawn on its own, zero biases: what the reference's adapters start from.
    #[default]
    Normal,
    /// As `normal`, but the up-projection starts at zero: training starts from the untouched model.
    Identity,
}

/// The mixture of adaptation modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixtureConfig {
    /// What each expert is. Paper: adapters for encoders, LoRA (or adapters) for GPT-2.
    pub kind: MixtureKind,
    /// M: experts per adapted module. Paper: 4 for GLUE, 8 for GPT-2.
    pub num_experts: usize,
    /// r: the bottleneck. Paper: 16 for RoBERTa-large, 48 for BERT-base.
    pub adapter_size: usize,
    /// One down-projection (LoRA's A) for all experts. Paper: off.
    #[serde(alias = "share_a")]
    pub sharing_down: bool,
    /// One up-projection (LoRA's B) for all experts. Paper: on.
    #[serde(alias = "share_b")]
    pub sharing_up: bool,
    /// The nonlinearity between the projections.
    pub activation: Activation,
    /// How the experts start.
    pub init: AdapterInit,
    /// Standard deviation of the initial weights. Reference: 0.02.
    pub init_std: f64,
    /// LoRA's r. Paper: 4.
    pub lora_rank: usize,
    /// LoRA's alpha: the addition is scaled by alpha / r. Paper: 32.
    pub lora_alpha: f64,
    /// Probability with which LoRA's inputs are dropped in training. Paper: 0.1 (DART 0).
    pub lora_dropout: f64,
    /// The linear layers that get a LoRA, by the end of their name; empty: queries and values. Paper: q and v.
    pub lora_target: Vec<String>,
    /// Scale by alpha / √r instead of alpha / r. Paper: off.
    pub use_rslora: bool,
    /// How LoRA's A starts. Reference: copied.
    pub lora_init: LoraInit,
    /// Which expert runs.
    pub routing: RoutingPolicy,
    /// The expert of `routing = "fixed"`, from 0.
    pub fixed_expert: usize,
    /// Other laws from some steps on, each as in `400=per-token`; empty: one law for the whole run.
    pub law_at: Vec<String>,
    /// Second pass with its own route and the symmetric KL (squared difference for regression) between both.
    pub consistency: bool,
    /// λ: weight of the consistency term. Paper: 1 for classification, 100 for GPT-2.
    pub consistency_weight: f64,
    /// Treat the other pass's distribution as a constant in each direction, as the reference does.
    pub consistency_detach: bool,
    /// Cross-entropy on both passes (their mean) instead of on the first only.
    pub ce_both_passes: bool,
    /// Weights of the experts in the merge, `[modules][M]`; empty: all equal, the paper's mean. Only an import of a checkpoint
    /// of the reference code with its own scores sets them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merge_weights: Vec<Vec<f64>>,
}

impl Default for MixtureConfig {
    fn default() -> Self {
        Self {
            kind: MixtureKind::Adapter,
            num_experts: 4,
            adapter_size: 16,
            sharing_down: false,
            sharing_up: true,
            activation: Activation::Gelu,
            init: AdapterInit::Normal,
            init_std: 0.02,
            lora_rank: 4,
            lora_alpha: 32.0,
            lora_dropout: 0.1,
            lora_target: Vec::new(),
            use_rslora: false,
            lora_init: LoraInit::Independent,
            routing: RoutingPolicy::PerBatch,
            fixed_expert: 0,
            law_at: Vec::new(),
            consistency: true,
            consistency_weight: 1.0,
            consistency_detach: true,
            ce_both_passes: false,
            merge_weights: Vec::new(),
        }
    }
}

impl MixtureConfig {
    /// Distinct experts of the down-projection: 1 when shared.
    pub fn down_experts(&self) -> usize {
        if self.sharing_down { 1 } else { self.num_experts }
    }
    /// Distinct experts of the up-projection: 1 when shared.
    pub fn up_experts(&self) -> usize {
        if self.sharing_up { 1 } else { self.num_experts }
    }

    /// The changes of the law that are planned, in the order given.
    pub fn law_changes(&self) -> Result<Vec<LawChange>> {
        self.law_at.iter().map(|text| text.parse()).collect()
    }

    /// What is wrong with the planned changes of the law.
    fn law_problems(&self, found: &mut Vec<String>) {
        let mut steps = BTreeSet::new();
        for text in &self.law_at {
            match text.parse::<LawChange>() {
                Err(err) => found.push(format!("law_at: {err}")),
                Ok(change) => {
                    found.extend(change.law.problem(self).map(|problem| format!("law_at {text}: {problem}")));
                    require(found, steps.insert(change.step), || {
                        format!("law_at names two laws for step {}; keep one", change.step)
                    });
                }
            }
        }
    }

    /// Whether one draw decides both sides of a module, so that expert j of one side only ever runs with expert j of the other:
    /// then the M pairs of equal index are what is trained, and not all M².
    pub fn tied_draws(&self) -> bool {
        let laws = self.law_changes().unwrap_or_default();
        let drawn = self.routing.is_random() || laws.iter().any(|change| change.law.routing.is_random());
        !drawn && self.down_experts() > 1 && self.up_experts() > 1
    }

    /// The same mixture with another bottleneck, or with another rank at the same scale.
    #[must_use]
    pub fn of_rank(&self, width: usize) -> Self {
        let mut other = self.clone();
        match self.kind {
            MixtureKind::Adapter => other.adapter_size = width,
            MixtureKind::Lora if width != self.lora_rank => {
                let ratio = width as f64 / self.lora_rank.max(1) as f64;
                other.lora_rank = width;
                other.lora_alpha = self.lora_alpha * if self.use_rslora { ratio.sqrt() } else { ratio };
            }
            MixtureKind::Lora => {}
        }
        other
    }

    /// r of either kind: the width between both projections.
    pub fn rank(&self) -> usize {
        match self.kind {
            MixtureKind::Adapter => self.adapter_size,
            MixtureKind::Lora => self.lora_rank,
        }
    }

    /// Whether these are merge weights of one adapted module.
    fn usable(&self, list: &[f64]) -> bool {
        list.len() == self.num_experts && list.iter().all(|w| w.is_finite()) && list.iter().sum::<f64>().abs() > 1e-9
    }

    pub(super) fn problems(&self, found: &mut Vec<String>) {
        within(found, "num_experts", self.num_experts, 1..=64, "choose 1 to 64 (the paper uses 4)");
        within(found, "adapter_size", self.adapter_size, 1..=4096, "choose 1 to 4096 (the paper uses 16 or 48)");
        within(found, "init_std", self.init_std, f64::MIN_POSITIVE..=1.0, "choose a number above 0, at most 1");
        within(found, "lora_rank", self.lora_rank, 1..=4096, "choose 1 to 4096 (the paper uses 4)");
        let advice = "choose a number above 0, at most 1000000 (the paper uses 32)";
        within(found, "lora_alpha", self.lora_alpha, f64::MIN_POSITIVE..=1e6, advice);
        let advice = "choose at least 0 and below 1 (the paper uses 0.1)";
        within(found, "lora_dropout", self.lora_dropout, 0.0..1.0, advice);
        require(found, self.lora_target.iter().all(|name| !name.trim().is_empty()), || {
            "lora_target holds an empty name; leave the list empty for queries and values".to_owned()
        });
        require(found, self.routing != RoutingPolicy::Fixed || self.fixed_expert < self.num_experts, || {
            format!("fixed_expert is {} but there are {} experts, numbered from 0", self.fixed_expert, self.num_experts)
        });
        self.law_problems(found);
        let advice = "choose 0 or more (the paper uses 1)";
        within(found, "consistency_weight", self.consistency_weight, 0.0..=f64::MAX, advice);
        require(found, !self.ce_both_passes || self.consistency, || {
            "ce_both_passes needs the second pass; switch mixture.consistency on".to_owned()
        });
        require(found, self.merge_weights.iter().all(|list| self.usable(list)), || {
            format!(
                "merge_weights must hold lists of {} finite numbers that do not cancel out; leave it out for the mean",
                self.num_experts
            )
        });
        require(found, !(self.sharing_down && self.sharing_up && self.num_experts > 1), || {
            "both projections are shared, so all experts are one; share at most one side, or set num_experts to 1"
                .to_owned()
        });
    }
}

impl RoutingLaw {
    /// The law of these settings.
    pub fn of(mixture: &MixtureConfig) -> Self {
        let fixed = mixture.routing == RoutingPolicy::Fixed;
        Self { routing: mixture.routing, fixed_expert: if fixed { mixture.fixed_expert } else { 0 } }
    }

    /// Why a mixture cannot run under it.
    pub fn problem(self, mixture: &MixtureConfig) -> Option<String> {
        let experts = mixture.num_experts;
        (self.fixed_expert >= experts).then(|| {
            format!("the law {self} names expert {} but there are {experts}, numbered from 0", self.fixed_expert)
        })
    }

    /// Puts it into settings.
    pub fn apply(self, mixture: &mut MixtureConfig) {
        mixture.routing = self.routing;
        if self.routing == RoutingPolicy::Fixed {
            mixture.fixed_expert = self.fixed_expert;
        }
    }
}

/// What the product B A of a LoRA is multiplied with: alpha / r, or alpha / √r.
pub fn lora_scaling(alpha: f64, rank: usize, use_rslora: bool) -> f64 {
    let rank = rank.max(1) as f64;
    if use_rslora { alpha / rank.sqrt() } else { alpha / rank }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_is_put_into_settings_and_read_from_them() {
        let mut mixture = MixtureConfig { fixed_expert: 1, ..MixtureConfig::default() };
        for text in ["fixed:3", "per-token", "per-batch"] {
            let law: RoutingLaw = text.parse().unwrap();
            law.apply(&mut mixture);
            assert_eq!(RoutingLaw::of(&mixture), law);
            assert_eq!(law.problem(&mixture), None);
        }
        let far: RoutingLaw = "fixed:4".parse().unwrap();
        assert!(far.problem(&mixture).unwrap().contains("expert 4 but there are 4"));
    }
}
