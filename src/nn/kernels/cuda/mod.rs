//! NVIDIA GPUs: fused kernels in CUDA C (`*.cu`, `common.h`), compiled at first use.
//!
//! [`launch`], [`plan`], [`lm_plan`] and [`requests`] describe launches as values, which the tests run on the host;
//! `driver`, `ops` and `lm_ops` (feature `cuda`) compile and launch them on tensors.

#[cfg(feature = "cuda")]
pub mod driver;
pub mod launch;
#[cfg(feature = "cuda")]
pub(super) mod lm_ops;
pub mod lm_plan;
#[cfg(feature = "cuda")]
pub(super) mod ops;
pub mod plan;
pub mod requests;

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use plan::Segment;
use requests::{BlockGrad, BlockProduct, NewTokens, RoutedProduct, VocabLossRequest, VocabLossTensors};

use super::types::LossWeights;

/// Returns from the function with the GPU's version where it takes this tensor.
macro_rules! on_cuda {
    ($x:expr, $module:ident :: $f:ident($($arg:expr),* $(,)?)) => {
        #[cfg(feature = "cuda")]
        if $crate::nn::kernels::cuda::has_kernels($x) {
            return $crate::nn::kernels::cuda::$module::$f($($arg),*);
        }
    };
}
pub(super) use on_cuda;

/// Whether the device of this tensor has kernels of its own for values of its format.
pub fn has_kernels(x: &Tensor) -> bool {
    #[cfg(feature = "cuda")]
    return driver::takes(x);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = x;
        false
    }
}

/// As [`has_kernels`], for the normalisation of x's rows.
#[cfg(feature = "cuda")]
pub(super) fn takes_rows(x: &Tensor) -> bool {
    has_kernels(x) && x.dims().last().is_some_and(|&d| plan::LayerNorm::fits(d))
}

/// As [`has_kernels`], for attention with heads of this width.
#[cfg(feature = "cuda")]
pub(super) fn takes_heads(x: &Tensor, head_dim: usize) -> bool {
    has_kernels(x) && plan::Attention::fits(head_dim)
}

/// An error, before anything is read, where a GPU's kernels do not take a model with heads and rows of these widths.
pub fn takes_model(device: &Device, head_dim: usize, width: usize) -> Result<()> {
    if device.is_cuda() { fits_kernels(head_dim, width) } else { Ok(()) }
}

fn fits_kernels(head_dim: usize, width: usize) -> Result<()> {
    if plan::Attention::fits(head_dim) && plan::LayerNorm::fits(width) {
        return Ok(());
    }
    Err(Error::config(format!(
        "the GPU's kernels take heads of up to 128 values and rows of up to 12,288; this model's have {head_dim} and \
         {width}; choose device cpu"
    )))
}

/// The device's own name, with its number where it has one.
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "CPU".to_owned(),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => driver::name(gpu),
        other => format!("{:?}", other.location()),
    }
}

/// Free bytes and all bytes of the device's own memory; nothing where it has none.
fn memory(device: &Device) -> Option<(u64, u64)> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => driver::memory(gpu).map(|(free, all)| (free as u64, all as u64)),
        _ => None,
    }
}

/// Bytes of the device's own memory that are in use, by any process; nothing where it has none.
pub fn memory_in_use(device: &Device) -> Option<u64> {
    memory(device).map(|(free, all)| all.saturating_sub(free))
}

/// Bytes of the device's own memory that are free; nothing where it has none.
pub fn memory_free(device: &Device) -> Option<u64> {
    memory(device).map(|(free, _)| free)
}

fn without_kernels<T>(x: &Tensor) -> Result<T> {
    Err(Error::internal(format!("no kernel for {:?} on {:?}", x.dtype(), x.device().location())))
}

/// The product on the device of `x`; nothing where it has no kernel for it. Segments cover each row once.
pub fn routed_product(product: RoutedProduct<'_>, segments: &[Segment], list: &[u32]) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if has_kernels(product.x) {
        return ops::routed_product(product, segments, list).map(Some);
    }
    let _ = (product, segments, list);
    Ok(None)
}

/// Gradients of one expert's weight and bias, `dyᵀ x` and `Σ dy` over the rows of a segment, in f32; nothing where the
/// device has no kernel. dy `[n, out]`, x `[n, in]` -> `[out, in]`, `[out]`
pub fn routed_grads(dy: &Tensor, x: &Tensor, segment: Segment, list: &[u32]) -> Result<Option<(Tensor, Tensor)>> {
    #[cfg(feature = "cuda")]
    if has_kernels(dy) {
        return ops::routed_grads(dy, x, segment, list).map(Some);
    }
    let _ = (dy, x, segment, list);
    Ok(None)
}

/// Makes these products where the device [has kernels](has_kernels) for x and `out`. Segments cover each row once.
pub fn block_products(products: &[BlockProduct<'_>], segments: &[Segment], list: &[u32]) -> Result<()> {
    products.iter().try_for_each(|product| {
        on_cuda!(product.x, lm_ops::block_product(product, segments, list));
        let _ = (segments, list);
        without_kernels(product.x)
    })
}

/// Makes these gradients over one segment of rows where the device [has kernels](has_kernels) for x and `dy`.
pub fn block_grads(grads: &[BlockGrad<'_>], segment: Segment, list: &[u32]) -> Result<()> {
    grads.iter().try_for_each(|grad| {
        on_cuda!(grad.dy, lm_ops::block_grad(grad, segment, list));
        let _ = (segment, list);
        without_kernels(grad.dy)
    })
}

impl NewTokens<'_> {
    /// Puts keys and values into their rows of the cache and, if asked, attends to the rows of their sequences.
    /// -> `[n, heads * head_dim]`
    pub fn cache(&self, attend: bool) -> Result<Option<Tensor>> {
        on_cuda!(self.qkv, lm_ops::remember(*self, attend));
        let _ = attend;
        without_kernels(self.qkv)
    }
}

/// The loss over a vocabulary, one launch for each chunk of rows, not waited for. Needs [kernels](has_kernels) for the head.
pub fn vocab_loss(request: VocabLossRequest<'_>) -> Result<VocabLossTensors> {
    on_cuda!(request.head, lm_ops::vocab_loss(request));
    without_kernels(request.head)
}

/// The loss of logits that are there whole, and its gradient on them, in one launch, where the device
/// [has kernels](has_kernels); the host does not wait for it. -> the rows `[targets, 3]`, the gradient as the logits
pub fn logits_loss(logits: &Tensor, targets: &[u32], passes: usize, weights: LossWeights) -> Result<(Tensor, Tensor)> {
    on_cuda!(logits, lm_ops::logits_loss(logits, targets, passes, weights));
    let _ = (targets, passes, weights);
    without_kernels(logits)
}

/// Of each row of logits the log probability of its target and the first of the likeliest tokens, as one list of pairs;
/// probabilities are added to `mixed`, if there is one. Without targets only the largest value's place is looked for.
/// Where the device [has kernels](has_kernels). z `[rows, vocab]`, mixed `[rows, vocab]` in f32
pub fn vocab_scores(z: &Tensor, targets: Option<&[u32]>, mixed: Option<&Tensor>) -> Result<Vec<f32>> {
    on_cuda!(z, lm_ops::vocab_scores(z, targets, mixed));
    let _ = (targets, mixed);
    without_kernels(z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_the_kernels_do_not_take_are_refused_before_they_are_read() {
        for (head_dim, width) in [(64, 768), (128, 4096), (20, 12_288)] {
            assert!(fits_kernels(head_dim, width).is_ok());
        }
        for (head_dim, width) in [(256, 2048), (64, 16_384)] {
            let text = fits_kernels(head_dim, width).unwrap_err().to_string();
            assert!(text.contains(&head_dim.to_string()) && text.ends_with("choose device cpu"), "{text}");
        }
        assert!(takes_model(&Device::Cpu, 256, 16_384).is_ok());
    }
}
