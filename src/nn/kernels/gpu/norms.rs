//! Normalisations of rows.

use super::{mask, of, operand, single};
use crate::error::Result;
use crate::gpu::Operand;
use crate::gpu::kernels::norm::{AffineGrads, Backward, Forward, Kind, Output};
use crate::gpu::kernels::reduce::{Columns, column_scratch, column_sums};
use crate::nn::kernels::types::{Affine, Dropout};
use crate::tensor::{DType, GpuTensor, Tensor};

/// What is normalised: x through its dropout, and what is added to it.
#[derive(Clone, Copy)]
pub(in crate::nn::kernels) struct Summed<'a> {
    /// `[n, d]`
    pub x: &'a Tensor,
    /// `[n, d]`
    pub residual: Option<&'a Tensor>,
    /// Of x.
    pub drop: Dropout,
}

/// What a normalisation gives. `[n, d]` each, rstd `[n]`
pub(in crate::nn::kernels) struct Normalized {
    /// The output.
    pub y: Tensor,
    /// `dropout(x) + residual` in f32, where it was asked for.
    pub sum: Option<Tensor>,
    /// For the backward pass: the normalised values, or (RMS) the sum.
    pub kept: Tensor,
    /// 1/σ or 1/rms of each row.
    pub rstd: Tensor,
}

/// Layer normalisation; y and what is kept have the format `dtype`. `with_sum`: the sum in f32 is wanted too.
pub(in crate::nn::kernels) fn layer_forward(
    from: Summed<'_>,
    norm: Affine<'_>,
    dtype: DType,
    with_sum: bool,
) -> Result<Normalized> {
    let vectors = [Some(single("γ", norm.gamma)?), Some(single("β", norm.beta)?)];
    forward(Kind::Layer, from, vectors, norm.eps, dtype, with_sum)
}

/// Normalisation by the root of the mean square; y has the format `dtype`, the sum is f32.
pub(in crate::nn::kernels) fn rms_forward(
    from: Summed<'_>,
    gamma: &Tensor,
    eps: f64,
    dtype: DType,
) -> Result<Normalized> {
    forward(Kind::Rms, from, [Some(single("γ", gamma)?), None], eps, dtype, true)
}

fn forward(
    kind: Kind,
    from: Summed<'_>,
    [gamma, beta]: [Option<Operand>; 2],
    eps: f64,
    dtype: DType,
    with_sum: bool,
) -> Result<Normalized> {
    let ((n, d), x) = (from.x.dims2()?, of(from.x)?);
    let gpu = x.gpu();
    // Where nothing is added or dropped and the format is the stream's, the sum is x itself.
    let same = from.residual.is_none() && !from.drop.active() && from.x.dtype() == DType::F32;
    let sum = match (with_sum, same) {
        (false, _) => None,
        (true, true) => Some(x.clone()),
        (true, false) => Some(gpu.empty((n, d), DType::F32)?),
    };
    let (y, rstd) = (gpu.empty((n, d), dtype)?, gpu.empty(n, DType::F32)?);
    // A sum that is kept in its own format is kept once.
    let kept = match &sum {
        Some(sum) if kind == Kind::Rms && dtype == DType::F32 => sum.clone(),
        _ => gpu.empty((n, d), dtype)?,
    };
    let kept_apart = kind == Kind::Layer || dtype != DType::F32;
    let shape = Forward {
        kind,
        x: x.operand(),
        residual: from.residual.map(operand).transpose()?,
        gamma: gamma.unwrap_or(x.operand()),
        beta,
        y: y.operand(),
        kept: kept_apart.then(|| kept.operand()),
        rstd: rstd.operand(),
        sum: sum.as_ref().filter(|_| !same).map(GpuTensor::operand),
        n,
        d,
        eps: eps as f32,
    };
    gpu.run([shape.launch(mask(from.drop))])?;
    Ok(Normalized { y: y.into(), sum: sum.map(Tensor::from), kept: kept.into(), rstd: rstd.into() })
}

/// What was kept of a normalisation.
#[derive(Clone, Copy)]
pub(in crate::nn::kernels) struct Kept<'a> {
    /// The normalised values, or (RMS) the sum. `[n, d]`
    pub values: &'a Tensor,
    /// `[n]`
    pub rstd: &'a Tensor,
}

/// Layer normalisation: the gradients of the sum and of what came before the dropout.
pub(in crate::nn::kernels) fn layer_backward(
    dy: &Tensor,
    kept: Kept<'_>,
    gamma: &Tensor,
    drop: Dropout,
) -> Result<(Tensor, Tensor)> {
    let from = of(dy)?;
    let (sum, x) = (from.like()?, from.like()?);
    let shape =
        Backward { dsum: Some(sum.operand()), dx: Some(x.operand()), ..backward(Kind::Layer, dy, kept, gamma)? };
    from.gpu().run([shape.launch(mask(drop))])?;
    Ok((sum.into(), x.into()))
}

/// Adds the gradient of the sum to `dsum`, in place; without one: in new memory, in f32. -> the gradient of the sum
pub(in crate::nn::kernels) fn backward_add(
    rms: bool,
    dy: &Tensor,
    dsum: Option<Tensor>,
    kept: Kept<'_>,
    gamma: &Tensor,
) -> Result<Tensor> {
    add_to(rms, dy, dsum, (kept, gamma), None)
}

/// The same with the gradient of what was added to the sum, through its dropout and in a format, made in the same go.
pub(in crate::nn::kernels) fn backward_both(
    rms: bool,
    dy: &Tensor,
    dsum: Option<Tensor>,
    kept: Kept<'_>,
    gamma: &Tensor,
    (drop, dtype): (Dropout, DType),
) -> Result<(Tensor, Tensor)> {
    let from = of(dy)?;
    let delta = from.gpu().empty(from.shape().clone(), dtype)?;
    let sum = add_to(rms, dy, dsum, (kept, gamma), Some((&delta, drop)))?;
    Ok((sum, delta.into()))
}

fn add_to(
    rms: bool,
    dy: &Tensor,
    dsum: Option<Tensor>,
    (kept, gamma): (Kept<'_>, &Tensor),
    through: Option<(&GpuTensor, Dropout)>,
) -> Result<Tensor> {
    let kind = if rms { Kind::Rms } else { Kind::Layer };
    let from = of(dy)?;
    let add = dsum.as_ref().map(operand).transpose()?;
    let out = match dsum {
        Some(dsum) => dsum,
        None => from.gpu().empty(from.shape().clone(), DType::F32)?.into(),
    };
    let dx = through.map(|(delta, _)| delta.operand());
    let shape = Backward { add, dsum: Some(operand(&out)?), dx, ..backward(kind, dy, kept, gamma)? };
    from.gpu().run([shape.launch(mask(through.map_or_else(Dropout::none, |(_, drop)| drop)))])?;
    Ok(out)
}

fn backward(kind: Kind, dy: &Tensor, kept: Kept<'_>, gamma: &Tensor) -> Result<Backward> {
    let (n, d) = dy.dims2()?;
    Ok(Backward {
        kind,
        dy: operand(dy)?,
        gamma: single("γ", gamma)?,
        kept: operand(kept.values)?,
        rstd: operand(kept.rstd)?,
        add: None,
        dsum: None,
        dx: None,
        n,
        d,
    })
}

/// A normalisation's output once more, in the format of what was kept. `rstd`: of normalisation by the root of the mean square
pub(in crate::nn::kernels) fn output(
    values: &Tensor,
    rstd: Option<&Tensor>,
    gamma: &Tensor,
    beta: Option<&Tensor>,
) -> Result<Tensor> {
    let ((n, d), kept) = (values.dims2()?, of(values)?);
    let y = kept.like()?;
    let shape = Output {
        kept: kept.operand(),
        rstd: rstd.map(operand).transpose()?,
        gamma: single("γ", gamma)?,
        beta: beta.map(|beta| single("β", beta)).transpose()?,
        y: y.operand(),
        n,
        d,
    };
    kept.gpu().run([shape.launch()])?;
    Ok(y.into())
}

/// The gradients of γ and, of layer normalisation, of β. `[d]` each
pub(in crate::nn::kernels) fn affine_grads(dy: &Tensor, values: &Tensor, rstd: Option<&Tensor>) -> Result<[Tensor; 2]> {
    let ((n, d), from) = (dy.dims2()?, of(dy)?);
    let gpu = from.gpu();
    let vector = |len: usize| gpu.empty(len, DType::F32);
    let (gamma, beta, scratch) = (vector(d)?, vector(d)?, vector(2 * column_scratch(n, d))?);
    let shape = AffineGrads {
        dy: from.operand(),
        kept: operand(values)?,
        rstd: rstd.map(operand).transpose()?,
        dgamma: gamma.operand(),
        dbeta: rstd.is_none().then(|| beta.operand()),
        scratch: scratch.operand(),
        n,
        d,
    };
    gpu.run(shape.launches())?;
    Ok([gamma.into(), beta.into()])
}

/// Sums of columns, in f32. `[n, d] -> [d]`
pub(in crate::nn::kernels) fn column_sum(x: &Tensor) -> Result<Tensor> {
    let ((n, d), from) = (x.dims2()?, of(x)?);
    let (sums, scratch) = (from.gpu().empty(d, DType::F32)?, from.gpu().empty(column_scratch(n, d), DType::F32)?);
    let columns = Columns {
        x: from.operand(),
        factor: None,
        row_factor: None,
        products: None,
        sums: Some(sums.operand()),
        scratch: scratch.operand(),
        n,
        d,
    };
    from.gpu().run(column_sums(columns))?;
    Ok(sums.into())
}
