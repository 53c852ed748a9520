//! The kernels on tensors of a GPU: shapes checked, memory made, launches given.

use super::driver::{address, gemm, launch};
use super::launch::{Launch, Product, Transpose, format_of};
use super::plan::{self, Elementwise, Norm, Piece, Routed, SEGMENTS, Segment};
use super::requests::RoutedProduct;
use crate::error::{Error, Result};
use crate::nn::kernels::types::{Act, Affine, Dropout, Item, Layout, Qkv};
use crate::tensor::{DType, Device, Shape, Tensor};
use parking_lot::Mutex;

/// A contiguous tensor whose address four values of it can be read from at once.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    if address(&x)?.is_multiple_of(16) { Ok(x) } else { Ok(x.force_contiguous()?) }
}

/// Memory for a tensor that a kernel will write whole.
#[expect(unsafe_code, reason = "the caller's kernel writes every element before anything reads one")]
pub(super) fn empty(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: device memory is never read by the host before the kernel that fills it, which is next on the stream.
    Ok(unsafe { candle_core::Tensor::empty(shape, dtype, device.candle()?)? }.into())
}

/// Small tables that many launches share, such as the sequences' places in a batch: kept on the device by content.
pub(super) fn table(device: &Device, words: &[u32]) -> Result<Tensor> {
    const KEPT: usize = 16;
    type Entry = (candle_core::DeviceLocation, Vec<u32>, Tensor);
    static TABLES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
    let location = device.candle()?.location();
    let mut tables = TABLES.lock();
    if let Some(at) = tables.iter().position(|(place, content, _)| *place == location && content == words) {
        let entry = tables.remove(at);
        let tensor = entry.2.clone();
        tables.push(entry);
        return Ok(tensor);
    }
    let tensor = Tensor::from_slice(words, words.len(), device)?;
    if tables.len() >= KEPT {
        tables.remove(0);
    }
    tables.push((location, words.to_vec(), tensor.clone()));
    Ok(tensor)
}

/// Rows that segments list, as a table; none where they list none.
pub(super) fn list_of(list: &[u32], like: &Tensor) -> Result<Option<Tensor>> {
    if list.is_empty() { Ok(None) } else { table(like.device(), list).map(Some) }
}

pub(in crate::nn::kernels) fn format(x: &Tensor) -> Result<u32> {
    format_of(x.dtype()).ok_or_else(|| Error::internal(format!("no GPU kernel takes {:?}", x.dtype())))
}

pub(in crate::nn::kernels) fn like(x: &Tensor) -> Result<Tensor> {
    empty(x.shape(), x.dtype(), x.device())
}

/// What a kernel changes in place: the tensor itself, laid out row after row.
pub(super) fn own(x: Tensor) -> Result<Tensor> {
    if x.is_contiguous() { Ok(x) } else { Ok(x.contiguous()?) }
}

pub(super) fn same(what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() == b.dtype() && a.elem_count() == b.elem_count() {
        return Ok(());
    }
    let (a, b) = ((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    Err(Error::internal(format!("{what} of shapes and formats that differ: {a:?}, {b:?}")))
}

pub(super) fn elementwise(x: &Tensor, y: &Tensor) -> Result<Elementwise> {
    Ok(Elementwise { format: format(x)?, x: address(x)?, y: address(y)?, n: x.elem_count() })
}

pub(in crate::nn::kernels) fn act_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = like(&x)?;
    launch(x.device(), &elementwise(&x, &y)?.act_forward(act))?;
    Ok(y)
}

pub(in crate::nn::kernels) fn act_backward(act: Act, x: &Tensor, dy: Tensor) -> Result<Tensor> {
    let (x, dy) = (x.contiguous()?, own(dy)?);
    same("an activation's gradient", &x, &dy)?;
    launch(x.device(), &elementwise(&x, &dy)?.act_backward(act))?;
    Ok(dy)
}

pub(in crate::nn::kernels) fn dropout(x: &Tensor, drop: Dropout) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = like(&x)?;
    launch(x.device(), &elementwise(&x, &y)?.dropout(drop))?;
    Ok(y)
}

/// `x Wᵀ` of two matrices of one format and as many columns, in `dtype`. x `[n, in]`, w `[out, in]` -> `[n, out]`
pub(super) fn product(x: &Tensor, w: &Tensor, dtype: DType) -> Result<Tensor> {
    let ((n, d_in), (d_out, _)) = (x.dims2()?, w.dims2()?);
    let y = empty((n, d_out), dtype, x.device())?;
    let (a, b, transpose) = (&x.contiguous()?, &w.contiguous()?, Transpose::Yes);
    gemm(Product { m: n, n: d_out, k: d_in, a, b, transpose, c: &y, add: false })?;
    Ok(y)
}

/// Adds the bias to z in place and, with an activation, returns its output.
fn bias_act(z: &Tensor, b: &Tensor, act: Option<Act>) -> Result<Option<Tensor>> {
    let b = b.to_dtype(DType::F32)?.contiguous()?;
    let y = act.map(|_| like(z)).transpose()?;
    let shape =
        Elementwise { format: format(z)?, x: address(z)?, y: y.as_ref().map_or(Ok(0), address)?, n: z.elem_count() };
    launch(z.device(), &shape.bias_act(address(&b)?, b.elem_count(), act))?;
    Ok(y)
}

pub(in crate::nn::kernels) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let z = product(x, &w.to_dtype(x.dtype())?, x.dtype())?;
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
    let z = product(x, &w.to_dtype(x.dtype())?, x.dtype())?;
    let fused = b.map(|b| bias_act(&z, b, Some(act))).transpose()?.flatten();
    let y = fused.map_or_else(|| act_forward(act, &z), Ok)?;
    Ok((z, y))
}

pub(in crate::nn::kernels) fn linear_backward_add(dy: &Tensor, w: &Tensor, acc: Tensor) -> Result<Tensor> {
    let ((n, d_out), (_, d_in)) = (dy.dims2()?, w.dims2()?);
    let acc = own(acc)?;
    let (a, b, transpose) = (&dy.contiguous()?, &w.to_dtype(dy.dtype())?.contiguous()?, Transpose::No);
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
    let (n, d) = x.dims2()?;
    let x = x.contiguous()?;
    let residual = residual.map(|r| r.contiguous()).transpose()?;
    let (gamma, beta) = (norm.gamma.to_dtype(DType::F32)?, norm.beta.to_dtype(DType::F32)?);
    let (y, normalized, rstd) = (like(&x)?, like(&x)?, empty(n, DType::F32, x.device())?);
    let shape = Norm {
        format: format(&x)?,
        x: address(&x)?,
        residual: residual.as_ref().map_or(Ok(0), address)?,
        gamma: address(&gamma)?,
        beta: address(&beta)?,
        y: address(&y)?,
        kept: address(&normalized)?,
        rstd: address(&rstd)?,
        n,
        d,
        eps: norm.eps as f32,
        ..Norm::default()
    };
    launch(x.device(), &shape.layer_forward(drop))?;
    Ok((y, normalized, rstd))
}

/// -> gradient of the sum that was normalised, and of x before its dropout
pub(in crate::nn::kernels) fn layer_norm_backward(
    dy: &Tensor,
    [normalized, rstd]: [&Tensor; 2],
    gamma: &Tensor,
    drop: Dropout,
) -> Result<(Tensor, Tensor)> {
    let (n, d) = dy.dims2()?;
    let (dy, wide_gamma) = (dy.contiguous()?, gamma.to_dtype(DType::F32)?);
    let (sum, x) = (like(&dy)?, like(&dy)?);
    let shape = Norm {
        format: format(&dy)?,
        gamma: address(&wide_gamma)?,
        y: address(&dy)?,
        kept: address(normalized)?,
        rstd: address(rstd)?,
        dsum: address(&sum)?,
        dx: address(&x)?,
        n,
        d,
        ..Norm::default()
    };
    launch(dy.device(), &shape.layer_backward(drop))?;
    Ok((sum, x))
}

/// The address of a column of a matrix's first row.
pub(super) fn column(x: &Tensor, column: usize) -> Result<u64> {
    Ok(address(x)? + (column * x.dtype().size_in_bytes()) as u64)
}

/// Addresses, strides and sequences of an attention, without its outputs.
fn attention(qkv: &Qkv, layout: &Layout, spans: &Tensor) -> Result<plan::Attention> {
    let parts = qkv.parts(layout);
    let [q, k, v] = parts.map(|part| column(part.tensor, part.column));
    Ok(plan::Attention {
        format: format(qkv.tensor())?,
        qkv: [q?, k?, v?],
        strides: [parts[0].columns, parts[1].columns],
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

fn spans(layout: &Layout, like: &Tensor) -> Result<Tensor> {
    let pairs = layout.queries.iter().zip(&layout.keys);
    let words: Vec<u32> = pairs.flat_map(|(q, k)| [q.start, q.len(), k.start, k.len()].map(|v| v as u32)).collect();
    table(like.device(), &words)
}

pub(in crate::nn::kernels) fn attention_forward(qkv: &Qkv, layout: &Layout) -> Result<Tensor> {
    let qkv = qkv.map(aligned)?;
    let spans = spans(layout, qkv.tensor())?;
    let shape = attention(&qkv, layout, &spans)?;
    let out = empty((shape.queries, layout.width()), qkv.tensor().dtype(), qkv.tensor().device())?;
    launch(out.device(), &plan::Attention { out: address(&out)?, ..shape }.forward(layout.drop))?;
    Ok(out)
}

pub(in crate::nn::kernels) fn attention_backward(qkv: &Qkv, layout: &Layout, dy: &Tensor) -> Result<Qkv> {
    let (qkv, dy) = (qkv.map(aligned)?, aligned(dy)?);
    let spans = spans(layout, &dy)?;
    let (shape, grads) = (attention(&qkv, layout, &spans)?, qkv.map(like)?);
    let work = empty((2, layout.heads, shape.queries), DType::F32, dy.device())?;
    let lse = address(&work)?;
    let outputs = attention(&grads, layout, &spans)?;
    let shape = plan::Attention {
        out: address(&dy)?,
        dqkv: outputs.qkv,
        dstrides: outputs.strides,
        work: [lse, lse + 4 * (layout.heads * shape.queries) as u64],
        ..shape
    };
    shape.backward(layout.drop).iter().try_for_each(|step| launch(dy.device(), step))?;
    Ok(grads)
}

pub(in crate::nn::kernels) fn routed_product(
    product: RoutedProduct<'_>,
    segments: &[Segment],
    list: &[u32],
) -> Result<Tensor> {
    let (n, width) = product.x.dims2()?;
    let (_, d_out, d_in) = product.weight.dims3()?;
    let out_width = if product.transposed { d_in } else { d_out };
    let (x, weight) = (product.x.contiguous()?, product.weight.contiguous()?);
    let base = product.base.map(|base| base.contiguous()).transpose()?;
    let bias = product.bias.map(|bias| bias.contiguous()).transpose()?;
    let dtype = base.as_ref().map_or(DType::F32, Tensor::dtype);
    let out = empty((n, out_width), dtype, x.device())?;
    let list = list_of(list, &x)?;
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
    segments.chunks(SEGMENTS).try_for_each(|some| launch(x.device(), &shape.product(some)))?;
    Ok(out)
}

pub(in crate::nn::kernels) fn routed_grads(
    dy: &Tensor,
    x: &Tensor,
    segment: Segment,
    list: &[u32],
) -> Result<(Tensor, Tensor)> {
    let ((_, out_width), (_, width)) = (dy.dims2()?, x.dims2()?);
    let (dy, x) = (dy.contiguous()?, x.contiguous()?);
    let chunks = Routed::chunks(segment.len);
    let parts = empty((chunks, out_width, width), DType::F32, x.device())?;
    let bias_parts = empty((chunks, out_width), DType::F32, x.device())?;
    let list = list_of(list, &x)?;
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
    launch(x.device(), &shape.weight_grad(segment))?;
    if chunks == 1 {
        return Ok((parts.squeeze(0)?, bias_parts.squeeze(0)?));
    }
    let sum = |parts: &Tensor, out: Tensor| -> Result<Tensor> {
        launch(x.device(), &shape.sum_parts(address(parts)?, address(&out)?, chunks, out.elem_count()))?;
        Ok(out)
    };
    let weight = sum(&parts, empty((out_width, width), DType::F32, x.device())?)?;
    let bias = sum(&bias_parts, empty(out_width, DType::F32, x.device())?)?;
    Ok((weight, bias))
}

/// Runs `work` on the table of these pieces, and room for its sums. -> the sums, f64
fn over_pieces(device: &Device, pieces: &[Piece], work: impl FnOnce(plan::Update) -> Vec<Launch>) -> Result<Tensor> {
    let words = Piece::table(pieces);
    let count = Piece::entries(&words);
    let words: Vec<i64> = words.into_iter().map(u64::cast_signed).collect();
    let table = Tensor::from_slice(&words, words.len(), device)?;
    let sums = Tensor::zeros(1 + count, DType::F64, device)?;
    let update = plan::Update { pieces: address(&table)?, out: address(&sums)?, count };
    work(update).iter().try_for_each(|step| launch(device, step))?;
    Ok(sums)
}

fn gradient_piece(g: &Tensor) -> Result<Piece> {
    if g.dtype() != DType::F32 {
        return Err(Error::internal(format!("a gradient in {:?}; trained tensors are f32", g.dtype())));
    }
    Ok(Piece { tensors: [0, 0, 0, address(g)?], len: g.elem_count(), ..Piece::default() })
}

pub(in crate::nn::kernels) fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    let all = tensors.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
    let pieces = all.iter().map(gradient_piece).collect::<Result<Vec<_>>>()?;
    let Some(first) = all.first() else { return Ok(0.0) };
    over_pieces(first.device(), &pieces, |update| update.squares().to_vec())?.get(0)?.to_scalar()
}

pub(in crate::nn::kernels) fn scale_all(tensors: &mut [&mut Tensor], factor: f64) -> Result<()> {
    for tensor in tensors.iter_mut() {
        **tensor = tensor.contiguous()?;
    }
    let pieces = tensors.iter().map(|t| gradient_piece(t)).collect::<Result<Vec<_>>>()?;
    let Some(first) = tensors.first() else { return Ok(()) };
    over_pieces(first.device(), &pieces, |update| vec![update.scale(factor as f32)]).map(|_| ())
}

pub(in crate::nn::kernels) fn adamw(items: &[Item<'_>]) -> Result<()> {
    let Some(first) = items.first() else { return Ok(()) };
    let (betas, eps) = (first.update.betas, first.update.eps);
    let grads = items.iter().map(|item| item.g.map(Tensor::contiguous).transpose());
    let grads = grads.collect::<Result<Vec<_>>>()?;
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
    over_pieces(first.p.device(), &pieces, |update| vec![update.adamw(betas, eps)]).map(|_| ())
}
