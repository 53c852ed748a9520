//! The residual add with the dropout in front of it: `dropout(x) + residual`.

use super::host::{self, HostRef, for_rows};
use super::{Dropout, is_fast, simd};
use crate::error::Result;
use candle_core::Tensor;

/// `dropout(x) + residual`; x itself when there is nothing to do. `[n, d]`
pub fn add(x: &Tensor, residual: Option<&Tensor>, drop: Dropout) -> Result<Tensor> {
    if residual.is_none() && !drop.active() {
        return Ok(x.clone());
    }
    if !is_fast(x) {
        return plain_add(x, residual, drop);
    }
    let (n, d) = x.dims2()?;
    let xs = HostRef::of(x)?;
    let res = residual.map(HostRef::of).transpose()?;
    let sum = host::overwritten(n * d, |sum| {
        for_rows(sum, d, |first, block| {
            simd::vectorized(|| {
                for (i, row) in block.chunks_exact_mut(d).enumerate() {
                    let at = (first + i) * d;
                    sum_row(row, &xs[at..at + d], res.as_ref().map(|r| &r[at..at + d]), drop, at);
                }
            });
        });
    });
    host::tensor(sum, (n, d))
}

/// `acc + x`, reusing `acc`'s memory where possible: nobody else may hold it. Same shapes.
pub fn accumulate(acc: Tensor, x: &Tensor) -> Result<Tensor> {
    if !is_fast(x) {
        return Ok((acc + x)?);
    }
    const BLOCK: usize = 64;
    let xs = HostRef::of(x)?;
    host::mutate(&acc, |acc| {
        for_rows(acc, BLOCK, |row, block| {
            let source = &xs[row * BLOCK..row * BLOCK + block.len()];
            simd::vectorized(|| block.iter_mut().zip(source).for_each(|(o, &v)| *o += v));
        });
    })?;
    Ok(acc)
}

/// One row of [`add`]; `at` is the index of its first element, for the mask.
#[inline(always)]
pub(super) fn sum_row(row: &mut [f32], x: &[f32], residual: Option<&[f32]>, drop: Dropout, at: usize) {
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

/// [`add`] from candle operations.
pub fn plain_add(x: &Tensor, residual: Option<&Tensor>, drop: Dropout) -> Result<Tensor> {
    let x = if drop.active() { (x * drop.mask(x.dims(), x)?)? } else { x.clone() };
    Ok(match residual {
        Some(residual) => (x + residual)?,
        None => x,
    })
}
