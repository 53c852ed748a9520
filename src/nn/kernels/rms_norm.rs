//! Residual add, dropout and root-mean-square normalisation in one pass, and its gradient.
//!
//! `y = γ s / sqrt(mean(s²) + ε)` over the last dimension, with `s = dropout(x) + residual`. The sum itself goes on
//! as the residual stream of a pre-norm block, so it is returned, and the backward pass takes its gradient too.
//!
//! Where 16 bits flow through the products, the stream stays wide: every block adds to it, and what was added below
//! would be rounded again at each add. x, y and what is kept for the backward pass have 16 bits.

use super::device::{lm, widen};
use super::host::{self, HostRef, HostView, Number, Shared, for_rows, for_rows2};
use super::{Dropout, gemm, is_fast, residual, simd};
use crate::error::Result;
use candle_core::{D, DType, Tensor};
use half::bf16;

/// The sum that was normalised `[n, d]`, in y's format, and 1/rms of each row `[n]`: what the backward pass needs.
#[derive(Clone, Debug)]
pub struct Saved {
    /// `dropout(x) + residual`. `[n, d]`
    pub sum: Tensor,
    pub(super) rstd: Tensor,
}

/// `RMSNorm(dropout(x) + residual)`, all in one format. x, residual `[n, d]`, gamma `[d]` -> y `[n, d]`
pub fn forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    gamma: &Tensor,
    eps: f64,
) -> Result<(Tensor, Saved)> {
    let (y, _, saved) = flowing_forward(x, residual, drop, (gamma, eps), x.dtype())?;
    Ok((y, saved))
}

/// As [`forward`], y in the format `flow`: y, the sum in γ's format, which the residual has too, and what is kept.
pub fn flowing_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    (gamma, eps): (&Tensor, f64),
    flow: DType,
) -> Result<(Tensor, Tensor, Saved)> {
    let wide = gamma.dtype();
    let streams = residual.is_none_or(|residual| residual.dtype() == wide);
    if wide == DType::F32 && x.device().is_cpu() && streams {
        let narrow = gemm::multiplies_bf16();
        match (x.dtype(), flow) {
            (DType::F32, DType::F32) => return fast_forward::<f32, f32>(x, residual, drop, gamma, eps),
            (DType::F32, DType::BF16) if narrow => return fast_forward::<f32, bf16>(x, residual, drop, gamma, eps),
            (DType::BF16, DType::F32) if narrow => return fast_forward::<bf16, f32>(x, residual, drop, gamma, eps),
            (DType::BF16, DType::BF16) if narrow => return fast_forward::<bf16, bf16>(x, residual, drop, gamma, eps),
            _ => {}
        }
    }
    if x.dtype() != wide || flow != wide || residual.is_some_and(|residual| residual.dtype() != wide) {
        let (x, residual) = (x.to_dtype(wide)?, residual.map(|residual| residual.to_dtype(wide)).transpose()?);
        let (y, sum, saved) = flowing_forward(&x, residual.as_ref(), drop, (gamma, eps), wide)?;
        return Ok((y.to_dtype(flow)?, sum, Saved { sum: saved.sum.to_dtype(flow)?, ..saved }));
    }
    let (y, saved) = lm::rms_forward(x, residual, drop, gamma, eps)?;
    Ok((y, saved.sum.clone(), saved))
}

#[expect(unsafe_code, reason = "further outputs whose blocks of rows are as disjoint as those of the first")]
fn fast_forward<X: Number, Y: Number>(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    gamma: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor, Saved)> {
    let (n, d) = x.dims2()?;
    let (xs, g) = (HostView::<X>::of(x)?, HostRef::of(gamma)?);
    let res = residual.map(HostRef::of).transpose()?;
    // The sum is x itself, or new; it is kept as it is, or a rounded copy.
    let same = if res.is_some() || drop.active() || X::DTYPE != DType::F32 { None } else { Some(HostRef::of(x)?) };
    let (added, copied) = (if same.is_none() { d } else { 0 }, if Y::DTYPE == DType::F32 { 0 } else { d });
    let mut rstd = vec![0.0f32; n];
    let (mut sum, mut kept): (Vec<f32>, Vec<Y>) = (Vec::new(), Vec::new());
    let eps = eps as f32;
    let y = host::overwritten(n * d, |y: &mut [Y]| {
        sum = host::overwritten(n * added, |sum: &mut [f32]| {
            kept = host::overwritten(n * copied, |kept: &mut [Y]| {
                let (sums, kept) = (Shared::new(sum), Shared::new(kept));
                for_rows2((y, d), (&mut rstd, 1), |first, y, rstd| {
                    let rows = rstd.len();
                    // SAFETY: blocks of rows are disjoint and lie inside both.
                    let (sums, kept) =
                        unsafe { (sums.piece(first * added, rows * added), kept.piece(first * copied, rows * copied)) };
                    simd::vectors!(|| {
                        for (i, (y, rstd)) in y.chunks_exact_mut(d).zip(rstd).enumerate() {
                            let at = (first + i) * d;
                            let source: &[f32] = match &same {
                                Some(x) => &x[at..at + d],
                                None => {
                                    let sum = &mut sums[i * d..(i + 1) * d];
                                    let residual = res.as_ref().map(|r| &r[at..at + d]);
                                    residual::sum_row(sum, &xs[at..at + d], residual, drop, at);
                                    sum
                                }
                            };
                            *rstd = normalize(source, &g, eps, y);
                            simd::update(&mut kept[i * copied..(i + 1) * copied], source, |k, v| *k = Y::narrow(v));
                        }
                    });
                });
            });
        });
    });
    let sum = if same.is_some() { x.clone() } else { host::tensor(sum, (n, d))? };
    let kept = if copied == 0 { sum.clone() } else { host::tensor(kept, (n, d))? };
    Ok((host::tensor(y, (n, d))?, sum, Saved { sum: kept, rstd: host::tensor(rstd, n)? }))
}

/// One row; returns its 1/rms.
#[inline(always)]
fn normalize<Y: Number>(source: &[f32], gamma: &[f32], eps: f32, out: &mut [Y]) -> f32 {
    let rstd = 1.0 / (simd::sum_map(source, |v| v * v) / source.len() as f32 + eps).sqrt();
    for ((o, &v), &g) in out.iter_mut().zip(source).zip(gamma) {
        *o = Y::narrow(v * rstd * g);
    }
    rstd
}

/// Whether what was kept for the backward pass is what the fast versions take.
fn fast_kept(saved: &Saved, gamma: &Tensor) -> bool {
    (is_fast(&saved.sum) || super::is_fast16(&saved.sum)) && is_fast(gamma)
}

/// y once more, for whoever needs it in the backward pass and did not keep it. -> `[n, d]`
pub fn output(saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    if fast_kept(saved, gamma) {
        super::if_fast!(&saved.sum, fast_output(saved, gamma));
    }
    lm::rms_output(saved, gamma)
}

fn fast_output<T: Number>(saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    let (n, d) = saved.sum.dims2()?;
    let (sum, rstd, g) = (HostView::<T>::of(&saved.sum)?, HostRef::of(&saved.rstd)?, HostRef::of(gamma)?);
    let y = host::overwritten(n * d, |y: &mut [T]| {
        for_rows(y, d, |first, block| {
            simd::vectors!(|| {
                for (i, row) in block.chunks_exact_mut(d).enumerate() {
                    let (source, rstd) = (&sum[(first + i) * d..(first + i + 1) * d], rstd[first + i]);
                    for ((o, &v), &g) in row.iter_mut().zip(source).zip(&g[..]) {
                        *o = T::narrow(v.wide() * rstd * g);
                    }
                }
            });
        });
    });
    host::tensor(y, (n, d))
}

/// Gradient of the sum: the norm's, added to `dsum` (what came back along the residual stream), whose memory is reused
/// where possible: nobody else may hold it. dy in y's format, dsum in γ's. dy, dsum `[n, d]` -> `[n, d]`
pub fn backward(dy: &Tensor, dsum: Option<Tensor>, saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    if dy.dtype() == saved.sum.dtype() && fast_kept(saved, gamma) {
        super::if_fast!(dy, fast_backward(dy, dsum, saved, gamma));
    }
    let wide = gamma.dtype();
    if dy.dtype() != wide || saved.sum.dtype() != wide {
        let saved = Saved { sum: saved.sum.to_dtype(wide)?, rstd: saved.rstd.clone() };
        return backward(&dy.to_dtype(wide)?, dsum, &saved, gamma);
    }
    lm::rms_backward(dy, dsum.map(|dsum| dsum.to_dtype(wide)).transpose()?, saved, gamma)
}

fn fast_backward<T: Number>(dy: &Tensor, dsum: Option<Tensor>, saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    let (n, d) = dy.dims2()?;
    let (dys, g) = (HostView::<T>::of(dy)?, HostRef::of(gamma)?);
    let (sum, rstd) = (HostView::<T>::of(&saved.sum)?, HostRef::of(&saved.rstd)?);
    let dsum = match dsum {
        Some(dsum) => dsum,
        None => host::tensor(vec![0.0f32; n * d], (n, d))?,
    };
    host::mutate(&dsum, |out: &mut [f32]| {
        for_rows(out, d, |first, block| {
            let (mut grad, mut wide) = (vec![0.0f32; d], vec![0.0f32; d]);
            simd::vectors!(|| {
                for (i, row) in block.chunks_exact_mut(d).enumerate() {
                    let (at, r) = ((first + i) * d, rstd[first + i]);
                    simd::update(&mut grad, &dys[at..at + d], |o, v| *o = v.wide());
                    simd::update(&mut wide, &sum[at..at + d], |o, v| *o = v.wide());
                    let along = sum_map3([&grad, &wide, &g], |a, b, c| a * b * c) * r * r * r / d as f32;
                    for (((o, &dy), &s), &g) in row.iter_mut().zip(&grad).zip(&wide).zip(&g[..]) {
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
    if is_fast(dy) && is_fast(&saved.sum) {
        let (_, d) = dy.dims2()?;
        let (dys, sum, rstd) = (HostRef::of(dy)?, HostRef::of(&saved.sum)?, HostRef::of(&saved.rstd)?);
        let rows = dys.chunks_exact(d).zip(sum.chunks_exact(d)).zip(rstd.iter());
        let scaled: Vec<f32> = rows.flat_map(|((dy, s), &r)| dy.iter().zip(s).map(move |(dy, s)| dy * s * r)).collect();
        return host::tensor(host::column_sums(&scaled, d), d);
    }
    let normalized = widen(&saved.sum)?.broadcast_mul(&saved.rstd.unsqueeze(D::Minus1)?)?;
    Ok((widen(dy)? * normalized)?.sum(0)?)
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
