//! Tensors on the host ([`host_tensor`]), how values are stored ([`number_format`]), the file formats [`safetensors`] and
//! [`gguf`], and SHA-256 of files ([`hash`]).

pub mod gguf;
pub mod hash;
pub mod host_tensor;
pub mod number_format;
pub mod safetensors;

pub use host_tensor::{HostTensor, TensorPlan};
pub use number_format::NumberFormat;

use crate::error::Result;
use candle_core::{DType, Tensor};

/// All values of a tensor in row-major order, converted to `f32` and copied to the host.
pub fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Logarithms of the softmax of one row.
pub fn log_softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|z| (z - max).exp()).sum::<f64>().ln() + max;
    row.iter().map(|z| z - log_sum).collect()
}
