//! Products of LoRA's B with blocks of columns of a wider matrix: q and v inside one joint q, k, v.
//!
//! B's rows are those of all blocks, one after the other; block i reads the i-th group of `r` columns of z, which are
//! the i-th group of `r` rows of A.

use super::device::{self, BlockGrad, BlockProduct, block_grads, block_products, is_fast, is_fast16, takes_fast, wide};
use super::gemm::{self, Mat, Precision, Stored, product_block};
use super::host::{self, HostRef, Number, StoredRef, Values};
use super::routed::{Group, RowSet, gather, rows_of, segments};
use crate::error::Result;
use candle_core::{D, Tensor};
use half::bf16;
use std::ops::Range;

/// The columns of a layer's output that B writes, in the order of B's rows.
pub type Columns = Vec<Range<usize>>;

/// B of all experts, where its blocks lie in the layer's output, and the factor of the product.
pub struct LowRankUp<'a> {
    /// B of all experts. `[experts, sum of widths, r]`
    pub weight: &'a Tensor,
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

/// All blocks' products on the CPU: `out[block] += scale * x_i B_iᵀ`, or `out_i = scale * x[block] B_i`.
struct HostProducts<'a> {
    scale: f32,
    weight: HostRef<'a>,
    /// Values of one expert's B.
    size: usize,
    parts: Vec<Part>,
    rank: usize,
    /// The second of these: the backward direction.
    back: bool,
}

impl HostProducts<'_> {
    /// x `[n, x_row]`, out `[n, out_row]`
    fn run<T: Number>(&self, x: Values<'_>, x_row: usize, groups: &[Group], out: &mut [T], out_row: usize) {
        let (scale, rank) = (self.scale, self.rank);
        for group in groups {
            let b = &self.weight[group.expert * self.size..(group.expert + 1) * self.size];
            for part in &self.parts {
                let (inner, outer, b) = (part.z..part.z + rank, part.columns.clone(), &b[part.row * rank..]);
                let (from, to) = if self.back { (outer, inner) } else { (inner, outer) };
                let factor = if self.back { Mat::rows(b, rank) } else { Mat::cols(b, rank) };
                let dims = [group.rows.len(), to.len(), from.len()];
                match &group.rows {
                    RowSet::Range(rows) => {
                        let source = Stored::rows(x.from(rows.start * x_row + from.start), x_row);
                        let start = rows.start * out_row + to.start;
                        let block = gemm::Block { start, row: out_row, add: !self.back };
                        product_block(dims, source, factor, out, block, scale, Precision::Single);
                    }
                    RowSet::List(list) => {
                        let source = gather(x, list, x_row, from.clone());
                        let source = Mat::rows(&source[..], from.len());
                        let result: Vec<f32> = gemm::product(dims, source, factor.stored(), None);
                        for (&row, values) in list.iter().zip(result.chunks_exact(to.len())) {
                            let start = row as usize * out_row + to.start;
                            for (o, v) in out[start..start + to.len()].iter_mut().zip(values) {
                                *o = T::narrow(if self.back { scale * v } else { o.wide() + scale * v });
                            }
                        }
                    }
                }
            }
        }
    }
}

impl LowRankUp<'_> {
    fn rank(&self) -> Result<usize> {
        Ok(self.weight.dim(2)?)
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
            self.on_device(z, &y, groups, false)?;
            return Ok(y);
        }
        self.plain_add(z, groups, y)
    }

    fn on_device(&self, x: &Tensor, out: &Tensor, groups: &[Group], back: bool) -> Result<()> {
        let parts = self.parts()?;
        let products = parts.iter().map(|part| self.block(x, out, part, back)).collect::<Result<Vec<_>>>()?;
        let (segments, list) = segments(groups);
        block_products(&products, &segments, &list)
    }

    /// One block's product on a device: `y[block] += scale z_i B_iᵀ`, or back.
    fn block<'b>(&'b self, x: &'b Tensor, out: &'b Tensor, part: &Part, back: bool) -> Result<BlockProduct<'b>> {
        let (inner, outer) = (part.z..part.z + self.rank()?, part.columns.clone());
        let (x_columns, out_columns) = if back { (outer, inner) } else { (inner, outer) };
        let rows = part.row..part.row + part.columns.len();
        let (weight, scale) = (self.weight, self.scale);
        Ok(BlockProduct { x, x_columns, weight, rows, out, out_columns, transposed: back, add: !back, scale })
    }

    fn fast_add<T: Number>(&self, z: &Tensor, groups: &[Group], y: Tensor) -> Result<Tensor> {
        let ((_, all), (_, z_width), zs) = (y.dims2()?, z.dims2()?, HostRef::of(z)?);
        let products = self.on_host(false)?;
        host::in_place(y, |y: &mut [T]| products.run(Values::F32(&zs), z_width, groups, y, all))
    }

    fn on_host(&self, back: bool) -> Result<HostProducts<'_>> {
        let (weight, parts, rank) = (HostRef::of(self.weight)?, self.parts()?, self.rank()?);
        let size = weight.len() / self.weight.dim(0)?;
        Ok(HostProducts { scale: self.scale as f32, weight, size, parts, rank, back })
    }

    /// The gradient of z: `dz_i = scale * dy[block] B_i`. dy `[n, columns]` -> `[n, blocks * r]`
    pub fn backward(&self, dy: &Tensor, groups: &[Group]) -> Result<Tensor> {
        if !takes_fast(dy) || !is_fast(self.weight) {
            if device::has_kernels(dy) {
                let width = self.columns.len() * self.rank()?;
                let dz = Tensor::zeros((dy.dim(0)?, width), wide(dy.dtype()), dy.device())?;
                self.on_device(dy, &dz, groups, true)?;
                return Ok(dz);
            }
            return self.plain_backward(dy, groups);
        }
        let ((n, all), dys, products) = (dy.dims2()?, StoredRef::of(dy)?, self.on_host(true)?);
        let z_width = products.parts.len() * products.rank;
        let mut dz = vec![0.0f32; n * z_width];
        products.run(dys.values(), all, groups, &mut dz, z_width);
        host::tensor(dz, (n, z_width))
    }

    /// The gradient of one expert's B: `dB_i = scale * dy[block]ᵀ z_i`. z `[n, blocks * r]`, dy `[n, columns]` ->
    /// `[sum of widths, r]`
    pub fn grad(&self, z: &Tensor, dy: &Tensor, group: &Group) -> Result<Tensor> {
        if device::has_kernels(dy) && device::has_kernels(z) {
            return self.device_grad(z, dy, group);
        }
        let ((_, all), rank) = (dy.dims2()?, self.rank()?);
        let total = self.columns.iter().map(Range::len).sum::<usize>();
        let (z, dy) = (rows_of(z, &group.rows)?, rows_of(dy, &group.rows)?);
        if is_fast16(&dy) && is_fast(&z) {
            return self.narrow_grad(&z, &dy, total);
        }
        let dy = dy.to_dtype(self.weight.dtype())?;
        if is_fast(&dy) {
            let (zs, dys) = (HostRef::of(&z)?, HostRef::of(&dy)?);
            let z_width = self.columns.len() * rank;
            let mut grad = vec![0.0f32; total * rank];
            for part in self.parts()? {
                let dims = [part.columns.len(), rank, group.rows.len()];
                let (a, b) = (Mat::cols(&dys[part.columns.start..], all), Mat::rows(&zs[part.z..], z_width));
                let block = gemm::Block { start: part.row * rank, row: rank, add: false };
                product_block(dims, a, b, &mut grad, block, self.scale as f32, Precision::Single);
            }
            return host::tensor(grad, (total, rank));
        }
        let part = |part: Part| -> Result<Tensor> {
            let dy = dy.narrow(1, part.columns.start, part.columns.len())?;
            Ok((dy.t()?.contiguous()?.matmul(&z.narrow(1, part.z, rank)?.contiguous()?)? * self.scale)?)
        };
        Ok(Tensor::cat(&self.parts()?.into_iter().map(part).collect::<Result<Vec<_>>>()?, 0)?)
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

    /// [`LowRankUp::grad`] by a device's kernels.
    fn device_grad(&self, z: &Tensor, dy: &Tensor, group: &Group) -> Result<Tensor> {
        let (rank, total) = (self.rank()?, self.columns.iter().map(Range::len).sum::<usize>());
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
        Ok(out)
    }

    fn factor(&self, group: &Group, part: &Part) -> Result<Tensor> {
        let b = self.weight.narrow(0, group.expert, 1)?.squeeze(0)?;
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
        let dy = &dy.to_dtype(self.weight.dtype())?;
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
