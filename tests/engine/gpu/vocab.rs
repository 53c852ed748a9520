use super::support::{Array, assert_close, device, formats, random, run};
use adamix::gpu::kernels::vocab::{LossWeights, VocabLoss, VocabScore};
use adamix::gpu::{Backend, Format, Launch, Operand};

const SHAPES: [[usize; 2]; 7] = [[0, 7], [1, 2], [5, 2], [37, 7], [8, 64], [3, 1000], [2, 1031]];

fn on(device: &dyn Backend, values: &[f32]) -> Array {
    Array::floats(device, values, Format::F32)
}

fn targets(n: usize, vocab: usize) -> Vec<u32> {
    let mut targets: Vec<u32> = (0..n).map(|i| (i * 7919 % vocab) as u32).collect();
    if let Some(last) = targets.last_mut() {
        *last = vocab as u32 - 1;
    }
    targets
}

fn log_p(z: &[f32]) -> Vec<f64> {
    let most = z.iter().fold(f64::NEG_INFINITY, |most, &v| most.max(f64::from(v)));
    let lse = most + z.iter().map(|&v| (f64::from(v) - most).exp()).sum::<f64>().ln();
    z.iter().map(|&v| f64::from(v) - lse).collect()
}

/// Loss of one target from the logits of both passes: what is minimised, by its definition, with the other pass of each
/// direction's consistency term given apart.
fn loss([a, b]: [&[f64]; 2], others: [&[f64]; 2], target: usize, two: bool, w: LossWeights) -> f64 {
    let log = |z: &[f64]| {
        let most = z.iter().fold(f64::NEG_INFINITY, |most, &v| most.max(v));
        let lse = most + z.iter().map(|v| (v - most).exp()).sum::<f64>().ln();
        z.iter().map(|v| v - lse).collect::<Vec<f64>>()
    };
    let (s, n) = (f64::from(w.smoothing), a.len() as f64);
    let entropy = |log: &[f64]| -(1.0 - s) * log[target] - s * log.iter().sum::<f64>() / n;
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    let (la, [oa, ob]) = (log(a), others.map(log));
    let mut sum = f64::from(w.task[0]) * entropy(&la);
    if two {
        let lb = log(b);
        sum += f64::from(w.task[1]) * entropy(&lb);
        let mut term = kl(&la, &ob) + kl(&lb, &oa);
        if w.detach {
            // Of KL(p || q), the part that flows through q; that through p is the other half of the symmetric one.
            term = kl(&oa, &lb) + kl(&ob, &la);
        }
        sum += 0.5 * f64::from(w.consistency) * term;
    }
    sum
}

struct Case {
    two: bool,
    in_place: bool,
    format: Format,
    weights: LossWeights,
}

fn cases(device: &dyn Backend) -> Vec<Case> {
    let weights = |task, consistency, smoothing, detach| LossWeights { task, consistency, smoothing, detach };
    let last = *formats(device).last().unwrap();
    vec![
        Case { two: false, in_place: true, format: Format::F32, weights: weights([0.5, 0.0], 0.0, 0.0, false) },
        Case { two: false, in_place: false, format: last, weights: weights([0.7, 0.0], 0.0, 0.1, false) },
        Case { two: true, in_place: true, format: Format::F32, weights: weights([0.5, 0.5], 1.5, 0.2, false) },
        Case { two: true, in_place: false, format: last, weights: weights([1.0, 0.0], 0.8, 0.0, true) },
        Case { two: true, in_place: false, format: Format::F32, weights: weights([0.25, 0.25], 2.0, 0.1, true) },
        Case { two: true, in_place: true, format: Format::F32, weights: weights([0.0, 0.0], 1.0, 0.0, false) },
    ]
}

/// The gradient on the logits of one target, in double precision.
fn gradients(a: &[f32], b: &[f32], target: usize, two: bool, w: LossWeights) -> [Vec<f64>; 2] {
    let (la, lb) = (log_p(a), log_p(b));
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    let (ab, ba) = (kl(&la, &lb), kl(&lb, &la));
    let [wa, wb, half, s] = [w.task[0], w.task[1], 0.5 * w.consistency, w.smoothing].map(f64::from);
    let through = if w.detach { 0.0 } else { half };
    let side = |p: &[f64], q: &[f64], weight: f64, kl: f64| -> Vec<f64> {
        let aim = |v: usize| s / p.len() as f64 + if v == target { 1.0 - s } else { 0.0 };
        let term = |v: usize| half * (p[v].exp() - q[v].exp()) + through * p[v].exp() * (p[v] - q[v] - kl);
        (0..p.len()).map(|v| weight * (p[v].exp() - aim(v)) + if two { term(v) } else { 0.0 }).collect()
    };
    [side(&la, &lb, wa, ab), side(&lb, &la, wb, ba)]
}

#[test]
fn gradients_in_the_test_are_slopes_of_the_loss() {
    let weights = |detach| LossWeights { task: [0.3, 0.6], consistency: 1.7, smoothing: 0.15, detach };
    let (a, b) = (random(1, 5, 2.0), random(2, 5, 2.0));
    for detach in [false, true] {
        let wide = |z: &[f32]| z.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (wa, wb) = (wide(&a), wide(&b));
        let [da, db] = gradients(&a, &b, 3, true, weights(detach));
        let h = 1e-5;
        for v in 0..5 {
            let moved = |z: &[f64], by: f64| (0..5).map(|i| z[i] + if i == v { by } else { 0.0 }).collect::<Vec<f64>>();
            let at = |x: &[f64], y: &[f64]| {
                // A detached pass stays where it was.
                let others: [&[f64]; 2] = if detach { [&wa, &wb] } else { [x, y] };
                loss([x, y], others, 3, true, weights(detach))
            };
            let slope_a = (at(&moved(&wa, h), &wb) - at(&moved(&wa, -h), &wb)) / (2.0 * h);
            let slope_b = (at(&wa, &moved(&wb, h)) - at(&wa, &moved(&wb, -h))) / (2.0 * h);
            assert!(
                (slope_a - da[v]).abs() < 1e-8 && (slope_b - db[v]).abs() < 1e-8,
                "{slope_a} {slope_b} {da:?} {db:?}"
            );
        }
    }
}

fn expected_parts(a: &[f32], b: &[f32], target: usize, two: bool, w: LossWeights) -> [f64; 3] {
    let (la, lb, s) = (log_p(a), log_p(b), f64::from(w.smoothing));
    let entropy = |log: &[f64]| -(1.0 - s) * log[target] - s * log.iter().sum::<f64>() / log.len() as f64;
    let both = two && w.task[1] > 0.0;
    let task = if both { 0.5 * (entropy(&la) + entropy(&lb)) } else { entropy(&la) };
    let symmetric: f64 = la.iter().zip(&lb).map(|(p, q)| (p.exp() - q.exp()) * (p - q)).sum();
    [task, if two { 0.5 * symmetric } else { 0.0 }, -la[target]]
}

#[test]
fn losses_and_gradients_of_one_and_two_passes() {
    let Some(device) = device() else { return };
    let device = &*device;
    for (shape, [n, vocab]) in SHAPES.into_iter().enumerate() {
        for (number, case) in cases(device).into_iter().enumerate() {
            // Large logits too: exponentials that overflow, and targets with next to no probability.
            let scale = if number % 2 == 0 { 3.0 } else { 60.0 };
            let (a, b) = (random(shape as u64, n * vocab, scale), random(50 + shape as u64, n * vocab, scale));
            let b: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.7 * a + 0.3 * b).collect();
            let (za, zb, of) = (on(device, &a), on(device, &b), targets(n, vocab));
            let (targets, parts) = (Array::words(device, &of), Array::unwritten(device, 3 * n, Format::F32));
            let own = [(); 2].map(|()| Array::unwritten(device, n * vocab, case.format));
            let grads = if case.in_place { [&za, &zb] } else { [&own[0], &own[1]] };
            let loss = VocabLoss {
                a: za.operand,
                b: case.two.then_some(zb.operand),
                targets: targets.operand,
                parts: parts.operand,
                grads: None,
                n,
                vocab,
                weights: case.weights,
            };
            let rows = || a.chunks(vocab).zip(b.chunks(vocab)).zip(&of);
            let want: Vec<f64> =
                rows().flat_map(|((a, b), &t)| expected_parts(a, b, t as usize, case.two, case.weights)).collect();
            run(device, [loss.launch()]);
            assert_close("parts alone", &parts.read(device), &want, Format::F32, 2e-6);
            assert_eq!(za.read(device), a, "logits without a gradient");
            let grads_of = (grads[0].operand, case.two.then_some(grads[1].operand));
            run(device, [VocabLoss { grads: Some(grads_of), ..loss }.launch()]);
            assert_close("parts", &parts.read(device), &want, Format::F32, 2e-6);
            let want = rows().map(|((a, b), &t)| gradients(a, b, t as usize, case.two, case.weights));
            let (da, db): (Vec<_>, Vec<_>) = want.map(|[a, b]| (a, b)).unzip();
            assert_close("first gradient", &grads[0].read(device), &da.concat(), case.format, 1e-5);
            if case.two {
                assert_close("second gradient", &grads[1].read(device), &db.concat(), case.format, 1e-5);
            } else {
                assert!(own[1].read(device).iter().all(|&v| v < -7000.0), "there is no second gradient");
            }
        }
    }
}

#[test]
fn scores_of_targets_and_sums_of_probabilities() {
    let Some(device) = device() else { return };
    let device = &*device;
    for (shape, [n, vocab]) in SHAPES.into_iter().enumerate() {
        let mut logits = random(shape as u64, n * vocab, 4.0);
        // Equally likely tokens: the first counts.
        let first = |row: usize| (7 * row + 5) % vocab;
        for (row, logits) in logits.chunks_mut(vocab).enumerate() {
            logits[first(row)..].iter_mut().step_by(3).for_each(|z| *z = 4.5);
        }
        let (z, of) = (on(device, &logits), targets(n, vocab));
        let (targets, parts) = (Array::words(device, &of), Array::unwritten(device, 2 * n, Format::F32));
        let mixed = on(device, &vec![0.25; n * vocab]);
        let score = VocabScore {
            logits: z.operand,
            targets: Some(targets.operand),
            parts: parts.operand,
            mixed: Some(mixed.operand),
            n,
            vocab,
        };
        run(device, [score.launch()]);
        let logs: Vec<Vec<f64>> = logits.chunks(vocab).map(log_p).collect();
        let check = |parts: &[f32], with: bool| {
            let log: Vec<f32> = parts.chunks(2).map(|row| row[0]).collect();
            let want: Vec<f64> =
                logs.iter().zip(&of).map(|(log, &t)| if with { log[t as usize] } else { 0.0 }).collect();
            assert_close("log p", &log, &want, Format::F32, 2e-6);
            let places = parts.chunks(2).map(|row| row[1] as usize);
            assert!(places.eq((0..n).map(first)), "{vocab}: {parts:?}");
        };
        check(&parts.read(device), true);
        let want: Vec<f64> = logs.iter().flatten().map(|log| 0.25 + log.exp()).collect();
        assert_close("mixed", &mixed.read(device), &want, Format::F32, 2e-6);
        run(device, [VocabScore { targets: None, ..score }.launch()]);
        check(&parts.read(device), false);
        assert_close("untouched", &mixed.read(device), &want, Format::F32, 2e-6);
    }
}

#[test]
fn rows_of_nothing_but_minus_infinity_have_a_first_token() {
    let Some(device) = device() else { return };
    let z = on(&*device, &[f32::NEG_INFINITY; 12]);
    let parts = Array::unwritten(&*device, 2, Format::F32);
    let score = VocabScore { logits: z.operand, targets: None, parts: parts.operand, mixed: None, n: 1, vocab: 12 };
    run(&*device, [score.launch()]);
    assert_eq!(parts.read(&*device)[1], 0.0);
}

#[test]
fn wide_rows_have_a_workgroup_each() {
    let at = |len| Operand::new(adamix::gpu::Address::new(0, 0), len, Format::F32);
    let launch = |vocab: usize| -> Launch {
        let n = 70_000;
        let (logits, parts) = (at(n * vocab), at(2 * n));
        VocabScore { logits, targets: None, parts, mixed: None, n, vocab }.launch()
    };
    assert_eq!(launch(152_000).grid, [65_535, 2, 1]);
    assert_eq!(launch(2).grid, [2188, 1, 1]);
}
