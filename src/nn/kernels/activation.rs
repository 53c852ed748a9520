//! The nonlinearity of feed-forward blocks, adapters and heads, and its derivative.

use super::cuda::on_cuda;
use super::device::{half, if_fast, widen};
use super::gpu::on_gpu;
use super::host::{self, HostView, Number, Unwritten, for_rows};
use super::simd;
pub use super::types::Act;
use crate::error::Result;
use crate::tensor::Tensor;

const INV_SQRT_2: f32 = std::f32::consts::FRAC_1_SQRT_2;
const INV_SQRT_TAU: f32 = 0.398_942_3;
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const TANH_CUBIC: f32 = 0.044_715;

#[inline(always)]
pub(super) fn value(act: Act, x: f32) -> f32 {
    match act {
        Act::Gelu => 0.5 * x * (1.0 + simd::erf(x * INV_SQRT_2)),
        Act::GeluTanh => 0.5 * x * (1.0 + simd::tanh(SQRT_2_OVER_PI * (x + TANH_CUBIC * x * x * x))),
        Act::Relu if x < 0.0 => 0.0,
        Act::Relu => x,
        Act::Swish => x * simd::sigmoid(x),
        Act::Tanh => simd::tanh(x),
    }
}

#[inline(always)]
pub(super) fn slope(act: Act, x: f32) -> f32 {
    match act {
        Act::Gelu => 0.5 * (1.0 + simd::erf(x * INV_SQRT_2)) + x * INV_SQRT_TAU * simd::exp(-0.5 * x * x),
        Act::GeluTanh => {
            let t = simd::tanh(SQRT_2_OVER_PI * (x + TANH_CUBIC * x * x * x));
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * TANH_CUBIC * x * x)
        }
        Act::Relu if x > 0.0 => 1.0,
        Act::Relu => 0.0,
        Act::Swish => {
            let s = simd::sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Act::Tanh => {
            let t = simd::tanh(x);
            1.0 - t * t
        }
    }
}

/// Calls `$f` with the nonlinearity as a constant, so that each gets a loop of its own.
macro_rules! for_each_act {
    ($act:expr, $f:ident($($arg:expr),*)) => {
        match $act {
            Act::Gelu => $f($($arg,)* |x| value(Act::Gelu, x), |x| slope(Act::Gelu, x)),
            Act::GeluTanh => $f($($arg,)* |x| value(Act::GeluTanh, x), |x| slope(Act::GeluTanh, x)),
            Act::Relu => $f($($arg,)* |x| value(Act::Relu, x), |x| slope(Act::Relu, x)),
            Act::Swish => $f($($arg,)* |x| value(Act::Swish, x), |x| slope(Act::Swish, x)),
            Act::Tanh => $f($($arg,)* |x| value(Act::Tanh, x), |x| slope(Act::Tanh, x)),
        }
    };
}
pub(super) use for_each_act;

fn map<T: Number>(x: &[T], value: impl Fn(f32) -> f32 + Sync, _: impl Fn(f32) -> f32) -> Vec<T> {
    host::map(x, value)
}

fn set<T: Number>(x: &[f32], out: &mut Unwritten<'_, T>, value: impl Fn(f32) -> f32, _: impl Fn(f32) -> f32) {
    simd::vectors!(|| {
        out.push(x.iter().map(|&x| T::narrow(value(x))));
    });
}

fn multiply<T: Number, U: Number>(x: &[T], out: &mut [U], _: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) {
    simd::vectors!(|| simd::update(out, x, |o, x| *o = U::narrow(o.wide() * slope(x.wide()))));
}

/// `act(x)`, written to `out` on one thread.
pub fn values<T: Number>(act: Act, x: &[f32], out: &mut Unwritten<'_, T>) {
    for_each_act!(act, set(x, out));
}

/// `out *= act'(x)` on one thread.
pub fn slopes<T: Number, U: Number>(act: Act, x: &[T], out: &mut [U]) {
    for_each_act!(act, multiply(x, out));
}

/// `act(x)`, any shape.
pub fn forward(act: Act, x: &Tensor) -> Result<Tensor> {
    if_fast!(x, fast_forward(act, x));
    on_gpu!(x, elementwise::act_forward(act, x));
    on_cuda!(x, ops::act_forward(act, x));
    if half(x) {
        return forward(act, &widen(x)?)?.to_dtype(x.dtype());
    }
    plain_forward(act, x)
}

fn fast_forward<T: Number>(act: Act, x: &Tensor) -> Result<Tensor> {
    let xs = HostView::<T>::of(x)?;
    host::tensor(for_each_act!(act, map(&xs)), x.shape())
}

/// `dy * act'(x)`, reusing `dy`'s memory where possible.
pub fn backward(act: Act, x: &Tensor, dy: Tensor) -> Result<Tensor> {
    if x.dtype() == dy.dtype() {
        if_fast!(x, fast_backward(act, x, dy));
    }
    on_gpu!(x, elementwise::act_backward(act, x, dy));
    on_cuda!(x, ops::act_backward(act, x, dy));
    if half(x) {
        return backward(act, &widen(x)?, widen(&dy)?)?.to_dtype(dy.dtype());
    }
    plain_backward(act, x, &dy)
}

fn fast_backward<T: Number>(act: Act, x: &Tensor, dy: Tensor) -> Result<Tensor> {
    const BLOCK: usize = 1024;
    let xs = HostView::<T>::of(x)?;
    host::in_place(dy, |dy: &mut [T]| {
        for_rows(dy, BLOCK, |row, block| slopes(act, &xs[row * BLOCK..row * BLOCK + block.len()], block));
    })
}

/// [`forward`] from candle operations.
pub fn plain_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    Ok(match act {
        Act::Gelu => x.gelu_erf()?,
        Act::GeluTanh => x.gelu()?,
        Act::Relu => x.relu()?,
        Act::Swish => x.silu()?,
        Act::Tanh => x.tanh()?,
    })
}

/// [`backward`] from candle operations.
pub fn plain_backward(act: Act, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let slope = match act {
        Act::Gelu => {
            let phi = ((x.sqr()? * -0.5)?.exp()? * INV_SQRT_TAU_F64)?;
            let cdf = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5))?;
            (cdf + (x * phi)?)?
        }
        Act::GeluTanh => {
            let (a, c) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044715);
            let x2 = x.sqr()?;
            let t = ((x * x2.affine(c, 1.0)?)? * a)?.tanh()?;
            let sech2 = t.sqr()?.affine(-1.0, 1.0)?;
            let inner = x2.affine(3.0 * c * a, a)?;
            (t.affine(0.5, 0.5)? + ((x * sech2)? * (inner * 0.5)?)?)?
        }
        Act::Relu => x.gt(&x.zeros_like()?)?.to_dtype(x.dtype())?,
        Act::Swish => {
            let s = (x.neg()?.exp()? + 1.0)?.recip()?;
            (&s * (x * s.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?)?
        }
        Act::Tanh => x.tanh()?.sqr()?.affine(-1.0, 1.0)?,
    };
    dy * slope
}

const INV_SQRT_TAU_F64: f64 = 0.398_942_280_401_432_7;
