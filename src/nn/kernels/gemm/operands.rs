//! What a matrix product takes: operands, output, precision.

use crate::nn::kernels::host::{Place, Values};
use crate::nn::kernels::simd;
use half::bf16;

/// A matrix in memory: values in the precision they are stored in, and the distance between rows and between columns.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// First element at index 0.
    pub values: Values<'a>,
    /// Distance between consecutive rows.
    pub row: usize,
    /// Distance between consecutive columns.
    pub col: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major with `width` columns.
    pub fn rows(values: impl Into<Values<'a>>, width: usize) -> Self {
        Self { values: values.into(), row: width, col: 1 }
    }
    /// The transpose of a row-major matrix with `width` columns.
    pub fn cols(values: impl Into<Values<'a>>, width: usize) -> Self {
        Self { values: values.into(), row: 1, col: width }
    }
    /// The same values seen with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }
    pub(super) fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.values.count()
    }
}

/// How a matrix that is widened is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientation {
    /// As it is.
    Rows,
    /// Rows and columns exchanged.
    Transposed,
}

/// A product's right operand.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// Values in memory.
    Stored(Matrix<'a>),
    /// Values that are widened while they are packed.
    Widened(&'a dyn Widen, Orientation),
}

impl<'a> From<Matrix<'a>> for Operand<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Stored(matrix)
    }
}

impl Operand<'_> {
    pub(super) fn holds(&self, rows: usize, cols: usize) -> bool {
        match self {
            Self::Stored(matrix) => matrix.holds(rows, cols),
            Self::Widened(matrix, Orientation::Rows) => matrix.dims() == (rows, cols),
            Self::Widened(matrix, Orientation::Transposed) => matrix.dims() == (cols, rows),
        }
    }
}

/// The output: where it starts, row distance (columns are adjacent), and whether to add to what is there.
#[derive(Clone, Copy)]
pub struct Out {
    /// First element.
    pub start: Place,
    /// Distance between consecutive rows.
    pub row: usize,
    /// Add to the present values instead of overwriting.
    pub add: bool,
}

#[expect(unsafe_code, reason = "an output is handed to tasks that write disjoint blocks of it")]
// SAFETY: tasks write disjoint blocks, see `super::blocked`.
unsafe impl Send for Out {}
#[expect(unsafe_code, reason = "an output is handed to tasks that write disjoint blocks of it")]
// SAFETY: as above.
unsafe impl Sync for Out {}

/// A matrix whose rows are widened where a product needs them.
pub trait Widen: Sync {
    /// Rows and columns.
    fn dims(&self) -> (usize, usize);
    /// How many neighbouring values of a row can only be widened together; divides the columns.
    fn granule(&self) -> usize;
    /// Values of a row from `column` on, as many as `out` holds. Both are multiples of the granule.
    fn widen(&self, row: usize, column: usize, out: &mut [f32]);
}

/// What a product's operands are multiplied as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// bf16 where the right operand is stored so and the processor has it: the left one is rounded to it.
    Stored,
    /// bf16 where the processor has it, both rounded to it, however they are stored.
    Rounded,
    /// f32, however they are stored.
    Single,
}

/// `out (+)= scale * a b` for a: `[m, k]`, b: `[k, n]`, dims `[m, n, k]`.
pub(super) struct Product<'a> {
    pub dims: [usize; 3],
    pub a: Matrix<'a>,
    pub b: Operand<'a>,
    pub out: Out,
    pub scale: f32,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "elsewhere everything is multiplied in f32"))]
    pub precision: Precision,
    pub parallel: bool,
}

/// What happens to a finished piece of an output row: (row, first column, values). Pieces are disjoint and cover the output.
pub type After<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// A product whose output is bf16 by one that writes f32, rounded at the end. `product` gets the start of `[m, n]`.
///
/// # Safety
/// As for `raw`: `start` is the job's output.
#[expect(unsafe_code, reason = "the output is the caller's promise")]
pub(super) unsafe fn by_way_of_f32(
    job: &Product<'_>,
    start: *mut bf16,
    after: Option<After<'_>>,
    product: &dyn Fn(*mut f32),
) {
    let [m, n, _] = job.dims;
    let mut sum = vec![0.0f32; m * n];
    product(sum.as_mut_ptr());
    for (i, row) in sum.chunks_exact_mut(n).enumerate() {
        // SAFETY: row i of the output, which the caller vouches for.
        let out = unsafe { std::slice::from_raw_parts_mut(start.add(i * job.out.row), n) };
        finish_row(row, out, job.out.add, &mut |row| {
            if let Some(after) = after {
                after(i, 0, row);
            }
        });
    }
}

/// One finished piece on its way to a bf16 output: what is there is added if asked, then comes what follows, then rounding.
pub(super) fn finish_row(row: &mut [f32], out: &mut [bf16], add: bool, after: &mut dyn FnMut(&mut [f32])) {
    if add {
        simd::vectors!(|| simd::update(row, out, |v, o| *v += simd::widen(o)));
    }
    after(row);
    simd::vectors!(|| simd::update(out, row, |o, v| *o = simd::narrow(v)));
}
