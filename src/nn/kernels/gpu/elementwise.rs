//! Nonlinearities, dropout and sums.

use super::{mask, of, operand};
use crate::error::{Error, Result};
use crate::gpu::kernels::elementwise;
use crate::nn::kernels::types::{Act, Dropout};
use crate::tensor::{DType, Tensor};

fn same(what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.elem_count() == b.elem_count() {
        return Ok(());
    }
    Err(Error::internal(format!("{what} of shapes that differ: {:?}, {:?}", a.dims(), b.dims())))
}

pub(in crate::nn::kernels) fn act_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let x = of(x)?;
    let y = x.like()?;
    x.gpu().run([elementwise::act_forward(act as u32, x.operand(), y.operand())])?;
    Ok(y.into())
}

/// `dy act'(x)` in dy's memory
pub(in crate::nn::kernels) fn act_backward(act: Act, x: &Tensor, dy: Tensor) -> Result<Tensor> {
    same("an activation's gradient", x, &dy)?;
    of(x)?.gpu().run([elementwise::act_backward(act as u32, operand(x)?, operand(&dy)?)])?;
    Ok(dy)
}

/// `dropout(x)` in a format
pub(in crate::nn::kernels) fn dropout(x: &Tensor, drop: Dropout, dtype: DType) -> Result<Tensor> {
    let x = of(x)?;
    let y = x.gpu().empty(x.shape().clone(), dtype)?;
    x.gpu().run([elementwise::add(x.operand(), None, y.operand(), mask(drop))])?;
    Ok(y.into())
}

/// `dropout(x) + residual` in the residual's format
pub(in crate::nn::kernels) fn add(x: &Tensor, residual: &Tensor, drop: Dropout) -> Result<Tensor> {
    same("a sum", x, residual)?;
    let (x, z) = (of(x)?, of(residual)?);
    let y = z.like()?;
    x.gpu().run([elementwise::add(x.operand(), Some(z.operand()), y.operand(), mask(drop))])?;
    Ok(y.into())
}

/// `acc + x` in acc's memory
pub(in crate::nn::kernels) fn accumulate(acc: Tensor, x: &Tensor) -> Result<Tensor> {
    same("a sum", &acc, x)?;
    let sum = operand(&acc)?;
    of(x)?.gpu().run([elementwise::add(operand(x)?, Some(sum), sum, mask(Dropout::none()))])?;
    Ok(acc)
}
