//! Activation, bias, dropout, layer normalisation, losses.

use super::host::{Memory, run};
use super::{FORMATS, close, random, values, wide};
use adamix::nn::kernels::Dropout;
use adamix::nn::kernels::activation::{self, Act};
use adamix::nn::kernels::cuda::plan::{Elementwise, Norm};
use adamix::nn::kernels::layer_norm::{self, Affine};
use adamix::tensor::DType;

const ACTS: [Act; 5] = [Act::Gelu, Act::GeluTanh, Act::Relu, Act::Swish, Act::Tanh];
const SIZES: [usize; 6] = [0, 1, 3, 4, 1027, 2048];

#[test]
fn activations() {
    for (format, dtype, error) in FORMATS {
        for (i, act) in ACTS.into_iter().enumerate() {
            for n in SIZES {
                for shift in [0, 1] {
                    let x = (random(n, i as u64, dtype) * 3.0).unwrap();
                    let dy = random(n, 50 + i as u64, dtype);
                    let (mut mx, mut my) = (Memory::shifted(&x, shift), Memory::empty(n, dtype));
                    let shape = Elementwise { format, x: mx.address(), y: my.address(), n };
                    run(&shape.act_forward(act));
                    let want = activation::plain_forward(act, &wide(&x)).unwrap();
                    close("act", &my.tensor(n), &want, 1.1 * error, 5e-7);
                    let mut mdy = Memory::shifted(&dy, shift);
                    run(&Elementwise { y: mdy.address(), ..shape }.act_backward(act));
                    let want = activation::plain_backward(act, &wide(&x), &wide(&dy)).unwrap();
                    close("act backward", &mdy.tensor(n), &want, 1.1 * error, 2e-6);
                    assert_eq!(values(&mx.tensor(n)), values(&x));
                }
            }
        }
    }
}

#[test]
fn bias_and_activation() {
    for (format, dtype, error) in FORMATS {
        for (rows, width) in [(0, 5), (1, 1), (7, 5), (33, 64)] {
            let (x, b) = (random((rows, width), 1, dtype), random(width, 2, DType::F32));
            let sum = wide(&x).broadcast_add(&wide(&b)).unwrap();
            let n = rows * width;
            for act in [None, Some(Act::Gelu)] {
                let (mut mx, mut my, mut mb) = (Memory::of(&x), Memory::empty(n, dtype), Memory::of(&b));
                let y = if act.is_some() { my.address() } else { 0 };
                run(&Elementwise { format, x: mx.address(), y, n }.bias_act(mb.address(), width, act));
                let z = mx.tensor((rows, width));
                close("bias", &z, &sum, 1.1 * error, 1e-7);
                if let Some(act) = act {
                    let want = activation::plain_forward(act, &wide(&z)).unwrap();
                    close("act of bias", &my.tensor((rows, width)), &want, 1.1 * error, 5e-7);
                }
            }
        }
    }
}

#[test]
fn dropout_masks_are_the_hosts() {
    for (format, dtype, error) in FORMATS {
        for n in SIZES {
            let (x, drop) = (random(n, 3, dtype), Dropout::new(77, 0.3));
            let (mut mx, mut my) = (Memory::of(&x), Memory::empty(n, dtype));
            run(&Elementwise { format, x: mx.address(), y: my.address(), n }.dropout(drop));
            let want = drop.apply(&x.to_dtype(DType::F32).unwrap()).unwrap();
            close("dropout", &my.tensor(n), &want, 1.1 * error, 0.0);
        }
    }
}

#[test]
fn residual_adds() {
    for (format, dtype, error) in FORMATS {
        for n in SIZES {
            let (x, residual) = (random(n, 3, dtype), random(n, 4, dtype));
            for drop in [Dropout::none(), Dropout::new(78, 0.3)] {
                let (mut mx, mut mr, mut my) = (Memory::of(&x), Memory::of(&residual), Memory::empty(n, dtype));
                let shape = Elementwise { format, x: mx.address(), y: my.address(), n };
                run(&shape.add(mr.address(), drop));
                let x = drop.apply(&x.to_dtype(DType::F32).unwrap()).unwrap();
                let want = (wide(&x) + wide(&residual)).unwrap();
                close("sum", &my.tensor(n), &want, 1.1 * error, 1e-7);
            }
            // In place.
            let (mut mx, mut mr) = (Memory::of(&x), Memory::of(&residual));
            let here = mx.address();
            run(&Elementwise { format, x: here, y: here, n }.add(mr.address(), Dropout::none()));
            close("sum in place", &mx.tensor(n), &(wide(&x) + wide(&residual)).unwrap(), 1.1 * error, 1e-7);
        }
    }
}

#[test]
fn layer_norms() {
    for (format, dtype, error) in FORMATS {
        for (n, d) in [(0, 8), (1, 1), (3, 20), (5, 33), (9, 64), (2, 1030), (3, 5000)] {
            for (with_residual, p) in [(false, 0.0), (true, 0.0), (true, 0.2)] {
                let (x, res) = (random((n, d), 4, dtype), random((n, d), 5, dtype));
                let (gamma, beta) = (random(d, 6, DType::F32), random(d, 7, DType::F32));
                let drop = if p > 0.0 { Dropout::new(5, p) } else { Dropout::none() };
                let (wg, wb, wr) = (wide(&gamma), wide(&beta), wide(&res));
                let affine = Affine { gamma: &wg, beta: &wb, eps: 1e-5 };
                let (want, saved) =
                    layer_norm::plain_forward(&wide(&x), with_residual.then_some(&wr), drop, affine).unwrap();
                let [mut mx, mut mr, mut mg, mut mb] = [&x, &res, &gamma, &beta].map(Memory::of);
                let (mut y, mut h) = (Memory::empty(n * d, dtype), Memory::empty(n * d, dtype));
                let mut rstd = Memory::empty(n, DType::F32);
                let shape = Norm {
                    format,
                    x: mx.address(),
                    residual: if with_residual { mr.address() } else { 0 },
                    gamma: mg.address(),
                    beta: mb.address(),
                    y: y.address(),
                    kept: h.address(),
                    rstd: rstd.address(),
                    n,
                    d,
                    eps: 1e-5,
                    ..Norm::default()
                };
                run(&shape.layer_forward(drop));
                close("layer norm", &y.tensor((n, d)), &want, 1.1 * error, 3e-6);
                rstd.tensor(n);
                let dy = random((n, d), 8, dtype);
                let want = layer_norm::plain_backward(&wide(&dy), &saved, &wg, drop).unwrap();
                let mut mdy = Memory::of(&dy);
                let (mut sum, mut dx) = (Memory::empty(n * d, dtype), Memory::empty(n * d, dtype));
                let shape = Norm { y: mdy.address(), dsum: sum.address(), dx: dx.address(), ..shape };
                run(&shape.layer_backward(drop));
                for (what, got, want) in [("sum", sum, want.sum), ("x", dx, want.x)] {
                    // The normalised values went through the format once.
                    let what = format!("layer norm backward, {what}");
                    close(&what, &got.tensor((n, d)), &want, 1.1 * error, 3e-6 + 4.0 * (error - 6e-8));
                }
            }
        }
    }
}
