//! Rotary positions, normalised heads, gated nonlinearities, and attention to a cache.

use super::{of, operand, single};
use crate::error::{Error, Result};
use crate::gpu::kernels::cached_attention::CachedAttention;
use crate::gpu::kernels::{gated, heads};
use crate::nn::kernels::cuda::requests::NewTokens;
use crate::nn::kernels::types::{Act, HeadCounts, HeadNorm, Heads, Pairing, Rope};
use crate::tensor::{DType, GpuTensor, Tensor};

/// Rotates x in place. angles: cosines and sines, f32 `[2, positions, head_dim / 2]`; positions `[n]`
pub(in crate::nn::kernels) fn rotate(
    x: Tensor,
    of_heads: Heads,
    angles: &Tensor,
    positions: &[u32],
    direction: Rope,
) -> Result<Tensor> {
    let ((rows, columns), from) = (x.dims2()?, of(&x)?);
    let table = from.gpu().table(positions)?;
    let shape = heads::Rotary {
        x: from.operand(),
        table: single("angles", angles)?,
        positions: table.operand(),
        angles: angles.dim(1)?,
        rows,
        columns,
        heads: of_heads.heads,
        head_dim: of_heads.head_dim,
        pairing: match of_heads.pairing {
            Pairing::Halves => heads::Pairing::Halves,
            Pairing::Interleaved => heads::Pairing::Interleaved,
        },
    };
    from.gpu().run([if direction == Rope::Forward { shape.forward() } else { shape.backward() }])?;
    Ok(x)
}

fn norm_of(x: &Tensor, norm: HeadNorm<'_>) -> Result<heads::HeadNorm> {
    let (rows, columns) = x.dims2()?;
    Ok(heads::HeadNorm {
        x: operand(x)?,
        gamma: [single("γ", norm.gamma[0])?, single("γ", norm.gamma[1])?],
        rows,
        columns,
        heads: norm.heads,
        head_dim: norm.gamma[0].elem_count(),
        eps: norm.eps as f32,
    })
}

pub(in crate::nn::kernels) fn norm_forward(x: &Tensor, norm: HeadNorm<'_>) -> Result<Tensor> {
    let y = of(x)?.like()?;
    y.gpu().run([norm_of(x, norm)?.forward(y.operand())])?;
    Ok(y.into())
}

/// In dy's memory
pub(in crate::nn::kernels) fn norm_backward(x: &Tensor, norm: HeadNorm<'_>, dy: Tensor) -> Result<Tensor> {
    of(x)?.gpu().run([norm_of(x, norm)?.backward(operand(&dy)?)])?;
    Ok(dy)
}

pub(in crate::nn::kernels) fn gated_forward(act: Act, x: &Tensor) -> Result<Tensor> {
    let ((rows, both), from) = (x.dims2()?, of(x)?);
    let y = from.gpu().empty((rows, both / 2), x.dtype())?;
    from.gpu().run([gated::forward(act as u32, from.operand(), y.operand(), [rows, both / 2])])?;
    Ok(y.into())
}

/// In x's memory
pub(in crate::nn::kernels) fn gated_backward(act: Act, x: Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, both) = x.dims2()?;
    if dy.dims() != [rows, both / 2] || dy.dtype() != x.dtype() {
        return Err(Error::internal(format!("gate and up of shape {:?} for {:?}", x.dims(), dy.dims())));
    }
    of(dy)?.gpu().run([gated::backward(act as u32, operand(&x)?, operand(dy)?, [rows, both / 2])])?;
    Ok(x)
}

/// Puts keys and values into their rows of the cache and, if asked, attends to the rows of their sequences.
pub(in crate::nn::kernels) fn cache(new: NewTokens<'_>, attend: bool) -> Result<Option<Tensor>> {
    let NewTokens { qkv, pool, words, longest, counts: HeadCounts { heads, kv_heads, head_dim } } = new;
    let ((tokens, columns), from) = (qkv.dims2()?, of(qkv)?);
    let fits = columns == (heads + 2 * kv_heads) * head_dim && pool.dim(1)? == 2 * kv_heads * head_dim;
    if !fits || pool.dtype() != qkv.dtype() || words.elem_count() < 3 * tokens {
        return Err(Error::internal(format!("{new:?} do not fit together")));
    }
    let shape = CachedAttention {
        qkv: from.operand(),
        pool: operand(pool)?,
        words: operand(words)?,
        tokens,
        longest,
        heads,
        kv_heads,
        head_dim,
    };
    from.gpu().run([shape.store()])?;
    if !attend {
        return Ok(None);
    }
    let out = from.gpu().empty((tokens, heads * head_dim), qkv.dtype())?;
    let scratch = match shape.scratch() {
        0 => None,
        values => Some(from.gpu().empty(values, DType::F32)?),
    };
    from.gpu().run(shape.attend(out.operand(), scratch.as_ref().map(GpuTensor::operand)))?;
    Ok(Some(out.into()))
}
