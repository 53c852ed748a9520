//! The optimizer: gradient norm, scaling, AdamW over all trained tensors at once.

use super::{of, single};
use crate::error::{Error, Result};
use crate::gpu::Address;
use crate::gpu::kernels::update::{self, Group, Piece};
use crate::nn::kernels::types::Item;
use crate::tensor::{DType, Gpu, GpuTensor, Tensor};

/// A gradient alone.
fn gradient(g: &Tensor) -> Result<Piece> {
    let g = single("a gradient", g)?;
    let (p, len) = (g.address, g.len as usize);
    Ok(Piece { p, m: p, v: p, g: Some(p), len, keep: 1.0, step: 0.0, inv_c2: 1.0 })
}

/// Groups of pieces with their tables on the device.
fn tables(gpu: &Gpu, pieces: &[Piece]) -> Result<Vec<(Group, GpuTensor)>> {
    let groups = update::groups(pieces, gpu.backend().facts().max_binding);
    let with_table = |group: Group| {
        let table = gpu.words(&group.table())?;
        Ok((group, table))
    };
    groups.into_iter().map(with_table).collect()
}

/// The sum of all squares, which the GPU may still be computing. `[1]`
pub(in crate::nn::kernels) fn squares(tensors: &[&Tensor]) -> Result<Tensor> {
    let first = tensors.first().ok_or_else(|| Error::internal("the norm of no gradients on a GPU"))?;
    let gpu = of(first)?.gpu();
    let pieces = tensors.iter().map(|tensor| gradient(tensor)).collect::<Result<Vec<_>>>()?;
    let tables = tables(gpu, &pieces)?;
    let entries = tables.iter().map(|(group, _)| group.entries()).sum::<usize>();
    let (parts, out) = (gpu.empty(entries, DType::F32)?, gpu.empty(1, DType::F32)?);
    let mut at = 0;
    for (group, table) in &tables {
        gpu.run([group.squares(table.operand(), parts.operand().part(at, group.entries()))])?;
        at += group.entries();
    }
    gpu.run([update::squares_total(parts.operand(), out.operand())])?;
    Ok(out.into())
}

/// Every tensor times a factor, in place
pub(in crate::nn::kernels) fn scale_all(tensors: &[&mut Tensor], factor: f64) -> Result<()> {
    let Some(first) = tensors.first() else { return Ok(()) };
    let gpu = of(first)?.gpu();
    let pieces = tensors.iter().map(|tensor| gradient(tensor)).collect::<Result<Vec<_>>>()?;
    tables(gpu, &pieces)?.iter().try_for_each(|(group, table)| gpu.run([group.scale(table.operand(), factor as f32)]))
}

/// One update of all items, which share β and ε
pub(in crate::nn::kernels) fn adamw(items: &[Item<'_>]) -> Result<()> {
    let Some(first) = items.first() else { return Ok(()) };
    let gpu = of(first.p)?.gpu();
    let piece = |item: &Item<'_>| {
        let u = item.update;
        let place = |tensor: &Tensor| -> Result<Address> { Ok(single("a trained tensor", tensor)?.address) };
        let (c1, c2) = u.corrections();
        Ok(Piece {
            p: place(item.p)?,
            m: place(item.m)?,
            v: place(item.v)?,
            g: item.g.map(place).transpose()?,
            len: item.p.elem_count(),
            keep: (1.0 - u.lr * u.weight_decay) as f32,
            step: (u.lr / c1) as f32,
            inv_c2: (1.0 / c2.sqrt()) as f32,
        })
    };
    let pieces = items.iter().map(piece).collect::<Result<Vec<_>>>()?;
    let numbers = update::AdamW { betas: first.update.betas, eps: first.update.eps };
    tables(gpu, &pieces)?.iter().try_for_each(|(group, table)| gpu.run([group.adamw(table.operand(), numbers)]))
}
