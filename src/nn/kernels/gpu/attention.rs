//! Attention over packed sequences and to a cache, rotary positions, normalised heads.

use super::{mask, of, operand};
use crate::error::{Error, Result};
use crate::gpu::kernels::attention::{Attention, Pair, Part, Span, Tiling};
use crate::nn::kernels::types::{Layout, Qkv, QkvPart};
use crate::tensor::{DType, GpuTensor, Tensor};

/// Where the sequences are, as the kernels take it.
struct Plan {
    tiling: Tiling,
    words: GpuTensor,
}

impl Plan {
    fn new(layout: &Layout, like: &GpuTensor) -> Result<Self> {
        let span = |(q, k): (&std::ops::Range<usize>, &std::ops::Range<usize>)| Span {
            first_query: q.start,
            queries: q.len(),
            first_key: k.start,
            keys: k.len(),
        };
        let spans: Vec<Span> = layout.queries.iter().zip(&layout.keys).map(span).collect();
        let (tiling, words) = Tiling::new(&spans, layout.head_dim, layout.causal)?;
        Ok(Self { tiling, words: like.gpu().table(&words)? })
    }

    fn attention(&self, qkv: &Qkv, layout: &Layout) -> Result<Attention> {
        let (q, kv) = parts(qkv, layout)?;
        Ok(Attention {
            q,
            kv,
            tiling: self.tiling,
            tiles: self.words.operand(),
            heads: layout.heads,
            kv_heads: layout.kv_heads,
            mask: mask(layout.drop),
        })
    }
}

/// The columns of the queries, and of keys and values.
fn parts(qkv: &Qkv, layout: &Layout) -> Result<(Part, Pair)> {
    let [q, k, v] = qkv.parts(layout);
    for QkvPart { tensor, columns, .. } in [q, k, v] {
        if tensor.dims2()?.1 != columns {
            let shape = tensor.dims();
            return Err(Error::internal(format!("attention operand of shape {shape:?} should have {columns} columns")));
        }
    }
    let queries = Part { operand: operand(q.tensor)?, column: q.column, row: q.columns };
    Ok((queries, Pair { operand: operand(k.tensor)?, columns: [k.column, v.column], row: k.columns }))
}

/// The output `[queries, heads * head_dim]`, and the log-sum-exp of each row of scores, f32 `[heads, queries]`
pub(in crate::nn::kernels) fn forward(qkv: &Qkv, layout: &Layout) -> Result<(Tensor, Tensor)> {
    layout.check()?;
    let from = of(qkv.tensor())?;
    let plan = Plan::new(layout, from)?;
    let queries = plan.tiling.queries();
    let out = from.gpu().empty((queries, layout.heads * layout.head_dim), from.dtype())?;
    let lse = from.gpu().empty((layout.heads, queries), DType::F32)?;
    let most = from.gpu().plan().most_flops();
    from.gpu().run(plan.attention(qkv, layout)?.forward(out.operand(), Some(lse.operand()), most))?;
    Ok((out.into(), lse.into()))
}

/// Gradients of q, k and v in the shape they came in. out, dy `[queries, heads * head_dim]`, lse as [`forward`] gave it
pub(in crate::nn::kernels) fn backward(
    qkv: &Qkv,
    layout: &Layout,
    [out, lse]: [&Tensor; 2],
    dy: &Tensor,
) -> Result<Qkv> {
    layout.check()?;
    let from = of(qkv.tensor())?;
    let plan = Plan::new(layout, from)?;
    let grads = qkv.map(|part| Ok(of(part)?.like()?.into()))?;
    let delta = of(lse)?.like()?;
    let (dq, dkv) = parts(&grads, layout)?;
    let of_outputs = [operand(out)?, operand(dy)?];
    let (most, sums) = (from.gpu().plan().most_flops(), [operand(lse)?, delta.operand()]);
    let launches = plan.attention(qkv, layout)?.backward(of_outputs, sums, dq, dkv, most);
    from.gpu().run(launches)?;
    Ok(grads)
}
