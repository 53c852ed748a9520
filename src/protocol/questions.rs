//! Parameters of queries: whose weights, how they are merged, where they are exported.

pub use crate::artifact::checkpoint_choice::{Checkpoint, Checkpoints, WeightsOf};
pub use crate::config::{MergeCost, MergePlan, Pairs};
use crate::protocol::{ExportTarget, NumberFormat, StartRecord};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Whose weights a query is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The model in the engine's memory: in training (answered between two steps) or just trained.
    Live,
    /// A checkpoint in a run directory.
    Saved {
        /// The run directory.
        dir: PathBuf,
        /// Which checkpoint.
        checkpoint: Checkpoint,
    },
}

impl ExportTarget {
    /// Why this target cannot be stored in this number format; `None` where it can.
    pub fn refuses(self, dtype: NumberFormat) -> Option<&'static str> {
        (dtype == NumberFormat::Q8_0 && self != Self::Gguf)
            .then_some("q8_0 is for whole models in GGUF (target gguf); choose f32, f16 or bf16 here")
    }
}

/// An export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportPlan {
    /// What is written.
    pub targets: Vec<ExportTarget>,
    /// Number format of the tensors.
    pub dtype: NumberFormat,
    /// How the experts are merged (ignored by [`ExportTarget::Experts`]).
    pub merge: MergePlan,
    /// Directory to write into; absent: `exports/` of the run directory.
    pub dir: Option<PathBuf>,
}

/// Result of the pre-flight check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreflightReport {
    /// Why the run cannot start; empty: it can.
    pub problems: Vec<String>,
    /// Warnings, which do not prevent a start.
    pub warnings: Vec<String>,
    /// What training would start with; the default where that is not known.
    pub start: StartRecord,
    /// Expected tokens per step, both passes counted.
    pub tokens_per_step: f64,
    /// Expected peak memory in bytes.
    pub memory_bytes: u64,
    /// Memory of this machine (or device) in bytes; 0: unknown.
    pub memory_available: u64,
    /// Whether activations are recomputed in the backward pass.
    pub recompute: bool,
    /// Expected seconds in total; absent: not measured.
    pub seconds: Option<f64>,
    /// The run directory that would be written.
    pub run_dir: PathBuf,
    /// Names of this computer's GPUs of any vendor; the first one is `gpu:0`.
    pub gpus: Vec<String>,
}
