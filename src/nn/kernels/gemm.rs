//! Matrix products: `x Wᵀ` forward, `dy W` backward, `dyᵀ x` for a weight's gradient.
//!
//! On the CPU they call the `gemm` crate directly, because it can start from what the output already holds:
//! a bias, a residual, a gradient to add to. Elsewhere they are candle's matmul.

use super::host::{self, HostRef};
use super::is_fast;
use crate::error::{Error, Result};
use candle_core::Tensor;
use gemm::Parallelism;

/// A matrix in memory: values, and the distance between rows and between columns.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    /// First element at index 0.
    pub values: &'a [f32],
    /// Distance between consecutive rows.
    pub row: usize,
    /// Distance between consecutive columns.
    pub col: usize,
}

impl<'a> Mat<'a> {
    /// Row-major with `width` columns.
    pub fn rows(values: &'a [f32], width: usize) -> Self {
        Self { values, row: width, col: 1 }
    }
    /// The transpose of a row-major matrix with `width` columns.
    pub fn cols(values: &'a [f32], width: usize) -> Self {
        Self { values, row: 1, col: width }
    }
    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.values.len()
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

/// `out (+)= scale * a b` for a: `[m, k]`, b: `[k, n]`.
///
/// # Safety
/// `out.start` must be valid for writing `m` rows of `n` values at distance `out.row`, not aliased, and
/// initialised when `out.add` is set.
#[expect(unsafe_code, reason = "hands checked pointers to the gemm crate")]
pub unsafe fn raw(dims: [usize; 3], a: Mat<'_>, b: Mat<'_>, out: Out, scale: f32, parallel: bool) {
    let [m, n, k] = dims;
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "gemm operand too small for {m} x {n} x {k}");
    let threads = rayon::current_num_threads();
    let parallelism = if parallel && threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: operands were checked to hold m x k and k x n elements; the caller vouches for the output.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.start,
            1,
            out.row as isize,
            out.add,
            a.values.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.col as isize,
            b.row as isize,
            1.0f32,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `a b` into fresh memory. `[m, k] x [k, n] -> [m, n]`
#[expect(unsafe_code, reason = "the product writes every element of memory that was only reserved")]
pub fn product(dims: [usize; 3], a: Mat<'_>, b: Mat<'_>) -> Vec<f32> {
    let [m, n, k] = dims;
    if k == 0 {
        return vec![0.0; m * n];
    }
    let mut out = Vec::with_capacity(m * n);
    // SAFETY: m * n elements are reserved, written whole by the product (add is off), then counted in.
    unsafe {
        raw(dims, a, b, Out { start: out.as_mut_ptr(), row: n, add: false }, 1.0, true);
        out.set_len(m * n);
    }
    out
}

/// `out += a b`. `[m, k] x [k, n] -> [m, n]`
#[expect(unsafe_code, reason = "hands a checked slice to the product")]
pub fn product_add(dims: [usize; 3], a: Mat<'_>, b: Mat<'_>, out: &mut [f32]) {
    let [m, n, k] = dims;
    assert!(out.len() >= m * n, "gemm output too small");
    if k > 0 {
        // SAFETY: the slice is exclusive, initialised and long enough.
        unsafe { raw(dims, a, b, Out { start: out.as_mut_ptr(), row: n, add: true }, 1.0, true) }
    }
}

fn dims2(what: &str, x: &Tensor) -> Result<(usize, usize)> {
    x.dims2().map_err(|_| Error::internal(format!("{what} must be a matrix, got shape {:?}", x.dims())))
}

/// `x Wᵀ (+ b)`. x `[n, in]`, w `[out, in]`, b `[out]` -> `[n, out]`
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let ((n, d_in), (d_out, w_in)) = (dims2("linear input", x)?, dims2("linear weight", w)?);
    if d_in != w_in {
        return Err(Error::internal(format!("linear input has {d_in} columns, its weight {w_in}")));
    }
    if !is_fast(x) {
        let y = x.matmul(&w.t()?)?;
        return Ok(match b {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        });
    }
    let (xs, ws) = (HostRef::of(x)?, HostRef::of(w)?);
    let (a, wt) = (Mat::rows(&xs, d_in), Mat::cols(&ws, d_in));
    let Some(b) = b else { return host::tensor(product([n, d_out, d_in], a, wt), (n, d_out)) };
    let bias = HostRef::of(b)?;
    // The product starts from the bias: cheaper than a pass over the output afterwards.
    let mut y = Vec::with_capacity(n * d_out);
    for _ in 0..n {
        y.extend_from_slice(&bias);
    }
    product_add([n, d_out, d_in], a, wt, &mut y);
    host::tensor(y, (n, d_out))
}

/// `dy W`: the gradient of a linear layer's input. dy `[n, out]`, w `[out, in]` -> `[n, in]`
pub fn linear_backward(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear weight", w)?);
    if !is_fast(dy) {
        return Ok(dy.matmul(w)?);
    }
    let (g, ws) = (HostRef::of(dy)?, HostRef::of(w)?);
    host::tensor(product([n, d_in, d_out], Mat::rows(&g, d_out), Mat::rows(&ws, d_in)), (n, d_in))
}

/// `acc + dy W`, reusing `acc`'s memory where possible: nobody else may hold it. dy `[n, out]`, w `[out, in]`, acc `[n, in]`
pub fn linear_backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    if !is_fast(dy) {
        return Ok((acc + dy.matmul(w)?)?);
    }
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear weight", w)?);
    let (g, ws) = (HostRef::of(dy)?, HostRef::of(w)?);
    host::mutate(&acc, |out| product_add([n, d_in, d_out], Mat::rows(&g, d_out), Mat::rows(&ws, d_in), out))?;
    Ok(acc)
}

/// `acc + x Wᵀ`, reusing `acc`'s memory where possible: nobody else may hold it. x `[n, in]`, w `[out, in]`, acc `[n, out]`
pub fn linear_add(x: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    if !is_fast(x) {
        return Ok((acc + x.matmul(&w.t()?)?)?);
    }
    let ((n, d_in), (d_out, _)) = (dims2("linear input", x)?, dims2("linear weight", w)?);
    let (xs, ws) = (HostRef::of(x)?, HostRef::of(w)?);
    host::mutate(&acc, |out| product_add([n, d_out, d_in], Mat::rows(&xs, d_in), Mat::cols(&ws, d_in), out))?;
    Ok(acc)
}

/// `dyᵀ x`: the gradient of a linear layer's weight. dy `[n, out]`, x `[n, in]` -> `[out, in]`
pub fn weight_grad(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear input", x)?);
    if !is_fast(dy) {
        return Ok(dy.t()?.matmul(x)?);
    }
    let (g, xs) = (HostRef::of(dy)?, HostRef::of(x)?);
    host::tensor(product([d_out, d_in, n], Mat::cols(&g, d_out), Mat::rows(&xs, d_in)), (d_out, d_in))
}

/// Column sums: the gradient of a bias. dy `[n, out]` -> `[out]`
pub fn bias_grad(dy: &Tensor) -> Result<Tensor> {
    let (_, d_out) = dims2("gradient", dy)?;
    if !is_fast(dy) {
        return Ok(dy.sum(0)?);
    }
    host::tensor(host::column_sums(&HostRef::of(dy)?, d_out), d_out)
}
