//! The kernels on a GPU of our own: each function makes launches of [`crate::gpu::kernels`] from tensors.

pub(super) mod attention;
pub(super) mod elementwise;
pub(super) mod experts;
pub(super) mod heads;
pub(super) mod linear;
pub(super) mod losses;
pub(super) mod norms;
pub(super) mod packed;
pub(super) mod update;

use super::types::Dropout;
use crate::error::{Error, Result};
use crate::gpu::Operand;
use crate::gpu::kernels::Mask;
use crate::tensor::{DType, GpuTensor, Tensor};

/// Returns from the function with the GPU's version where the tensor lies on one.
macro_rules! on_gpu {
    ($x:expr, $module:ident :: $f:ident($($arg:expr),* $(,)?)) => {
        if $x.device().is_gpu() {
            return $crate::nn::kernels::gpu::$module::$f($($arg),*);
        }
    };
}
pub(super) use on_gpu;

/// The tensor in the GPU's memory.
fn of(x: &Tensor) -> Result<&GpuTensor> {
    x.gpu().ok_or_else(|| Error::internal(format!("a kernel of the GPU was given a tensor on {}", x.device())))
}

/// Its values, as a kernel is given them.
fn operand(x: &Tensor) -> Result<Operand> {
    Ok(of(x)?.operand())
}

/// A vector, or a trained tensor: kernels read these in f32.
fn single(what: &str, x: &Tensor) -> Result<Operand> {
    if x.dtype() == DType::F32 {
        return operand(x);
    }
    Err(Error::internal(format!("{what} in {:?}; the GPU's kernels take it in f32", x.dtype())))
}

/// A dropout mask as kernels take it.
fn mask(drop: Dropout) -> Mask {
    let (key, threshold, scale) = drop.parts();
    Mask { key, threshold, scale }
}

/// Widest heads and rows that the kernels take; rows have no limit.
pub(super) const MOST: (usize, usize) = (crate::gpu::kernels::attention::Attention::MOST_HEAD_DIM, usize::MAX);
