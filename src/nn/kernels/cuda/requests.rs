//! Computations with more operands than a function should have arguments, as values.

use crate::nn::kernels::types::{HeadCounts, LossWeights};
use crate::tensor::Tensor;
use std::ops::Range;

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

/// One product of some columns of x with some rows of each row's expert's matrix W, written into columns of `out`:
/// `out[block] (+)= scale x[block] Wᵀ`, or `scale x[block] W`.
#[derive(Clone, Debug)]
pub struct BlockProduct<'a> {
    /// Any of the kernels' formats. `[n, columns]`
    pub x: &'a Tensor,
    /// The columns that are read.
    pub x_columns: Range<usize>,
    /// f32. `[experts, rows, columns]`
    pub weight: &'a Tensor,
    /// The rows that are used.
    pub rows: Range<usize>,
    /// In any of the kernels' formats; changed in place, nobody else may hold its memory. `[n, columns]`
    pub out: &'a Tensor,
    /// The columns that are written.
    pub out_columns: Range<usize>,
    /// Multiply with W instead of its transpose.
    pub transposed: bool,
    /// Add to what `out` holds.
    pub add: bool,
    /// Factor.
    pub scale: f64,
}

/// The gradient of some rows of one expert's matrix: `out[rows] = scale dy[block]ᵀ x[block]`.
#[derive(Clone, Debug)]
pub struct BlockGrad<'a> {
    /// Any of the kernels' formats. `[n, columns]`
    pub dy: &'a Tensor,
    /// The columns that are read: as many as rows are written.
    pub dy_columns: Range<usize>,
    /// Any of the kernels' formats. `[n, columns]`
    pub x: &'a Tensor,
    /// The columns that are read: the width of `out`.
    pub x_columns: Range<usize>,
    /// f32, changed in place. `[rows, width]`
    pub out: &'a Tensor,
    /// First row that is written.
    pub row: usize,
    /// Factor.
    pub scale: f64,
}

/// New tokens of texts that are generated, in a device's memory.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens<'a> {
    /// Queries, keys and values side by side. `[n, (heads + 2 kv_heads) * head_dim]`
    pub qkv: &'a Tensor,
    /// Cached keys and values. `[rows, 2 kv_heads * head_dim]`
    pub pool: &'a Tensor,
    /// Of each new token: where its sequence starts in the list, the rows it sees, its own row; then the list of rows of
    /// all sequences. u32 `[3 n + rows]`
    pub words: &'a Tensor,
    /// Most rows that a new token sees.
    pub longest: usize,
    /// How heads divide the columns.
    pub counts: HeadCounts,
}

/// A checked loss over a vocabulary, cut into chunks of targets.
#[derive(Clone, Copy, Debug)]
pub struct VocabLossRequest<'a> {
    /// Final hidden states, pass after pass. `[passes * targets, d]`
    pub hidden: &'a Tensor,
    /// Target of each row. `[targets]`
    pub targets: &'a [u32],
    /// 1, or 2 for the consistency term.
    pub passes: usize,
    /// Factors of the gradient.
    pub weights: LossWeights,
    /// Targets of each chunk.
    pub chunks: &'a [Range<usize>],
    /// Whether the gradient of the hidden states is wanted.
    pub gradient: bool,
    /// Whether the gradient of the head is wanted.
    pub head_gradient: bool,
}

/// What a [`VocabLossRequest`] gives.
pub struct VocabLossTensors {
    /// Smoothed cross-entropy, divergence and plain cross-entropy of each target, f32. `[targets, 3]`
    pub rows: Tensor,
    /// Gradient of the hidden states, in their format.
    pub hidden: Option<Tensor>,
    /// Gradient of the head, f32.
    pub head: Option<Tensor>,
}
