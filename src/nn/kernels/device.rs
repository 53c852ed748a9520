//! Which version of a kernel takes a tensor, and the number formats.
//!
//! On every device the frozen base model's matrices and activations have the base's format; vectors (biases, scales),
//! experts, heads, their gradients and the optimizer the [`wide`] one. Sums are made in f32 and rounded when stored.

pub use super::cuda::requests::NewTokens;
use super::cuda::{self, ops};
use super::{gpu, simd};
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Tensor, to_f32};

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
    x.to_dtype(wide(x.dtype()))
}

pub(super) fn half(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::BF16 | DType::F16)
}

/// Whether the device of this tensor has kernels of its own for values of its format, and is not waited for.
pub fn has_kernels(x: &Tensor) -> bool {
    x.device().is_gpu() || cuda::has_kernels(x)
}

/// An error, before anything is read, where a GPU's kernels do not take a model with heads and rows of these widths.
pub fn takes_model(device: &Device, head_dim: usize, width: usize) -> Result<()> {
    let (most_head, most_width) = match device {
        Device::Cpu => return Ok(()),
        Device::Cuda(_) => cuda::MOST,
        Device::Gpu(_) => gpu::MOST,
    };
    if head_dim <= most_head && width <= most_width {
        return Ok(());
    }
    Err(Error::config(format!(
        "the GPU's kernels take heads of up to {most_head} values and rows of up to {most_width}; this model's have \
         {head_dim} and {width}; choose device cpu"
    )))
}

/// The device's own name, with its number where it has one.
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "CPU".to_owned(),
        Device::Cuda(_) => cuda::name(device),
        Device::Gpu(gpu) => format!("{} ({device})", gpu.backend().facts().name),
    }
}

/// Free bytes and all bytes of the device's own memory; nothing where it has none, or does not tell.
pub fn memory(device: &Device) -> Option<(u64, u64)> {
    match device {
        Device::Cpu => None,
        Device::Cuda(_) => cuda::memory(device),
        Device::Gpu(gpu) => {
            let (all, held) = (gpu.backend().facts().memory?, gpu.backend().memory().used);
            Some((all.saturating_sub(held), all))
        }
    }
}

/// The norm of some tensors together, which a GPU may still be computing.
pub enum PendingNorm {
    /// On the host.
    Host(f64),
    /// Its square, on a GPU. `[1]`
    Device(Tensor),
}

impl PendingNorm {
    /// Of these tensors.
    pub fn of(tensors: &[&Tensor]) -> Result<Self> {
        match tensors.first() {
            Some(first) if first.device().is_gpu() => gpu::update::squares(tensors).map(Self::Device),
            _ => Ok(Self::Host(sum_of_squares(tensors)?.sqrt())),
        }
    }

    /// What has to be read before the value is known.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Host(_) => None,
            Self::Device(square) => Some(square),
        }
    }

    /// The norm, in f64; `square`: the values of [`PendingNorm::tensor`].
    pub fn value(&self, square: Option<Vec<f32>>) -> f64 {
        match self {
            Self::Host(norm) => *norm,
            Self::Device(_) => square.and_then(|square| square.first().copied()).map_or(0.0, f64::from).sqrt(),
        }
    }
}

/// Sum of the squares of all values of all tensors, in f64; the host waits for it. On a GPU it is one launch.
fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
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
    match tensors.first() {
        Some(first) if first.device().is_gpu() => return gpu::update::scale_all(tensors, factor),
        Some(first) if has_kernels(first) => return ops::scale_all(tensors, factor),
        _ => {}
    }
    for tensor in tensors {
        **tensor = (&**tensor * factor)?;
    }
    Ok(())
}
