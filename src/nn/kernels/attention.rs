//! Bidirectional attention over packed sequences: `softmax(q kᵀ / sqrt(d)) v` for each sequence and head.
//!
//! Nothing of size S x S outlives a (sequence, head) pair: the backward pass recomputes the probabilities from
//! q and k, and the dropout mask from its key.

use super::gemm::{Mat, Out, raw};
use super::host::{self, HostRef};
use super::{Dropout, device, is_fast, simd};
use crate::error::Result;
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
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Dropout of the probabilities.
    pub drop: Dropout,
}

/// Queries, and keys next to values. q `[n_q, heads * head_dim]` (or the first third of `[n, 3 ...]`).
#[derive(Clone, Debug)]
pub enum Qkv {
    /// One tensor, q, k and v side by side. `[n, 3 * heads * head_dim]`
    Joint(Tensor),
    /// Queries for some rows only. q `[n_q, width]`, kv `[n, 2 * width]`
    Split(Tensor, Tensor),
}

impl Qkv {
    /// (tensor, first column, total columns) of q, k and v.
    pub(super) fn parts(&self, width: usize) -> [(&Tensor, usize, usize); 3] {
        match self {
            Self::Joint(t) => [(t, 0, 3 * width), (t, width, 3 * width), (t, 2 * width, 3 * width)],
            Self::Split(q, kv) => [(q, 0, width), (kv, 0, 2 * width), (kv, width, 2 * width)],
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
// SAFETY: each task writes the rows of its sequence and the columns of its head only.
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

/// One (sequence, head) pair with its views.
struct Task<'a> {
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    sq: usize,
    sk: usize,
    col: usize,
    first: (usize, usize),
    drop: Dropout,
}

fn view<'a>(values: &'a [f32], stride: usize, row: usize, col: usize) -> Mat<'a> {
    let start = row * stride + col;
    Mat { values: values.get(start..).unwrap_or_default(), row: stride, col: 1 }
}

impl Layout {
    fn task<'a>(&self, parts: &[(&'a [f32], usize, usize); 3], index: usize) -> Task<'a> {
        let (seq, head) = (index / self.heads, index % self.heads);
        let (rq, rk) = (&self.queries[seq], &self.keys[seq]);
        let col = head * self.head_dim;
        let at = |part: usize, row: usize| view(parts[part].0, parts[part].2, row, parts[part].1 + col);
        Task {
            q: at(0, rq.start),
            k: at(1, rk.start),
            v: at(2, rk.start),
            sq: rq.len(),
            sk: rk.len(),
            col,
            first: (rq.start, rk.start),
            drop: self.drop.split(index as u32),
        }
    }

    pub(super) fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// The softmax of one pair, into `p` `[sq, sk]`.
    fn probabilities(&self, task: &Task<'_>, p: &mut Vec<f32>) {
        p.clear();
        p.resize(task.sq * task.sk, 0.0);
        small([task.sq, task.sk, self.head_dim], task.q, task.k.transposed(), local(p, task.sk), self.scale());
        simd::vectorized(|| {
            for row in p.chunks_exact_mut(task.sk.max(1)) {
                softmax_row(row);
            }
        });
    }

    fn tasks(&self) -> usize {
        self.queries.len() * self.heads
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
    let width = layout.width();
    let refs = refs(qkv, width)?;
    let parts = slices(&refs, qkv, width);
    let n = layout.queries.last().map_or(0, |r| r.end);
    let mut out = vec![0.0f32; n * width];
    let shared = Shared { start: out.as_mut_ptr(), stride: width };
    each_task(layout.tasks(), |index, [p, _, _]| {
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
    let (width, hd) = (layout.width(), layout.head_dim);
    let refs = refs(qkv, width)?;
    let parts = slices(&refs, qkv, width);
    let dys = HostRef::of(dy)?;
    let n_q = layout.queries.last().map_or(0, |r| r.end);
    let n_k = layout.keys.last().map_or(0, |r| r.end);
    let joint = matches!(qkv, Qkv::Joint(_));
    let mut first = vec![0.0f32; if joint { n_q * 3 * width } else { n_q * width }];
    let mut second = vec![0.0f32; if joint { 0 } else { n_k * 2 * width }];
    let a = first.as_mut_ptr();
    let b = second.as_mut_ptr();
    let (dq, dkv, k_col) = if joint {
        (Shared { start: a, stride: 3 * width }, Shared { start: a, stride: 3 * width }, width)
    } else {
        (Shared { start: a, stride: width }, Shared { start: b, stride: 2 * width }, 0)
    };
    each_task(layout.tasks(), |index, [p, dp, pd]| {
        let task = layout.task(&parts, index);
        let (sq, sk, (q0, k0)) = (task.sq, task.sk, task.first);
        layout.probabilities(&task, p);
        let dout = view(&dys, width, q0, task.col);
        dp.clear();
        dp.resize(sq * sk, 0.0);
        small([sq, sk, hd], dout, task.v.transposed(), local(dp, sk), 1.0);
        pd.clear();
        pd.extend_from_slice(p);
        simd::vectorized(|| score_gradient(p, dp, pd, sk, task.drop));
        let (dq, dkv) = (dq, dkv);
        // dv = (p * mask)ᵀ dy, dq = ds k / sqrt(d), dk = dsᵀ q / sqrt(d)
        small([sk, hd, sq], Mat::cols(pd, sk), dout, dkv.at(k0, k_col + width + task.col, false), 1.0);
        small([sq, hd, sk], Mat::rows(dp, sk), task.k, dq.at(q0, task.col, false), layout.scale());
        small([sk, hd, sq], Mat::cols(dp, sk), task.q, dkv.at(k0, k_col + task.col, false), layout.scale());
    });
    Ok(if joint {
        Qkv::Joint(host::tensor(first, (n_q, 3 * width))?)
    } else {
        Qkv::Split(host::tensor(first, (n_q, width))?, host::tensor(second, (n_k, 2 * width))?)
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

fn refs(qkv: &Qkv, width: usize) -> Result<[HostRef<'_>; 3]> {
    let [q, k, v] = qkv.parts(width);
    Ok([HostRef::of(q.0)?, HostRef::of(k.0)?, HostRef::of(v.0)?])
}

fn slices<'a>(refs: &'a [HostRef<'_>; 3], qkv: &Qkv, width: usize) -> [(&'a [f32], usize, usize); 3] {
    let [q, k, v] = qkv.parts(width);
    [(&refs[0][..], q.1, q.2), (&refs[1][..], k.1, k.2), (&refs[2][..], v.1, v.2)]
}

/// `[1, rows, heads * d]` of one sequence as `[heads, rows, d]`.
fn heads_of(part: (&Tensor, usize, usize), rows: &Range<usize>, layout: &Layout) -> Result<Tensor> {
    let block = part.0.narrow(0, rows.start, rows.len())?.narrow(1, part.1, layout.width())?;
    Ok(block.reshape((rows.len(), layout.heads, layout.head_dim))?.transpose(0, 1)?.contiguous()?)
}

fn rows_of(heads: &Tensor, layout: &Layout) -> Result<Tensor> {
    let (_, rows, _) = heads.dims3()?;
    Ok(heads.transpose(0, 1)?.contiguous()?.reshape((rows, layout.width()))?)
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
    let [q, k, v] = qkv.parts(layout.width());
    let mut out = Vec::new();
    for (seq, (rq, rk)) in layout.queries.iter().zip(&layout.keys).enumerate() {
        let (q, k, v) = (heads_of(q, rq, layout)?, heads_of(k, rk, layout)?, heads_of(v, rk, layout)?);
        let scores = (q.matmul(&k.transpose(1, 2)?)? * (1.0 / (layout.head_dim as f64).sqrt()))?;
        let mut p = plain_softmax(&scores)?;
        if layout.drop.active() {
            p = (p * plain_mask(layout, seq, (rq.len(), rk.len()), &q)?)?;
        }
        out.push(rows_of(&p.matmul(&v)?, layout)?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// [`backward`] from candle operations, sequence by sequence.
pub fn plain_backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    let [q, k, v] = qkv.parts(layout.width());
    let scale = 1.0 / (layout.head_dim as f64).sqrt();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (seq, (rq, rk)) in layout.queries.iter().zip(&layout.keys).enumerate() {
        let (q, k, v) = (heads_of(q, rq, layout)?, heads_of(k, rk, layout)?, heads_of(v, rk, layout)?);
        let dout = heads_of((dy, 0, layout.width()), rq, layout)?;
        let p = plain_softmax(&(q.matmul(&k.transpose(1, 2)?)? * scale)?)?;
        let mut dp = dout.matmul(&v.transpose(1, 2)?)?;
        let mut pd = p.clone();
        if layout.drop.active() {
            let mask = plain_mask(layout, seq, (rq.len(), rk.len()), &q)?;
            dp = (dp * &mask)?;
            pd = (pd * mask)?;
        }
        let along = (&dp * &p)?.sum_keepdim(D::Minus1)?;
        let ds = ((p * dp.broadcast_sub(&along)?)? * scale)?;
        let dq = rows_of(&ds.matmul(&k)?, layout)?;
        let dk = rows_of(&ds.transpose(1, 2)?.contiguous()?.matmul(&q)?, layout)?;
        let dv = rows_of(&pd.transpose(1, 2)?.contiguous()?.matmul(&dout)?, layout)?;
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
