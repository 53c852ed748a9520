//! LoRA: `y[:, block] += scale (mask x) A_bᵀ B_bᵀ`, A and B each by its own runs. One module may write several blocks of a layer's
//! output; A has `rank` rows for each of them, B the rows of all.

use super::Runs;
use super::gradients::{Gradients, Part, Side, Values};
use super::product::{BLOCKS, Direction, Dropped, Factors, Product};
use crate::gpu::kernels::Mask;
use crate::gpu::{Launch, Operand};
use std::ops::Range;

/// The LoRA experts of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Rows.
    pub n: usize,
    /// Width of the layer's input.
    pub d_in: usize,
    /// Width of the rows of the layer's output.
    pub y_row: usize,
    /// r.
    pub rank: usize,
    /// The columns of the output that are written: one to three blocks, in the order of B's rows.
    pub columns: Vec<Range<usize>>,
    /// Factor of the module.
    pub scale: f32,
    /// Dropout of x; element (row, column) is number `row * d_in + column`.
    pub mask: Mask,
    /// A of all experts. `[experts, blocks * rank, d_in]`, f32
    pub a: Operand,
    /// B of all experts. `[experts, sum of the blocks' widths, rank]`, f32
    pub b: Operand,
    /// Whose A a row goes through.
    pub a_runs: Runs,
    /// Whose B a row goes through.
    pub b_runs: Runs,
}

impl LowRank {
    /// Columns of z.
    pub fn z_width(&self) -> usize {
        self.columns.len() * self.rank
    }

    /// Products with A, in one block.
    fn through_a(&self, direction: Direction, rows: [usize; 2], dropped: Dropped) -> Product {
        let blocks = [[0, self.z_width()], [0; 2], [0; 2]];
        let (n, inner, runs) = (self.n, self.d_in, self.a_runs);
        Product { n, inner, rows, blocks, count: 1, direction, scale: 1.0, dropped, runs }
    }

    /// Products with B, block by block.
    fn through_b(&self, direction: Direction, rows: [usize; 2]) -> Product {
        debug_assert!(self.columns.len() <= BLOCKS, "{} blocks of columns", self.columns.len());
        let mut blocks = [[0; 2]; BLOCKS];
        blocks.iter_mut().zip(&self.columns).for_each(|(block, columns)| *block = [columns.start, columns.len()]);
        let (n, inner, scale, runs) = (self.n, self.rank, self.scale, self.b_runs);
        let dropped = Dropped::Output(Mask::NONE);
        Product { n, inner, rows, blocks, count: self.columns.len(), direction, scale, dropped, runs }
    }

    /// The table of [`low_rank_gradients`]. An expert's gradient is that of A `[z_width, d_in]` (down) or of B `[sum of the blocks'
    /// widths, rank]` (up).
    pub fn tables(&self, down: Side<'_>, up: Side<'_>) -> Vec<u32> {
        self.all_gradients().table([down, up])
    }

    fn all_gradients(&self) -> Gradients {
        let (n, rank) = (self.n, self.rank);
        let mut row = 0;
        let block = |(i, columns): (usize, &Range<usize>)| {
            let first = row * rank;
            row += columns.len();
            Part { first, wide: [columns.start, columns.len()], narrow: [i * rank, rank] }
        };
        let up = self.columns.iter().enumerate().map(block).collect();
        let down = vec![Part { first: 0, wide: [0, self.d_in], narrow: [0, self.z_width()] }];
        let (widths, parts) = ([self.d_in, self.y_row, self.z_width()], [down, up]);
        Gradients { n, widths, rank, parts, act: None, bias: false, scale: self.scale, mask: self.mask }
    }
}

/// `z = (mask x) Aᵀ`. x `[n, d_in]` in any float format, z `[n, z_width]`, f32
pub fn low_rank_down(module: &LowRank, x: Operand, z: Operand) -> Launch {
    let rows = [module.d_in, module.z_width()];
    let product = module.through_a(Direction::Forward, rows, Dropped::Input(module.mask));
    product.launch(Factors { x, w: module.a, out: z, base: None, bias: None })
}

/// `y[:, block] += scale z_b B_bᵀ` in place. z `[n, z_width]`, f32; y `[n, y_row]` in any float format
pub fn low_rank_up(module: &LowRank, z: Operand, y: Operand) -> Launch {
    let product = module.through_b(Direction::Forward, [module.z_width(), module.y_row]);
    product.launch(Factors { x: z, w: module.b, out: y, base: Some(y), bias: None })
}

/// `dz_b = scale dy[:, block] B_b`. dy `[n, y_row]` in any float format, dz `[n, z_width]`, f32
pub fn low_rank_up_back(module: &LowRank, dy: Operand, dz: Operand) -> Launch {
    let product = module.through_b(Direction::Backward, [module.y_row, module.z_width()]);
    product.launch(Factors { x: dy, w: module.b, out: dz, base: None, bias: None })
}

/// `dx += mask (dz A)` in place. dz `[n, z_width]`, f32; dx `[n, d_in]` in any float format
pub fn low_rank_down_back(module: &LowRank, dz: Operand, dx: Operand) -> Launch {
    let rows = [module.z_width(), module.d_in];
    let product = module.through_a(Direction::Backward, rows, Dropped::Output(module.mask));
    product.launch(Factors { x: dz, w: module.a, out: dx, base: Some(dx), bias: None })
}

/// The gradients of `drawn` experts of A and of B: dA = dzᵀ (mask x), dB_b = scale dy[:, block]ᵀ z_b over each expert's rows. The
/// table is that of [`LowRank::tables`].
pub fn low_rank_gradients(module: &LowRank, values: Values, drawn: [usize; 2]) -> Launch {
    module.all_gradients().launch(values, drawn)
}
