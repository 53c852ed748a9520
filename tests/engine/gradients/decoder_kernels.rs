//! Kernels of the decoder families: norms, rotation, gate, and the loss over a vocabulary.

use super::{autograd, close, detached, differences, dot, random, values, wide};
use adamix::error::Result;
use adamix::nn::kernels::activation::{self, Act};
use adamix::nn::kernels::head_norm::{self, HeadNorm};
use adamix::nn::kernels::rms_norm::{self, Scale};
use adamix::nn::kernels::rope::{self, Angles, Heads, Pairing, Rope};
use adamix::nn::kernels::vocab_loss::{MAX_LOGITS, Objective, vocab_loss, vocab_loss_and_head};
use adamix::nn::kernels::{Dropout, gated, residual};
use adamix::tensor::{D, DType, Device, Tensor};

const SHAPES: [(usize, usize); 5] = [(1, 1), (1, 67), (3, 8), (40, 64), (300, 66)];

fn rms_twin(x: &Tensor, residual: &Tensor, gamma: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let sum = (x + residual)?;
    let rms = (sum.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    Ok((sum.broadcast_div(&rms)?.broadcast_mul(gamma)?, sum))
}

#[test]
fn rms_norm_with_residual_and_the_gradient_of_the_stream() {
    for (i, &(n, d)) in SHAPES.iter().enumerate() {
        let i = i as u64;
        let (x, r, g) = (random((n, d), i), (random((n, d), 10 + i) * 2.0).unwrap(), random(d, 20 + i));
        let (dy, dsum, eps) = (random((n, d), 30 + i), random((n, d), 40 + i), 1e-2);
        for drop in [Dropout::none(), Dropout::new(5, 0.3)] {
            let what = format!("rms norm ({n}, {d}) dropout {}", drop.active());
            let (y, saved) = rms_norm::forward(&x, Some(&r), drop, Scale { gamma: &g, eps }).unwrap();
            let norm = Scale { gamma: &wide(&g), eps };
            let (plain, plain_saved) = rms_norm::forward(&wide(&x), Some(&wide(&r)), drop, norm).unwrap();
            let dropped = drop.apply(&x).unwrap();
            let want = rms_twin(&wide(&dropped), &wide(&r), &wide(&g), eps).unwrap();
            close(&what, &y, &want.0, 3e-6);
            close(&format!("{what} sum"), &saved.sum, &want.1, 1e-6);
            // The twin drops in f32.
            let exact = if drop.active() { 1e-7 } else { 1e-12 };
            close(&format!("{what} plain"), &plain, &want.0, exact);
            close(&format!("{what} again"), &rms_norm::output(&saved, &g).unwrap(), &want.0, 3e-6);
            close(&format!("{what} again plain"), &rms_norm::output(&plain_saved, &wide(&g)).unwrap(), &want.0, exact);
            // Both outputs have a weight: y's gradient is dy, the sum's is dsum.
            let both = Tensor::cat(&[&dy, &dsum], 0).unwrap();
            let auto = autograd(&[&r, &g], &both, |v| {
                let (y, sum) = rms_twin(&wide(&dropped), &v[0], &v[1], eps)?;
                Tensor::cat(&[y, sum], 0)
            });
            let fast = rms_norm::backward(&dy, Some(dsum.copy().unwrap()), &saved, &g).unwrap();
            let slow = rms_norm::backward(&wide(&dy), Some(wide(&dsum)), &plain_saved, &wide(&g)).unwrap();
            close(&format!("{what} backward"), &fast, &auto[0], 1e-5);
            close(&format!("{what} backward plain"), &slow, &auto[0], exact * 100.0);
            close(&format!("{what} gamma"), &rms_norm::gamma_grad(&dy, &saved).unwrap(), &auto[1], 1e-5);
            let alone = rms_norm::backward(&dy, None, &saved, &g).unwrap();
            close(&format!("{what} alone"), &(alone + &dsum).unwrap(), &auto[0], 1e-5);
        }
        let (y, saved) = rms_norm::forward(&x, None, Dropout::none(), Scale { gamma: &g, eps }).unwrap();
        close(
            "no residual",
            &y,
            &rms_twin(&wide(&x), &wide(&x.zeros_like().unwrap()), &wide(&g), eps).unwrap().0,
            3e-6,
        );
        assert_eq!(values(&saved.sum), values(&x));
    }
    let (x, g, dy) = (wide(&random((2, 5), 1)), wide(&random(5, 2)), wide(&random((2, 5), 3)));
    let run = |x: &Tensor| rms_norm::forward(x, None, Dropout::none(), Scale { gamma: &g, eps: 1e-3 }).unwrap();
    let numeric = differences(&x, |x| dot(&run(x).0, &dy));
    close("rms norm differences", &rms_norm::backward(&dy, None, &run(&x).1, &g).unwrap(), &numeric, 1e-7);
}

#[test]
fn residual_adds() {
    for &(n, d) in &SHAPES {
        let (x, r) = (random((n, d), 1), random((n, d), 2));
        for drop in [Dropout::none(), Dropout::new(9, 0.4)] {
            let want = (drop.apply(&x).unwrap() + &r).unwrap();
            assert_eq!(values(&residual::add(&x, Some(&r), drop).unwrap()), values(&want));
            close("plain", &residual::add(&wide(&x), Some(&wide(&r)), drop).unwrap(), &want, 1e-6);
        }
        let sum = residual::accumulate(x.copy().unwrap(), &r).unwrap();
        assert_eq!(values(&sum), values(&(&x + &r).unwrap()));
    }
}

fn frequencies(half: usize) -> Vec<f32> {
    (0..half).map(|i| 100f32.powf(-(i as f32) / half as f32)).collect()
}

#[test]
fn rotation_turns_pairs_and_back() {
    for (pairing, (n, heads, hd, rest)) in [Pairing::Halves, Pairing::Interleaved]
        .into_iter()
        .flat_map(|p| [(1, 1, 2, 0), (7, 3, 8, 8), (300, 2, 34, 5)].map(|shape| (p, shape)))
    {
        let what = format!("{pairing:?} {n} {heads} {hd}");
        let heads = Heads { heads, head_dim: hd, pairing };
        let positions: Vec<u32> = (0..n as u32).map(|i| i * 7 % 40).collect();
        let angles = Angles::new(&frequencies(hd / 2), 40, 1.0);
        let x = random((n, heads.heads * hd + rest), 3);
        let fast = rope::rotate(x.copy().unwrap(), heads, &angles, &positions, Rope::Forward).unwrap();
        let plain = rope::rotate(wide(&x), heads, &angles, &positions, Rope::Forward).unwrap();
        close(&what, &fast, &plain, 1e-6);
        let (before, after) = (values(&x), values(&fast));
        let columns = heads.heads * hd + rest;
        for (row, &position) in positions.iter().enumerate() {
            for head in 0..heads.heads {
                for pair in 0..hd / 2 {
                    let (i, j) = match pairing {
                        Pairing::Halves => (pair, pair + hd / 2),
                        Pairing::Interleaved => (2 * pair, 2 * pair + 1),
                    };
                    let at = |k: usize| row * columns + head * hd + k;
                    let angle = f64::from(position) * f64::from(frequencies(hd / 2)[pair]);
                    let (a, b) = (before[at(i)], before[at(j)]);
                    let want = (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin());
                    assert!((after[at(i)] - want.0).abs() < 2e-5 && (after[at(j)] - want.1).abs() < 2e-5, "{what}");
                }
            }
            let tail = row * columns + heads.heads * hd..(row + 1) * columns;
            assert_eq!(before[tail.clone()], after[tail], "{what}: values behind the heads stay");
        }
        let back = rope::rotate(fast, heads, &angles, &positions, Rope::Backward).unwrap();
        close(&format!("{what} back"), &back, &x, 1e-6);
        let dy = random(x.shape(), 4);
        let auto =
            autograd(&[&x], &dy, |v| Ok(rope::plain_rotate(&v[0], heads, &angles, &positions, Rope::Forward).unwrap()));
        let got = rope::rotate(dy.copy().unwrap(), heads, &angles, &positions, Rope::Backward).unwrap();
        close(&format!("{what} gradient"), &got, &auto[0], 1e-5);
        let far = vec![40; n];
        assert!(rope::rotate(x.clone(), heads, &angles, &far, Rope::Forward).is_err(), "no angle for that position");
    }
}

#[test]
fn gates() {
    for act in [Act::Gelu, Act::GeluTanh, Act::Relu, Act::Swish, Act::Tanh] {
        for (i, (n, f)) in [(1, 1), (3, 7), (40, 64), (300, 33)].into_iter().enumerate() {
            let what = format!("gate {act:?} ({n}, {f})");
            let (x, dy) = ((random((n, 2 * f), i as u64) * 2.0).unwrap(), random((n, f), 20 + i as u64));
            let twin = |x: &Tensor| {
                let gate = activation::plain_forward(act, &x.narrow(1, 0, f)?.contiguous()?).unwrap();
                gate * x.narrow(1, f, f)?
            };
            close(&what, &gated::forward(act, &x).unwrap(), &twin(&wide(&x)).unwrap(), 2e-6);
            close(&format!("{what} plain"), &gated::forward(act, &wide(&x)).unwrap(), &twin(&wide(&x)).unwrap(), 1e-12);
            let auto = autograd(&[&x], &dy, |v| twin(&v[0]));
            let fast = gated::backward(act, x.copy().unwrap(), &dy).unwrap();
            close(&format!("{what} backward"), &fast, &auto[0], 3e-6);
            close(
                &format!("{what} backward plain"),
                &gated::backward(act, wide(&x), &wide(&dy)).unwrap(),
                &auto[0],
                1e-6,
            );
        }
    }
    assert!(gated::forward(Act::Swish, &random((2, 3), 1)).is_err(), "an odd width has no halves");
}

#[test]
fn norms_of_single_heads() {
    for (i, (n, heads, hd, rest)) in
        [(1, [1, 1], 1, 0), (5, [4, 2], 6, 12), (200, [3, 1], 32, 32)].into_iter().enumerate()
    {
        let what = format!("head norm {n} {heads:?} {hd}");
        let columns = (heads[0] + heads[1]) * hd + rest;
        let (x, dy) = (random((n, columns), i as u64), random((n, columns), 10 + i as u64));
        let (gq, gk) = (random(hd, 20 + i as u64), random(hd, 30 + i as u64));
        let (gq64, gk64) = (wide(&gq), wide(&gk));
        let fast = HeadNorm { gamma: [&gq, &gk], heads, eps: 1e-3 };
        let plain = HeadNorm { gamma: [&gq64, &gk64], heads, eps: 1e-3 };
        let twin = |x: &Tensor, [gq, gk]: [&Tensor; 2]| {
            let mut parts = Vec::new();
            for head in 0..heads[0] + heads[1] {
                let x = x.narrow(1, head * hd, hd)?;
                let rms = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-3)?.sqrt()?;
                let gamma = if head < heads[0] { gq } else { gk };
                parts.push(x.broadcast_div(&rms)?.broadcast_mul(gamma)?);
            }
            if rest > 0 {
                parts.push(x.narrow(1, columns - rest, rest)?);
            }
            Tensor::cat(&parts, 1)
        };
        let want = twin(&wide(&x), [&gq64, &gk64]).unwrap();
        close(&what, &head_norm::forward(&x, fast).unwrap(), &want, 3e-6);
        close(&format!("{what} plain"), &head_norm::forward(&wide(&x), plain).unwrap(), &want, 1e-12);
        let auto = autograd(&[&x, &gq, &gk], &dy, |v| twin(&v[0], [&v[1], &v[2]]));
        for (side, gamma) in head_norm::gamma_grads(&x, fast, &dy).unwrap().iter().enumerate() {
            close(&format!("{what} gamma {side}"), gamma, &auto[1 + side], 1e-5);
        }
        close(&format!("{what} backward"), &head_norm::backward(&x, fast, dy.copy().unwrap()).unwrap(), &auto[0], 1e-5);
        let slow = head_norm::backward(&wide(&x), plain, wide(&dy)).unwrap();
        close(&format!("{what} backward plain"), &slow, &auto[0], 1e-10);
    }
}

/// total, task and consistency as one differentiable formula.
fn loss_twin(hidden: &Tensor, head: &Tensor, targets: &[u32], o: Objective) -> Result<[Tensor; 3]> {
    let n = targets.len();
    let vocab = head.dims()[0];
    let log = |pass: usize| {
        let z = hidden.narrow(0, pass * n, n)?.matmul(&head.t()?)?;
        z.broadcast_sub(&z.exp()?.sum_keepdim(D::Minus1)?.log()?)
    };
    let picked: Vec<f64> = (0..n * vocab)
        .map(|i| {
            let hot = if targets[i / vocab] as usize == i % vocab { 1.0 - o.smoothing } else { 0.0 };
            hot + o.smoothing / vocab as f64
        })
        .collect();
    let aim = Tensor::from_vec(picked, (n, vocab), &Device::Cpu)?;
    let entropy = |log: &Tensor| (&aim * log)?.sum_all()? * (-1.0 / n as f64);
    let a = log(0)?;
    if o.passes == 1 {
        let task = entropy(&a)?;
        return Ok([task.clone(), task.clone(), task.zeros_like()?]);
    }
    let b = log(1)?;
    let task = if o.both { ((entropy(&a)? + entropy(&b)?)? * 0.5)? } else { entropy(&a)? };
    let hold = |t: &Tensor| if o.detach { detached(t) } else { t.clone() };
    let kl = |p: &Tensor, q: &Tensor| (p.exp()? * (p - q)?)?.sum_all();
    let term = ((kl(&hold(&b), &a)? + kl(&hold(&a), &b)?)? * (0.5 / n as f64))?;
    Ok([(&task + (&term * o.weight)?)?, task, term])
}

#[test]
fn loss_over_the_vocabulary_in_chunks() {
    let (n, d, vocab) = (11, 6, 37);
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 13 % 37).collect();
    let head = random((vocab, d), 2);
    for passes in [1, 2] {
        let hidden = random((passes * n, d), passes as u64);
        for (smoothing, detach, both) in
            [(0.0, true, false), (0.1, true, false), (0.1, false, false), (0.0, false, true), (0.2, true, true)]
        {
            for max_logits in [MAX_LOGITS, passes * vocab * 4, 1] {
                let o = Objective {
                    passes,
                    smoothing,
                    weight: 3.0,
                    detach,
                    both,
                    gradient: true,
                    max_logits,
                    overflows: 0,
                };
                let what = format!("passes {passes} smoothing {smoothing} detach {detach} both {both} {max_logits}");
                let want = loss_twin(&wide(&hidden), &wide(&head), &targets, o).unwrap();
                let one = Tensor::ones((), DType::F64, &Device::Cpu).unwrap();
                let auto = autograd(&[&hidden, &head], &one, |v| Ok(loss_twin(&v[0], &v[1], &targets, o)?[0].clone()));
                for (hidden, head, tolerance) in
                    [(hidden.clone(), head.clone(), 1e-5), (wide(&hidden), wide(&head), 1e-6)]
                {
                    let got = vocab_loss_and_head(&hidden, &head, &targets, o).unwrap();
                    close(&format!("{what} with head"), &got.grad.unwrap(), &auto[0], tolerance);
                    close(&format!("{what} of head"), &got.head.unwrap(), &auto[1], tolerance);
                }
                for (kind, got, tolerance) in [
                    ("fast", vocab_loss(&hidden, &head, &targets, o).unwrap(), 1e-5),
                    ("plain", vocab_loss(&wide(&hidden), &wide(&head), &targets, o).unwrap(), 1e-6),
                ] {
                    let parts = got.rows.read().unwrap();
                    for (name, got, want) in [
                        ("total", parts.total, &want[0]),
                        ("task", parts.task, &want[1]),
                        ("term", parts.consistency, &want[2]),
                    ] {
                        let want = values(want)[0];
                        assert!((got - want).abs() < 1e-5 * (1.0 + want), "{what} {kind} {name}: {got} for {want}");
                    }
                    close(&format!("{what} {kind}"), got.grad.as_ref().unwrap(), &auto[0], tolerance);
                    assert!(got.head.is_none(), "a frozen head has no gradient");
                    let mean: f64 = parts.nll.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
                    let plain = Objective { smoothing: 0.0, both: false, ..o };
                    let nll = loss_twin(&wide(&hidden), &wide(&head), &targets, plain).unwrap();
                    assert!((mean - values(&nll[1])[0]).abs() < 1e-5, "{what} {kind}: -log p {mean}");
                }
            }
        }
    }
}

#[test]
fn the_vocabulary_loss_refuses_what_does_not_fit() {
    let (hidden, head) = (random((4, 3), 1), random((5, 3), 2));
    let one = crate::plain_loss();
    assert!(vocab_loss(&hidden, &head, &[0, 1, 2, 4], one).is_ok());
    assert!(vocab_loss(&hidden, &head, &[0, 1, 2, 5], one).is_err(), "a target outside the vocabulary");
    assert!(vocab_loss(&hidden, &head, &[0, 1, 2], one).is_err(), "a row without a target");
    assert!(vocab_loss(&hidden, &head, &[], one).is_err(), "nothing");
    assert!(vocab_loss(&hidden, &random((5, 2), 2), &[0, 1, 2, 4], one).is_err(), "another width");
    assert!(vocab_loss(&hidden, &head, &[0, 1, 2, 4], one).unwrap().grad.is_none(), "no gradient unless asked for");
    let huge = (&hidden * 1e4).unwrap();
    let loss = vocab_loss(&huge, &head, &[0, 1, 2, 4], Objective { gradient: true, ..one }).unwrap();
    assert!(loss.rows.read().unwrap().total.is_finite() && values(&loss.grad.unwrap()).iter().all(|v| v.is_finite()));
}
