//! What a question is about, and what is asked for: whose weights, how merged, exported to where.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which checkpoint of a run directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// The one with the best metric.
    #[default]
    Best,
    /// The newest.
    Last,
    /// The one written after so many steps.
    Step(u64),
}

/// Whose weights a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The model in the engine's memory: in training (served at the next step boundary) or just trained.
    Live,
    /// A checkpoint in a run directory.
    Saved {
        /// The run directory.
        dir: PathBuf,
        /// Which checkpoint.
        checkpoint: Checkpoint,
    },
}

/// How the experts are weighed when they become one. Weights need not sum to 1; the engine normalises them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergePlan {
    /// The mean: the paper.
    #[default]
    Uniform,
    /// One weight for each expert, for all sites. `[experts]`
    Global(Vec<f32>),
    /// One weight for each expert of each site. `[sites][experts]`
    PerSite(Vec<Vec<f32>>),
}

/// What is written by an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportTarget {
    /// Merged adapter and head as safetensors with metadata.
    Merged,
    /// All experts and the head as safetensors with metadata.
    Experts,
    /// The merged adapter as a directory that the AdapterHub library loads.
    AdapterHub,
    /// The merged LoRA and the head as a directory that PEFT loads.
    Peft,
    /// Each expert, a LoRA, as a directory that PEFT loads.
    PeftExperts,
    /// The whole model with the merged LoRA added to its weights, as a directory that transformers loads.
    Hf,
}

/// Number format of exported tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportDtype {
    /// 32 bits: exact.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

/// What to export, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportPlan {
    /// What is written.
    pub targets: Vec<ExportTarget>,
    /// Number format of the tensors.
    pub dtype: ExportDtype,
    /// How the experts are merged (ignored by [`ExportTarget::Experts`]).
    pub merge: MergePlan,
    /// Directory to write into; absent: `exports/` of the run directory.
    pub dir: Option<PathBuf>,
}

/// Whether a run can start, and what it will cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreflightReport {
    /// Reasons why it cannot start; empty: it can.
    pub problems: Vec<String>,
    /// What may not be as wanted, but does not stop a start.
    pub warnings: Vec<String>,
    /// All parameters of the frozen model.
    pub trunk_parameters: usize,
    /// Parameters that are trained.
    pub trained_parameters: usize,
    /// Of these, the head's.
    pub head_parameters: usize,
    /// Adapter parameters that remain after merging.
    pub merged_parameters: usize,
    /// Training rows.
    pub train_rows: usize,
    /// Evaluation rows.
    pub eval_rows: usize,
    /// Optimizer steps in all.
    pub total_steps: u64,
    /// Expected tokens a step, both passes counted.
    pub tokens_per_step: f64,
    /// Expected peak memory in bytes.
    pub memory_bytes: u64,
    /// Memory of this machine (or device) in bytes; 0: unknown.
    pub memory_available: u64,
    /// Activations are computed again in the backward pass.
    pub recompute: bool,
    /// Expected seconds in all; absent: not measured.
    pub seconds: Option<f64>,
    /// Device in words.
    pub device: String,
    /// The run directory it would write.
    pub run_dir: PathBuf,
}
