//! Products of matrices in memory.

#[cfg(target_arch = "x86_64")]
use super::blocked;
use super::operands::{After, Matrix, Operand, Orientation, Out, Precision, Product, Widen, by_way_of_f32};
use crate::nn::kernels::host::{self, Number, Place, Values};
#[cfg(target_arch = "x86_64")]
use crate::nn::kernels::simd;
use rayon::prelude::*;

/// Values that are widened at one time where there are no tiles: 16 MiB.
const SLICE: usize = 1 << 22;

/// `out (+)= scale * a b` for a: `[m, k]`, b: `[k, n]`, on one thread.
///
/// # Safety
/// `out.start` must be valid for writing `m` rows of `n` values at distance `out.row`, not aliased, and
/// initialised when `out.add` is set.
#[expect(unsafe_code, reason = "the output is the caller's promise")]
pub unsafe fn raw(dims: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, out: Out, scale: f32, precision: Precision) {
    // SAFETY: passed on.
    unsafe { run(&Product { dims, a, b: b.into(), out, scale, precision, parallel: false }, None) }
}

/// # Safety
/// As for [`raw`].
#[expect(unsafe_code, reason = "hands checked pointers to the tiles or to the gemm crate")]
unsafe fn run(job: &Product<'_>, after: Option<After<'_>>) {
    let [m, n, k] = job.dims;
    if m == 0 || n == 0 {
        return;
    }
    assert!(job.a.holds(m, k) && job.b.holds(k, n), "gemm operand too small for {m} x {n} x {k}");
    #[cfg(target_arch = "x86_64")]
    if k > 0 && simd::has_avx512() {
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

/// The product without tiles.
#[expect(unsafe_code, reason = "hands checked pointers to the gemm crate")]
unsafe fn elsewhere(job: &Product<'_>, start: *mut f32, row: usize, add: bool, after: Option<After<'_>>) {
    // SAFETY: operands were checked to hold m x k and k x n elements; the caller vouches for the output.
    unsafe {
        match job.b {
            Operand::Stored(b) => by_crate(job, job.dims, job.a, b, start, row, add),
            Operand::Widened(matrix, orientation) => in_slices(job, matrix, orientation, start, row, add),
        }
    }
    let Some(after) = after else { return };
    let [m, n, _] = job.dims;
    for i in 0..m {
        // SAFETY: row i of the output, which the caller vouches for.
        after(i, 0, unsafe { std::slice::from_raw_parts_mut(start.add(i * row), n) });
    }
}

/// A product with a matrix that is widened, at most [`SLICE`] values of it at a time.
#[expect(unsafe_code, reason = "hands checked pointers to the gemm crate")]
unsafe fn in_slices(
    job: &Product<'_>,
    matrix: &dyn Widen,
    orientation: Orientation,
    start: *mut f32,
    row: usize,
    add: bool,
) {
    let ([m, n, k], a, (rows, columns)) = (job.dims, job.a, matrix.dims());
    let most = (SLICE / columns.max(1)).clamp(1, rows.max(1));
    for first in (0..rows).step_by(most) {
        let len = most.min(rows - first);
        host::scratch(len * columns, |wide| {
            let blocks = wide.par_chunks_exact_mut(columns.max(1)).enumerate();
            let blocks = blocks.with_min_len(host::rows_per_task(columns));
            blocks.for_each(|(i, row)| matrix.widen(first + i, 0, row));
            // SAFETY: the slice lies inside the operands and the output.
            unsafe {
                match orientation {
                    Orientation::Rows => {
                        let a = Matrix { values: a.values.from(first * a.col), ..a };
                        by_crate(job, [m, n, len], a, Matrix::rows(&*wide, columns), start, row, add || first > 0);
                    }
                    Orientation::Transposed => {
                        let b = Matrix::cols(&*wide, columns);
                        by_crate(job, [m, len, k], a, b, start.add(first), row, add);
                    }
                }
            }
        });
    }
}

/// Part of a job by the `gemm` crate.
#[expect(unsafe_code, reason = "hands checked pointers to the gemm crate")]
unsafe fn by_crate(
    job: &Product<'_>,
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: *mut f32,
    row: usize,
    add: bool,
) {
    let (mut wide_a, mut wide_b) = (Vec::new(), Vec::new());
    let (a_values, b_values) = (single(a.values, &mut wide_a), single(b.values, &mut wide_b));
    let threads = rayon::current_num_threads();
    let parallel = job.parallel && threads > 1;
    let parallelism = if parallel { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: the caller vouches for operands and output.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            start,
            1,
            row as isize,
            add,
            a_values.as_ptr(),
            a.col as isize,
            a.row as isize,
            b_values.as_ptr(),
            b.col as isize,
            b.row as isize,
            1.0f32,
            job.scale,
            false,
            false,
            false,
            parallelism,
        );
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
pub fn product_into<'a, T: Number>(
    dims: [usize; 3],
    a: Matrix<'_>,
    b: impl Into<Operand<'a>>,
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
    unsafe { run(&Product { dims, a, b: b.into(), out, scale: 1.0, precision, parallel: true }, after) }
}

/// As [`product_into`], behind the values of `out`.
#[expect(unsafe_code, reason = "clearing memory that is overwritten at once costs as much as using it")]
pub fn product_append<'a, T: Number>(
    dims: [usize; 3],
    a: Matrix<'_>,
    b: impl Into<Operand<'a>>,
    out: &mut Vec<T>,
    after: Option<After<'_>>,
) {
    let [m, n, k] = dims;
    let end = out.len() + m * n;
    if k == 0 {
        let start = out.len();
        out.resize(end, T::narrow(0.0));
        return product_into(dims, a, b, &mut out[start..], after);
    }
    out.reserve(m * n);
    let place = Out { start: T::place(out.spare_capacity_mut().as_mut_ptr().cast()), row: n, add: false };
    let (scale, precision) = (1.0, Precision::Stored);
    // SAFETY: the capacity is there and exclusive; a product that does not add writes all m rows of n values.
    unsafe {
        run(&Product { dims, a, b: b.into(), out: place, scale, precision, parallel: true }, after);
        out.set_len(end);
    }
}

/// As [`product_into`], into new memory.
pub fn product<'a, T: Number>(
    dims: [usize; 3],
    a: Matrix<'_>,
    b: impl Into<Operand<'a>>,
    after: Option<After<'_>>,
) -> Vec<T> {
    let mut out = Vec::new();
    product_append(dims, a, b, &mut out, after);
    out
}

/// `out += a b`. `[m, k] x [k, n] -> [m, n]`
pub fn product_add<'a, T: Number>(dims: [usize; 3], a: Matrix<'_>, b: impl Into<Operand<'a>>, out: &mut [T]) {
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
pub fn product_block<'a, T: Number>(
    dims: [usize; 3],
    a: Matrix<'_>,
    b: impl Into<Operand<'a>>,
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
        run(&Product { dims, a, b: b.into(), out, scale, precision, parallel: true }, None);
    }
}
