//! Elementwise and GEMM kernels.

use super::{PRODUCTS, autograd, close, differences, dot, random, values, wide};
use adamix::error::Result;
use adamix::nn::kernels::activation::{self, Act};
use adamix::nn::kernels::layer_norm::{self, Affine};
use adamix::nn::kernels::vocab_loss::{Objective, vocab_loss};
use adamix::nn::kernels::{Dropout, adamw, gemm, simd};
use adamix::tensor::{D, DType, Device, Tensor};

/// Nothing, one value, odd widths, several vector lengths, several parallel tasks.
const SHAPES: [(usize, usize); 6] = [(0, 5), (1, 1), (1, 67), (3, 7), (40, 64), (300, 67)];

#[test]
fn activations() {
    for act in [Act::Gelu, Act::GeluTanh, Act::Relu, Act::Swish, Act::Tanh] {
        for (i, &shape) in SHAPES.iter().enumerate() {
            let what = format!("{act:?} {shape:?}");
            let (x, dy) = ((random(shape, i as u64) * 3.0).unwrap(), random(shape, 50 + i as u64));
            let (x64, dy64) = (wide(&x), wide(&dy));
            close(&what, &activation::forward(act, &x).unwrap(), &activation::plain_forward(act, &x64).unwrap(), 2e-6);
            let fast = activation::backward(act, &x, dy.copy().unwrap()).unwrap();
            let plain = activation::plain_backward(act, &x64, &dy64).unwrap();
            close(&format!("{what} backward"), &fast, &plain, 3e-6);
            if shape.0 > 0 {
                let auto = autograd(&[&x], &dy, |v| Ok(activation::plain_forward(act, &v[0]).unwrap()));
                close(&format!("{what} autograd"), &plain, &auto[0], 1e-6);
            }
        }
        let (x, dy) = (wide(&random((3, 7), 3)), wide(&random((3, 7), 4)));
        let numeric = differences(&x, |x| dot(&activation::plain_forward(act, x).unwrap(), &dy));
        close(&format!("{act:?} differences"), &activation::plain_backward(act, &x, &dy).unwrap(), &numeric, 1e-6);
    }
}

#[test]
fn activations_far_out_stay_finite_and_right() {
    let far = [-1e10f32, -100.0, -20.0, -0.0, 0.0, 1e-30, 20.0, 100.0, 1e10];
    let x = Tensor::new(&far, &Device::Cpu).unwrap();
    for act in [Act::Gelu, Act::GeluTanh, Act::Relu, Act::Swish, Act::Tanh] {
        let got = values(&activation::forward(act, &x).unwrap());
        let ones = Tensor::new(&[1.0f32; 9], &Device::Cpu).unwrap();
        let slope = values(&activation::backward(act, &x, ones).unwrap());
        let (top, bottom) = if act == Act::Tanh { (1.0, -1.0) } else { (1e10, 0.0) };
        assert!((got[8] / top - 1.0).abs() < 1e-6, "{act:?} of 1e10 is {}", got[8]);
        // gelu's 1 + erf(x) keeps a rounding error of 1e-7 that x multiplies
        assert!((got[0] - bottom).abs() < 1e10 * 1.2e-7, "{act:?} of -1e10 is {}", got[0]);
        assert!(act == Act::Tanh || got[2].abs() < 3e-6, "{act:?} of -20 is {}", got[2]);
        assert!(got.iter().chain(&slope).all(|v| v.is_finite()), "{act:?}: {got:?} {slope:?}");
    }
}

fn norm_twin(x: &Tensor, residual: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let s = (x + residual)?;
    let c = s.broadcast_sub(&s.mean_keepdim(D::Minus1)?)?;
    let sd = (c.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    c.broadcast_div(&sd)?.broadcast_mul(gamma)?.broadcast_add(beta)
}

#[test]
fn layer_norm_with_and_without_residual() {
    for (i, &(n, d)) in SHAPES.iter().enumerate() {
        let i = i as u64;
        let (x, r, dy) = (random((n, d), i), (random((n, d), 10 + i) * 2.0).unwrap(), random((n, d), 20 + i));
        let (g, b, eps) = (random(d, 30 + i), random(d, 40 + i), 1e-3);
        let fast = Affine { gamma: &g, beta: &b, eps };
        let (g64, b64) = (wide(&g), wide(&b));
        let plain = Affine { gamma: &g64, beta: &b64, eps };
        for residual in [Some(&r), None] {
            let what = format!("layer norm ({n}, {d}) residual {}", residual.is_some());
            let (y, saved) = layer_norm::forward(&x, residual, Dropout::none(), fast).unwrap();
            let residual64 = residual.map(wide);
            let (y64, saved64) = layer_norm::forward(&wide(&x), residual64.as_ref(), Dropout::none(), plain).unwrap();
            close(&what, &y, &y64, 2e-5);
            let got = layer_norm::backward(&dy, &saved, &g, Dropout::none()).unwrap();
            let want = layer_norm::backward(&wide(&dy), &saved64, &g64, Dropout::none()).unwrap();
            let (gamma, beta) = layer_norm::affine_grads(&dy, &saved).unwrap();
            let (gamma64, beta64) = layer_norm::affine_grads(&wide(&dy), &saved64).unwrap();
            close(&format!("{what} dx"), &got.sum, &want.sum, 5e-5);
            close(&format!("{what} dγ"), &gamma, &gamma64, 2e-5);
            close(&format!("{what} dβ"), &beta, &beta64, 2e-5);
            if n == 0 {
                continue;
            }
            let zeros = x.zeros_like().unwrap();
            let auto = autograd(&[&x, residual.unwrap_or(&zeros), &g, &b], &dy, |v| {
                norm_twin(&v[0], &v[1], &v[2], &v[3], eps)
            });
            close(&format!("{what} autograd dx"), &want.sum, &auto[0], 1e-9);
            close(&format!("{what} autograd dγ"), &gamma64, &auto[2], 1e-9);
            close(&format!("{what} autograd dβ"), &beta64, &auto[3], 1e-9);
        }
    }
}

#[test]
fn layer_norm_differences() {
    let (x, r, dy) = (wide(&random((3, 6), 1)), wide(&random((3, 6), 2)), wide(&random((3, 6), 3)));
    let (g, b) = (wide(&random(6, 4)), wide(&random(6, 5)));
    let run = |x: &Tensor, g: &Tensor| {
        layer_norm::forward(x, Some(&r), Dropout::none(), Affine { gamma: g, beta: &b, eps: 1e-5 }).unwrap()
    };
    let saved = run(&x, &g).1;
    let got = layer_norm::backward(&dy, &saved, &g, Dropout::none()).unwrap();
    close("dx", &got.sum, &differences(&x, |x| dot(&run(x, &g).0, &dy)), 1e-7);
    close("dγ", &layer_norm::affine_grads(&dy, &saved).unwrap().0, &differences(&g, |g| dot(&run(&x, g).0, &dy)), 1e-7);
}

/// Those of [`PRODUCTS`], more than a block, several tasks.
fn product_shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    PRODUCTS.into_iter().chain([(29, 769, 16), (150, 401, 227)])
}

#[test]
fn products() {
    for (i, (n, k, m)) in product_shapes().enumerate() {
        let i = i as u64;
        let what = format!("{n} x {k} x {m}");
        let (x, w, b, dy) = (random((n, k), i), random((m, k), 10 + i), random(m, 20 + i), random((n, m), 30 + i));
        let (x64, w64, dy64) = (wide(&x), wide(&w), wide(&dy));
        let product = x64.matmul(&w64.t().unwrap()).unwrap();
        let with_bias = product.broadcast_add(&wide(&b)).unwrap();
        close(&what, &gemm::linear(&x, &w, None).unwrap(), &product, 1e-5);
        close(&format!("{what} bias"), &gemm::linear(&x, &w, Some(&b)).unwrap(), &with_bias, 1e-5);
        close(&format!("{what} plain"), &gemm::linear(&x64, &w64, Some(&wide(&b))).unwrap(), &with_bias, 1e-12);
        let dx = dy64.matmul(&w64).unwrap();
        close(&format!("{what} dx"), &gemm::linear_backward(&dy, &w).unwrap(), &dx, 1e-5);
        let sum = (&x64 + &dx).unwrap();
        let added = gemm::linear_backward_add(&dy, &w, x.copy().unwrap()).unwrap();
        close(&format!("{what} acc + dx"), &added, &sum, 1e-5);
        let (dw, db) = (gemm::weight_grad(&dy, &x).unwrap(), gemm::bias_grad(&dy).unwrap());
        if n == 0 {
            assert!(values(&dw).iter().chain(&values(&db)).all(|&v| v == 0.0), "{what}: no rows, so no gradient");
            continue;
        }
        let auto = autograd(&[&x, &w, &b], &dy, |v| v[0].matmul(&v[1].t()?)?.broadcast_add(&v[2]));
        close(&format!("{what} autograd dx"), &gemm::linear_backward(&dy64, &w64).unwrap(), &auto[0], 1e-12);
        close(&format!("{what} dW"), &dw, &auto[1], 1e-5);
        close(&format!("{what} db"), &db, &auto[2], 1e-5);
        close(&format!("{what} plain dW"), &gemm::weight_grad(&dy64, &x64).unwrap(), &auto[1], 1e-12);
        close(&format!("{what} plain db"), &gemm::bias_grad(&dy64).unwrap(), &auto[2], 1e-12);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let (x, w) = (random((2, 3), 1), random((4, 5), 2));
    assert!(gemm::linear(&x, &w, None).is_err());
    assert!(gemm::linear(&random(3, 1), &w, None).is_err());
    let head = random((3, 3), 3);
    assert!(vocab_loss(&x, &head, &[0], crate::plain_loss()).is_err(), "one target for two rows");
    assert!(vocab_loss(&x, &head, &[0, 3], crate::plain_loss()).is_err(), "class 3 of 3");
    assert!(vocab_loss(&x, &w, &[0, 0], crate::plain_loss()).is_err(), "a head of another width");
}

#[test]
fn a_loss_of_what_is_no_number_is_none() {
    let (nan, head) = (Tensor::new(&[[f32::NAN, 1.0]], &Device::Cpu).unwrap(), random((3, 2), 1));
    assert!(vocab_loss(&nan, &head, &[1], crate::plain_loss()).unwrap().rows.read().unwrap().total.is_nan());
}

#[test]
fn adamw_fast_and_plain_agree_and_touch_only_their_tensor() {
    let bank = random((3, 4, 5), 1);
    let before = values(&bank);
    let one = bank.get(1).unwrap();
    let (m, v) = (random((4, 5), 2).zeros_like().unwrap(), random((4, 5), 2).zeros_like().unwrap());
    let (p64, m64, v64) = (wide(&one).copy().unwrap(), wide(&m), wide(&v));
    for t in 1..=7 {
        let g = random((4, 5), 10 + t);
        let u = adamw::Update { lr: 0.02, betas: (0.9, 0.99), eps: 1e-8, weight_decay: 0.1, t };
        adamw::update(&one, &m, &v, &g, u).unwrap();
        adamw::update(&p64, &m64, &v64, &wide(&g), u).unwrap();
    }
    close("values", &one, &p64, 1e-6);
    close("first moment", &m, &m64, 1e-6);
    close("second moment", &v, &v64, 1e-6);
    let after = values(&bank);
    assert_eq!(before[..20], after[..20], "expert 0 moved");
    assert_eq!(before[40..], after[40..], "expert 2 moved");
    assert_ne!(before[20..40], after[20..40], "expert 1 did not move");
}

#[test]
fn products_with_what_follows_them() {
    for (i, (n, k, m)) in product_shapes().enumerate() {
        let i = 100 + i as u64;
        let (x, w, b, dy) = (random((n, k), i), random((m, k), 10 + i), random(m, 20 + i), random((n, m), 30 + i));
        for act in [Act::Gelu, Act::Relu] {
            let what = format!("{n} x {k} x {m} {act:?}");
            let (z, a) = gemm::linear_act(&x, &w, Some(&b), act).unwrap();
            let z64 = gemm::linear(&wide(&x), &wide(&w), Some(&wide(&b))).unwrap();
            close(&format!("{what} z"), &z, &z64, 1e-5);
            close(&what, &a, &activation::plain_forward(act, &wide(&z)).unwrap(), 1e-5);
            let dz = gemm::linear_backward_act(&dy, &w, act, &x).unwrap();
            let dx64 = wide(&dy).matmul(&wide(&w)).unwrap();
            let want = activation::plain_backward(act, &wide(&x), &dx64).unwrap();
            close(&format!("{what} backward"), &dz, &want, 1e-5);
        }
    }
}

#[test]
fn products_with_weights_in_half_precision() {
    for (i, (n, k, m)) in product_shapes().enumerate() {
        let i = 200 + i as u64;
        let what = format!("{n} x {k} x {m} in bf16");
        let (x, w, b, dy) = (random((n, k), i), random((m, k), 10 + i), random(m, 20 + i), random((n, m), 30 + i));
        let half = w.to_dtype(DType::BF16).unwrap();
        // Where the processor multiplies bf16, the left operand is rounded to it as well.
        let left = |t: &Tensor| {
            if gemm::multiplies_bf16() {
                t.to_dtype(DType::BF16).unwrap().to_dtype(DType::F64).unwrap()
            } else {
                wide(t)
            }
        };
        let w64 = half.to_dtype(DType::F64).unwrap();
        let y = left(&x).matmul(&w64.t().unwrap()).unwrap().broadcast_add(&wide(&b)).unwrap();
        close(&what, &gemm::linear(&x, &half, Some(&b)).unwrap(), &y, 2e-5);
        let dx = left(&dy).matmul(&w64).unwrap();
        close(&format!("{what} dx"), &gemm::linear_backward(&dy, &half).unwrap(), &dx, 2e-5);
    }
}

#[test]
fn a_row_of_a_product_does_not_depend_on_the_rows_beside_it() {
    let (x, w) = (random((151, 401), 1), random((227, 401), 2));
    for w in [w.clone(), w.to_dtype(DType::BF16).unwrap()] {
        let whole = gemm::linear(&x, &w, None).unwrap();
        for rows in [0..1, 3..20, 100..151] {
            let part = x.narrow(0, rows.start, rows.len()).unwrap().contiguous().unwrap();
            let alone = gemm::linear(&part, &w, None).unwrap();
            let there = whole.narrow(0, rows.start, rows.len()).unwrap();
            // The tiles promise equal bits; the library used elsewhere only equal values.
            if simd::has_avx512() {
                assert_eq!(values(&alone), values(&there), "rows {rows:?}");
            } else {
                close("rows", &alone, &wide(&there), 1e-5);
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (x, r, dy) = (random((513, 130), 1), random((513, 130), 2), random((513, 130), 3));
    let (g, b) = (random(130, 4), random(130, 5));
    let all = || {
        let affine = Affine { gamma: &g, beta: &b, eps: 1e-5 };
        let (y, saved) = layer_norm::forward(&x, Some(&r), Dropout::new(5, 0.1), affine).unwrap();
        let grads = layer_norm::backward(&dy, &saved, &g, Dropout::new(5, 0.1)).unwrap();
        let (gamma, beta) = layer_norm::affine_grads(&dy, &saved).unwrap();
        let w = random((200, 130), 6);
        let product = gemm::linear(&x, &w, None).unwrap();
        let act = activation::backward(Act::Gelu, &x, dy.copy().unwrap()).unwrap();
        let targets = vec![3u32; 513];
        let objective = Objective { gradient: true, ..crate::plain_loss() };
        let dz = vocab_loss(&x, &w, &targets, objective).unwrap().grad.unwrap();
        [y, grads.sum, grads.x, gamma, beta, act, dz, product].map(|t| values(&t))
    };
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all);
    assert_eq!(with(1), with(3));
}
