//! Dropout masks that are computed, not stored.
//!
//! Whether element *i* is dropped is a hash of (key, *i*): the backward pass and a replay regenerate the mask
//! from the key. The key comes from the run's seed, the step, the layer and the place in it.

use super::host::{HostView, Number, for_rows};
use super::{device, host, if_fast, is_fast, is_fast16, simd};
use crate::error::Result;
use candle_core::{DType, Tensor};
use half::bf16;

/// One dropout: which elements go, and what the others are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    key: u32,
    threshold: u32,
    scale: f32,
}

impl Dropout {
    /// Drops each element with probability `p` (0 to below 1), the mask chosen by `key`.
    pub fn new(key: u64, p: f64) -> Self {
        let folded = (key ^ (key >> 32)) as u32;
        Self { key: mix(folded), threshold: (p * 4_294_967_296.0) as u32, scale: (1.0 / (1.0 - p)) as f32 }
    }

    /// No dropout at all.
    pub fn none() -> Self {
        Self { key: 0, threshold: 0, scale: 1.0 }
    }

    /// Key, threshold and scale, for kernels in another language.
    pub(super) fn parts(&self) -> (u32, u32, f32) {
        (self.key, self.threshold, self.scale)
    }

    /// Whether anything can be dropped.
    pub fn active(&self) -> bool {
        self.threshold > 0
    }

    /// What element `i` is multiplied with: 0 or 1/(1-p).
    #[inline(always)]
    pub fn factor(&self, i: u32) -> f32 {
        if mix(i ^ self.key).wrapping_add(self.key) >= self.threshold { self.scale } else { 0.0 }
    }

    /// A mask that differs from this one, same probability: for sub-blocks such as attention heads.
    #[inline(always)]
    pub fn split(&self, part: u32) -> Self {
        Self { key: mix(self.key.wrapping_add(part.wrapping_mul(0x9e37_79b9))), ..*self }
    }

    /// `x` times the mask; the input itself when nothing is dropped.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if !self.active() {
            return Ok(x.clone());
        }
        if_fast!(x, apply_same(x, *self));
        device::dropout(x, *self)
    }

    /// `x` times the mask in another format; the input itself when nothing is dropped and it has that format.
    pub fn apply_as(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        match dtype {
            _ if x.dtype() == dtype => self.apply(x),
            DType::BF16 if is_fast(x) && super::gemm::multiplies_bf16() => apply::<f32, bf16>(x, *self),
            DType::F32 if is_fast16(x) => apply::<bf16, f32>(x, *self),
            _ => Ok(self.apply(x)?.to_dtype(dtype)?),
        }
    }

    /// The mask as a tensor like `like` (for the plain versions). Element order: row-major.
    pub fn mask(&self, dims: &[usize], like: &Tensor) -> Result<Tensor> {
        let n: usize = dims.iter().product();
        let values: Vec<f32> = (0..n as u32).map(|i| self.factor(i)).collect();
        Ok(Tensor::from_vec(values, dims, like.device())?.to_dtype(like.dtype())?)
    }
}

fn apply_same<T: Number>(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    apply::<T, T>(x, drop)
}

fn apply<X: Number, T: Number>(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    const BLOCK: usize = 64;
    let xs = HostView::<X>::of(x)?;
    let out = host::overwritten(xs.len(), |out: &mut [T]| {
        for_rows(out, BLOCK, |row, block| {
            let at = row * BLOCK;
            if !drop.active() {
                let source = &xs[at..at + block.len()];
                return simd::vectors!(|| simd::update(block, source, |o, v| *o = T::narrow(v.wide())));
            }
            simd::vectors!(|| {
                for (i, (o, &v)) in block.iter_mut().zip(&xs[at..]).enumerate() {
                    *o = T::narrow(v.wide() * drop.factor((at + i) as u32));
                }
            });
        });
    });
    host::tensor(out, x.shape())
}

/// [`Dropout::apply`] from candle operations.
pub fn plain_apply(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    Ok((x * drop.mask(x.dims(), x)?)?)
}

/// A 32-bit finaliser with low bias: two multiply-xorshift rounds.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_scale_are_right_and_masks_are_reproducible() {
        for p in [0.1, 0.5] {
            let drop = Dropout::new(77, p);
            let kept = (0..200_000u32).filter(|&i| drop.factor(i) > 0.0).count() as f64 / 2e5;
            assert!((kept - (1.0 - p)).abs() < 0.005, "kept {kept} at p {p}");
            assert!(
                (f64::from(drop.factor((0..).find(|&i| drop.factor(i) > 0.0).unwrap())) - 1.0 / (1.0 - p)).abs() < 1e-6
            );
        }
        let (a, b) = (Dropout::new(1, 0.5), Dropout::new(2, 0.5));
        let differ = (0..10_000u32).filter(|&i| a.factor(i) != b.factor(i)).count();
        assert!((4_500..5_500).contains(&differ), "masks of two keys differ in {differ} of 10000");
        assert_eq!(Dropout::none().factor(3), 1.0);
    }
}
