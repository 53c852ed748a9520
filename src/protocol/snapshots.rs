//! Reports of the engine as plain host data: steps, routes, experts, runs, exports.

pub use crate::analysis::expert_stats::{CosineOf, ExpertStats, HISTOGRAM_BINS, HeatMap, SideSnapshot};
pub use crate::analysis::routing_stats::{RoutingSnapshot, Shares, StepRoute};
use crate::artifact::certificate::Certificate;
pub use crate::artifact::run_list::{RunStatus, RunSummary};
use crate::config::RunConfig;
use crate::eval::Scores;
use crate::mixture::Side;
use crate::protocol::{Checkpoints, ExportTarget, MergePlan, NumberFormat};
use crate::records::{EndRecord, EvalRecord, SampleRecord, StartRecord, StepRecord, TensorHealth};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One training step, 48 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSample {
    /// Steps done, from 1.
    pub step: u64,
    /// Epochs done.
    pub epoch: f32,
    /// Total loss.
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

/// One or more consecutive steps with minimum, maximum and mean of every value.
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

    /// Adds the steps of the next bucket.
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

/// The experts at one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpertSnapshot {
    /// Steps done.
    pub step: u64,
    /// Names of the adapted modules in order.
    pub sites: Vec<String>,
    /// Statistics of all modules and sides, at `module * 2 + side`.
    pub sides: Vec<SideSnapshot>,
    /// Module (by index) and side of the heat maps.
    pub focus: (usize, Option<Side>),
    /// Heat maps of the focus, one per expert.
    pub heat_maps: Vec<HeatMap>,
}

/// Distances between the experts of all modules at one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistanceSample {
    /// Steps done.
    pub step: u64,
    /// Mean distance between two experts at `module * 2 + side`; 0 for a shared side. `[modules * 2]`
    pub pairwise: Vec<f32>,
    /// Mean distance from the start at `module * 2 + side`. `[modules * 2]`
    pub from_start: Vec<f32>,
}

/// A model as described by its files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    /// Directory, or `lab`.
    pub path: String,
    /// Family, such as `RoBERTa`.
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
    /// Whether it is a language model.
    pub writes: bool,
    /// The matrices of a layer that can have a LoRA, by name.
    pub lora_targets: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// The contents of a run directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunDetail {
    /// Its line in the list.
    pub summary: RunSummary,
    /// All settings, resolved.
    pub config: RunConfig,
    /// Known at the start.
    pub start: StartRecord,
    /// The steps after which it was resumed, oldest first.
    pub resumed: Vec<u64>,
    /// The curves, at most a few thousand buckets.
    pub history: Vec<StepBucket>,
    /// The evaluations.
    pub evals: Vec<EvalRecord>,
    /// Texts that a language model generated during training.
    pub samples: Vec<SampleRecord>,
    /// The newest gradient-health check.
    pub gradient_health: Vec<TensorHealth>,
    /// How it ended.
    pub end: Option<EndRecord>,
    /// The routes so far, from the route log.
    pub routing: Option<RoutingSnapshot>,
    /// Distances between the experts over time.
    pub distances: Vec<DistanceSample>,
    /// The existing checkpoints.
    pub checkpoints: Checkpoints,
    /// The last lines of the log.
    pub log: Vec<String>,
    /// Exports found, with their certificates.
    pub exports: Vec<ExportReport>,
}

/// Scores of the model merged with given weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeReport {
    /// The weights.
    pub plan: MergePlan,
    /// The deciding metric.
    pub metric: String,
    /// The scores.
    pub scores: Scores,
    /// Rows evaluated.
    pub rows: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// One written and verified export.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportReport {
    /// The target.
    pub target: ExportTarget,
    /// Number format.
    pub dtype: NumberFormat,
    /// Its directory.
    pub dir: PathBuf,
    /// Its files and how far they were verified.
    pub certificate: Certificate,
}
