//! Root-mean-square norms, gated nonlinearities, rotary positions, losses and scores over a vocabulary.

use super::host::{Memory, run};
use super::{FORMATS, close, random, values, wide};
use adamix::nn::kernels::cuda::lm_plan::{Gated, HeadNorm, Rotate, VocabLoss, VocabScore};
use adamix::nn::kernels::cuda::plan::Norm;
use adamix::nn::kernels::head_norm;
use adamix::nn::kernels::layer_norm::{self, Affine};
use adamix::nn::kernels::rms_norm::{self, Scale};
use adamix::nn::kernels::rope::{self, Angles, Heads, Pairing, Rope};
use adamix::nn::kernels::vocab_loss::{self as loss, Objective};
use adamix::nn::kernels::{Act, Dropout, gated};
use adamix::tensor::{DType, Device, Tensor};

const CPU: &Device = &Device::Cpu;

#[test]
fn rms_norms() {
    for (format, dtype, error) in FORMATS {
        for (n, d) in [(0, 8), (1, 1), (3, 20), (5, 33), (2, 1030), (2, 5000)] {
            for (with_residual, p) in [(false, 0.0), (true, 0.0), (true, 0.2), (false, 0.2)] {
                let (x, residual) = (random((n, d), 4, dtype), random((n, d), 5, dtype));
                let (gamma, dy) = (random(d, 6, DType::F32), random((n, d), 8, dtype));
                let drop = if p > 0.0 { Dropout::new(5, p) } else { Dropout::none() };
                let [mut mx, mut mr, mut mg] = [&x, &residual, &gamma].map(Memory::of);
                let (mut y, mut sum) = (Memory::empty(n * d, dtype), Memory::empty(n * d, dtype));
                let mut rstd = Memory::empty(n, DType::F32);
                let changed = with_residual || drop.active();
                let shape = Norm {
                    format,
                    x: mx.address(),
                    residual: if with_residual { mr.address() } else { 0 },
                    gamma: mg.address(),
                    y: y.address(),
                    kept: if changed { sum.address() } else { 0 },
                    rstd: rstd.address(),
                    n,
                    d,
                    eps: 1e-5,
                    ..Norm::default()
                };
                run(&shape.rms_forward(drop));
                let (wg, wr) = (wide(&gamma), wide(&residual));
                let residual = with_residual.then_some(&wr);
                let norm = Scale { gamma: &wg, eps: 1e-5 };
                let (want, saved) = rms_norm::plain_forward(&wide(&x), residual, drop, norm).unwrap();
                let kept = if changed { sum.tensor((n, d)) } else { x };
                close("sum", &kept, &saved.sum, 1.1 * error, 1e-7);
                close("RMS norm", &y.tensor((n, d)), &want, 2.2 * error, 3e-6);
                // From here on of what was kept, which went through the format.
                let (want, saved) = rms_norm::plain_forward(&wide(&kept), None, Dropout::none(), norm).unwrap();
                let mut again = Memory::empty(n * d, dtype);
                let mut msum = Memory::of(&kept);
                let shape = Norm { residual: 0, kept: msum.address(), x: msum.address(), ..shape };
                run(&Norm { y: again.address(), ..shape }.output());
                close("RMS norm again", &again.tensor((n, d)), &want, 1.1 * error, 3e-6);
                let had = random((n, d), 9, dtype);
                // Of a single value nearly everything cancels.
                let absolute = if d == 1 { 3e-5 } else { 3e-6 };
                for add in [false, true] {
                    let mut mdy = Memory::of(&dy);
                    let mut dsum = if add { Memory::of(&had) } else { Memory::empty(n * d, dtype) };
                    run(&Norm { y: mdy.address(), dsum: dsum.address(), ..shape }.rms_backward(add));
                    let before = wide(&had);
                    let want = rms_norm::plain_backward(&wide(&dy), add.then_some(&before), &saved, &wg).unwrap();
                    close("RMS norm backward", &dsum.tensor((n, d)), &want, 1.1 * error, absolute);
                }
            }
        }
    }
}

#[test]
fn layer_norms_again() {
    for (format, dtype, error) in FORMATS {
        let (n, d) = (3, 130);
        let (x, gamma, beta) = (random((n, d), 1, dtype), random(d, 2, DType::F32), random(d, 3, DType::F32));
        let [mut mx, mut mg, mut mb] = [&x, &gamma, &beta].map(Memory::of);
        let mut y = Memory::empty(n * d, dtype);
        let shape = Norm {
            format,
            x: mx.address(),
            gamma: mg.address(),
            beta: mb.address(),
            y: y.address(),
            n,
            d,
            ..Norm::default()
        };
        run(&shape.output());
        let (wg, wb) = (wide(&gamma), wide(&beta));
        let want = wide(&x).broadcast_mul(&wg).unwrap().broadcast_add(&wb).unwrap();
        close("layer norm again", &y.tensor((n, d)), &want, 1.1 * error, 1e-6);
        // The program's own way of making it again on any device.
        let affine = Affine { gamma: &gamma, beta: &beta, eps: 1e-5 };
        let (_, saved) = layer_norm::forward(&x, None, Dropout::none(), affine).unwrap();
        let (want, _) =
            layer_norm::plain_forward(&wide(&x), None, Dropout::none(), Affine { gamma: &wg, beta: &wb, eps: 1e-5 })
                .unwrap();
        close("output", &layer_norm::output(&saved, affine).unwrap(), &want, 2.2 * error, 3e-6 + 4.0 * (error - 6e-8));
    }
}

#[test]
fn norms_of_heads() {
    for (format, dtype, error) in FORMATS {
        for (n, heads, kv_heads, hd, rest) in [(0, 1, 1, 4, 0), (3, 1, 1, 1, 2), (5, 5, 2, 40, 80), (2, 3, 1, 128, 130)]
        {
            let columns = (heads + kv_heads) * hd + rest;
            let (x, dy) = (random((n, columns), 1, dtype), random((n, columns), 2, dtype));
            let gamma = [3, 4].map(|i| random(hd, i, DType::F32));
            let [mut mx, mut mdy, mut gq, mut gk] = [&x, &dy, &gamma[0], &gamma[1]].map(Memory::of);
            let mut y = Memory::empty(n * columns, dtype);
            let shape = HeadNorm {
                format,
                x: mx.address(),
                gamma: [gq.address(), gk.address()],
                y: y.address(),
                n,
                columns,
                head_dim: hd,
                heads: [heads, kv_heads],
                eps: 1e-6,
            };
            run(&shape.forward());
            run(&HeadNorm { y: mdy.address(), ..shape }.backward());
            if n == 0 {
                continue;
            }
            let wide_gamma = gamma.each_ref().map(wide);
            let norm = head_norm::HeadNorm { gamma: wide_gamma.each_ref(), heads: [heads, kv_heads], eps: 1e-6 };
            let want = head_norm::plain_forward(&wide(&x), norm).unwrap();
            close("norm of heads", &y.tensor((n, columns)), &want, 1.1 * error, 3e-6);
            let want = head_norm::plain_backward(&wide(&x), norm, &wide(&dy)).unwrap();
            close("norm of heads, backward", &mdy.tensor((n, columns)), &want, 1.1 * error, 1e-5);
        }
    }
}

#[test]
fn gates() {
    for (format, dtype, error) in FORMATS {
        for act in [Act::Swish, Act::Gelu, Act::GeluTanh, Act::Relu, Act::Tanh] {
            for (n, f, shift) in [(0, 4, 0), (1, 1, 0), (3, 5, 0), (7, 96, 0), (7, 96, 1), (2, 1027, 0)] {
                let (x, dy) = (random((n, 2 * f), 1, dtype), random((n, f), 2, dtype));
                let (mut mx, mut mdy) = (Memory::shifted(&x, shift), Memory::of(&dy));
                let mut y = Memory::empty(n * f, dtype);
                let shape = Gated { format, x: mx.address(), y: y.address(), rows: n, width: f };
                run(&shape.forward(act));
                let want = gated::plain_forward(act, &wide(&x)).unwrap();
                close("gated", &y.tensor((n, f)), &want, 1.1 * error, 1e-6);
                assert_eq!(values(&mx.tensor((n, 2 * f))), values(&x));
                run(&Gated { y: mdy.address(), ..shape }.backward(act));
                let want = gated::plain_backward(act, &wide(&x), &wide(&dy)).unwrap();
                close("gated backward", &mx.tensor((n, 2 * f)), &want, 1.1 * error, 3e-6);
                assert_eq!(values(&mdy.tensor((n, f))), values(&dy));
            }
        }
    }
}

#[test]
fn rotations() {
    for (format, dtype, error) in FORMATS {
        for (n, heads, hd, rest) in [(0, 1, 2usize, 0), (1, 1, 2, 3), (9, 4, 16, 32), (40, 3, 64, 0)] {
            let columns = heads * hd + rest;
            let frequencies: Vec<f32> = (0..hd / 2).map(|i| 0.7f32.powi(i as i32)).collect();
            let angles = Angles::new(&frequencies, 50, 1.0);
            let positions: Vec<u32> = (0..n as u32).map(|i| (i * 7) % 50).collect();
            let x = random((n, columns), 1, dtype);
            for pairing in [Pairing::Halves, Pairing::Interleaved] {
                for direction in [Rope::Forward, Rope::Backward] {
                    let table = angles.on(CPU).unwrap();
                    let [mut cos, mut sin] = [0, 1].map(|i| Memory::of(&table.get(i).unwrap()));
                    let mut of = Memory::of(&Tensor::from_slice(&positions, n, CPU).unwrap());
                    let mut mx = Memory::of(&x);
                    let shape = Rotate {
                        format,
                        x: mx.address(),
                        table: [cos.address(), sin.address()],
                        positions: of.address(),
                        n,
                        columns,
                        heads,
                        half: hd / 2,
                        interleaved: pairing == Pairing::Interleaved,
                    };
                    run(&shape.launch(direction));
                    let heads = Heads { heads, head_dim: hd, pairing };
                    let want = rope::plain_rotate(&wide(&x), heads, &angles, &positions, direction).unwrap();
                    close("rotated", &mx.tensor((n, columns)), &want, 1.1 * error, 1e-6);
                }
            }
        }
    }
}

/// The logits themselves as hidden states, so that the loss sees exactly the kernel's.
fn wanted(logits: &Tensor, targets: &[u32], objective: Objective) -> loss::VocabLoss {
    let (_, vocab) = logits.dims2().unwrap();
    let head = Tensor::from(candle_core::Tensor::eye(vocab, DType::F64, &candle_core::Device::Cpu).unwrap());
    loss::vocab_loss(&wide(logits), &head, targets, objective).unwrap()
}

#[test]
fn losses_over_a_vocabulary() {
    for (format, dtype, error) in FORMATS {
        for (n, vocab) in [(1, 1), (3, 2), (4, 300), (2, 1027)] {
            let targets: Vec<u32> = (0..n as u32).map(|i| i * 101 % vocab as u32).collect();
            for (passes, detach, both, smoothing, gradient) in [
                (1, true, false, 0.0, true),
                (1, true, false, 0.1, true),
                (2, true, false, 0.0, true),
                (2, false, true, 0.1, true),
                (2, true, true, 0.0, false),
            ] {
                let z = (random((passes * n, vocab), 1, DType::F32) * 4.0).unwrap();
                let objective =
                    Objective { passes, smoothing, weight: 3.0, detach, both, gradient: true, ..crate::plain_loss() };
                let loss = wanted(&z, &targets, objective);
                let want = loss.rows.read().unwrap();
                let size = 4 * (n * vocab) as u64;
                let (mut mz, mut of) = (Memory::of(&z), Memory::of(&Tensor::from_slice(&targets, n, CPU).unwrap()));
                let (mut parts, mut grad) =
                    (Memory::empty(3 * n, DType::F32), Memory::empty(passes * n * vocab, dtype));
                let second = |at: u64, size: u64| if passes == 2 { at + size } else { 0 };
                let (first, share) = (mz.address(), 1.0 / n as f32);
                // In f32 over the logits, as the program does it.
                let to = if format == 0 { first } else { grad.address() };
                let to_second = second(to, (n * vocab * dtype.size_in_bytes()) as u64);
                let shape = VocabLoss {
                    format,
                    logits: [first, second(first, size)],
                    grads: if gradient { [to, to_second] } else { [0, 0] },
                    targets: of.address(),
                    parts: parts.address(),
                    rows: n,
                    vocab,
                    weights: if both { [0.5 * share, 0.5 * share] } else { [share, 0.0] },
                    smoothing: smoothing as f32,
                    consistency: if passes == 2 { 3.0 * share } else { 0.0 },
                    detach,
                };
                run(&shape.launch());
                let parts = values(&parts.tensor((n, 3)));
                let mean = |part: usize| parts.iter().skip(part).step_by(3).sum::<f64>() / n as f64;
                assert!((mean(0) - want.task).abs() < 2e-6 * want.task.max(1.0), "{} {}", mean(0), want.task);
                let term = want.consistency;
                assert!((mean(1) - term).abs() < 1e-5 * term.max(1.0), "{} {term}", mean(1));
                for (got, want) in parts.iter().skip(2).step_by(3).zip(&want.nll) {
                    assert!((got - f64::from(*want)).abs() < 2e-6 * got.max(1.0), "{got} {want}");
                }
                let got = if !gradient {
                    assert_eq!(values(&mz.tensor(z.dims())), values(&z));
                    continue;
                } else if format == 0 {
                    mz.tensor((passes * n, vocab))
                } else {
                    grad.tensor((passes * n, vocab))
                };
                // f16 has nothing small; log probabilities here differ by up to 30, in f32.
                let absolute = if format == 2 { 1e-5 } else { 6e-6 };
                close("gradient of the logits", &got, &loss.grad.unwrap(), 1.1 * error, absolute);
            }
        }
    }
}

#[test]
fn scores_over_a_vocabulary() {
    for (n, vocab) in [(1, 1), (3, 2), (5, 300), (2, 1027)] {
        let z = (random((n, vocab), 1, DType::F32) * 4.0).unwrap();
        // Equally likely ones: the first counts.
        let mut tied = z.to_vec2::<f32>().unwrap();
        if vocab > 290 {
            tied[0][290] = 50.0;
            tied[0][31] = 50.0;
        }
        let z = Tensor::new(tied.clone(), CPU).unwrap();
        let targets: Vec<u32> = (0..n as u32).map(|i| i * 101 % vocab as u32).collect();
        let had = random((n, vocab), 2, DType::F32);
        let [mut mz, mut mixed] = [&z, &had].map(Memory::of);
        let mut of = Memory::of(&Tensor::from_slice(&targets, n, CPU).unwrap());
        let mut parts = Memory::empty(2 * n, DType::F32);
        let shape = VocabScore {
            logits: mz.address(),
            targets: of.address(),
            parts: parts.address(),
            mixed: mixed.address(),
            rows: n,
            vocab,
        };
        run(&shape.launch());
        let (parts, p) =
            (values(&parts.tensor((n, 2))), adamix::nn::kernels::attention::plain_softmax(&wide(&z)).unwrap());
        let rows = p.to_vec2::<f64>().unwrap();
        for (i, row) in rows.iter().enumerate() {
            let log_p = row[targets[i] as usize].ln();
            assert!((parts[2 * i] - log_p).abs() < 2e-6 * log_p.abs().max(1.0), "{} {log_p}", parts[2 * i]);
            let best = (0..vocab).fold(0, |best, v| if tied[i][v] > tied[i][best] { v } else { best });
            assert_eq!(parts[2 * i + 1] as usize, best);
        }
        close("probabilities", &mixed.tensor((n, vocab)), &(wide(&had) + p).unwrap(), 1e-6, 1e-6);
        let mut places = Memory::empty(2 * n, DType::F32);
        run(&VocabScore { targets: 0, mixed: 0, parts: places.address(), ..shape }.launch());
        let places = values(&places.tensor((n, 2)));
        assert!(places.iter().skip(1).step_by(2).eq(parts.iter().skip(1).step_by(2)));
    }
}
