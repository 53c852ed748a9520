//! Matrix products: `x Wᵀ` forward, `dy W` backward, `dyᵀ x` for a weight's gradient.
//!
//! On a processor with AVX-512 they run on tiles of our own (`blocked`, `avx512`), which multiply operands as they are stored
//! (f32 or bf16), copy the left operand only where its format must change, and apply what follows a product (bias,
//! nonlinearity, residual, rounding) while the result is still in the cache. Elsewhere on the CPU they call the `gemm`
//! crate, on other devices what [`device`] says.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocked;
mod widened;

pub use widened::{Widen, takes_widened, widened_backward, widened_backward_add, widened_linear};

use super::activation::{self, Act};
use super::host::{self, HostRef, HostView, Number, Place, Shared, StoredRef, Values};
use super::{device, if_fast, is_fast, is_fast16, simd};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
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
    (is_fast(x) || is_fast16(x)) && matches!(w.dtype(), DType::F32 | DType::BF16)
}

/// Calls the fast version in x's format where there is one for x and w.
macro_rules! if_fast_product {
    ($x:expr, $w:expr, $f:ident($($arg:expr),*)) => {
        if fast($x, $w) {
            if_fast!($x, $f($($arg),*));
        }
    };
}

/// `values += bias[first..]`
fn add_bias(values: &mut [f32], bias: &[f32], first: usize) {
    let bias = &bias[first..first + values.len()];
    simd::vectors!(|| simd::update(values, bias, |v, b| *v += b));
}

/// A weight `[out, in]` in either form.
enum Rows<'a> {
    Stored(StoredRef<'a>, usize),
    Widened(&'a dyn Widen),
}

impl<'a> Rows<'a> {
    fn of(w: &'a Tensor) -> Result<Self> {
        Ok(Self::Stored(StoredRef::of(w)?, w.dim(1)?))
    }
    /// Outputs and inputs.
    fn dims(&self) -> (usize, usize) {
        match self {
            Self::Stored(w, d_in) => (w.values().len() / (*d_in).max(1), *d_in),
            Self::Widened(w) => w.dims(),
        }
    }
    /// `[in, out]`
    fn transposed(&self) -> Operand<'_> {
        match self {
            Self::Stored(w, d_in) => Stored::cols(w.values(), *d_in).into(),
            Self::Widened(w) => Operand::widened_transposed(*w),
        }
    }
    /// `[out, in]`
    fn whole(&self) -> Operand<'_> {
        match self {
            Self::Stored(w, d_in) => Stored::rows(w.values(), *d_in).into(),
            Self::Widened(w) => Operand::widened(*w),
        }
    }
}

fn check_widened(x: &Tensor, columns: usize) -> Result<()> {
    match dims2("operand of quantised weights", x)? {
        (_, found) if found == columns => Ok(()),
        (_, found) => Err(Error::internal(format!("{found} columns against quantised weights for {columns}"))),
    }
}

/// The rows of a matrix tensor as a product's operand.
fn rows<T: Number>(values: &[T], width: usize) -> Stored<'_> {
    Stored::rows(T::values(values), width)
}

/// `x Wᵀ (+ b)`. x `[n, in]`, w `[out, in]`, b `[out]` -> `[n, out]`
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    forward_dims(x, w)?;
    if_fast_product!(x, w, fast_linear(x, Rows::of(w)?, b));
    device::linear(x, w, b)
}

#[expect(clippy::needless_pass_by_value, reason = "borrows what it is, made for this call")]
fn fast_linear<T: Number>(x: &Tensor, w: Rows<'_>, b: Option<&Tensor>) -> Result<Tensor> {
    let ((n, _), (d_out, d_in)) = (x.dims2()?, w.dims());
    let (xs, bias) = (HostView::<T>::of(x)?, b.map(HostRef::of).transpose()?);
    let add = |_: usize, first: usize, piece: &mut [f32]| {
        if let Some(bias) = &bias {
            add_bias(piece, bias, first);
        }
    };
    let after: Option<After<'_>> = if bias.is_some() { Some(&add) } else { None };
    let out: Vec<T> = product([n, d_out, d_in], rows(&xs, d_in), w.transposed(), after);
    host::tensor(out, (n, d_out))
}

/// `z = x Wᵀ + b` and `act(z)`, in one pass. x `[n, in]`, w `[out, in]`, b `[out]` -> two of `[n, out]`
pub fn linear_act(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<(Tensor, Tensor)> {
    forward_dims(x, w)?;
    if_fast_product!(x, w, fast_linear_act(x, w, b, act));
    device::linear_act(x, w, b, act)
}

#[expect(unsafe_code, reason = "pieces of the second output are as disjoint as those of the first")]
fn fast_linear_act<T: Number>(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<(Tensor, Tensor)> {
    let (n, d_out, d_in) = forward_dims(x, w)?;
    let (xs, ws, bias) = (HostView::<T>::of(x)?, StoredRef::of(w)?, b.map(HostRef::of).transpose()?);
    let mut z: Vec<T> = Vec::new();
    let a = host::overwritten(n * d_out, |a: &mut [T]| {
        let a = Shared::new(a);
        z = product(
            [n, d_out, d_in],
            rows(&xs, d_in),
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
    if_fast_product!(dy, w, fast_backward(dy, Rows::of(w)?, None));
    device::linear_backward(dy, w)
}

/// `(dy W) act'(z)`: back through a linear layer and the nonlinearity before it. dy `[n, out]`, w `[out, in]`, z `[n, in]` -> `[n, in]`
pub fn linear_backward_act(dy: &Tensor, w: &Tensor, act: Act, z: &Tensor) -> Result<Tensor> {
    if_fast_product!(dy, w, fast_backward(dy, Rows::of(w)?, Some((act, z))));
    activation::backward(act, z, linear_backward(dy, w)?)
}

#[expect(clippy::needless_pass_by_value, reason = "borrows what it is, made for this call")]
fn fast_backward<T: Number>(dy: &Tensor, w: Rows<'_>, through: Option<(Act, &Tensor)>) -> Result<Tensor> {
    let ((n, _), (d_out, d_in)) = (dims2("gradient", dy)?, w.dims());
    let g = HostView::<T>::of(dy)?;
    let (dims, g, w) = ([n, d_in, d_out], rows(&g, d_out), w.whole());
    let Some((act, z)) = through else { return host::tensor(product::<T>(dims, g, w, None), (n, d_in)) };
    let z = HostView::<T>::of(z)?;
    let slopes = |row: usize, first: usize, piece: &mut [f32]| {
        let at = row * d_in + first;
        activation::slopes(act, &z[at..at + piece.len()], piece);
    };
    host::tensor(product::<T>(dims, g, w, Some(&slopes)), (n, d_in))
}

/// `acc + dy W`, reusing `acc`'s memory where possible: nobody else may hold it. dy `[n, out]`, w `[out, in]`, acc `[n, in]`
pub fn linear_backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    if dy.dtype() == acc.dtype() {
        if_fast_product!(dy, w, fast_backward_add(dy, Rows::of(w)?, acc));
    }
    device::linear_backward_add(dy, w, acc)
}

#[expect(clippy::needless_pass_by_value, reason = "borrows what it is, made for this call")]
fn fast_backward_add<T: Number>(dy: &Tensor, w: Rows<'_>, acc: Tensor) -> Result<Tensor> {
    let ((n, _), (d_out, d_in)) = (dims2("gradient", dy)?, w.dims());
    let g = HostView::<T>::of(dy)?;
    host::mutate(&acc, |out: &mut [T]| product_add([n, d_in, d_out], rows(&g, d_out), w.whole(), out))?;
    Ok(acc)
}

/// `dyᵀ x`: the gradient of a linear layer's weight, in f32. dy `[n, out]`, x `[n, in]` -> `[out, in]`
pub fn weight_grad(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear input", x)?);
    if !(is_fast(dy) || is_fast16(dy)) || !(is_fast(x) || is_fast16(x)) {
        return device::weight_grad(dy, x);
    }
    let (g, xs) = (StoredRef::of(dy)?, StoredRef::of(x)?);
    let grad = |(a, a_width): (Values<'_>, usize), (b, b_width): (Values<'_>, usize)| -> Vec<f32> {
        host::overwritten(a_width * b_width, |out: &mut [f32]| {
            out.fill(0.0);
            let block = Block { start: 0, row: b_width, add: false };
            let (a, b) = (Stored::cols(a, a_width), Stored::rows(b, b_width));
            product_block([a_width, b_width, n], a, b, out, block, 1.0, Precision::Single);
        })
    };
    // The left operand is read value by value: better the one that is f32 already.
    if is_fast16(dy) && is_fast(x) {
        let transposed = grad((xs.values(), d_in), (g.values(), d_out));
        let out = host::overwritten(d_out * d_in, |out: &mut [f32]| {
            for (i, row) in out.chunks_exact_mut(d_in).enumerate() {
                row.iter_mut().enumerate().for_each(|(j, o)| *o = transposed[j * d_out + i]);
            }
        });
        return host::tensor(out, (d_out, d_in));
    }
    host::tensor(grad((g.values(), d_out), (xs.values(), d_in)), (d_out, d_in))
}

/// Column sums: the gradient of a bias, in f32. dy `[n, out]` -> `[out]`
pub fn bias_grad(dy: &Tensor) -> Result<Tensor> {
    dims2("gradient", dy)?;
    if_fast!(dy, fast_bias_grad(dy));
    device::bias_grad(dy)
}

fn fast_bias_grad<T: Number>(dy: &Tensor) -> Result<Tensor> {
    let (_, d_out) = dims2("gradient", dy)?;
    host::tensor(host::column_sums(&HostView::<T>::of(dy)?, d_out), d_out)
}
