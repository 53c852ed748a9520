//! Attention over packed sequences: `softmax(q kᵀ / sqrt(d)) v` for each sequence and head, in both directions or
//! causal, with a key and value head for each query head or for a group of them.
//!
//! Nothing of size S x S outlives a (sequence, head) pair: the backward pass recomputes the probabilities from
//! q and k, and the dropout mask from its key.

use super::gemm::{Mat, Out, raw};
use super::host::{self, HostRef};
use super::{Dropout, device, is_fast, simd};
use crate::error::{Error, Result};
use candle_core::{D, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Where the queries and keys of each sequence lie, and how heads divide the width.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Rows of the queries of each sequence.
    pub queries: Vec<Range<usize>>,
    /// Rows of the keys and values of each sequence.
    pub keys: Vec<Range<usize>>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`: query head h reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether a query sees only its own and earlier keys. The last query of a sequence sits at its last key, so
    /// there are at least as many keys as queries.
    pub causal: bool,
    /// Dropout of the probabilities.
    pub drop: Dropout,
}

/// Queries, and keys next to values: `width` is `heads * head_dim`, `kv` is `kv_heads * head_dim`.
#[derive(Clone, Debug)]
pub enum Qkv {
    /// One tensor, q, k and v side by side. `[n, width + 2 kv]`
    Joint(Tensor),
    /// Queries for some rows only. q `[n_q, width]`, k and v `[n, 2 kv]`
    Split(Tensor, Tensor),
}

impl Qkv {
    /// (tensor, first column, total columns) of q, k and v.
    pub(super) fn parts(&self, width: usize, kv: usize) -> [(&Tensor, usize, usize); 3] {
        let all = width + 2 * kv;
        match self {
            Self::Joint(t) => [(t, 0, all), (t, width, all), (t, width + kv, all)],
            Self::Split(q, t) => [(q, 0, width), (t, 0, 2 * kv), (t, kv, 2 * kv)],
        }
    }
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Joint(t) | Self::Split(t, _) => t,
        }
    }
}

/// A block of columns of a row-major matrix, seen from many threads; blocks of two tasks never overlap.
#[derive(Clone, Copy)]
struct Shared {
    start: *mut f32,
    stride: usize,
}
#[expect(unsafe_code, reason = "tasks write disjoint (rows, columns) blocks")]
// SAFETY: each task writes the rows of its sequence and the columns of its heads only.
unsafe impl Send for Shared {}
#[expect(unsafe_code, reason = "tasks write disjoint (rows, columns) blocks")]
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    #[expect(unsafe_code, reason = "pointer arithmetic within the checked matrix")]
    fn at(self, row: usize, col: usize, add: bool) -> Out {
        // SAFETY: callers pass rows and columns inside the matrix.
        Out { start: unsafe { self.start.add(row * self.stride + col) }, row: self.stride, add }
    }
}

/// `a b * scale` written to `out`; one thread.
#[expect(unsafe_code, reason = "outputs are exclusive slices or disjoint blocks of a checked matrix")]
fn small(dims: [usize; 3], a: Mat<'_>, b: Mat<'_>, out: Out, scale: f32) {
    // SAFETY: see `Shared`; local buffers are sized by the caller for the dims it passes.
    unsafe { raw(dims, a, b, out, scale, false) }
}

fn local(buffer: &mut [f32], width: usize) -> Out {
    Out { start: buffer.as_mut_ptr(), row: width, add: false }
}

/// One (sequence, query head) pair with its views.
struct Task<'a> {
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    sq: usize,
    sk: usize,
    /// First column of the query head, and of its key head.
    col: usize,
    kv_col: usize,
    first: (usize, usize),
    drop: Dropout,
}

fn view<'a>(values: &'a [f32], stride: usize, row: usize, col: usize) -> Mat<'a> {
    let start = row * stride + col;
    Mat { values: values.get(start..).unwrap_or_default(), row: stride, col: 1 }
}

impl Layout {
    /// Bidirectional attention of every sequence to itself, `spans` being its rows.
    pub fn bidirectional(spans: Vec<Range<usize>>, heads: usize, head_dim: usize, drop: Dropout) -> Self {
        Self { queries: spans.clone(), keys: spans, heads, kv_heads: heads, head_dim, causal: false, drop }
    }

    /// Refuses head counts and rows that make no attention.
    fn check(&self) -> Result<()> {
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::internal(format!("{} query heads for {} key heads", self.heads, self.kv_heads)));
        }
        if self.queries.len() != self.keys.len() {
            return Err(Error::internal(format!(
                "queries of {} sequences, keys of {}",
                self.queries.len(),
                self.keys.len()
            )));
        }
        match self.queries.iter().zip(&self.keys).find(|(q, k)| self.causal && q.len() > k.len()) {
            Some((q, k)) => {
                Err(Error::internal(format!("causal attention of {} queries to {} keys", q.len(), k.len())))
            }
            None => Ok(()),
        }
    }

    /// The pair number `index`, counting heads within sequences.
    fn task<'a>(&self, parts: &[(&'a [f32], usize, usize); 3], index: usize) -> Task<'a> {
        let (seq, head) = (index / self.heads, index % self.heads);
        let (rq, rk) = (&self.queries[seq], &self.keys[seq]);
        let (col, kv_col) = (head * self.head_dim, head / self.group() * self.head_dim);
        let at = |part: usize, row: usize, col: usize| view(parts[part].0, parts[part].2, row, parts[part].1 + col);
        Task {
            q: at(0, rq.start, col),
            k: at(1, rk.start, kv_col),
            v: at(2, rk.start, kv_col),
            sq: rq.len(),
            sk: rk.len(),
            col,
            kv_col,
            first: (rq.start, rk.start),
            drop: self.drop.split(index as u32),
        }
    }

    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    pub(super) fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    pub(super) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// The softmax of one pair, into `p` `[sq, sk]`.
    fn probabilities(&self, task: &Task<'_>, p: &mut Vec<f32>) {
        p.clear();
        p.resize(task.sq * task.sk, 0.0);
        small([task.sq, task.sk, self.head_dim], task.q, task.k.transposed(), local(p, task.sk), self.scale());
        let hidden = |row: usize| if self.causal { task.sq - 1 - row } else { 0 };
        simd::vectorized(|| {
            for (i, row) in p.chunks_exact_mut(task.sk.max(1)).enumerate() {
                let (seen, later) = row.split_at_mut(task.sk - hidden(i));
                softmax_row(seen);
                later.fill(0.0);
            }
        });
    }
}

#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32]) {
    let max = simd::max(row);
    for v in row.iter_mut() {
        *v = simd::exp(*v - max);
    }
    let inv = 1.0 / simd::sum_map(row, |v| v);
    for v in row.iter_mut() {
        *v *= inv;
    }
}

fn each_task(tasks: usize, work: impl Fn(usize, &mut [Vec<f32>; 3]) + Sync + Send) {
    if rayon::current_num_threads() == 1 {
        let mut buffers = Default::default();
        (0..tasks).for_each(|i| work(i, &mut buffers));
    } else {
        (0..tasks).into_par_iter().for_each_init(Default::default, |buffers, i| work(i, buffers));
    }
}

/// Attention output. -> `[n_q, heads * head_dim]`
pub fn forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    if !is_fast(qkv.tensor()) {
        return device::attention_forward(qkv, layout);
    }
    layout.check()?;
    let width = layout.width();
    let refs = refs(qkv, layout)?;
    let parts = slices(&refs, qkv, layout);
    let n = layout.queries.last().map_or(0, |r| r.end);
    let mut out = vec![0.0f32; n * width];
    let shared = Shared { start: out.as_mut_ptr(), stride: width };
    each_task(layout.queries.len() * layout.heads, |index, [p, _, _]| {
        let task = layout.task(&parts, index);
        layout.probabilities(&task, p);
        if task.drop.active() {
            simd::vectorized(|| {
                for (i, v) in p.iter_mut().enumerate() {
                    *v *= task.drop.factor(i as u32);
                }
            });
        }
        let target = shared;
        small(
            [task.sq, layout.head_dim, task.sk],
            Mat::rows(p, task.sk),
            task.v,
            target.at(task.first.0, task.col, false),
            1.0,
        );
    });
    host::tensor(out, (n, width))
}

/// Gradients of q, k and v in the shape they came in. dy `[n_q, width]`
pub fn backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    if !is_fast(dy) {
        return device::attention_backward(qkv, layout, dy);
    }
    layout.check()?;
    let (width, kv, hd) = (layout.width(), layout.kv_width(), layout.head_dim);
    let refs = refs(qkv, layout)?;
    let parts = slices(&refs, qkv, layout);
    let dys = HostRef::of(dy)?;
    let n_q = layout.queries.last().map_or(0, |r| r.end);
    let n_k = layout.keys.last().map_or(0, |r| r.end);
    let joint = matches!(qkv, Qkv::Joint(_));
    let all = width + 2 * kv;
    let mut first = vec![0.0f32; if joint { n_q * all } else { n_q * width }];
    let mut second = vec![0.0f32; if joint { 0 } else { n_k * 2 * kv }];
    let a = first.as_mut_ptr();
    let b = second.as_mut_ptr();
    let (dq, dkv, k_col) = if joint {
        (Shared { start: a, stride: all }, Shared { start: a, stride: all }, width)
    } else {
        (Shared { start: a, stride: width }, Shared { start: b, stride: 2 * kv }, 0)
    };
    // One task for each key head, so that the query heads that share it add to its gradient one after the other.
    each_task(layout.queries.len() * layout.kv_heads, |index, [p, dp, pd]| {
        for member in 0..layout.group() {
            let task = layout.task(&parts, index * layout.group() + member);
            let (sq, sk, (q0, k0)) = (task.sq, task.sk, task.first);
            layout.probabilities(&task, p);
            let dout = view(&dys, width, q0, task.col);
            dp.clear();
            dp.resize(sq * sk, 0.0);
            small([sq, sk, hd], dout, task.v.transposed(), local(dp, sk), 1.0);
            pd.clear();
            pd.extend_from_slice(p);
            simd::vectorized(|| score_gradient(p, dp, pd, sk, task.drop));
            let (dq, dkv, add) = (dq, dkv, member > 0);
            // dv = (p * mask)ᵀ dy, dq = ds k / sqrt(d), dk = dsᵀ q / sqrt(d)
            small([sk, hd, sq], Mat::cols(pd, sk), dout, dkv.at(k0, k_col + kv + task.kv_col, add), 1.0);
            small([sq, hd, sk], Mat::rows(dp, sk), task.k, dq.at(q0, task.col, false), layout.scale());
            small([sk, hd, sq], Mat::cols(dp, sk), task.q, dkv.at(k0, k_col + task.kv_col, add), layout.scale());
        }
    });
    Ok(if joint {
        Qkv::Joint(host::tensor(first, (n_q, all))?)
    } else {
        Qkv::Split(host::tensor(first, (n_q, width))?, host::tensor(second, (n_k, 2 * kv))?)
    })
}

/// Turns `dp` (gradient of the dropped probabilities) into the gradient of the scores, and `pd` into the dropped probabilities.
#[inline(always)]
fn score_gradient(p: &[f32], dp: &mut [f32], pd: &mut [f32], sk: usize, drop: Dropout) {
    if drop.active() {
        for (i, (d, q)) in dp.iter_mut().zip(pd.iter_mut()).enumerate() {
            let factor = drop.factor(i as u32);
            *d *= factor;
            *q *= factor;
        }
    }
    for (d, p) in dp.chunks_exact_mut(sk.max(1)).zip(p.chunks_exact(sk.max(1))) {
        let along = simd::sum_map2(d, p, |a, b| a * b);
        for (d, &p) in d.iter_mut().zip(p) {
            *d = p * (*d - along);
        }
    }
}

fn refs<'a>(qkv: &'a Qkv, layout: &Layout) -> Result<[HostRef<'a>; 3]> {
    let [q, k, v] = qkv.parts(layout.width(), layout.kv_width());
    for (tensor, _, columns) in [q, k, v] {
        if tensor.dim(D::Minus1)? != columns {
            let shape = tensor.dims();
            return Err(Error::internal(format!("attention operand of shape {shape:?} should have {columns} columns")));
        }
    }
    Ok([HostRef::of(q.0)?, HostRef::of(k.0)?, HostRef::of(v.0)?])
}

fn slices<'a>(refs: &'a [HostRef<'_>; 3], qkv: &Qkv, layout: &Layout) -> [(&'a [f32], usize, usize); 3] {
    let [q, k, v] = qkv.parts(layout.width(), layout.kv_width());
    [(&refs[0][..], q.1, q.2), (&refs[1][..], k.1, k.2), (&refs[2][..], v.1, v.2)]
}

/// The `heads` heads of one sequence as `[heads, rows, d]`.
fn heads_of(part: (&Tensor, usize, usize), heads: usize, rows: &Range<usize>, layout: &Layout) -> Result<Tensor> {
    let block = part.0.narrow(0, rows.start, rows.len())?.narrow(1, part.1, heads * layout.head_dim)?;
    Ok(block.reshape((rows.len(), heads, layout.head_dim))?.transpose(0, 1)?.contiguous()?)
}

/// As [`heads_of`] for keys or values, each head repeated for the query heads that read it. `[heads, rows, d]`
fn kv_heads_of(part: (&Tensor, usize, usize), rows: &Range<usize>, layout: &Layout) -> Result<Tensor> {
    let own = heads_of(part, layout.kv_heads, rows, layout)?;
    let shape = (layout.kv_heads, layout.group(), rows.len(), layout.head_dim);
    Ok(own.unsqueeze(1)?.expand(shape)?.reshape((layout.heads, rows.len(), layout.head_dim))?)
}

/// `[heads, rows, d] -> [rows, heads * d]`
fn rows_of(heads: &Tensor) -> Result<Tensor> {
    let (n, rows, d) = heads.dims3()?;
    Ok(heads.transpose(0, 1)?.contiguous()?.reshape((rows, n * d))?)
}

/// The gradient of repeated key or value heads, summed over the query heads that read each. -> `[rows, kv_heads * d]`
fn kv_rows_of(heads: &Tensor, layout: &Layout) -> Result<Tensor> {
    let (_, rows, d) = heads.dims3()?;
    rows_of(&heads.reshape((layout.kv_heads, layout.group(), rows, d))?.sum(1)?)
}

/// Probabilities of one sequence from plain operations. q `[heads, sq, d]`, k `[heads, sk, d]` -> `[heads, sq, sk]`
fn plain_probabilities(layout: &Layout, q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let scores = (q.matmul(&k.transpose(1, 2)?)? * (1.0 / (layout.head_dim as f64).sqrt()))?;
    if !layout.causal {
        return plain_softmax(&scores);
    }
    let (sq, sk) = (q.dim(1)?, k.dim(1)?);
    let hidden = |i: usize| if i % sk + sq > i / sk + sk { f32::NEG_INFINITY } else { 0.0 };
    let mask = Tensor::from_iter((0..sq * sk).map(hidden), q.device())?.reshape((sq, sk))?.to_dtype(q.dtype())?;
    plain_softmax(&scores.broadcast_add(&mask)?)
}

/// The masks of all heads of one sequence. `[heads, sq, sk]`
fn plain_mask(layout: &Layout, seq: usize, dims: (usize, usize), like: &Tensor) -> Result<Tensor> {
    let masks = (0..layout.heads)
        .map(|head| layout.drop.split((seq * layout.heads + head) as u32).mask(&[dims.0, dims.1], like))
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::stack(&masks, 0)?)
}

/// Softmax over the last dimension from plain operations.
pub fn plain_softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}

/// [`forward`] from candle operations, sequence by sequence.
pub fn plain_forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    layout.check()?;
    let [q, k, v] = qkv.parts(layout.width(), layout.kv_width());
    let mut out = Vec::new();
    for (seq, (rq, rk)) in layout.queries.iter().zip(&layout.keys).enumerate() {
        let q = heads_of(q, layout.heads, rq, layout)?;
        let (k, v) = (kv_heads_of(k, rk, layout)?, kv_heads_of(v, rk, layout)?);
        let mut p = plain_probabilities(layout, &q, &k)?;
        if layout.drop.active() {
            p = (p * plain_mask(layout, seq, (rq.len(), rk.len()), &q)?)?;
        }
        out.push(rows_of(&p.matmul(&v)?)?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// [`backward`] from candle operations, sequence by sequence.
pub fn plain_backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    layout.check()?;
    let [q, k, v] = qkv.parts(layout.width(), layout.kv_width());
    let scale = 1.0 / (layout.head_dim as f64).sqrt();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (seq, (rq, rk)) in layout.queries.iter().zip(&layout.keys).enumerate() {
        let q = heads_of(q, layout.heads, rq, layout)?;
        let (k, v) = (kv_heads_of(k, rk, layout)?, kv_heads_of(v, rk, layout)?);
        let dout = heads_of((dy, 0, layout.width()), layout.heads, rq, layout)?;
        let p = plain_probabilities(layout, &q, &k)?;
        let mut dp = dout.matmul(&v.transpose(1, 2)?)?;
        let mut pd = p.clone();
        if layout.drop.active() {
            let mask = plain_mask(layout, seq, (rq.len(), rk.len()), &q)?;
            dp = (dp * &mask)?;
            pd = (pd * mask)?;
        }
        let along = (&dp * &p)?.sum_keepdim(D::Minus1)?;
        let ds = ((p * dp.broadcast_sub(&along)?)? * scale)?;
        let dq = rows_of(&ds.matmul(&k)?)?;
        let dk = kv_rows_of(&ds.transpose(1, 2)?.contiguous()?.matmul(&q)?, layout)?;
        let dv = kv_rows_of(&pd.transpose(1, 2)?.contiguous()?.matmul(&dout)?, layout)?;
        match qkv {
            Qkv::Joint(_) => first.push(Tensor::cat(&[dq, dk, dv], 1)?),
            Qkv::Split(..) => {
                first.push(dq);
                second.push(Tensor::cat(&[dk, dv], 1)?);
            }
        }
    }
    let first = Tensor::cat(&first, 0)?;
    Ok(match qkv {
        Qkv::Joint(_) => Qkv::Joint(first),
        Qkv::Split(..) => Qkv::Split(first, Tensor::cat(&second, 0)?),
    })
}
