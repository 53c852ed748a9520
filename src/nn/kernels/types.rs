//! Plain arguments of the kernels: no computation on tensors, so that every version of a kernel can take them.

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::ops::Range;

/// Which nonlinearity, in the order of the numbers in `cuda/common.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x Φ(x), exact.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// max(0, x).
    Relu,
    /// x σ(x).
    Swish,
    /// tanh x.
    Tanh,
}

/// A dropout mask that is computed, not stored: whether element *i* is dropped is a hash of (key, *i*), so the backward
/// pass and a replay regenerate it from the key. The key comes from the run's seed, the step, the layer and the place in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    key: u32,
    threshold: u32,
    scale: f32,
}

impl Dropout {
    /// Drops each element with probability `p` (0 to below 1), the mask chosen by `key`.
    pub fn new(key: u64, p: f64) -> Self {
        let folded = (key ^ (key >> 32)) as u32;
        Self { key: mix(folded), threshold: (p * 4_294_967_296.0) as u32, scale: (1.0 / (1.0 - p)) as f32 }
    }

    /// No dropout at all.
    pub fn none() -> Self {
        Self { key: 0, threshold: 0, scale: 1.0 }
    }

    /// Key, threshold and scale, for kernels in another language.
    pub(super) fn parts(&self) -> (u32, u32, f32) {
        (self.key, self.threshold, self.scale)
    }

    /// Whether anything can be dropped.
    pub fn active(&self) -> bool {
        self.threshold > 0
    }

    /// What element `i` is multiplied with: 0 or 1/(1-p).
    #[inline(always)]
    pub fn factor(&self, i: u32) -> f32 {
        if mix(i ^ self.key).wrapping_add(self.key) >= self.threshold { self.scale } else { 0.0 }
    }

    /// A mask that differs from this one, same probability: for sub-blocks such as attention heads.
    #[inline(always)]
    pub fn split(&self, part: u32) -> Self {
        Self { key: mix(self.key.wrapping_add(part.wrapping_mul(0x9e37_79b9))), ..*self }
    }
}

/// A 32-bit finaliser with low bias: two multiply-xorshift rounds.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Scale, shift and ε of a layer normalisation.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// γ. `[d]`
    pub gamma: &'a Tensor,
    /// β. `[d]`
    pub beta: &'a Tensor,
    /// Added to the variance.
    pub eps: f64,
}

/// Scales of queries and keys, how many heads each has, and ε.
#[derive(Clone, Copy)]
pub struct HeadNorm<'a> {
    /// γ of the queries and of the keys. `[head_dim]` each
    pub gamma: [&'a Tensor; 2],
    /// Query heads and key heads.
    pub heads: [usize; 2],
    /// Added to the mean square.
    pub eps: f64,
}

/// Which two values of a head form a rotary pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// i and i + half: the layout of Hugging Face checkpoints.
    Halves,
    /// 2i and 2i + 1: the layout of the original Llama weights and of GGUF.
    Interleaved,
}

/// What rotary position embedding is applied to: the first `heads` heads of each row.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads from the first column on (queries, then keys).
    pub heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Which values make a pair.
    pub pairing: Pairing,
}

/// Direction of a rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rope {
    /// By the angle.
    Forward,
    /// By minus the angle: the gradient of the forward direction.
    Backward,
}

/// The numbers of one AdamW update.
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
    /// The bias corrections of both moments: `1 - β₁^t`, `1 - β₂^t`.
    pub fn corrections(&self) -> (f64, f64) {
        let left = |beta: f64| 1.0 - beta.powi(self.t as i32);
        (left(self.betas.0), left(self.betas.1))
    }
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

/// What each row's parts of a vocabulary loss's gradient are multiplied with.
#[derive(Clone, Copy, Debug)]
pub struct LossWeights {
    /// Cross-entropy of each pass.
    pub task: [f64; 2],
    /// Consistency term.
    pub consistency: f64,
    /// Share of a target's weight spread over the vocabulary.
    pub smoothing: f64,
    /// Take the other pass as a constant in each direction of the consistency term.
    pub detach: bool,
}

impl LossWeights {
    /// All factors times `factor`.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { task: self.task.map(|weight| factor * weight), consistency: factor * self.consistency, ..self }
    }
}

/// Rows of the queries and keys of each sequence, and how heads divide the width.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Rows of the queries of each sequence.
    pub queries: Vec<Range<usize>>,
    /// Rows of the keys and values of each sequence.
    pub keys: Vec<Range<usize>>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`: query head h reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether a query sees only its own and earlier keys. The last query of a sequence sits at its last key, so
    /// there are at least as many keys as queries.
    pub causal: bool,
    /// Dropout of the probabilities.
    pub drop: Dropout,
}

impl Layout {
    /// Bidirectional attention of every sequence to itself, `spans` being its rows.
    pub fn bidirectional(spans: Vec<Range<usize>>, heads: usize, head_dim: usize, drop: Dropout) -> Self {
        Self { queries: spans.clone(), keys: spans, heads, kv_heads: heads, head_dim, causal: false, drop }
    }

    /// Refuses head counts and rows that make no attention.
    pub(super) fn check(&self) -> Result<()> {
        let (queries, keys) = (self.queries.len(), self.keys.len());
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::internal(format!("{} query heads for {} key heads", self.heads, self.kv_heads)));
        }
        if queries != keys {
            return Err(Error::internal(format!("queries of {queries} sequences, keys of {keys}")));
        }
        match self.queries.iter().zip(&self.keys).find(|(q, k)| self.causal && q.len() > k.len()) {
            Some((q, k)) => {
                Err(Error::internal(format!("causal attention of {} queries to {} keys", q.len(), k.len())))
            }
            None => Ok(()),
        }
    }

    /// Query heads that share a key head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
    pub(super) fn width(&self) -> usize {
        self.heads * self.head_dim
    }
    pub(super) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// How heads divide the columns.
#[derive(Clone, Copy, Debug)]
pub struct HeadCounts {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads: a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Queries, and keys next to values: `width` is `heads * head_dim`, `kv` is `kv_heads * head_dim`.
#[derive(Clone, Debug)]
pub enum Qkv {
    /// One tensor, q, k and v side by side. `[n, width + 2 kv]`
    Joint(Tensor),
    /// Queries for some rows only. q `[n_q, width]`, k and v `[n, 2 kv]`
    Split(Tensor, Tensor),
}

/// The columns of q, of k or of v.
#[derive(Clone, Copy)]
pub(super) struct QkvPart<'a> {
    /// The tensor they are in.
    pub tensor: &'a Tensor,
    /// The first of them.
    pub column: usize,
    /// All columns of the tensor.
    pub columns: usize,
}

impl Qkv {
    /// q, k and v.
    pub(super) fn parts(&self, layout: &Layout) -> [QkvPart<'_>; 3] {
        let (width, kv) = (layout.width(), layout.kv_width());
        let part = |tensor, column, columns| QkvPart { tensor, column, columns };
        match self {
            Self::Joint(t) => [0, width, width + kv].map(|column| part(t, column, width + 2 * kv)),
            Self::Split(q, t) => [part(q, 0, width), part(t, 0, 2 * kv), part(t, kv, 2 * kv)],
        }
    }

    /// The tensor with the queries.
    pub(super) fn tensor(&self) -> &Tensor {
        match self {
            Self::Joint(t) | Self::Split(t, _) => t,
        }
    }

    pub(super) fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Joint(t) => Self::Joint(f(t)?),
            Self::Split(q, kv) => Self::Split(f(q)?, f(kv)?),
        })
    }
}
