//! NVIDIA GPUs: fused kernels in CUDA C (`*.cu`, `common.h`), compiled at first use.
//!
//! [`launch`], [`plan`], [`lm_plan`] and [`requests`] describe launches as values, which the tests run on the host; `ops`
//! and `lm_ops` make them from tensors; `driver` compiles and launches them, or refuses to without the feature `cuda`.

#[cfg(feature = "cuda")]
pub mod driver;
#[cfg(not(feature = "cuda"))]
#[path = "no_driver.rs"]
mod driver;
pub mod launch;
pub(super) mod lm_ops;
pub mod lm_plan;
pub(super) mod ops;
pub mod plan;
pub mod requests;

pub use driver::has_kernels;

use crate::tensor::{Device, Tensor};

/// Returns from the function with the GPU's version where it takes this tensor.
macro_rules! on_cuda {
    ($x:expr, $module:ident :: $f:ident($($arg:expr),* $(,)?)) => {
        if $crate::nn::kernels::cuda::has_kernels($x) {
            return $crate::nn::kernels::cuda::$module::$f($($arg),*);
        }
    };
}
pub(super) use on_cuda;

/// As [`has_kernels`], for the normalisation of x's rows.
pub(super) fn takes_rows(x: &Tensor) -> bool {
    has_kernels(x) && x.dims().last().is_some_and(|&d| plan::Norm::fits(d))
}

/// As [`has_kernels`], for attention with heads of this width.
pub(super) fn takes_heads(x: &Tensor, head_dim: usize) -> bool {
    has_kernels(x) && plan::Attention::fits(head_dim)
}

/// Widest heads and rows that the kernels take.
pub(super) const MOST: (usize, usize) = (plan::Attention::MOST_HEAD, plan::Norm::MOST);

/// The device's own name, with its number where it has one.
pub fn name(device: &Device) -> String {
    #[cfg(feature = "cuda")]
    if let Ok(candle_core::Device::Cuda(gpu)) = device.candle() {
        return driver::name(gpu);
    }
    if device.is_cpu() { "CPU".to_owned() } else { device.to_string() }
}

/// Free bytes and all bytes of the device's own memory; nothing where it has none.
pub fn memory(device: &Device) -> Option<(u64, u64)> {
    match device.candle() {
        #[cfg(feature = "cuda")]
        Ok(candle_core::Device::Cuda(gpu)) => driver::memory(gpu).map(|(free, all)| (free as u64, all as u64)),
        _ => None,
    }
}
