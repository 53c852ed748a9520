//! Residual add, dropout and layer normalisation in one pass, and its gradient.
//!
//! `y = γ (s - mean) / sqrt(var + ε) + β` over the last dimension, with `s = dropout(x) + residual`.

use super::host::{self, HostRef, for_rows, for_rows2};
use super::{Dropout, is_fast, simd};
use crate::error::Result;
use candle_core::{D, Tensor};

/// What the backward pass needs: the normalised values `[n, d]` and 1/σ of each row `[n]`.
#[derive(Clone, Debug)]
pub struct Saved {
    normalized: Tensor,
    rstd: Tensor,
}

/// Gradients of a layer normalisation's input, and of γ and β where they are trained.
pub struct Grads {
    /// With respect to the sum that was normalised. `[n, d]`
    pub sum: Tensor,
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
    if !is_fast(x) {
        return plain_forward(x, residual, drop, norm);
    }
    let (n, d) = x.dims2()?;
    let (xs, g, b) = (HostRef::of(x)?, HostRef::of(norm.gamma)?, HostRef::of(norm.beta)?);
    let res = residual.map(HostRef::of).transpose()?;
    let mut normalized = vec![0.0f32; n * d];
    let mut rstd = vec![0.0f32; n];
    let eps = norm.eps as f32;
    for_rows2((&mut normalized, d), (&mut rstd, 1), |first, block, rstd| {
        simd::vectorized(|| {
            for (i, (row, rstd)) in block.chunks_exact_mut(d).zip(rstd).enumerate() {
                let at = (first + i) * d;
                sum_row(row, &xs[at..at + d], res.as_ref().map(|r| &r[at..at + d]), drop, at);
                let mean = simd::sum_map(row, |v| v) / d as f32;
                let var = simd::sum_map(row, |v| (v - mean) * (v - mean)) / d as f32;
                *rstd = 1.0 / (var + eps).sqrt();
                for v in row.iter_mut() {
                    *v = (*v - mean) * *rstd;
                }
            }
        });
    });
    let mut y = vec![0.0f32; n * d];
    for_rows(&mut y, d, |first, block| {
        simd::vectorized(|| {
            for (i, row) in block.chunks_exact_mut(d).enumerate() {
                let source = &normalized[(first + i) * d..(first + i + 1) * d];
                for (((o, &v), &g), &b) in row.iter_mut().zip(source).zip(&g[..]).zip(&b[..]) {
                    *o = v * g + b;
                }
            }
        });
    });
    let saved = Saved { normalized: host::tensor(normalized, (n, d))?, rstd: host::tensor(rstd, n)? };
    Ok((host::tensor(y, (n, d))?, saved))
}

#[inline(always)]
fn sum_row(row: &mut [f32], x: &[f32], residual: Option<&[f32]>, drop: Dropout, at: usize) {
    if drop.active() {
        for (i, (o, &v)) in row.iter_mut().zip(x).enumerate() {
            *o = v * drop.factor((at + i) as u32);
        }
    } else {
        row.copy_from_slice(x);
    }
    if let Some(residual) = residual {
        for (o, &r) in row.iter_mut().zip(residual) {
            *o += r;
        }
    }
}

/// Gradient of the normalised sum; `with_params` also asks for γ's and β's. dy `[n, d]`
pub fn backward(dy: &Tensor, saved: &Saved, gamma: &Tensor, with_params: bool) -> Result<Grads> {
    if !is_fast(dy) {
        return plain_backward(dy, saved, gamma, with_params);
    }
    let (n, d) = dy.dims2()?;
    let (dys, xh, g) = (HostRef::of(dy)?, HostRef::of(&saved.normalized)?, HostRef::of(gamma)?);
    let rstd = HostRef::of(&saved.rstd)?;
    let mut dx = vec![0.0f32; n * d];
    for_rows(&mut dx, d, |first, block| {
        simd::vectorized(|| {
            for (i, row) in block.chunks_exact_mut(d).enumerate() {
                let at = (first + i) * d;
                let (dy, xh) = (&dys[at..at + d], &xh[at..at + d]);
                for ((o, &dy), &g) in row.iter_mut().zip(dy).zip(&g[..]) {
                    *o = dy * g;
                }
                let mean = simd::sum_map(row, |v| v) / d as f32;
                let along = simd::sum_map2(row, xh, |a, b| a * b) / d as f32;
                let rstd = rstd[first + i];
                for (o, &h) in row.iter_mut().zip(xh) {
                    *o = (*o - mean - h * along) * rstd;
                }
            }
        });
    });
    let (mut gamma_grad, mut beta_grad) = (None, None);
    if with_params {
        let scaled: Vec<f32> = dys.iter().zip(xh.iter()).map(|(a, b)| a * b).collect();
        gamma_grad = Some(host::tensor(host::column_sums(&scaled, d), d)?);
        beta_grad = Some(host::tensor(host::column_sums(&dys, d), d)?);
    }
    Ok(Grads { sum: host::tensor(dx, (n, d))?, gamma: gamma_grad, beta: beta_grad })
}

/// [`forward`] from candle operations.
pub fn plain_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Affine<'_>,
) -> Result<(Tensor, Saved)> {
    let mut sum = if drop.active() { (x * drop.mask(x.dims(), x)?)? } else { x.clone() };
    if let Some(residual) = residual {
        sum = (sum + residual)?;
    }
    let centered = sum.broadcast_sub(&sum.mean_keepdim(D::Minus1)?)?;
    let rstd = (centered.sqr()?.mean_keepdim(D::Minus1)? + norm.eps)?.sqrt()?.recip()?;
    let normalized = centered.broadcast_mul(&rstd)?;
    let y = normalized.broadcast_mul(norm.gamma)?.broadcast_add(norm.beta)?;
    Ok((y, Saved { normalized, rstd: rstd.squeeze(D::Minus1)? }))
}

/// [`backward`] from candle operations.
pub fn plain_backward(dy: &Tensor, saved: &Saved, gamma: &Tensor, with_params: bool) -> Result<Grads> {
    let scaled = dy.broadcast_mul(gamma)?;
    let along = (&scaled * &saved.normalized)?.mean_keepdim(D::Minus1)?;
    let centered = scaled.broadcast_sub(&scaled.mean_keepdim(D::Minus1)?)?;
    let inner = (centered - saved.normalized.broadcast_mul(&along)?)?;
    let sum = inner.broadcast_mul(&saved.rstd.unsqueeze(D::Minus1)?)?;
    let (mut gamma_grad, mut beta_grad) = (None, None);
    if with_params {
        gamma_grad = Some((dy * &saved.normalized)?.sum(0)?);
        beta_grad = Some(dy.sum(0)?);
    }
    Ok(Grads { sum, gamma: gamma_grad, beta: beta_grad })
}
