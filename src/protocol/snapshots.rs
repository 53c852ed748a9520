//! Reports of the engine as plain host data: steps, routes, experts, runs, exports.

pub use crate::analysis::directions::Directions;
pub use crate::analysis::expert_stats::{CosineOf, ExpertStats, HISTOGRAM_BINS, SideSnapshot};
pub use crate::analysis::heat_map::{HeatMap, MapCell, MapOf};
pub use crate::analysis::routing_stats::{RoutingSnapshot, Shares, StepRoute};
use crate::artifact::certificate::Certificate;
pub use crate::artifact::run_label::RunLabel;
pub use crate::artifact::run_list::{RunStatus, RunSummary};
use crate::config::{LawChange, RunConfig};
use crate::eval::Scores;
use crate::mixture::Side;
use crate::protocol::{Capsule, Checkpoints, ExportTarget, MergePlan, NamedMerge, NumberFormat};
use crate::records::{EndRecord, EvalRecord, PairedDifference, SampleRecord, StartRecord, TensorHealth};
pub use crate::records::{StepBucket, StepSample};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The experts at one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpertSnapshot {
    /// Steps done.
    pub step: u64,
    /// Names of the adapted modules in order.
    pub sites: Vec<String>,
    /// Statistics of all modules and sides, at `module * 2 + side`.
    pub sides: Vec<SideSnapshot>,
    /// Module (by index) and side of the heat maps and the directions.
    pub focus: (usize, Option<Side>),
    /// Heat maps of the focus, one per expert.
    pub heat_maps: Vec<HeatMap>,
    /// Directions of the focus; absent while a model trains whose matrices would take long.
    pub directions: Option<Directions>,
}

/// How far the experts of all modules have become one, and distances between them, at one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistanceSample {
    /// Steps done.
    pub step: u64,
    /// Mean distance between two experts at `module * 2 + side`; 0 for a shared side. `[modules * 2]`
    pub pairwise: Vec<f32>,
    /// Mean distance from the start at `module * 2 + side`. `[modules * 2]`
    pub from_start: Vec<f32>,
    /// The consensus at `module * 2 + side`; absent where a side is shared or all its weights are zero. `[modules * 2]`
    pub consensus: Vec<Option<f64>>,
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
    /// The capsule that it was unpacked from, verified; then nothing can be written into it.
    pub capsule: Option<Box<Capsule>>,
    /// All settings, resolved.
    pub config: RunConfig,
    /// Known at the start.
    pub start: StartRecord,
    /// The steps after which it was resumed, ascending.
    pub resumed: Vec<u64>,
    /// Changes of the routing law, by step.
    pub laws: Vec<LawChange>,
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
    /// Merges that were given a name.
    pub merges: Vec<NamedMerge>,
}

/// Scores of the model merged in one way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeReport {
    /// The way.
    pub plan: MergePlan,
    /// The deciding metric.
    pub metric: String,
    /// The scores.
    pub scores: Scores,
    /// Rows evaluated.
    pub rows: usize,
    /// Width of the merged modules: the bottleneck, or the rank.
    pub width: usize,
    /// Values of the merged modules, without the head.
    pub parameters: usize,
    /// The weights that the way found, where it looks for weights. `[experts]`
    pub found: Option<Vec<f64>>,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// What it scores less what the run's own merge does on the same rows; absent for that merge itself, and of a single row.
    pub paired: Option<PairedDifference>,
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
