//! Products of matrices in memory.

#[cfg(target_arch = "x86_64")]
use super::blocked;
use super::operands::{After, Operand, Orientation, Out, Precision, Product, Stored, by_way_of_f32};
use crate::nn::kernels::host::{Number, Place, Values};
#[cfg(target_arch = "x86_64")]
use crate::nn::kernels::simd;

/// `out (+)= scale * a b` for a: `[m, k]`, b: `[k, n]`, on one thread.
///
/// # Safety
/// `out.start` must be valid for writing `m` rows of `n` values at distance `out.row`, not aliased, and
/// initialised when `out.add` is set.
#[expect(unsafe_code, reason = "the caller vouches for the output")]
pub unsafe fn raw(dims: [usize; 3], a: Stored<'_>, b: Stored<'_>, out: Out, scale: f32, precision: Precision) {
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
    assert!(job.a.holds(job.a.values.len(), m, k) && job.b.holds(k, n), "gemm operand too small for {m} x {n} x {k}");
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

/// The product by the `gemm` crate.
#[expect(unsafe_code, reason = "hands checked pointers to the gemm crate")]
unsafe fn elsewhere(job: &Product<'_>, start: *mut f32, row: usize, add: bool, after: Option<After<'_>>) {
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
    unsafe { run(&Product { dims, a: a.into(), b: b.into(), out, scale: 1.0, precision, parallel: true }, after) }
}

/// As [`product_into`], behind the values of `out`.
#[expect(unsafe_code, reason = "clearing memory that is overwritten at once costs as much as using it")]
pub fn product_append<'a, 'b, T: Number>(
    dims: [usize; 3],
    a: impl Into<Stored<'a>>,
    b: impl Into<Operand<'b>>,
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
        run(&Product { dims, a: a.into(), b: b.into(), out: place, scale, precision, parallel: true }, after);
        out.set_len(end);
    }
}

/// As [`product_into`], into new memory.
pub fn product<'a, 'b, T: Number>(
    dims: [usize; 3],
    a: impl Into<Stored<'a>>,
    b: impl Into<Operand<'b>>,
    after: Option<After<'_>>,
) -> Vec<T> {
    let mut out = Vec::new();
    product_append(dims, a, b, &mut out, after);
    out
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
        run(&Product { dims, a: a.into(), b: b.into(), out, scale, precision, parallel: true }, None);
    }
}
