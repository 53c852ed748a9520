//! Ways of merging the M experts of each adapted module into one module: the plan, its formula, its cost, and its name on
//! the command line. What computes them is in `mixture` and `workflow`.

use super::{MixtureConfig, MixtureKind};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Optimiser steps of [`MergePlan::Fitted`] in each adapter.
pub const FIT_STEPS: usize = 200;

/// Rank of all LoRA experts side by side up to which one of r is fitted to them: its time grows with the third power.
pub const FIT_RANK: usize = 512;

/// Which down- and up-projections stand side by side in a wide adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// Expert j's down with expert j's up: the mean over M pairs.
    #[default]
    Same,
    /// Every down with every up: the mean over all M² pairs that independent draws make.
    All,
}

/// How the experts become one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergePlan {
    /// The mean of factors: the paper.
    #[default]
    Uniform,
    /// One weight per expert, the same in all modules. They need not sum to 1; they are divided by their sum. `[experts]`
    Global(Vec<f32>),
    /// One weight per expert in each module. `[modules][experts]`
    PerSite(Vec<Vec<f32>>),
    /// Greedy soup (Wortsman et al. 2022): whole experts, in the order of their own evaluation loss, stay while the loss falls.
    Soup,
    /// Fisher-weighted mean (Matena and Raffel 2022), with the diagonal of the empirical Fisher information.
    Fisher {
        /// Training rows; of each expert one gradient a row.
        rows: usize,
    },
    /// TIES (Yadav et al. 2023): trim, elect sign, disjoint mean of the changes since the start.
    Ties {
        /// Share of each tensor's changes that is kept, above 0, at most 1.
        density: f64,
    },
    /// DARE (Yu et al. 2024): changes since the start are dropped at random, the others rescaled.
    Dare {
        /// Probability with which a change is dropped, at least 0, below 1.
        drop: f64,
        /// Seed of the draws.
        seed: u64,
    },
    /// All experts side by side in one module: the exact mean of their outputs.
    Wide(Pairs),
    /// The wide module with its hidden units pruned to a number.
    Budget {
        /// Hidden units that stay in each module, from r to the wide module's.
        width: usize,
        /// Training rows, without their labels, on which contributions are measured.
        rows: usize,
    },
    /// One module of r fitted to the wide one's outputs.
    Fitted {
        /// Training rows, without their labels, whose hidden states are fitted on.
        rows: usize,
    },
}

/// What a merge costs beside its score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MergeCost {
    /// Width of the merged modules: the bottleneck, or the rank.
    pub width: usize,
    /// Passes over all evaluation rows.
    pub evaluations: usize,
    /// Training rows that go forward, each as often as it goes.
    pub forwards: usize,
    /// Of these, how many also go backward.
    pub backwards: usize,
    /// Optimiser steps in each module.
    pub fit_steps: usize,
}

impl MergePlan {
    /// Training rows that are enough in most cases.
    pub const ROWS: usize = 256;
    /// Share of the changes that TIES keeps in its paper.
    pub const DENSITY: f64 = 0.2;
    /// Share of the changes that DARE drops by default.
    pub const DROP: f64 = 0.5;

    /// The default merge of a mixture: the scores it was imported with, else the mean.
    pub fn own(mixture: &MixtureConfig) -> Self {
        match mixture.merge_weights.as_slice() {
            [] => Self::Uniform,
            lists => Self::PerSite(lists.iter().map(|list| list.iter().map(|&w| w as f32).collect()).collect()),
        }
    }

    /// One of each kind that has no weights, with its defaults, in the order in which they are offered. The budget is half way.
    pub fn methods(mixture: &MixtureConfig) -> Vec<Self> {
        let wide = Self::Wide(Pairs::Same);
        let mut all = vec![
            Self::Uniform,
            Self::Soup,
            Self::Fisher { rows: Self::ROWS },
            Self::Ties { density: Self::DENSITY },
            Self::Dare { drop: Self::DROP, seed: 0 },
        ];
        let (r, widest) = (mixture.rank(), wide.width(mixture));
        all.push(wide);
        if widest > r {
            if mixture.kind == MixtureKind::Adapter && !mixture.sharing_up {
                all.push(Self::Wide(Pairs::All));
            }
            all.push(Self::Budget { width: r.midpoint(widest), rows: Self::ROWS });
            all.push(Self::Fitted { rows: Self::ROWS });
        }
        all
    }

    /// Whether this is the mean of factors with given weights.
    pub fn is_weights(&self) -> bool {
        matches!(self, Self::Uniform | Self::Global(_) | Self::PerSite(_))
    }

    /// The name of the method: that of the command line, of recipes and certificates.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Uniform | Self::Global(_) | Self::PerSite(_) => "average-of-factors",
            Self::Soup => "soup",
            Self::Fisher { .. } => "fisher",
            Self::Ties { .. } => "ties",
            Self::Dare { .. } => "dare",
            Self::Wide(_) => "wide",
            Self::Budget { .. } => "budget",
            Self::Fitted { .. } => "fitted",
        }
    }

    /// Width of the merged modules: r, or what stands side by side.
    pub fn width(&self, mixture: &MixtureConfig) -> usize {
        let (r, experts) = (mixture.rank(), mixture.num_experts);
        match self {
            Self::Budget { width, .. } => *width,
            Self::Wide(pairs) => {
                let linear = mixture.kind == MixtureKind::Lora;
                // One hidden layer for all experts, or no nonlinearity over which the mean would not commute.
                let narrow =
                    mixture.down_experts() == 1 || linear && (mixture.up_experts() == 1 || *pairs == Pairs::All);
                if narrow { r } else { r * experts }
            }
            _ => r,
        }
    }

    /// What it costs.
    pub fn cost(&self, mixture: &MixtureConfig) -> MergeCost {
        let experts = mixture.num_experts;
        let cost = MergeCost { width: self.width(mixture), ..MergeCost::default() };
        match self {
            Self::Soup => MergeCost { evaluations: 2 * experts - 1, ..cost },
            Self::Fisher { rows } => MergeCost { forwards: rows * experts, backwards: rows * experts, ..cost },
            Self::Budget { rows, .. } => MergeCost { forwards: *rows, ..cost },
            Self::Fitted { rows } => {
                let steps = if mixture.kind == MixtureKind::Adapter { FIT_STEPS } else { 0 };
                MergeCost { forwards: *rows, fit_steps: steps, ..cost }
            }
            _ => cost,
        }
    }

    /// What is computed, as a formula with its words.
    pub fn formula(&self, mixture: &MixtureConfig) -> String {
        let (lora, m) = (mixture.kind == MixtureKind::Lora, mixture.num_experts);
        let wide = || match (lora, mixture.down_experts() == 1, mixture.up_experts() == 1) {
            (true, true, _) | (true, _, true) => {
                "one side is shared and LoRA has no nonlinearity, so that the mean of the outputs is the mean of factors: \
                 rank r"
            }
            (false, true, _) => {
                "the down-projection is shared, so that the mean of the outputs is the mean of factors: bottleneck r"
            }
            (true, false, false) => "A = [A_1; ...; A_M], B = [B_1 ... B_M] / M: rank M r",
            (false, false, true) => "down = [D_1; ...; D_M], up = [U ... U] / M: bottleneck M r",
            (false, false, false) => {
                "down = [D_1; ...; D_M], up = [U_1 ... U_M] / M, bias of up averaged: bottleneck M r"
            }
        };
        match self {
            Self::Uniform => format!("W = (1/{m}) Σ_j W_j, for both sides alike: the paper's mean of factors"),
            Self::Global(_) | Self::PerSite(_) => "W = Σ_j w_j W_j, Σ_j w_j = 1, for both sides alike".to_owned(),
            Self::Soup => "S = {the expert of the lowest evaluation loss}; then each expert j in the order of its own loss: j joins \
                           S if the loss of the mean over S and j is lower. W = mean of W_j over S"
                .to_owned(),
            Self::Fisher { rows } => format!(
                "W = Σ_j F_j W_j / Σ_j F_j, value by value; F_j = mean over {rows} training rows of (∂ log p(label) / ∂ W_j)² \
                 with expert j in all modules. Where all F are 0: the mean"
            ),
            Self::Ties { density } => format!(
                "τ_j = W_j - W_j at the start; in each tensor the largest {} % of |τ_j| stay; s = sign of Σ_j τ_j; W = mean of \
                 the starts + mean of those τ_j whose sign is s",
                100.0 * density
            ),
            Self::Dare { drop, seed } => format!(
                "τ_j = W_j - W_j at the start; each value of τ_j is dropped with probability {drop} (seed {seed}), the others are \
                 divided by {}; W = mean of the starts + mean of τ_j. Its expectation is the mean",
                ((1.0 - drop) * 1e6).round() / 1e6
            ),
            Self::Wide(Pairs::Same) => format!("the mean of the experts' outputs, exactly: {}", wide()),
            Self::Wide(Pairs::All) if lora || mixture.down_experts() == 1 => {
                "the mean of the outputs of all M² pairs is the mean of factors: width r".to_owned()
            }
            Self::Wide(Pairs::All) => "the mean of the outputs of all M² pairs, exactly: down = [D_1; ...; D_M], up = [Ū ... Ū] / M \
                                       with Ū = mean of U: bottleneck M r"
                .to_owned(),
            Self::Budget { width, rows } => {
                let contribution = if lora { "E[z_i²] |b_i|²" } else { "Var[a_i] |u_i|²" };
                let rest = if lora { "" } else { "; what the others give on average, E[a_i] u_i, goes into the bias" };
                format!(
                    "of the wide module's hidden units those {width} stay that contribute most to its output on {rows} \
                     training rows, {contribution}{rest}"
                )
            }
            Self::Fitted { rows } if lora => format!(
                "the LoRA of rank r whose output is nearest to the wide one's on the inputs of {rows} training rows: \
                 least |X (B A - B' A')ᵀ|², in closed form from the singular vectors"
            ),
            Self::Fitted { rows } => format!(
                "the adapter of bottleneck r whose output is nearest to the wide one's on the inputs of {rows} training rows: \
                 least squares for up and its bias, {FIT_STEPS} steps of Adam for down, from the mean of factors"
            ),
        }
    }

    /// An error unless it can be done with such a mixture.
    pub fn check(&self, mixture: &MixtureConfig) -> Result<()> {
        let rows = match self {
            Self::Fisher { rows } | Self::Budget { rows, .. } | Self::Fitted { rows } => *rows,
            _ => 1,
        };
        if rows == 0 {
            return Err(Error::config(format!("{self} needs at least one training row")));
        }
        match *self {
            Self::Ties { density } if !(density > 0.0 && density <= 1.0) => {
                Err(Error::config(format!("TIES keeps a share of {density}; choose one above 0, at most 1")))
            }
            Self::Dare { drop, .. } if !(0.0..1.0).contains(&drop) => {
                Err(Error::config(format!("DARE drops with probability {drop}; choose one from 0 to below 1")))
            }
            Self::Fitted { .. } if mixture.kind == MixtureKind::Lora => {
                let widest = Self::Wide(Pairs::Same).width(mixture);
                if widest <= FIT_RANK {
                    return Ok(());
                }
                Err(Error::config(format!(
                    "all experts side by side have rank {widest}; one module is fitted to at most {FIT_RANK}, choose wide or budget"
                )))
            }
            Self::Budget { width, .. } => {
                let (r, widest) = (mixture.rank(), Self::Wide(Pairs::Same).width(mixture));
                if (r..=widest).contains(&width) {
                    return Ok(());
                }
                let why = if r == widest { ": with a shared side the wide module is no wider" } else { "" };
                Err(Error::config(format!(
                    "a budget of {width} hidden units; choose {r} (one expert's) to {widest} (all side by side){why}"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// As on the command line: `ties:0.2`. Weights have no such name: they are the flag `--weights`.
impl fmt::Display for MergePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.method();
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Global(_) | Self::PerSite(_) => f.write_str("weights"),
            Self::Soup | Self::Wide(Pairs::Same) => f.write_str(name),
            Self::Wide(Pairs::All) => write!(f, "{name}:all"),
            Self::Fisher { rows } | Self::Fitted { rows } => write!(f, "{name}:{rows}"),
            Self::Ties { density } => write!(f, "{name}:{density}"),
            Self::Dare { drop, seed } => write!(f, "{name}:{drop}:{seed}"),
            Self::Budget { width, rows } => write!(f, "{name}:{width}:{rows}"),
        }
    }
}

impl FromStr for MergePlan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let (name, first, second) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let more = parts.next().is_some();
        let number = |part: Option<&str>, default: f64| match part {
            None => Ok(default),
            Some(part) => part.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| unknown(text)),
        };
        let whole = |part: Option<&str>, default: usize| match part {
            None => Ok(default),
            Some(part) => part.parse::<usize>().map_err(|_| unknown(text)),
        };
        let (plan, most) = match name {
            "uniform" => (Self::Uniform, 0),
            "soup" => (Self::Soup, 0),
            "fisher" => (Self::Fisher { rows: whole(first, Self::ROWS)? }, 1),
            "ties" => (Self::Ties { density: number(first, Self::DENSITY)? }, 1),
            "dare" => (Self::Dare { drop: number(first, Self::DROP)?, seed: whole(second, 0)? as u64 }, 2),
            "wide" => match first {
                None | Some("same") => (Self::Wide(Pairs::Same), 1),
                Some("all") => (Self::Wide(Pairs::All), 1),
                Some(_) => return Err(unknown(text)),
            },
            "budget" if first.is_some() => {
                (Self::Budget { width: whole(first, 0)?, rows: whole(second, Self::ROWS)? }, 2)
            }
            "fitted" => (Self::Fitted { rows: whole(first, Self::ROWS)? }, 1),
            _ => return Err(unknown(text)),
        };
        let given = usize::from(first.is_some()) + usize::from(second.is_some()) + usize::from(more);
        if given > most { Err(unknown(text)) } else { Ok(plan) }
    }
}

fn unknown(text: &str) -> Error {
    Error::config(format!(
        "{text:?} is no way of merging; choose uniform, soup, fisher[:ROWS], ties[:DENSITY], dare[:DROP[:SEED]], \
         wide[:all], budget:WIDTH[:ROWS] or fitted[:ROWS]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let mixture = MixtureConfig { sharing_up: false, ..MixtureConfig::default() };
        let all = MergePlan::methods(&mixture);
        assert_eq!(all.len(), 9);
        for plan in all {
            assert_eq!(plan.to_string().parse::<MergePlan>().unwrap(), plan, "{plan}");
            plan.check(&mixture).unwrap();
        }
        assert_eq!("budget:24".parse::<MergePlan>().unwrap(), MergePlan::Budget { width: 24, rows: 256 });
        assert_eq!("dare:0.9:7".parse::<MergePlan>().unwrap(), MergePlan::Dare { drop: 0.9, seed: 7 });
        for wrong in
            ["", "mean", "budget", "soup:3", "ties:x", "ties:nan", "wide:2", "fisher:1:2", "dare:0.5:1:2", "fitted:-1"]
        {
            let err = wrong.parse::<MergePlan>().unwrap_err().to_string();
            assert!(err.contains("is no way of merging"), "{wrong}: {err}");
        }
    }

    #[test]
    fn widths_are_those_of_what_is_shared() {
        let of = |kind, down, up, plan: &MergePlan| {
            let mixture = MixtureConfig { kind, sharing_down: down, sharing_up: up, ..MixtureConfig::default() };
            (plan.width(&mixture), mixture.rank())
        };
        let (same, all) = (MergePlan::Wide(Pairs::Same), MergePlan::Wide(Pairs::All));
        for up in [true, false] {
            assert_eq!(of(MixtureKind::Adapter, false, up, &same), (64, 16));
            assert_eq!(of(MixtureKind::Adapter, false, up, &all), (64, 16));
            assert_eq!(of(MixtureKind::Adapter, true, up, &same), (16, 16));
            assert_eq!(of(MixtureKind::Lora, false, up, &all), (4, 4));
        }
        assert_eq!(of(MixtureKind::Lora, false, false, &same), (16, 4));
        assert_eq!(of(MixtureKind::Lora, false, true, &same), (4, 4));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let mixture = MixtureConfig::default();
        let refused = |text: &str| text.parse::<MergePlan>().unwrap().check(&mixture).unwrap_err().to_string();
        assert!(refused("budget:15").contains("choose 16 (one expert's) to 64"), "{}", refused("budget:15"));
        assert!(refused("budget:65").contains("64 (all side by side)"));
        assert!(refused("ties:0").contains("above 0") && refused("ties:1.5").contains("at most 1"));
        assert!(refused("dare:1").contains("below 1") && refused("dare:-0.1").contains("below 1"));
        assert!(refused("fisher:0").contains("at least one training row"));
        let shared = MixtureConfig { kind: MixtureKind::Lora, ..mixture };
        let err = MergePlan::Budget { width: 8, rows: 1 }.check(&shared).unwrap_err().to_string();
        assert!(err.contains("no wider"), "{err}");
        let large = MixtureConfig { lora_rank: 256, sharing_up: false, ..shared };
        let err = MergePlan::Fitted { rows: 1 }.check(&large).unwrap_err().to_string();
        assert!(err.contains("rank 1024") && err.contains("at most 512"), "{err}");
    }

    #[test]
    fn costs_count_what_is_run() {
        let mixture = MixtureConfig::default();
        let cost = |text: &str| text.parse::<MergePlan>().unwrap().cost(&mixture);
        assert_eq!(cost("soup"), MergeCost { width: 16, evaluations: 7, ..MergeCost::default() });
        assert_eq!(cost("fisher:10"), MergeCost { width: 16, forwards: 40, backwards: 40, ..MergeCost::default() });
        assert_eq!(
            cost("fitted:10"),
            MergeCost { width: 16, forwards: 10, fit_steps: FIT_STEPS, ..MergeCost::default() }
        );
        assert_eq!(cost("wide"), MergeCost { width: 64, ..MergeCost::default() });
        assert_eq!(cost("budget:40:9"), MergeCost { width: 40, forwards: 9, ..MergeCost::default() });
    }
}
