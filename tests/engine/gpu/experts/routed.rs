use super::super::support::{Array, assert_close, device, formats, run};
use super::{Window, routes, sum, values};
use adamix::gpu::kernels::experts::{Direction, Routed, Runs, routed_product};
use adamix::gpu::{Backend, Format};

/// Rows, columns and rows of a matrix, experts, runs (1, 2 or 3 for many).
type Case = (usize, usize, usize, usize, usize);

fn check(device: &dyn Backend, format: Format, case: Case, direction: Direction, extras: bool) {
    let (n, d_in, d_out, experts, many) = case;
    let routes = routes(41, n, experts, many);
    let words: Vec<u32> = routes.runs.iter().flatten().copied().collect();
    let table = Array::words(device, &words);
    let runs = Runs { operand: table.operand, count: routes.runs.len() };
    let (weight_on, weight) = values(device, 42, experts * d_out * d_in, 0.3, Format::F32);
    let (bias_on, bias) = values(device, 43, experts * d_out, 1.0, Format::F32);
    let bias_at = extras.then_some(bias_on.operand);
    let matrices = Routed { n, d_in, d_out, weight: weight_on.operand, bias: bias_at, runs };
    let forward = direction == Direction::Forward;
    let (inner, width) = if forward { (d_in, d_out) } else { (d_out, d_in) };
    let (x_on, x) = values(device, 44, n * inner, 1.0, format);
    let (base_on, base) = values(device, 45, n * width, 1.0, format);
    let out = Window::new(device, n * width, format);
    let base_at = extras.then_some(base_on.operand);
    run(device, [routed_product(&matrices, direction, x_on.operand, base_at, out.operand())]);
    let one = |row: usize, c: usize| {
        let expert = routes.of[row];
        let (added, at) = (if extras { base[row * width + c] } else { 0.0 }, |j: usize| x[row * inner + j]);
        if forward {
            let b = if extras { bias[expert * d_out + c] } else { 0.0 };
            return added + b + sum(inner, |j| at(j) * weight[(expert * d_out + c) * d_in + j]);
        }
        added + sum(inner, |j| at(j) * weight[(expert * d_out + j) * d_in + c])
    };
    let want: Vec<f64> = (0..n * width).map(|i| one(i / width, i % width)).collect();
    assert_close(&format!("{direction:?} {case:?}"), &out.read(device), &want, format, 1e-5);
}

#[test]
fn products_with_each_rows_own_matrix() {
    let Some(device) = device() else { return };
    let cases = [
        (0, 32, 16, 2, 1),
        (1, 5, 130, 3, 1),
        (7, 132, 70, 3, 2),
        (70, 32, 132, 3, 3),
        (33, 70, 33, 1, 1),
        (130, 100, 96, 8, 3),
    ];
    for (i, case) in cases.into_iter().enumerate() {
        for format in formats(&*device).into_iter().filter(|&format| format == Format::F32 || i == 3) {
            for direction in [Direction::Forward, Direction::Backward] {
                check(&*device, format, case, direction, i != 2);
            }
        }
    }
}
