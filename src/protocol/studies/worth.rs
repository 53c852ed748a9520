//! What each expert adds to the merged model, and which two are nearly one.

use crate::analysis::causes::least_squares::Estimate;
pub use crate::analysis::causes::worth::{ExpertEffects, MOST_EXPERTS};
use crate::mixture::Side;
use serde::{Deserialize, Serialize};

/// Parameters of the study of the experts' worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorthPlan {
    /// Most evaluation rows that the losses are means of.
    pub probe_rows: usize,
}

impl WorthPlan {
    /// Rows unless something else is said.
    pub const PROBE_ROWS: usize = 256;

    /// Passes over the rows: every subset of the experts up to [`MOST_EXPERTS`] (of more, all, none and all but one), and every pair
    /// as one.
    pub fn forwards(experts: usize) -> usize {
        let merges = if experts <= MOST_EXPERTS { 1 << experts } else { experts + 2 };
        merges + experts * experts.saturating_sub(1) / 2
    }
}

impl Default for WorthPlan {
    fn default() -> Self {
        Self { probe_rows: Self::PROBE_ROWS }
    }
}

/// Two experts: how alike they are, and what it costs to do with less. Costs are differences of the merged loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpertPair {
    /// The experts, lower number first.
    pub experts: [usize; 2],
    /// Mean cosine of their weights over the banks of more than one expert.
    pub cosine: f64,
    /// The same bank by bank, in the order of [`WorthReport::banks`].
    pub by_bank: Vec<f64>,
    /// Leaving the first out of the merge.
    pub drop_first: Estimate,
    /// Leaving the second out of the merge.
    pub drop_second: Estimate,
    /// Both as one expert, their mean, which counts like each other one.
    pub as_one: Estimate,
}

/// A bank of more than one expert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BankOfPairs {
    /// Name of the adapted module.
    pub module: String,
    /// Its side.
    pub side: Side,
    /// Spread of the cosine of two unrelated directions, `1/sqrt(d)`.
    pub chance: f64,
}

/// What each expert is worth. Every merge counts its experts the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorthReport {
    /// Steps done at the checkpoint, whose experts these are.
    pub step: u64,
    /// M.
    pub experts: usize,
    /// Mean loss of all experts merged.
    pub loss_all: f64,
    /// Mean loss without any module, with the trained head.
    pub loss_none: f64,
    /// What each expert takes from the loss: Shapley values, which sum to `loss_none - loss_all`. Absent of more than
    /// [`MOST_EXPERTS`].
    pub shapley: Option<ExpertEffects>,
    /// What leaving each expert out adds to the loss.
    pub leave_one_out: ExpertEffects,
    /// Every two experts.
    pub pairs: Vec<ExpertPair>,
    /// The banks that were compared.
    pub banks: Vec<BankOfPairs>,
    /// What the closest pair's mean cosine stays below in 95 of 100 shuffles of the experts within each bank.
    pub twin_limit: f64,
    /// Share of the shuffles whose closest pair is at least as close as the closest one found.
    pub twin_p: f64,
    /// Evaluation rows that were measured.
    pub probe_rows: usize,
    /// Passes over these rows.
    pub forwards: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl WorthReport {
    /// The closest pair, and whether it is closer than equal experts would be by chance.
    pub fn twins(&self) -> Option<(&ExpertPair, bool)> {
        let closest = self.pairs.iter().max_by(|a, b| a.cosine.total_cmp(&b.cosine))?;
        Some((closest, self.twin_p < 0.05))
    }
}
