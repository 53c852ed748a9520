//! Matrix products: `x Wᵀ` forward, `dy W` backward, `dyᵀ x` for a weight's gradient.
//!
//! On a processor with AVX-512 they run on tiles of our own (`blocked`, `avx512`), which multiply weights as they are stored
//! (f32 or bf16), never copy the left operand, and apply what follows a product (bias, nonlinearity, residual) while the
//! result is still in the cache. Elsewhere on the CPU they call the `gemm` crate, on other devices what [`device`] says.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocked;

use super::activation::{self, Act};
use super::host::{self, HostRef, Shared, StoredRef, Values};
use super::{device, is_fast, simd};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};

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

/// The output: where it lies, row distance (columns are adjacent), and whether to add to what is there.
#[derive(Clone, Copy)]
pub struct Out {
    /// First element.
    pub start: *mut f32,
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

/// `out (+)= scale * a b` for a: `[m, k]`, b: `[k, n]`, dims `[m, n, k]`.
struct Job<'a> {
    dims: [usize; 3],
    a: Mat<'a>,
    b: Stored<'a>,
    out: Out,
    scale: f32,
    parallel: bool,
}

/// What happens to a finished piece of an output row: (row, first column, values). Pieces are disjoint and cover the output.
pub type After<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// `out (+)= scale * a b` for a: `[m, k]`, b: `[k, n]`.
///
/// # Safety
/// `out.start` must be valid for writing `m` rows of `n` values at distance `out.row`, not aliased, and
/// initialised when `out.add` is set.
#[expect(unsafe_code, reason = "the caller vouches for the output")]
pub unsafe fn raw(dims: [usize; 3], a: Mat<'_>, b: Mat<'_>, out: Out, scale: f32, parallel: bool) {
    // SAFETY: passed on.
    unsafe { run(&Job { dims, a, b: b.stored(), out, scale, parallel }, None) }
}

/// # Safety
/// As for [`raw`].
#[expect(unsafe_code, reason = "hands checked pointers to the tiles or to the gemm crate")]
unsafe fn run(job: &Job<'_>, after: Option<After<'_>>) {
    let [m, n, k] = job.dims;
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        job.a.holds(job.a.values.len(), m, k) && job.b.holds(job.b.values.len(), k, n),
        "gemm operand too small for {m} x {n} x {k}"
    );
    #[cfg(target_arch = "x86_64")]
    if k > 0 && avx512::available() {
        // SAFETY: operands were checked, the caller vouches for the output.
        unsafe { blocked::run(job, after) };
        return;
    }
    // SAFETY: as above.
    unsafe { elsewhere(job) };
    let Some(after) = after else { return };
    for i in 0..m {
        // SAFETY: row i of the output, which the caller vouches for.
        after(i, 0, unsafe { std::slice::from_raw_parts_mut(job.out.start.add(i * job.out.row), n) });
    }
}

/// The product by the `gemm` crate.
#[expect(unsafe_code, reason = "hands checked pointers to the gemm crate")]
unsafe fn elsewhere(job: &Job<'_>) {
    let [m, n, k] = job.dims;
    let wide: Vec<f32>;
    let b = match job.b.values {
        Values::F32(values) => values,
        Values::Bf16(values) => {
            wide = values.iter().map(|v| v.to_f32()).collect();
            &wide
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
            job.out.start,
            1,
            job.out.row as isize,
            job.out.add,
            job.a.values.as_ptr(),
            job.a.col as isize,
            job.a.row as isize,
            b.as_ptr(),
            job.b.col as isize,
            job.b.row as isize,
            1.0f32,
            job.scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `out = a b`, each finished piece of a row handed to `after`. `[m, k] x [k, n] -> [m, n]`
#[expect(unsafe_code, reason = "hands a checked slice to the product")]
pub fn product_into(dims: [usize; 3], a: Mat<'_>, b: Stored<'_>, out: &mut [f32], after: Option<After<'_>>) {
    let [m, n, k] = dims;
    assert!(out.len() >= m * n, "gemm output too small");
    if k == 0 {
        out[..m * n].fill(0.0);
    }
    let out = Out { start: out.as_mut_ptr(), row: n, add: k == 0 };
    // SAFETY: the slice is exclusive, long enough, and initialised where it is added to.
    unsafe { run(&Job { dims, a, b, out, scale: 1.0, parallel: true }, after) }
}

/// As [`product_into`], into fresh memory.
pub fn product(dims: [usize; 3], a: Mat<'_>, b: Stored<'_>, after: Option<After<'_>>) -> Vec<f32> {
    host::overwritten(dims[0] * dims[1], |out| product_into(dims, a, b, out, after))
}

/// `out += a b`. `[m, k] x [k, n] -> [m, n]`
#[expect(unsafe_code, reason = "hands a checked slice to the product")]
pub fn product_add(dims: [usize; 3], a: Mat<'_>, b: Stored<'_>, out: &mut [f32]) {
    let [m, n, k] = dims;
    assert!(out.len() >= m * n, "gemm output too small");
    if k > 0 {
        let out = Out { start: out.as_mut_ptr(), row: n, add: true };
        // SAFETY: the slice is exclusive, initialised and long enough.
        unsafe { run(&Job { dims, a, b, out, scale: 1.0, parallel: true }, None) }
    }
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
pub fn product_block(dims: [usize; 3], a: Mat<'_>, b: Mat<'_>, out: &mut [f32], block: Block, scale: f32) {
    let [m, n, k] = dims;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(n <= block.row && block.start + (m - 1) * block.row + n <= out.len(), "gemm output too small");
    // SAFETY: the slice is exclusive and initialised, and holds m rows of n values at that distance.
    unsafe {
        let start = out.as_mut_ptr().add(block.start);
        raw(dims, a, b, Out { start, row: block.row, add: block.add }, scale, true);
    }
}

fn dims2(what: &str, x: &Tensor) -> Result<(usize, usize)> {
    x.dims2().map_err(|_| Error::internal(format!("{what} must be a matrix, got shape {:?}", x.dims())))
}

/// Rows, outputs and inputs of `x Wᵀ`.
fn forward_dims(x: &Tensor, w: &Tensor) -> Result<(usize, usize, usize)> {
    let ((n, d_in), (d_out, w_in)) = (dims2("linear input", x)?, dims2("linear weight", w)?);
    if d_in != w_in {
        return Err(Error::internal(format!("linear input has {d_in} columns, its weight {w_in}")));
    }
    Ok((n, d_out, d_in))
}

/// The weight in the precision of `x`, for candle's matmul.
pub(super) fn like(w: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(if w.dtype() == x.dtype() { w.clone() } else { w.to_dtype(x.dtype())? })
}

/// Whether the fast version multiplies these.
pub(super) fn fast(x: &Tensor, w: &Tensor) -> bool {
    is_fast(x) && matches!(w.dtype(), DType::F32 | DType::BF16)
}

/// `values += bias[first..]`
fn add_bias(values: &mut [f32], bias: &[f32], first: usize) {
    let bias = &bias[first..first + values.len()];
    simd::vectorized(|| values.iter_mut().zip(bias).for_each(|(v, b)| *v += b));
}

/// `x Wᵀ (+ b)`. x `[n, in]`, w `[out, in]`, b `[out]` -> `[n, out]`
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (n, d_out, d_in) = forward_dims(x, w)?;
    if !fast(x, w) {
        return device::linear(x, w, b);
    }
    let (xs, ws, bias) = (HostRef::of(x)?, StoredRef::of(w)?, b.map(HostRef::of).transpose()?);
    let add = |_: usize, first: usize, piece: &mut [f32]| {
        if let Some(bias) = &bias {
            add_bias(piece, bias, first);
        }
    };
    let after: Option<After<'_>> = if bias.is_some() { Some(&add) } else { None };
    host::tensor(product([n, d_out, d_in], Mat::rows(&xs, d_in), Stored::cols(ws.values(), d_in), after), (n, d_out))
}

/// `z = x Wᵀ + b` and `act(z)`, in one pass. x `[n, in]`, w `[out, in]`, b `[out]` -> two of `[n, out]`
#[expect(unsafe_code, reason = "pieces of the second output are as disjoint as those of the first")]
pub fn linear_act(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<(Tensor, Tensor)> {
    let (n, d_out, d_in) = forward_dims(x, w)?;
    if !fast(x, w) {
        return device::linear_act(x, w, b, act);
    }
    let (xs, ws, bias) = (HostRef::of(x)?, StoredRef::of(w)?, b.map(HostRef::of).transpose()?);
    let mut z = Vec::new();
    let a = host::overwritten(n * d_out, |a| {
        let a = Shared::new(a);
        z = product(
            [n, d_out, d_in],
            Mat::rows(&xs, d_in),
            Stored::cols(ws.values(), d_in),
            Some(&|row, first, piece| {
                if let Some(bias) = &bias {
                    add_bias(piece, bias, first);
                }
                // SAFETY: the product's pieces are disjoint and lie inside [n, d_out].
                activation::values(act, piece, unsafe { a.piece(row * d_out + first, piece.len()) });
            }),
        );
    });
    Ok((host::tensor(z, (n, d_out))?, host::tensor(a, (n, d_out))?))
}

/// `dy W`: the gradient of a linear layer's input. dy `[n, out]`, w `[out, in]` -> `[n, in]`
pub fn linear_backward(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear weight", w)?);
    if !fast(dy, w) {
        return device::linear_backward(dy, w);
    }
    let (g, ws) = (HostRef::of(dy)?, StoredRef::of(w)?);
    let out = product([n, d_in, d_out], Mat::rows(&g, d_out), Stored::rows(ws.values(), d_in), None);
    host::tensor(out, (n, d_in))
}

/// `(dy W) act'(z)`: back through a linear layer and the nonlinearity before it. dy `[n, out]`, w `[out, in]`, z `[n, in]` -> `[n, in]`
pub fn linear_backward_act(dy: &Tensor, w: &Tensor, act: Act, z: &Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear weight", w)?);
    if !fast(dy, w) {
        return activation::backward(act, z, linear_backward(dy, w)?);
    }
    let (g, ws, z) = (HostRef::of(dy)?, StoredRef::of(w)?, HostRef::of(z)?);
    let out = product(
        [n, d_in, d_out],
        Mat::rows(&g, d_out),
        Stored::rows(ws.values(), d_in),
        Some(&|row, first, piece| {
            let at = row * d_in + first;
            activation::slopes(act, &z[at..at + piece.len()], piece);
        }),
    );
    host::tensor(out, (n, d_in))
}

/// `acc + dy W`, reusing `acc`'s memory where possible: nobody else may hold it. dy `[n, out]`, w `[out, in]`, acc `[n, in]`
pub fn linear_backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    if !fast(dy, w) {
        return device::linear_backward_add(dy, w, acc);
    }
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear weight", w)?);
    let (g, ws) = (HostRef::of(dy)?, StoredRef::of(w)?);
    let (g, ws) = (Mat::rows(&g, d_out), Stored::rows(ws.values(), d_in));
    host::mutate(&acc, |out| product_add([n, d_in, d_out], g, ws, out))?;
    Ok(acc)
}

/// `dyᵀ x`: the gradient of a linear layer's weight. dy `[n, out]`, x `[n, in]` -> `[out, in]`
pub fn weight_grad(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear input", x)?);
    if !is_fast(dy) || !is_fast(x) {
        return device::weight_grad(dy, x);
    }
    let (g, xs) = (HostRef::of(dy)?, HostRef::of(x)?);
    let out = product([d_out, d_in, n], Mat::cols(&g, d_out), Mat::rows(&xs, d_in).stored(), None);
    host::tensor(out, (d_out, d_in))
}

/// Column sums: the gradient of a bias. dy `[n, out]` -> `[out]`
pub fn bias_grad(dy: &Tensor) -> Result<Tensor> {
    let (_, d_out) = dims2("gradient", dy)?;
    if !is_fast(dy) {
        return device::bias_grad(dy);
    }
    host::tensor(host::column_sums(&HostRef::of(dy)?, d_out), d_out)
}
