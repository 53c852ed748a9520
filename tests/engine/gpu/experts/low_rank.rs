use super::super::support::{Array, assert_close, device, formats, random, run, stored};
use super::gradients::{drawn, product};
use super::{Routes, Window, both, routes, sum, values};
use adamix::gpu::kernels::Mask;
use adamix::gpu::kernels::experts::{
    LowRank, Side, Values, low_rank_down, low_rank_down_back, low_rank_gradients, low_rank_up, low_rank_up_back,
};
use adamix::gpu::{Backend, Format};
use std::ops::Range;

/// Rows, width of the input, rank, experts, runs (1, 2 or 3 for many), width of the output, where its blocks start and end, whether there is dropout.
type Case = (usize, usize, usize, usize, usize, usize, &'static [(usize, usize)], bool);

const CASES: [Case; 8] = [
    (0, 32, 16, 2, 1, 32, &[(0, 32)], true),
    (1, 5, 1, 1, 1, 7, &[(0, 7)], false),
    (7, 32, 16, 3, 2, 96, &[(0, 32), (64, 96)], true),
    (33, 70, 4, 3, 2, 130, &[(0, 70), (71, 100), (110, 130)], true),
    (70, 132, 16, 3, 3, 240, &[(0, 132), (132, 180), (192, 240)], true),
    (70, 130, 33, 1, 1, 130, &[(0, 130)], false),
    (33, 32, 80, 3, 3, 80, &[(4, 80)], true),
    (4100, 8, 4, 2, 2, 16, &[(0, 8), (12, 16)], true),
];

const SCALE: f64 = 1.75;

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// What element i is multiplied with.
fn factor(mask: Mask, i: usize) -> f64 {
    let kept = mix(i as u32 ^ mask.key).wrapping_add(mask.key) >= mask.threshold;
    if kept { f64::from(mask.scale) } else { 0.0 }
}

/// One case on the device and as numbers.
struct Setup {
    module: LowRank,
    a_routes: Routes,
    b_routes: Routes,
    a: Vec<f64>,
    b: Vec<f64>,
    /// The mask of x.
    mask: Vec<f64>,
    _kept: Vec<Array>,
}

impl Setup {
    fn new(device: &dyn Backend, case: &Case) -> Self {
        let (n, d_in, rank, experts, many, y_row, blocks, drop) = *case;
        let mask = if drop { Mask { key: 0x1357_9bdf, threshold: 1 << 30, scale: 4.0 / 3.0 } } else { Mask::NONE };
        let (a_routes, b_routes) =
            (routes(21, n, experts, many), routes(22, n, experts, if many == 2 { 3 } else { many }));
        let (table, a_runs, b_runs) = both(device, &a_routes, &b_routes);
        let columns: Vec<Range<usize>> = blocks.iter().map(|&(start, end)| start..end).collect();
        let total: usize = columns.iter().map(Range::len).sum();
        let (a_on, a) = values(device, 23, experts * blocks.len() * rank * d_in, 0.3, Format::F32);
        let (b_on, b) = values(device, 24, experts * total * rank, 0.3, Format::F32);
        let (a_at, b_at, scale) = (a_on.operand, b_on.operand, SCALE as f32);
        let module = LowRank { n, d_in, y_row, rank, columns, scale, mask, a: a_at, b: b_at, a_runs, b_runs };
        let mask = (0..n * d_in).map(|i| factor(mask, i)).collect();
        Self { module, a_routes, b_routes, a, b, mask, _kept: vec![table, a_on, b_on] }
    }
    /// Row j of a row's A.
    fn a_row(&self, row: usize, j: usize) -> &[f64] {
        let d = self.module.d_in;
        &self.a[(self.a_routes.of[row] * self.module.z_width() + j) * d..][..d]
    }
    /// Each written column: its block, its number in the output, its row of B.
    fn columns(&self) -> Vec<(usize, usize, usize)> {
        let blocks = self.module.columns.iter().enumerate();
        let columns = blocks.flat_map(|(block, columns)| columns.clone().map(move |column| (block, column)));
        columns.enumerate().map(|(row, (block, column))| (block, column, row)).collect()
    }
    /// A row of a row's B.
    fn b_row(&self, row: usize, number: usize) -> &[f64] {
        let (rank, total) = (self.module.rank, self.columns().len());
        &self.b[(self.b_routes.of[row] * total + number) * rank..][..rank]
    }
}

/// Values that a kernel adds to, in a window with something around it.
fn added_to(device: &dyn Backend, seed: u64, len: usize, format: Format) -> (Array, Vec<f64>) {
    let margin = 8;
    let all = random(seed, len + 2 * margin, 1.0);
    (Array::floats(device, &all, format), stored(&all, format))
}

fn each(test: impl Fn(&dyn Backend, Format, &Case)) {
    let Some(device) = device() else { return };
    for format in formats(&*device) {
        let cases = CASES.iter().enumerate().filter(|(i, _)| format == Format::F32 || [2, 3, 4].contains(i));
        cases.for_each(|(_, case)| test(&*device, format, case));
    }
}

#[test]
fn the_narrow_values_of_lora() {
    each(|device, format, case| {
        let (setup, (n, d)) = (Setup::new(device, case), (case.0, case.1));
        let width = setup.module.z_width();
        let ((on, x), z) = (values(device, 25, n * d, 1.0, format), Window::new(device, n * width, Format::F32));
        run(device, [low_rank_down(&setup.module, on.operand, z.operand())]);
        let one = |row: usize, j: usize| {
            let a = setup.a_row(row, j);
            sum(d, |c| setup.mask[row * d + c] * x[row * d + c] * a[c])
        };
        let want: Vec<f64> = (0..n * width).map(|i| one(i / width, i % width)).collect();
        assert_close(&format!("z of {case:?}"), &z.read(device), &want, Format::F32, 1e-5);
    });
}

#[test]
fn what_lora_adds_to_the_output() {
    each(|device, format, case| {
        let (setup, n) = (Setup::new(device, case), case.0);
        let (y_row, width, rank) = (setup.module.y_row, setup.module.z_width(), setup.module.rank);
        let (z_on, z) = values(device, 26, n * width, 1.0, Format::F32);
        let (y, mut want) = added_to(device, 27, n * y_row, format);
        run(device, [low_rank_up(&setup.module, z_on.operand, y.operand.part(8, n * y_row))]);
        for row in 0..n {
            for (block, column, number) in setup.columns() {
                let (b, z) = (setup.b_row(row, number), &z[row * width + block * rank..][..rank]);
                want[8 + row * y_row + column] += SCALE * sum(rank, |j| b[j] * z[j]);
            }
        }
        assert_close(&format!("y of {case:?}"), &y.read(device), &want, format, 1e-5);
    });
}

#[test]
fn the_gradient_of_the_narrow_values_of_lora() {
    each(|device, format, case| {
        let (setup, n) = (Setup::new(device, case), case.0);
        let (y_row, width, rank) = (setup.module.y_row, setup.module.z_width(), setup.module.rank);
        let ((dy_on, dy), dz) =
            (values(device, 28, n * y_row, 1.0, format), Window::new(device, n * width, Format::F32));
        run(device, [low_rank_up_back(&setup.module, dy_on.operand, dz.operand())]);
        let mut want = vec![0.0; n * width];
        for row in 0..n {
            for (block, column, number) in setup.columns() {
                let (b, dy) = (setup.b_row(row, number), dy[row * y_row + column]);
                (0..rank).for_each(|j| want[row * width + block * rank + j] += SCALE * dy * b[j]);
            }
        }
        assert_close(&format!("dz of {case:?}"), &dz.read(device), &want, Format::F32, 1e-5);
    });
}

#[test]
fn what_lora_adds_to_the_gradient_of_the_input() {
    each(|device, format, case| {
        let (setup, (n, d)) = (Setup::new(device, case), (case.0, case.1));
        let width = setup.module.z_width();
        let (dz_on, dz) = values(device, 29, n * width, 1.0, Format::F32);
        let (dx, mut want) = added_to(device, 30, n * d, format);
        run(device, [low_rank_down_back(&setup.module, dz_on.operand, dx.operand.part(8, n * d))]);
        for row in 0..n {
            for j in 0..width {
                let a = setup.a_row(row, j);
                (0..d).for_each(|c| want[8 + row * d + c] += setup.mask[row * d + c] * dz[row * width + j] * a[c]);
            }
        }
        assert_close(&format!("dx of {case:?}"), &dx.read(device), &want, format, 1e-5);
    });
}

#[test]
fn the_gradients_of_lora() {
    each(|device, format, case| {
        let (setup, (n, d, rank, experts)) = (Setup::new(device, case), (case.0, case.1, case.2, case.3));
        let (y_row, width) = (setup.module.y_row, setup.module.z_width());
        let ((x_on, x), (dy_on, dy)) =
            (values(device, 31, n * d, 1.0, format), values(device, 32, n * y_row, 1.0, format));
        let (z_on, z) = values(device, 33, n * width, 1.0, Format::F32);
        let (dz_on, dz) = values(device, 34, n * width, 1.0, Format::F32);
        let total = setup.columns().len();
        let (down, middle) = drawn(experts, 0, width * d, 4);
        let (up, len) = drawn(experts, middle, total * rank, 4);
        let sides = [(&setup.a_routes, &down), (&setup.b_routes, &up)];
        let [a_side, b_side] = sides.map(|(routes, drawn)| Side { runs: &routes.runs, drawn });
        let table = Array::words(device, &setup.module.tables(a_side, b_side));
        let out = Window::new(device, len, Format::F32);
        let given = Values {
            x: x_on.operand,
            dy: dy_on.operand,
            z: z_on.operand,
            dz: dz_on.operand,
            table: table.operand,
            out: out.operand(),
        };
        run(device, [low_rank_gradients(&setup.module, given, [experts; 2])]);
        let got = out.read(device);
        let masked: Vec<f64> = x.iter().zip(&setup.mask).map(|(x, mask)| x * mask).collect();
        for one in &down {
            let want = product(&setup.a_routes, one.expert, (&dz, width), (&masked, d));
            let (what, got) = (format!("dA of {case:?}"), &got[one.first..one.first + width * d]);
            assert_close(&what, got, &want, Format::F32, 1e-5);
            assert!(got.is_empty() || n == 0 || want.iter().any(|&v| v != 0.0) || experts > 1);
        }
        for one in &up {
            let all = product(&setup.b_routes, one.expert, (&dy, y_row), (&z, width));
            let row = |(block, column, _): (usize, usize, usize)| {
                (0..rank).map(|j| SCALE * all[column * width + block * rank + j]).collect::<Vec<_>>()
            };
            let want: Vec<f64> = setup.columns().into_iter().flat_map(row).collect();
            let got = &got[one.first..one.first + total * rank];
            assert_close(&format!("dB of {case:?}"), got, &want, Format::F32, 1e-5);
        }
    });
}
