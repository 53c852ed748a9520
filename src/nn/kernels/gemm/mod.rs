//! Matrix products: `x Wᵀ` forward, `dy W` backward, `dyᵀ x` for a weight's gradient.
//!
//! With AVX-512 they run on own tiles (`blocked`, `avx512`), which multiply operands as they are stored (f32 or bf16) and
//! apply what follows (bias, nonlinearity, residual, rounding) in the cache. Elsewhere on the CPU: the `gemm` crate.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocked;
mod linear;
mod operands;
mod product;
mod widened;

pub use super::simd::{has_avx512 as has_tiles, multiplies_bf16};
pub use linear::{
    bias_grad, linear, linear_act, linear_backward, linear_backward_act, linear_backward_add, logits, weight_grad,
};
pub(super) use linear::{fast, like};
pub use operands::{After, Mat, Matrix, Operand, Orientation, Out, Precision, Stored, Widen};
pub use product::{Block, product, product_add, product_append, product_block, product_into, raw};
pub use widened::{widened_backward, widened_backward_add, widened_linear};
