//! Products of LoRA's B with blocks of columns of a wider matrix: q and v inside one joint q, k, v.
//!
//! B's rows are those of all blocks, one after the other; block i reads the i-th group of `r` columns of z, which are
//! the i-th group of `r` rows of A.

use super::bottleneck::{Routed, SideGrads};
use super::cuda::requests::{BlockGrad, BlockProduct};
use super::cuda::{has_kernels, lm_ops};
use super::device::{if_fast, is_fast, is_fast16, takes_fast, wide};
use super::gemm::{self, Matrix, Precision, product_block};
use super::gpu;
use super::host::{self, HostRef, Number, StoredRef, Values};
use super::residual;
use super::routed::{ExpertGrad, Experts, Group, RowSet, expert_grads, gather, rows_of, segments};
use super::types::Dropout;
use crate::error::Result;
use crate::tensor::{D, Tensor};
use std::ops::Range;

/// The columns of a layer's output that B writes, in the order of B's rows.
pub type Columns = Vec<Range<usize>>;

/// A LoRA module with each row's own experts: `y[block] += scale B_e,i A_e,i dropout(x)`.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// A of all experts. `[experts, blocks * r, in]`
    pub a: &'a Tensor,
    /// B of all experts. `[experts, sum of widths, r]`
    pub b: &'a Tensor,
    /// Blocks of the layer's outputs, in the order of B's rows.
    pub columns: &'a [Range<usize>],
    /// alpha / r.
    pub scale: f64,
}

impl<'a> LowRank<'a> {
    fn down(self) -> Experts<'a> {
        Experts { weight: self.a, bias: None }
    }
    fn up(self) -> LowRankUp<'a> {
        LowRankUp { weight: self.b, columns: self.columns, scale: self.scale }
    }

    /// The sum, in y's memory where possible, and `z = A dropout(x)`. x `[n, in]`, y `[n, out]` -> y, z `[n, blocks * r]`
    pub fn add(self, x: &Tensor, drop: Dropout, routed: &Routed, y: Tensor) -> Result<(Tensor, Tensor)> {
        if x.device().is_gpu() {
            return gpu::experts::low_rank_add(self, x, drop, routed, y);
        }
        let z = self.down().forward(&drop.apply(x)?, &routed.down, None)?;
        Ok((self.up().add(&z, &routed.up, y)?, z))
    }

    /// Whether the device of `x` makes one product of the layer's own and the module's: [`LowRank::linear`].
    pub fn joins(self, x: &Tensor) -> bool {
        x.device().is_gpu() && self.columns.len() <= gpu::experts::MOST_BLOCKS
    }

    /// The layer's output, `x Wᵀ (+ bias)`, with what the module adds, in one product; and z. Only where [`LowRank::joins`]
    /// says so. x `[n, in]`, w `[out, in]`, bias `[out]` -> y `[n, out]`, z `[n, blocks * r]`
    pub fn linear(
        self,
        x: &Tensor,
        (w, bias): (&Tensor, Option<&Tensor>),
        drop: Dropout,
        routed: &Routed,
    ) -> Result<(Tensor, Tensor)> {
        gpu::experts::low_rank_linear(self, x, (w, bias), drop, routed)
    }

    /// Gradients of the experts that ran; to `dx`, if it is given, that of x is added. x `[n, in]`, z as [`LowRank::add`]
    /// gave it, dy `[n, out]`, dx `[n, in]`
    pub fn backward(
        self,
        [x, z]: [&Tensor; 2],
        drop: Dropout,
        routed: &Routed,
        dy: &Tensor,
        dx: Option<Tensor>,
    ) -> Result<SideGrads> {
        if dy.device().is_gpu() {
            return gpu::experts::low_rank_backward(self, [x, z], drop, routed, dy, dx);
        }
        let up_grad =
            |group: &Group| Ok(ExpertGrad { expert: group.expert, weight: self.up().grad(z, dy, group)?, bias: None });
        let up = routed.up.iter().map(up_grad).collect::<Result<_>>()?;
        let dz = self.up().backward(dy, &routed.up)?;
        let down = expert_grads(&drop.apply(x)?, &dz, &routed.down, false)?;
        let input = match dx {
            None => None,
            Some(dx) if drop.active() => {
                let through = drop.apply(&self.down().backward(&dz, &routed.down, None)?)?;
                Some(residual::accumulate(dx, &through)?)
            }
            Some(dx) => Some(self.down().backward_add(&dz, &routed.down, dx)?),
        };
        Ok(SideGrads { down, up, input })
    }
}

/// B of all experts, where its blocks lie in the layer's output, and the factor of the product.
struct LowRankUp<'a> {
    /// B of all experts. `[experts, sum of widths, r]`
    weight: &'a Tensor,
    /// Blocks of the layer's outputs.
    columns: &'a [Range<usize>],
    /// alpha / r.
    scale: f64,
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
                let factor = if self.back { Matrix::rows(b, rank) } else { Matrix::cols(b, rank) };
                let dims = [group.rows.len(), to.len(), from.len()];
                match &group.rows {
                    RowSet::Range(rows) => {
                        let source = Matrix::rows(x.from(rows.start * x_row + from.start), x_row);
                        let start = rows.start * out_row + to.start;
                        let block = gemm::Block { start, row: out_row, add: !self.back };
                        product_block(dims, source, factor, out, block, scale, Precision::Single);
                    }
                    RowSet::List(list) => {
                        let source = gather(x, list, x_row, from.clone());
                        let source = Matrix::rows(&source[..], from.len());
                        let result: Vec<f32> = gemm::product(dims, source, factor, None);
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
        self.weight.dim(2)
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
    fn add(&self, z: &Tensor, groups: &[Group], y: Tensor) -> Result<Tensor> {
        if is_fast(z) {
            if_fast!(&y, Self::fast_add(self, z, groups, y));
        }
        if has_kernels(z) && has_kernels(&y) {
            let y = y.contiguous()?;
            self.on_device(z, &y, groups, false)?;
            return Ok(y);
        }
        self.plain_add(z, groups, y)
    }

    /// Each block's product on a device: `out[block] += scale x_i B_iᵀ`, or `out_i = scale x[block] B_i`.
    fn on_device(&self, x: &Tensor, out: &Tensor, groups: &[Group], back: bool) -> Result<()> {
        let ((segments, list), rank) = (segments(groups), self.rank()?);
        let (weight, scale) = (self.weight, self.scale);
        self.parts()?.into_iter().try_for_each(|Part { columns, row, z }| {
            let rows = row..row + columns.len();
            let (x_columns, out_columns) = if back { (columns, z..z + rank) } else { (z..z + rank, columns) };
            let product =
                BlockProduct { x, x_columns, weight, rows, out, out_columns, transposed: back, add: !back, scale };
            lm_ops::block_product(&product, &segments, &list)
        })
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
    fn backward(&self, dy: &Tensor, groups: &[Group]) -> Result<Tensor> {
        if !takes_fast(dy) || !is_fast(self.weight) {
            if has_kernels(dy) {
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
    fn grad(&self, z: &Tensor, dy: &Tensor, group: &Group) -> Result<Tensor> {
        if has_kernels(dy) && has_kernels(z) {
            return self.device_grad(z, dy, group);
        }
        let ((_, all), rank) = (dy.dims2()?, self.rank()?);
        let total = self.columns.iter().map(Range::len).sum::<usize>();
        let (z, dy) = (rows_of(z, &group.rows)?, rows_of(dy, &group.rows)?);
        let dy = if is_fast16(&dy) && is_fast(&z) { dy } else { dy.to_dtype(self.weight.dtype())? };
        if takes_fast(&dy) {
            let (zs, dys, z_width) = (HostRef::of(&z)?, StoredRef::of(&dy)?, self.columns.len() * rank);
            let mut grad = Vec::with_capacity(total * rank);
            for part in self.parts()? {
                let dims = [group.rows.len(), part.columns.len(), rank];
                let dy = Matrix::rows(dys.values().from(part.columns.start), all);
                let z = Matrix::rows(&zs[part.z..], z_width);
                grad.extend(gemm::transposed_product(dims, dy, z, self.scale as f32));
            }
            return host::tensor(grad, (total, rank));
        }
        let part = |part: Part| -> Result<Tensor> {
            let dy = dy.narrow(1, part.columns.start, part.columns.len())?;
            dy.t()?.contiguous()?.matmul(&z.narrow(1, part.z, rank)?.contiguous()?)? * self.scale
        };
        Tensor::cat(&self.parts()?.into_iter().map(part).collect::<Result<Vec<_>>>()?, 0)
    }

    /// [`LowRankUp::grad`] by a device's kernels.
    fn device_grad(&self, z: &Tensor, dy: &Tensor, group: &Group) -> Result<Tensor> {
        let (rank, total) = (self.rank()?, self.columns.iter().map(Range::len).sum::<usize>());
        let (segments, list) = segments(std::slice::from_ref(group));
        let out = Tensor::zeros((total, rank), wide(dy.dtype()), dy.device())?;
        self.parts()?.into_iter().try_for_each(|Part { columns, row, z: first }| {
            let (x_columns, out, scale) = (first..first + rank, &out, self.scale);
            let grad = BlockGrad { dy, dy_columns: columns, x: z, x_columns, out, row, scale };
            lm_ops::block_grad(&grad, segments[0], &list)
        })?;
        Ok(out)
    }

    fn factor(&self, group: &Group, part: &Part) -> Result<Tensor> {
        let b = self.weight.narrow(0, group.expert, 1)?.squeeze(0)?;
        b.narrow(0, part.row, part.columns.len())
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
                dy.matmul(&self.factor(group, part)?)? * self.scale
            };
            let found = Tensor::cat(&parts.iter().map(part).collect::<Result<Vec<_>>>()?, 1)?;
            dz = dz.index_add(&group.rows.index(dy.device())?, &found, 0)?;
        }
        Ok(dz)
    }
}
