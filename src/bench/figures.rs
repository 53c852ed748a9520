//! The results of a measurement.

use crate::gpu::Counters;
use serde::Serialize;

/// Median, smallest and largest value; zeros of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { 0.5 * (values[half - 1] + values[half]) };
        Self { median, min, max }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct PhaseTime {
    pub phase: &'static str,
    pub ms: Spread,
    /// Of all the time of all timed steps, 0 to 1.
    pub share: f64,
}

/// `x Wᵀ` of one shape, in GFLOP/s. x `[rows, inner]`, W `[columns, inner]`
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProductRate {
    pub rows: usize,
    /// Columns of x and W.
    pub inner: usize,
    /// Rows of W.
    pub columns: usize,
    /// Of the `gemm` crate: median of the rounds.
    pub gemm_crate: f64,
    /// Of the tiles; where the processor has none, of the crate again.
    pub ours: f64,
}

/// What came out. Memory is in MB (10^6 bytes).
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub tool: &'static str,
    pub version: &'static str,
    pub shape: &'static str,
    pub data: String,
    /// Number format of the base model's products.
    pub dtype: &'static str,
    /// Format the base model's matrices are held in; GGML's name where they are quantised.
    pub weights: &'static str,
    pub device: String,
    /// The device's own memory that was in use after the last step, by all programs; absent on the CPU.
    pub device_memory_mb: Option<f64>,
    pub threads: usize,
    pub batch_size: usize,
    pub num_experts: usize,
    pub adapter_size: usize,
    pub passes: usize,
    pub recompute: bool,
    pub steps: usize,
    /// Mean tokens of a step, all passes counted.
    pub tokens_per_step: f64,
    /// Of the frozen base model.
    pub trunk_parameters: usize,
    pub step_seconds: f64,
    pub step_seconds_min: f64,
    pub step_seconds_max: f64,
    /// All passes counted: median over the steps.
    pub tokens_per_s: f64,
    pub tokens_per_s_min: f64,
    pub tokens_per_s_max: f64,
    /// Sequences a second, each counted once however often it goes through: median.
    pub sequences_per_s: f64,
    /// GFLOP/s of the work that a frozen base model nominally needs (4 for each weight and token).
    pub gflops: f64,
    /// GFLOP/s of the base model's products that were made, over the whole step.
    pub gflops_made: f64,
    /// The same over the time of these products alone.
    pub gflops_in_products: f64,
    /// What matrix products alone reach here in this number format, in GFLOP/s, measured before and after.
    pub gemm_gflops: f64,
    pub gemm_share: f64,
    pub gemm_share_made: f64,
    /// f32 products of the shape's matrices on the CPU; empty on another device.
    pub f32_products: Vec<ProductRate>,
    pub phases: Vec<PhaseTime>,
    /// Resident memory of the process: largest, and after the warm-up.
    pub peak_rss_mb: f64,
    pub steady_rss_mb: f64,
    /// Of these, the weights of base model, mixture and head.
    pub weights_mb: f64,
    pub peak_above_weights_mb: f64,
    /// Most bytes a timed step had in use beyond those in use before it; where allocations are counted.
    pub step_mb: Option<f64>,
    /// What [`crate::machine::estimate`] expects of the largest timed step.
    pub step_estimate_mb: f64,
    /// Per step, where allocations are counted.
    pub allocations_per_step: Option<f64>,
    pub allocated_mb_per_step: Option<f64>,
    /// What the last step asked of a GPU of any vendor; absent elsewhere.
    pub asked: Option<Counters>,
    /// Of the last step.
    pub loss: f64,
}
