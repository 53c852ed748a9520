//! Products of LoRA's B with blocks of columns of a wider matrix: q and v inside one joint q, k, v.
//!
//! B's rows are those of all blocks, one after the other; block i reads the i-th group of `r` columns of z, which are
//! the i-th group of `r` rows of A.

use super::bank::{Bank, Group, RowSet, gather, quick, rows_of, segments};
use crate::error::Result;
use crate::nn::Grads;
use crate::nn::kernels::device::{self, wide};
use crate::nn::kernels::device::{BlockGrad, BlockProduct, block_grads, block_products};
use crate::nn::kernels::gemm::{self, Mat, Precision, Stored, product_block};
use crate::nn::kernels::host::{self, HostRef, Number, StoredRef, Values};
use crate::nn::kernels::{is_fast, is_fast16};
use candle_core::{D, Tensor};
use half::bf16;
use std::ops::Range;

/// The columns of a layer's output that B writes, in the order of B's rows.
pub type Columns = Vec<Range<usize>>;

/// B as it is used: its bank, where its blocks lie in the layer's output, and the factor of the product.
pub struct Up<'a> {
    /// B of all experts. `[experts, sum of widths, r]`
    pub bank: &'a Bank,
    /// Blocks of the layer's outputs.
    pub columns: &'a [Range<usize>],
    /// alpha / r.
    pub scale: f64,
}

/// One block: its columns, the first row in B, and the first column in z.
struct Part {
    columns: Range<usize>,
    row: usize,
    z: usize,
}

impl Up<'_> {
    fn rank(&self) -> Result<usize> {
        Ok(self.bank.weight().dim(2)?)
    }

    fn parts(&self) -> Result<Vec<Part>> {
        let (rank, mut row) = (self.rank()?, 0);
        let part = |(i, columns): (usize, &Range<usize>)| {
            row += columns.len();
            Part { columns: columns.clone(), row: row - columns.len(), z: i * rank }
        };
        Ok(self.columns.iter().enumerate().map(part).collect())
    }

    /// `y[block] += scale * z_i B_iᵀ` in place where possible. z `[n, blocks * r]`, y `[n, columns]`
    pub fn add(&self, z: &Tensor, groups: &[Group], y: Tensor) -> Result<Tensor> {
        if is_fast(z) {
            if is_fast(&y) {
                return self.fast_add::<f32>(z, groups, y);
            } else if is_fast16(&y) {
                return self.fast_add::<bf16>(z, groups, y);
            }
        }
        if device::has_kernels(z) && device::has_kernels(&y) {
            let y = y.contiguous()?;
            let products =
                self.parts()?.into_iter().map(|part| self.block(z, &y, &part, false)).collect::<Result<Vec<_>>>()?;
            let (segments, list) = segments(groups);
            block_products(&products, &segments, &list)?;
            return Ok(y);
        }
        self.plain_add(z, groups, y)
    }

    /// One block's product on a device: `y[block] += scale z_i B_iᵀ`, or back.
    fn block<'b>(&'b self, x: &'b Tensor, out: &'b Tensor, part: &Part, back: bool) -> Result<BlockProduct<'b>> {
        let (inner, outer) = (part.z..part.z + self.rank()?, part.columns.clone());
        let (x_columns, out_columns) = if back { (outer, inner) } else { (inner, outer) };
        let rows = part.row..part.row + part.columns.len();
        let (weight, scale) = (self.bank.weight(), self.scale);
        Ok(BlockProduct { x, x_columns, weight, rows, out, out_columns, transposed: back, add: !back, scale })
    }

    fn fast_add<T: Number>(&self, z: &Tensor, groups: &[Group], y: Tensor) -> Result<Tensor> {
        let ((_, all), (_, z_width), rank) = (y.dims2()?, z.dims2()?, self.rank()?);
        let (zs, ws, parts) = (HostRef::of(z)?, HostRef::of(self.bank.weight())?, self.parts()?);
        let size = self.bank.weight().elem_count() / self.bank.experts();
        host::in_place(y, |y: &mut [T]| {
            for group in groups {
                let b = &ws[group.expert * size..(group.expert + 1) * size];
                for part in &parts {
                    let dims = [group.rows.len(), part.columns.len(), rank];
                    let factor = Mat::cols(&b[part.row * rank..], rank);
                    match &group.rows {
                        RowSet::Range(rows) => {
                            let source = Mat::rows(&zs[rows.start * z_width + part.z..], z_width);
                            let start = rows.start * all + part.columns.start;
                            let block = gemm::Block { start, row: all, add: true };
                            product_block(dims, source, factor, y, block, self.scale as f32, Precision::Single);
                        }
                        RowSet::List(list) => {
                            let source = gather(Values::F32(&zs), list, z_width, part.z..part.z + rank);
                            let result: Vec<f32> = gemm::product(dims, Mat::rows(&source, rank), factor.stored(), None);
                            for (&row, values) in list.iter().zip(result.chunks_exact(part.columns.len())) {
                                let start = row as usize * all + part.columns.start;
                                let target = &mut y[start..start + values.len()];
                                let scale = self.scale as f32;
                                target.iter_mut().zip(values).for_each(|(o, v)| *o = T::narrow(o.wide() + scale * v));
                            }
                        }
                    }
                }
            }
        })
    }

    /// The gradient of z: `dz_i = scale * dy[block] B_i`. dy `[n, columns]` -> `[n, blocks * r]`
    pub fn backward(&self, dy: &Tensor, groups: &[Group]) -> Result<Tensor> {
        if !quick(dy) || !is_fast(self.bank.weight()) {
            if device::has_kernels(dy) {
                let ((n, _), parts) = (dy.dims2()?, self.parts()?);
                let dz = Tensor::zeros((n, parts.len() * self.rank()?), wide(dy.dtype()), dy.device())?;
                let products = parts.iter().map(|part| self.block(dy, &dz, part, true)).collect::<Result<Vec<_>>>()?;
                let (segments, list) = segments(groups);
                block_products(&products, &segments, &list)?;
                return Ok(dz);
            }
            return self.plain_backward(dy, groups);
        }
        let ((n, all), rank) = (dy.dims2()?, self.rank()?);
        let (dys, ws, parts) = (StoredRef::of(dy)?, HostRef::of(self.bank.weight())?, self.parts()?);
        let size = self.bank.weight().elem_count() / self.bank.experts();
        let z_width = parts.len() * rank;
        let mut dz = vec![0.0f32; n * z_width];
        for group in groups {
            let b = &ws[group.expert * size..(group.expert + 1) * size];
            for part in &parts {
                let width = part.columns.len();
                let (dims, factor) = ([group.rows.len(), rank, width], Mat::rows(&b[part.row * rank..], rank));
                let scale = self.scale as f32;
                match &group.rows {
                    RowSet::Range(rows) => {
                        let source = Stored::rows(dys.values().from(rows.start * all + part.columns.start), all);
                        let block = gemm::Block { start: rows.start * z_width + part.z, row: z_width, add: false };
                        product_block(dims, source, factor, &mut dz, block, scale, Precision::Single);
                    }
                    RowSet::List(list) => {
                        let source = gather(dys.values(), list, all, part.columns.clone());
                        let result: Vec<f32> = gemm::product(dims, Mat::rows(&source, width), factor.stored(), None);
                        for (&row, values) in list.iter().zip(result.chunks_exact(rank)) {
                            let start = row as usize * z_width + part.z;
                            let target = &mut dz[start..start + rank];
                            target.iter_mut().zip(values).for_each(|(o, v)| *o = scale * v);
                        }
                    }
                }
            }
        }
        host::tensor(dz, (n, z_width))
    }

    /// Adds the gradients of the experts that ran: `dB_i = scale * dy[block]ᵀ z_i`. z `[n, blocks * r]`, dy `[n, columns]`
    pub fn add_grads(&self, z: &Tensor, dy: &Tensor, groups: &[Group], grads: &mut Grads) -> Result<()> {
        if !self.bank.is_trained() {
            return Ok(());
        }
        if device::has_kernels(dy) && device::has_kernels(z) {
            return self.device_grads(z, dy, groups, grads);
        }
        let wide = self.bank.weight().dtype();
        let dy = &if is_fast16(dy) && is_fast(z) { dy.clone() } else { dy.to_dtype(wide)? };
        let ((_, all), rank) = (dy.dims2()?, self.rank()?);
        for group in groups {
            let (z, dy) = (rows_of(z, &group.rows)?, rows_of(dy, &group.rows)?);
            let total = self.columns.iter().map(Range::len).sum::<usize>();
            let grad = if is_fast16(&dy) {
                self.narrow_grad(&z, &dy, total)?
            } else if is_fast(&dy) {
                let (zs, dys) = (HostRef::of(&z)?, HostRef::of(&dy)?);
                let z_width = self.columns.len() * rank;
                let mut grad = vec![0.0f32; total * rank];
                for part in self.parts()? {
                    let dims = [part.columns.len(), rank, group.rows.len()];
                    let (a, b) = (Mat::cols(&dys[part.columns.start..], all), Mat::rows(&zs[part.z..], z_width));
                    let block = gemm::Block { start: part.row * rank, row: rank, add: false };
                    product_block(dims, a, b, &mut grad, block, self.scale as f32, Precision::Single);
                }
                host::tensor(grad, (total, rank))?
            } else {
                let part = |part: Part| -> Result<Tensor> {
                    let dy = dy.narrow(1, part.columns.start, part.columns.len())?;
                    Ok((dy.t()?.contiguous()?.matmul(&z.narrow(1, part.z, rank)?.contiguous()?)? * self.scale)?)
                };
                Tensor::cat(&self.parts()?.into_iter().map(part).collect::<Result<Vec<_>>>()?, 0)?
            };
            self.bank.add_weight_grad(group.expert, grad, grads)?;
        }
        Ok(())
    }

    /// Of one expert, from a gradient in bf16, which is read row by row: the transpose is computed, from z's columns.
    fn narrow_grad(&self, z: &Tensor, dy: &Tensor, total: usize) -> Result<Tensor> {
        let ((n, all), rank) = (dy.dims2()?, self.rank()?);
        let (zs, dys) = (HostRef::of(z)?, StoredRef::of(dy)?);
        let z_width = self.columns.len() * rank;
        let mut grad = vec![0.0f32; total * rank];
        for part in self.parts()? {
            let width = part.columns.len();
            let (a, b) = (Mat::cols(&zs[part.z..], z_width), Stored::rows(dys.values().from(part.columns.start), all));
            let mut transposed = vec![0.0f32; rank * width];
            let block = gemm::Block { start: 0, row: width, add: false };
            product_block([rank, width, n], a, b, &mut transposed, block, self.scale as f32, Precision::Single);
            for (i, row) in grad[part.row * rank..(part.row + width) * rank].chunks_exact_mut(rank).enumerate() {
                row.iter_mut().enumerate().for_each(|(j, v)| *v = transposed[j * width + i]);
            }
        }
        host::tensor(grad, (total, rank))
    }

    /// [`Up::add_grads`] by a device's kernels.
    fn device_grads(&self, z: &Tensor, dy: &Tensor, groups: &[Group], grads: &mut Grads) -> Result<()> {
        let (rank, total) = (self.rank()?, self.columns.iter().map(Range::len).sum::<usize>());
        for group in groups {
            let (segments, list) = segments(std::slice::from_ref(group));
            let out = Tensor::zeros((total, rank), wide(dy.dtype()), dy.device())?;
            let of = |part: Part| BlockGrad {
                dy,
                dy_columns: part.columns,
                x: z,
                x_columns: part.z..part.z + rank,
                out: &out,
                row: part.row,
                scale: self.scale,
            };
            let blocks: Vec<BlockGrad<'_>> = self.parts()?.into_iter().map(of).collect();
            block_grads(&blocks, segments[0], &list)?;
            self.bank.add_weight_grad(group.expert, out, grads)?;
        }
        Ok(())
    }

    fn factor(&self, group: &Group, part: &Part) -> Result<Tensor> {
        let b = self.bank.weight().narrow(0, group.expert, 1)?.squeeze(0)?;
        Ok(b.narrow(0, part.row, part.columns.len())?)
    }

    fn plain_add(&self, z: &Tensor, groups: &[Group], y: Tensor) -> Result<Tensor> {
        let ((_, all), rank, mut y) = (y.dims2()?, self.rank()?, y);
        for group in groups {
            for part in self.parts()? {
                let z = rows_of(z, &group.rows)?.narrow(1, part.z, rank)?.contiguous()?;
                let delta = (z.matmul(&self.factor(group, &part)?.t()?)? * self.scale)?.to_dtype(y.dtype())?;
                let delta = delta.pad_with_zeros(D::Minus1, part.columns.start, all - part.columns.end)?;
                y = y.index_add(&group.rows.index(z.device())?, &delta.contiguous()?, 0)?;
            }
        }
        Ok(y)
    }

    fn plain_backward(&self, dy: &Tensor, groups: &[Group]) -> Result<Tensor> {
        let dy = &dy.to_dtype(self.bank.weight().dtype())?;
        let ((n, _), rank, parts) = (dy.dims2()?, self.rank()?, self.parts()?);
        let mut dz = Tensor::zeros((n, parts.len() * rank), dy.dtype(), dy.device())?;
        for group in groups {
            let rows = rows_of(dy, &group.rows)?;
            let part = |part: &Part| -> Result<Tensor> {
                let dy = rows.narrow(1, part.columns.start, part.columns.len())?.contiguous()?;
                Ok((dy.matmul(&self.factor(group, part)?)? * self.scale)?)
            };
            let found = Tensor::cat(&parts.iter().map(part).collect::<Result<Vec<_>>>()?, 1)?;
            dz = dz.index_add(&group.rows.index(dy.device())?, &found, 0)?;
        }
        Ok(dz)
    }
}
