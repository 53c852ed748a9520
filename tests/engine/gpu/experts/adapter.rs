use super::super::elementwise::{slope, value};
use super::super::support::{Array, assert_close, device, formats, run};
use super::{Routes, Window, both, routes, sum, values};
use adamix::gpu::kernels::experts::Adapter;
use adamix::gpu::{Backend, Format};

/// Rows, width, bottleneck, experts, nonlinearity, runs (1, 2 or 3 for many).
type Case = (usize, usize, usize, usize, u32, usize);

const CASES: [Case; 14] = [
    (0, 32, 16, 3, 2, 1),
    (1, 5, 1, 1, 4, 1),
    (7, 32, 16, 1, 2, 1),
    (33, 70, 4, 3, 1, 2),
    (70, 130, 33, 3, 2, 2),
    (70, 32, 16, 3, 3, 3),
    (33, 132, 16, 3, 0, 2),
    (70, 600, 16, 3, 2, 2),
    (33, 5, 33, 3, 2, 3),
    (7, 130, 1, 3, 3, 2),
    (20, 20, 100, 3, 2, 2),
    (20, 280, 256, 2, 2, 3),
    (4100, 12, 16, 3, 2, 2),
    (4100, 5, 40, 3, 2, 1),
];

/// One case on the device and as numbers.
struct Setup {
    adapter: Adapter,
    down_routes: Routes,
    up_routes: Routes,
    down: Vec<f64>,
    down_bias: Vec<f64>,
    up: Vec<f64>,
    up_bias: Vec<f64>,
    _kept: Vec<Array>,
}

fn setup(device: &dyn Backend, (n, d, r, experts, act, many): Case) -> Setup {
    let (down_routes, up_routes) =
        (routes(1, n, experts, many), routes(2, n, experts, if many == 2 { 3 } else { many }));
    let ((table, down_runs, up_runs), f32) = (both(device, &down_routes, &up_routes), Format::F32);
    let scale = |inner: usize| 2.0 / (inner as f32).sqrt();
    let (down_on, down) = values(device, 3, experts * r * d, scale(d), f32);
    let (down_bias_on, down_bias) = values(device, 4, experts * r, 0.5, f32);
    let (up_on, up) = values(device, 5, experts * d * r, scale(r), f32);
    let (up_bias_on, up_bias) = values(device, 6, experts * d, 0.5, f32);
    let adapter = Adapter {
        n,
        d,
        r,
        act,
        down: down_on.operand,
        down_bias: down_bias_on.operand,
        up: up_on.operand,
        up_bias: up_bias_on.operand,
        down_runs,
        up_runs,
    };
    let kept = vec![table, down_on, down_bias_on, up_on, up_bias_on];
    Setup { adapter, down_routes, up_routes, down, down_bias, up, up_bias, _kept: kept }
}

/// z for h.
fn narrow(setup: &Setup, h: &[f64]) -> Vec<f64> {
    let Adapter { n, d, r, .. } = setup.adapter;
    let z = |row: usize, j: usize| {
        let w = &setup.down[(setup.down_routes.of[row] * r + j) * d..][..d];
        setup.down_bias[setup.down_routes.of[row] * r + j] + sum(d, |c| h[row * d + c] * w[c])
    };
    (0..n * r).map(|i| z(i / r, i % r)).collect()
}

fn each(test: impl Fn(&dyn Backend, Format, Case)) {
    let Some(device) = device() else { return };
    for format in formats(&*device) {
        let cases = CASES.iter().enumerate().filter(|(i, _)| format == Format::F32 || i % 2 == 1);
        cases.for_each(|(_, &case)| test(&*device, format, case));
    }
}

#[test]
fn the_output_of_an_adapter() {
    each(|device, format, case| {
        let (n, d, r, _, act, _) = case;
        let setup = setup(device, case);
        let (on, h) = values(device, 7, n * d, 1.0, format);
        let z = narrow(&setup, &h);
        let a: Vec<f64> = z.iter().map(|&z| value(act, z)).collect();
        let out = |row: usize, c: usize| {
            let expert = setup.up_routes.of[row];
            let w = &setup.up[(expert * d + c) * r..][..r];
            h[row * d + c] + setup.up_bias[expert * d + c] + sum(r, |j| a[row * r + j] * w[j])
        };
        let want: Vec<f64> = (0..n * d).map(|i| out(i / d, i % d)).collect();
        for keep in [true, false].into_iter().filter(|&keep| keep || n == 33) {
            let (z_on, out_on) = (Window::new(device, n * r, Format::F32), Window::new(device, n * d, format));
            run(device, [setup.adapter.forward(on.operand, keep.then(|| z_on.operand()), out_on.operand())]);
            assert_close(&format!("output of {case:?}"), &out_on.read(device), &want, format, 1e-5);
            let got = z_on.read(device);
            match keep {
                true => assert_close(&format!("z of {case:?}"), &got, &z, Format::F32, 1e-5),
                false => assert!(got.iter().all(|&v| v == -7777.0), "z was written although nobody wants it"),
            }
        }
    });
}

#[test]
fn the_gradients_of_z_and_of_the_input_of_an_adapter() {
    each(|device, format, case| {
        let (n, d, r, _, act, _) = case;
        let setup = setup(device, case);
        let (on, dout) = values(device, 8, n * d, 1.0, format);
        let (z_on, z) = values(device, 9, n * r, 2.0, Format::F32);
        let dz = |row: usize, j: usize| {
            let first = setup.up_routes.of[row] * d;
            sum(d, |c| dout[row * d + c] * setup.up[(first + c) * r + j]) * slope(act, z[row * r + j])
        };
        let dz: Vec<f64> = (0..n * r).map(|i| dz(i / r, i % r)).collect();
        let dh = |row: usize, c: usize| {
            let first = setup.down_routes.of[row] * r;
            dout[row * d + c] + sum(r, |j| dz[row * r + j] * setup.down[(first + j) * d + c])
        };
        let want: Vec<f64> = (0..n * d).map(|i| dh(i / d, i % d)).collect();
        for below in [true, false].into_iter().filter(|&below| below || n == 33) {
            let (dz_on, dh_on) = (Window::new(device, n * r, Format::F32), Window::new(device, n * d, format));
            let launch =
                setup.adapter.backward(on.operand, z_on.operand, dz_on.operand(), below.then(|| dh_on.operand()));
            run(device, [launch]);
            assert_close(&format!("dz of {case:?}"), &dz_on.read(device), &dz, Format::F32, 1e-5);
            let got = dh_on.read(device);
            match below {
                true => assert_close(&format!("dh of {case:?}"), &got, &want, format, 1e-5),
                false => {
                    assert!(got.iter().all(|v| (v + 7777.0).abs() < 4.0), "dh was written although nobody wants it");
                }
            }
        }
    });
}
