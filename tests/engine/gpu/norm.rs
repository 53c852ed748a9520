use super::support::{Array, assert_close, device, formats, mask, mask_factor, random, run, stored};
use adamix::gpu::kernels::{
    Mask,
    norm::{AffineGrads, Backward, Forward, Kind, Output},
    reduce::column_scratch,
};
use adamix::gpu::{Backend, Format, Operand};

const EPS: f32 = 1e-5;
const SHAPES: [[usize; 2]; 9] = [[0, 32], [3, 1], [1, 3], [40, 32], [8, 70], [9, 300], [3, 1030], [2, 1024], [2, 4100]];

/// A normalisation in double precision.
struct Want {
    sum: Vec<f64>,
    normalized: Vec<f64>,
    rstd: Vec<f64>,
}

fn normalised(kind: Kind, sum: &[f64], d: usize) -> Want {
    let mut want = Want { sum: sum.to_vec(), normalized: Vec::new(), rstd: Vec::new() };
    for row in sum.chunks(d) {
        let mean = if kind == Kind::Layer { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
        let spread = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
        let r = 1.0 / (spread + f64::from(EPS)).sqrt();
        want.rstd.push(r);
        want.normalized.extend(row.iter().map(|v| (v - mean) * r));
    }
    want
}

fn affine(normalized: &[f64], gamma: &[f32], beta: Option<&[f32]>) -> Vec<f64> {
    let d = gamma.len();
    let value = |(i, v): (usize, &f64)| v * f64::from(gamma[i % d]) + beta.map_or(0.0, |b| f64::from(b[i % d]));
    normalized.iter().enumerate().map(value).collect()
}

fn each(test: impl Fn(&dyn Backend, Kind, [usize; 2], u64)) {
    let Some(device) = device() else { return };
    for (i, shape) in SHAPES.into_iter().enumerate() {
        for kind in [Kind::Layer, Kind::Rms] {
            test(&*device, kind, shape, 100 * i as u64 + kind as u64);
        }
    }
}

/// Values that start at a number divisible by four, or not, in memory that is otherwise not touched.
struct Window {
    whole: Array,
    part: Operand,
    first: usize,
}

impl Window {
    fn new(device: &dyn Backend, first: usize, len: usize, format: Format) -> Self {
        let whole = Array::unwritten(device, first + len + 9, format);
        let part = whole.operand.part(first, len);
        Self { whole, part, first }
    }

    #[track_caller]
    fn read(&self, device: &dyn Backend) -> Vec<f32> {
        let (all, len) = (self.whole.read(device), self.part.len as usize);
        let untouched = Array::unwritten(device, 1, self.part.format).read(device)[0];
        let around = all[..self.first].iter().chain(&all[self.first + len..]);
        assert!(around.clone().all(|&v| v == untouched), "written beside the window: {around:?}");
        all[self.first..self.first + len].to_vec()
    }
}

#[test]
fn forward_with_dropout_residual_and_copies_in_other_formats() {
    each(|device, kind, [n, d], seed| {
        let formats = formats(device);
        // Every second shape starts where four values cannot be taken at a time.
        let first = if seed / 100 % 2 == 0 { 4 } else { 3 };
        let cases = [(0, Mask::NONE), (1, mask(5, 0.3)), (2, Mask::NONE), (3, mask(9, 0.5))];
        // Each shape has two of them, the next one the others.
        for (case, drop) in cases.into_iter().skip(seed as usize / 100 % 2).step_by(2) {
            let format = |place: usize| formats[(case / 2 + place) % formats.len()];
            let (x, res) = (random(seed, n * d, 2.0), random(seed + 1, n * d, 3.0));
            let (gamma, beta) = (random(seed + 2, d, 2.0), random(seed + 3, d, 1.0));
            let (has_residual, has_sum, has_kept, has_beta) = (case != 2, case % 2 == 1, case != 1, case != 3);
            let on = |values: &[f32], format| Array::floats(device, values, format);
            let (xs, ress, gammas, betas) =
                (on(&x, format(0)), on(&res, format(1)), on(&gamma, Format::F32), on(&beta, Format::F32));
            let window = |format| Window::new(device, first, n * d, format);
            let (y, kept, sum) = (window(format(2)), window(format(1)), window(format(3)));
            let rstd = Window::new(device, 1, n, Format::F32);
            run(
                device,
                [Forward {
                    kind,
                    x: xs.operand,
                    residual: has_residual.then_some(ress.operand),
                    gamma: gammas.operand,
                    beta: has_beta.then_some(betas.operand),
                    y: y.part,
                    kept: has_kept.then_some(kept.part),
                    rstd: rstd.part,
                    sum: has_sum.then_some(sum.part),
                    n,
                    d,
                    eps: EPS,
                }
                .launch(drop)],
            );
            let res = stored(&res, format(1));
            let added =
                |(i, v): (usize, f64)| v * mask_factor(drop, i as u32) + if has_residual { res[i] } else { 0.0 };
            let mut s: Vec<f64> = stored(&x, format(0)).into_iter().enumerate().map(added).collect();
            if has_sum {
                let got = sum.read(device);
                assert_close("sum", &got, &s, format(3), 1e-6);
                // What is normalised is what was stored.
                s = stored(&got, Format::F32);
            }
            let want = normalised(kind, &s, d);
            assert_close("rstd", &rstd.read(device), &want.rstd, Format::F32, 2e-6);
            let out = affine(&want.normalized, &gamma, has_beta.then_some(&beta));
            assert_close("y", &y.read(device), &out, format(2), 3e-6);
            if has_kept {
                let values = if kind == Kind::Rms { &want.sum } else { &want.normalized };
                assert_close("kept", &kept.read(device), values, format(1), 3e-6);
            }
        }
    });
}

#[test]
fn a_large_mean_takes_nothing_from_the_variance() {
    let Some(device) = device() else { return };
    let (n, d) = (2, 768);
    let x: Vec<f32> = random(1, n * d, 0.5).into_iter().map(|v| 1000.0 + v).collect();
    let one = vec![1.0; d];
    let (xs, gamma) = (Array::floats(&*device, &x, Format::F32), Array::floats(&*device, &one, Format::F32));
    let (y, rstd) = (Array::unwritten(&*device, n * d, Format::F32), Array::unwritten(&*device, n, Format::F32));
    let forward = Forward {
        kind: Kind::Layer,
        x: xs.operand,
        residual: None,
        gamma: gamma.operand,
        beta: None,
        y: y.operand,
        kept: None,
        rstd: rstd.operand,
        sum: None,
        n,
        d,
        eps: EPS,
    };
    run(&*device, [forward.launch(Mask::NONE)]);
    let want = normalised(Kind::Layer, &stored(&x, Format::F32), d);
    assert_close("rstd", &rstd.read(&*device), &want.rstd, Format::F32, 1e-5);
    assert_close("y", &y.read(&*device), &want.normalized, Format::F32, 2e-4);
}

#[test]
fn backward_is_the_slope_and_adds_what_is_there() {
    each(|device, kind, [n, d], seed| {
        let formats = formats(device);
        let first = if seed / 100 % 2 == 0 { 0 } else { 1 };
        for (case, drop) in [(0, Mask::NONE), (1, mask(5, 0.3)), (2, mask(6, 0.1))] {
            let format = |place: usize| formats[(case + place) % formats.len()];
            let (x, dy, add) = (random(seed, n * d, 2.0), random(seed + 1, n * d, 1.0), random(seed + 2, n * d, 1.0));
            let gamma = random(seed + 3, d, 2.0);
            let norm = normalised(kind, &stored(&x, Format::F32), d);
            let kept: Vec<f32> = match kind {
                Kind::Layer => norm.normalized.iter().map(|&v| v as f32).collect(),
                Kind::Rms => x,
            };
            let rstd: Vec<f32> = norm.rstd.iter().map(|&v| v as f32).collect();
            let on = |values: &[f32], format| Array::floats(device, values, format);
            let (dys, keeps, gammas, rstds) =
                (on(&dy, format(0)), on(&kept, format(1)), on(&gamma, Format::F32), on(&rstd, Format::F32));
            let (dsum, dx) =
                (Window::new(device, first, n * d, format(2)), Window::new(device, first, n * d, format(0)));
            // The gradient of other uses lies where the sum goes, or elsewhere.
            let other = on(&add, format(2));
            let (has_add, in_place) = (case > 0, case == 2);
            let dsum_at = if in_place { other.operand } else { dsum.part };
            let backward = Backward {
                kind,
                dy: dys.operand,
                gamma: gammas.operand,
                kept: keeps.operand,
                rstd: rstds.operand,
                add: has_add.then_some(other.operand),
                dsum: Some(dsum_at),
                dx: (case > 0).then_some(dx.part),
                n,
                d,
            };
            run(device, [backward.launch(drop)]);
            let (dy, kept, add) = (stored(&dy, format(0)), stored(&kept, format(1)), stored(&add, format(2)));
            let mut want = Vec::new();
            for (row, &r) in rstd.iter().enumerate() {
                let (at, r) = (row * d, f64::from(r));
                let h = |c: usize| kept[at + c] * if kind == Kind::Rms { r } else { 1.0 };
                let scaled = |c: usize| dy[at + c] * f64::from(gamma[c]);
                let mean = if kind == Kind::Layer { (0..d).map(scaled).sum::<f64>() / d as f64 } else { 0.0 };
                let along = (0..d).map(|c| scaled(c) * h(c)).sum::<f64>() / d as f64;
                let other = |c: usize| if has_add { add[at + c] } else { 0.0 };
                want.extend((0..d).map(|c| (scaled(c) - mean - h(c) * along) * r + other(c)));
            }
            let got = if in_place { other.read(device) } else { dsum.read(device) };
            // A single value is its own mean: what is left of it is rounding.
            let tolerance = if d == 1 { 2e-4 * rstd.iter().fold(1.0f64, |m, &v| m.max(f64::from(v))) } else { 5e-6 };
            assert_close("dsum", &got, &want, format(2), tolerance);
            if case > 0 {
                let masked: Vec<f64> = want.iter().enumerate().map(|(i, v)| v * mask_factor(drop, i as u32)).collect();
                assert_close("dx", &dx.read(device), &masked, format(0), tolerance);
            }
        }
    });
}

#[test]
fn gradients_of_scale_and_shift_and_the_output_once_more() {
    each(|device, kind, [n, d], seed| {
        // Taller than what one workgroup adds.
        let n = if d <= 70 { 21 * n } else { n };
        for format in formats(device) {
            let (kept, dy) = (random(seed, n * d, 2.0), random(seed + 1, n * d, 1.0));
            let (gamma, beta, rstd) = (random(seed + 2, d, 2.0), random(seed + 3, d, 1.0), random(seed + 4, n, 1.5));
            let on = |values: &[f32], format| Array::floats(device, values, format);
            let (keeps, dys) = (on(&kept, format), on(&dy, Format::F32));
            let (gammas, betas, rstds) = (on(&gamma, Format::F32), on(&beta, Format::F32), on(&rstd, Format::F32));
            let rms = kind == Kind::Rms;
            let (dgamma, dbeta) = (Window::new(device, 4, d, Format::F32), Window::new(device, 4, d, Format::F32));
            let scratch = Array::unwritten(device, 2 * column_scratch(n, d), Format::F32);
            let grads = AffineGrads {
                dy: dys.operand,
                kept: keeps.operand,
                rstd: rms.then_some(rstds.operand),
                dgamma: dgamma.part,
                dbeta: (!rms).then_some(dbeta.part),
                scratch: scratch.operand,
                n,
                d,
            };
            run(device, grads.launches());
            let kept = stored(&kept, format);
            let h: Vec<f64> = (0..n * d).map(|i| kept[i] * if rms { f64::from(rstd[i / d]) } else { 1.0 }).collect();
            let column = |of: &dyn Fn(usize) -> f64| -> Vec<f64> {
                (0..d).map(|c| (0..n).map(|row| of(row * d + c)).sum()).collect()
            };
            let products = column(&|i| h[i] * f64::from(dy[i]));
            assert_close("dgamma", &dgamma.read(device), &products, Format::F32, 2e-6);
            if !rms {
                let sums = column(&|i| f64::from(dy[i]));
                assert_close("dbeta", &dbeta.read(device), &sums, Format::F32, 2e-6);
            }
            let y = Window::new(device, 4, n * d, format);
            let output = Output {
                kept: keeps.operand,
                rstd: rms.then_some(rstds.operand),
                gamma: gammas.operand,
                beta: (!rms).then_some(betas.operand),
                y: y.part,
                n,
                d,
            };
            run(device, [output.launch()]);
            assert_close("y", &y.read(device), &affine(&h, &gamma, (!rms).then_some(&beta)), format, 2e-6);
        }
    });
}
