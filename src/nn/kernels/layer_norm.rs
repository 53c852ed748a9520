//! Residual add, dropout and layer normalisation in one pass, and its gradient.
//!
//! `y = γ (s - mean) / sqrt(var + ε) + β` over the last dimension, with `s = dropout(x) + residual`.

use super::cuda::on_cuda;
use super::device::{half, if_fast, is_fast, widen};
use super::gpu::norms::{Kept, Summed};
use super::gpu::{self, on_gpu};
use super::host::{self, HostRef, HostView, Number};
use super::residual::{self, sum_row};
use super::simd;
pub use super::types::Affine;
use super::types::Dropout;
use crate::error::{Error, Result};
use crate::tensor::{D, DType, Tensor};

/// What the backward pass needs: the normalised values `[n, d]` and 1/σ of each row `[n]`.
#[derive(Clone, Debug)]
pub struct Saved {
    normalized: Tensor,
    rstd: Tensor,
}

impl Saved {
    fn kept(&self) -> Kept<'_> {
        Kept { values: &self.normalized, rstd: &self.rstd }
    }

    /// The same with the normalised values in another format.
    fn kept_as(self, dtype: DType) -> Result<Self> {
        Ok(Self { normalized: Dropout::none().apply_as(&self.normalized, dtype)?, ..self })
    }
}

/// Gradients of a layer normalisation's input.
pub struct Grads {
    /// With respect to the sum that was normalised: the residual's gradient. `[n, d]`
    pub sum: Tensor,
    /// With respect to x, before its dropout; in memory of its own. `[n, d]`
    pub x: Tensor,
}

/// `LayerNorm(dropout(x) + residual)`. x, residual `[n, d]` -> y `[n, d]`
pub fn forward(x: &Tensor, residual: Option<&Tensor>, drop: Dropout, norm: Affine<'_>) -> Result<(Tensor, Saved)> {
    if_fast!(x, fast_forward(x, residual, drop, norm));
    if x.device().is_gpu() {
        let of = gpu::norms::layer_forward(Summed { x, residual, drop }, norm, x.dtype(), false)?;
        return Ok((of.y, Saved { normalized: of.kept, rstd: of.rstd }));
    }
    if super::cuda::takes_rows(x) {
        let (y, normalized, rstd) = super::cuda::ops::layer_norm_forward(x, residual, drop, norm)?;
        return Ok((y, Saved { normalized, rstd }));
    }
    if half(x) {
        let residual = residual.map(widen).transpose()?;
        let (y, saved) = forward(&widen(x)?, residual.as_ref(), drop, norm)?;
        return Ok((y.to_dtype(x.dtype())?, Saved { normalized: saved.normalized.to_dtype(x.dtype())?, ..saved }));
    }
    plain_forward(x, residual, drop, norm)
}

fn fast_forward<T: Number>(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Affine<'_>,
) -> Result<(Tensor, Saved)> {
    let (n, d) = x.dims2()?;
    let (xs, g, b) = (HostView::<T>::of(x)?, HostRef::of(norm.gamma)?, HostRef::of(norm.beta)?);
    let res = residual.map(HostView::<T>::of).transpose()?;
    let eps = norm.eps as f32;
    let ([normalized, y], [rstd]) = host::new_rows(n, [d, d], [1], |rows, [normalized, y], [rstd]| {
        host::scratch(d, |row| {
            simd::vectors!(|| {
                for at in rows.map(|row| row * d) {
                    sum_row(row, &xs[at..at + d], res.as_ref().map(|r| &r[at..at + d]), drop, at);
                    let mean = simd::sum_map(row, |v| v) / d as f32;
                    let var = simd::sum_map(row, |v| (v - mean) * (v - mean)) / d as f32;
                    let r = 1.0 / (var + eps).sqrt();
                    rstd.push(std::iter::once(r));
                    for v in row.iter_mut() {
                        *v = (*v - mean) * r;
                    }
                    normalized.push(row.iter().map(|&v| T::narrow(v)));
                    y.push(row.iter().zip(&g[..]).zip(&b[..]).map(|((&v, &g), &b)| T::narrow(v * g + b)));
                }
            });
        });
    });
    let saved = Saved { normalized: host::tensor(normalized, (n, d))?, rstd: host::tensor(rstd, n)? };
    Ok((host::tensor(y, (n, d))?, saved))
}

/// As [`forward`] with the sum as a stream in γ's format; y and what is saved have the format `activation_dtype`.
/// x, residual `[n, d]` -> y, sum `[n, d]`
pub fn forward_as(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Affine<'_>,
    activation_dtype: DType,
) -> Result<(Tensor, Tensor, Saved)> {
    if x.device().is_gpu() {
        let of = gpu::norms::layer_forward(Summed { x, residual, drop }, norm, activation_dtype, true)?;
        let sum = of.sum.ok_or_else(|| Error::internal("a sum that was asked for is not there"))?;
        return Ok((of.y, sum, Saved { normalized: of.kept, rstd: of.rstd }));
    }
    let sum = Dropout::none().apply_as(&residual::add(x, residual, drop)?, norm.gamma.dtype())?;
    let (y, saved) = forward(&sum, None, Dropout::none(), norm)?;
    Ok((Dropout::none().apply_as(&y, activation_dtype)?, sum, saved.kept_as(activation_dtype)?))
}

/// y recomputed for the backward pass. -> `[n, d]`
pub fn output(saved: &Saved, norm: Affine<'_>) -> Result<Tensor> {
    let normalized = &saved.normalized;
    if is_fast(norm.gamma) {
        if_fast!(normalized, fast_output(normalized, norm));
    }
    on_gpu!(normalized, norms::output(normalized, None, norm.gamma, Some(norm.beta)));
    on_cuda!(normalized, lm_ops::norm_output(normalized, None, norm.gamma, Some(norm.beta)));
    widen(normalized)?.broadcast_mul(norm.gamma)?.broadcast_add(norm.beta)?.to_dtype(normalized.dtype())
}

fn fast_output<T: Number>(normalized: &Tensor, norm: Affine<'_>) -> Result<Tensor> {
    let (xh, g, b) = (HostView::<T>::of(normalized)?, HostRef::of(norm.gamma)?, HostRef::of(norm.beta)?);
    let d = g.len();
    let y = host::new_matrix(xh.len() / d.max(1), d, |rows, y| {
        simd::vectors!(|| {
            for row in rows {
                let values = xh[row * d..(row + 1) * d].iter().zip(&g[..]).zip(&b[..]);
                y.push(values.map(|((&v, &g), &b)| T::narrow(v.wide() * g + b)));
            }
        });
    });
    host::tensor(y, normalized.shape())
}

/// Gradients of x and of the residual. dy `[n, d]`
pub fn backward(dy: &Tensor, saved: &Saved, gamma: &Tensor, drop: Dropout) -> Result<Grads> {
    if saved.normalized.dtype() == dy.dtype() {
        if_fast!(dy, fast_backward(dy, saved, gamma, drop));
    }
    if dy.device().is_gpu() {
        let (sum, x) = gpu::norms::layer_backward(dy, saved.kept(), gamma, drop)?;
        return Ok(Grads { sum, x });
    }
    if super::cuda::takes_rows(dy) {
        let (sum, x) = super::cuda::ops::layer_norm_backward(dy, [&saved.normalized, &saved.rstd], gamma, drop)?;
        return Ok(Grads { sum, x });
    }
    if half(dy) {
        let saved = Saved { normalized: widen(&saved.normalized)?, rstd: saved.rstd.clone() };
        let Grads { sum, x } = backward(&widen(dy)?, &saved, gamma, drop)?;
        return Ok(Grads { sum: sum.to_dtype(dy.dtype())?, x: x.to_dtype(dy.dtype())? });
    }
    plain_backward(dy, saved, gamma, drop)
}

fn fast_backward<T: Number>(dy: &Tensor, saved: &Saved, gamma: &Tensor, drop: Dropout) -> Result<Grads> {
    let (n, d) = dy.dims2()?;
    let (dys, xh, g) = (HostView::<T>::of(dy)?, HostView::<T>::of(&saved.normalized)?, HostRef::of(gamma)?);
    let rstd = HostRef::of(&saved.rstd)?;
    let ([sum, dx], []) = host::new_rows(n, [d, d], [], |rows, [sum, dx], []| {
        host::scratch(2 * d, |buffer| {
            let (scaled, kept) = buffer.split_at_mut(d);
            simd::vectors!(|| {
                for row in rows {
                    let (at, rstd) = (row * d, rstd[row]);
                    let (dy, xh) = (&dys[at..at + d], &xh[at..at + d]);
                    simd::update(kept, xh, |k, h| *k = h.wide());
                    for ((o, dy), &g) in scaled.iter_mut().zip(dy).zip(&g[..]) {
                        *o = dy.wide() * g;
                    }
                    let mean = simd::sum_map(scaled, |v| v) / d as f32;
                    let along = simd::sum_map2(scaled, kept, |a, b| a * b) / d as f32;
                    simd::update(scaled, kept, |v, h| *v = (*v - mean - h * along) * rstd);
                    let sum = sum.push(scaled.iter().map(|&v| T::narrow(v)));
                    if drop.active() {
                        let masked = scaled.iter().enumerate().map(|(j, v)| v * drop.factor((at + j) as u32));
                        dx.push(masked.map(T::narrow));
                    } else {
                        dx.push(sum.iter().copied());
                    }
                }
            });
        });
    });
    Ok(Grads { sum: host::tensor(sum, (n, d))?, x: host::tensor(dx, (n, d))? })
}

/// The gradient of the sum, added to `dsum` (what came back along the stream), whose memory is reused where possible; in γ's
/// format. dy, dsum `[n, d]` -> `[n, d]`
fn backward_add(dy: &Tensor, dsum: Option<Tensor>, saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    if dy.device().is_gpu() {
        return gpu::norms::backward_add(false, dy, dsum, saved.kept(), gamma);
    }
    let dx = backward(dy, saved, gamma, Dropout::none())?.sum;
    match dsum {
        Some(dsum) => residual::accumulate(dsum, &dx),
        None => Dropout::none().apply_as(&dx, gamma.dtype()),
    }
}

/// The same with the gradient of what was added to the stream, through its dropout, in a format.
pub fn backward_both(
    dy: &Tensor,
    dsum: Option<Tensor>,
    saved: &Saved,
    gamma: &Tensor,
    (drop, dtype): (Dropout, DType),
) -> Result<(Tensor, Tensor)> {
    if dy.device().is_gpu() {
        return gpu::norms::backward_both(false, dy, dsum, saved.kept(), gamma, (drop, dtype));
    }
    let sum = backward_add(dy, dsum, saved, gamma)?;
    let delta = drop.apply_as(&sum, dtype)?;
    Ok((sum, delta))
}

/// Gradients of γ and β. dy `[n, d]` -> `[d]`, `[d]`
pub fn affine_grads(dy: &Tensor, saved: &Saved) -> Result<(Tensor, Tensor)> {
    if saved.normalized.dtype() == dy.dtype() {
        if_fast!(dy, fast_affine_grads(dy, saved));
    }
    if dy.device().is_gpu() {
        return gpu::norms::affine_grads(dy, &saved.normalized, None).map(Into::into);
    }
    let dy = widen(dy)?;
    Ok(((&dy * widen(&saved.normalized)?)?.sum(0)?, dy.sum(0)?))
}

fn fast_affine_grads<T: Number>(dy: &Tensor, saved: &Saved) -> Result<(Tensor, Tensor)> {
    let ((_, d), dys, xh) = (dy.dims2()?, HostView::<T>::of(dy)?, HostView::<T>::of(&saved.normalized)?);
    let scaled: Vec<f32> = dys.iter().zip(&xh[..]).map(|(a, b)| a.wide() * b.wide()).collect();
    Ok((host::tensor(host::column_sums(&scaled, d), d)?, host::tensor(host::column_sums(&dys, d), d)?))
}

/// [`forward`] from candle operations.
pub fn plain_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Affine<'_>,
) -> Result<(Tensor, Saved)> {
    let sum = residual::plain_add(x, residual, drop)?;
    let centered = sum.broadcast_sub(&sum.mean_keepdim(D::Minus1)?)?;
    let rstd = (centered.sqr()?.mean_keepdim(D::Minus1)? + norm.eps)?.sqrt()?.recip()?;
    let normalized = centered.broadcast_mul(&rstd)?;
    let y = normalized.broadcast_mul(norm.gamma)?.broadcast_add(norm.beta)?;
    Ok((y, Saved { normalized, rstd: rstd.squeeze(D::Minus1)? }))
}

/// [`backward`] from candle operations.
pub fn plain_backward(dy: &Tensor, saved: &Saved, gamma: &Tensor, drop: Dropout) -> Result<Grads> {
    let scaled = dy.broadcast_mul(gamma)?;
    let along = (&scaled * &saved.normalized)?.mean_keepdim(D::Minus1)?;
    let centered = scaled.broadcast_sub(&scaled.mean_keepdim(D::Minus1)?)?;
    let inner = (centered - saved.normalized.broadcast_mul(&along)?)?;
    let sum = inner.broadcast_mul(&saved.rstd.unsqueeze(D::Minus1)?)?;
    let x = if drop.active() { (&sum * drop.mask(sum.dims(), &sum)?)? } else { sum.copy()? };
    Ok(Grads { sum, x })
}
