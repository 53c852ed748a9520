//! Matrices that stay quantised on a device: kernels unpack their values as they read them.

mod blocks;

pub use blocks::Blocks;

use super::product::{Form, Product};
use super::rows::{over_rows, threads_of};
use crate::gpu::{Launch, Operand, Source, pool};

/// The text of a decoder with one way to store what it gives.
macro_rules! shader {
    ($decoder:literal, $store:literal) => {
        Source {
            name: concat!("quantised_gather_", $decoder, "_", $store),
            text: concat!(
                include_str!("../wgsl/quantised.wgsl"),
                include_str!(concat!("../wgsl/quantised_", $decoder, ".wgsl")),
                include_str!(concat!("../wgsl/quantised_store_", $store, ".wgsl")),
                include_str!("../wgsl/quantised_gather.wgsl"),
            ),
        }
    };
    ($decoder:literal) => {
        [shader!($decoder, "single"), shader!($decoder, "wide")]
    };
}

/// By decoder, and whether four values are stored at a time.
const GATHER: [[Source; 2]; 5] =
    [shader!("halves"), shader!("bytes"), shader!("fours"), shader!("groups"), shader!("sixes")];

/// A quantised matrix on a device, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Quantised {
    /// Its format.
    pub blocks: Blocks,
    /// What [`Blocks::pack`] gives, as U32.
    pub words: Operand,
    /// Its rows.
    pub rows: usize,
    /// Values of a row, whole blocks.
    pub columns: usize,
}

impl Quantised {
    /// `out = x Wᵀ`, as a product whose epilogue, leading dimensions and scratch memory can be set like those of any other.
    /// x `[m, columns]`, out `[m, rows]`
    pub fn forward(&self, m: usize, x: Operand, out: Operand) -> Product {
        self.product(Form::Nt, [m, self.rows, self.columns], x, out)
    }

    /// `out = dy W`, as [`Quantised::forward`]. dy `[m, rows]`, out `[m, columns]`
    pub fn backward(&self, m: usize, dy: Operand, out: Operand) -> Product {
        self.product(Form::Nn, [m, self.columns, self.rows], dy, out)
    }

    fn product(&self, form: Form, shape: [usize; 3], x: Operand, out: Operand) -> Product {
        Product { packed: Some(self.blocks), ..Product::new(form, shape, x, self.words, out) }
    }

    /// `out[i] = W[ids[i]]`; numbers that the matrix does not have are skipped. ids U32 `[n]`, out `[n, columns]` in f32 or f16
    pub fn gather(&self, ids: Operand, out: Operand, max_binding: u64) -> Vec<Launch> {
        let (n, columns) = (ids.len as usize, self.columns);
        if columns == 0 {
            return Vec::new();
        }
        // A binding may start somewhat earlier than what is bound.
        let limit = max_binding.min(1 << 32).saturating_sub(pool::ALIGNMENT);
        let at_once = ((limit / out.format.bytes()) as usize / columns).max(1);
        let rows = self.blocks.rows_in(limit, columns);
        let mut launches = Vec::new();
        for start in (0..n).step_by(at_once) {
            let count = at_once.min(n - start);
            let (ids, out) = (ids.part(start, count), out.part(start * columns, count * columns));
            launches.extend((0..self.rows).step_by(rows).map(|first| {
                let rows = [first, rows.min(self.rows - first)];
                self.gather_part(ids, out, rows)
            }));
        }
        launches
    }

    /// Of a part of the rows: the first of them, and how many.
    fn gather_part(&self, ids: Operand, out: Operand, [first, rows]: [usize; 2]) -> Launch {
        let Self { blocks, columns, .. } = *self;
        let words = self.words.part(blocks.words(first * columns), blocks.words(rows * columns));
        let wide = columns.is_multiple_of(4) && out.address.byte().is_multiple_of(4 * out.format.bytes());
        let source = GATHER[blocks.decoder() as usize][usize::from(wide)];
        let mut launch = Launch::new(source, "gather").constant("Y", out.format);
        for (name, value) in blocks.constants() {
            launch = launch.constant(name, value);
        }
        let n = ids.len as usize;
        over_rows(launch.operand(ids).operand(words).operand(out), n, threads_of(columns.div_ceil(4)))
            .ints([n, columns, first, rows])
            .work(2.0 * n as f64 * columns as f64)
    }
}
