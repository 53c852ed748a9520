//! Tensors on a [`Device`], named ones on the host ([`host_tensor`]), how values are stored ([`number_format`]), the file
//! formats [`safetensors`] and [`gguf`], and SHA-256 of files ([`hash`]).

mod device;
pub mod gguf;
mod gpu_tensor;
pub mod hash;
pub mod host_tensor;
pub mod number_format;
mod operations;
mod plain;
pub mod safetensors;
#[expect(clippy::module_inception, reason = "the type of the same name stands in it")]
mod tensor;

pub use candle_core::{D, DType, Shape};
pub use device::Device;
pub use gpu_tensor::{Gpu, GpuTensor};
pub use host_tensor::{HostTensor, TensorPlan};
pub use number_format::NumberFormat;
pub use tensor::Tensor;

use crate::error::Result;

/// All values of a tensor in row-major order, converted to `f32` and copied to the host.
pub fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// The same of several tensors; a GPU that computes them is waited for once.
pub fn all_to_f32(tensors: &[&Tensor]) -> Result<Vec<Vec<f32>>> {
    let on_gpu = tensors.iter().map(|tensor| tensor.gpu().filter(|tensor| tensor.dtype() == DType::F32));
    match on_gpu.collect::<Option<Vec<_>>>() {
        Some(all) if !all.is_empty() => {
            Ok(GpuTensor::all_to_bytes(&all)?.iter().map(|bytes| number_format::floats(bytes)).collect())
        }
        _ => tensors.iter().map(|tensor| to_f32(tensor)).collect(),
    }
}

/// Logarithms of the softmax of one row.
pub fn log_softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|z| (z - max).exp()).sum::<f64>().ln() + max;
    row.iter().map(|z| z - log_sum).collect()
}
