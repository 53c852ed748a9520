//! Fused elementwise kernels and the GEMM entry points.
//!
//! A kernel has up to four versions: *fast* on the CPU for f32, most also for bf16 where the processor multiplies it
//! (slices, rayon over rows, vectorised loops; sums in f32, rounded once); one on GPUs of any vendor (`gpu`); one on NVIDIA
//! GPUs through CUDA ([`cuda`]); and *plain*, from candle operations, for candle's devices and every format. The public
//! function chooses; tests compare them. Formats without a fast version are computed in f32 and rounded once.
//!
//! Blocks of rows depend on the shape alone and rows are summed in a fixed order: results do not depend on the threads.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod bottleneck;
pub mod cached_attention;
pub mod cuda;
pub mod device;
pub mod dropout;
pub mod gated;
pub mod gemm;
pub(crate) mod gpu;
pub mod head_norm;
pub mod host;
pub mod layer_norm;
pub mod loss_rows;
pub mod low_rank;
pub mod quant;
pub mod residual;
pub mod rms_norm;
pub mod rope;
pub mod routed;
pub mod simd;
pub mod types;
pub mod vocab_loss;
pub mod vocab_scores;

pub use device::{is_fast, is_fast16};
pub use host::HostRef;
pub use types::{Act, Dropout};
