//! The driver of a build without the feature `cuda`: no tensor is on a GPU, so nothing is ever launched.

use super::launch::{Launch, Product};
use crate::error::{Error, Result};
use crate::tensor::{Device, Tensor};

fn absent<T>() -> Result<T> {
    Err(Error::internal("this build has no GPU kernels"))
}

/// Whether the device of this tensor has kernels of its own for values of its format.
pub fn has_kernels(_: &Tensor) -> bool {
    false
}

pub(super) fn address(_: &Tensor) -> Result<u64> {
    absent()
}

pub(super) fn launch(_: &Device, _: &Launch) -> Result<()> {
    absent()
}

pub(super) fn gemm(_: Product<'_>) -> Result<()> {
    absent()
}
