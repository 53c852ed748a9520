use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::{Mask, elementwise};
use adamix::gpu::{Backend, Format};

/// GELU by its integral, to double precision.
fn erf(x: f64) -> f64 {
    let n = 2000;
    let h = x / f64::from(n);
    let f = |t: f64| (-t * t).exp();
    let inner: f64 = (1..n).map(|i| f(f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    (f(0.0) + f(x) + inner) * h / 3.0 * 2.0 / std::f64::consts::PI.sqrt()
}

pub fn value(act: u32, x: f64) -> f64 {
    match act {
        0 => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        1 => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        2 => x.max(0.0),
        3 => x / (1.0 + (-x).exp()),
        _ => x.tanh(),
    }
}

pub fn slope(act: u32, x: f64) -> f64 {
    if act == 2 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let h = 1e-5;
    (value(act, x + h) - value(act, x - h)) / (2.0 * h)
}

fn each(test: impl Fn(&dyn Backend, Format, usize)) {
    let Some(device) = device() else { return };
    for format in formats(&*device) {
        for n in [0, 1, 3, 255, 257, 70_000] {
            test(&*device, format, n);
        }
    }
}

#[test]
fn nonlinearities_and_their_slopes() {
    each(|device, format, n| {
        if n > 300 {
            return;
        }
        let (x, dy) = (random(1, n, 4.0), random(2, n, 1.0));
        for act in 0..5 {
            let on = Array::floats(device, &x, format);
            let y = Array::unwritten(device, n, format);
            run(device, [elementwise::act_forward(act, on.operand, y.operand)]);
            let want: Vec<f64> = stored(&x, format).into_iter().map(|x| value(act, x)).collect();
            assert_close("value", &y.read(device), &want, format, 1e-6);
            let grad = Array::floats(device, &dy, format);
            run(device, [elementwise::act_backward(act, on.operand, grad.operand)]);
            let pairs = stored(&x, format).into_iter().zip(stored(&dy, format));
            let want: Vec<f64> = pairs.map(|(x, dy)| dy * slope(act, x)).collect();
            assert_close("slope", &grad.read(device), &want, format, 2e-6);
        }
    });
}

#[test]
fn sums_with_dropout_and_changes_of_format() {
    each(|device, format, n| {
        let (x, z) = (random(3, n, 1.0), random(4, n, 1.0));
        let (on, other) = (Array::floats(device, &x, format), Array::floats(device, &z, Format::F32));
        let y = Array::unwritten(device, n, Format::F32);
        run(device, [elementwise::add(on.operand, Some(other.operand), y.operand, Mask::NONE)]);
        let want: Vec<f64> = stored(&x, format).into_iter().zip(&z).map(|(x, &z)| x + f64::from(z)).collect();
        assert_close("sum", &y.read(device), &want, Format::F32, 1e-6);
        run(device, [elementwise::affine(on.operand, y.operand, -2.5, 0.25)]);
        let want: Vec<f64> = stored(&x, format).into_iter().map(|x| 0.25 - 2.5 * x).collect();
        assert_close("affine", &y.read(device), &want, Format::F32, 1e-6);
    });
}
