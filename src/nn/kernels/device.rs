//! Which version of a kernel takes a tensor, and the number formats.
//!
//! On every device the frozen base model's matrices and activations have the base's format; vectors (biases, scales),
//! experts, heads, their gradients and the optimizer the [`wide`] one. Sums are made in f32 and rounded when stored.

use super::cuda::ops;
pub use super::cuda::requests::NewTokens;
pub use super::cuda::{has_kernels, memory, name, takes_model};
use super::simd;
use crate::error::Result;
use crate::tensor::to_f32;
use candle_core::{DType, Tensor};

/// Calls `$f::<format>($args)` where a fast version takes `$x`'s format.
macro_rules! if_fast {
    ($x:expr, $($f:ident)::+($($arg:expr),* $(,)?)) => {
        if $crate::nn::kernels::device::is_fast($x) {
            return $($f)::+::<f32>($($arg),*);
        } else if $crate::nn::kernels::device::is_fast16($x) {
            return $($f)::+::<half::bf16>($($arg),*);
        }
    };
}
pub(crate) use if_fast;

/// Whether the fast version for single precision applies: f32 on the CPU.
pub fn is_fast(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Whether the fast version for 16 bits applies: bf16 on a CPU that multiplies it.
pub fn is_fast16(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::BF16 && simd::multiplies_bf16()
}

/// Whether one of the fast versions applies.
pub fn takes_fast(x: &Tensor) -> bool {
    is_fast(x) || is_fast16(x)
}

/// The format of sums, vectors and experts beside a base model of format `dtype`: f32 for the 16-bit ones.
pub fn wide(dtype: DType) -> DType {
    match dtype {
        DType::BF16 | DType::F16 => DType::F32,
        other => other,
    }
}

/// The values in the [`wide`] format.
pub fn widen(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(wide(x.dtype()))?)
}

pub(super) fn half(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::BF16 | DType::F16)
}

/// Sum of the squares of all values of all tensors, in f64; the host waits for it. On a GPU it is one launch.
pub fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    if tensors.first().is_some_and(|first| has_kernels(first)) {
        return ops::sum_of_squares(tensors);
    }
    let mut sum = 0.0;
    for tensor in tensors {
        let values: Vec<f32> = to_f32(tensor)?;
        sum += values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    }
    Ok(sum)
}

/// Every tensor times a factor. On a GPU in place and in one launch: nobody else may hold the tensors' memory.
pub fn scale_all(tensors: &mut [&mut Tensor], factor: f64) -> Result<()> {
    if tensors.first().is_some_and(|first| has_kernels(first)) {
        return ops::scale_all(tensors, factor);
    }
    for tensor in tensors {
        **tensor = (&**tensor * factor)?;
    }
    Ok(())
}
