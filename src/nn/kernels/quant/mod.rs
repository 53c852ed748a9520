//! Matrices that stay quantised in memory and are widened to f32 where they are used, some rows at a time.
//!
//! A frozen matrix is needed twice in training: `x Wᵀ` forwards, `dy W` backwards. On processors with our own tiles both
//! widen blocks as they are packed for them; elsewhere slices of rows in a buffer of at most [`SLICE`] values that is used
//! again and again. So a 4-bit model trains in little more than the memory of its file. For a few rows of x (writing text, token by token) each row of W is widened into
//! the first-level cache and multiplied at once.
//!
//! Values are exact: what is multiplied is what the format stands for, in f32; where activations flow in bf16, rounded to
//! that as they are.

mod formats;
mod matrix;
mod products;

pub use matrix::{Quantised, SLICE};
