//! Fused elementwise kernels and the GEMM entry points.
//!
//! Each kernel comes in two versions with one meaning: a *fast* one on the CPU for f32, most also for bf16 where
//! the processor multiplies it (slices, rayon over rows, loops the compiler vectorises for the instruction set found
//! at run time; sums are made in f32 and rounded once), and a *plain* one from candle operations, which serves every device and dtype; NVIDIA GPUs have kernels of their own ([`device`]). The
//! public function picks; tests call all and compare. Kernels know nothing of layers, models or parameters.
//!
//! Work is cut into blocks of rows whose bounds depend on the shape alone, and each row is summed in a fixed
//! order, so results do not depend on the number of threads.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod cached_attention;
pub mod device;
pub mod dropout;
pub mod gated;
pub mod gemm;
pub mod head_norm;
pub mod host;
pub mod layer_norm;
pub mod loss;
pub mod loss_rows;
pub mod low_rank;
pub mod quant;
pub mod residual;
pub mod rms_norm;
pub mod rope;
pub mod routed;
pub mod simd;
pub mod vocab_loss;
pub mod vocab_scores;

pub use activation::Act;
pub use dropout::Dropout;
pub use host::HostRef;

use candle_core::{DType, Tensor};

/// Whether the fast version for 16 bits applies: bf16 on a CPU that multiplies it.
pub fn is_fast16(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::BF16 && gemm::multiplies_bf16()
}

/// Calls `$f::<format>($args)` where a fast version takes `$x`'s format.
macro_rules! if_fast {
    ($x:expr, $f:ident($($arg:expr),* $(,)?)) => {
        if $crate::nn::kernels::is_fast($x) {
            return $f::<f32>($($arg),*);
        } else if $crate::nn::kernels::is_fast16($x) {
            return $f::<half::bf16>($($arg),*);
        }
    };
}
pub(crate) use if_fast;

/// Whether the fast version for single precision applies: f32 on the CPU.
pub fn is_fast(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}
