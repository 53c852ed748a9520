//! What the engine reports, as plain host data: steps, routes, experts, previews, reports.

use crate::config::{RoutingPolicy, RunConfig};
use crate::eval::Scores;
use crate::mixture::Side;
use crate::protocol::{Certificate, ExportTarget, MergePlan, NumberFormat};
use crate::train::observer::{EndRecord, EvalRecord, Lamp, SampleRecord, StartRecord, StepRecord};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One training step, 48 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSample {
    /// Steps done, from 1.
    pub step: u64,
    /// Passes over the data done.
    pub epoch: f32,
    /// What was minimised.
    pub loss: f32,
    /// Cross-entropy or squared error.
    pub task_loss: f32,
    /// Symmetric KL or squared difference, before λ.
    pub consistency_loss: f32,
    /// Learning rate used.
    pub learning_rate: f32,
    /// Global gradient norm before clipping.
    pub grad_norm: f32,
    /// Tokens through the model, both passes counted.
    pub tokens: u32,
    /// Wall-clock seconds of the step.
    pub seconds: f32,
}

impl From<&StepRecord> for StepSample {
    fn from(record: &StepRecord) -> Self {
        Self {
            step: record.step,
            epoch: record.epoch as f32,
            loss: record.loss as f32,
            task_loss: record.task_loss as f32,
            consistency_loss: record.consistency_loss as f32,
            learning_rate: record.learning_rate as f32,
            grad_norm: record.grad_norm as f32,
            tokens: u32::try_from(record.tokens).unwrap_or(u32::MAX),
            seconds: record.seconds as f32,
        }
    }
}

/// One or more neighbouring steps in one: extremes are kept, so nothing that happened is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepBucket {
    /// Steps in this bucket.
    pub n: u32,
    /// Field by field the smallest (`step`: the first; NaN if any was NaN). `tokens` and `seconds` included.
    pub min: StepSample,
    /// Field by field the largest (`step`: the last; NaN if any was NaN).
    pub max: StepSample,
    /// Field by field the sum in `tokens` and `seconds`, the mean in all others; `step` is the last.
    pub mean: StepSample,
}

/// `f32::min` that lets NaN through.
fn low(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) }
}

/// `f32::max` that lets NaN through.
fn high(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

fn fold(a: &StepSample, b: &StepSample, step: u64, tokens: u32, f: impl Fn(f32, f32) -> f32) -> StepSample {
    StepSample {
        step,
        epoch: f(a.epoch, b.epoch),
        loss: f(a.loss, b.loss),
        task_loss: f(a.task_loss, b.task_loss),
        consistency_loss: f(a.consistency_loss, b.consistency_loss),
        learning_rate: f(a.learning_rate, b.learning_rate),
        grad_norm: f(a.grad_norm, b.grad_norm),
        tokens,
        seconds: f(a.seconds, b.seconds),
    }
}

impl StepBucket {
    /// A bucket of one step.
    pub fn of(sample: StepSample) -> Self {
        Self { n: 1, min: sample, max: sample, mean: sample }
    }

    /// Takes in the steps of a later bucket.
    pub fn merge(&mut self, later: &Self) {
        if self.n == 0 {
            *self = *later;
            return;
        }
        if later.n == 0 {
            return;
        }
        let (n, m) = (self.n as f32, later.n as f32);
        let tokens = self.mean.tokens.saturating_add(later.mean.tokens);
        let seconds = self.mean.seconds + later.mean.seconds;
        self.mean = fold(&self.mean, &later.mean, later.mean.step, tokens, |a, b| (a * n + b * m) / (n + m));
        self.mean.seconds = seconds;
        let (first, last) = (self.min.step, later.max.step);
        self.min = fold(&self.min, &later.min, first, self.min.tokens.min(later.min.tokens), low);
        self.max = fold(&self.max, &later.max, last, self.max.tokens.max(later.max.tokens), high);
        self.n += later.n;
    }
}

/// Shares of the experts in one pick: a single 1 for a whole-batch draw, a distribution for draws by example or token.
pub type Shares = Vec<f32>;

/// One step's draws, reduced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepRoute {
    /// Steps done when it was drawn.
    pub step: u64,
    /// Expert of `(pass * sites + site) * 2 + side`; where several ran, the one that ran most.
    pub experts: Vec<u8>,
}

/// Which expert runs where, now and so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutingSnapshot {
    /// Steps done.
    pub step: u64,
    /// The law of the draws.
    pub policy: RoutingPolicy,
    /// Passes of a step: 2 with consistency.
    pub passes: usize,
    /// Names of the sites in order, such as `layers.3.ffn`.
    pub sites: Vec<String>,
    /// Experts of the down side and of the up side; 1: shared, nothing is drawn.
    pub experts: [usize; 2],
    /// The newest step's picks: shares of the experts at `(pass * sites + site) * 2 + side`.
    pub current: Vec<Shares>,
    /// The newest steps' picks, oldest first, at most 64.
    pub recent: Vec<StepRoute>,
    /// How often each expert was drawn, at `site * 2 + side`; both passes counted, per example or token where so drawn. `[sites * 2][experts]`
    pub counts: Vec<Vec<u64>>,
    /// Independent draws at `site * 2 + side`: the sum of its counts. `[sites * 2]`
    pub draws: Vec<u64>,
}

/// Bins of every histogram of weights.
pub const HISTOGRAM_BINS: usize = 64;

/// One expert's numbers on one side of one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpertStats {
    /// Frobenius norm of the weight.
    pub norm: f32,
    /// Euclidean norm of the bias.
    pub bias_norm: f32,
    /// Mean of the weights.
    pub mean: f32,
    /// Standard deviation of the weights.
    pub std: f32,
    /// Largest absolute weight.
    pub max_abs: f32,
    /// Norm of (weight now - weight at the start).
    pub from_start: f32,
    /// Counts in [`HISTOGRAM_BINS`] equal bins over the range of [`SideSnapshot::range`].
    pub histogram: Vec<u32>,
}

/// All experts on one side of one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideSnapshot {
    /// Rows of each expert's weight matrix (outputs).
    pub rows: usize,
    /// Columns of each expert's weight matrix (inputs).
    pub cols: usize,
    /// Smallest and largest weight over all experts: the range of the histograms.
    pub range: [f32; 2],
    /// One entry for each expert (one where the side is shared).
    pub experts: Vec<ExpertStats>,
    /// Cosine between the changes since the start of experts i and j (of the weights themselves at step 0). `[experts * experts]`
    pub cosine: Vec<f32>,
    /// Norm of the difference of experts i and j. `[experts * experts]`
    pub distance: Vec<f32>,
}

/// A weight matrix, reduced to at most 128 x 128 cells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// Rows of the reduced picture.
    pub rows: usize,
    /// Columns of the reduced picture.
    pub cols: usize,
    /// Of each cell, the weight with the largest absolute value. `[rows * cols]`
    pub values: Vec<f32>,
}

/// The experts as they are at one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpertSnapshot {
    /// Steps done.
    pub step: u64,
    /// Names of the sites in order.
    pub sites: Vec<String>,
    /// Numbers of all sites and sides, at `site * 2 + side`.
    pub sides: Vec<SideSnapshot>,
    /// The site and side that the heat maps belong to.
    pub focus: (usize, Option<Side>),
    /// Heat maps of the focus, one for each expert.
    pub heat_maps: Vec<HeatMap>,
}

/// How far apart the experts of all sites are, at one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistanceSample {
    /// Steps done.
    pub step: u64,
    /// Mean distance between two experts, at `site * 2 + side`; 0 for a shared side. `[sites * 2]`
    pub pairwise: Vec<f32>,
    /// Mean distance from the start, at `site * 2 + side`. `[sites * 2]`
    pub from_start: Vec<f32>,
}

/// A model as its directory describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    /// Directory, or `lab`.
    pub path: String,
    /// Family in words, such as `RoBERTa`.
    pub family: String,
    /// Layers.
    pub layers: usize,
    /// Hidden size d.
    pub hidden_size: usize,
    /// Attention heads.
    pub heads: usize,
    /// Vocabulary.
    pub vocab_size: usize,
    /// Longest input in tokens.
    pub max_length: usize,
    /// All parameters.
    pub parameters: usize,
    /// Bytes of the weight files.
    pub file_bytes: u64,
    /// Whether it is a language model: it writes, and has no classes.
    pub writes: bool,
    /// The matrices of a layer that can have a LoRA, by name.
    pub lora_targets: Vec<String>,
    /// What is unusual about it.
    pub notes: Vec<String>,
}

/// One row of a data preview.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreviewRow {
    /// The (first) text.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// The label or value in words.
    pub label: String,
    /// Tokens, special ones included, before truncation.
    pub tokens: usize,
}

/// One part (train or dev) of the data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitPreview {
    /// Usable rows.
    pub rows: usize,
    /// The first rows.
    pub sample: Vec<PreviewRow>,
    /// Rows for each label in class order; empty for regression.
    pub labels: Vec<(String, usize)>,
    /// Smallest, mean and largest target value; regression only.
    pub values: Option<[f64; 3]>,
    /// Rows by token count: count of rows in each bin of `token_bin` tokens.
    pub token_histogram: Vec<usize>,
    /// Width of a bin of `token_histogram` in tokens.
    pub token_bin: usize,
    /// Mean tokens a row before truncation.
    pub mean_tokens: f64,
    /// Tokens of the longest row before truncation.
    pub max_tokens: usize,
    /// Rows longer than the longest input allowed.
    pub truncated_rows: usize,
    /// Share of all tokens that truncation cuts off, 0 to 1.
    pub truncated_tokens: f64,
    /// Rows whose text occurs earlier in the same part.
    pub duplicates: usize,
}

/// The data as it would be trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataPreview {
    /// The task in words.
    pub name: String,
    /// Columns found in the training file, for the choice of columns; empty for a known task.
    pub columns: Vec<String>,
    /// Class names in order; empty for regression.
    pub labels: Vec<String>,
    /// Training rows.
    pub train: SplitPreview,
    /// Evaluation rows.
    pub dev: SplitPreview,
    /// Evaluation rows whose text is in the training rows too.
    pub leaks: usize,
    /// Some of the leaked texts.
    pub leak_examples: Vec<String>,
    /// Rows left out, as `file:line: reason`; at most a few hundred.
    pub skipped: Vec<String>,
    /// How many rows were left out.
    pub skipped_rows: usize,
}

/// What became of a run, as its directory says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// A process is writing it.
    Running,
    /// Ended as planned (early stopping included).
    Finished,
    /// Somebody stopped it; it can go on.
    Stopped,
    /// Its process ended without a word; it can go on from its last checkpoint.
    #[default]
    Interrupted,
    /// An error or a loss that was not finite.
    Failed,
}

/// One line of the list of runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunSummary {
    /// The run directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub status: RunStatus,
    /// Model path, or `lab`.
    pub model: String,
    /// Task in words.
    pub task: String,
    /// Method in words.
    pub method: String,
    /// When it was started, seconds since 1970.
    pub created: u64,
    /// Steps done.
    pub step: u64,
    /// Steps planned.
    pub total_steps: u64,
    /// Name of the deciding metric.
    pub metric: String,
    /// Best value of the deciding metric.
    pub best: Option<f64>,
    /// Seconds of training.
    pub seconds: f64,
    /// Size on disk.
    pub bytes: u64,
    /// Whether it has a checkpoint to go on from and steps left.
    pub resumable: bool,
    /// Why the directory cannot be read fully.
    pub problem: Option<String>,
}

/// Everything a run directory tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunDetail {
    /// Its line in the list.
    pub summary: RunSummary,
    /// All settings, resolved.
    pub config: RunConfig,
    /// What was known at the start.
    pub start: StartRecord,
    /// The curves, at most some thousand buckets.
    pub history: Vec<StepBucket>,
    /// The evaluations.
    pub evals: Vec<EvalRecord>,
    /// What a language model wrote on the way.
    pub samples: Vec<SampleRecord>,
    /// The newest lamps.
    pub lamps: Vec<Lamp>,
    /// How it ended.
    pub end: Option<EndRecord>,
    /// The routes so far, from the route log.
    pub routing: Option<RoutingSnapshot>,
    /// Distances between the experts over time.
    pub distances: Vec<DistanceSample>,
    /// Steps of the checkpoints there are.
    pub checkpoints: Vec<u64>,
    /// The last lines of the log.
    pub log: Vec<String>,
    /// Exports found, with their certificates.
    pub exports: Vec<ExportReport>,
}

/// The model merged with given weights, measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeReport {
    /// The weights.
    pub plan: MergePlan,
    /// The deciding metric.
    pub metric: String,
    /// What it scores.
    pub scores: Scores,
    /// Rows evaluated.
    pub rows: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// One written and proven export.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportReport {
    /// What it is.
    pub target: ExportTarget,
    /// Number format.
    pub dtype: NumberFormat,
    /// Where it is.
    pub dir: PathBuf,
    /// Its files and their proof.
    pub certificate: Certificate,
}
