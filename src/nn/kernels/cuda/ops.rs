//! The kernels on tensors of a GPU: shapes checked, memory made, launches given.

use super::driver::{Product, Transpose, address, aligned, empty, failed, gemm, gpu, launch, table};
use super::launch::{Launch, format_of};
use super::plan::{self, Elementwise, LayerNorm, Piece, Routed, SEGMENTS, Segment};
use super::requests::RoutedProduct;
use crate::error::{Error, Result};
use crate::nn::kernels::types::{Act, Affine, Dropout, Item, Layout, Qkv};
use candle_core::cuda_backend::cudarc::driver::DevicePtr as _;
use candle_core::{DType, Tensor};

pub(in crate::nn::kernels) fn format(x: &Tensor) -> Result<u32> {
    format_of(x.dtype()).ok_or_else(|| Error::internal(format!("no GPU kernel takes {:?}", x.dtype())))
}

pub(in crate::nn::kernels) fn dims2(x: &Tensor) -> Result<(usize, usize)> {
    x.dims2().map_err(|_| Error::internal(format!("a matrix is needed, got shape {:?}", x.dims())))
}

pub(in crate::nn::kernels) fn like(x: &Tensor) -> Result<Tensor> {
    empty(x.shape(), x.dtype(), x.device())
}

/// What a kernel changes in place: the tensor itself, laid out row after row.
pub(in crate::nn::kernels) fn own(x: Tensor) -> Result<Tensor> {
    if x.is_contiguous() { Ok(x) } else { Ok(x.contiguous()?) }
}

fn elementwise(x: &Tensor, y: &Tensor) -> Result<Elementwise> {
    Ok(Elementwise { format: format(x)?, x: address(x)?, y: address(y)?, n: x.elem_count() })
}

pub(in crate::nn::kernels) fn act_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = like(&x)?;
    launch(&gpu(&x)?, &elementwise(&x, &y)?.act_forward(act))?;
    Ok(y)
}

pub(in crate::nn::kernels) fn act_backward(act: Act, x: &Tensor, dy: Tensor) -> Result<Tensor> {
    let (x, dy) = (x.contiguous()?, own(dy)?);
    if x.dtype() != dy.dtype() || x.elem_count() != dy.elem_count() {
        return Err(Error::internal("an activation's input and gradient differ in shape or format"));
    }
    launch(&gpu(&x)?, &elementwise(&x, &dy)?.act_backward(act))?;
    Ok(dy)
}

pub(in crate::nn::kernels) fn dropout(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = like(&x)?;
    launch(&gpu(&x)?, &elementwise(&x, &y)?.dropout(drop))?;
    Ok(y)
}

/// A weight in the format of what it is multiplied with.
fn like_format(w: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(w.to_dtype(x.dtype())?.contiguous()?)
}

fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ((n, d_in), (d_out, w_in)) = (dims2(x)?, dims2(w)?);
    if d_in != w_in {
        return Err(Error::internal(format!("linear input has {d_in} columns, its weight {w_in}")));
    }
    let (y, w) = (empty((n, d_out), x.dtype(), x.device())?, like_format(w, x)?);
    let (a, transpose) = (&x.contiguous()?, Transpose::Yes);
    gemm(Product { m: n, n: d_out, k: d_in, a, b: &w, transpose, c: &y, add: false })?;
    Ok(y)
}

/// Adds the bias to z in place and, with an activation, returns its output.
fn bias_act(z: &Tensor, b: &Tensor, act: Option<Act>) -> Result<Option<Tensor>> {
    let b = b.to_dtype(DType::F32)?.contiguous()?;
    let y = act.map(|_| like(z)).transpose()?;
    let shape =
        Elementwise { format: format(z)?, x: address(z)?, y: y.as_ref().map_or(Ok(0), address)?, n: z.elem_count() };
    launch(&gpu(z)?, &shape.bias_act(address(&b)?, b.elem_count(), act))?;
    Ok(y)
}

pub(in crate::nn::kernels) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let z = product(x, w)?;
    if let Some(b) = b {
        bias_act(&z, b, None)?;
    }
    Ok(z)
}

pub(in crate::nn::kernels) fn linear_act(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    act: Act,
) -> Result<(Tensor, Tensor)> {
    let z = product(x, w)?;
    let y = match b {
        Some(b) => bias_act(&z, b, Some(act))?,
        None => Some(act_forward(act, &z)?),
    };
    let y = y.ok_or_else(|| Error::internal("an activation without output"))?;
    Ok((z, y))
}

pub(in crate::nn::kernels) fn linear_backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dims2(dy)?, dims2(w)?);
    let acc = own(acc)?;
    let (a, b, transpose) = (&dy.contiguous()?, &like_format(w, dy)?, Transpose::No);
    gemm(Product { m: n, n: d_in, k: d_out, a, b, transpose, c: &acc, add: true })?;
    Ok(acc)
}

/// -> output, normalised values, 1/σ of each row
pub(in crate::nn::kernels) fn layer_norm_forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    drop: Dropout,
    norm: Affine<'_>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, d) = dims2(x)?;
    let x = x.contiguous()?;
    let residual = residual.map(|r| r.contiguous()).transpose()?;
    let (gamma, beta) = (norm.gamma.to_dtype(DType::F32)?, norm.beta.to_dtype(DType::F32)?);
    let (y, normalized, rstd) = (like(&x)?, like(&x)?, empty(n, DType::F32, x.device())?);
    let shape = LayerNorm {
        format: format(&x)?,
        x: address(&x)?,
        residual: residual.as_ref().map_or(Ok(0), address)?,
        gamma: address(&gamma)?,
        beta: address(&beta)?,
        y: address(&y)?,
        normalized: address(&normalized)?,
        rstd: address(&rstd)?,
        n,
        d,
        eps: norm.eps as f32,
    };
    launch(&gpu(&x)?, &shape.forward(drop))?;
    Ok((y, normalized, rstd))
}

/// -> gradient of the sum that was normalised, and of x before its dropout
pub(in crate::nn::kernels) fn layer_norm_backward(
    dy: &Tensor,
    [normalized, rstd]: [&Tensor; 2],
    gamma: &Tensor,
    drop: Dropout,
) -> Result<(Tensor, Tensor)> {
    let (n, d) = dims2(dy)?;
    let (dy, wide_gamma) = (dy.contiguous()?, gamma.to_dtype(DType::F32)?);
    let (sum, x) = (like(&dy)?, like(&dy)?);
    let shape = LayerNorm {
        format: format(&dy)?,
        x: address(&dy)?,
        residual: address(&x)?,
        gamma: address(&wide_gamma)?,
        y: address(&sum)?,
        normalized: address(normalized)?,
        rstd: address(rstd)?,
        n,
        d,
        ..LayerNorm::default()
    };
    launch(&gpu(&dy)?, &shape.backward(drop))?;
    Ok((sum, x))
}

/// Addresses, strides and sequences of an attention, without its outputs.
fn attention(qkv: &Qkv, layout: &Layout, parts: &[Tensor], spans: &Tensor) -> Result<plan::Attention> {
    let [q, k, v] = qkv.parts(layout);
    let size = q.tensor.dtype().size_in_bytes();
    let (first, last) = (address(&parts[0])?, address(parts.last().unwrap_or(&parts[0]))?);
    let at = |base: u64, column: usize| base + (column * size) as u64;
    Ok(plan::Attention {
        format: format(q.tensor)?,
        qkv: [at(first, q.column), at(last, k.column), at(last, v.column)],
        strides: [q.columns, k.columns],
        spans: address(spans)?,
        sequences: layout.queries.len(),
        queries: layout.queries.last().map_or(0, |r| r.end),
        longest: [&layout.queries, &layout.keys].map(|all| all.iter().map(|r| r.len()).max().unwrap_or(0)),
        heads: layout.heads,
        kv_heads: layout.kv_heads,
        head_dim: layout.head_dim,
        causal: layout.causal,
        ..plan::Attention::default()
    })
}

fn parts_of(qkv: &Qkv) -> Result<Vec<Tensor>> {
    match qkv {
        Qkv::Joint(t) => Ok(vec![aligned(t)?]),
        Qkv::Split(q, kv) => Ok(vec![aligned(q)?, aligned(kv)?]),
    }
}

fn spans(layout: &Layout, like: &Tensor) -> Result<Tensor> {
    let pairs = layout.queries.iter().zip(&layout.keys);
    let words: Vec<u32> = pairs.flat_map(|(q, k)| [q.start, q.len(), k.start, k.len()].map(|v| v as u32)).collect();
    table(like.device(), &words)
}

pub(in crate::nn::kernels) fn attention_forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    let parts = parts_of(qkv)?;
    let spans = spans(layout, &parts[0])?;
    let shape = attention(qkv, layout, &parts, &spans)?;
    let out = empty((shape.queries, layout.width()), parts[0].dtype(), parts[0].device())?;
    launch(&gpu(&out)?, &plan::Attention { out: address(&out)?, ..shape }.forward(layout.drop))?;
    Ok(out)
}

pub(in crate::nn::kernels) fn attention_backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    let (parts, dy) = (parts_of(qkv)?, aligned(dy)?);
    let spans = spans(layout, &dy)?;
    let shape = attention(qkv, layout, &parts, &spans)?;
    let grads = parts.iter().map(like).collect::<Result<Vec<_>>>()?;
    let work = empty((2, layout.heads, shape.queries), DType::F32, dy.device())?;
    let lse = address(&work)?;
    let outputs = attention(qkv, layout, &grads, &spans)?;
    let shape = plan::Attention {
        out: address(&dy)?,
        dqkv: outputs.qkv,
        dstrides: outputs.strides,
        work: [lse, lse + 4 * (layout.heads * shape.queries) as u64],
        ..shape
    };
    for step in shape.backward(layout.drop) {
        launch(&gpu(&dy)?, &step)?;
    }
    let mut grads = grads.into_iter();
    match (qkv, grads.next(), grads.next()) {
        (Qkv::Joint(_), Some(joint), _) => Ok(Qkv::Joint(joint)),
        (Qkv::Split(..), Some(q), Some(kv)) => Ok(Qkv::Split(q, kv)),
        _ => Err(Error::internal("an attention without gradients")),
    }
}

pub(in crate::nn::kernels) fn routed_product(
    product: RoutedProduct<'_>,
    segments: &[Segment],
    list: &[u32],
) -> Result<Tensor> {
    let (n, width) = dims2(product.x)?;
    let (_, d_out, d_in) = product.weight.dims3()?;
    let out_width = if product.transposed { d_in } else { d_out };
    let (x, weight) = (product.x.contiguous()?, product.weight.contiguous()?);
    let base = product.base.map(|base| base.contiguous()).transpose()?;
    let bias = product.bias.map(|bias| bias.contiguous()).transpose()?;
    let dtype = base.as_ref().map_or(DType::F32, Tensor::dtype);
    let out = empty((n, out_width), dtype, x.device())?;
    let list = if list.is_empty() { None } else { Some(table(x.device(), list)?) };
    let shape = Routed {
        formats: [format(&x)?, format(&out)?],
        x: address(&x)?,
        weight: address(&weight)?,
        bias: bias.as_ref().map_or(Ok(0), address)?,
        base: base.as_ref().map_or(Ok(0), address)?,
        out: address(&out)?,
        list: list.as_ref().map_or(Ok(0), address)?,
        out_bias: 0,
        width,
        out_width,
        transposed: product.transposed,
        window: None,
    };
    let gpu = gpu(&x)?;
    for some in segments.chunks(SEGMENTS) {
        launch(&gpu, &shape.product(some))?;
    }
    Ok(out)
}

pub(in crate::nn::kernels) fn routed_grads(
    dy: &Tensor,
    x: &Tensor,
    segment: Segment,
    list: &[u32],
) -> Result<(Tensor, Tensor)> {
    let ((_, out_width), (_, width)) = (dims2(dy)?, dims2(x)?);
    let (dy, x) = (dy.contiguous()?, x.contiguous()?);
    let chunks = Routed::chunks(segment.len);
    let parts = empty((chunks, out_width, width), DType::F32, x.device())?;
    let bias_parts = empty((chunks, out_width), DType::F32, x.device())?;
    let list = if segment.listed { Some(table(x.device(), list)?) } else { None };
    let shape = Routed {
        formats: [format(&x)?, format(&dy)?],
        x: address(&x)?,
        base: address(&dy)?,
        out: address(&parts)?,
        out_bias: address(&bias_parts)?,
        list: list.as_ref().map_or(Ok(0), address)?,
        width,
        out_width,
        ..Routed::default()
    };
    let gpu = gpu(&x)?;
    launch(&gpu, &shape.weight_grad(segment))?;
    if chunks == 1 {
        return Ok((parts.squeeze(0)?, bias_parts.squeeze(0)?));
    }
    let sum = |parts: &Tensor, out: Tensor| -> Result<Tensor> {
        launch(&gpu, &shape.sum_parts(address(parts)?, address(&out)?, chunks, out.elem_count()))?;
        Ok(out)
    };
    let weight = sum(&parts, empty((out_width, width), DType::F32, x.device())?)?;
    let bias = sum(&bias_parts, empty(out_width, DType::F32, x.device())?)?;
    Ok((weight, bias))
}

/// Runs `work` on the table of these pieces, and room for its sums.
fn over_pieces(like: &Tensor, pieces: &[Piece], work: impl FnOnce(plan::Update) -> Vec<Launch>) -> Result<f64> {
    let words = Piece::table(pieces);
    let count = Piece::entries(&words);
    let gpu = gpu(like)?;
    let what = "the optimizer's table";
    let stream = gpu.cuda_stream();
    let table = gpu.clone_htod(&words).map_err(|err| failed(what, &err))?;
    let sums = gpu.alloc_zeros::<f64>(1 + count).map_err(|err| failed(what, &err))?;
    let update = plan::Update { pieces: table.device_ptr(&stream).0, out: sums.device_ptr(&stream).0, count };
    let launches = work(update);
    for step in &launches {
        launch(&gpu, step)?;
    }
    if launches.len() < 2 {
        return Ok(0.0);
    }
    let first = gpu.clone_dtoh(&sums.slice(0..1)).map_err(|err| failed("reading the gradient's norm", &err))?;
    Ok(first.first().copied().unwrap_or(0.0))
}

fn gradient_piece(g: &Tensor) -> Result<Piece> {
    if g.dtype() != DType::F32 {
        return Err(Error::internal(format!("a gradient in {:?}; trained tensors are f32", g.dtype())));
    }
    Ok(Piece { tensors: [0, 0, 0, address(g)?], len: g.elem_count(), ..Piece::default() })
}

pub(in crate::nn::kernels) fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    let all = tensors.iter().map(|t| t.contiguous()).collect::<candle_core::Result<Vec<_>>>()?;
    let pieces = all.iter().map(gradient_piece).collect::<Result<Vec<_>>>()?;
    match all.first() {
        Some(first) => over_pieces(first, &pieces, |update| update.squares().to_vec()),
        None => Ok(0.0),
    }
}

pub(in crate::nn::kernels) fn scale_all(tensors: &mut [&mut Tensor], factor: f64) -> Result<()> {
    for tensor in tensors.iter_mut() {
        **tensor = tensor.contiguous()?;
    }
    let pieces = tensors.iter().map(|t| gradient_piece(t)).collect::<Result<Vec<_>>>()?;
    let Some(first) = tensors.first() else { return Ok(()) };
    over_pieces(first, &pieces, |update| vec![update.scale(factor as f32)]).map(|_| ())
}

pub(in crate::nn::kernels) fn adamw(items: &[Item<'_>]) -> Result<()> {
    let Some(first) = items.first() else { return Ok(()) };
    let (betas, eps) = (first.update.betas, first.update.eps);
    let mut grads = Vec::new();
    for item in items {
        grads.push(item.g.map(|g| g.contiguous()).transpose()?);
    }
    let mut pieces = Vec::new();
    for (item, g) in items.iter().zip(&grads) {
        if item.p.dtype() != DType::F32 {
            return Err(Error::internal(format!("a trained tensor in {:?}; they are f32", item.p.dtype())));
        }
        let u = item.update;
        let (c1, c2) = u.corrections();
        pieces.push(Piece {
            tensors: [address(item.p)?, address(item.m)?, address(item.v)?, g.as_ref().map_or(Ok(0), address)?],
            len: item.p.elem_count(),
            keep: (1.0 - u.lr * u.weight_decay) as f32,
            step: (u.lr / c1) as f32,
            inv_c2: (1.0 / c2.sqrt()) as f32,
        });
    }
    over_pieces(first.p, &pieces, |update| vec![update.adamw(betas, eps)]).map(|_| ())
}
