//! Products with quantised weights, which are widened to f32 while they are packed (rounded to bf16 for such activations).

use super::linear::{Rows, check_widened, fast_backward, fast_backward_add, fast_linear};
use super::operands::Widen;
use crate::error::{Error, Result};
use crate::nn::kernels::device::if_fast;
use candle_core::Tensor;

fn refused<T>(x: &Tensor) -> Result<T> {
    Err(Error::internal(format!("{:?} values on {:?} against quantised weights", x.dtype(), x.device().location())))
}

/// `x Wᵀ (+ b)`. x `[n, in]`, w `[out, in]`, b `[out]` -> `[n, out]`
pub fn widened_linear(x: &Tensor, w: &dyn Widen, b: Option<&Tensor>) -> Result<Tensor> {
    check_widened(x, w.dims().1)?;
    if_fast!(x, fast_linear(x, Rows::Widened(w), b));
    refused(x)
}

/// `dy W`. dy `[n, out]`, w `[out, in]` -> `[n, in]`
pub fn widened_backward(dy: &Tensor, w: &dyn Widen) -> Result<Tensor> {
    check_widened(dy, w.dims().0)?;
    if_fast!(dy, fast_backward(dy, Rows::Widened(w), None));
    refused(dy)
}

/// `acc + dy W`, reusing `acc`'s memory. dy `[n, out]`, w `[out, in]`, acc `[n, in]`
pub fn widened_backward_add(dy: &Tensor, w: &dyn Widen, acc: Tensor) -> Result<Tensor> {
    check_widened(dy, w.dims().0)?;
    if dy.dtype() == acc.dtype() {
        if_fast!(dy, fast_backward_add(dy, Rows::Widened(w), acc));
    }
    refused(dy)
}
