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
