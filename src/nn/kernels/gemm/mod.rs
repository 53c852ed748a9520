//! Matrix products: `x Wᵀ` forward, `dy W` backward, `dyᵀ x` for a weight's gradient.
//!
//! With AVX-512 they run on own tiles (`blocked`, `avx512`), which multiply operands as they are stored (f32 or bf16) and
//! apply what follows (bias, nonlinearity, residual, rounding) in the cache. Elsewhere on the CPU: the `gemm` crate.
//!
//! Why there are tiles for f32 too, which the `gemm` crate multiplies well: bf16 weights beside f32 activations and
//! quantised ones are widened as they are packed, a block at a time, and what follows a product is applied before its
//! output leaves the cache. The crate takes whole f32 matrices and calls nothing in between.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocked;
mod linear;
mod operands;
mod product;

pub use super::simd::multiplies_bf16;
pub use linear::{
    bias_grad, linear, linear_act, linear_backward, linear_backward_act, linear_backward_add, logits, weight_grad,
    widened_backward, widened_backward_add, widened_linear,
};
pub(super) use linear::{checked_rows, fast, like, transposed_product};
pub use operands::{After, Matrix, Operand, Orientation, Out, Precision, Widen};
pub use product::{Block, product, product_add, product_append, product_block, product_into, raw};
