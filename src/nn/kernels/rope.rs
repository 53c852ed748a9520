//! Rotary position embedding: the pair (a, b) with angle θ becomes `(a cos θ - b sin θ, b cos θ + a sin θ)`; the gradient
//! is the same with -θ. The first `heads` heads of a row (queries, then keys) are rotated in place, the rest stays.

use super::device::{half, if_fast, widen};
use super::host::{self, Number, for_rows};
use super::simd;
pub use super::types::{Heads, Pairing, Rope};
use crate::error::{Error, Result};
use crate::tensor::{D, Device, Tensor};
use parking_lot::Mutex;
use std::sync::Arc;

/// Cosine and sine of every angle up to a length. `[positions, head_dim / 2]` each
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    /// The same on another device, once it was asked for.
    there: Arc<Mutex<Option<Tensor>>>,
}

impl Angles {
    /// Angles `position * frequency` for positions from 0; cosine and sine times `scale` (1 but for stretched ranges).
    /// The product is rounded to f32 before cosine and sine are taken, as the reference implementations do.
    pub fn new(frequencies: &[f32], positions: usize, scale: f32) -> Self {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)));
        let (sin, cos) = angles.map(f64::sin_cos).map(|(s, c)| (s as f32 * scale, c as f32 * scale)).unzip();
        Self { cos, sin, half: frequencies.len(), there: Arc::default() }
    }

    /// Positions there are angles for.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// Cosines and sines in a device's memory, copied there at the first call. f32 `[2, positions, head_dim / 2]`
    pub fn on(&self, device: &Device) -> Result<Tensor> {
        let mut there = self.there.lock();
        if let Some(table) = there.as_ref().filter(|table| table.device().same(device)) {
            return Ok(table.clone());
        }
        let both: Vec<f32> = self.cos.iter().chain(&self.sin).copied().collect();
        let table = Tensor::from_vec(both, (2, self.positions(), self.half), device)?;
        *there = Some(table.clone());
        Ok(table)
    }
}

/// Rotates x in place where possible. x `[n, columns >= heads * head_dim]`, positions `[n]`
pub fn rotate(x: Tensor, heads: Heads, angles: &Angles, positions: &[u32], direction: Rope) -> Result<Tensor> {
    check(heads, angles, positions, x.dims2()?)?;
    if_fast!(&x, fast_rotate(x, heads, angles, positions, direction));
    if x.device().is_gpu() {
        let table = angles.on(x.device())?;
        return super::gpu::heads::rotate(x, heads, &table, positions, direction);
    }
    if super::cuda::has_kernels(&x) {
        let table = angles.on(x.device())?;
        return super::cuda::lm_ops::rotate(x, heads, &table, positions, direction);
    }
    if half(&x) {
        return rotate(widen(&x)?, heads, angles, positions, direction)?.to_dtype(x.dtype());
    }
    plain_rotate(&x, heads, angles, positions, direction)
}

fn fast_rotate<T: Number>(
    x: Tensor,
    heads: Heads,
    angles: &Angles,
    positions: &[u32],
    direction: Rope,
) -> Result<Tensor> {
    let (_, columns) = x.dims2()?;
    let (width, hd, half) = (heads.heads * heads.head_dim, heads.head_dim, angles.half);
    let sign = if direction == Rope::Forward { 1.0 } else { -1.0f32 };
    host::in_place(x, |x: &mut [T]| {
        for_rows(x, columns, |first, block| {
            simd::vectors!(|| {
                for (i, row) in block.chunks_exact_mut(columns).enumerate() {
                    let at = positions[first + i] as usize * half;
                    let (cos, sin) = (&angles.cos[at..at + half], &angles.sin[at..at + half]);
                    for head in row[..width].chunks_exact_mut(hd) {
                        match heads.pairing {
                            Pairing::Halves => rotate_halves(head, cos, sin, sign),
                            Pairing::Interleaved => rotate_pairs(head, cos, sin, sign),
                        }
                    }
                }
            });
        });
    })
}

#[inline(always)]
fn rotate_halves<T: Number>(head: &mut [T], cos: &[f32], sin: &[f32], sign: f32) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (x, y, s) = (a.wide(), b.wide(), s * sign);
        *a = T::narrow(x * c - y * s);
        *b = T::narrow(y * c + x * s);
    }
}

#[inline(always)]
fn rotate_pairs<T: Number>(head: &mut [T], cos: &[f32], sin: &[f32], sign: f32) {
    for ((pair, &c), &s) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        let ([x, y], s) = (pair.map(T::wide), s * sign);
        *pair = [T::narrow(x * c - y * s), T::narrow(y * c + x * s)];
    }
}

fn check(heads: Heads, angles: &Angles, positions: &[u32], (n, columns): (usize, usize)) -> Result<()> {
    let width = heads.heads * heads.head_dim;
    if heads.head_dim != 2 * angles.half || width > columns || positions.len() != n {
        return Err(Error::internal(format!(
            "{} positions and {} frequencies for {n} rows of {columns} columns with {} heads of {}",
            positions.len(),
            angles.half,
            heads.heads,
            heads.head_dim
        )));
    }
    match positions.iter().find(|&&p| p as usize >= angles.positions()) {
        Some(p) => Err(Error::internal(format!("position {p} but angles for {} positions", angles.positions()))),
        None => Ok(()),
    }
}

/// [`rotate`] from candle operations.
pub fn plain_rotate(x: &Tensor, heads: Heads, angles: &Angles, positions: &[u32], direction: Rope) -> Result<Tensor> {
    let (n, columns) = x.dims2()?;
    let (width, half) = (heads.heads * heads.head_dim, angles.half);
    let table = |values: &[f32]| -> Result<Tensor> {
        let rows = positions.iter().flat_map(|&p| values[p as usize * half..(p as usize + 1) * half].iter().copied());
        let rows = Tensor::from_iter(rows, x.device())?.reshape((n, 1, half))?;
        rows.to_dtype(x.dtype())
    };
    let (cos, sin) = (table(&angles.cos)?, table(&angles.sin)?);
    let sin = if direction == Rope::Forward { sin } else { sin.neg()? };
    let rotated = x.narrow(1, 0, width)?;
    let rotated = match heads.pairing {
        Pairing::Halves => {
            let parts = rotated.reshape((n, heads.heads, heads.head_dim))?;
            let (a, b) = (parts.narrow(2, 0, half)?, parts.narrow(2, half, half)?);
            Tensor::cat(&rotated_pair(&a, &b, &cos, &sin)?, D::Minus1)?
        }
        Pairing::Interleaved => {
            let parts = rotated.reshape((n, heads.heads, half, 2))?;
            let (a, b) = (parts.narrow(3, 0, 1)?.squeeze(3)?, parts.narrow(3, 1, 1)?.squeeze(3)?);
            Tensor::stack(&rotated_pair(&a, &b, &cos, &sin)?, D::Minus1)?
        }
    };
    let rotated = rotated.reshape((n, width))?;
    Ok(if columns == width { rotated } else { Tensor::cat(&[&rotated, &x.narrow(1, width, columns - width)?], 1)? })
}

fn rotated_pair(a: &Tensor, b: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<[Tensor; 2]> {
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    Ok([first, (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?])
}
