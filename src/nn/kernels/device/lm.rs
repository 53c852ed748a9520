//! Kernels of language models where the values are not f32 on the CPU: as [`super`].

use super::plan::{self, Segment};
use super::{half, widen};
use crate::error::{Error, Result};
use crate::nn::kernels::head_norm::{self, HeadNorm};
use crate::nn::kernels::layer_norm::{self, Affine};
use crate::nn::kernels::rms_norm::{self, Saved};
use crate::nn::kernels::rope::{self, Angles, Heads, Turn};
use crate::nn::kernels::vocab_loss::{Objective, Weights};
use crate::nn::kernels::{Act, Dropout, gated, gemm, residual};
use candle_core::{Device, Tensor};
use std::ops::Range;

#[cfg(feature = "cuda")]
use super::{cuda, lm_ops};

/// Whether the device of this tensor has kernels of its own for values of its format.
pub fn has_kernels(x: &Tensor) -> bool {
    #[cfg(feature = "cuda")]
    return cuda::takes(x);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = x;
        false
    }
}

/// An error, before anything is read, where a GPU's kernels do not take a model with heads and rows of these widths.
pub fn takes_model(device: &Device, head_dim: usize, width: usize) -> Result<()> {
    if device.is_cuda() { fits_kernels(head_dim, width) } else { Ok(()) }
}

fn fits_kernels(head_dim: usize, width: usize) -> Result<()> {
    if plan::Attention::fits(head_dim) && plan::LayerNorm::fits(width) {
        return Ok(());
    }
    Err(Error::config(format!(
        "the GPU's kernels take heads of up to 128 values and rows of up to 12,288; this model's have {head_dim} and \
         {width}; choose device cpu"
    )))
}

pub(in crate::nn::kernels) fn add(x: &Tensor, residual: Option<&Tensor>, drop: Dropout) -> Result<Tensor> {
    on_cuda!(x, lm_ops::add(x, residual, drop));
    if half(x) {
        let residual = residual.map(widen).transpose()?;
        return Ok(residual::add(&widen(x)?, residual.as_ref(), drop)?.to_dtype(x.dtype())?);
    }
    residual::plain_add(x, residual, drop)
}

pub(in crate::nn::kernels) fn accumulate(acc: Tensor, x: &Tensor) -> Result<Tensor> {
    on_cuda!(&acc, lm_ops::accumulate(acc, x));
    let x = x.to_dtype(acc.dtype())?;
    Ok((acc + x)?)
}

pub(in crate::nn::kernels) fn rms_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    gamma: &Tensor,
    eps: f64,
) -> Result<(Tensor, Saved)> {
    on_cuda!(x, lm_ops::rms_forward(x, residual, drop, gamma, eps));
    rms_norm::plain_forward(x, residual, drop, gamma, eps)
}

#[cfg_attr(not(feature = "cuda"), expect(clippy::needless_pass_by_value, reason = "a GPU changes it in place"))]
pub(in crate::nn::kernels) fn rms_backward(
    dy: &Tensor,
    dsum: Option<Tensor>,
    saved: &Saved,
    gamma: &Tensor,
) -> Result<Tensor> {
    on_cuda!(dy, lm_ops::rms_backward(dy, dsum, saved, gamma));
    rms_norm::plain_backward(dy, dsum.as_ref(), saved, gamma)
}

pub(in crate::nn::kernels) fn rms_output(saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    on_cuda!(&saved.sum, lm_ops::norm_output(&saved.sum, Some(&saved.rstd), gamma, None));
    let (sum, rstd) = (widen(&saved.sum)?, saved.rstd.unsqueeze(candle_core::D::Minus1)?);
    Ok(sum.broadcast_mul(&rstd)?.broadcast_mul(gamma)?.to_dtype(saved.sum.dtype())?)
}

pub(in crate::nn::kernels) fn layer_norm_output(saved: &layer_norm::Saved, norm: Affine<'_>) -> Result<Tensor> {
    let normalized = &saved.normalized;
    on_cuda!(normalized, lm_ops::norm_output(normalized, None, norm.gamma, Some(norm.beta)));
    Ok(widen(normalized)?.broadcast_mul(norm.gamma)?.broadcast_add(norm.beta)?.to_dtype(normalized.dtype())?)
}

pub(in crate::nn::kernels) fn head_norm_forward(x: &Tensor, norm: HeadNorm<'_>) -> Result<Tensor> {
    on_cuda!(x, lm_ops::head_norm_forward(x, norm));
    if half(x) {
        return Ok(head_norm::forward(&widen(x)?, norm)?.to_dtype(x.dtype())?);
    }
    head_norm::plain_forward(x, norm)
}

#[cfg_attr(not(feature = "cuda"), expect(clippy::needless_pass_by_value, reason = "a GPU changes it in place"))]
pub(in crate::nn::kernels) fn head_norm_backward(x: &Tensor, norm: HeadNorm<'_>, dy: Tensor) -> Result<Tensor> {
    on_cuda!(x, lm_ops::head_norm_backward(x, norm, dy));
    if half(x) {
        return Ok(head_norm::backward(&widen(x)?, norm, widen(&dy)?)?.to_dtype(dy.dtype())?);
    }
    head_norm::plain_backward(x, norm, &dy)
}

pub(in crate::nn::kernels) fn gated_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    on_cuda!(x, lm_ops::gated_forward(act, x));
    if half(x) {
        return Ok(gated::forward(act, &widen(x)?)?.to_dtype(x.dtype())?);
    }
    gated::plain_forward(act, x)
}

#[cfg_attr(not(feature = "cuda"), expect(clippy::needless_pass_by_value, reason = "a GPU changes it in place"))]
pub(in crate::nn::kernels) fn gated_backward(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    on_cuda!(dy, lm_ops::gated_backward(act, x, dy));
    if half(dy) {
        return Ok(gated::backward(act, widen(&x)?, &widen(dy)?)?.to_dtype(x.dtype())?);
    }
    gated::plain_backward(act, &x, dy)
}

#[cfg_attr(not(feature = "cuda"), expect(clippy::needless_pass_by_value, reason = "a GPU changes it in place"))]
pub(in crate::nn::kernels) fn rotate(
    x: Tensor,
    heads: Heads,
    angles: &Angles,
    positions: &[u32],
    turn: Turn,
) -> Result<Tensor> {
    on_cuda!(&x, lm_ops::rotate(x, heads, angles, positions, turn));
    if half(&x) {
        return Ok(rope::rotate(widen(&x)?, heads, angles, positions, turn)?.to_dtype(x.dtype())?);
    }
    rope::plain_rotate(&x, heads, angles, positions, turn)
}

/// `x Wᵀ` in f32. On a GPU x takes the format of W's values first. x `[n, in]`, w `[out, in]` -> `[n, out]`
pub fn logits(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    on_cuda!(w, lm_ops::logits(x, w));
    gemm::linear(&widen(x)?, w, None)
}

fn without_kernels<T>(x: &Tensor) -> Result<T> {
    Err(Error::internal(format!("no kernel for {:?} on {:?}", x.dtype(), x.device().location())))
}

/// The loss over a vocabulary in one launch for each chunk of rows, where the device [has kernels](has_kernels) for the
/// head, in whose format it multiplies; the host does not wait for it. -> the rows `[targets, 3]`, the gradients of hidden
/// states and head
pub(in crate::nn::kernels) fn vocab_loss(
    (hidden, head): (&Tensor, &Tensor),
    targets: &[u32],
    (objective, weights): (Objective, Weights),
    (chunks, with_head): (&[Range<usize>], bool),
) -> Result<(Tensor, Option<Tensor>, Option<Tensor>)> {
    on_cuda!(head, lm_ops::vocab_loss((hidden, head), targets, (objective, weights), (chunks, with_head)));
    let _ = (head, targets, objective, weights, chunks, with_head);
    without_kernels(hidden)
}

/// The loss of logits that are there whole, and its gradient on them, in one launch, where the device
/// [has kernels](has_kernels); the host does not wait for it. -> the rows `[targets, 3]`, the gradient as the logits
pub(in crate::nn::kernels) fn logits_loss(
    logits: &Tensor,
    targets: &[u32],
    (passes, weights): (usize, Weights),
) -> Result<(Tensor, Tensor)> {
    on_cuda!(logits, lm_ops::logits_loss(logits, targets, (passes, weights)));
    let _ = (targets, passes, weights);
    without_kernels(logits)
}

/// Of each row of logits the log probability of its target and the first of the likeliest tokens, as one list of pairs;
/// probabilities are added to `mixed`, if there is one. Without targets only the largest value's place is looked for.
/// Where the device [has kernels](has_kernels). z `[rows, vocab]`, mixed `[rows, vocab]` in f32
pub(in crate::nn::kernels) fn vocab_scores(
    z: &Tensor,
    targets: Option<&[u32]>,
    mixed: Option<&Tensor>,
) -> Result<Vec<f32>> {
    on_cuda!(z, lm_ops::vocab_scores(z, targets, mixed));
    let _ = (targets, mixed);
    without_kernels(z)
}

/// One product of some columns of x with some rows of each row's expert's matrix W, written into columns of `out`:
/// `out[block] (+)= scale x[block] Wᵀ`, or `scale x[block] W`.
#[derive(Clone, Debug)]
pub struct BlockProduct<'a> {
    /// Any of the kernels' formats. `[n, columns]`
    pub x: &'a Tensor,
    /// The columns that are read.
    pub x_columns: Range<usize>,
    /// f32. `[experts, rows, columns]`
    pub weight: &'a Tensor,
    /// The rows that are used.
    pub rows: Range<usize>,
    /// In any of the kernels' formats; changed in place, nobody else may hold its memory. `[n, columns]`
    pub out: &'a Tensor,
    /// The columns that are written.
    pub out_columns: Range<usize>,
    /// Multiply with W instead of its transpose.
    pub transposed: bool,
    /// Add to what `out` holds.
    pub add: bool,
    /// Factor.
    pub scale: f64,
}

/// Makes these products where the device [has kernels](has_kernels) for x and `out`. Segments cover each row once.
pub fn block_products(products: &[BlockProduct<'_>], segments: &[Segment], list: &[u32]) -> Result<()> {
    products.iter().try_for_each(|product| {
        on_cuda!(product.x, lm_ops::block_product(product, segments, list));
        let _ = (segments, list);
        without_kernels(product.x)
    })
}

/// The gradient of some rows of one expert's matrix: `out[rows] = scale dy[block]ᵀ x[block]`.
#[derive(Clone, Debug)]
pub struct BlockGrad<'a> {
    /// Any of the kernels' formats. `[n, columns]`
    pub dy: &'a Tensor,
    /// The columns that are read: as many as rows are written.
    pub dy_columns: Range<usize>,
    /// Any of the kernels' formats. `[n, columns]`
    pub x: &'a Tensor,
    /// The columns that are read: the width of `out`.
    pub x_columns: Range<usize>,
    /// f32, changed in place. `[rows, width]`
    pub out: &'a Tensor,
    /// First row that is written.
    pub row: usize,
    /// Factor.
    pub scale: f64,
}

/// Makes these gradients over one segment of rows where the device [has kernels](has_kernels) for x and `dy`.
pub fn block_grads(grads: &[BlockGrad<'_>], segment: Segment, list: &[u32]) -> Result<()> {
    grads.iter().try_for_each(|grad| {
        on_cuda!(grad.dy, lm_ops::block_grad(grad, segment, list));
        let _ = (segment, list);
        without_kernels(grad.dy)
    })
}

/// New tokens of texts that are written, in a device's memory.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens<'a> {
    /// Queries, keys and values side by side. `[n, (heads + 2 kv_heads) * head_dim]`
    pub qkv: &'a Tensor,
    /// Keys and values of everything that was read. `[rows, 2 kv_heads * head_dim]`
    pub pool: &'a Tensor,
    /// Of each new token: where its sequence starts in the list, the rows it sees, its own row; then the list of rows of
    /// all sequences. u32 `[3 n + rows]`
    pub words: &'a Tensor,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl NewTokens<'_> {
    /// Puts keys and values into their rows and, if asked, attends to the rows of their sequences.
    /// -> `[n, heads * head_dim]`
    pub fn remember(&self, attend: bool) -> Result<Option<Tensor>> {
        on_cuda!(self.qkv, lm_ops::remember(*self, attend));
        let _ = attend;
        without_kernels(self.qkv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_the_kernels_do_not_take_are_refused_before_they_are_read() {
        for (head_dim, width) in [(64, 768), (128, 4096), (20, 12_288)] {
            assert!(fits_kernels(head_dim, width).is_ok());
        }
        for (head_dim, width) in [(256, 2048), (64, 16_384)] {
            let text = fits_kernels(head_dim, width).unwrap_err().to_string();
            assert!(text.contains(&head_dim.to_string()) && text.ends_with("choose device cpu"), "{text}");
        }
        assert!(takes_model(&Device::Cpu, 256, 16_384).is_ok());
    }
}
