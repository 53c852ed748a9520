//! Kernels where the values are not f32 on the CPU: on NVIDIA GPUs fused ones, compiled when they are first used;
//! elsewhere plain operations, with 16-bit formats computed in f32 and rounded once at the end.
//!
//! The rules of mixed formats, the same on every device: matrices of the trunk and what flows through it have the
//! trunk's format; vectors (biases, scales), experts, heads, their gradients and the optimizer have the
//! [`wide`] one. Sums are made in f32 and rounded to the trunk's format when they are stored.
//!
//! | file | what |
//! |---|---|
//! | `cuda/*.cu` beside this directory | the kernels, in C |
//! | [`launch`] | sources, macros, grids, arguments: a launch as a value |
//! | [`plan`], [`lm_plan`] | the launches of each kernel from shapes and addresses |
//! | [`lm`] | what only language models need |
//! | `cuda`, `cuda_ops`, `lm_ops` | with the feature: compiling, launching, tensors |

/// Leaves the function with the GPU's version where it takes this tensor.
macro_rules! on_cuda {
    ($x:expr, $call:expr) => {
        #[cfg(feature = "cuda")]
        if cuda::takes($x) {
            return $call;
        }
    };
}

#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "cuda")]
mod cuda_ops;
pub mod launch;
pub mod lm;
#[cfg(feature = "cuda")]
mod lm_ops;
pub mod lm_plan;
pub mod plan;
mod routed;

pub use lm::{has_kernels, takes_model};
pub use routed::{RoutedProduct, routed_grads, routed_product};

use super::adamw::Update;
use super::attention::{Layout, Qkv};
use super::layer_norm::{Affine, Grads, Saved};
use super::{Act, Dropout, activation, adamw, attention, dropout, gemm, layer_norm, loss};
use crate::error::Result;
use crate::tensor::to_f32;
use candle_core::{DType, Device, Tensor};

/// The format of sums, vectors and experts beside a trunk of format `dtype`: f32 for the 16-bit ones.
pub fn wide(dtype: DType) -> DType {
    match dtype {
        DType::BF16 | DType::F16 => DType::F32,
        other => other,
    }
}

/// The device's own name, with its number where it has one.
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "CPU".to_owned(),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => cuda::name(gpu),
        other => format!("{:?}", other.location()),
    }
}

/// Bytes of the device's own memory that are in use, by whomever; nothing where it has none.
pub fn memory_in_use(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => cuda::memory(gpu).map(|(free, all)| all.saturating_sub(free) as u64),
        _ => None,
    }
}

/// Bytes of the device's own memory that are free; nothing where it has none.
pub fn memory_free(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => cuda::memory(gpu).map(|(free, _)| free as u64),
        _ => None,
    }
}

pub(super) fn half(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::BF16 | DType::F16)
}

/// The values in the [`wide`] format.
pub fn widen(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(wide(x.dtype()))?)
}

pub(super) fn act_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    on_cuda!(x, cuda_ops::act_forward(act, x));
    if half(x) {
        return Ok(activation::forward(act, &widen(x)?)?.to_dtype(x.dtype())?);
    }
    activation::plain_forward(act, x)
}

#[cfg_attr(not(feature = "cuda"), expect(clippy::needless_pass_by_value, reason = "a GPU changes it in place"))]
pub(super) fn act_backward(act: Act, x: &Tensor, dy: Tensor) -> Result<Tensor> {
    on_cuda!(x, cuda_ops::act_backward(act, x, dy));
    if half(x) {
        return Ok(activation::backward(act, &widen(x)?, widen(&dy)?)?.to_dtype(dy.dtype())?);
    }
    activation::plain_backward(act, x, &dy)
}

pub(super) fn dropout(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    on_cuda!(x, cuda_ops::dropout(x, drop));
    if half(x) {
        return Ok(drop.apply(&widen(x)?)?.to_dtype(x.dtype())?);
    }
    dropout::plain_apply(x, drop)
}

pub(super) fn layer_norm_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Affine<'_>,
) -> Result<(Tensor, Saved)> {
    on_cuda!(x, cuda_ops::layer_norm_forward(x, residual, drop, norm));
    if half(x) {
        let residual = residual.map(widen).transpose()?;
        let (y, saved) = layer_norm::forward(&widen(x)?, residual.as_ref(), drop, norm)?;
        return Ok((y.to_dtype(x.dtype())?, Saved { normalized: saved.normalized.to_dtype(x.dtype())?, ..saved }));
    }
    layer_norm::plain_forward(x, residual, drop, norm)
}

pub(super) fn layer_norm_backward(
    dy: &Tensor,
    saved: &Saved,
    gamma: &Tensor,
    drop: Dropout,
    with_params: bool,
) -> Result<Grads> {
    on_cuda!(dy, cuda_ops::layer_norm_backward(dy, saved, gamma, drop, with_params));
    if half(dy) {
        let saved = Saved { normalized: widen(&saved.normalized)?, rstd: saved.rstd.clone() };
        let grads = layer_norm::backward(&widen(dy)?, &saved, gamma, drop, with_params)?;
        let (sum, x) = (grads.sum.to_dtype(dy.dtype())?, grads.x.to_dtype(dy.dtype())?);
        return Ok(Grads { sum, x, ..grads });
    }
    layer_norm::plain_backward(dy, saved, gamma, drop, with_params)
}

fn map_qkv(qkv: &Qkv, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Qkv> {
    Ok(match qkv {
        Qkv::Joint(t) => Qkv::Joint(f(t)?),
        Qkv::Split(q, kv) => Qkv::Split(f(q)?, f(kv)?),
    })
}

pub(super) fn attention_forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    let (Qkv::Joint(x) | Qkv::Split(x, _)) = qkv;
    on_cuda!(x, cuda_ops::attention_forward(qkv, layout));
    if half(x) {
        return Ok(attention::forward(&map_qkv(qkv, widen)?, layout)?.to_dtype(x.dtype())?);
    }
    attention::plain_forward(qkv, layout)
}

pub(super) fn attention_backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    on_cuda!(dy, cuda_ops::attention_backward(qkv, layout, dy));
    if half(dy) {
        let wide = attention::backward(&map_qkv(qkv, widen)?, layout, &widen(dy)?)?;
        return map_qkv(&wide, |t| Ok(t.to_dtype(dy.dtype())?));
    }
    attention::plain_backward(qkv, layout, dy)
}

pub(super) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    on_cuda!(x, cuda_ops::linear(x, w, b));
    if half(x) {
        // Weights stay as they are stored: the CPU's products read bf16.
        return Ok(gemm::linear(&widen(x)?, w, b)?.to_dtype(x.dtype())?);
    }
    let y = x.matmul(&gemm::like(w, x)?.t()?)?;
    Ok(match b {
        Some(b) => y.broadcast_add(&gemm::like(b, x)?)?,
        None => y,
    })
}

pub(super) fn linear_act(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<(Tensor, Tensor)> {
    on_cuda!(x, cuda_ops::linear_act(x, w, b, act));
    let z = gemm::linear(x, w, b)?;
    let y = activation::forward(act, &z)?;
    Ok((z, y))
}

pub(super) fn linear_backward(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    if half(dy) && !dy.device().is_cuda() {
        return Ok(gemm::linear_backward(&widen(dy)?, w)?.to_dtype(dy.dtype())?);
    }
    Ok(dy.matmul(&gemm::like(w, dy)?)?)
}

pub(super) fn linear_backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    on_cuda!(dy, cuda_ops::linear_backward_add(dy, w, acc));
    if half(dy) {
        return Ok(gemm::linear_backward_add(&widen(dy)?, w, widen(&acc)?)?.to_dtype(acc.dtype())?);
    }
    Ok((acc + dy.matmul(&gemm::like(w, dy)?)?)?)
}

pub(super) fn weight_grad(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (wide_dy, wide_x) = (widen(dy)?, widen(x)?);
    if half(dy) || half(x) {
        return gemm::weight_grad(&wide_dy, &wide_x);
    }
    Ok(dy.t()?.matmul(x)?)
}

pub(super) fn bias_grad(dy: &Tensor) -> Result<Tensor> {
    if half(dy) {
        return gemm::bias_grad(&widen(dy)?);
    }
    Ok(dy.sum(0)?)
}

pub(super) fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
    on_cuda!(logits, cuda_ops::cross_entropy(logits, targets));
    if half(logits) {
        let (value, grad) = loss::cross_entropy(&widen(logits)?, targets)?;
        return Ok((value, grad.to_dtype(logits.dtype())?));
    }
    loss::plain_cross_entropy(logits, targets)
}

pub(super) fn adamw(p: &Tensor, m: &Tensor, v: &Tensor, g: &Tensor, update: Update) -> Result<()> {
    on_cuda!(p, cuda_ops::adamw(&[adamw::Item { p, m, v, g: Some(g), update }]));
    adamw::plain_update(p, m, v, g, update)
}

pub(super) fn adamw_all(items: &[adamw::Item<'_>]) -> Result<()> {
    #[cfg(feature = "cuda")]
    if items.first().is_some_and(|first| cuda::takes(first.p)) {
        return cuda_ops::adamw(items);
    }
    for item in items {
        match item.g {
            Some(g) => adamw::update(item.p, item.m, item.v, g, item.update)?,
            None => adamw::update(item.p, item.m, item.v, &item.m.zeros_like()?, item.update)?,
        }
    }
    Ok(())
}

/// Sum of the squares of all values of all tensors, in f64; the host waits for it. On a GPU it is one launch.
pub fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    #[cfg(feature = "cuda")]
    if tensors.first().is_some_and(|first| cuda::takes(first)) {
        return cuda_ops::sum_of_squares(tensors);
    }
    let mut sum = 0.0;
    for tensor in tensors {
        let values: Vec<f32> = to_f32(tensor)?;
        sum += values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    }
    Ok(sum)
}

/// Every tensor times a factor. On a GPU in place and in one launch: nobody else may hold the tensors' memory.
pub fn scale_all(tensors: &mut [&mut Tensor], factor: f64) -> Result<()> {
    #[cfg(feature = "cuda")]
    if tensors.first().is_some_and(|first| cuda::takes(first)) {
        return cuda_ops::scale_all(tensors, factor);
    }
    for tensor in tensors {
        **tensor = (&**tensor * factor)?;
    }
    Ok(())
}
