use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::gated;

fn value(act: u32, x: f64) -> f64 {
    match act {
        1 => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        2 => x.max(0.0),
        _ => x / (1.0 + (-x).exp()),
    }
}

fn slope(act: u32, x: f64) -> f64 {
    let h = 1e-5;
    if act == 2 { f64::from(u8::from(x > 0.0)) } else { (value(act, x + h) - value(act, x - h)) / (2.0 * h) }
}

#[test]
fn gates_and_their_gradients() {
    let Some(device) = device() else { return };
    let shapes = [(0, 8), (1, 1), (8, 12), (3, 30), (70, 64), (1, 1025)];
    for format in formats(&*device) {
        for ((n, f), act) in shapes.into_iter().zip([3, 3, 1, 2, 3, 1]) {
            let (x, dy) = (random(1, n * 2 * f, 4.0), random(2, n * f, 1.0));
            let on = Array::floats(&*device, &x, format);
            let y = Array::unwritten(&*device, n * f, format);
            run(&*device, [gated::forward(act, on.operand, y.operand, [n, f])]);
            let grad = Array::floats(&*device, &dy, format);
            run(&*device, [gated::backward(act, on.operand, grad.operand, [n, f])]);
            let (x, dy) = (stored(&x, format), stored(&dy, format));
            let (mut want, mut want_grad) = (vec![0.0; n * f], vec![0.0; x.len()]);
            for (row, c) in (0..n).flat_map(|row| (0..f).map(move |c| (row, c))) {
                let (gate, up, i) = (row * 2 * f + c, row * 2 * f + f + c, row * f + c);
                want[i] = value(act, x[gate]) * x[up];
                want_grad[gate] = dy[i] * x[up] * slope(act, x[gate]);
                want_grad[up] = dy[i] * value(act, x[gate]);
            }
            let what = format!("{n} x {f}, nonlinearity {act}");
            assert_close(&format!("products, {what}"), &y.read(&*device), &want, format, 2e-6);
            assert_close(&format!("gradients, {what}"), &on.read(&*device), &want_grad, format, 2e-6);
        }
    }
}
