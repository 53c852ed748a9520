//! Attention over packed sequences: `softmax(q kᵀ / sqrt(d)) v` for each sequence and head, bidirectional or causal, with
//! one key and value head for each query head or group of them.
//!
//! Scores exist for one block of queries at a time; the backward pass recomputes probabilities and dropout masks.

mod plain;

pub use plain::{plain_backward, plain_forward, plain_softmax};

use super::device::{half, if_fast, widen};
use super::gemm::{Matrix, Out, Precision, raw};
use super::gpu;
use super::host::{self, HostView, Number, Place, Shared, Unwritten, Values, room};
use super::simd;
use super::types::{Dropout, QkvPart};
pub use super::types::{Layout, Qkv};
use crate::error::{Error, Result};
use crate::tensor::{D, Tensor};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Queries whose scores are held at a time: their probabilities stay in the second-level cache.
const QUERIES: usize = 128;

/// A row-major output that tasks write, each the rows of its sequence and the columns of its heads.
struct Sink<'a, T> {
    values: Shared<'a, MaybeUninit<T>>,
    stride: usize,
}

impl<T: Number> Sink<'_, T> {
    /// Where a product writes.
    fn at(&self, row: usize, col: usize) -> Out {
        let start = T::place(self.values.at(row * self.stride + col).cast());
        Out { start, row: self.stride, add: false }
    }

    /// Writes rows of `width` values, from a row and a column on.
    #[expect(unsafe_code, reason = "parts of an output that tasks share")]
    fn write(&self, row: usize, col: usize, values: &[f32], width: usize) {
        for (i, values) in values.chunks_exact(width.max(1)).enumerate() {
            // SAFETY: rows and columns that no other task writes.
            let mut out = Unwritten::new(unsafe { self.values.part((row + i) * self.stride + col, width) });
            simd::vectors!(|| {
                out.push(values.iter().map(|&v| T::narrow(v)));
            });
        }
    }
}

/// `a b * scale` written to `out` on one thread, in the operands' precision.
fn small(dims: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, out: Out, scale: f32) {
    small_as(Precision::Stored, dims, a, b, out, scale);
}

/// As [`small`] in a given precision; f32 is for a left operand that is read down its columns.
#[expect(unsafe_code, reason = "outputs are exclusive slices or disjoint blocks of a checked matrix")]
fn small_as(precision: Precision, dims: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, out: Out, scale: f32) {
    // SAFETY: see `Sink`; local buffers are sized by the caller for the dims it passes.
    unsafe { raw(dims, a, b, out, scale, precision) }
}

fn local(buffer: &mut [f32], width: usize, add: bool) -> Out {
    Out { start: Place::F32(buffer.as_mut_ptr()), row: width, add }
}

/// One (sequence, query head) pair with its views.
struct Task<'a> {
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
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

/// The part of a row-major view from a row and a column on.
fn from(view: Matrix<'_>, row: usize, col: usize) -> Matrix<'_> {
    Matrix { values: view.values.from(row * view.row + col), ..view }
}

impl Layout {
    /// The pair number `index`, counting heads within sequences.
    fn task<'a>(&self, parts: &[Matrix<'a>; 3], index: usize) -> Task<'a> {
        let (seq, head) = (index / self.heads, index % self.heads);
        let (rq, rk) = (&self.queries[seq], &self.keys[seq]);
        let (col, kv_col) = (head * self.head_dim, head / self.group() * self.head_dim);
        Task {
            q: from(parts[0], rq.start, col),
            k: from(parts[1], rk.start, kv_col),
            v: from(parts[2], rk.start, kv_col),
            sq: rq.len(),
            sk: rk.len(),
            col,
            kv_col,
            first: (rq.start, rk.start),
            drop: self.drop.split(index as u32),
        }
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
        let q = from(task.q, piece.rows.start, 0);
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

/// An output of `spans`' rows that tasks write; rows of no sequence are zero.
///
/// # Safety
/// `write` sets every value of the rows in `spans`.
#[expect(unsafe_code, reason = "clearing memory that is overwritten at once costs as much as using it")]
unsafe fn output<T: Number>(spans: &[Range<usize>], stride: usize, write: impl FnOnce(Sink<'_, T>)) -> Vec<T> {
    let n = spans.last().map_or(0, |span| span.end);
    // SAFETY: rows of a sequence are written by the caller's promise, others are cleared.
    unsafe {
        host::new_values(n * stride, |out: &mut [MaybeUninit<T>]| {
            if !Layout::covers(spans) {
                out.fill(MaybeUninit::new(T::narrow(0.0)));
            }
            write(Sink { values: Shared::new(out), stride });
        })
    }
}

/// What the backward pass needs beside queries, keys and values: nothing on a processor, which computes the probabilities again.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// On a GPU of our own: the output, and the log-sum-exp of each row of scores.
    on_gpu: Option<[Tensor; 2]>,
}

/// Attention output. -> `[n_q, heads * head_dim]`
pub fn forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    Ok(forward_saving(qkv, layout)?.0)
}

/// Attention output, and what [`backward_saved`] needs. -> `[n_q, heads * head_dim]`
pub fn forward_saving(qkv: &Qkv, layout: &Layout) -> Result<(Tensor, Saved)> {
    if qkv.tensor().device().is_gpu() {
        let (out, lse) = gpu::attention::forward(qkv, layout)?;
        return Ok((out.clone(), Saved { on_gpu: Some([out, lse]) }));
    }
    Ok((forward_elsewhere(qkv, layout)?, Saved::default()))
}

fn forward_elsewhere(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    if_fast!(qkv.tensor(), fast_forward(qkv, layout));
    if super::cuda::takes_heads(qkv.tensor(), layout.head_dim) {
        return super::cuda::ops::attention_forward(qkv, layout);
    }
    if half(qkv.tensor()) {
        return forward_elsewhere(&qkv.map(widen)?, layout)?.to_dtype(qkv.tensor().dtype());
    }
    plain_forward(qkv, layout)
}

#[expect(unsafe_code, reason = "tasks write disjoint blocks of one output")]
fn fast_forward<T: Number>(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    layout.check()?;
    let (width, hd) = (layout.width(), layout.head_dim);
    let refs = refs::<T>(qkv, layout)?;
    let parts = columns(&refs, qkv, layout);
    let write = |sink: Sink<'_, T>| {
        each_task(layout.queries.len() * layout.heads, |index, [p, ..]| {
            let task = layout.task(&parts, index);
            for piece in layout.pieces(&task) {
                let (rows, seen) = (piece.rows.len(), piece.seen);
                let p = room(p, rows * seen);
                layout.probabilities(&task, &piece, p);
                if task.drop.active() {
                    simd::vectors!(|| mask(&task, &piece, p));
                }
                let to = sink.at(task.first.0 + piece.rows.start, task.col);
                small([rows, hd, seen], Matrix::rows(&*p, seen), task.v, to, 1.0);
            }
        });
    };
    // SAFETY: each (sequence, head) pair writes its rows and columns.
    let out = unsafe { output(&layout.queries, width, write) };
    host::tensor(out, (layout.queries.last().map_or(0, |r| r.end), width))
}

/// Gradients of q, k and v in the shape they came in. dy `[n_q, width]`
pub fn backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    backward_saved(qkv, layout, &Saved::default(), dy)
}

/// As [`backward`] with what [`forward_saving`] gave. dy `[n_q, width]`
pub fn backward_saved(qkv: &Qkv, layout: &Layout, saved: &Saved, dy: &Tensor) -> Result<Qkv> {
    if dy.device().is_gpu() {
        let [out, lse] = match &saved.on_gpu {
            Some(saved) => saved.clone(),
            None => gpu::attention::forward(qkv, layout)?.into(),
        };
        return gpu::attention::backward(qkv, layout, [&out, &lse], dy);
    }
    if qkv.tensor().dtype() == dy.dtype() {
        if_fast!(dy, fast_backward(qkv, layout, dy));
    }
    if super::cuda::takes_heads(dy, layout.head_dim) {
        return super::cuda::ops::attention_backward(qkv, layout, dy);
    }
    if half(dy) {
        return backward(&qkv.map(widen)?, layout, &widen(dy)?)?.map(|t| t.to_dtype(dy.dtype()));
    }
    plain_backward(qkv, layout, dy)
}

#[expect(unsafe_code, reason = "tasks write disjoint blocks of one output")]
fn fast_backward<T: Number>(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    layout.check()?;
    let (width, kv, hd) = (layout.width(), layout.kv_width(), layout.head_dim);
    let refs = refs::<T>(qkv, layout)?;
    let parts = columns(&refs, qkv, layout);
    let dys = HostView::<T>::of(dy)?;
    let rows = |spans: &[Range<usize>]| spans.last().map_or(0, |r| r.end);
    // One task for each key head: the query heads that share it add to its gradient one after the other.
    let write = |dq: &Sink<'_, T>, dkv: &Sink<'_, T>, k_col: usize| {
        each_task(layout.queries.len() * layout.kv_heads, |index, buffers| {
            let members = index * layout.group()..(index + 1) * layout.group();
            let task = layout.task(&parts, members.start);
            let [.., dk, dv] = buffers;
            room(dk, task.sk * hd).fill(0.0);
            room(dv, task.sk * hd).fill(0.0);
            for member in members {
                member_backward(layout, &layout.task(&parts, member), T::values(&dys), dq, buffers);
            }
            let [.., dk, dv] = buffers;
            dkv.write(task.first.1, k_col + task.kv_col, room(dk, task.sk * hd), hd);
            dkv.write(task.first.1, k_col + kv + task.kv_col, room(dv, task.sk * hd), hd);
        });
    };
    let (n_q, n_k, all) = (rows(&layout.queries), rows(&layout.keys), width + 2 * kv);
    // SAFETY: each task writes the rows and columns of its sequence and heads.
    unsafe {
        match qkv {
            Qkv::Joint(_) => {
                let joint = output(&layout.queries, all, |sink| write(&sink, &sink, width));
                Ok(Qkv::Joint(host::tensor(joint, (n_q, all))?))
            }
            Qkv::Split(..) => {
                let mut keys = Vec::new();
                let queries = output(&layout.queries, width, |dq| {
                    keys = output(&layout.keys, 2 * kv, |dkv| write(&dq, &dkv, 0));
                });
                Ok(Qkv::Split(host::tensor(queries, (n_q, width))?, host::tensor(keys, (n_k, 2 * kv))?))
            }
        }
    }
}

/// One query head: writes the gradient of its queries, adds to those of its keys and values in the buffers.
fn member_backward<T: Number>(
    layout: &Layout,
    task: &Task<'_>,
    dys: Values<'_>,
    dq: &Sink<'_, T>,
    buffers: &mut Buffers,
) {
    let (hd, scale, (q0, _)) = (layout.head_dim, layout.scale(), task.first);
    let [p, dp, pd, dk, dv] = buffers;
    let (dk, dv) = (room(dk, task.sk * hd), room(dv, task.sk * hd));
    for piece in layout.pieces(task) {
        let (rows, seen, start) = (piece.rows.len(), piece.seen, piece.rows.start);
        let (p, dp) = (room(p, rows * seen), room(dp, rows * seen));
        layout.probabilities(task, &piece, p);
        let (q, dout) = (from(task.q, start, 0), from(Matrix::rows(dys, layout.width()), q0 + start, task.col));
        small([rows, seen, hd], dout, task.v.transposed(), local(dp, seen, false), 1.0);
        // The gradient of the scores, and the masked probabilities.
        let dropped = if task.drop.active() {
            let pd = room(pd, rows * seen);
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
        let (dropped, ds) = (Matrix::cols(dropped, seen), Matrix::cols(&*dp, seen));
        small_as(Precision::Single, [seen, hd, rows], dropped, dout, local(dv, hd, true), 1.0);
        small([rows, hd, seen], ds.transposed(), task.k, dq.at(q0 + start, task.col), scale);
        small_as(Precision::Single, [seen, hd, rows], ds, q, local(dk, hd, true), scale);
    }
}

fn refs<'a, T: Number>(qkv: &'a Qkv, layout: &Layout) -> Result<[HostView<'a, T>; 3]> {
    let parts = qkv.parts(layout);
    for QkvPart { tensor, columns, .. } in parts {
        if tensor.dim(D::Minus1)? != columns {
            let shape = tensor.dims();
            return Err(Error::internal(format!("attention operand of shape {shape:?} should have {columns} columns")));
        }
    }
    let [q, k, v] = parts.map(|part| HostView::of(part.tensor));
    Ok([q?, k?, v?])
}

/// q, k and v, each from its first column on.
fn columns<'a, T: Number>(refs: &'a [HostView<'_, T>; 3], qkv: &Qkv, layout: &Layout) -> [Matrix<'a>; 3] {
    let parts = qkv.parts(layout);
    std::array::from_fn(|i| from(Matrix::rows(T::values(&refs[i]), parts[i].columns), 0, parts[i].column))
}
