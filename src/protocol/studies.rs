//! Two studies of a trained mixture, as questions and plain answers: three averages of its experts, and what each number
//! format of an export costs.

pub use crate::analysis::rounding::{RoundingCause, WeightChange};
use crate::config::MixtureKind;
use crate::eval::Scores;
use crate::protocol::{ExportTarget, MergePlan, NumberFormat};
use serde::{Deserialize, Serialize};

/// What is studied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Study {
    /// Three averages side by side.
    Averages,
    /// What number formats cost.
    Rounding(RoundingPlan),
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyReport {
    /// Of [`Study::Averages`].
    Averages(AveragesReport),
    /// Of [`Study::Rounding`].
    Rounding(RoundingReport),
}

/// A way of averaging experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// Of their factors: the paper's merge.
    Factors,
    /// Of their products B A.
    Deltas,
    /// The same, cut back to rank r.
    Truncated,
    /// Of their answers.
    Outputs,
}

impl Average {
    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Factors => "factors (AdaMix)",
            Self::Deltas => "deltas",
            Self::Truncated => "deltas, rank r",
            Self::Outputs => "outputs (ensemble)",
        }
    }
}

/// How one way of averaging does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AverageScore {
    /// Which way.
    pub average: Average,
    /// On all evaluation rows.
    pub scores: Scores,
    /// Adapter parameters that have to be kept.
    pub parameters: usize,
    /// Times the model is run for an answer.
    pub forwards: usize,
    /// How far its answers to the probe rows are from the ensemble's; absent for the ensemble itself.
    pub from_outputs: Option<FromOutputs>,
}

/// Distance of answers from the ensemble's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FromOutputs {
    /// Largest difference of a probability; of a value, for regression.
    pub largest: f64,
    /// Mean KL(ensemble ‖ this) in nats; absent for regression.
    pub kl: Option<f64>,
    /// Rows whose likeliest answer is another; 0 for regression.
    pub changed: usize,
}

/// The averages of one LoRA site. Norms are Frobenius norms of the change of the layer's weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AveragedSite {
    /// Name of the site, such as `layers.3.self_attn.q_proj`.
    pub name: String,
    /// ‖factors‖
    pub factors_norm: f64,
    /// ‖deltas‖
    pub deltas_norm: f64,
    /// ‖factors - deltas‖ / ‖deltas‖; 0 where both are zero.
    pub off: f64,
    /// Share of the pairs of different experts in *factors*, of squared norms, 0 to 1; 0 where a side is shared.
    pub crossed: f64,
    /// r, the rank of *factors*.
    pub rank: usize,
    /// Rank of *deltas*, at most M r.
    pub deltas_rank: usize,
    /// What rank r loses of *deltas*: ‖truncated - deltas‖ / ‖deltas‖; 0 where that is zero.
    pub truncated_off: f64,
    /// Parameters of *factors*.
    pub parameters: usize,
    /// Parameters of *deltas* at its rank.
    pub deltas_parameters: usize,
}

/// Three averages side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AveragesReport {
    /// What the experts are.
    pub kind: MixtureKind,
    /// M.
    pub experts: usize,
    /// Whether one side is shared, so that factors and deltas are one.
    pub shared: bool,
    /// Name of the deciding metric.
    pub metric: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Evaluation rows of the scores.
    pub rows: usize,
    /// Probe rows of the distances.
    pub probe_rows: usize,
    /// Site by site; empty for adapters.
    pub sites: Vec<AveragedSite>,
    /// The ways there are, factors first.
    pub ways: Vec<AverageScore>,
    /// Why there are no deltas, in words; nothing where there are.
    pub without_deltas: Option<String>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl AveragesReport {
    /// The scores of one way, where it exists.
    pub fn way(&self, average: Average) -> Option<&AverageScore> {
        self.ways.iter().find(|way| way.average == average)
    }
}

/// Which files' rounding is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundingPlan {
    /// Exports; those that hold the same numbers are measured once (see [`ExportTarget::rounds_as`]).
    pub targets: Vec<ExportTarget>,
    /// How the experts are merged.
    pub merge: MergePlan,
    /// Whether each layer is also rounded alone: one more pass over the probe rows for each layer and format.
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
    /// What becomes of the weights.
    pub weights: WeightChange,
    /// Bound on the change of a logit: the sum of what each part does alone. Absent where that was not asked for.
    pub predicted: Option<f64>,
    /// Largest change of a logit on the probe rows; infinite where it is no number.
    pub measured: f64,
    /// The change that the certificate allows.
    pub allowed: f64,
    /// Probe rows whose likeliest answer is another.
    pub flipped: usize,
    /// Whether an export in this format would pass its certificate.
    pub kept: bool,
    /// Why it cannot be stored so, in words.
    pub problem: Option<String>,
    /// On all evaluation rows; absent where it cannot be stored so.
    pub scores: Option<Scores>,
    /// Parts by what they do alone, largest first.
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

/// What number formats cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundingReport {
    /// How the experts were merged.
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
    /// Export by export.
    pub files: Vec<FilesBudget>,
    /// Wall-clock seconds.
    pub seconds: f64,
}
