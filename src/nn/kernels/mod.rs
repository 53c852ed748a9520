//! Fused elementwise kernels and the GEMM entry points.
//!
//! Each kernel has one meaning and up to three versions: a *fast* one on the CPU for f32, most also for bf16 where the
//! processor multiplies it (slices, rayon over rows, loops the compiler vectorises for the instruction set found at run
//! time; sums are made in f32 and rounded once); one on NVIDIA GPUs ([`cuda`]); and a *plain* one from candle operations
//! for every device and format. The public function chooses; tests call all and compare. Where no fast version takes a
//! 16-bit format, it is computed in f32 and rounded once at the end.
//!
//! Work is cut into blocks of rows whose bounds depend on the shape alone, and each row is summed in a fixed
//! order, so results do not depend on the number of threads.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod cached_attention;
pub mod cuda;
pub mod device;
pub mod dropout;
pub mod gated;
pub mod gemm;
pub mod head_norm;
pub mod host;
pub mod layer_norm;
pub mod loss_rows;
pub mod quant;
pub mod residual;
pub mod rms_norm;
pub mod rope;
pub mod simd;
pub mod types;
pub mod vocab_loss;
pub mod vocab_scores;

pub use device::{is_fast, is_fast16};
pub use host::HostRef;
pub use types::{Act, Dropout};
