//! Products that send each row to its expert, where a device has kernels for them.

use super::plan::Segment;
use crate::error::Result;
use candle_core::Tensor;

/// One product with all rows' own experts: `out = base + x W_eᵀ + b_e`, or `out = base + x W_e`.
#[derive(Clone, Copy, Debug)]
pub struct RoutedProduct<'a> {
    /// Any of the kernels' formats. `[n, width]`
    pub x: &'a Tensor,
    /// f32. `[experts, out, in]`
    pub weight: &'a Tensor,
    /// f32, only with `transposed` off. `[experts, out]`
    pub bias: Option<&'a Tensor>,
    /// Any of the kernels' formats; the output has the same, or f32. `[n, out_width]`
    pub base: Option<&'a Tensor>,
    /// Multiply with W instead of its transpose: the backward direction.
    pub transposed: bool,
}

/// The product on the device of `x`; nothing where it has no kernel for it. Segments cover each row once.
pub fn routed_product(product: RoutedProduct<'_>, segments: &[Segment], list: &[u32]) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if super::cuda::takes(product.x) {
        return super::cuda_ops::routed_product(product, segments, list).map(Some);
    }
    let _ = (product.x, segments, list);
    Ok(None)
}

/// Gradients of one expert's weight and bias, `dyᵀ x` and `Σ dy` over the rows of a segment, in f32; nothing where the
/// device has no kernel. dy `[n, out]`, x `[n, in]` -> `[out, in]`, `[out]`
pub fn routed_grads(dy: &Tensor, x: &Tensor, segment: Segment, list: &[u32]) -> Result<Option<(Tensor, Tensor)>> {
    #[cfg(feature = "cuda")]
    if super::cuda::takes(dy) {
        return super::cuda_ops::routed_grads(dy, x, segment, list).map(Some);
    }
    let _ = (dy, x, segment, list);
    Ok(None)
}
