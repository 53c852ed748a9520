//! The gated nonlinearity of Llama's feed-forward block: `act(gate) * up`, gate and up side by side. SwiGLU with SiLU.

use super::activation::{self, Act, slope, value};
use super::host::{self, HostRef, for_rows};
use super::{is_fast, simd};
use crate::error::{Error, Result};
use candle_core::Tensor;

/// Writes one row from gate and up.
type Forward = dyn Fn(&mut [f32], &[f32], &[f32]) + Sync;
/// Turns one row's gate and up into their gradients.
type Backward = dyn Fn(&mut [f32], &mut [f32], &[f32]) + Sync;

fn halves(x: &Tensor) -> Result<(usize, usize)> {
    let (n, both) = x.dims2()?;
    if both % 2 == 0 { Ok((n, both / 2)) } else { Err(Error::internal(format!("gate and up in {both} columns"))) }
}

/// `act(gate) * up`. x `[n, 2 f]`, gate first -> `[n, f]`
pub fn forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let (n, f) = halves(x)?;
    if !is_fast(x) {
        return plain_forward(act, x);
    }
    let xs = HostRef::of(x)?;
    let out = host::overwritten(n * f, |out| {
        let mut run = |value: &Forward| {
            for_rows(out, f, |first, block| {
                for (i, row) in block.chunks_exact_mut(f).enumerate() {
                    let (gate, up) = xs[(first + i) * 2 * f..(first + i + 1) * 2 * f].split_at(f);
                    value(row, gate, up);
                }
            });
        };
        match act {
            Act::Gelu => run(&|o, g, u| product(o, g, u, |x| value(Act::Gelu, x))),
            Act::GeluTanh => run(&|o, g, u| product(o, g, u, |x| value(Act::GeluTanh, x))),
            Act::Relu => run(&|o, g, u| product(o, g, u, |x| value(Act::Relu, x))),
            Act::Swish => run(&|o, g, u| product(o, g, u, |x| value(Act::Swish, x))),
            Act::Tanh => run(&|o, g, u| product(o, g, u, |x| value(Act::Tanh, x))),
        }
    });
    host::tensor(out, (n, f))
}

#[inline(always)]
fn product(out: &mut [f32], gate: &[f32], up: &[f32], act: impl Fn(f32) -> f32) {
    simd::vectors!(|| {
        for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *o = act(g) * u;
        }
    });
}

/// Gradients of gate and up, written over x, whose memory nobody else may hold. x `[n, 2 f]`, dy `[n, f]` -> `[n, 2 f]`
pub fn backward(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, f) = halves(&x)?;
    if !is_fast(dy) {
        return plain_backward(act, &x, dy);
    }
    let dys = HostRef::of(dy)?;
    host::mutate(&x, |x: &mut [f32]| {
        let mut run = |gradient: &Backward| {
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
    })?;
    Ok(x)
}

#[inline(always)]
fn gradients(gate: &mut [f32], up: &mut [f32], dy: &[f32], act: impl Fn(f32) -> (f32, f32)) {
    simd::vectors!(|| {
        for ((g, u), &d) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
            let (value, slope) = act(*g);
            (*g, *u) = (d * *u * slope, d * value);
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
