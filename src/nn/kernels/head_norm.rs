//! Root-mean-square normalisation of each query and key head (Qwen3's QK-norm): `y = γ x / sqrt(mean(x²) + ε)` over a
//! head's values. The first `heads[0]` heads have the queries' γ, the next `heads[1]` the keys', the rest stays.

use super::cuda::on_cuda;
use super::device::{half, if_fast, widen};
use super::gpu::on_gpu;
use super::host::{self, HostRef, HostView, Number, for_rows};
use super::rms_norm::plain_rstd;
use super::simd;
pub use super::types::HeadNorm;
use crate::error::{Error, Result};
use crate::tensor::{D, Tensor};

impl HeadNorm<'_> {
    fn check(&self, columns: usize) -> Result<usize> {
        let hd = self.gamma[0].elem_count();
        if self.gamma[1].elem_count() != hd || (self.heads[0] + self.heads[1]) * hd > columns {
            return Err(Error::internal(format!("{:?} heads of {hd} in {columns} columns", self.heads)));
        }
        Ok(hd)
    }
}

/// Normalised queries and keys, values untouched, in memory of their own. x `[n, columns]` -> `[n, columns]`
pub fn forward(x: &Tensor, norm: HeadNorm<'_>) -> Result<Tensor> {
    norm.check(x.dims2()?.1)?;
    if_fast!(x, fast_forward(x, norm));
    on_gpu!(x, heads::norm_forward(x, norm));
    on_cuda!(x, lm_ops::head_norm_forward(x, norm));
    if half(x) {
        return forward(&widen(x)?, norm)?.to_dtype(x.dtype());
    }
    plain_forward(x, norm)
}

fn fast_forward<T: Number>(x: &Tensor, norm: HeadNorm<'_>) -> Result<Tensor> {
    let (n, columns) = x.dims2()?;
    let hd = norm.check(columns)?;
    let (gq, gk) = (HostRef::of(norm.gamma[0])?, HostRef::of(norm.gamma[1])?);
    let (q_width, width) = (norm.heads[0] * hd, (norm.heads[0] + norm.heads[1]) * hd);
    let eps = norm.eps as f32;
    let mut out = HostView::<T>::of(x)?.to_vec();
    for_rows(&mut out, columns, |_, block| {
        host::scratch(hd, |wide| {
            simd::vectors!(|| {
                for row in block.chunks_exact_mut(columns) {
                    for (i, head) in row[..width].chunks_exact_mut(hd).enumerate() {
                        let gamma: &[f32] = if i * hd < q_width { &gq } else { &gk };
                        simd::update(wide, head, |w, v| *w = v.wide());
                        let r = 1.0 / (simd::sum_map(wide, |v| v * v) / hd as f32 + eps).sqrt();
                        for ((o, v), &g) in head.iter_mut().zip(&*wide).zip(gamma) {
                            *o = T::narrow(v * (r * g));
                        }
                    }
                }
            });
        });
    });
    host::tensor(out, (n, columns))
}

/// Turns the gradient of the result into that of x, in place where possible. x, dy `[n, columns]`
pub fn backward(x: &Tensor, norm: HeadNorm<'_>, dy: Tensor) -> Result<Tensor> {
    norm.check(x.dims2()?.1)?;
    if x.dtype() == dy.dtype() {
        if_fast!(x, fast_backward(x, norm, dy));
    }
    on_gpu!(x, heads::norm_backward(x, norm, dy));
    on_cuda!(x, lm_ops::head_norm_backward(x, norm, dy));
    if half(x) {
        return backward(&widen(x)?, norm, widen(&dy)?)?.to_dtype(dy.dtype());
    }
    plain_backward(x, norm, &dy)
}

fn fast_backward<T: Number>(x: &Tensor, norm: HeadNorm<'_>, dy: Tensor) -> Result<Tensor> {
    let (_, columns) = x.dims2()?;
    let hd = norm.check(columns)?;
    let (xs, gq, gk) = (HostView::<T>::of(x)?, HostRef::of(norm.gamma[0])?, HostRef::of(norm.gamma[1])?);
    let (q_width, width) = (norm.heads[0] * hd, (norm.heads[0] + norm.heads[1]) * hd);
    let eps = norm.eps as f32;
    host::in_place(dy, |dy: &mut [T]| {
        for_rows(dy, columns, |first, block| {
            host::scratch(2 * hd, |buffer| {
                let (wide, grad) = buffer.split_at_mut(hd);
                simd::vectors!(|| {
                    for (i, row) in block.chunks_exact_mut(columns).enumerate() {
                        let source = &xs[(first + i) * columns..(first + i) * columns + width];
                        let heads = row[..width].chunks_exact_mut(hd).zip(source.chunks_exact(hd));
                        for (j, (dy, x)) in heads.enumerate() {
                            let gamma: &[f32] = if j * hd < q_width { &gq } else { &gk };
                            simd::update(wide, x, |w, v| *w = v.wide());
                            simd::update(grad, dy, |w, v| *w = v.wide());
                            let r = 1.0 / (simd::sum_map(wide, |v| v * v) / hd as f32 + eps).sqrt();
                            let along =
                                simd::sum_map3([grad, wide, gamma], |a, b, c| a * b * c) * r * r * r / hd as f32;
                            for (((o, d), x), &g) in dy.iter_mut().zip(&*grad).zip(&*wide).zip(gamma) {
                                *o = T::narrow(d * g * r - x * along);
                            }
                        }
                    }
                });
            });
        });
    })
}

/// What is done to one block of heads, the plain way. `[n, heads, head_dim]`
fn each_block(
    x: &Tensor,
    norm: HeadNorm<'_>,
    work: impl Fn(&Tensor, usize, usize, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (n, columns) = x.dims2()?;
    let hd = norm.check(columns)?;
    let (mut parts, mut at) = (Vec::new(), 0);
    for (gamma, heads) in norm.gamma.into_iter().zip(norm.heads) {
        let block = x.narrow(1, at, heads * hd)?.reshape((n, heads, hd))?;
        parts.push(work(&block, at, heads, gamma)?.reshape((n, heads * hd))?);
        at += heads * hd;
    }
    if at < columns {
        parts.push(x.narrow(1, at, columns - at)?);
    }
    Tensor::cat(&parts, 1)
}

/// Gradients of both γ. x, dy `[n, columns]` -> `[head_dim]` each
pub fn gamma_grads(x: &Tensor, norm: HeadNorm<'_>, dy: &Tensor) -> Result<[Tensor; 2]> {
    let (mut at, (n, columns), mut grads) = (0, x.dims2()?, Vec::new());
    let hd = norm.check(columns)?;
    for heads in norm.heads {
        let block = |t: &Tensor| t.narrow(1, at, heads * hd)?.reshape((n * heads, hd));
        let (x, dy) = (widen(&block(x)?)?, widen(&block(dy)?)?);
        grads.push((dy * x.broadcast_mul(&plain_rstd(&x, norm.eps)?)?)?.sum(0)?);
        at += heads * hd;
    }
    grads.try_into().map_err(|_| Error::internal("queries and keys have one norm each"))
}

/// [`forward`] from candle operations.
pub fn plain_forward(x: &Tensor, norm: HeadNorm<'_>) -> Result<Tensor> {
    each_block(x, norm, |x, _, _, gamma| x.broadcast_mul(&plain_rstd(x, norm.eps)?)?.broadcast_mul(gamma))
}

/// [`backward`] from candle operations.
pub fn plain_backward(x: &Tensor, norm: HeadNorm<'_>, dy: &Tensor) -> Result<Tensor> {
    each_block(dy, norm, |dy, at, heads, gamma| {
        let hd = gamma.elem_count();
        let x = x.narrow(1, at, heads * hd)?.reshape(dy.shape())?;
        let rstd = plain_rstd(&x, norm.eps)?;
        let (normalized, scaled) = (x.broadcast_mul(&rstd)?, dy.broadcast_mul(gamma)?);
        let along = (&scaled * &normalized)?.mean_keepdim(D::Minus1)?;
        (scaled - normalized.broadcast_mul(&along)?)?.broadcast_mul(&rstd)
    })
}
