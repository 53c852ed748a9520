//! Attention from candle operations, for every device and precision.

use crate::error::Result;
use crate::nn::kernels::types::{Layout, Qkv, QkvPart};
use crate::tensor::{D, Tensor};
use std::ops::Range;

/// The `heads` heads of one sequence as `[heads, rows, d]`.
fn heads_of(part: QkvPart<'_>, heads: usize, rows: &Range<usize>, layout: &Layout) -> Result<Tensor> {
    let block = part.tensor.narrow(0, rows.start, rows.len())?.narrow(1, part.column, heads * layout.head_dim)?;
    block.reshape((rows.len(), heads, layout.head_dim))?.transpose(0, 1)?.contiguous()
}

/// As [`heads_of`] for keys or values, each head repeated for the query heads that read it. `[heads, rows, d]`
fn kv_heads_of(part: QkvPart<'_>, rows: &Range<usize>, layout: &Layout) -> Result<Tensor> {
    let own = heads_of(part, layout.kv_heads, rows, layout)?;
    let shape = (layout.kv_heads, layout.group(), rows.len(), layout.head_dim);
    own.unsqueeze(1)?.expand(shape)?.reshape((layout.heads, rows.len(), layout.head_dim))
}

/// `[heads, rows, d] -> [rows, heads * d]`
fn rows_of(heads: &Tensor) -> Result<Tensor> {
    let (n, rows, d) = heads.dims3()?;
    heads.transpose(0, 1)?.contiguous()?.reshape((rows, n * d))
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
    Tensor::stack(&masks, 0)
}

/// Softmax over the last dimension from plain operations.
pub fn plain_softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// [`forward`](super::forward) from candle operations, sequence by sequence.
pub fn plain_forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    layout.check()?;
    let [q, k, v] = qkv.parts(layout);
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
    Tensor::cat(&out, 0)
}

/// [`backward`](super::backward) from candle operations, sequence by sequence.
pub fn plain_backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    layout.check()?;
    let [q, k, v] = qkv.parts(layout);
    let scale = 1.0 / (layout.head_dim as f64).sqrt();
    let dout = QkvPart { tensor: dy, column: 0, columns: layout.width() };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (seq, (rq, rk)) in layout.queries.iter().zip(&layout.keys).enumerate() {
        let q = heads_of(q, layout.heads, rq, layout)?;
        let (k, v) = (kv_heads_of(k, rk, layout)?, kv_heads_of(v, rk, layout)?);
        let dout = heads_of(dout, layout.heads, rq, layout)?;
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
