use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::heads::{HeadNorm, Pairing, Rotary};
use adamix::gpu::{Backend, Format};

/// Rows, columns, heads (of queries and of keys), width of a head.
type Shape = (usize, usize, [usize; 2], usize);

const SHAPES: [Shape; 7] = [
    (0, 16, [1, 1], 8),
    (1, 16, [1, 1], 8),
    (3, 40, [2, 1], 8),
    (5, 67, [1, 2], 20),
    (2, 25, [1, 1], 10),
    (9, 512, [2, 1], 128),
    (2, 513, [1, 0], 256),
];

fn each(test: impl Fn(&dyn Backend, Format, Shape)) {
    let Some(device) = device() else { return };
    for format in formats(&*device) {
        SHAPES.iter().for_each(|&shape| test(&*device, format, shape));
    }
}

#[test]
fn rotary_positions() {
    each(|device, format, (rows, columns, heads, hd)| {
        let (heads, half, angles) = (heads[0] + heads[1], hd / 2, 11);
        let x = random(1, rows * columns, 2.0);
        let table: Vec<f32> = {
            let angle = random(2, angles * half, 3.0);
            angle.iter().map(|a| a.cos()).chain(angle.iter().map(|a| a.sin())).collect()
        };
        let positions: Vec<u32> = (0..rows as u32).map(|i| (7 * i + 3) % angles as u32).collect();
        let of_table = Array::floats(device, &table, Format::F32);
        let places = Array::words(device, &positions);
        for pairing in [Pairing::Halves, Pairing::Interleaved] {
            for sign in [1.0, -1.0] {
                let on = Array::floats(device, &x, format);
                let (x_on, table_on, positions_on) = (on.operand, of_table.operand, places.operand);
                let rotary = Rotary {
                    x: x_on,
                    table: table_on,
                    positions: positions_on,
                    angles,
                    rows,
                    columns,
                    heads,
                    head_dim: hd,
                    pairing,
                };
                run(device, [if sign > 0.0 { rotary.forward() } else { rotary.backward() }]);
                let mut want = stored(&x, format);
                for (row, &position) in positions.iter().enumerate() {
                    for (head, i) in (0..heads).flat_map(|head| (0..half).map(move |i| (head, i))) {
                        let at = row * columns + head * hd;
                        let (a, b) = match pairing {
                            Pairing::Halves => (at + i, at + half + i),
                            Pairing::Interleaved => (at + 2 * i, at + 2 * i + 1),
                        };
                        let angle = position as usize * half + i;
                        let (c, s) = (f64::from(table[angle]), sign * f64::from(table[angles * half + angle]));
                        let (x, y) = (want[a], want[b]);
                        (want[a], want[b]) = (x * c - y * s, y * c + x * s);
                    }
                }
                assert_close(&format!("{pairing:?} of {hd}"), &on.read(device), &want, format, 1e-6);
            }
        }
    });
}

#[test]
fn normalised_heads_and_their_gradients() {
    each(|device, format, (rows, columns, heads, hd)| {
        let (x, dy) = (random(1, rows * columns, 2.0), random(2, rows * columns, 1.0));
        let gammas = [random(3, hd, 1.5), random(4, hd, 1.5)];
        let on = Array::floats(device, &x, format);
        let of_gammas = gammas.each_ref().map(|gamma| Array::floats(device, gamma, Format::F32));
        let gamma = of_gammas.each_ref().map(|gamma| gamma.operand);
        let norm = HeadNorm { x: on.operand, gamma, rows, columns, heads, head_dim: hd, eps: 1e-3 };
        let y = Array::unwritten(device, rows * columns, format);
        run(device, [norm.forward(y.operand)]);
        let grad = Array::floats(device, &dy, format);
        run(device, [norm.backward(grad.operand)]);
        let (xs, mut want_grad) = (stored(&x, format), stored(&dy, format));
        let mut want = xs.clone();
        for (row, head) in (0..rows).flat_map(|row| (0..heads[0] + heads[1]).map(move |head| (row, head))) {
            let at = row * columns + head * hd;
            let gamma: Vec<f64> = gammas[usize::from(head >= heads[0])].iter().map(|&g| f64::from(g)).collect();
            let x = &xs[at..at + hd];
            let rms = (x.iter().map(|v| v * v).sum::<f64>() / hd as f64 + 1e-3).sqrt();
            let dy = want_grad[at..at + hd].to_vec();
            let along = (0..hd).map(|c| dy[c] * gamma[c] * x[c]).sum::<f64>() / hd as f64 / rms.powi(3);
            for c in 0..hd {
                want[at + c] = gamma[c] * x[c] / rms;
                want_grad[at + c] = dy[c] * gamma[c] / rms - x[c] * along;
            }
        }
        assert_close(&format!("normalised heads of {hd}"), &y.read(device), &want, format, 2e-6);
        assert_close(&format!("gradients of heads of {hd}"), &grad.read(device), &want_grad, format, 2e-6);
    });
}
