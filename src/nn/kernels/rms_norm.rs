//! Residual add, dropout and root-mean-square normalisation in one pass, and its gradient.
//!
//! `y = γ s / sqrt(mean(s²) + ε)` over the last dimension, with `s = dropout(x) + residual`. The sum itself goes on
//! as the residual stream of a pre-norm block, so it is returned, and the backward pass takes its gradient too.

use super::host::{self, HostRef, for_rows, for_rows3};
use super::{Dropout, is_fast, residual, simd};
use crate::error::Result;
use candle_core::{D, Tensor};

/// The sum that was normalised `[n, d]` and 1/rms of each row `[n]`: what goes on, and what the backward pass needs.
#[derive(Clone, Debug)]
pub struct Saved {
    /// `dropout(x) + residual`. `[n, d]`
    pub sum: Tensor,
    rstd: Tensor,
}

/// `RMSNorm(dropout(x) + residual)`. x, residual `[n, d]`, gamma `[d]` -> y `[n, d]`
pub fn forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    gamma: &Tensor,
    eps: f64,
) -> Result<(Tensor, Saved)> {
    if !is_fast(x) {
        return plain_forward(x, residual, drop, gamma, eps);
    }
    let (n, d) = x.dims2()?;
    let (xs, g) = (HostRef::of(x)?, HostRef::of(gamma)?);
    let res = residual.map(HostRef::of).transpose()?;
    let changed = res.is_some() || drop.active();
    let mut rstd = vec![0.0f32; n];
    let mut sum = Vec::new();
    let eps = eps as f32;
    let y = host::overwritten(n * d, |y| {
        if !changed {
            return host::for_rows2((y, d), (&mut rstd, 1), |first, y, rstd| {
                simd::vectors!(|| {
                    for (i, (y, rstd)) in y.chunks_exact_mut(d).zip(rstd).enumerate() {
                        *rstd = normalize(&xs[(first + i) * d..(first + i + 1) * d], &g, eps, y);
                    }
                });
            });
        }
        sum = host::overwritten(n * d, |sum| {
            for_rows3((sum, d), (y, d), (&mut rstd, 1), |first, sum, y, rstd| {
                simd::vectors!(|| {
                    let rows = sum.chunks_exact_mut(d).zip(y.chunks_exact_mut(d)).zip(rstd);
                    for (i, ((sum, y), rstd)) in rows.enumerate() {
                        let at = (first + i) * d;
                        residual::sum_row(sum, &xs[at..at + d], res.as_ref().map(|r| &r[at..at + d]), drop, at);
                        *rstd = normalize(sum, &g, eps, y);
                    }
                });
            });
        });
    });
    let sum = if changed { host::tensor(sum, (n, d))? } else { x.clone() };
    Ok((host::tensor(y, (n, d))?, Saved { sum, rstd: host::tensor(rstd, n)? }))
}

/// One row; returns its 1/rms.
#[inline(always)]
fn normalize(source: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) -> f32 {
    let rstd = 1.0 / (simd::sum_map(source, |v| v * v) / source.len() as f32 + eps).sqrt();
    for ((o, &v), &g) in out.iter_mut().zip(source).zip(gamma) {
        *o = v * rstd * g;
    }
    rstd
}

/// y once more, for whoever needs it in the backward pass and did not keep it. -> `[n, d]`
pub fn output(saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    if !is_fast(&saved.sum) {
        return Ok(saved.sum.broadcast_mul(&saved.rstd.unsqueeze(D::Minus1)?)?.broadcast_mul(gamma)?);
    }
    let (n, d) = saved.sum.dims2()?;
    let (sum, rstd, g) = (HostRef::of(&saved.sum)?, HostRef::of(&saved.rstd)?, HostRef::of(gamma)?);
    let y = host::overwritten(n * d, |y| {
        for_rows(y, d, |first, block| {
            simd::vectors!(|| {
                for (i, row) in block.chunks_exact_mut(d).enumerate() {
                    let (source, rstd) = (&sum[(first + i) * d..(first + i + 1) * d], rstd[first + i]);
                    for ((o, &v), &g) in row.iter_mut().zip(source).zip(&g[..]) {
                        *o = v * rstd * g;
                    }
                }
            });
        });
    });
    host::tensor(y, (n, d))
}

/// Gradient of the sum: the norm's, added to `dsum` (what came back along the residual stream), whose memory is reused
/// where possible: nobody else may hold it. dy, dsum `[n, d]` -> `[n, d]`
pub fn backward(dy: &Tensor, dsum: Option<Tensor>, saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    if !is_fast(dy) {
        return plain_backward(dy, dsum.as_ref(), saved, gamma);
    }
    let (n, d) = dy.dims2()?;
    let (dys, g) = (HostRef::of(dy)?, HostRef::of(gamma)?);
    let (sum, rstd) = (HostRef::of(&saved.sum)?, HostRef::of(&saved.rstd)?);
    let dsum = match dsum {
        Some(dsum) => dsum,
        None => host::tensor(vec![0.0f32; n * d], (n, d))?,
    };
    host::mutate(&dsum, |out: &mut [f32]| {
        for_rows(out, d, |first, block| {
            simd::vectors!(|| {
                for (i, row) in block.chunks_exact_mut(d).enumerate() {
                    let (at, r) = ((first + i) * d, rstd[first + i]);
                    let (dy, s) = (&dys[at..at + d], &sum[at..at + d]);
                    let along = sum_map3([dy, s, &g], |a, b, c| a * b * c) * r * r * r / d as f32;
                    for (((o, &dy), &s), &g) in row.iter_mut().zip(dy).zip(s).zip(&g[..]) {
                        *o += dy * g * r - s * along;
                    }
                }
            });
        });
    })?;
    Ok(dsum)
}

/// Σ f(x_i, y_i, z_i) in a fixed order.
#[inline(always)]
pub(super) fn sum_map3([x, y, z]: [&[f32]; 3], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (xs, ys, zs) = (x.chunks_exact(LANES), y.chunks_exact(LANES), z.chunks_exact(LANES));
    let tails = (xs.remainder(), ys.remainder(), zs.remainder());
    for ((a, b), c) in xs.zip(ys).zip(zs) {
        for (((lane, &a), &b), &c) in lanes.iter_mut().zip(a).zip(b).zip(c) {
            *lane += f(a, b, c);
        }
    }
    let rest: f32 = tails.0.iter().zip(tails.1).zip(tails.2).map(|((&a, &b), &c)| f(a, b, c)).sum();
    simd::sum_map(&lanes, |v| v) + rest
}

/// Gradient of γ. dy `[n, d]` -> `[d]`
pub fn gamma_grad(dy: &Tensor, saved: &Saved) -> Result<Tensor> {
    if is_fast(dy) {
        let (_, d) = dy.dims2()?;
        let (dys, sum, rstd) = (HostRef::of(dy)?, HostRef::of(&saved.sum)?, HostRef::of(&saved.rstd)?);
        let rows = dys.chunks_exact(d).zip(sum.chunks_exact(d)).zip(rstd.iter());
        let scaled: Vec<f32> = rows.flat_map(|((dy, s), &r)| dy.iter().zip(s).map(move |(dy, s)| dy * s * r)).collect();
        return host::tensor(host::column_sums(&scaled, d), d);
    }
    Ok((dy * saved.sum.broadcast_mul(&saved.rstd.unsqueeze(D::Minus1)?)?)?.sum(0)?)
}

/// [`forward`] from candle operations.
pub fn plain_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    gamma: &Tensor,
    eps: f64,
) -> Result<(Tensor, Saved)> {
    let sum = residual::plain_add(x, residual, drop)?;
    let rstd = (sum.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    let y = sum.broadcast_mul(&rstd)?.broadcast_mul(gamma)?;
    Ok((y, Saved { sum, rstd: rstd.squeeze(D::Minus1)? }))
}

/// [`backward`] from candle operations.
pub fn plain_backward(dy: &Tensor, dsum: Option<&Tensor>, saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    let rstd = saved.rstd.unsqueeze(D::Minus1)?;
    let normalized = saved.sum.broadcast_mul(&rstd)?;
    let scaled = dy.broadcast_mul(gamma)?;
    let along = (&scaled * &normalized)?.mean_keepdim(D::Minus1)?;
    let dx = (scaled - normalized.broadcast_mul(&along)?)?.broadcast_mul(&rstd)?;
    Ok(match dsum {
        Some(dsum) => (dsum + dx)?,
        None => dx,
    })
}
