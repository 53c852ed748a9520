//! The kernels of language models on tensors of a GPU: as [`super::ops`].

use super::driver::{address, gemm, launch};
use super::launch::{Product, Transpose};
use super::lm_plan::{self, CachedAttention, Gated, Rotate, VocabLoss, VocabScore};
use super::ops::{column, elementwise, empty, format, like, list_of, own, product, same, table};
use super::plan::{Norm, Routed, SEGMENTS, Segment, Window};
use super::requests::{BlockGrad, BlockProduct, NewTokens, VocabLossRequest, VocabLossTensors};
use crate::error::{Error, Result};
use crate::nn::kernels::gpu;
use crate::nn::kernels::types::{Act, Dropout, HeadCounts, HeadNorm, Heads, LossWeights, Pairing, Rope};
use crate::tensor::{DType, Tensor};

/// A vector in f32.
fn vector(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.contiguous()
}

pub(in crate::nn::kernels) fn add(x: &Tensor, residual: &Tensor, drop: Dropout) -> Result<Tensor> {
    same("a sum", x, residual)?;
    let (x, residual) = (x.contiguous()?, residual.contiguous()?);
    let y = like(&x)?;
    launch(x.device(), &elementwise(&x, &y)?.add(address(&residual)?, drop))?;
    Ok(y)
}

pub(in crate::nn::kernels) fn accumulate(acc: Tensor, x: &Tensor) -> Result<Tensor> {
    let acc = own(acc)?;
    let x = x.to_dtype(acc.dtype())?.contiguous()?;
    same("a sum", &acc, &x)?;
    launch(acc.device(), &elementwise(&acc, &acc)?.add(address(&x)?, Dropout::none()))?;
    Ok(acc)
}

/// -> output, the sum that was normalised, 1/rms of each row
pub(in crate::nn::kernels) fn rms_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    gamma: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, d) = x.dims2()?;
    if let Some(residual) = residual {
        same("a residual add", x, residual)?;
    }
    let (x, gamma) = (x.contiguous()?, vector(gamma)?);
    let residual = residual.map(|r| r.contiguous()).transpose()?;
    let changed = residual.is_some() || drop.active();
    let (y, rstd) = (like(&x)?, empty(n, DType::F32, x.device())?);
    let sum = if changed { like(&x)? } else { x.clone() };
    let shape = Norm {
        format: format(&x)?,
        x: address(&x)?,
        residual: residual.as_ref().map_or(Ok(0), address)?,
        gamma: address(&gamma)?,
        y: address(&y)?,
        kept: if changed { address(&sum)? } else { 0 },
        rstd: address(&rstd)?,
        n,
        d,
        eps: eps as f32,
        ..Norm::default()
    };
    launch(x.device(), &shape.rms_forward(drop))?;
    Ok((y, sum, rstd))
}

pub(in crate::nn::kernels) fn rms_backward(
    dy: &Tensor,
    dsum: Option<Tensor>,
    [sum, rstd]: [&Tensor; 2],
    gamma: &Tensor,
) -> Result<Tensor> {
    let (n, d) = dy.dims2()?;
    same("a normalisation's gradient", dy, sum)?;
    let (dy, gamma, sum) = (dy.contiguous()?, vector(gamma)?, sum.contiguous()?);
    let (out, add) = match dsum {
        Some(dsum) => (dsum.to_dtype(dy.dtype())?.contiguous()?, true),
        None => (like(&dy)?, false),
    };
    same("a normalisation's gradient", &dy, &out)?;
    let shape = Norm {
        format: format(&dy)?,
        gamma: address(&gamma)?,
        y: address(&dy)?,
        kept: address(&sum)?,
        rstd: address(rstd)?,
        dsum: address(&out)?,
        n,
        d,
        ..Norm::default()
    };
    launch(dy.device(), &shape.rms_backward(add))?;
    Ok(out)
}

pub(in crate::nn::kernels) fn norm_output(
    x: &Tensor,
    rstd: Option<&Tensor>,
    gamma: &Tensor,
    beta: Option<&Tensor>,
) -> Result<Tensor> {
    let (n, d) = x.dims2()?;
    let (x, gamma, beta) = (x.contiguous()?, vector(gamma)?, beta.map(vector).transpose()?);
    let y = like(&x)?;
    let shape = Norm {
        format: format(&x)?,
        x: address(&x)?,
        gamma: address(&gamma)?,
        beta: beta.as_ref().map_or(Ok(0), address)?,
        y: address(&y)?,
        rstd: rstd.map_or(Ok(0), address)?,
        n,
        d,
        ..Norm::default()
    };
    launch(x.device(), &shape.output())?;
    Ok(y)
}

fn heads(x: &Tensor, y: &Tensor, norm: HeadNorm<'_>, gamma: &[Tensor; 2]) -> Result<lm_plan::HeadNorm> {
    let (n, columns) = x.dims2()?;
    Ok(lm_plan::HeadNorm {
        format: format(x)?,
        x: address(x)?,
        gamma: [address(&gamma[0])?, address(&gamma[1])?],
        y: address(y)?,
        n,
        columns,
        head_dim: gamma[0].elem_count(),
        heads: norm.heads,
        eps: norm.eps as f32,
    })
}

pub(in crate::nn::kernels) fn head_norm_forward(x: &Tensor, norm: HeadNorm<'_>) -> Result<Tensor> {
    let (x, gamma) = (x.contiguous()?, [vector(norm.gamma[0])?, vector(norm.gamma[1])?]);
    let y = like(&x)?;
    launch(x.device(), &heads(&x, &y, norm, &gamma)?.forward())?;
    Ok(y)
}

pub(in crate::nn::kernels) fn head_norm_backward(x: &Tensor, norm: HeadNorm<'_>, dy: Tensor) -> Result<Tensor> {
    same("normalised heads", x, &dy)?;
    let (x, dy, gamma) = (x.contiguous()?, own(dy)?, [vector(norm.gamma[0])?, vector(norm.gamma[1])?]);
    launch(x.device(), &heads(&x, &dy, norm, &gamma)?.backward())?;
    Ok(dy)
}

fn gated(x: &Tensor, y: &Tensor) -> Result<Gated> {
    let (rows, width) = y.dims2()?;
    if x.dims() != [rows, 2 * width] || x.dtype() != y.dtype() {
        return Err(Error::internal(format!("gate and up of shape {:?} for {:?}", x.dims(), y.dims())));
    }
    Ok(Gated { format: format(x)?, x: address(x)?, y: address(y)?, rows, width })
}

pub(in crate::nn::kernels) fn gated_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let (x, (n, both)) = (x.contiguous()?, x.dims2()?);
    let y = empty((n, both / 2), x.dtype(), x.device())?;
    launch(x.device(), &gated(&x, &y)?.forward(act))?;
    Ok(y)
}

pub(in crate::nn::kernels) fn gated_backward(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    let (x, dy) = (own(x)?, dy.contiguous()?);
    launch(x.device(), &gated(&x, &dy)?.backward(act))?;
    Ok(x)
}

/// angles: cosines and sines, f32 `[2, positions, head_dim / 2]`
pub(in crate::nn::kernels) fn rotate(
    x: Tensor,
    heads: Heads,
    angles: &Tensor,
    positions: &[u32],
    direction: Rope,
) -> Result<Tensor> {
    let (n, columns) = x.dims2()?;
    let (positions, half) = (table(x.device(), positions)?, heads.head_dim / 2);
    let x = own(x)?;
    let (cos, sin) = (address(&angles.get(0)?)?, address(&angles.get(1)?)?);
    let shape = Rotate {
        format: format(&x)?,
        x: address(&x)?,
        table: [cos, sin],
        positions: address(&positions)?,
        n,
        columns,
        heads: heads.heads,
        half,
        interleaved: heads.pairing == Pairing::Interleaved,
    };
    launch(x.device(), &shape.launch(direction))?;
    Ok(x)
}

/// head `[vocab, d]`
pub(in crate::nn::kernels) fn vocab_loss(request: VocabLossRequest<'_>, head: &Tensor) -> Result<VocabLossTensors> {
    let VocabLossRequest { hidden, targets, passes, weights, chunks, gradient, head_gradient } = request;
    let ((_, d), (vocab, _)) = (hidden.dims2()?, head.dims2()?);
    let (n, place, dtype) = (targets.len(), hidden.device(), head.dtype());
    let (given, hidden, head) = (hidden.dtype(), hidden.to_dtype(dtype)?.contiguous()?, head.contiguous()?);
    let targets = Tensor::from_slice(targets, n, place)?;
    let parts = empty((n, 3), DType::F32, place)?;
    let grad = gradient.then(|| like(&hidden)).transpose()?;
    let mut dhead = if head_gradient { Some(Tensor::zeros((vocab, d), DType::F32, place)?) } else { None };
    for chunk in chunks {
        let (start, c) = (chunk.start, chunk.len());
        let rows = |x: &Tensor, pass: usize| x.narrow(0, pass * n + start, c);
        let logits = empty((passes * c, vocab), DType::F32, place)?;
        let part = |x: &Tensor, pass: usize| x.narrow(0, pass * c, c);
        for pass in 0..passes {
            let (a, out, transpose) = (&rows(&hidden, pass)?, &part(&logits, pass)?, Transpose::Yes);
            gemm(Product { m: c, n: vocab, k: d, a, b: &head, transpose, c: out, add: false })?;
        }
        let wanted = gradient || head_gradient;
        // What is multiplied once more has the head's format.
        let narrow = wanted && dtype != DType::F32;
        let dlogits = if narrow { empty(logits.shape(), dtype, place)? } else { logits.clone() };
        let (at, rows_of) = (address(&targets)? + 4 * start as u64, address(&parts)? + 12 * start as u64);
        let shape = loss_of(&logits, wanted.then_some(&dlogits), passes, [at, rows_of], weights)?;
        launch(hidden.device(), &shape.launch())?;
        for pass in 0..passes {
            let dlogits = part(&dlogits, pass)?;
            if let Some(grad) = &grad {
                let (out, transpose) = (&rows(grad, pass)?, Transpose::No);
                gemm(Product { m: c, n: d, k: vocab, a: &dlogits, b: &head, transpose, c: out, add: false })?;
            }
            if let Some(sum) = &mut dhead {
                let share = dlogits.to_dtype(DType::F32)?.t()?.matmul(&rows(&hidden, pass)?.to_dtype(DType::F32)?)?;
                *sum = (&*sum + share)?;
            }
        }
    }
    Ok(VocabLossTensors { rows: parts, hidden: grad.map(|grad| grad.to_dtype(given)).transpose()?, head: dhead })
}

/// Logits of all passes and where their gradient goes, `[passes * rows, vocab]`; addresses of targets and of the rows' numbers.
fn loss_of(
    logits: &Tensor,
    grads: Option<&Tensor>,
    passes: usize,
    [targets, parts]: [u64; 2],
    weights: LossWeights,
) -> Result<VocabLoss> {
    let (all, vocab) = logits.dims2()?;
    let rows = all / passes;
    let both = |x: &Tensor| -> Result<[u64; 2]> {
        Ok([address(x)?, if passes == 2 { address(&x.narrow(0, rows, rows)?)? } else { 0 }])
    };
    Ok(VocabLoss {
        format: format(grads.unwrap_or(logits))?,
        logits: both(logits)?,
        grads: grads.map_or(Ok([0, 0]), both)?,
        targets,
        parts,
        rows,
        vocab,
        weights: weights.task.map(|weight| weight as f32),
        smoothing: weights.smoothing as f32,
        consistency: weights.consistency as f32,
        detach: weights.detach,
    })
}

/// The loss of logits that are there whole, and its gradient on them, in one launch; the host does not wait for it.
/// -> the rows `[targets, 3]`, the gradient as the logits
pub(in crate::nn::kernels) fn logits_loss(
    logits: &Tensor,
    targets: &[u32],
    passes: usize,
    weights: LossWeights,
) -> Result<(Tensor, Tensor)> {
    let (n, place, given) = (targets.len(), logits.device(), logits.dtype());
    let logits = logits.to_dtype(DType::F32)?.contiguous()?;
    let targets = Tensor::from_slice(targets, n, place)?;
    let (parts, grad) = (empty((n, 3), DType::F32, place)?, like(&logits)?);
    let shape = loss_of(&logits, Some(&grad), passes, [address(&targets)?, address(&parts)?], weights)?;
    launch(logits.device(), &shape.launch())?;
    Ok((parts, grad.to_dtype(given)?))
}

/// Of each row of logits the log probability of its target and the first of the likeliest tokens, as one list of pairs;
/// probabilities are added to `mixed`, if there is one. Without targets only the largest value's place is looked for.
/// z `[rows, vocab]`, mixed `[rows, vocab]` in f32
pub(in crate::nn::kernels) fn vocab_scores(
    z: &Tensor,
    targets: Option<&[u32]>,
    mixed: Option<&Tensor>,
) -> Result<Vec<f32>> {
    let (rows, vocab) = z.dims2()?;
    let z = z.to_dtype(DType::F32)?.contiguous()?;
    let targets = targets.map(|targets| Tensor::from_slice(targets, targets.len(), z.device())).transpose()?;
    let parts = empty((rows, 2), DType::F32, z.device())?;
    let shape = VocabScore {
        logits: address(&z)?,
        targets: targets.as_ref().map_or(Ok(0), address)?,
        parts: address(&parts)?,
        mixed: mixed.map_or(Ok(0), address)?,
        rows,
        vocab,
    };
    launch(z.device(), &shape.launch())?;
    parts.flatten_all()?.to_vec1()
}

pub(in crate::nn::kernels) fn logits(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    product(&x.to_dtype(w.dtype())?, w, DType::F32)
}

pub(in crate::nn::kernels) fn block_product(
    product: &BlockProduct<'_>,
    segments: &[Segment],
    list: &[u32],
) -> Result<()> {
    let ((_, x_row), (_, out_row)) = (product.x.dims2()?, product.out.dims2()?);
    let (_, rows, rank) = product.weight.dims3()?;
    let (x, weight) = (product.x.contiguous()?, product.weight.contiguous()?);
    let (width, out_width) = (product.x_columns.len(), product.out_columns.len());
    let fits = if product.transposed { (product.rows.len(), rank) } else { (rank, product.rows.len()) };
    if fits != (width, out_width) || product.rows.end > rows || product.x_columns.end > x_row {
        return Err(Error::internal(format!("{product:?} does not fit")));
    }
    let list = list_of(list, &x)?;
    let out = column(product.out, product.out_columns.start)?;
    let shape = Routed {
        formats: [format(&x)?, format(product.out)?],
        x: column(&x, product.x_columns.start)?,
        weight: address(&weight)? + 4 * (product.rows.start * rank) as u64,
        base: if product.add { out } else { 0 },
        out,
        list: list.as_ref().map_or(Ok(0), address)?,
        width,
        out_width,
        transposed: product.transposed,
        window: Some(Window { x_row, out_row, expert: rows * rank, scale: product.scale as f32 }),
        ..Routed::default()
    };
    segments.chunks(SEGMENTS).try_for_each(|some| launch(x.device(), &shape.product(some)))
}

pub(in crate::nn::kernels) fn block_grad(grad: &BlockGrad<'_>, segment: Segment, list: &[u32]) -> Result<()> {
    let ((_, dy_row), (_, x_row), (rows, rank)) = (grad.dy.dims2()?, grad.x.dims2()?, grad.out.dims2()?);
    let (dy, x) = (grad.dy.contiguous()?, grad.x.contiguous()?);
    let (width, out_width) = (grad.x_columns.len(), grad.dy_columns.len());
    if width != rank || grad.row + out_width > rows || grad.out.dtype() != DType::F32 {
        return Err(Error::internal(format!("{grad:?} does not fit")));
    }
    let list = list_of(list, &x)?;
    let chunks = Routed::chunks(segment.len);
    let out = address(grad.out)? + 4 * (grad.row * rank) as u64;
    let parts = if chunks > 1 { Some(empty((chunks, out_width, width), DType::F32, x.device())?) } else { None };
    let shape = Routed {
        formats: [format(&x)?, format(&dy)?],
        x: column(&x, grad.x_columns.start)?,
        base: column(&dy, grad.dy_columns.start)?,
        out: parts.as_ref().map_or(Ok(out), address)?,
        list: list.as_ref().map_or(Ok(0), address)?,
        width,
        out_width,
        window: Some(Window { x_row, out_row: dy_row, expert: 0, scale: grad.scale as f32 }),
        ..Routed::default()
    };
    launch(x.device(), &shape.weight_grad(segment))?;
    match &parts {
        Some(parts) => launch(x.device(), &shape.sum_parts(address(parts)?, out, chunks, out_width * width)),
        None => Ok(()),
    }
}

impl NewTokens<'_> {
    /// Puts keys and values into their rows of the cache and, if asked, attends to the rows of their sequences.
    /// -> `[n, heads * head_dim]`
    pub fn cache(self, attend: bool) -> Result<Option<Tensor>> {
        if self.qkv.device().is_gpu() {
            return gpu::heads::cache(self, attend);
        }
        let NewTokens { qkv, pool, words, counts: HeadCounts { heads, kv_heads, head_dim }, .. } = self;
        let (qkv, (n, columns)) = (qkv.contiguous()?, qkv.dims2()?);
        let fits = columns == (heads + 2 * kv_heads) * head_dim && pool.dim(1)? == 2 * kv_heads * head_dim;
        if !fits || pool.dtype() != qkv.dtype() || words.elem_count() < 3 * n {
            return Err(Error::internal(format!("{self:?} do not fit together")));
        }
        let out = if attend { Some(empty((n, heads * head_dim), qkv.dtype(), qkv.device())?) } else { None };
        let tokens = address(words)?;
        let shape = CachedAttention {
            format: format(&qkv)?,
            qkv: address(&qkv)?,
            pool: address(pool)?,
            tokens,
            rows: tokens + 12 * n as u64,
            out: out.as_ref().map_or(Ok(0), address)?,
            n,
            heads,
            kv_heads,
            head_dim,
        };
        launch(qkv.device(), &shape.store_rows())?;
        if attend {
            launch(qkv.device(), &shape.attend())?;
        }
        Ok(out)
    }
}
