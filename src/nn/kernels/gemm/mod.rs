//! Matrix products: `x Wᵀ` forward, `dy W` backward, `dyᵀ x` for a weight's gradient.
//!
//! On a processor with AVX-512 they run on tiles of our own (`blocked`, `avx512`), which multiply operands as they are stored
//! (f32 or bf16), copy the left operand only where its format must change, and apply what follows a product (bias,
//! nonlinearity, residual, rounding) while the result is still in the cache. Elsewhere on the CPU they call the `gemm`
//! crate, on other devices what [`super::device`] says.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocked;
mod linear;
mod widened;

pub use linear::{
    bias_grad, linear, linear_act, linear_backward, linear_backward_act, linear_backward_add, weight_grad,
};
pub(super) use linear::{fast, like};
pub use widened::{Widen, takes_widened, widened_backward, widened_backward_add, widened_linear};

use super::host::{self, Number, Place, Values};
use super::simd;
use half::bf16;

/// A matrix in memory: values, and the distance between rows and between columns.
#[derive(Clone, Copy)]
pub struct Matrix<V> {
    /// First element at index 0.
    pub values: V,
    /// Distance between consecutive rows.
    pub row: usize,
    /// Distance between consecutive columns.
    pub col: usize,
}

/// A matrix of single-precision values.
pub type Mat<'a> = Matrix<&'a [f32]>;
/// A matrix in the precision it is stored in.
pub type Stored<'a> = Matrix<Values<'a>>;

impl<V> Matrix<V> {
    /// Row-major with `width` columns.
    pub fn rows(values: V, width: usize) -> Self {
        Self { values, row: width, col: 1 }
    }
    /// The transpose of a row-major matrix with `width` columns.
    pub fn cols(values: V, width: usize) -> Self {
        Self { values, row: 1, col: width }
    }
    /// The same values seen with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }
    fn holds(&self, len: usize, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < len
    }
}

impl<'a> Mat<'a> {
    /// As an operand that may be stored in any precision.
    pub fn stored(self) -> Stored<'a> {
        Matrix { values: Values::F32(self.values), row: self.row, col: self.col }
    }
}

impl<'a> From<Mat<'a>> for Stored<'a> {
    fn from(matrix: Mat<'a>) -> Self {
        matrix.stored()
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
    Stored(Stored<'a>),
    /// Values that are widened while they are packed.
    Widened(&'a dyn Widen, Orientation),
}

impl<'a> From<Stored<'a>> for Operand<'a> {
    fn from(matrix: Stored<'a>) -> Self {
        Self::Stored(matrix)
    }
}

impl<'a> From<Mat<'a>> for Operand<'a> {
    fn from(matrix: Mat<'a>) -> Self {
        Self::Stored(matrix.stored())
    }
}

impl Operand<'_> {
    fn holds(&self, rows: usize, cols: usize) -> bool {
        match self {
            Self::Stored(matrix) => matrix.holds(matrix.values.len(), rows, cols),
            Self::Widened(matrix, Orientation::Rows) => matrix.dims() == (rows, cols),
            Self::Widened(matrix, Orientation::Transposed) => matrix.dims() == (cols, rows),
        }
    }
}

/// The output: where it lies, row distance (columns are adjacent), and whether to add to what is there.
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
// SAFETY: tasks write disjoint blocks, see `blocked`.
unsafe impl Send for Out {}
#[expect(unsafe_code, reason = "an output is handed to tasks that write disjoint blocks of it")]
// SAFETY: as above.
unsafe impl Sync for Out {}

/// Whether products run on the tiles of this module.
pub fn has_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether weights stored in bf16 are multiplied as such, the left operand rounded to bf16, sums in f32.
pub fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::has_bf16();
    #[cfg(not(target_arch = "x86_64"))]
    false
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
struct Job<'a> {
    dims: [usize; 3],
    a: Stored<'a>,
    b: Operand<'a>,
    out: Out,
    scale: f32,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "elsewhere everything is multiplied in f32"))]
    precision: Precision,
    parallel: bool,
}

/// What happens to a finished piece of an output row: (row, first column, values). Pieces are disjoint and cover the output.
pub type After<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// `out (+)= scale * a b` for a: `[m, k]`, b: `[k, n]`, on one thread.
///
/// # Safety
/// `out.start` must be valid for writing `m` rows of `n` values at distance `out.row`, not aliased, and
/// initialised when `out.add` is set.
#[expect(unsafe_code, reason = "the caller vouches for the output")]
pub unsafe fn raw(dims: [usize; 3], a: Stored<'_>, b: Stored<'_>, out: Out, scale: f32, precision: Precision) {
    // SAFETY: passed on.
    unsafe { run(&Job { dims, a, b: b.into(), out, scale, precision, parallel: false }, None) }
}

/// # Safety
/// As for [`raw`].
#[expect(unsafe_code, reason = "hands checked pointers to the tiles or to the gemm crate")]
unsafe fn run(job: &Job<'_>, after: Option<After<'_>>) {
    let [m, n, k] = job.dims;
    if m == 0 || n == 0 {
        return;
    }
    assert!(job.a.holds(job.a.values.len(), m, k) && job.b.holds(k, n), "gemm operand too small for {m} x {n} x {k}");
    #[cfg(target_arch = "x86_64")]
    if k > 0 && avx512::available() {
        // SAFETY: operands were checked, the caller vouches for the output.
        unsafe { blocked::run(job, after) };
        return;
    }
    // SAFETY: as above.
    unsafe {
        match job.out.start {
            Place::F32(start) => elsewhere(job, start, job.out.row, job.out.add, after),
            Place::Bf16(start) => by_way_of_f32(job, start, after, &|start| elsewhere(job, start, n, false, None)),
        }
    }
}

/// A product whose output is bf16 by one that writes f32, rounded at the end. `product` gets the start of `[m, n]`.
///
/// # Safety
/// As for [`raw`]: `start` is the job's output.
#[expect(unsafe_code, reason = "the caller vouches for the output")]
unsafe fn by_way_of_f32(job: &Job<'_>, start: *mut bf16, after: Option<After<'_>>, product: &dyn Fn(*mut f32)) {
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
fn finish_row(row: &mut [f32], out: &mut [bf16], add: bool, after: &mut dyn FnMut(&mut [f32])) {
    if add {
        simd::vectors!(|| simd::update(row, out, |v, o| *v += simd::widen(o)));
    }
    after(row);
    simd::vectors!(|| simd::update(out, row, |o, v| *o = simd::narrow(v)));
}

/// The product by the `gemm` crate.
#[expect(unsafe_code, reason = "hands checked pointers to the gemm crate")]
unsafe fn elsewhere(job: &Job<'_>, start: *mut f32, row: usize, add: bool, after: Option<After<'_>>) {
    let [m, n, k] = job.dims;
    let (mut wide_a, mut wide_b) = (Vec::new(), Vec::new());
    let a = single(job.a.values, &mut wide_a);
    let (b, b_row, b_col) = match job.b {
        Operand::Stored(b) => (single(b.values, &mut wide_b), b.row, b.col),
        Operand::Widened(matrix, orientation) => {
            let (rows, columns) = matrix.dims();
            wide_b.resize(rows * columns, 0.0);
            wide_b.chunks_exact_mut(columns.max(1)).enumerate().for_each(|(i, row)| matrix.widen(i, 0, row));
            match orientation {
                Orientation::Rows => (&wide_b[..], columns, 1),
                Orientation::Transposed => (&wide_b[..], 1, columns),
            }
        }
    };
    let threads = rayon::current_num_threads();
    let parallel = job.parallel && threads > 1;
    let parallelism = if parallel { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: operands were checked to hold m x k and k x n elements; the caller vouches for the output.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            start,
            1,
            row as isize,
            add,
            a.as_ptr(),
            job.a.col as isize,
            job.a.row as isize,
            b.as_ptr(),
            b_col as isize,
            b_row as isize,
            1.0f32,
            job.scale,
            false,
            false,
            false,
            parallelism,
        );
    }
    let Some(after) = after else { return };
    for i in 0..m {
        // SAFETY: row i of the output, which the caller vouches for.
        after(i, 0, unsafe { std::slice::from_raw_parts_mut(start.add(i * row), n) });
    }
}

/// The values in single precision, converted into `buffer` where they are not.
fn single<'a>(values: Values<'a>, buffer: &'a mut Vec<f32>) -> &'a [f32] {
    match values {
        Values::F32(values) => values,
        Values::Bf16(values) => {
            *buffer = values.iter().map(|v| v.to_f32()).collect();
            buffer
        }
    }
}

/// `out = a b`, each finished piece of a row handed to `after`. `[m, k] x [k, n] -> [m, n]`
#[expect(unsafe_code, reason = "hands a checked slice to the product")]
pub fn product_into<'a, 'b, T: Number>(
    dims: [usize; 3],
    a: impl Into<Stored<'a>>,
    b: impl Into<Operand<'b>>,
    out: &mut [T],
    after: Option<After<'_>>,
) {
    let [m, n, k] = dims;
    assert!(out.len() >= m * n, "gemm output too small");
    if k == 0 {
        out[..m * n].fill(T::narrow(0.0));
    }
    let out = Out { start: T::place(out.as_mut_ptr()), row: n, add: k == 0 };
    let precision = Precision::Stored;
    // SAFETY: the slice is exclusive, long enough, and initialised where it is added to.
    unsafe { run(&Job { dims, a: a.into(), b: b.into(), out, scale: 1.0, precision, parallel: true }, after) }
}

/// As [`product_into`], into fresh memory.
pub fn product<'a, 'b, T: Number>(
    dims: [usize; 3],
    a: impl Into<Stored<'a>>,
    b: impl Into<Operand<'b>>,
    after: Option<After<'_>>,
) -> Vec<T> {
    host::overwritten(dims[0] * dims[1], |out| product_into(dims, a, b, out, after))
}

/// `out += a b`. `[m, k] x [k, n] -> [m, n]`
pub fn product_add<'a, 'b, T: Number>(
    dims: [usize; 3],
    a: impl Into<Stored<'a>>,
    b: impl Into<Operand<'b>>,
    out: &mut [T],
) {
    product_block(dims, a, b, out, Block { start: 0, row: dims[1], add: true }, 1.0, Precision::Stored);
}

/// A block of columns of a row-major matrix that is wider than what is written.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Index of the block's first element.
    pub start: usize,
    /// Distance between consecutive rows.
    pub row: usize,
    /// Add to the present values instead of overwriting.
    pub add: bool,
}

/// `out[block] (+)= scale * a b`; the rest of `out` stays. `[m, k] x [k, n] -> [m, n]`
#[expect(unsafe_code, reason = "hands a checked slice to the product")]
pub fn product_block<'a, 'b, T: Number>(
    dims: [usize; 3],
    a: impl Into<Stored<'a>>,
    b: impl Into<Operand<'b>>,
    out: &mut [T],
    block: Block,
    scale: f32,
    precision: Precision,
) {
    let [m, n, k] = dims;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(n <= block.row && block.start + (m - 1) * block.row + n <= out.len(), "gemm output too small");
    // SAFETY: the slice is exclusive and initialised, and holds m rows of n values at that distance.
    unsafe {
        let start = T::place(out.as_mut_ptr().add(block.start));
        let out = Out { start, row: block.row, add: block.add };
        run(&Job { dims, a: a.into(), b: b.into(), out, scale, precision, parallel: true }, None);
    }
}
