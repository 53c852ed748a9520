//! The launches of the kernels that language models need: as [`super::plan`].

use super::launch::{Args, Launch, Source, THREADS};
use super::plan::{Address, ROW_THREADS, act_number, at_once, blocks, rows};
use crate::nn::kernels::types::{Act, Rope};

/// Tensors of the normalisation of single heads.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm {
    /// Format of x and y.
    pub format: u32,
    /// Input. `[n, columns]`
    pub x: Address,
    /// γ of the queries and of the keys, f32.
    pub gamma: [Address; 2],
    /// Output, or its gradient.
    pub y: Address,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub columns: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Query heads and key heads.
    pub heads: [usize; 2],
    /// ε.
    pub eps: f32,
}

impl HeadNorm {
    fn launch(self, kernel: &'static str) -> Launch {
        let args = Args::default()
            .longs([self.x, self.gamma[0], self.gamma[1], self.y])
            .ints([self.columns as u32, self.head_dim as u32])
            .ints([self.heads[0] as u32, (self.heads[0] + self.heads[1]) as u32])
            .floats([self.eps]);
        rows(Source::Norms, self.format, kernel, self.n, ROW_THREADS, args)
    }

    /// Normalised heads and what is behind them, to y.
    pub fn forward(self) -> Launch {
        self.launch("heads_forward")
    }
    /// The gradient at y becomes that of x.
    pub fn backward(self) -> Launch {
        self.launch("heads_backward")
    }
}

/// Tensors of a gated nonlinearity: x `[rows, 2 width]`, y `[rows, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    /// Format of both.
    pub format: u32,
    /// Gate and up; after the backward pass their gradients.
    pub x: Address,
    /// Output, or its gradient.
    pub y: Address,
    /// Rows.
    pub rows: usize,
    /// Columns of y.
    pub width: usize,
}

impl Gated {
    fn launch(self, kernel: &'static str, act: Act) -> Launch {
        let n = self.rows * self.width;
        let vector = self.width.is_multiple_of(4) && at_once([self.x, self.y]);
        let args = Args::default().longs([self.x, self.y, n as u64]).ints([
            self.width as u32,
            act_number(Some(act)),
            u32::from(vector),
        ]);
        let grid = [blocks(n, 4 * THREADS as usize), 1, 1];
        Launch { grid, ..rows(Source::Gated, self.format, kernel, 0, THREADS, args) }
    }

    /// `y = act(gate) * up`
    pub fn forward(self, act: Act) -> Launch {
        self.launch("gated_forward", act)
    }
    /// Gate and up become their gradients; y holds the output's.
    pub fn backward(self, act: Act) -> Launch {
        self.launch("gated_backward", act)
    }
}

/// Rotary positions of the first `heads` heads of x `[n, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Rotate {
    /// Format of x.
    pub format: u32,
    /// What is rotated.
    pub x: Address,
    /// Cosines and sines of each position, f32. `[positions, half]` each
    pub table: [Address; 2],
    /// Position of each row, u32.
    pub positions: Address,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub columns: usize,
    /// Heads.
    pub heads: usize,
    /// Pairs of a head.
    pub half: usize,
    /// Whether a pair is 2i and 2i + 1 instead of i and i + half.
    pub interleaved: bool,
}

impl Rotate {
    /// The rotation, in place.
    pub fn launch(self, direction: Rope) -> Launch {
        let n = self.n * self.half;
        let args = Args::default()
            .longs([self.x, self.table[0], self.table[1], self.positions, n as u64])
            .ints([self.columns as u32, self.heads as u32, self.half as u32, u32::from(self.interleaved)])
            .floats([if direction == Rope::Backward { -1.0 } else { 1.0 }]);
        let grid = [blocks(n, THREADS as usize), 1, 1];
        Launch { grid, ..rows(Source::Gated, self.format, "rotate", 0, THREADS, args) }
    }
}

/// A loss over a vocabulary: logits are f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct VocabLoss {
    /// Format of the gradients.
    pub format: u32,
    /// Logits of both passes; 0: no second pass. `[rows, vocab]` each
    pub logits: [Address; 2],
    /// Their gradients; 0: none wanted. In f32 they may be the logits themselves.
    pub grads: [Address; 2],
    /// Target of each row, u32.
    pub targets: Address,
    /// Smoothed cross-entropy, divergence, plain cross-entropy of each row, f32. `[rows, 3]`
    pub parts: Address,
    /// Rows.
    pub rows: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// What the gradients of both passes' cross-entropies are multiplied with.
    pub weights: [f32; 2],
    /// Share of a target's weight spread over the vocabulary.
    pub smoothing: f32,
    /// What the divergence's gradient is multiplied with.
    pub consistency: f32,
    /// Whether the other pass is a constant in each direction of the divergence.
    pub detach: bool,
}

impl VocabLoss {
    /// All rows.
    pub fn launch(self) -> Launch {
        let ([za, zb], [da, db]) = (self.logits, self.grads);
        let args = Args::default()
            .longs([za, zb, self.targets, da, db, self.parts])
            .ints([self.vocab as u32, u32::from(self.detach)])
            .floats([self.weights[0], self.weights[1], self.smoothing, 0.5 * self.consistency]);
        rows(Source::Vocab, self.format, "vocab_loss", self.rows, THREADS, args)
    }
}

/// Scores of targets: logits are f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct VocabScore {
    /// Logits. `[rows, vocab]`
    pub logits: Address,
    /// Target of each row, u32; 0: only the largest value's place is looked for.
    pub targets: Address,
    /// Log p of the target, and the first of the likeliest tokens, f32. `[rows, 2]`
    pub parts: Address,
    /// Where probabilities are added, f32, or 0. `[rows, vocab]`
    pub mixed: Address,
    /// Rows.
    pub rows: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
}

impl VocabScore {
    /// All rows.
    pub fn launch(self) -> Launch {
        let args = Args::default()
            .longs([self.logits, self.targets, self.parts, self.mixed])
            .ints([self.vocab as u32, u32::from(self.targets == 0)]);
        rows(Source::Vocab, 0, "vocab_score", self.rows, THREADS, args)
    }
}

/// Attention of `n` new tokens to cached rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct CachedAttention {
    /// Format of all tensors.
    pub format: u32,
    /// Queries, keys and values of the new tokens side by side.
    pub qkv: Address,
    /// Keys and values side by side. `[rows, 2 kv_heads * head_dim]`
    pub pool: Address,
    /// Start of the sequence in the list, rows it sees, own row of each new token, u32. `[n, 3]`
    pub tokens: Address,
    /// Rows of all sequences, u32.
    pub rows: Address,
    /// Output. `[n, heads * head_dim]`
    pub out: Address,
    /// New tokens.
    pub n: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl CachedAttention {
    fn launch(self, kernel: &'static str, heads: usize, threads: u32) -> Launch {
        let macros = vec![("X", self.format), ("HEAD", self.head_dim as u32)];
        let columns = (self.heads + 2 * self.kv_heads) * self.head_dim;
        let args = Args::default()
            .longs([self.qkv, self.pool, self.tokens, self.rows, self.out])
            .ints([columns as u32, self.heads as u32, self.kv_heads as u32])
            .floats([1.0 / (self.head_dim as f32).sqrt()]);
        let grid = [self.n as u32, heads as u32, 1];
        Launch { macros, grid, threads, ..Launch::new(Source::CachedAttention, kernel, args) }
    }

    /// Puts the new tokens' keys and values into their rows.
    pub fn store_rows(self) -> Launch {
        self.launch("store_rows", 1, ROW_THREADS)
    }
    /// The output; after [`CachedAttention::store_rows`].
    pub fn attend(self) -> Launch {
        self.launch("attend", self.heads, THREADS)
    }
}
