//! Matrices that stay quantised in memory and are widened to f32 where they are used.
//!
//! Products with AVX-512 tiles widen blocks while they pack them, others slices in a buffer that is reused. For a few rows of x each row of W is widened into the first-level cache and multiplied at once.
//! Values are exact: what the format stands for, in f32; with bf16 activations rounded to bf16.

mod formats;
mod matrix;
mod products;

pub use matrix::Quantised;
