//! Every format against candle's reader, and products with quantised matrices against dense ones.

use super::{noise, quantised, values};
use crate::support::assert_close;
use adamix::nn::kernels::quant::Quantised;
use adamix::nn::kernels::vocab_loss::{Objective, vocab_loss};
use adamix::nn::{Act, Linear, Weight};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, NumberFormat, Tensor};

/// A matrix of 256 columns in several formats, and its values.
fn mixed() -> (Quantised, Tensor) {
    let (mut parts, mut dense) = (Vec::new(), Vec::new());
    for (i, format) in NumberFormat::ALL.into_iter().enumerate() {
        let rows = 3 + i % 4;
        let (bytes, wide) = quantised(&noise(&[rows, 256], 0.3, i as u64), format);
        parts.push(Quantised::new(format, bytes, rows, 256).unwrap());
        dense.push(wide);
    }
    (Quantised::stack(parts).unwrap(), Tensor::cat(&dense, 0).unwrap())
}

#[test]
fn formats_are_widened_as_candle_does() {
    for (i, format) in NumberFormat::ALL.into_iter().enumerate() {
        // Values of very different sizes, so that every scale counts; one row of zeros.
        let dense = noise(&[7, 512], 1.0, i as u64);
        let scale = Tensor::new(&[1e-3f32, 0.1, 1.0, 0.0, 30.0, 2.0, 7.0], dense.device()).unwrap();
        let dense = dense.broadcast_mul(&scale.unsqueeze(1).unwrap()).unwrap();
        let (bytes, want) = quantised(&dense, format);
        let found = Quantised::new(format, bytes.clone(), 7, 512).unwrap();
        assert_eq!(found.bytes(), bytes.len());
        assert_close(format.name(), &values(&found.dense().unwrap()), &values(&want), 1e-6, 0.0);
        assert_eq!(NumberFormat::of_ggml(format.ggml()), Some(format));
        // It is near what was quantised, so that both cannot be wrong in the same way.
        let off = values(&(want - dense).unwrap()).iter().fold(0.0, |most: f32, v| most.max(v.abs()));
        assert!(off < 12.0, "{}: {off}", format.name());
    }
}

#[test]
fn rows_are_gathered_cut_and_moved() {
    let (q, dense) = mixed();
    let rows = q.dims().0;
    let ids: Vec<u32> = (0..rows as u32).rev().chain([0, 0, 5]).collect();
    let want = dense.index_select(&Tensor::new(ids.as_slice(), dense.device()).unwrap(), 0).unwrap();
    assert_eq!(values(&q.gather(&ids).unwrap()), values(&want));
    assert!(q.gather(&[rows as u32]).is_err());
    for (start, len) in [(0, rows), (2, 9), (rows - 1, 1)] {
        let cut = q.narrow(start, len).unwrap();
        assert_eq!(values(&cut.dense().unwrap()), values(&dense.narrow(0, start, len).unwrap()));
        let more = cut.narrow(len / 2, len - len / 2).unwrap();
        assert_eq!(values(&more.dense().unwrap()), values(&dense.narrow(0, start + len / 2, len - len / 2).unwrap()));
    }
    assert!(q.narrow(rows - 1, 2).is_err());
    let (bytes, wide) = quantised(&noise(&[6, 32], 1.0, 3), NumberFormat::Q4_0);
    let one = Quantised::new(NumberFormat::Q4_0, bytes, 6, 32).unwrap();
    let order = [4, 2, 0, 1, 5, 3u32];
    let turned = one.reordered(|row| order[row] as usize).unwrap();
    let want = wide.index_select(&Tensor::new(&order, wide.device()).unwrap(), 0).unwrap();
    assert_eq!(values(&turned.dense().unwrap()), values(&want));
    assert!(one.reordered(|row| row + 1).is_err());
    assert!(q.reordered(|row| row).is_err());
}

#[test]
fn products_equal_those_with_the_dense_matrix() {
    let (q, dense) = mixed();
    let rows = q.dims().0;
    let bias = noise(&[rows], 1.0, 70);
    for bias in [None, Some(bias)] {
        let (ours, theirs) =
            (Linear::new(Weight::Quantised(q.clone()), bias.clone()), Linear::new(dense.clone(), bias));
        for n in [1, 2, 8, 9, 30] {
            let (x, dy) = (noise(&[n, 256], 1.0, 80), noise(&[n, rows], 1.0, 81));
            let z = noise(&[n, 256], 1.0, 82);
            let close = |what: &str, a: Tensor, b: Tensor| assert_close(what, &values(&a), &values(&b), 1e-5, 2e-5);
            close("y", ours.forward(&x).unwrap(), theirs.forward(&x).unwrap());
            close("dx", ours.backward(&dy).unwrap(), theirs.backward(&dy).unwrap());
            let (a, b) = (ours.forward_act(&x, Act::Swish).unwrap(), theirs.forward_act(&x, Act::Swish).unwrap());
            close("z", a.0, b.0);
            close("act", a.1, b.1);
            let (a, b) = (ours.backward_act(&dy, Act::Gelu, &z), theirs.backward_act(&dy, Act::Gelu, &z));
            close("dz", a.unwrap(), b.unwrap());
            let (a, b) = (ours.backward_add(&dy, z.copy().unwrap()), theirs.backward_add(&dy, z.copy().unwrap()));
            close("sum", a.unwrap(), b.unwrap());
            // In double precision through the plain way.
            let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
            let y = q.linear(&wide(&x), None).unwrap();
            let want = wide(&x).matmul(&wide(&dense).t().unwrap()).unwrap();
            let apart: Vec<f64> = (y - want).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert!(apart.iter().all(|v| v.abs() < 1e-12));
        }
    }
    assert!(q.linear(&noise(&[2, 255], 1.0, 1), None).is_err());
}

#[test]
fn the_loss_over_a_quantised_vocabulary_equals_the_dense_one() {
    let (q, dense) = mixed();
    let vocab = q.dims().0;
    let mut stream = SeedStream::new(4).stream(Purpose::Sampling, 0);
    let targets: Vec<u32> = (0..21).map(|_| stream.below(vocab) as u32).collect();
    for passes in [1, 2] {
        let hidden = noise(&[21 * passes, 256], 0.3, 90);
        // Chunks of one row, of some, and all at once.
        for max_logits in [1, 6 * vocab * passes, 1 << 24] {
            let objective =
                Objective { passes, smoothing: 0.1, weight: 3.0, gradient: true, max_logits, ..crate::plain_loss() };
            let ours = vocab_loss(&hidden, &Weight::Quantised(q.clone()), &targets, objective).unwrap();
            let theirs = vocab_loss(&hidden, &dense, &targets, objective).unwrap();
            let (a, b) = (ours.rows.read().unwrap(), theirs.rows.read().unwrap());
            assert!((a.total - b.total).abs() < 1e-5 * b.total, "{} {}", a.total, b.total);
            assert_close("nll", &a.nll, &b.nll, 1e-5, 1e-5);
            let (a, b) = (ours.grad.unwrap(), theirs.grad.unwrap());
            assert_close("gradient", &values(&a), &values(&b), 1e-4, 1e-6);
        }
    }
}

#[test]
fn bytes_that_are_no_matrix_are_refused() {
    let (bytes, _) = quantised(&noise(&[2, 64], 1.0, 3), NumberFormat::Q8_0);
    for (rows, columns) in [(2, 32), (3, 64), (0, 64), (2, 0), (2, 65), (usize::MAX, usize::MAX - 63)] {
        let err = Quantised::new(NumberFormat::Q8_0, bytes.clone(), rows, columns).unwrap_err();
        assert!(err.to_string().contains("are no matrix of"), "{err}");
    }
    let mut broken = bytes;
    broken[68..70].copy_from_slice(&half::f16::NAN.to_le_bytes());
    let err = Quantised::new(NumberFormat::Q8_0, broken, 2, 64).unwrap_err();
    assert!(err.to_string().contains("row 1 holds values that are not finite"), "{err}");
}
