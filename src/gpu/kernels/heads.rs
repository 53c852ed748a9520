//! Work on single heads of the rows of a matrix: rotary positions, and root-mean-square normalisation (Qwen3's QK-norm).

use super::THREADS;
use super::heads_memory::{Sources, by_four, sources};
use crate::gpu::{Format, Launch, Operand};

const HEADS: Sources = sources!("heads");

/// Which two values of a head form a rotary pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// i and i + half.
    Halves,
    /// 2i and 2i + 1.
    Interleaved,
}

/// Rotary positions: the pair (a, b) with angle θ becomes `(a cos θ - b sin θ, b cos θ + a sin θ)`.
#[derive(Clone, Copy, Debug)]
pub struct Rotary {
    /// What is rotated, in place. `[rows, columns]`
    pub x: Operand,
    /// Cosines, then sines. f32 `[2, positions, head_dim / 2]`
    pub table: Operand,
    /// The position of each row, below `angles`. u32 `[rows]`
    pub positions: Operand,
    /// Positions the table has.
    pub angles: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Heads that are rotated, from the first column on.
    pub heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Which values make a pair.
    pub pairing: Pairing,
}

impl Rotary {
    /// By the angle.
    pub fn forward(&self) -> Launch {
        self.launch(1.0)
    }
    /// By minus the angle: what the forward direction makes of gradients.
    pub fn backward(&self) -> Launch {
        self.launch(-1.0)
    }

    fn launch(&self, sign: f32) -> Launch {
        let Self { x, table, positions, rows, columns, heads, head_dim, .. } = *self;
        let (entry, along) = match self.pairing {
            Pairing::Halves => ("rotate_halves", head_dim / 2),
            Pairing::Interleaved => ("rotate_pairs", head_dim),
        };
        Launch::new(by_four(HEADS, &[along, columns, head_dim], &[Some(x)]), entry)
            .constant("X", x.format)
            .constant("SECOND", Format::U32)
            .constant("HEAD", head_dim as u32)
            .constant("TEAM", 1u32)
            .operand(x)
            .operand(None)
            .operand(None)
            .operand(None)
            .operand(None)
            .operand(table)
            .operand(positions)
            .blocks((rows * heads * along.div_ceil(4)).div_ceil(THREADS))
            .work((3 * rows * heads * head_dim) as f64)
            .ints([rows, columns, heads, heads, self.angles])
            .floats([sign])
    }
}

/// Normalisation of query and key heads: `γ x / sqrt(mean(x²) + ε)` over the values of a head. The first `heads[0]` heads of
/// a row have the queries' γ, the next `heads[1]` the keys'.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm {
    /// Input. `[rows, columns]`
    pub x: Operand,
    /// γ of the queries and of the keys. f32 `[head_dim]` each
    pub gamma: [Operand; 2],
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Query heads and key heads.
    pub heads: [usize; 2],
    /// Width of a head.
    pub head_dim: usize,
    /// ε.
    pub eps: f32,
}

impl HeadNorm {
    /// Normalised heads, and a copy of what is behind them. y `[rows, columns]`
    pub fn forward(&self, y: Operand) -> Launch {
        self.launch("norm_forward", y, self.columns.div_ceil(self.head_dim.max(1)), 5)
    }
    /// The gradient of the result becomes that of x, in place; what is behind the heads stays. dy `[rows, columns]`
    pub fn backward(&self, dy: Operand) -> Launch {
        self.launch("norm_backward", dy, self.heads[0] + self.heads[1], 12)
    }

    /// Work on so many parts of each row, each as wide as a head.
    fn launch(&self, entry: &'static str, y: Operand, parts: usize, flops: usize) -> Launch {
        let Self { x, gamma, rows, columns, heads, head_dim, eps } = *self;
        let team = head_dim.div_ceil(4).next_power_of_two().min(THREADS);
        Launch::new(by_four(HEADS, &[columns, head_dim], &[Some(x), Some(y)]), entry)
            .constant("X", x.format)
            .constant("SECOND", Format::F32)
            .constant("HEAD", head_dim as u32)
            .constant("TEAM", team as u32)
            .operand(x)
            .operand(y)
            .operand(None)
            .operand(None)
            .operand(None)
            .operand(gamma[0])
            .operand(gamma[1])
            .blocks((rows * parts).div_ceil(THREADS / team))
            .work((flops * rows * columns) as f64)
            .ints([rows, columns, heads[0], heads[0] + heads[1], 0])
            .floats([eps])
    }
}
