//! Residual add, dropout and root-mean-square normalisation in one pass, and its gradient.
//!
//! `y = γ s / sqrt(mean(s²) + ε)` over the last dimension, with `s = dropout(x) + residual`. s is the residual stream, so
//! it is returned too; it stays in f32 where x, y and what is saved have 16 bits, so that sums are not rounded repeatedly.

use super::cuda::on_cuda;
use super::device::{if_fast, is_fast, takes_fast, widen};
use super::gpu::norms::{Kept, Summed};
use super::gpu::{self, on_gpu};
use super::host::{self, HostRef, HostView, Number, for_rows};
use super::types::Dropout;
use super::{residual, simd};
use crate::error::{Error, Result};
use crate::tensor::{D, DType, Tensor};
use half::bf16;

/// The sum that was normalised `[n, d]`, in y's format, and 1/rms of each row `[n]`: what the backward pass needs.
#[derive(Clone, Debug)]
pub struct Saved {
    /// `dropout(x) + residual`. `[n, d]`
    pub sum: Tensor,
    rstd: Tensor,
}

/// γ and ε.
#[derive(Clone, Copy)]
pub struct Scale<'a> {
    /// γ. `[d]`
    pub gamma: &'a Tensor,
    /// Added to the mean square.
    pub eps: f64,
}

/// `RMSNorm(dropout(x) + residual)`, all in one format. x, residual `[n, d]` -> y `[n, d]`
pub fn forward(x: &Tensor, residual: Option<&Tensor>, drop: Dropout, norm: Scale<'_>) -> Result<(Tensor, Saved)> {
    let (y, _, saved) = forward_as(x, residual, drop, norm, x.dtype())?;
    Ok((y, saved))
}

/// As [`forward`], y in the format `activation_dtype`; also returns the sum, in the format of γ and the residual.
pub fn forward_as(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Scale<'_>,
    activation_dtype: DType,
) -> Result<(Tensor, Tensor, Saved)> {
    if x.device().is_gpu() {
        let of = gpu::norms::rms_forward(Summed { x, residual, drop }, norm.gamma, norm.eps, activation_dtype)?;
        let sum = of.sum.ok_or_else(|| Error::internal("a sum that was asked for is not there"))?;
        return Ok((of.y, sum, Saved { sum: of.kept, rstd: of.rstd }));
    }
    let wide = norm.gamma.dtype();
    let streams = residual.is_none_or(|residual| residual.dtype() == wide);
    if wide == DType::F32 && x.device().is_cpu() && streams {
        let narrow = simd::multiplies_bf16();
        match (x.dtype(), activation_dtype) {
            (DType::F32, DType::F32) => return fast_forward::<f32, f32>(x, residual, drop, norm),
            (DType::F32, DType::BF16) if narrow => return fast_forward::<f32, bf16>(x, residual, drop, norm),
            (DType::BF16, DType::F32) if narrow => return fast_forward::<bf16, f32>(x, residual, drop, norm),
            (DType::BF16, DType::BF16) if narrow => return fast_forward::<bf16, bf16>(x, residual, drop, norm),
            _ => {}
        }
    }
    if x.dtype() != wide || activation_dtype != wide || !streams {
        let (x, residual) = (x.to_dtype(wide)?, residual.map(|residual| residual.to_dtype(wide)).transpose()?);
        let (y, sum, saved) = forward_as(&x, residual.as_ref(), drop, norm, wide)?;
        let kept = Saved { sum: saved.sum.to_dtype(activation_dtype)?, ..saved };
        return Ok((y.to_dtype(activation_dtype)?, sum, kept));
    }
    if super::cuda::has_kernels(x) {
        let (y, sum, rstd) = super::cuda::lm_ops::rms_forward(x, residual, drop, norm.gamma, norm.eps)?;
        return Ok((y, sum.clone(), Saved { sum, rstd }));
    }
    let (y, saved) = plain_forward(x, residual, drop, norm)?;
    Ok((y, saved.sum.clone(), saved))
}

fn fast_forward<X: Number, Y: Number>(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Scale<'_>,
) -> Result<(Tensor, Tensor, Saved)> {
    let (n, d) = x.dims2()?;
    let (xs, g) = (HostView::<X>::of(x)?, HostRef::of(norm.gamma)?);
    let res = residual.map(HostRef::of).transpose()?;
    // The sum is x itself, or new; it is kept as it is, or a rounded copy.
    let same = if res.is_some() || drop.active() || X::DTYPE != DType::F32 { None } else { Some(HostRef::of(x)?) };
    let (added, copied) = (if same.is_none() { d } else { 0 }, if Y::DTYPE == DType::F32 { 0 } else { d });
    let eps = norm.eps as f32;
    let ([y, kept], [sum, rstd]) = host::new_rows(n, [d, copied], [added, 1], |rows, [y, kept], [sum, rstd]| {
        host::scratch(added, |row| {
            simd::vectors!(|| {
                for at in rows.map(|row| row * d) {
                    let source: &[f32] = match &same {
                        Some(x) => &x[at..at + d],
                        None => {
                            residual::sum_row(row, &xs[at..at + d], res.as_ref().map(|r| &r[at..at + d]), drop, at);
                            sum.push(row.iter().copied())
                        }
                    };
                    let r = 1.0 / (simd::sum_map(source, |v| v * v) / d as f32 + eps).sqrt();
                    rstd.push(std::iter::once(r));
                    y.push(source.iter().zip(&g[..]).map(|(&v, &g)| Y::narrow(v * r * g)));
                    kept.push(source[..copied].iter().map(|&v| Y::narrow(v)));
                }
            });
        });
    });
    let sum = if same.is_some() { x.clone() } else { host::tensor(sum, (n, d))? };
    let kept = if copied == 0 { sum.clone() } else { host::tensor(kept, (n, d))? };
    Ok((host::tensor(y, (n, d))?, sum, Saved { sum: kept, rstd: host::tensor(rstd, n)? }))
}

impl Saved {
    fn kept(&self) -> Kept<'_> {
        Kept { values: &self.sum, rstd: &self.rstd }
    }
}

/// As [`backward`] with the gradient of what was added to the stream, through its dropout, in a format.
pub fn backward_both(
    dy: &Tensor,
    dsum: Option<Tensor>,
    saved: &Saved,
    gamma: &Tensor,
    (drop, dtype): (Dropout, DType),
) -> Result<(Tensor, Tensor)> {
    if dy.device().is_gpu() {
        return gpu::norms::backward_both(true, dy, dsum, saved.kept(), gamma, (drop, dtype));
    }
    let sum = backward(dy, dsum, saved, gamma)?;
    let delta = drop.apply_as(&sum, dtype)?;
    Ok((sum, delta))
}

/// Whether what was kept for the backward pass is what the fast versions take.
fn fast_kept(saved: &Saved, gamma: &Tensor) -> bool {
    takes_fast(&saved.sum) && is_fast(gamma)
}

/// y recomputed for the backward pass. -> `[n, d]`
pub fn output(saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    if fast_kept(saved, gamma) {
        if_fast!(&saved.sum, fast_output(saved, gamma));
    }
    on_gpu!(&saved.sum, norms::output(&saved.sum, Some(&saved.rstd), gamma, None));
    on_cuda!(&saved.sum, lm_ops::norm_output(&saved.sum, Some(&saved.rstd), gamma, None));
    let (sum, rstd) = (widen(&saved.sum)?, saved.rstd.unsqueeze(D::Minus1)?);
    sum.broadcast_mul(&rstd)?.broadcast_mul(gamma)?.to_dtype(saved.sum.dtype())
}

fn fast_output<T: Number>(saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    let (n, d) = saved.sum.dims2()?;
    let (sum, rstd, g) = (HostView::<T>::of(&saved.sum)?, HostRef::of(&saved.rstd)?, HostRef::of(gamma)?);
    let y = host::new_matrix(n, d, |rows, y| {
        simd::vectors!(|| {
            for row in rows {
                let (source, rstd) = (&sum[row * d..(row + 1) * d], rstd[row]);
                y.push(source.iter().zip(&g[..]).map(|(&v, &g)| T::narrow(v.wide() * rstd * g)));
            }
        });
    });
    host::tensor(y, (n, d))
}

/// Gradient of the sum: the norm's, added to `dsum` (what came back along the residual stream), whose memory is reused
/// where possible. dy in y's format, dsum in γ's. dy, dsum `[n, d]` -> `[n, d]`
pub fn backward(dy: &Tensor, dsum: Option<Tensor>, saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    if dy.dtype() == saved.sum.dtype() && fast_kept(saved, gamma) {
        if_fast!(dy, fast_backward(dy, dsum, saved, gamma));
    }
    if dy.device().is_gpu() {
        return gpu::norms::backward_add(true, dy, dsum, saved.kept(), gamma);
    }
    let wide = gamma.dtype();
    if dy.dtype() != wide || saved.sum.dtype() != wide {
        let saved = Saved { sum: saved.sum.to_dtype(wide)?, rstd: saved.rstd.clone() };
        return backward(&dy.to_dtype(wide)?, dsum, &saved, gamma);
    }
    let dsum = dsum.map(|dsum| dsum.to_dtype(wide)).transpose()?;
    on_cuda!(dy, lm_ops::rms_backward(dy, dsum, [&saved.sum, &saved.rstd], gamma));
    plain_backward(dy, dsum.as_ref(), saved, gamma)
}

fn fast_backward<T: Number>(dy: &Tensor, dsum: Option<Tensor>, saved: &Saved, gamma: &Tensor) -> Result<Tensor> {
    let (n, d) = dy.dims2()?;
    let (dys, g) = (HostView::<T>::of(dy)?, HostRef::of(gamma)?);
    let (sum, rstd) = (HostView::<T>::of(&saved.sum)?, HostRef::of(&saved.rstd)?);
    let dsum = match dsum {
        Some(dsum) => dsum,
        None => host::tensor(vec![0.0f32; n * d], (n, d))?,
    };
    host::in_place(dsum, |out: &mut [f32]| {
        for_rows(out, d, |first, block| {
            host::scratch(2 * d, |buffer| {
                let (grad, wide) = buffer.split_at_mut(d);
                simd::vectors!(|| {
                    for (i, row) in block.chunks_exact_mut(d).enumerate() {
                        let (at, r) = ((first + i) * d, rstd[first + i]);
                        simd::update(grad, &dys[at..at + d], |o, v| *o = v.wide());
                        simd::update(wide, &sum[at..at + d], |o, v| *o = v.wide());
                        let along = simd::sum_map3([grad, wide, &g], |a, b, c| a * b * c) * r * r * r / d as f32;
                        for (((o, dy), s), &g) in row.iter_mut().zip(&*grad).zip(&*wide).zip(&g[..]) {
                            *o += dy * g * r - s * along;
                        }
                    }
                });
            });
        });
    })
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
    if dy.device().is_gpu() {
        let [gamma, _] = gpu::norms::affine_grads(dy, &saved.sum, Some(&saved.rstd))?;
        return Ok(gamma);
    }
    let normalized = widen(&saved.sum)?.broadcast_mul(&saved.rstd.unsqueeze(D::Minus1)?)?;
    (widen(dy)? * normalized)?.sum(0)
}

/// 1/rms over the last dimension, which is kept.
pub(super) fn plain_rstd(x: &Tensor, eps: f64) -> Result<Tensor> {
    (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()
}

/// [`forward`] from candle operations.
pub fn plain_forward(x: &Tensor, residual: Option<&Tensor>, drop: Dropout, norm: Scale<'_>) -> Result<(Tensor, Saved)> {
    let sum = residual::plain_add(x, residual, drop)?;
    let rstd = plain_rstd(&sum, norm.eps)?;
    let y = sum.broadcast_mul(&rstd)?.broadcast_mul(norm.gamma)?;
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
