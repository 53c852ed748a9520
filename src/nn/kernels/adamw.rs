//! One AdamW update with decoupled weight decay, in place.

use super::cuda::on_cuda;
use super::device::is_fast;
use super::gpu::on_gpu;
use super::host::{HostRef, change_shared};
use super::simd;
pub use super::types::{Item, Update};
use crate::error::Result;
use crate::tensor::Tensor;

/// Values `p`, moments `m`, `v` and gradient `g` of the same shape; p, m and v are changed in place.
pub fn update(p: &Tensor, m: &Tensor, v: &Tensor, g: &Tensor, u: Update) -> Result<()> {
    let (b1, b2) = u.betas;
    let (c1, c2) = u.corrections();
    on_gpu!(p, update::adamw(&[Item { p, m, v, g: Some(g), update: u }]));
    if !is_fast(p) {
        on_cuda!(p, ops::adamw(&[Item { p, m, v, g: Some(g), update: u }]));
        return plain_update(p, m, v, g, u);
    }
    let g = HostRef::of(g)?;
    let keep = (1.0 - u.lr * u.weight_decay) as f32;
    let (step, inv_c2, eps) = ((u.lr / c1) as f32, (1.0 / c2.sqrt()) as f32, u.eps as f32);
    let (b1, b2, n1, n2) = (b1 as f32, b2 as f32, (1.0 - b1) as f32, (1.0 - b2) as f32);
    let (mut inner, mut innermost) = (Ok(()), Ok(()));
    change_shared(p, |p: &mut [f32]| {
        inner = change_shared(m, |m: &mut [f32]| {
            innermost = change_shared(v, |v: &mut [f32]| {
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

/// [`update`] of many tensors: on a GPU in one launch.
pub fn update_all(items: &[Item<'_>]) -> Result<()> {
    if items.first().is_some_and(|first| first.p.device().is_gpu()) {
        return super::gpu::update::adamw(items);
    }
    if items.first().is_some_and(|first| super::cuda::has_kernels(first.p)) {
        return super::cuda::ops::adamw(items);
    }
    items.iter().try_for_each(|&Item { p, m, v, g, update: numbers }| match g {
        Some(g) => update(p, m, v, g, numbers),
        None => update(p, m, v, &m.zeros_like()?, numbers),
    })
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
