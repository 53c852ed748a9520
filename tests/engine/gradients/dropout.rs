//! Dropout: masks come from a key, the rate is right, and backward uses forward's mask.

use super::{autograd, close, random, values, wide};
use adamix::nn::kernels::Dropout;
use adamix::nn::kernels::layer_norm::{self, Affine};
use adamix::nn::{Grads, LayerNorm, Params};
use adamix::tensor::{D, Device, Tensor};

#[test]
fn the_same_key_gives_the_same_mask_and_another_key_another() {
    let x = random((37, 41), 1);
    let run = |key| values(&Dropout::new(key, 0.3).apply(&x).unwrap());
    assert_eq!(run(7), run(7));
    let differ = run(7).iter().zip(run(8)).filter(|(a, b)| **a != *b).count() as f64 / (37.0 * 41.0);
    assert!((differ - 2.0 * 0.3 * 0.7).abs() < 0.05, "masks of neighbouring keys differ in {differ} of the elements");
    let high = 7u64 | 1 << 40;
    assert_ne!(run(7), run(high), "the upper half of the key counts");
    assert_eq!(
        run(7),
        values(&Dropout::new(7, 0.3).apply(&wide(&x)).unwrap())
            .iter()
            .map(|v| f64::from(*v as f32))
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_rate_is_right_everywhere_and_the_mean_is_kept() {
    let ones = Tensor::ones((400, 300), adamix::tensor::DType::F32, &Device::Cpu).unwrap();
    for p in [0.0, 0.1, 0.5, 0.9] {
        let mut keys: Vec<Dropout> = (0..5).map(|key| Dropout::new(key * 1_000_003, p)).collect();
        keys.extend((0..5).map(|part| Dropout::new(3, p).split(part)));
        for drop in keys {
            let y = drop.apply(&ones).unwrap();
            let n = 120_000.0f64;
            let kept = values(&y).iter().filter(|&&v| v != 0.0).count() as f64 / n;
            let bound = 5.0 * (p * (1.0 - p) / n).sqrt();
            assert!((kept - (1.0 - p)).abs() <= bound, "kept {kept} at p {p}");
            let row_means = values(&y.mean_keepdim(1).unwrap());
            let spread = 6.0 * (p / (1.0 - p) / 300.0).sqrt() + 1e-6;
            assert!(row_means.iter().all(|m| (m - 1.0).abs() <= spread), "a row is off at p {p}");
            let column_means = values(&y.mean_keepdim(0).unwrap());
            assert!(column_means.iter().all(|m| (m - 1.0).abs() <= spread), "a column is off at p {p}");
        }
    }
}

#[test]
fn masks_of_parts_are_independent() {
    let n = 40_000u32;
    let drop = Dropout::new(11, 0.5);
    let kept = |drop: Dropout| (0..n).map(|i| drop.factor(i) > 0.0).collect::<Vec<_>>();
    let masks: Vec<Vec<bool>> = (0..12).map(|part| kept(drop.split(part))).chain([kept(drop)]).collect();
    for (i, a) in masks.iter().enumerate() {
        for b in &masks[..i] {
            let same = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / f64::from(n);
            assert!((same - 0.5).abs() < 0.015, "two parts agree in {same} of the elements");
        }
        let next = a.windows(2).filter(|w| w[0] == w[1]).count() as f64 / f64::from(n - 1);
        assert!((next - 0.5).abs() < 0.015, "neighbours agree in {next} of the elements");
    }
}

#[test]
fn layer_norm_drops_before_the_residual_and_sends_the_gradient_through_the_same_mask() {
    for p in [0.2, 0.7] {
        let (x, r, dy) = (random((9, 21), 1), random((9, 21), 2), random((9, 21), 3));
        let (g, b) = (random(21, 4), random(21, 5));
        let drop = Dropout::new(99, p);
        let mask = drop.mask(&[9, 21], &wide(&x)).unwrap();
        let twin = |v: &[Tensor]| {
            let s = ((&v[0] * &mask)? + &v[1])?;
            let c = s.broadcast_sub(&s.mean_keepdim(D::Minus1)?)?;
            let sd = (c.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
            c.broadcast_div(&sd)?.broadcast_mul(&v[2])?.broadcast_add(&v[3])
        };
        let want = twin(&[wide(&x), wide(&r), wide(&g), wide(&b)]).unwrap();
        let auto = autograd(&[&x, &r, &g, &b], &dy, twin);
        let mut norm = LayerNorm::new(g.clone(), b.clone(), 1e-5);
        let mut params = Params::default();
        norm.train("norm", &mut params);
        let mut grads = Grads::new(&params);
        let (y, saved) = norm.forward(&x, Some(&r), drop).unwrap();
        let (dx, dr) = norm.backward(&saved, &dy, &mut grads).unwrap();
        close("y", &y, &want, 2e-5);
        close("dx", &dx, &auto[0], 5e-5);
        close("dresidual", &dr, &auto[1], 5e-5);
        for (got, want) in grads.iter().zip(&auto[2..]) {
            close("norm parameters", got.2, want, 5e-5);
        }
        let dropped = values(&mask).iter().zip(values(&dx)).filter(|(m, _)| **m == 0.0).all(|(_, d)| d == 0.0);
        assert!(dropped, "a dropped element got a gradient");
        let plain = Affine { gamma: &wide(&g), beta: &wide(&b), eps: 1e-5 };
        let (y64, _) = layer_norm::forward(&wide(&x), Some(&wide(&r)), drop, plain).unwrap();
        close("plain y", &y64, &want, 1e-6); // the kept elements' factor is stored in f32
    }
}
