//! The gated nonlinearity of Llama's feed-forward block: `act(gate) * up`, gate and up side by side. SwiGLU with SiLU.

use super::activation::{self, Act, slope, value};
use super::cuda::on_cuda;
use super::device::{half, if_fast, widen};
use super::host::{self, HostView, Number, Unwritten, for_rows};
use super::simd;
use crate::error::{Error, Result};
use candle_core::Tensor;

/// Writes one row from gate and up.
type Forward<T> = dyn Fn(&mut Unwritten<'_, T>, &[T], &[T]) + Sync;
/// Turns one row's gate and up into their gradients.
type Backward<T> = dyn Fn(&mut [T], &mut [T], &[T]) + Sync;

fn halves(x: &Tensor) -> Result<(usize, usize)> {
    let (n, both) = x.dims2()?;
    if both % 2 == 0 { Ok((n, both / 2)) } else { Err(Error::internal(format!("gate and up in {both} columns"))) }
}

/// `act(gate) * up`. x `[n, 2 f]`, gate first -> `[n, f]`
pub fn forward(act: Act, x: &Tensor) -> Result<Tensor> {
    halves(x)?;
    if_fast!(x, fast_forward(act, x));
    on_cuda!(x, lm_ops::gated_forward(act, x));
    if half(x) {
        return Ok(forward(act, &widen(x)?)?.to_dtype(x.dtype())?);
    }
    plain_forward(act, x)
}

fn fast_forward<T: Number>(act: Act, x: &Tensor) -> Result<Tensor> {
    let (n, f) = halves(x)?;
    let xs = HostView::<T>::of(x)?;
    let run = |value: &Forward<T>| {
        host::new_matrix(n, f, |rows, out| {
            for row in rows {
                let (gate, up) = xs[row * 2 * f..(row + 1) * 2 * f].split_at(f);
                value(out, gate, up);
            }
        })
    };
    let out = match act {
        Act::Gelu => run(&|o, g, u| product(o, g, u, |x| value(Act::Gelu, x))),
        Act::GeluTanh => run(&|o, g, u| product(o, g, u, |x| value(Act::GeluTanh, x))),
        Act::Relu => run(&|o, g, u| product(o, g, u, |x| value(Act::Relu, x))),
        Act::Swish => run(&|o, g, u| product(o, g, u, |x| value(Act::Swish, x))),
        Act::Tanh => run(&|o, g, u| product(o, g, u, |x| value(Act::Tanh, x))),
    };
    host::tensor(out, (n, f))
}

#[inline(always)]
fn product<T: Number>(out: &mut Unwritten<'_, T>, gate: &[T], up: &[T], act: impl Fn(f32) -> f32) {
    simd::vectors!(|| {
        out.push(gate.iter().zip(up).map(|(g, u)| T::narrow(act(g.wide()) * u.wide())));
    });
}

/// Gradients of gate and up, written over x where possible. x `[n, 2 f]`, dy `[n, f]` -> `[n, 2 f]`
pub fn backward(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    halves(&x)?;
    if x.dtype() == dy.dtype() {
        if_fast!(dy, fast_backward(act, x, dy));
    }
    on_cuda!(dy, lm_ops::gated_backward(act, x, dy));
    if half(dy) {
        return Ok(backward(act, widen(&x)?, &widen(dy)?)?.to_dtype(x.dtype())?);
    }
    plain_backward(act, &x, dy)
}

fn fast_backward<T: Number>(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, f) = halves(&x)?;
    let dys = HostView::<T>::of(dy)?;
    host::in_place(x, |x: &mut [T]| {
        let mut run = |gradient: &Backward<T>| {
            for_rows(x, 2 * f, |first, block| {
                for (i, row) in block.chunks_exact_mut(2 * f).enumerate() {
                    let (gate, up) = row.split_at_mut(f);
                    gradient(gate, up, &dys[(first + i) * f..(first + i + 1) * f]);
                }
            });
        };
        match act {
            Act::Gelu => run(&|g, u, d| gradients(g, u, d, |x| (value(Act::Gelu, x), slope(Act::Gelu, x)))),
            Act::GeluTanh => {
                run(&|g, u, d| gradients(g, u, d, |x| (value(Act::GeluTanh, x), slope(Act::GeluTanh, x))));
            }
            Act::Relu => run(&|g, u, d| gradients(g, u, d, |x| (value(Act::Relu, x), slope(Act::Relu, x)))),
            Act::Swish => run(&|g, u, d| {
                gradients(g, u, d, |x| {
                    let s = simd::sigmoid(x);
                    (x * s, s * (1.0 + x * (1.0 - s)))
                });
            }),
            Act::Tanh => run(&|g, u, d| gradients(g, u, d, |x| (value(Act::Tanh, x), slope(Act::Tanh, x)))),
        }
    })
}

#[inline(always)]
fn gradients<T: Number>(gate: &mut [T], up: &mut [T], dy: &[T], act: impl Fn(f32) -> (f32, f32)) {
    simd::vectors!(|| {
        for ((g, u), &d) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
            let ((value, slope), d) = (act(g.wide()), d.wide());
            (*g, *u) = (T::narrow(d * u.wide() * slope), T::narrow(d * value));
        }
    });
}

/// [`forward`] from candle operations.
pub fn plain_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let (_, f) = halves(x)?;
    Ok((activation::plain_forward(act, &x.narrow(1, 0, f)?.contiguous()?)? * x.narrow(1, f, f)?)?)
}

/// [`backward`] from candle operations.
pub fn plain_backward(act: Act, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, f) = halves(x)?;
    let (gate, up) = (x.narrow(1, 0, f)?.contiguous()?, x.narrow(1, f, f)?);
    let dgate = activation::plain_backward(act, &gate, &(dy * up)?)?;
    let dup = (dy * activation::plain_forward(act, &gate)?)?;
    Ok(Tensor::cat(&[dgate, dup], 1)?)
}
