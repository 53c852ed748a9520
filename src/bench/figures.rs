//! What a measurement says.

use serde::Serialize;

/// Median and extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the values are above, half below.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; zeros of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { 0.5 * (values[half - 1] + values[half]) };
        Self { median, min, max }
    }
}

/// Time of one phase.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PhaseTime {
    /// Its name.
    pub phase: &'static str,
    /// Milliseconds a step.
    pub ms: Spread,
    /// Of all the time of all timed steps, 0 to 1.
    pub share: f64,
}

/// `x Wᵀ` of one shape, in GFLOP/s. x `[rows, inner]`, W `[columns, inner]`
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProductRate {
    /// Rows of x.
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
    /// Who measured: `adamix`.
    pub tool: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The shape's name.
    pub shape: &'static str,
    /// The lengths in words.
    pub data: String,
    /// Number format of the trunk's products.
    pub dtype: &'static str,
    /// Format the trunk's matrices are held in; GGML's name where they are quantised.
    pub weights: &'static str,
    /// Where it ran.
    pub device: String,
    /// The device's own memory that was in use after the last step, by whomever; absent on the CPU.
    pub device_memory_mb: Option<f64>,
    /// CPU threads.
    pub threads: usize,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// M.
    pub num_experts: usize,
    /// r.
    pub adapter_size: usize,
    /// Times each batch went through.
    pub passes: usize,
    /// Whether layers were run again in the backward pass.
    pub recompute: bool,
    /// Timed steps.
    pub steps: usize,
    /// Mean tokens of a step, all passes counted.
    pub tokens_per_step: f64,
    /// Parameters of the trunk.
    pub trunk_parameters: usize,
    /// Seconds of a step: median.
    pub step_seconds: f64,
    /// Fastest step.
    pub step_seconds_min: f64,
    /// Slowest step.
    pub step_seconds_max: f64,
    /// Tokens a second through a whole training step, all passes counted: median over the steps.
    pub tokens_per_s: f64,
    /// Of the slowest step.
    pub tokens_per_s_min: f64,
    /// Of the fastest step.
    pub tokens_per_s_max: f64,
    /// Sequences a second, each counted once however often it goes through: median.
    pub sequences_per_s: f64,
    /// GFLOP/s of the work a frozen trunk is said to need (4 for each weight and token).
    pub gflops: f64,
    /// GFLOP/s of the trunk's products that were made, over the whole step.
    pub gflops_made: f64,
    /// The same over the time of the trunk's products alone.
    pub gflops_in_products: f64,
    /// What matrix products alone reach here in this number format, in GFLOP/s, measured before and after.
    pub gemm_gflops: f64,
    /// `gflops` over `gemm_gflops`.
    pub gemm_share: f64,
    /// `gflops_made` over `gemm_gflops`.
    pub gemm_share_made: f64,
    /// f32 products of the shape's matrices on the CPU; empty on another device.
    pub f32_products: Vec<ProductRate>,
    /// Where the time went.
    pub phases: Vec<PhaseTime>,
    /// Largest memory of this process.
    pub peak_rss_mb: f64,
    /// Memory of this process after the warm-up.
    pub steady_rss_mb: f64,
    /// Of these, the weights of trunk, mixture and head.
    pub weights_mb: f64,
    /// Largest memory, less the weights.
    pub peak_above_weights_mb: f64,
    /// Most bytes a timed step had in use beyond those in use before it; where allocations are counted.
    pub step_mb: Option<f64>,
    /// What [`crate::machine::estimate`] expects of the largest timed step.
    pub step_estimate_mb: f64,
    /// Allocations a step; where they are counted.
    pub allocations_per_step: Option<f64>,
    /// Bytes allocated a step, in MB; where they are counted.
    pub allocated_mb_per_step: Option<f64>,
    /// The last loss: a number, or something is broken.
    pub loss: f64,
}
