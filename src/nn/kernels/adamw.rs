//! One AdamW update with decoupled weight decay, in place.

use super::{device, host, is_fast, simd};
use crate::error::Result;
use candle_core::Tensor;

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Learning rate.
    pub lr: f64,
    /// β₁, β₂.
    pub betas: (f64, f64),
    /// ε, added to the root of the corrected second moment.
    pub eps: f64,
    /// Decay; `p` is first multiplied by `1 - lr * decay`.
    pub weight_decay: f64,
    /// Updates of this tensor so far, this one included (for the bias correction).
    pub t: u64,
}

impl Update {
    /// What the moments are divided by because they started at zero: `1 - β₁^t`, `1 - β₂^t`.
    pub fn corrections(&self) -> (f64, f64) {
        let left = |beta: f64| 1.0 - beta.powi(self.t as i32);
        (left(self.betas.0), left(self.betas.1))
    }
}

/// Values `p`, moments `m`, `v` and gradient `g` of the same shape; p, m and v are changed in place.
pub fn update(p: &Tensor, m: &Tensor, v: &Tensor, g: &Tensor, u: Update) -> Result<()> {
    let (b1, b2) = u.betas;
    let (c1, c2) = u.corrections();
    if !is_fast(p) {
        return device::adamw(p, m, v, g, u);
    }
    let g = host::HostRef::of(g)?;
    let keep = (1.0 - u.lr * u.weight_decay) as f32;
    let (step, inv_c2, eps) = ((u.lr / c1) as f32, (1.0 / c2.sqrt()) as f32, u.eps as f32);
    let (b1, b2, n1, n2) = (b1 as f32, b2 as f32, (1.0 - b1) as f32, (1.0 - b2) as f32);
    let (mut inner, mut innermost) = (Ok(()), Ok(()));
    host::mutate(p, |p: &mut [f32]| {
        inner = host::mutate(m, |m: &mut [f32]| {
            innermost = host::mutate(v, |v: &mut [f32]| {
                simd::vectors!(|| {
                    for (((p, m), v), &g) in p.iter_mut().zip(m.iter_mut()).zip(v.iter_mut()).zip(g.iter()) {
                        *m = b1 * *m + n1 * g;
                        *v = b2 * *v + n2 * g * g;
                        *p = keep * *p - step * *m / (v.sqrt() * inv_c2 + eps);
                    }
                });
            });
        });
    })?;
    inner.and(innermost)
}

/// One tensor's update among many.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Values.
    pub p: &'a Tensor,
    /// First moment.
    pub m: &'a Tensor,
    /// Second moment.
    pub v: &'a Tensor,
    /// Gradient; absent: zeros.
    pub g: Option<&'a Tensor>,
    /// The numbers.
    pub update: Update,
}

/// [`update`] of many tensors: on a GPU in one launch.
pub fn update_all(items: &[Item<'_>]) -> Result<()> {
    device::adamw_all(items)
}

/// [`update`] from candle operations.
pub fn plain_update(p: &Tensor, m: &Tensor, v: &Tensor, g: &Tensor, u: Update) -> Result<()> {
    let (b1, b2) = u.betas;
    let (c1, c2) = u.corrections();
    let new_m = ((m * b1)? + (g * (1.0 - b1))?)?;
    let new_v = ((v * b2)? + (g.sqr()? * (1.0 - b2))?)?;
    let denom = ((new_v.sqrt()? / c2.sqrt())? + u.eps)?;
    let new_p = ((p * (1.0 - u.lr * u.weight_decay))? - ((&new_m / denom)? * (u.lr / c1))?)?;
    p.slice_set(&new_p.contiguous()?, 0, 0)?;
    m.slice_set(&new_m.contiguous()?, 0, 0)?;
    v.slice_set(&new_v.contiguous()?, 0, 0)?;
    Ok(())
}
