//! Attention over packed sequences.

use super::{autograd, close, differences, dot, random, softmax, values, wide};
use adamix::error::Result;
use adamix::nn::kernels::Dropout;
use adamix::nn::kernels::attention::{self, Layout, Qkv};
use adamix::tensor::Tensor;
use std::ops::Range;

fn spans(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut start = 0;
    let next = |n: &usize| {
        start += n;
        start - n..start
    };
    lengths.iter().map(next).collect()
}

fn layout(queries: &[usize], keys: &[usize], heads: usize, head_dim: usize, drop: Dropout) -> Layout {
    Layout { queries: spans(queries), ..Layout::bidirectional(spans(keys), heads, head_dim, drop) }
}

/// One sequence and one head at a time, from operations that autograd knows. q, k, v `[rows, heads * head_dim]`
fn twin(q: &Tensor, k: &Tensor, v: &Tensor, layout: &Layout) -> Result<Tensor> {
    let mut rows = Vec::new();
    for (seq, (rq, rk)) in layout.queries.iter().zip(&layout.keys).enumerate() {
        let mut columns = Vec::new();
        for head in 0..layout.heads {
            let part = |t: &Tensor, r: &Range<usize>, head: usize| {
                t.narrow(0, r.start, r.len())?.narrow(1, head * layout.head_dim, layout.head_dim)?.contiguous()
            };
            let kv_head = head * layout.kv_heads / layout.heads;
            let (q, k, v) = (part(q, rq, head)?, part(k, rk, kv_head)?, part(v, rk, kv_head)?);
            let mut scores = (q.matmul(&k.t()?)? / (layout.head_dim as f64).sqrt())?;
            if layout.causal {
                let before = rk.len() - rq.len();
                let hidden = |i: usize| if i % rk.len() > i / rk.len() + before { f64::NEG_INFINITY } else { 0.0 };
                let mask: Vec<f64> = (0..rq.len() * rk.len()).map(hidden).collect();
                scores = (scores + Tensor::from_vec(mask, (rq.len(), rk.len()), q.device())?)?;
            }
            let mut p = softmax(&scores)?;
            if layout.drop.active() {
                let index = (seq * layout.heads + head) as u32;
                p = (p * layout.drop.split(index).mask(&[rq.len(), rk.len()], &q).unwrap())?;
            }
            columns.push(p.matmul(&v)?);
        }
        rows.push(Tensor::cat(&columns, 1)?);
    }
    Tensor::cat(&rows, 0)
}

/// q, k and v of some rows, with scores large enough to make peaked distributions.
fn operands(layout: &Layout, seed: u64) -> [Tensor; 3] {
    let (width, kv) = (layout.heads * layout.head_dim, layout.kv_heads * layout.head_dim);
    let rows = |spans: &[Range<usize>]| spans.last().map_or(0, |r| r.end);
    let (n_q, n_k) = (rows(&layout.queries), rows(&layout.keys));
    let q = (random((n_q, width), seed) * 2.0).unwrap();
    [q, random((n_k, kv), seed + 1), random((n_k, kv), seed + 2)]
}

fn pack([q, k, v]: &[Tensor; 3], joint: bool) -> Qkv {
    if joint {
        Qkv::Joint(Tensor::cat(&[q, k, v], 1).unwrap())
    } else {
        Qkv::Split(q.clone(), Tensor::cat(&[k, v], 1).unwrap())
    }
}

fn widen(qkv: &Qkv) -> Qkv {
    match qkv {
        Qkv::Joint(t) => Qkv::Joint(wide(t)),
        Qkv::Split(q, kv) => Qkv::Split(wide(q), wide(kv)),
    }
}

/// dq, dk and dv out of the gradient's packed shape.
fn unpack(qkv: &Qkv, layout: &Layout) -> [Tensor; 3] {
    let (width, kv) = (layout.heads * layout.head_dim, layout.kv_heads * layout.head_dim);
    match qkv {
        Qkv::Joint(t) => [(0, width), (width, kv), (width + kv, kv)].map(|(at, len)| t.narrow(1, at, len).unwrap()),
        Qkv::Split(q, t) => [q.clone(), t.narrow(1, 0, kv).unwrap(), t.narrow(1, kv, kv).unwrap()],
    }
}

/// Forward and backward of one layout, fast and plain, joint and split, against the twin and its autograd.
fn check(what: &str, layout: &Layout, seed: u64) {
    let parts = operands(layout, seed);
    let dy = random(parts[0].dims2().unwrap(), seed + 5);
    let want = twin(&wide(&parts[0]), &wide(&parts[1]), &wide(&parts[2]), layout).unwrap();
    let auto = autograd(&[&parts[0], &parts[1], &parts[2]], &dy, |v| twin(&v[0], &v[1], &v[2], layout));
    for joint in [true, false] {
        if joint && layout.queries != layout.keys {
            continue;
        }
        let what = format!("{what} dropout {} joint {joint}", layout.drop.active());
        let qkv = pack(&parts, joint);
        close(&what, &attention::forward(&qkv, layout).unwrap(), &want, 1e-5);
        close(&format!("{what} plain"), &attention::plain_forward(&widen(&qkv), layout).unwrap(), &want, 1e-10);
        let fast = unpack(&attention::backward(&qkv, layout, &dy).unwrap(), layout);
        let plain = unpack(&attention::plain_backward(&widen(&qkv), layout, &wide(&dy)).unwrap(), layout);
        for (part, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
            close(&format!("{what} {name} plain"), &plain[part], &auto[part], 1e-10);
            close(&format!("{what} {name}"), &fast[part], &auto[part], 2e-5);
        }
    }
}

#[test]
fn forward_and_backward_in_every_shape() {
    let shapes: [(&[usize], &[usize], usize, usize); 6] = [
        (&[1], &[1], 1, 1),
        (&[3, 1, 7], &[3, 1, 7], 4, 5),
        (&[17, 40, 2], &[17, 40, 2], 2, 16),
        (&[1, 1, 1], &[9, 1, 33], 3, 5),
        (&[2, 5], &[6, 4], 2, 8),
        (&[130], &[130], 1, 12),
    ];
    for (i, (queries, keys, heads, head_dim)) in shapes.into_iter().enumerate() {
        for drop in [Dropout::none(), Dropout::new(40 + i as u64, 0.3)] {
            let layout = layout(queries, keys, heads, head_dim, drop);
            check(&format!("attention {queries:?} {keys:?}"), &layout, 10 * i as u64);
        }
    }
}

#[test]
fn causal_and_grouped_in_every_shape() {
    // Fewer queries than keys: they are the last ones, as with cached keys.
    let shapes = [
        (&[1][..], &[1][..], 2, 1, 3),
        (&[3, 1, 7], &[3, 1, 7], 6, 2, 5),
        (&[17, 40, 2], &[17, 40, 2], 4, 4, 16),
        (&[33, 5], &[33, 5], 9, 3, 8),
        (&[1, 1, 1], &[9, 1, 33], 4, 2, 5),
        (&[2, 5], &[6, 9], 4, 1, 8),
        (&[130], &[130], 2, 1, 12),
    ];
    for (i, (queries, keys, heads, kv_heads, head_dim)) in shapes.into_iter().enumerate() {
        for causal in [true, false] {
            for drop in [Dropout::none(), Dropout::new(70 + i as u64, 0.3)] {
                let layout = Layout { causal, kv_heads, ..layout(queries, keys, heads, head_dim, drop) };
                let what = format!("attention {queries:?} {keys:?} heads {heads}/{kv_heads} causal {causal}");
                check(&what, &layout, 200 + 10 * i as u64);
            }
        }
    }
}

#[test]
fn later_tokens_change_nothing_before_them() {
    let causal = Layout { causal: true, kv_heads: 1, ..layout(&[6], &[6], 2, 4, Dropout::none()) };
    let parts = operands(&causal, 300);
    let changed = parts.clone().map(|t| {
        let last = random((1, t.dims()[1]), 310);
        Tensor::cat(&[&t.narrow(0, 0, 5).unwrap(), &last], 0).unwrap()
    });
    let rows = |parts: &[Tensor; 3], at: usize, n: usize| {
        values(&attention::forward(&pack(parts, true), &causal).unwrap().narrow(0, at, n).unwrap())
    };
    assert_eq!(rows(&parts, 0, 5), rows(&changed, 0, 5), "a token saw a later one");
    assert_ne!(rows(&parts, 5, 1), rows(&changed, 5, 1));
}

#[test]
fn layouts_that_make_no_attention_are_refused() {
    let good = layout(&[2], &[2], 4, 3, Dropout::none());
    let qkv = pack(&operands(&good, 320), false);
    let bad = [
        Layout { kv_heads: 3, ..good.clone() },
        Layout { kv_heads: 0, ..good.clone() },
        Layout { kv_heads: 2, ..good.clone() },
        Layout { keys: Vec::new(), ..good.clone() },
        Layout { keys: spans(&[1]), causal: true, ..good.clone() },
    ];
    assert!(attention::forward(&qkv, &good).is_ok());
    for layout in bad {
        assert!(attention::forward(&qkv, &layout).is_err(), "{layout:?}");
    }
}

#[test]
fn differences_agree() {
    let both_ways = layout(&[3, 2], &[3, 2], 2, 2, Dropout::new(3, 0.25));
    let causal = Layout { causal: true, kv_heads: 1, ..both_ways.clone() };
    for layout in [both_ways, causal] {
        let parts = operands(&layout, 70).map(|t| wide(&t));
        let dy = wide(&random((5, 4), 75));
        let got = unpack(&attention::backward(&pack(&parts, true), &layout, &dy).unwrap(), &layout);
        for part in 0..3 {
            let numeric = differences(&parts[part], |moved| {
                let mut parts = parts.clone();
                parts[part] = moved.clone();
                dot(&attention::forward(&pack(&parts, true), &layout).unwrap(), &dy)
            });
            close(["dq", "dk", "dv"][part], &got[part], &numeric, 1e-7);
        }
    }
}

#[test]
fn sequences_do_not_see_each_other() {
    let both = layout(&[4, 6], &[4, 6], 2, 4, Dropout::none());
    let parts = operands(&both, 80);
    let whole = attention::forward(&pack(&parts, true), &both).unwrap();
    let alone = layout(&[6], &[6], 2, 4, Dropout::none());
    let second = parts.map(|t| t.narrow(0, 4, 6).unwrap().copy().unwrap());
    let second = attention::forward(&pack(&second, true), &alone).unwrap();
    assert_eq!(values(&whole.narrow(0, 4, 6).unwrap()), values(&second), "packing changed a sequence's result");
}

#[test]
fn large_scores_stay_finite_and_no_rows_give_no_rows() {
    let layout_of = |n: &[usize]| layout(n, n, 1, 4, Dropout::none());
    let one = layout_of(&[5]);
    let parts = operands(&one, 90).map(|t| (t * 200.0).unwrap());
    let y = attention::forward(&pack(&parts, true), &one).unwrap();
    let back = attention::backward(&pack(&parts, true), &one, &random((5, 4), 95)).unwrap();
    let gradients = unpack(&back, &one).map(|t| values(&t)).concat();
    assert!(values(&y).iter().chain(&gradients).all(|v| v.is_finite()));
    let none = layout_of(&[]);
    let parts = operands(&none, 90);
    assert_eq!(attention::forward(&pack(&parts, true), &none).unwrap().dims(), [0, 4]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let both_ways = layout(&[31, 5, 64, 1], &[31, 5, 64, 1], 4, 8, Dropout::new(6, 0.1));
    let causal = Layout { causal: true, kv_heads: 2, ..both_ways.clone() };
    for layout in [both_ways, causal] {
        let parts = operands(&layout, 100);
        let dy = random((101, 32), 105);
        let all = || {
            let qkv = pack(&parts, true);
            let y = attention::forward(&qkv, &layout).unwrap();
            let [a, b, c] = unpack(&attention::backward(&qkv, &layout, &dy).unwrap(), &layout);
            [y, a, b, c].map(|t| values(&t))
        };
        let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all);
        assert_eq!(with(1), with(3));
    }
}
