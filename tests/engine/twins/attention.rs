//! Attention against a naive version in f64: both directions and causal, key heads shared or not, all sequences or
//! single queries, with dropout.

use super::host::{Memory, run};
use super::{FORMATS, close, random, values};
use adamix::nn::kernels::Dropout;
use adamix::nn::kernels::cuda::plan;
use adamix::tensor::{DType, Device, Tensor};

/// What is computed: (queries, keys) of each sequence, and the heads.
#[derive(Clone, Debug)]
struct Case {
    sequences: Vec<(usize, usize)>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    causal: bool,
    drop: Dropout,
}

/// q `[n_q, heads * d]`, k and v `[n_k, kv_heads * d]`, dy as q -> output, dq, dk, dv
fn naive(case: &Case, [q, k, v, dy]: [&[f64]; 4]) -> [Vec<f64>; 4] {
    let (d, width, kv_width) = (case.head_dim, case.heads * case.head_dim, case.kv_heads * case.head_dim);
    let scale = 1.0 / (d as f64).sqrt();
    let (mut out, mut dq) = (vec![0.0; q.len()], vec![0.0; q.len()]);
    let (mut dk, mut dv) = (vec![0.0; k.len()], vec![0.0; v.len()]);
    let (mut q0, mut k0) = (0, 0);
    for (seq, &(sq, sk)) in case.sequences.iter().enumerate() {
        for head in 0..case.heads {
            let drop = case.drop.split((seq * case.heads + head) as u32);
            let factor = |i: usize| if case.drop.active() { f64::from(drop.factor(i as u32)) } else { 1.0 };
            let kv = head / (case.heads / case.kv_heads);
            for i in 0..sq {
                let row = (q0 + i) * width + head * d;
                let at = |j: usize| (k0 + j) * kv_width + kv * d;
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let seen: Vec<usize> = (0..sk).filter(|&j| !case.causal || j + sq <= i + sk).collect();
                let scores: Vec<f64> =
                    seen.iter().map(|&j| dot(&q[row..row + d], &k[at(j)..at(j) + d]) * scale).collect();
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                let p: Vec<f64> = scores.iter().map(|s| (s - most).exp() / sum).collect();
                let dp: Vec<f64> =
                    seen.iter().map(|&j| dot(&dy[row..row + d], &v[at(j)..at(j) + d]) * factor(i * sk + j)).collect();
                let along = dot(&p, &dp);
                for ((&j, &p), &dp) in seen.iter().zip(&p).zip(&dp) {
                    let (ds, pd) = (p * (dp - along) * scale, p * factor(i * sk + j));
                    for c in 0..d {
                        out[row + c] += pd * v[at(j) + c];
                        dq[row + c] += ds * k[at(j) + c];
                        dk[at(j) + c] += ds * q[row + c];
                        dv[at(j) + c] += pd * dy[row + c];
                    }
                }
            }
        }
        (q0, k0) = (q0 + sq, k0 + sk);
    }
    [out, dq, dk, dv]
}

fn columns(t: &Tensor, start: usize, len: usize) -> Vec<f64> {
    values(&t.narrow(1, start, len).unwrap())
}

fn check(case: &Case, joint: bool, (format, dtype, error): (u32, DType, f64)) {
    let (width, kv) = (case.heads * case.head_dim, case.kv_heads * case.head_dim);
    let n_q: usize = case.sequences.iter().map(|s| s.0).sum();
    let n_k: usize = case.sequences.iter().map(|s| s.1).sum();
    let tensor = |v: Vec<f64>, rows: usize, columns: usize| Tensor::from_vec(v, (rows, columns), &Device::Cpu).unwrap();
    // q, k and v side by side, or q apart.
    let first = random((n_q, if joint { width + 2 * kv } else { width }), 1, dtype);
    let second = if joint { first.clone() } else { random((n_k, 2 * kv), 2, dtype) };
    let k_column = if joint { width } else { 0 };
    let dy = random((n_q, width), 3, dtype);
    let (q, k, v) = (columns(&first, 0, width), columns(&second, k_column, kv), columns(&second, k_column + kv, kv));
    let want = naive(case, [&q, &k, &v, &values(&dy)]);

    let mut spans = Vec::new();
    let (mut q0, mut k0) = (0, 0);
    for &(sq, sk) in &case.sequences {
        spans.extend([q0 as u32, sq as u32, k0 as u32, sk as u32]);
        (q0, k0) = (q0 + sq, k0 + sk);
    }
    let mut span_memory = Memory::of(&Tensor::from_slice(&spans, spans.len(), &Device::Cpu).unwrap());
    let [mut mfirst, mut msecond, mut mdy] = [&first, &second, &dy].map(Memory::of);
    let mut out = Memory::empty(n_q * width, dtype);
    let (mut lse, mut delta) =
        (Memory::empty(case.heads * n_q, DType::F32), Memory::empty(case.heads * n_q, DType::F32));
    let size = dtype.size_in_bytes();
    let parts = |first: u64, second: u64| {
        let second = if joint { first } else { second };
        [first, second + (k_column * size) as u64, second + ((k_column + kv) * size) as u64]
    };
    let strides = if joint { [width + 2 * kv; 2] } else { [width, 2 * kv] };
    let shape = plan::Attention {
        format,
        qkv: parts(mfirst.address(), msecond.address()),
        strides,
        out: out.address(),
        work: [lse.address(), delta.address()],
        spans: span_memory.address(),
        sequences: case.sequences.len(),
        queries: n_q,
        longest: [case.sequences.iter().map(|s| s.0).max().unwrap(), case.sequences.iter().map(|s| s.1).max().unwrap()],
        heads: case.heads,
        kv_heads: case.kv_heads,
        head_dim: case.head_dim,
        causal: case.causal,
        ..plan::Attention::default()
    };
    run(&shape.forward(case.drop));
    // Probabilities and their gradients go through the format once more.
    let absolute = if format == 0 { 4e-6 } else { 2.0 * error };
    let name = |what: &str| format!("{what} of {case:?} in {dtype:?}");
    close(&name("output"), &out.tensor((n_q, width)), &tensor(want[0].clone(), n_q, width), 1.1 * error, absolute);

    let mut dfirst = Memory::empty(first.elem_count(), dtype);
    let mut dsecond = Memory::empty(second.elem_count(), dtype);
    let dqkv = parts(dfirst.address(), dsecond.address());
    for launch in (plan::Attention { out: mdy.address(), dqkv, dstrides: strides, ..shape }).backward(case.drop) {
        run(&launch);
    }
    let (dfirst, dsecond) =
        (dfirst.tensor(first.dims()), if joint { None } else { Some(dsecond.tensor(second.dims())) });
    let dsecond = dsecond.as_ref().unwrap_or(&dfirst);
    let got = [columns(&dfirst, 0, width), columns(dsecond, k_column, kv), columns(dsecond, k_column + kv, kv)];
    let shapes = [(n_q, width), (n_k, kv), (n_k, kv)];
    for (((what, got), want), (rows, cols)) in ["dq", "dk", "dv"].iter().zip(got).zip(&want[1..]).zip(shapes) {
        let (got, want) = (tensor(got, rows, cols), tensor(want.clone(), rows, cols));
        close(&name(what), &got, &want, 1.1 * error, absolute);
    }
    lse.tensor(case.heads * n_q);
    delta.tensor(case.heads * n_q);
}

fn same(lengths: &[usize]) -> Vec<(usize, usize)> {
    lengths.iter().map(|&n| (n, n)).collect()
}

#[test]
fn attention_of_whole_sequences() {
    for format in FORMATS {
        for (lengths, heads, kv_heads, head_dim, causal) in [
            (vec![1], 1, 1, 16, false),
            (vec![5, 1, 17], 2, 2, 20, false),
            (vec![3, 16, 2], 3, 3, 5, false),
            (vec![33, 64, 65], 1, 1, 32, false),
            (vec![130], 1, 1, 16, false),
            (vec![7, 1, 40], 4, 2, 16, true),
            (vec![70, 9], 3, 1, 24, true),
        ] {
            for p in [0.0, 0.3] {
                let drop = if p > 0.0 { Dropout::new(99, p) } else { Dropout::none() };
                check(&Case { sequences: same(&lengths), heads, kv_heads, head_dim, causal, drop }, true, format);
            }
        }
    }
}

#[test]
fn attention_of_some_queries() {
    for format in FORMATS {
        for causal in [false, true] {
            let drop = Dropout::new(7, 0.1);
            let sequences = vec![(1, 9), (1, 1), (1, 66), (3, 20)];
            check(&Case { sequences, heads: 2, kv_heads: 1, head_dim: 32, causal, drop }, false, format);
        }
    }
}

#[test]
fn wide_heads() {
    for format in FORMATS {
        let drop = Dropout::none();
        check(
            &Case { sequences: same(&[19]), heads: 1, kv_heads: 1, head_dim: 128, causal: false, drop },
            true,
            format,
        );
    }
}
