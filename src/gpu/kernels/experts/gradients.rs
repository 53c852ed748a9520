//! The gradients of all experts that were drawn, of both sides of a module, in one launch: adapters and LoRA.

use super::{GRADIENTS, TILE, launch, power_of_two_below};
use crate::gpu::kernels::{Mask, THREADS};
use crate::gpu::{Launch, Operand};

/// An expert that was drawn, and where its gradients begin in the memory for them, counted in values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Its number.
    pub expert: usize,
    /// The first value of its matrix's gradient; that of its bias follows at once.
    pub first: usize,
}

/// One side's runs, as in [`Runs`](super::Runs), and the experts to compute gradients of.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// First row and expert of each run.
    pub runs: &'a [[u32; 2]],
    /// The experts, in any order; one that had no row gets zeros.
    pub drawn: &'a [Drawn],
}

/// Columns of the wide and of the narrow matrix that make gradients together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    /// Values of the expert's gradient before this part's.
    pub first: usize,
    /// First column of the wide matrix, and how many.
    pub wide: [usize; 2],
    /// First column of the narrow matrix, and how many.
    pub narrow: [usize; 2],
}

/// What both sides' gradients are made of, and the memory for them. `x` and `dy` are the wide matrices, in any float format;
/// `z` and `dz` the narrow ones, f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// The module's input.
    pub x: Operand,
    /// The gradient of its output.
    pub dy: Operand,
    /// What the down side made of the input.
    pub z: Operand,
    /// The gradient of that.
    pub dz: Operand,
    /// The table of the launch, u32.
    pub table: Operand,
    /// The gradients of all drawn experts, f32.
    pub out: Operand,
}

/// The gradients of one module.
#[derive(Clone, Debug)]
pub(super) struct Gradients {
    /// Rows.
    pub n: usize,
    /// Widths of x's, dy's and z's rows.
    pub widths: [usize; 3],
    /// Columns of the narrow matrices to do at a time.
    pub rank: usize,
    /// The parts of each side, for every expert.
    pub parts: [Vec<Part>; 2],
    /// Nonlinearity of z.
    pub act: Option<u32>,
    /// Whether there are biases.
    pub bias: bool,
    /// Factor of the second side's gradients.
    pub scale: f32,
    /// Mask of x.
    pub mask: Mask,
}

impl Gradients {
    /// The table of a launch: the parts of each side for each of its experts, then the experts' rows.
    pub fn table(&self, sides: [Side<'_>; 2]) -> Vec<u32> {
        let both = || sides.iter().zip(&self.parts);
        let heads = 8 * both().map(|(side, parts)| side.drawn.len() * parts.len()).sum::<usize>();
        let (mut words, mut rows) = (Vec::with_capacity(heads), Vec::new());
        for (number, (side, parts)) in both().enumerate() {
            for drawn in side.drawn {
                let at = heads + rows.len();
                rows.extend(rows_of(self.n, side.runs, drawn.expert));
                let pairs = (heads + rows.len() - at) / 2;
                for Part { first, wide, narrow } in parts {
                    let head = [number, drawn.first + first, wide[0], wide[1], narrow[0], narrow[1], at, pairs];
                    words.extend(head.map(|word| word as u32));
                }
            }
        }
        words.extend(rows);
        words
    }

    /// The launch for a table with so many experts of each side.
    pub fn launch(&self, values: Values, drawn: [usize; 2]) -> Launch {
        let Values { x, dy, z, dz, table, out } = values;
        let used = || drawn.iter().zip(&self.parts).filter(|(drawn, _)| **drawn > 0);
        let parts = || used().flat_map(|(_, parts)| parts);
        let jobs: usize = used().map(|(drawn, parts)| drawn * parts.len()).sum();
        let width = parts().map(|part| part.wide[1]).max().unwrap_or(0);
        let narrow = self.rank.next_power_of_two().clamp(8, 64);
        let across = parts().map(|part| part.narrow[1].div_ceil(narrow)).max().unwrap_or(0);
        // The fewer experts, the smaller the tiles, so that enough workgroups share the work.
        let enough = |columns: &usize| width.div_ceil(*columns) * across * jobs >= 96;
        let columns = [64, 32].into_iter().find(enough).unwrap_or(16);
        // A thread carries three pieces at most.
        let depth = power_of_two_below((12 * THREADS).min(4 * TILE) / (columns + narrow));
        let shared = (depth * (columns + narrow) / 4).max(2 * THREADS);
        let places = parts().flat_map(|part| part.wide.into_iter().chain(part.narrow));
        let widths: Vec<usize> = places.chain(self.widths).collect();
        let Mask { key, threshold, scale } = self.mask;
        let flops: usize = parts().map(|part| 2 * part.wide[1] * part.narrow[1]).sum();
        launch(GRADIENTS, "gradients", &widths, &[x, dy, z, dz].map(Some), &[out, table].map(Some))
            .constant("ACT", self.act.unwrap_or(0))
            .constant("HAS_ACT", self.act.is_some())
            .constant("HAS_BIAS", self.bias)
            .constant("DROP", threshold > 0)
            .constant("THREADS", THREADS as u32)
            .constant("COLUMNS", columns as u32)
            .constant("NARROW", narrow as u32)
            .constant("DEPTH", depth as u32)
            .constant("SHARED", shared as u32)
            .ints(self.widths)
            .ints([across])
            .floats([self.scale])
            .ints([key as usize, threshold as usize])
            .floats([scale])
            .over([width.div_ceil(columns) * across, jobs, 1])
            .work(self.n as f64 * flops as f64)
    }
}

/// An expert's rows: for each of its runs what is added to a number in the list of its rows, and the number it ends at.
fn rows_of(n: usize, runs: &[[u32; 2]], expert: usize) -> Vec<u32> {
    let ends = runs.iter().skip(1).map(|run| run[0]).chain([n as u32]);
    let (mut words, mut count) = (Vec::new(), 0u32);
    for (run, end) in runs.iter().zip(ends) {
        if run[1] as usize == expert && run[0] < end {
            words.push(run[0].wrapping_sub(count));
            count += end - run[0];
            words.push(count);
        }
    }
    words
}
