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

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};

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

/// An error, before anything is read, where a GPU's kernels do not take a model with heads and rows of these widths.
pub fn takes_model(device: &Device, head_dim: usize, width: usize) -> Result<()> {
    if device.is_cuda() { fits_kernels(head_dim, width) } else { Ok(()) }
}

fn fits_kernels(head_dim: usize, width: usize) -> Result<()> {
    if plan::Attention::fits(head_dim) && plan::Norm::fits(width) {
        return Ok(());
    }
    Err(Error::config(format!(
        "the GPU's kernels take heads of up to 128 values and rows of up to 12,288; this model's have {head_dim} and \
         {width}; choose device cpu"
    )))
}

/// The device's own name, with its number where it has one.
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "CPU".to_owned(),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => driver::name(gpu),
        other => format!("{:?}", other.location()),
    }
}

/// Free bytes and all bytes of the device's own memory; nothing where it has none.
pub fn memory(device: &Device) -> Option<(u64, u64)> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => driver::memory(gpu).map(|(free, all)| (free as u64, all as u64)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_the_kernels_do_not_take_are_refused_before_they_are_read() {
        for (head_dim, width) in [(64, 768), (128, 4096), (20, 12_288)] {
            assert!(fits_kernels(head_dim, width).is_ok());
        }
        for (head_dim, width) in [(256, 2048), (64, 16_384)] {
            let text = fits_kernels(head_dim, width).unwrap_err().to_string();
            assert!(text.contains(&head_dim.to_string()) && text.ends_with("choose device cpu"), "{text}");
        }
        assert!(takes_model(&Device::Cpu, 256, 16_384).is_ok());
    }
}
