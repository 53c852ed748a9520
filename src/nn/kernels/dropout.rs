//! Dropout applied to tensors.

use super::cuda::on_cuda;
use super::device::{half, if_fast, is_fast, is_fast16, widen};
use super::gpu::{self, on_gpu};
use super::host::{self, HostView, Number};
use super::simd;
pub use super::types::Dropout;
use crate::error::Result;
use crate::tensor::{DType, Tensor};
use half::bf16;

impl Dropout {
    /// `x` times the mask; the input itself when nothing is dropped.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if !self.active() {
            return Ok(x.clone());
        }
        if_fast!(x, apply_same(x, *self));
        on_gpu!(x, elementwise::dropout(x, *self, x.dtype()));
        on_cuda!(x, ops::dropout(x, *self));
        if half(x) {
            return self.apply(&widen(x)?)?.to_dtype(x.dtype());
        }
        x * self.mask(x.dims(), x)?
    }

    /// `x` times the mask in another format; the input itself when nothing is dropped and it has that format.
    pub fn apply_as(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        match dtype {
            _ if x.dtype() == dtype => self.apply(x),
            _ if x.device().is_gpu() => gpu::elementwise::dropout(x, *self, dtype),
            DType::BF16 if is_fast(x) && simd::multiplies_bf16() => apply::<f32, bf16>(x, *self),
            DType::F32 if is_fast16(x) => apply::<bf16, f32>(x, *self),
            _ => Ok(self.apply(x)?.to_dtype(dtype)?),
        }
    }

    /// The mask as a tensor like `like` (for the plain versions). Element order: row-major.
    pub fn mask(&self, dims: &[usize], like: &Tensor) -> Result<Tensor> {
        let n: usize = dims.iter().product();
        let values: Vec<f32> = (0..n as u32).map(|i| self.factor(i)).collect();
        Tensor::from_vec(values, dims, like.device())?.to_dtype(like.dtype())
    }
}

fn apply_same<T: Number>(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    apply::<T, T>(x, drop)
}

fn apply<X: Number, T: Number>(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    let xs = HostView::<X>::of(x)?;
    let out: Vec<T> = if drop.active() {
        host::new_matrix(xs.len(), 1, |some, out| {
            let (first, source) = (some.start, &xs[some]);
            simd::vectors!(|| {
                let values = source.iter().enumerate();
                out.push(values.map(|(i, v)| T::narrow(v.wide() * drop.factor((first + i) as u32))));
            });
        })
    } else {
        host::map(&xs, |v| v)
    };
    host::tensor(out, x.shape())
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
