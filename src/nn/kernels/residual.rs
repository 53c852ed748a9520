//! The residual add with the dropout in front of it: `dropout(x) + residual`.
//!
//! A residual stream may be wider than what is added to it: the sum has the stream's format.

use super::cuda::on_cuda;
use super::device::{half, if_fast, is_fast, is_fast16, widen};
use super::gpu::on_gpu;
use super::host::{self, HostView, Number, for_rows};
use super::simd;
use super::types::Dropout;
use crate::error::Result;
use crate::tensor::Tensor;
use half::bf16;

/// `dropout(x) + residual`, in the residual's format; x itself when there is nothing to do. `[n, d]`
pub fn add(x: &Tensor, residual: Option<&Tensor>, drop: Dropout) -> Result<Tensor> {
    let Some(residual) = residual else { return drop.apply(x) };
    on_gpu!(x, elementwise::add(x, residual, drop));
    if residual.dtype() != x.dtype() {
        if is_fast16(x) && is_fast(residual) {
            return fast_add::<bf16, f32>(x, residual, drop);
        }
        return add(&x.to_dtype(residual.dtype())?, Some(residual), drop);
    }
    if_fast!(x, same_add(x, residual, drop));
    on_cuda!(x, lm_ops::add(x, residual, drop));
    if half(x) {
        return add(&widen(x)?, Some(&widen(residual)?), drop)?.to_dtype(x.dtype());
    }
    plain_add(x, Some(residual), drop)
}

fn same_add<T: Number>(x: &Tensor, residual: &Tensor, drop: Dropout) -> Result<Tensor> {
    fast_add::<T, T>(x, residual, drop)
}

fn fast_add<X: Number, T: Number>(x: &Tensor, residual: &Tensor, drop: Dropout) -> Result<Tensor> {
    let (n, d) = x.dims2()?;
    let (xs, res) = (HostView::<X>::of(x)?, HostView::<T>::of(residual)?);
    let sum = host::new_matrix(n, d, |rows, out| {
        host::scratch(d, |sum| {
            simd::vectors!(|| {
                for at in rows.map(|row| row * d) {
                    sum_row(sum, &xs[at..at + d], Some(&res[at..at + d]), drop, at);
                    out.push(sum.iter().map(|&v| T::narrow(v)));
                }
            });
        });
    });
    host::tensor(sum, (n, d))
}

/// `acc + x` in acc's format, reusing its memory where possible. Same shapes.
pub fn accumulate(acc: Tensor, x: &Tensor) -> Result<Tensor> {
    on_gpu!(x, elementwise::accumulate(acc, x));
    if is_fast16(x) && is_fast(&acc) {
        return fast_accumulate::<bf16, f32>(acc, x);
    } else if x.dtype() != acc.dtype() {
        let x = x.to_dtype(acc.dtype())?;
        return accumulate(acc, &x);
    } else if is_fast(x) {
        return fast_accumulate::<f32, f32>(acc, x);
    } else if is_fast16(x) {
        return fast_accumulate::<bf16, bf16>(acc, x);
    }
    on_cuda!(&acc, lm_ops::accumulate(acc, x));
    acc + x
}

fn fast_accumulate<X: Number, T: Number>(acc: Tensor, x: &Tensor) -> Result<Tensor> {
    const BLOCK: usize = 64;
    let xs = HostView::<X>::of(x)?;
    host::in_place(acc, |acc: &mut [T]| {
        for_rows(acc, BLOCK, |row, block| {
            let source = &xs[row * BLOCK..row * BLOCK + block.len()];
            simd::vectors!(|| {
                simd::update(block, source, |o, v| *o = T::narrow(o.wide() + v.wide()));
            });
        });
    })
}

/// One row of [`add`], in f32; `at` is the index of its first element, for the mask.
#[inline(always)]
pub(super) fn sum_row<X: Number, T: Number>(
    row: &mut [f32],
    x: &[X],
    residual: Option<&[T]>,
    drop: Dropout,
    at: usize,
) {
    if drop.active() {
        for (i, (o, &v)) in row.iter_mut().zip(x).enumerate() {
            *o = v.wide() * drop.factor((at + i) as u32);
        }
    } else {
        for (o, &v) in row.iter_mut().zip(x) {
            *o = v.wide();
        }
    }
    if let Some(residual) = residual {
        for (o, &r) in row.iter_mut().zip(residual) {
            *o += r.wide();
        }
    }
}

/// [`add`] from candle operations.
pub fn plain_add(x: &Tensor, residual: Option<&Tensor>, drop: Dropout) -> Result<Tensor> {
    let x = if drop.active() { (x * drop.mask(x.dims(), x)?)? } else { x.clone() };
    Ok(match residual {
        Some(residual) => (x + residual)?,
        None => x,
    })
}
