//! One product with the matrix of each row's expert, and what LoRA is made of.

use super::{PRODUCT, Runs, TILE, launch, power_of_two_below};
use crate::gpu::kernels::{Mask, THREADS};
use crate::gpu::{Launch, Operand};

/// Most blocks of columns of one launch.
pub(super) const BLOCKS: usize = 3;

/// Which way a product goes through a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `x Wᵀ`
    Forward,
    /// `x W`
    Backward,
}

/// What a dropout mask is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dropped {
    /// The values that go into the product.
    Input(Mask),
    /// The product.
    Output(Mask),
}

/// A product: `scale x_b W_bᵀ` or `scale x_b W_b` for each block b. The block's columns are those of the output (forward) or of x
/// (backward); on the other side it has the b-th `inner` columns. W `[experts, rows of all blocks, inner]`
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Rows.
    pub n: usize,
    /// Columns of W.
    pub inner: usize,
    /// Width of x's and of the output's rows.
    pub rows: [usize; 2],
    /// First column and number of columns of each block; none is left out between two.
    pub blocks: [[usize; 2]; BLOCKS],
    /// How many blocks there are.
    pub count: usize,
    /// Forward or backward.
    pub direction: Direction,
    /// Factor of the product.
    pub scale: f32,
    /// Dropout.
    pub dropped: Dropped,
    /// Whose W a row goes through.
    pub runs: Runs,
}

/// What a product works on. All floats; the sums are f32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    /// Rows.
    pub x: Operand,
    /// All matrices.
    pub w: Operand,
    /// Result.
    pub out: Operand,
    /// What the product is added to, which may be `out` itself.
    pub base: Option<Operand>,
    /// What is added to every row of an expert.
    pub bias: Option<Operand>,
}

/// How a workgroup does its part of the result; the shader explains the names.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tiles {
    rows: usize,
    columns: usize,
    quads: usize,
    shared: usize,
}

impl Tiles {
    /// For `n` rows of `width` columns, each a sum of `depth` products.
    fn new(n: usize, width: usize, depth: usize) -> Self {
        let (rows, columns) = match width {
            ..=64 => (if n < 4096 { 16 } else { 32 }, width.next_power_of_two().max(8)),
            _ if n <= 16 => (16, 64),
            _ => (64, 64),
        };
        let slices = 16 * THREADS / (rows * columns);
        let most = power_of_two_below(TILE / (rows + columns));
        let quads = depth.div_ceil(4).next_power_of_two().max(slices).min(most);
        let folded = if slices > 1 { 2 * THREADS } else { 0 };
        Self { rows, columns, quads, shared: ((rows + columns) * quads).max(folded) }
    }
}

impl Product {
    pub(super) fn launch(self, factors: Factors) -> Launch {
        let Self { n, inner, rows: [x_row, out_row], blocks, count, direction, scale, dropped, runs } = self;
        let Factors { x, w, out, base, bias } = factors;
        let blocks_used = || blocks.iter().take(count);
        let most = blocks_used().map(|block| block[1]).max().unwrap_or(0);
        let total: usize = blocks_used().map(|block| block[1]).sum();
        let (width, depth) = if direction == Direction::Forward { (most, inner) } else { (inner, most) };
        let Tiles { rows, columns, quads, shared } = Tiles::new(n, width, depth);
        let (mask, on_input) = match dropped {
            Dropped::Input(mask) => (mask, true),
            Dropped::Output(mask) => (mask, false),
        };
        let Mask { key, threshold, scale: keep } = mask;
        let widths: Vec<usize> = blocks_used().flatten().copied().chain([inner, x_row, out_row]).collect();
        let floats = [Some(x), Some(w), Some(out), base, bias];
        launch(PRODUCT, "product", &widths, &floats, &[None, None, Some(runs.operand)])
            .constant("BACK", direction == Direction::Backward)
            .constant("HAS_BASE", base.is_some())
            .constant("HAS_BIAS", bias.is_some())
            .constant("DROP_INPUT", on_input && threshold > 0)
            .constant("DROP_OUTPUT", !on_input && threshold > 0)
            .constant("THREADS", THREADS as u32)
            .constant("ROWS", rows as u32)
            .constant("COLUMNS", columns as u32)
            .constant("QUADS", quads as u32)
            .constant("SHARED", shared as u32)
            .ints([n, inner, total, x_row, out_row])
            .ints(blocks.map(|block| block[0]))
            .ints(blocks.map(|block| block[1]))
            .ints([runs.count])
            .floats([scale])
            .ints([key as usize, threshold as usize])
            .floats([keep])
            .over([width.div_ceil(columns), n.div_ceil(rows), count])
            .work(2.0 * n as f64 * inner as f64 * total as f64)
    }
}

/// Matrices of one shape, such as the experts of a bank, and which of them each row goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routed {
    /// Rows.
    pub n: usize,
    /// Columns of a matrix.
    pub d_in: usize,
    /// Rows of a matrix.
    pub d_out: usize,
    /// W of all experts. `[experts, d_out, d_in]`
    pub weight: Operand,
    /// b of all experts, where they have one. `[experts, d_out]`
    pub bias: Option<Operand>,
    /// The expert of each row.
    pub runs: Runs,
}

/// `out = base + x Wᵀ + b` (x `[n, d_in]`, base and out `[n, d_out]`) or `out = base + x W` (x `[n, d_out]`, base and out
/// `[n, d_in]`) with each row's own W and b. All in any float formats; base may be out, x may not.
pub fn routed_product(
    matrices: &Routed,
    direction: Direction,
    x: Operand,
    base: Option<Operand>,
    out: Operand,
) -> Launch {
    let Routed { n, d_in, d_out, weight, bias, runs } = *matrices;
    let (rows, bias) = match direction {
        Direction::Forward => ([d_in, d_out], bias),
        Direction::Backward => ([d_out, d_in], None),
    };
    let blocks = [[0, d_out], [0; 2], [0; 2]];
    let dropped = Dropped::Output(Mask::NONE);
    let product = Product { n, inner: d_in, rows, blocks, count: 1, direction, scale: 1.0, dropped, runs };
    product.launch(Factors { x, w: weight, out, base, bias })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_every_width() {
        let sizes = [0, 1, 5, 16, 17, 64, 65, 300, 5000];
        for (n, width) in sizes.into_iter().flat_map(|n| (1..300).map(move |width| (n, width))) {
            for depth in sizes {
                let tiles = Tiles::new(n, width, depth);
                let Tiles { rows, columns, quads, shared } = tiles;
                let lanes = rows * columns / 16;
                assert!(THREADS.is_multiple_of(lanes) && quads >= THREADS / lanes, "{tiles:?}");
                assert!((rows + columns) * quads <= shared && shared <= TILE, "{tiles:?}");
            }
        }
    }
}
