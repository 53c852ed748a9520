//! Normalisation of rows with the residual add and the dropout in front of it, and its gradients.
//!
//! `s = dropout(x) + residual`, `y = γ (s - mean) rstd + β`; normalisation by the root of the mean square (RMS) takes a mean
//! of 0.

use super::Mask;
use super::reduce::{Columns, column_sums};
use super::rows::{format_of, lanes, lanes_of, over_rows, threads_of, version};
use crate::gpu::{Launch, Operand, Source};

const SOURCES: [Source; 2] = lanes!("norm", ["X", "R", "Y", "K", "S"], "rows");

/// Lanes of a row that a thread holds at most; longer rows are read again from memory.
const HELD: usize = 4;

/// What rows are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The standard deviation, after the mean is taken off.
    Layer,
    /// The root of the mean square.
    Rms,
}

/// The tensors of a normalisation's forward pass. Vectors and rstd are f32, the others of any format each.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// What rows are divided by.
    pub kind: Kind,
    /// Input. `[n, d]`
    pub x: Operand,
    /// Added to the input. `[n, d]`
    pub residual: Option<Operand>,
    /// γ. `[d]`
    pub gamma: Operand,
    /// β. `[d]`
    pub beta: Option<Operand>,
    /// Output; may be x. `[n, d]`
    pub y: Operand,
    /// Output for the backward pass: the normalised values, or (RMS) a copy of the sum. `[n, d]`
    pub kept: Option<Operand>,
    /// Output: 1/σ or 1/rms of each row. `[n]`
    pub rstd: Operand,
    /// Output: `dropout(x) + residual`, rounded to its format before it is normalised; may be x or the residual. `[n, d]`
    pub sum: Option<Operand>,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub d: usize,
    /// Added to the variance or the mean square.
    pub eps: f32,
}

/// The tensors of a normalisation's backward pass. γ and rstd are f32, the others of any format each.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    /// What rows were divided by.
    pub kind: Kind,
    /// Gradient of the output. `[n, d]`
    pub dy: Operand,
    /// γ. `[d]`
    pub gamma: Operand,
    /// The normalised values, or (RMS) the sum. `[n, d]`
    pub kept: Operand,
    /// 1/σ or 1/rms of each row. `[n]`
    pub rstd: Operand,
    /// What is added to the gradient of the sum: that of its other uses; may be `dsum`. `[n, d]`
    pub add: Option<Operand>,
    /// Output: the gradient of the sum, which is the residual's; may be `dy`. `[n, d]`
    pub dsum: Option<Operand>,
    /// Output: the gradient of x, before its dropout; may be `dy`. `[n, d]`
    pub dx: Option<Operand>,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub d: usize,
}

/// Operands in the order of the shader: x, residual, gamma, beta, y, kept, rstd, sum.
fn launch(
    entry: &'static str,
    kind: Kind,
    operands: [Option<Operand>; 8],
    [n, d]: [usize; 2],
    mask: Mask,
    eps: f32,
) -> Launch {
    let [x, residual, gamma, beta, y, kept, _, sum] = operands;
    let lanes = lanes_of(d, &[x, residual, gamma, beta, y, kept, sum]);
    let width = d / lanes;
    let threads = threads_of(width);
    let held = width.div_ceil(threads);
    let launch = Launch::new(version(SOURCES, lanes), entry)
        .constant("X", format_of(x))
        .constant("R", format_of(residual))
        .constant("Y", format_of(y))
        .constant("K", format_of(kept))
        .constant("S", format_of(sum))
        .constant("RMS", kind == Kind::Rms)
        .constant("HAS_X", x.is_some())
        .constant("HAS_RESIDUAL", residual.is_some())
        .constant("HAS_BETA", beta.is_some())
        .constant("HAS_KEPT", kept.is_some())
        .constant("HAS_SUM", sum.is_some())
        .constant("HELD", if held <= HELD { held.max(1) as u32 } else { 1 })
        .constant("STREAM", held > HELD);
    let launch = operands.into_iter().fold(launch, Launch::operand);
    let mut launch = over_rows(launch, if d == 0 { 0 } else { n }, threads).ints([n, width]);
    launch.words.extend(mask.words());
    launch.floats([1.0 / d.max(1) as f32, eps]).work(8.0 * n as f64 * d as f64)
}

impl Forward {
    /// `y = γ normalised(dropout(x) + residual) + β`
    pub fn launch(self, mask: Mask) -> Launch {
        let Self { kind, x, residual, gamma, beta, y, kept, rstd, sum, n, d, eps } = self;
        let operands = [Some(x), residual, Some(gamma), beta, Some(y), kept, Some(rstd), sum];
        launch("norm_forward", kind, operands, [n, d], mask, eps)
    }
}

impl Backward {
    /// The gradients of the sum and of x.
    pub fn launch(self, mask: Mask) -> Launch {
        let Self { kind, dy, gamma, kept, rstd, add, dsum, dx, n, d } = self;
        let operands = [dx, add, Some(gamma), None, Some(dy), Some(kept), Some(rstd), dsum];
        launch("norm_backward", kind, operands, [n, d], mask, 0.0)
    }
}

/// A normalisation's output once more, from what was kept of it.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The normalised values, or with `rstd` the sum. `[n, d]`
    pub kept: Operand,
    /// 1/rms of each row, of a normalisation by the root of the mean square. f32 `[n]`
    pub rstd: Option<Operand>,
    /// γ, f32. `[d]`
    pub gamma: Operand,
    /// β, f32. `[d]`
    pub beta: Option<Operand>,
    /// Output; may be `kept`. `[n, d]`
    pub y: Operand,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub d: usize,
}

impl Output {
    /// `y = γ kept rstd + β`
    pub fn launch(self) -> Launch {
        let Self { kept, rstd, gamma, beta, y, n, d } = self;
        let kind = if rstd.is_some() { Kind::Rms } else { Kind::Layer };
        let operands = [None, None, Some(gamma), beta, Some(y), Some(kept), rstd, None];
        launch("norm_output", kind, operands, [n, d], Mask::NONE, 0.0)
    }
}

/// The tensors of the gradients of γ and β.
#[derive(Clone, Copy, Debug)]
pub struct AffineGrads {
    /// Gradient of the output. `[n, d]`
    pub dy: Operand,
    /// The normalised values, or with `rstd` the sum. `[n, d]`
    pub kept: Operand,
    /// 1/rms of each row, of a normalisation by the root of the mean square. f32 `[n]`
    pub rstd: Option<Operand>,
    /// Output: gradient of γ, f32. `[d]`
    pub dgamma: Operand,
    /// Output: gradient of β, f32. `[d]`
    pub dbeta: Option<Operand>,
    /// Work space, f32: [`column_scratch`](super::reduce::column_scratch) values, twice that with `dbeta`.
    pub scratch: Operand,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub d: usize,
}

impl AffineGrads {
    /// `dγ = Σ dy normalised`, `dβ = Σ dy`, over the rows.
    pub fn launches(self) -> Vec<Launch> {
        let Self { dy, kept, rstd, dgamma, dbeta, scratch, n, d } = self;
        column_sums(Columns {
            x: dy,
            factor: Some(kept),
            row_factor: rstd,
            products: Some(dgamma),
            sums: dbeta,
            scratch,
            n,
            d,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels::THREADS;
    use crate::gpu::{Address, Format};

    #[test]
    fn narrow_rows_share_a_workgroup() {
        assert_eq!([32, 128, 768, 4096].map(|d| THREADS / threads_of(d / 4)), [32, 16, 2, 1]);
        let at = |byte, len| Operand::new(Address::new(0, byte), len, Format::F32);
        let output = |kept, n, d: usize| {
            Output { kept, rstd: None, gamma: at(0, d), beta: None, y: at(1 << 20, n * d), n, d }.launch()
        };
        assert_eq!(output(at(4096, 640), 5, 128).grid, [1, 1, 1]);
        assert_eq!(output(at(4096, 640), 5, 128).source.name, "norm4");
        assert_eq!(output(at(4100, 640), 5, 128).source.name, "norm", "four values start at a multiple of 16 bytes");
        assert!(output(at(0, 0), 0, 128).is_empty() && output(at(0, 0), 3, 0).is_empty());
    }
}
