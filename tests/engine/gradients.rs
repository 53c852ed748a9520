//! Hand-written gradients against three judges: the plain version of the same kernel, candle's own autograd on a
//! naive twin, and central differences in f64.

mod attention;
mod decoder_kernels;
mod dropout;
mod kernels;
mod layers;
mod lora;
mod mixed;
mod mixture;
mod model;
mod narrow;
mod narrow_decoder;

use adamix::config::{MixtureConfig, RoutingPolicy};
use adamix::error::Result;
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{D, DType, Device, Shape, Tensor};
use candle_core::Var;
use std::panic::AssertUnwindSafe;

/// Standard normal values, always the same for the same `index`.
pub fn random(shape: impl Into<Shape>, index: u64) -> Tensor {
    let shape = shape.into();
    let values = SeedStream::new(91).stream(Purpose::Sampling, index).normal_vec(shape.elem_count(), 1.0);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Rows, inner width and columns of products: nothing, one value, parts and multiples of tiles and panels.
pub const PRODUCTS: [(usize, usize, usize); 7] =
    [(0, 3, 2), (1, 1, 1), (5, 7, 3), (1, 64, 129), (70, 33, 65), (33, 256, 20), (14, 384, 192)];

/// Three experts on each side, whose weights are far from zero.
pub fn mixture(routing: RoutingPolicy) -> MixtureConfig {
    MixtureConfig {
        num_experts: 3,
        adapter_size: 5,
        init_std: 0.3,
        routing,
        sharing_up: false,
        ..MixtureConfig::default()
    }
}

/// The same values in f64: this takes the plain path of every kernel.
pub fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).unwrap()
}

/// All values, row-major.
pub fn values(x: &Tensor) -> Vec<f64> {
    wide(x).flatten_all().unwrap().to_vec1().unwrap()
}

/// Same shape, and no element off by more than `tolerance` times the largest one wanted (or 0.1, if that is more).
#[track_caller]
pub fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}: shapes differ");
    let (got, want) = (values(got), values(want));
    let scale = want.iter().fold(0.1f64, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let off = (g - w).abs() / scale;
        assert!(off <= tolerance, "{what}: element {i} is {g} but should be {w} ({off:.2e} of the largest)");
    }
}

/// Gradients of `Σ weight * f(inputs)` by candle's autograd, in f64.
#[expect(clippy::disallowed_methods, reason = "candle's autograd is the twin our gradients are compared with")]
pub fn autograd(inputs: &[&Tensor], weight: &Tensor, f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(wide(x).candle().unwrap()).unwrap()).collect();
    let leaves: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone().into()).collect();
    let loss = (f(&leaves).unwrap() * wide(weight)).unwrap().sum_all().unwrap();
    let store = loss.candle().unwrap().backward().unwrap();
    vars.iter().map(|v| store.get(v).cloned().unwrap_or_else(|| v.zeros_like().unwrap()).into()).collect()
}

/// Gradient of a scalar function of an f64 tensor by central differences.
pub fn differences(x: &Tensor, f: impl Fn(&Tensor) -> f64) -> Tensor {
    let (base, h) = (values(x), 1e-5);
    let at = |i: usize, step: f64| {
        let mut moved = base.clone();
        moved[i] += step;
        f(&Tensor::from_vec(moved, x.shape(), &Device::Cpu).unwrap())
    };
    let slopes: Vec<f64> = (0..base.len()).map(|i| (at(i, h) - at(i, -h)) / (2.0 * h)).collect();
    Tensor::from_vec(slopes, x.shape(), &Device::Cpu).unwrap()
}

/// `Σ a * b` as a number.
pub fn dot(a: &Tensor, b: &Tensor) -> f64 {
    values(a).iter().zip(values(b)).map(|(a, b)| a * b).sum()
}

/// Euclidean norm.
pub fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The same values, through which autograd does not go.
pub fn detached(x: &Tensor) -> Tensor {
    x.candle().unwrap().detach().into()
}

/// Softmax over the last dimension from operations that autograd knows.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&detached(&x.max_keepdim(D::Minus1)?))?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

#[test]
fn the_judges_agree_and_catch_a_wrong_gradient() {
    let (x, w) = (random((3, 4), 1), random((3, 4), 2));
    let cube = |x: &Tensor| x.sqr()?.mul(x);
    let auto = autograd(&[&x], &w, |v| cube(&v[0]));
    let numeric = differences(&wide(&x), |x| dot(&cube(x).unwrap(), &w));
    close("cube", &auto[0], &numeric, 1e-8);
    let wrong = (&auto[0] * 1.001).unwrap();
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| close("wrong", &wrong, &numeric, 1e-4)));
    assert!(caught.is_err(), "a gradient off by 0.1 % passed");
}
