use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::Mask;
use adamix::gpu::kernels::attention::{Attention, Pair, Part, Span, Tiling};
use adamix::gpu::{Backend, Format};
use std::ops::Range;

/// The finaliser of dropout masks.
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// What element i of part `part` of a mask is multiplied with.
fn factor(mask: Mask, part: u32, i: u32) -> f64 {
    let key = mix(mask.key.wrapping_add(part.wrapping_mul(0x9e37_79b9)));
    if mix(i ^ key).wrapping_add(key) >= mask.threshold { f64::from(mask.scale) } else { 0.0 }
}

/// What is attended: queries apart from keys and values, or all side by side.
#[derive(Clone)]
struct Case {
    spans: Vec<Span>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    causal: bool,
    joint: bool,
    mask: Mask,
}

/// Results in double precision: output, log-sum-exp, gradients of q and of k and v.
struct Wanted {
    out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dkv: Vec<f64>,
}

impl Case {
    fn rows(&self) -> [usize; 2] {
        let end = |end: fn(&Span) -> usize| self.spans.iter().map(end).max().unwrap_or(0);
        [end(|s| s.first_query + s.queries), end(|s| s.first_key + s.keys)]
    }

    /// q `[queries, width]`, kv `[keys, 2 kv]`, dout `[queries, width]`
    fn wanted(&self, q: &[f64], kv: &[f64], dout: &[f64]) -> Wanted {
        let (hd, width, kv_width) = (self.head_dim, self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let [queries, _] = self.rows();
        let scale = 1.0 / (hd as f64).sqrt();
        let mut want = Wanted {
            out: vec![0.0; q.len()],
            lse: vec![0.0; self.heads * queries],
            dq: vec![0.0; q.len()],
            dkv: vec![0.0; kv.len()],
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (seq, span) in self.spans.iter().enumerate() {
            for head in 0..self.heads {
                let part = (seq * self.heads + head) as u32;
                let col = head / (self.heads / self.kv_heads) * hd;
                for i in 0..span.queries {
                    let at = (span.first_query + i) * width + head * hd;
                    let seen = if self.causal { span.keys - span.queries + i + 1 } else { span.keys };
                    let k_at = |j: usize| (span.first_key + j) * 2 * kv_width + col;
                    let (q, dout) = (&q[at..at + hd], &dout[at..at + hd]);
                    let scores: Vec<f64> = (0..seen).map(|j| dot(q, &kv[k_at(j)..][..hd]) * scale).collect();
                    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let lse = top + scores.iter().map(|s| (s - top).exp()).sum::<f64>().ln();
                    want.lse[head * queries + span.first_query + i] = lse;
                    let p: Vec<f64> = scores.iter().map(|s| (s - lse).exp()).collect();
                    let kept: Vec<f64> =
                        (0..seen).map(|j| factor(self.mask, part, (i * span.keys + j) as u32)).collect();
                    let value = |j: usize| &kv[k_at(j) + kv_width..][..hd];
                    let dp: Vec<f64> = (0..seen).map(|j| dot(dout, value(j)) * kept[j]).collect();
                    let along = dot(&p, &dp);
                    for j in 0..seen {
                        let ds = p[j] * (dp[j] - along) * scale;
                        for c in 0..hd {
                            want.out[at + c] += p[j] * kept[j] * kv[k_at(j) + kv_width + c];
                            want.dq[at + c] += ds * kv[k_at(j) + c];
                            want.dkv[k_at(j) + c] += ds * q[c];
                            want.dkv[k_at(j) + kv_width + c] += p[j] * kept[j] * dout[c];
                        }
                    }
                }
            }
        }
        want
    }

    /// Which rows belong to a sequence.
    fn covered(&self, rows: usize, of: fn(&Span) -> Range<usize>) -> Vec<bool> {
        (0..rows).map(|row| self.spans.iter().any(|span| of(span).contains(&row))).collect()
    }

    fn check(&self, device: &dyn Backend, format: Format) {
        let (hd, width, kv_width) = (self.head_dim, self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let [n, n_k] = self.rows();
        let of = format!("{} heads of {hd}, {n} rows, {n_k} keys", self.heads);
        let (q, kv) = (random(1, n * width, 1.5), random(2, n_k * 2 * kv_width, 1.5));
        let dout = random(3, n * width, 1.0);
        let want = self.wanted(&stored(&q, format), &stored(&kv, format), &stored(&dout, format));
        // Columns before and behind belong to others.
        let (before, behind) = (4, 4);
        let side = |q: &[f32], kv: &[f32]| -> Vec<f32> {
            let mut all = Vec::new();
            for row in 0..(q.len() / width).max(kv.len() / (2 * kv_width)) {
                all.extend(vec![-7777.0; before]);
                all.extend(q[(row * width).min(q.len())..].iter().take(width));
                all.extend(kv[(row * 2 * kv_width).min(kv.len())..].iter().take(2 * kv_width));
                all.extend(vec![-7777.0; behind]);
            }
            all
        };
        let empty = (vec![-7777.0; q.len()], vec![-7777.0; kv.len()]);
        let (mut held, mut parts) = (Vec::new(), Vec::new());
        for (q, kv) in [(&q, &kv), (&empty.0, &empty.1)] {
            let pieces = if self.joint { vec![(&q[..], &kv[..])] } else { vec![(&q[..], &[][..]), (&[][..], &kv[..])] };
            let arrays: Vec<Array> = pieces.iter().map(|(q, kv)| Array::floats(device, &side(q, kv), format)).collect();
            let (of_q, of_kv) = (arrays[0].operand, arrays[arrays.len() - 1].operand);
            let (q_width, kv_columns) = if self.joint { (width, 2 * kv_width) } else { (0, 0) };
            let extra = before + behind;
            let first = before + q_width;
            parts.push((
                Part { operand: of_q, column: before, row: width + kv_columns + extra },
                Pair { operand: of_kv, columns: [first, first + kv_width], row: q_width + 2 * kv_width + extra },
            ));
            held.push(arrays);
        }
        let (tiling, words) = Tiling::new(&self.spans, hd, self.causal).unwrap();
        let tiles = Array::words(device, &words);
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let (q, kv) = parts[0];
        let attention = Attention { q, kv, tiling, tiles: tiles.operand, heads, kv_heads, mask: self.mask };
        let out = Array::unwritten(device, n * width, format);
        let [lse, delta] = [0, 1].map(|_| Array::unwritten(device, heads * n, Format::F32));
        let dout = Array::floats(device, &dout, format);
        let close = |what: &str, got: &[f32], want: &[f64], format, tolerance| {
            assert_close(&format!("{what} of {of}"), got, want, format, tolerance);
        };
        let of_queries = self.covered(n, |span| span.first_query..span.first_query + span.queries);
        run(device, attention.forward(out.operand, None, f64::INFINITY));
        close("output alone", &written(out.read(device), width, &of_queries), &want.out, format, 2e-6);
        // One tile a launch.
        run(device, attention.forward(out.operand, Some(lse.operand), 1.0));
        close("output", &written(out.read(device), width, &of_queries), &want.out, format, 2e-6);
        let got = written(lse.read(device), 1, &of_queries.repeat(heads));
        close("log-sum-exp", &got, &want.lse, Format::F32, 2e-6);
        let (dq, dkv) = parts[1];
        let work = [lse.operand, delta.operand];
        let most = if self.joint { 1.0 } else { f64::INFINITY };
        run(device, attention.backward([out.operand, dout.operand], work, dq, dkv, most));
        let arrays = &held[1];
        let (got_q, got_kv) = (&arrays[0], &arrays[arrays.len() - 1]);
        let tolerance = if format == Format::F16 { 6e-3 } else { 5e-6 };
        let got = columns(device, got_q, dq.column..dq.column + width, dq.row);
        close("queries' gradients", &written(got, width, &of_queries), &want.dq, format, tolerance);
        let got = columns(device, got_kv, dkv.columns[0]..dkv.columns[0] + 2 * kv_width, dkv.row);
        let of_keys = self.covered(n_k, |span| span.first_key..span.first_key + span.keys);
        close("keys' and values' gradients", &written(got, 2 * kv_width, &of_keys), &want.dkv, format, tolerance);
    }
}

/// Columns of a matrix on the device, row by row; its first and last four are unwritten.
fn columns(device: &dyn Backend, array: &Array, wanted: Range<usize>, row: usize) -> Vec<f32> {
    let all = array.read(device);
    let lines = all.chunks(row).inspect(|line| {
        assert!(line[..4].iter().chain(&line[row - 4..]).all(|&v| v.abs() > 7000.0), "written beside the columns");
    });
    lines.flat_map(|line| line[wanted.clone()].to_vec()).collect()
}

/// Rows of no sequence must be unwritten and become zeros.
fn written(mut values: Vec<f32>, width: usize, covered: &[bool]) -> Vec<f32> {
    for (line, _) in values.chunks_mut(width).zip(covered).filter(|(_, covered)| !**covered) {
        assert!(line.iter().all(|&v| v.abs() > 7000.0), "a row of no sequence was written");
        line.fill(0.0);
    }
    values
}

fn spans(lengths: &[[usize; 2]]) -> Vec<Span> {
    let (mut first_query, mut first_key) = (0, 0);
    let one = |&[queries, keys]: &[usize; 2]| {
        let span = Span { first_query, queries, first_key, keys };
        (first_query, first_key) = (first_query + queries, first_key + keys);
        span
    };
    lengths.iter().map(one).collect()
}

fn own(lengths: &[usize]) -> Vec<Span> {
    spans(&lengths.iter().map(|&n| [n, n]).collect::<Vec<_>>())
}

const DROP: Mask = Mask { key: 0x1234_5678, threshold: 1 << 30, scale: 1.0 / 0.75 };

/// The first `in_f16` cases in f16 too: compiling takes most of the time.
fn each(in_f16: usize, cases: &[Case]) {
    let Some(device) = device() else { return };
    for format in formats(&*device) {
        let count = if format == Format::F16 { in_f16 } else { cases.len() };
        cases.iter().take(count).for_each(|case| case.check(&*device, format));
    }
}

#[test]
fn sequences_to_themselves() {
    let base = Case {
        spans: own(&[1, 17, 40, 2]),
        heads: 2,
        kv_heads: 2,
        head_dim: 64,
        causal: false,
        joint: true,
        mask: Mask::NONE,
    };
    let apart = Span { first_query: 3, queries: 5, first_key: 3, keys: 5 };
    let cases = [
        Case { spans: own(&[70, 3, 33]), mask: DROP, ..base.clone() },
        Case { spans: Vec::new(), ..base.clone() },
        Case { spans: vec![apart], ..base.clone() },
        Case { heads: 1, kv_heads: 1, head_dim: 5, mask: DROP, ..base.clone() },
        base,
    ];
    each(3, &cases);
}

#[test]
fn causal_sequences_with_shared_keys() {
    let base = Case {
        spans: spans(&[[5, 40], [17, 17], [1, 3], [2, 70]]),
        heads: 4,
        kv_heads: 2,
        head_dim: 20,
        causal: true,
        joint: false,
        mask: DROP,
    };
    let cases = [
        base.clone(),
        Case { heads: 1, kv_heads: 1, ..base.clone() },
        Case { spans: own(&[70, 2]), heads: 2, kv_heads: 1, head_dim: 128, joint: true, ..base.clone() },
        Case { spans: spans(&[[3, 40], [2, 2]]), heads: 1, kv_heads: 1, head_dim: 256, ..base },
    ];
    each(2, &cases);
}
