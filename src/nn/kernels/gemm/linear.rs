//! Products of linear layers on tensors: `x Wᵀ` forward, `dy W` backward, `dyᵀ x` for a weight's gradient.

use super::operands::{After, Matrix, Operand, Orientation, Precision, Widen};
use super::product::{Block, product, product_add, product_block};
use crate::error::{Error, Result};
use crate::nn::kernels::activation;
use crate::nn::kernels::cuda::on_cuda;
use crate::nn::kernels::device::{half, if_fast, takes_fast, widen};
use crate::nn::kernels::gpu::on_gpu;
use crate::nn::kernels::host::{self, HostRef, HostView, Number, Shared, StoredRef, Unwritten, Values};
use crate::nn::kernels::simd;
use crate::nn::kernels::types::Act;
use crate::tensor::{DType, Tensor};
use std::mem::MaybeUninit;

fn dims2(what: &str, x: &Tensor) -> Result<(usize, usize)> {
    x.dims2().map_err(|_| Error::internal(format!("{what} must be a matrix, got shape {:?}", x.dims())))
}

/// Rows of a matrix with so many columns.
pub(in crate::nn::kernels) fn checked_rows(what: &str, x: &Tensor, columns: usize) -> Result<usize> {
    match dims2(what, x)? {
        (n, found) if found == columns => Ok(n),
        (_, found) => Err(Error::internal(format!("{what} has {found} columns, its weight {columns}"))),
    }
}

/// Rows, outputs and inputs of `x Wᵀ`.
fn forward_dims(x: &Tensor, w: &Tensor) -> Result<(usize, usize, usize)> {
    let (d_out, d_in) = dims2("linear weight", w)?;
    Ok((checked_rows("linear input", x, d_in)?, d_out, d_in))
}

/// The weight in the precision of `x`, for candle's matmul.
pub(in crate::nn::kernels) fn like(w: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(if w.dtype() == x.dtype() { w.clone() } else { w.to_dtype(x.dtype())? })
}

/// Whether the fast version multiplies these.
pub(in crate::nn::kernels) fn fast(x: &Tensor, w: &Tensor) -> bool {
    takes_fast(x) && matches!(w.dtype(), DType::F32 | DType::BF16)
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
            Self::Stored(w, d_in) => (w.values().count() / (*d_in).max(1), *d_in),
            Self::Widened(w) => w.dims(),
        }
    }
    /// `[in, out]`
    fn transposed(&self) -> Operand<'_> {
        match self {
            Self::Stored(w, d_in) => Matrix::cols(w.values(), *d_in).into(),
            Self::Widened(w) => Operand::Widened(*w, Orientation::Transposed),
        }
    }
    /// `[out, in]`
    fn whole(&self) -> Operand<'_> {
        match self {
            Self::Stored(w, d_in) => Matrix::rows(w.values(), *d_in).into(),
            Self::Widened(w) => Operand::Widened(*w, Orientation::Rows),
        }
    }
}

/// The rows of a matrix tensor as a product's operand.
fn rows<T: Number>(values: &[T], width: usize) -> Matrix<'_> {
    Matrix::rows(T::values(values), width)
}

/// `x Wᵀ (+ b)`. x `[n, in]`, w `[out, in]`, b `[out]` -> `[n, out]`
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    forward_dims(x, w)?;
    if_fast_product!(x, w, fast_linear(x, &Rows::of(w)?, b));
    on_gpu!(x, linear::linear(x, w, b));
    on_cuda!(x, ops::linear(x, w, b));
    if half(x) {
        // Weights stay as they are stored: the CPU's products read bf16.
        return linear(&widen(x)?, w, b)?.to_dtype(x.dtype());
    }
    let y = x.matmul(&like(w, x)?.t()?)?;
    Ok(match b {
        Some(b) => y.broadcast_add(&like(b, x)?)?,
        None => y,
    })
}

fn fast_linear<T: Number>(x: &Tensor, w: &Rows<'_>, b: Option<&Tensor>) -> Result<Tensor> {
    let (d_out, d_in) = w.dims();
    let n = checked_rows("linear input", x, d_in)?;
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

/// `x Wᵀ` in f32. On a GPU x takes the format of W's values first. x `[n, in]`, w `[out, in]` -> `[n, out]`
pub fn logits(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    forward_dims(x, w)?;
    on_gpu!(w, linear::logits(x, w));
    on_cuda!(w, lm_ops::logits(x, w));
    linear(&widen(x)?, w, None)
}

/// `z = x Wᵀ + b` and `act(z)`, in one pass. x `[n, in]`, w `[out, in]`, b `[out]` -> two of `[n, out]`
pub fn linear_act(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<(Tensor, Tensor)> {
    forward_dims(x, w)?;
    if_fast_product!(x, w, fast_linear_act(x, w, b, act));
    on_gpu!(x, linear::linear_act(x, w, b, act));
    on_cuda!(x, ops::linear_act(x, w, b, act));
    let z = linear(x, w, b)?;
    let y = activation::forward(act, &z)?;
    Ok((z, y))
}

#[expect(unsafe_code, reason = "pieces of the second output are as disjoint as those of the first")]
fn fast_linear_act<T: Number>(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<(Tensor, Tensor)> {
    let (n, d_out, d_in) = forward_dims(x, w)?;
    let (xs, ws, bias) = (HostView::<T>::of(x)?, StoredRef::of(w)?, b.map(HostRef::of).transpose()?);
    let mut z: Vec<T> = Vec::new();
    let write = |a: &mut [MaybeUninit<T>]| {
        let a = Shared::new(a);
        let after = |row: usize, first: usize, piece: &mut [f32]| {
            if let Some(bias) = &bias {
                add_bias(piece, bias, first);
            }
            // SAFETY: the product's pieces are disjoint and lie inside [n, d_out].
            let mut out = Unwritten::new(unsafe { a.part(row * d_out + first, piece.len()) });
            activation::values(act, piece, &mut out);
        };
        z = product([n, d_out, d_in], rows(&xs, d_in), Matrix::cols(ws.values(), d_in), Some(&after));
    };
    // SAFETY: the product's pieces cover [n, d_out].
    let a = unsafe { host::new_values(n * d_out, write) };
    Ok((host::tensor(z, (n, d_out))?, host::tensor(a, (n, d_out))?))
}

/// `dy W`: the gradient of a linear layer's input. dy `[n, out]`, w `[out, in]` -> `[n, in]`
pub fn linear_backward(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    if_fast_product!(dy, w, fast_backward(dy, &Rows::of(w)?, None));
    on_gpu!(dy, linear::backward(dy, w));
    if half(dy) && !dy.device().is_cuda() {
        return linear_backward(&widen(dy)?, w)?.to_dtype(dy.dtype());
    }
    dy.matmul(&like(w, dy)?)
}

/// `(dy W) act'(z)`: back through a linear layer and the nonlinearity before it. dy `[n, out]`, w `[out, in]`, z `[n, in]` -> `[n, in]`
pub fn linear_backward_act(dy: &Tensor, w: &Tensor, act: Act, z: &Tensor) -> Result<Tensor> {
    if_fast_product!(dy, w, fast_backward(dy, &Rows::of(w)?, Some((act, z))));
    on_gpu!(dy, linear::backward_act(dy, w, act, z));
    activation::backward(act, z, linear_backward(dy, w)?)
}

fn fast_backward<T: Number>(dy: &Tensor, w: &Rows<'_>, through: Option<(Act, &Tensor)>) -> Result<Tensor> {
    let (d_out, d_in) = w.dims();
    let n = checked_rows("gradient", dy, d_out)?;
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

/// `acc + dy W`, reusing `acc`'s memory where possible. dy `[n, out]`, w `[out, in]`, acc `[n, in]`
pub fn linear_backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    if dy.dtype() == acc.dtype() {
        if_fast_product!(dy, w, fast_backward_add(dy, &Rows::of(w)?, acc));
    }
    on_gpu!(dy, linear::backward_add(dy, w, acc));
    on_cuda!(dy, ops::linear_backward_add(dy, w, acc));
    if half(dy) {
        return linear_backward_add(&widen(dy)?, w, widen(&acc)?)?.to_dtype(acc.dtype());
    }
    acc + dy.matmul(&like(w, dy)?)?
}

fn fast_backward_add<T: Number>(dy: &Tensor, w: &Rows<'_>, acc: Tensor) -> Result<Tensor> {
    let (d_out, d_in) = w.dims();
    let n = checked_rows("gradient", dy, d_out)?;
    let g = HostView::<T>::of(dy)?;
    host::in_place(acc, |out: &mut [T]| product_add([n, d_in, d_out], rows(&g, d_out), w.whole(), out))
}

/// `dyᵀ x`: the gradient of a linear layer's weight, in f32. dy `[n, out]`, x `[n, in]` -> `[out, in]`
pub fn weight_grad(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2("gradient", dy)?, dims2("linear input", x)?);
    on_gpu!(dy, linear::weight_grad(dy, x));
    if !takes_fast(dy) || !takes_fast(x) {
        let (wide_dy, wide_x) = (widen(dy)?, widen(x)?);
        if half(dy) || half(x) {
            return weight_grad(&wide_dy, &wide_x);
        }
        return dy.t()?.matmul(x);
    }
    let (g, xs) = (StoredRef::of(dy)?, StoredRef::of(x)?);
    let (g, xs) = (Matrix::rows(g.values(), d_out), Matrix::rows(xs.values(), d_in));
    host::tensor(transposed_product([n, d_out, d_in], g, xs, 1.0), (d_out, d_in))
}

/// `scale * aᵀ b` in f32. a `[n, m]`, b `[n, k]` -> `[m, k]`, dims `[n, m, k]`
pub(in crate::nn::kernels) fn transposed_product(
    [n, m, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
) -> Vec<f32> {
    let product = |[m, k]: [usize; 2], a: Matrix<'_>, b: Matrix<'_>| {
        let (mut out, block) = (vec![0.0f32; m * k], Block { start: 0, row: k, add: false });
        product_block([m, k, n], a.transposed(), b, &mut out, block, scale, Precision::Single);
        out
    };
    // The left operand is read value by value: better the one that is f32 already.
    if !matches!((a.values, b.values), (Values::Bf16(_), Values::F32(_))) {
        return product([m, k], a, b);
    }
    let transposed = product([k, m], b, a);
    let mut out = Vec::with_capacity(m * k);
    (0..m).for_each(|i| out.extend(transposed[i..].iter().step_by(m)));
    out
}

/// Column sums: the gradient of a bias, in f32. dy `[n, out]` -> `[out]`
pub fn bias_grad(dy: &Tensor) -> Result<Tensor> {
    dims2("gradient", dy)?;
    if_fast!(dy, fast_bias_grad(dy));
    on_gpu!(dy, norms::column_sum(dy));
    if half(dy) {
        return bias_grad(&widen(dy)?);
    }
    dy.sum(0)
}

fn fast_bias_grad<T: Number>(dy: &Tensor) -> Result<Tensor> {
    let (_, d_out) = dims2("gradient", dy)?;
    host::tensor(host::column_sums(&HostView::<T>::of(dy)?, d_out), d_out)
}

fn refused<T>(x: &Tensor) -> Result<T> {
    Err(Error::internal(format!("{:?} values on {} against quantised weights", x.dtype(), x.device())))
}

/// As [`linear`] with weights that are widened to f32 while they are packed (rounded to bf16 for such activations).
pub fn widened_linear(x: &Tensor, w: &dyn Widen, b: Option<&Tensor>) -> Result<Tensor> {
    if_fast!(x, fast_linear(x, &Rows::Widened(w), b));
    refused(x)
}

/// As [`linear_backward`] with such weights.
pub fn widened_backward(dy: &Tensor, w: &dyn Widen) -> Result<Tensor> {
    if_fast!(dy, fast_backward(dy, &Rows::Widened(w), None));
    refused(dy)
}

/// As [`linear_backward_add`] with such weights.
pub fn widened_backward_add(dy: &Tensor, w: &dyn Widen, acc: Tensor) -> Result<Tensor> {
    if dy.dtype() == acc.dtype() {
        if_fast!(dy, fast_backward_add(dy, &Rows::Widened(w), acc));
    }
    refused(dy)
}
