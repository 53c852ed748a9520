//! Residual add, dropout and layer normalisation in one pass, and its gradient.
//!
//! `y = γ (s - mean) / sqrt(var + ε) + β` over the last dimension, with `s = dropout(x) + residual`.

use super::host::{self, HostRef, HostView, Number, Shared, for_rows, for_rows2};
use super::residual::{self, sum_row};
use super::{Dropout, device, if_fast, is_fast, simd};
use crate::error::Result;
use candle_core::{D, DType, Tensor};

/// What the backward pass needs: the normalised values `[n, d]` and 1/σ of each row `[n]`.
#[derive(Clone, Debug)]
pub struct Saved {
    pub(super) normalized: Tensor,
    pub(super) rstd: Tensor,
}

impl Saved {
    /// The same with the normalised values in another format.
    pub fn kept_as(self, dtype: DType) -> Result<Self> {
        Ok(Self { normalized: Dropout::none().apply_as(&self.normalized, dtype)?, ..self })
    }
}

/// Gradients of a layer normalisation's input, and of γ and β where they are trained.
pub struct Grads {
    /// With respect to the sum that was normalised: the residual's gradient. `[n, d]`
    pub sum: Tensor,
    /// With respect to x, before its dropout; in memory of its own. `[n, d]`
    pub x: Tensor,
    /// With respect to γ. `[d]`
    pub gamma: Option<Tensor>,
    /// With respect to β. `[d]`
    pub beta: Option<Tensor>,
}

/// The scale, the shift and ε.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// γ. `[d]`
    pub gamma: &'a Tensor,
    /// β. `[d]`
    pub beta: &'a Tensor,
    /// Added to the variance.
    pub eps: f64,
}

/// `LayerNorm(dropout(x) + residual)`. x, residual `[n, d]` -> y `[n, d]`
pub fn forward(x: &Tensor, residual: Option<&Tensor>, drop: Dropout, norm: Affine<'_>) -> Result<(Tensor, Saved)> {
    if_fast!(x, fast_forward(x, residual, drop, norm));
    device::layer_norm_forward(x, residual, drop, norm)
}

#[expect(unsafe_code, reason = "a third output whose blocks of rows are as disjoint as those of the first")]
fn fast_forward<T: Number>(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Affine<'_>,
) -> Result<(Tensor, Saved)> {
    let (n, d) = x.dims2()?;
    let (xs, g, b) = (HostView::<T>::of(x)?, HostRef::of(norm.gamma)?, HostRef::of(norm.beta)?);
    let res = residual.map(HostView::<T>::of).transpose()?;
    let mut rstd = vec![0.0f32; n];
    let mut y: Vec<T> = Vec::new();
    let eps = norm.eps as f32;
    let normalized = host::overwritten(n * d, |normalized: &mut [T]| {
        y = host::overwritten(n * d, |y: &mut [T]| {
            let y = Shared::new(y);
            for_rows2((normalized, d), (&mut rstd, 1), |first, block, rstd| {
                // SAFETY: blocks of rows are disjoint and lie inside [n, d].
                let out = unsafe { y.piece(first * d, block.len()) };
                let mut row = vec![0.0f32; d];
                simd::vectors!(|| {
                    for (i, ((kept, out), rstd)) in
                        block.chunks_exact_mut(d).zip(out.chunks_exact_mut(d)).zip(rstd).enumerate()
                    {
                        let at = (first + i) * d;
                        sum_row(&mut row, &xs[at..at + d], res.as_ref().map(|r| &r[at..at + d]), drop, at);
                        let mean = simd::sum_map(&row, |v| v) / d as f32;
                        let var = simd::sum_map(&row, |v| (v - mean) * (v - mean)) / d as f32;
                        *rstd = 1.0 / (var + eps).sqrt();
                        for ((((&v, k), o), &g), &b) in row.iter().zip(kept).zip(out).zip(&g[..]).zip(&b[..]) {
                            let v = (v - mean) * *rstd;
                            *k = T::narrow(v);
                            *o = T::narrow(v * g + b);
                        }
                    }
                });
            });
        });
    });
    let saved = Saved { normalized: host::tensor(normalized, (n, d))?, rstd: host::tensor(rstd, n)? };
    Ok((host::tensor(y, (n, d))?, saved))
}

/// y once more, for whoever needs it in the backward pass and did not keep it. -> `[n, d]`
pub fn output(saved: &Saved, norm: Affine<'_>) -> Result<Tensor> {
    let normalized = &saved.normalized;
    if is_fast(norm.gamma) {
        if_fast!(normalized, fast_output(normalized, norm));
    }
    device::lm::layer_norm_output(saved, norm)
}

fn fast_output<T: Number>(normalized: &Tensor, norm: Affine<'_>) -> Result<Tensor> {
    let (xh, g, b) = (HostView::<T>::of(normalized)?, HostRef::of(norm.gamma)?, HostRef::of(norm.beta)?);
    let d = g.len();
    let y = host::overwritten(xh.len(), |y: &mut [T]| {
        for_rows(y, d, |first, block| {
            simd::vectors!(|| {
                for (i, row) in block.chunks_exact_mut(d).enumerate() {
                    let source = &xh[(first + i) * d..(first + i + 1) * d];
                    for (((o, &v), &g), &b) in row.iter_mut().zip(source).zip(&g[..]).zip(&b[..]) {
                        *o = T::narrow(v.wide() * g + b);
                    }
                }
            });
        });
    });
    host::tensor(y, normalized.shape())
}

/// Gradients of x and of the residual; `with_params` also asks for γ's and β's. dy `[n, d]`
pub fn backward(dy: &Tensor, saved: &Saved, gamma: &Tensor, drop: Dropout, with_params: bool) -> Result<Grads> {
    if saved.normalized.dtype() == dy.dtype() {
        if_fast!(dy, fast_backward(dy, saved, gamma, drop, with_params));
    }
    device::layer_norm_backward(dy, saved, gamma, drop, with_params)
}

#[expect(unsafe_code, reason = "a second output whose blocks of rows are as disjoint as those of the first")]
fn fast_backward<T: Number>(
    dy: &Tensor,
    saved: &Saved,
    gamma: &Tensor,
    drop: Dropout,
    with_params: bool,
) -> Result<Grads> {
    let (n, d) = dy.dims2()?;
    let (dys, xh, g) = (HostView::<T>::of(dy)?, HostView::<T>::of(&saved.normalized)?, HostRef::of(gamma)?);
    let rstd = HostRef::of(&saved.rstd)?;
    let mut sum: Vec<T> = Vec::new();
    let dx = host::overwritten(n * d, |dx: &mut [T]| {
        sum = host::overwritten(n * d, |sum: &mut [T]| {
            let sum = Shared::new(sum);
            for_rows(dx, d, |first, block| {
                // SAFETY: blocks of rows are disjoint and lie inside [n, d].
                let sums = unsafe { sum.piece(first * d, block.len()) };
                let (mut scaled, mut kept) = (vec![0.0f32; d], vec![0.0f32; d]);
                simd::vectors!(|| {
                    for (i, (row, sum)) in block.chunks_exact_mut(d).zip(sums.chunks_exact_mut(d)).enumerate() {
                        let at = (first + i) * d;
                        let (dy, xh) = (&dys[at..at + d], &xh[at..at + d]);
                        for (((o, k), (&dy, &h)), &g) in
                            scaled.iter_mut().zip(&mut kept).zip(dy.iter().zip(xh)).zip(&g[..])
                        {
                            *o = dy.wide() * g;
                            *k = h.wide();
                        }
                        let mean = simd::sum_map(&scaled, |v| v) / d as f32;
                        let along = simd::sum_map2(&scaled, &kept, |a, b| a * b) / d as f32;
                        let rstd = rstd[first + i];
                        let values = scaled.iter().zip(&kept).map(|(&v, &h)| (v - mean - h * along) * rstd);
                        if drop.active() {
                            for (j, ((x, o), v)) in row.iter_mut().zip(sum).zip(values).enumerate() {
                                *o = T::narrow(v);
                                *x = T::narrow(v * drop.factor((at + j) as u32));
                            }
                        } else {
                            for ((x, o), v) in row.iter_mut().zip(sum).zip(values) {
                                *o = T::narrow(v);
                                *x = *o;
                            }
                        }
                    }
                });
            });
        });
    });
    let (mut gamma_grad, mut beta_grad) = (None, None);
    if with_params {
        let scaled: Vec<f32> = dys.iter().zip(xh.iter()).map(|(a, b)| a.wide() * b.wide()).collect();
        gamma_grad = Some(host::tensor(host::column_sums(&scaled, d), d)?);
        beta_grad = Some(host::tensor(host::column_sums(&dys[..], d), d)?);
    }
    let (sum, x) = (host::tensor(sum, (n, d))?, host::tensor(dx, (n, d))?);
    Ok(Grads { sum, x, gamma: gamma_grad, beta: beta_grad })
}

/// Gradients of γ and β. dy `[n, d]` -> `[d]`, `[d]`
pub fn affine_grads(dy: &Tensor, saved: &Saved) -> Result<(Tensor, Tensor)> {
    if !is_fast(dy) {
        let dy = device::widen(dy)?;
        return Ok(((&dy * device::widen(&saved.normalized)?)?.sum(0)?, dy.sum(0)?));
    }
    let (_, d) = dy.dims2()?;
    let (dys, xh) = (HostRef::of(dy)?, HostRef::of(&saved.normalized)?);
    let scaled: Vec<f32> = dys.iter().zip(xh.iter()).map(|(a, b)| a * b).collect();
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
pub fn plain_backward(dy: &Tensor, saved: &Saved, gamma: &Tensor, drop: Dropout, with_params: bool) -> Result<Grads> {
    let scaled = dy.broadcast_mul(gamma)?;
    let along = (&scaled * &saved.normalized)?.mean_keepdim(D::Minus1)?;
    let centered = scaled.broadcast_sub(&scaled.mean_keepdim(D::Minus1)?)?;
    let inner = (centered - saved.normalized.broadcast_mul(&along)?)?;
    let sum = inner.broadcast_mul(&saved.rstd.unsqueeze(D::Minus1)?)?;
    let (mut gamma_grad, mut beta_grad) = (None, None);
    if with_params {
        let (gamma, beta) = affine_grads(dy, saved)?;
        (gamma_grad, beta_grad) = (Some(gamma), Some(beta));
    }
    let x = if drop.active() { (&sum * drop.mask(sum.dims(), &sum)?)? } else { sum.copy()? };
    Ok(Grads { sum, x, gamma: gamma_grad, beta: beta_grad })
}
