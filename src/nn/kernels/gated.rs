//! The gated nonlinearity of Llama's feed-forward block: `act(gate) * up`, gate and up side by side. SwiGLU with SiLU.

use super::activation::{self, Act, for_each_act, slope, value};
use super::cuda::on_cuda;
use super::device::{half, if_fast, widen};
use super::gpu::on_gpu;
use super::host::{self, HostView, Number, for_rows};
use super::simd;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

fn halves(x: &Tensor) -> Result<(usize, usize)> {
    let (n, both) = x.dims2()?;
    if both % 2 == 0 { Ok((n, both / 2)) } else { Err(Error::internal(format!("gate and up in {both} columns"))) }
}

/// `act(gate) * up`. x `[n, 2 f]`, gate first -> `[n, f]`
pub fn forward(act: Act, x: &Tensor) -> Result<Tensor> {
    halves(x)?;
    if_fast!(x, fast_forward(act, x));
    on_gpu!(x, heads::gated_forward(act, x));
    on_cuda!(x, lm_ops::gated_forward(act, x));
    if half(x) {
        return forward(act, &widen(x)?)?.to_dtype(x.dtype());
    }
    plain_forward(act, x)
}

fn fast_forward<T: Number>(act: Act, x: &Tensor) -> Result<Tensor> {
    let (n, f) = halves(x)?;
    let xs = HostView::<T>::of(x)?;
    host::tensor(for_each_act!(act, products(&xs, n, f)), (n, f))
}

fn products<T: Number>(
    x: &[T],
    n: usize,
    f: usize,
    value: impl Fn(f32) -> f32 + Sync,
    _: impl Fn(f32) -> f32,
) -> Vec<T> {
    host::new_matrix(n, f, |rows, out| {
        for row in rows {
            let (gate, up) = x[row * 2 * f..(row + 1) * 2 * f].split_at(f);
            simd::vectors!(|| {
                out.push(gate.iter().zip(up).map(|(g, u)| T::narrow(value(g.wide()) * u.wide())));
            });
        }
    })
}

/// Gradients of gate and up, written over x where possible. x `[n, 2 f]`, dy `[n, f]` -> `[n, 2 f]`
pub fn backward(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    halves(&x)?;
    if x.dtype() == dy.dtype() {
        if_fast!(dy, fast_backward(act, x, dy));
    }
    on_gpu!(dy, heads::gated_backward(act, x, dy));
    on_cuda!(dy, lm_ops::gated_backward(act, x, dy));
    if half(dy) {
        return backward(act, widen(&x)?, &widen(dy)?)?.to_dtype(x.dtype());
    }
    plain_backward(act, &x, dy)
}

fn fast_backward<T: Number>(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, f) = halves(&x)?;
    let dys = HostView::<T>::of(dy)?;
    host::in_place(x, |x: &mut [T]| for_each_act!(act, gradients(x, &dys, f)))
}

fn gradients<T: Number>(
    x: &mut [T],
    dy: &[T],
    f: usize,
    value: impl Fn(f32) -> f32 + Sync,
    slope: impl Fn(f32) -> f32 + Sync,
) {
    for_rows(x, 2 * f, |first, block| {
        for (i, row) in block.chunks_exact_mut(2 * f).enumerate() {
            let ((gate, up), dy) = (row.split_at_mut(f), &dy[(first + i) * f..(first + i + 1) * f]);
            simd::vectors!(|| {
                for ((g, u), &d) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
                    let (x, d) = (g.wide(), d.wide());
                    (*g, *u) = (T::narrow(d * u.wide() * slope(x)), T::narrow(d * value(x)));
                }
            });
        }
    });
}

/// [`forward`] from candle operations.
pub fn plain_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let (_, f) = halves(x)?;
    activation::plain_forward(act, &x.narrow(1, 0, f)?.contiguous()?)? * x.narrow(1, f, f)?
}

/// [`backward`] from candle operations.
pub fn plain_backward(act: Act, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, f) = halves(x)?;
    let (gate, up) = (x.narrow(1, 0, f)?.contiguous()?, x.narrow(1, f, f)?);
    let dgate = activation::plain_backward(act, &gate, &(dy * up)?)?;
    let dup = (dy * activation::plain_forward(act, &gate)?)?;
    Tensor::cat(&[dgate, dup], 1)
}
