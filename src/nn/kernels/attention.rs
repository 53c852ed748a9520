//! Attention over packed sequences: `softmax(q kᵀ / sqrt(d)) v` for each sequence and head, in both directions or
//! causal, with a key and value head for each query head or for a group of them.
//!
//! Scores are made for a block of queries at a time, over the keys these see (causal: those up to the last of them), and
//! nothing of them is kept: the backward pass recomputes the probabilities from q and k, and the dropout mask from its key.

mod plain;

pub use plain::{plain_backward, plain_forward, plain_softmax};

use super::gemm::{Mat, Out, Precision, Stored, raw};
use super::host::{self, HostView, Number, Place, Values};
use super::{Dropout, device, if_fast, simd};
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

/// Queries whose scores are held at a time: their probabilities stay in the second-level cache.
const QUERIES: usize = 128;

/// A row-major matrix, seen from many threads; blocks of two tasks never overlap.
#[derive(Clone, Copy)]
struct Sink<T> {
    start: *mut T,
    stride: usize,
}
#[expect(unsafe_code, reason = "tasks write disjoint (rows, columns) blocks")]
// SAFETY: each task writes the rows of its sequence and the columns of its heads only.
unsafe impl<T: Number> Send for Sink<T> {}
#[expect(unsafe_code, reason = "tasks write disjoint (rows, columns) blocks")]
// SAFETY: as above.
unsafe impl<T: Number> Sync for Sink<T> {}

impl<T: Number> Sink<T> {
    #[expect(unsafe_code, reason = "pointer arithmetic within the checked matrix")]
    fn at(self, row: usize, col: usize) -> Out {
        // SAFETY: callers pass rows and columns inside the matrix.
        Out { start: T::place(unsafe { self.start.add(row * self.stride + col) }), row: self.stride, add: false }
    }

    /// Writes rows of `width` values, from a row and a column on.
    #[expect(unsafe_code, reason = "writes inside the checked matrix")]
    fn write(self, row: usize, col: usize, values: &[f32], width: usize) {
        for (i, values) in values.chunks_exact(width.max(1)).enumerate() {
            // SAFETY: callers pass rows and columns inside the matrix that no other task writes.
            let out = unsafe { std::slice::from_raw_parts_mut(self.start.add((row + i) * self.stride + col), width) };
            simd::vectors!(|| simd::update(out, values, |o, v| *o = T::narrow(v)));
        }
    }
}

/// `a b * scale` written to `out`; one thread.
#[expect(unsafe_code, reason = "outputs are exclusive slices or disjoint blocks of a checked matrix")]
fn small(dims: [usize; 3], a: Stored<'_>, b: Stored<'_>, out: Out, scale: f32) {
    // SAFETY: see `Sink`; local buffers are sized by the caller for the dims it passes.
    unsafe { raw(dims, a, b, out, scale, Precision::Stored) }
}

/// As [`small`] in f32 whatever the operands' formats: for a left operand that is read down its columns.
#[expect(unsafe_code, reason = "outputs are exclusive slices of a checked size")]
fn small_single(dims: [usize; 3], a: Stored<'_>, b: Stored<'_>, out: Out, scale: f32) {
    // SAFETY: as for `small`.
    unsafe { raw(dims, a, b, out, scale, Precision::Single) }
}

fn local(buffer: &mut [f32], width: usize, add: bool) -> Out {
    Out { start: Place::F32(buffer.as_mut_ptr()), row: width, add }
}

/// `len` values of a buffer, to be overwritten.
fn space(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// One (sequence, query head) pair with its views.
struct Task<'a> {
    q: Stored<'a>,
    k: Stored<'a>,
    v: Stored<'a>,
    sq: usize,
    sk: usize,
    /// First column of the query head, and of its key head.
    col: usize,
    kv_col: usize,
    first: (usize, usize),
    drop: Dropout,
}

/// Some queries of a task: their rows, and how many keys the last of them sees.
struct Piece {
    rows: Range<usize>,
    seen: usize,
}

fn view(values: Values<'_>, stride: usize, row: usize, col: usize) -> Stored<'_> {
    Stored { values: values.from(row * stride + col), row: stride, col: 1 }
}

/// The rows of a view from one on.
fn below(view: Stored<'_>, row: usize) -> Stored<'_> {
    Stored { values: view.values.from(row * view.row), ..view }
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
    fn task<'a>(&self, parts: &[(Values<'a>, usize, usize); 3], index: usize) -> Task<'a> {
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

    /// A task's queries in pieces.
    fn pieces(&self, task: &Task<'_>) -> impl Iterator<Item = Piece> + use<> {
        let (sq, sk, causal) = (task.sq, task.sk, self.causal);
        (0..sq).step_by(QUERIES).map(move |start| {
            let end = (start + QUERIES).min(sq);
            Piece { rows: start..end, seen: if causal { sk - (sq - end) } else { sk } }
        })
    }

    /// The softmax of some queries over the keys they see, into `p` `[rows, seen]`.
    fn probabilities(&self, task: &Task<'_>, piece: &Piece, p: &mut [f32]) {
        let (rows, seen) = (piece.rows.len(), piece.seen);
        let q = below(task.q, piece.rows.start);
        small([rows, seen, self.head_dim], q, task.k.transposed(), local(p, seen, false), self.scale());
        let hidden = |row: usize| if self.causal { rows - 1 - row } else { 0 };
        simd::vectors!(|| {
            for (i, row) in p.chunks_exact_mut(seen.max(1)).enumerate() {
                let (visible, later) = row.split_at_mut(seen - hidden(i));
                softmax_row(visible);
                later.fill(0.0);
            }
        });
    }

    /// Whether every row up to the last is some sequence's, so that all of an output is written.
    fn covers(spans: &[Range<usize>]) -> bool {
        let mut next = 0;
        spans.iter().all(|span| std::mem::replace(&mut next, span.end) == span.start)
    }
}

/// Masks the probabilities, or their gradients, of some queries. values `[rows, seen]`
#[inline(always)]
fn mask(task: &Task<'_>, piece: &Piece, values: &mut [f32]) {
    for (row, values) in piece.rows.clone().zip(values.chunks_exact_mut(piece.seen.max(1))) {
        for (j, v) in values.iter_mut().enumerate() {
            *v *= task.drop.factor((row * task.sk + j) as u32);
        }
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

/// Probabilities, their gradients, the masked ones, and sums of keys' and values' gradients.
type Buffers = [Vec<f32>; 5];

fn each_task(tasks: usize, work: impl Fn(usize, &mut Buffers) + Sync + Send) {
    if rayon::current_num_threads() == 1 {
        let mut buffers = Default::default();
        (0..tasks).for_each(|i| work(i, &mut buffers));
    } else {
        (0..tasks).into_par_iter().for_each_init(Default::default, |buffers, i| work(i, buffers));
    }
}

/// An output that tasks write, cleared first only where they leave rows out.
fn output<T: Number>(spans: &[Range<usize>], len: usize, write: impl FnOnce(&mut [T])) -> Vec<T> {
    host::overwritten(len, |out: &mut [T]| {
        if !Layout::covers(spans) {
            out.fill(T::narrow(0.0));
        }
        write(out);
    })
}

/// Attention output. -> `[n_q, heads * head_dim]`
pub fn forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    if_fast!(qkv.tensor(), fast_forward(qkv, layout));
    device::attention_forward(qkv, layout)
}

fn fast_forward<T: Number>(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    layout.check()?;
    let (width, hd) = (layout.width(), layout.head_dim);
    let refs = refs::<T>(qkv, layout)?;
    let parts = slices(&refs, qkv, layout);
    let n = layout.queries.last().map_or(0, |r| r.end);
    let out = output(&layout.queries, n * width, |out: &mut [T]| {
        let sink = Sink { start: out.as_mut_ptr(), stride: width };
        each_task(layout.queries.len() * layout.heads, |index, [p, ..]| {
            let task = layout.task(&parts, index);
            for piece in layout.pieces(&task) {
                let (rows, seen) = (piece.rows.len(), piece.seen);
                let p = space(p, rows * seen);
                layout.probabilities(&task, &piece, p);
                if task.drop.active() {
                    simd::vectors!(|| mask(&task, &piece, p));
                }
                let to = { sink }.at(task.first.0 + piece.rows.start, task.col);
                small([rows, hd, seen], Mat::rows(p, seen).stored(), task.v, to, 1.0);
            }
        });
    });
    host::tensor(out, (n, width))
}

/// Gradients of q, k and v in the shape they came in. dy `[n_q, width]`
pub fn backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    if qkv.tensor().dtype() == dy.dtype() {
        if_fast!(dy, fast_backward(qkv, layout, dy));
    }
    device::attention_backward(qkv, layout, dy)
}

fn fast_backward<T: Number>(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    layout.check()?;
    let (width, kv, hd) = (layout.width(), layout.kv_width(), layout.head_dim);
    let refs = refs::<T>(qkv, layout)?;
    let parts = slices(&refs, qkv, layout);
    let dys = HostView::<T>::of(dy)?;
    let n_q = layout.queries.last().map_or(0, |r| r.end);
    let n_k = layout.keys.last().map_or(0, |r| r.end);
    let joint = matches!(qkv, Qkv::Joint(_));
    let all = width + 2 * kv;
    let mut second: Vec<T> = Vec::new();
    let first = output(&layout.queries, n_q * if joint { all } else { width }, |first: &mut [T]| {
        second = output(&layout.keys, if joint { 0 } else { n_k * 2 * kv }, |second: &mut [T]| {
            let (a, b) = (first.as_mut_ptr(), second.as_mut_ptr());
            let (dq, dkv, k_col) = if joint {
                (Sink { start: a, stride: all }, Sink { start: a, stride: all }, width)
            } else {
                (Sink { start: a, stride: width }, Sink { start: b, stride: 2 * kv }, 0)
            };
            // One task for each key head: the query heads that share it add to its gradient one after the other.
            each_task(layout.queries.len() * layout.kv_heads, |index, buffers| {
                let (dq, dkv) = (dq, dkv);
                let members = index * layout.group()..(index + 1) * layout.group();
                let task = layout.task(&parts, members.start);
                let [.., dk, dv] = buffers;
                space(dk, task.sk * hd).fill(0.0);
                space(dv, task.sk * hd).fill(0.0);
                for member in members {
                    member_backward(layout, &layout.task(&parts, member), T::values(&dys), dq, buffers);
                }
                let [.., dk, dv] = buffers;
                dkv.write(task.first.1, k_col + task.kv_col, space(dk, task.sk * hd), hd);
                dkv.write(task.first.1, k_col + kv + task.kv_col, space(dv, task.sk * hd), hd);
            });
        });
    });
    let first = host::tensor(first, (n_q, if joint { all } else { width }))?;
    Ok(if joint { Qkv::Joint(first) } else { Qkv::Split(first, host::tensor(second, (n_k, 2 * kv))?) })
}

/// One query head: writes the gradient of its queries, adds to those of its keys and values in the buffers.
fn member_backward<T: Number>(layout: &Layout, task: &Task<'_>, dys: Values<'_>, dq: Sink<T>, buffers: &mut Buffers) {
    let (hd, scale, (q0, _)) = (layout.head_dim, layout.scale(), task.first);
    let [p, dp, pd, dk, dv] = buffers;
    let (dk, dv) = (space(dk, task.sk * hd), space(dv, task.sk * hd));
    for piece in layout.pieces(task) {
        let (rows, seen, start) = (piece.rows.len(), piece.seen, piece.rows.start);
        let (p, dp) = (space(p, rows * seen), space(dp, rows * seen));
        layout.probabilities(task, &piece, p);
        let (q, dout) = (below(task.q, start), view(dys, layout.width(), q0 + start, task.col));
        small([rows, seen, hd], dout, task.v.transposed(), local(dp, seen, false), 1.0);
        // The gradient of the scores, and the masked probabilities.
        let dropped = if task.drop.active() {
            let pd = space(pd, rows * seen);
            pd.copy_from_slice(p);
            simd::vectors!(|| {
                mask(task, &piece, pd);
                mask(task, &piece, dp);
            });
            &*pd
        } else {
            &*p
        };
        simd::vectors!(|| {
            for (d, p) in dp.chunks_exact_mut(seen.max(1)).zip(p.chunks_exact(seen.max(1))) {
                let along = simd::sum_map2(d, p, |a, b| a * b);
                for (d, &p) in d.iter_mut().zip(p) {
                    *d = p * (*d - along);
                }
            }
        });
        // dv = (p * mask)ᵀ dy, dq = ds k / sqrt(d), dk = dsᵀ q / sqrt(d)
        small_single([seen, hd, rows], Mat::cols(dropped, seen).stored(), dout, local(dv, hd, true), 1.0);
        small([rows, hd, seen], Mat::rows(dp, seen).stored(), task.k, dq.at(q0 + start, task.col), scale);
        small_single([seen, hd, rows], Mat::cols(dp, seen).stored(), q, local(dk, hd, true), scale);
    }
}

fn refs<'a, T: Number>(qkv: &'a Qkv, layout: &Layout) -> Result<[HostView<'a, T>; 3]> {
    let [q, k, v] = qkv.parts(layout.width(), layout.kv_width());
    for (tensor, _, columns) in [q, k, v] {
        if tensor.dim(D::Minus1)? != columns {
            let shape = tensor.dims();
            return Err(Error::internal(format!("attention operand of shape {shape:?} should have {columns} columns")));
        }
    }
    Ok([HostView::of(q.0)?, HostView::of(k.0)?, HostView::of(v.0)?])
}

fn slices<'a, T: Number>(
    refs: &'a [HostView<'_, T>; 3],
    qkv: &Qkv,
    layout: &Layout,
) -> [(Values<'a>, usize, usize); 3] {
    let [q, k, v] = qkv.parts(layout.width(), layout.kv_width());
    let part = |i: usize, (_, column, columns): (&Tensor, usize, usize)| (T::values(&refs[i]), column, columns);
    [part(0, q), part(1, k), part(2, v)]
}
