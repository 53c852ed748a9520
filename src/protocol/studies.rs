//! Studies of a trained mixture: what the draw causes, averages of its experts, the rounding of each number format of
//! an export, the loss on a plane, what each expert is worth, two ways of running it row by row.

pub mod rows;

mod fan;
mod grid;
mod plane;
mod replay;
mod reroll;
mod routes;
mod worth;

pub use fan::{FanLine, FanPlan, FanReport, FanScale};
pub use grid::{GridPlan, GridReport};
pub use replay::{RebuildCost, ReplayPlan, ReplayReport, ReplayedValue, ReplayedWeights};
pub use reroll::{RerollPlan, RerollReport, RolledLoss, RouteShare};
pub use routes::{MeasuredRoute, RouteFactor, RoutesPlan, RoutesReport};

pub mod spread;

pub use self::spread::{SpreadPlan, SpreadPoint, SpreadReport};
pub use crate::analysis::causes::disagreement::AtDistance;
pub use crate::analysis::causes::least_squares::Estimate;
pub use crate::analysis::rounding::{RoundingCause, WeightChange};
use crate::config::MixtureKind;
use crate::eval::Scores;
use crate::mixture::Side;
pub use crate::protocol::studies::rows::*;
use crate::protocol::{ExportTarget, MergePlan, NumberFormat};
pub use plane::*;
use serde::{Deserialize, Serialize};
pub use worth::*;

/// The study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Study {
    /// What the draw causes.
    Causes(CausesPlan),
    /// Averages of the experts.
    Averages,
    /// Rounding of number formats.
    Rounding(RoundingPlan),
    /// One step, made again.
    Replay(ReplayPlan),
    /// The batch of one step under other routes.
    Reroll(RerollPlan),
    /// Every route, or many.
    Routes(RoutesPlan),
    /// Where routes part on one example.
    Fan(FanPlan),
    /// One module on each of its experts, on one example.
    Grid(GridPlan),
    /// The loss on a plane through three points.
    Plane(PlanePlan),
    /// What each expert adds to the merged model.
    Worth(WorthPlan),
    /// The spread of the experts.
    Spread(SpreadPlan),
    /// Two ways row by row.
    Rows(RowsPlan),
}

impl Study {
    /// The recorded step that it is about, where it is about one: then the run's files are all it needs.
    pub fn of_step(&self) -> Option<u64> {
        match self {
            Self::Replay(plan) => Some(plan.step),
            Self::Reroll(plan) => Some(plan.step),
            _ => None,
        }
    }
}

/// Report of a [`Study`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyReport {
    /// Of [`Study::Causes`].
    Causes(Box<CausesReport>),
    /// Of [`Study::Averages`].
    Averages(AveragesReport),
    /// Of [`Study::Rounding`].
    Rounding(RoundingReport),
    /// Of [`Study::Replay`].
    Replay(Box<ReplayReport>),
    /// Of [`Study::Reroll`].
    Reroll(Box<RerollReport>),
    /// Of [`Study::Routes`].
    Routes(Box<RoutesReport>),
    /// Of [`Study::Fan`].
    Fan(Box<FanReport>),
    /// Of [`Study::Grid`].
    Grid(Box<GridReport>),
    /// Of [`Study::Plane`].
    Plane(Box<PlaneReport>),
    /// Of [`Study::Worth`].
    Worth(Box<WorthReport>),
    /// Of [`Study::Spread`].
    Spread(SpreadReport),
    /// Of [`Study::Rows`].
    Rows(Box<RowsReport>),
}

/// Parameters of the study of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CausesPlan {
    /// Steps up to this one do not count for the disagreement of the passes; absent: a quarter of all.
    pub after: Option<u64>,
    /// Evaluation rows on which experts are pinned; 0: no model is needed, and nothing is pinned.
    pub probe_rows: usize,
}

impl CausesPlan {
    /// Rows that are enough to see what a layer does.
    pub const PROBE_ROWS: usize = 256;
}

impl Default for CausesPlan {
    fn default() -> Self {
        Self { after: None, probe_rows: Self::PROBE_ROWS }
    }
}

/// How far the experts of one bank have become one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BankConsensus {
    /// Name of the adapted module, such as `layers.3.ffn`.
    pub module: String,
    /// Its side.
    pub side: Side,
    /// `‖mean_j W_j‖ / sqrt(mean_j ‖W_j‖²)`; absent where all weights are zero.
    pub value: Option<f64>,
    /// The value of experts that have nothing in common, `1/sqrt(M)`.
    pub strangers: f64,
}

/// What the experts of one layer do to the loss: mean differences from everything merged, paired row by row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerPins {
    /// The layer.
    pub layer: usize,
    /// This layer on expert j, all others merged. `[M]`
    pub effects: Vec<f64>,
    /// Standard errors. `[M]`
    pub standard_errors: Vec<f64>,
    /// Where all M effects of equal experts lie in 95 of 100 cases.
    pub null_band: [f64; 2],
    /// How often equal experts lie at least as far apart.
    pub p: f64,
    /// This layer without its modules, all others merged.
    pub adapter_off: f64,
    /// Its standard error.
    pub adapter_off_standard_error: f64,
}

/// What the draw causes. The disagreement and the consensus come from the run's files alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CausesReport {
    /// Steps done at the checkpoint, whose experts these are.
    pub step: u64,
    /// The steps that count for the disagreement come after this one,
    pub after: u64,
    /// and this is the last of them.
    pub until: u64,
    /// How many they are.
    pub steps: usize,
    /// What each layer that differs adds to the disagreement of the two passes; absent where the passes never differ in another
    /// number of layers, or there is one pass.
    pub kl_slope: Option<f64>,
    /// The same in standard errors.
    pub kl_slope_z: Option<f64>,
    /// The disagreement where no layer differs: dropout.
    pub kl_intercept: Option<f64>,
    /// The same in standard errors.
    pub kl_intercept_z: Option<f64>,
    /// What each layer adds. `[layers]`
    pub kl_slopes: Vec<Option<f64>>,
    /// The same in standard errors. `[layers]`
    pub kl_slopes_z: Vec<Option<f64>>,
    /// Mean disagreement by number of layers that differ.
    pub kl_at: Vec<AtDistance>,
    /// The consensus of each layer: the mean over its banks of more than one expert. `[layers]`
    pub consensus: Vec<Option<f64>>,
    /// Of each bank of more than one expert.
    pub consensus_of_banks: Vec<BankConsensus>,
    /// By layer; empty without probe rows.
    pub pin_effects: Vec<LayerPins>,
    /// Rows of the evaluation data on which they were measured.
    pub probe_rows: usize,
    /// Passes over these rows.
    pub forwards: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// A way of averaging experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// Of their factors: the paper's merge.
    Factors,
    /// Of their products B A.
    Deltas,
    /// The same, truncated to rank r.
    Truncated,
    /// Of their outputs.
    Outputs,
}

impl Average {
    /// Display name.
    pub fn words(self) -> &'static str {
        match self {
            Self::Factors => "factors (AdaMix)",
            Self::Deltas => "deltas",
            Self::Truncated => "deltas, rank r",
            Self::Outputs => "outputs (ensemble)",
        }
    }
}

/// Scores of one average.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AverageScore {
    /// The average.
    pub average: Average,
    /// On all evaluation rows.
    pub scores: Scores,
    /// What it scores less what the mean of factors does, on the same rows; absent for that itself, and of a single row.
    pub paired: Option<crate::records::PairedDifference>,
    /// Adapter parameters of the result.
    pub parameters: usize,
    /// Forward passes per answer.
    pub forwards: usize,
    /// Distance of its outputs on the probe rows from the ensemble's; absent for the ensemble itself.
    pub from_outputs: Option<FromOutputs>,
}

/// Distance of outputs from the ensemble's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FromOutputs {
    /// Largest difference of a probability; of a value, for regression.
    pub largest: f64,
    /// Mean KL(ensemble ‖ this) in nats; absent for regression.
    pub kl: Option<f64>,
    /// Rows with another most likely output; 0 for regression.
    pub changed: usize,
}

/// The averages of one module with LoRA. Norms are Frobenius norms of the change of the layer's weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AveragedSite {
    /// Name of the module, such as `layers.3.self_attn.q_proj`.
    pub name: String,
    /// ‖factors‖
    pub factors_norm: f64,
    /// ‖deltas‖
    pub deltas_norm: f64,
    /// ‖factors - deltas‖ / ‖deltas‖; 0 where both are zero.
    pub off: f64,
    /// Of the M parts of M pairs each, B_(j + s) A_j for s = 0 to M - 1, how far each is from the mean over all M² pairs:
    /// ‖part - factors‖ / ‖factors‖. The first is *deltas*. Empty where a side is shared.
    pub parts: Vec<f64>,
    /// The same of the mean of all M parts, which is the mean over all M² pairs: 0 but for rounding.
    pub all_pairs: f64,
    /// Share of the pairs of different experts in *factors*, of squared norms, 0 to 1; 0 where a side is shared.
    pub crossed: f64,
    /// r, the rank of *factors*.
    pub rank: usize,
    /// Rank of *deltas*, at most M r.
    pub deltas_rank: usize,
    /// Truncation error of rank r: ‖truncated - deltas‖ / ‖deltas‖; 0 where that is zero.
    pub truncated_off: f64,
    /// Parameters of *factors*.
    pub parameters: usize,
    /// Parameters of *deltas* at its rank.
    pub deltas_parameters: usize,
}

impl AveragedSite {
    /// The nearest and the farthest of the parts but the first.
    pub fn other_parts(&self) -> Option<[f64; 2]> {
        let ends = |[low, high]: [f64; 2], part: &f64| [low.min(*part), high.max(*part)];
        let (first, rest) = self.parts.get(1..)?.split_first()?;
        Some(rest.iter().fold([*first; 2], ends))
    }
}

/// Averages of the experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AveragesReport {
    /// Kind of the experts.
    pub kind: MixtureKind,
    /// M.
    pub experts: usize,
    /// Whether one side is shared, so that factors and deltas are the same.
    pub shared: bool,
    /// Whether one draw decided both sides of a module, so that only the pairs of equal index were trained.
    pub tied: bool,
    /// Name of the deciding metric.
    pub metric: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Evaluation rows of the scores.
    pub rows: usize,
    /// Probe rows of the distances.
    pub probe_rows: usize,
    /// Module by module; empty for adapters.
    pub sites: Vec<AveragedSite>,
    /// The averages, factors first.
    pub ways: Vec<AverageScore>,
    /// Why there are no deltas; absent where there are.
    pub without_deltas: Option<String>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl AveragesReport {
    /// The scores of one average, where it exists.
    pub fn way(&self, average: Average) -> Option<&AverageScore> {
        self.ways.iter().find(|way| way.average == average)
    }
}

/// Parameters of the rounding study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundingPlan {
    /// Exports; those that hold the same numbers are measured once (see [`ExportTarget::rounds_as`]).
    pub targets: Vec<ExportTarget>,
    /// Weights of the merge.
    pub merge: MergePlan,
    /// Whether each layer is also rounded alone: one more pass over the probe rows per layer and format.
    pub causes: bool,
}

impl ExportTarget {
    /// The number formats it can be stored in.
    pub fn dtypes(self) -> Vec<NumberFormat> {
        NumberFormat::EXPORTS.into_iter().filter(|dtype| self.refuses(*dtype).is_none()).collect()
    }
}

/// One number format of one export.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FormatBudget {
    /// The format.
    pub dtype: NumberFormat,
    /// Bytes of all values.
    pub bytes: u64,
    /// Changes of the weights.
    pub weights: WeightChange,
    /// Bound on the change of a logit: the sum of the changes by each part alone. Absent where not requested.
    pub predicted: Option<f64>,
    /// Largest change of a logit on the probe rows; infinite where it is not finite.
    pub measured: f64,
    /// The change allowed by the certificate.
    pub allowed: f64,
    /// Probe rows with another most likely output.
    pub flipped: usize,
    /// Whether an export in this format would pass its certificate.
    pub kept: bool,
    /// Why it cannot be stored in this format.
    pub problem: Option<String>,
    /// On all evaluation rows; absent where it cannot be stored.
    pub scores: Option<Scores>,
    /// Parts by their effect alone, largest first.
    pub causes: Vec<RoundingCause>,
}

/// The formats of one export.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FilesBudget {
    /// Which export (see [`ExportTarget::rounds_as`]).
    pub target: ExportTarget,
    /// Its formats, the exact one first.
    pub formats: Vec<FormatBudget>,
}

/// Rounding of number formats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundingReport {
    /// Weights of the merge.
    pub merge: MergePlan,
    /// Name of the deciding metric.
    pub metric: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Evaluation rows of the scores.
    pub rows: usize,
    /// Probe rows of the logits: those of the certificate.
    pub probe_rows: usize,
    /// The merged model in memory.
    pub exact: Scores,
    /// One entry per export.
    pub files: Vec<FilesBudget>,
    /// Wall-clock seconds.
    pub seconds: f64,
}
