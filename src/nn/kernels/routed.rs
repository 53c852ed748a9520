//! Products that multiply each row of a batch with the matrix of the expert drawn for it.

use super::cuda::plan::Segment;
use super::cuda::requests::RoutedProduct;
use super::cuda::{has_kernels, ops};
use super::device::{if_fast, is_fast, is_fast16, takes_fast};
use super::gemm::{self, Matrix, product, product_add, product_append, product_into};
use super::gpu::on_gpu;
use super::host::{self, HostRef, HostView, Number, StoredRef, Values};
use crate::error::Result;
use crate::tensor::{Device, Tensor};
use half::bf16;
use std::ops::Range;

/// Which rows of a layer's input an expert gets.
#[derive(Clone, Debug, PartialEq)]
pub enum RowSet {
    /// Consecutive rows.
    Range(Range<usize>),
    /// Any rows, ascending.
    List(Vec<u32>),
}

impl RowSet {
    /// Number of rows.
    #[expect(clippy::len_without_is_empty, reason = "a group without rows is never made")]
    pub fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(rows) => rows.len(),
        }
    }

    /// The rows as a tensor of indices. `[rows]`
    pub(super) fn index(&self, device: &Device) -> Result<Tensor> {
        Ok(match self {
            Self::Range(range) => Tensor::arange(range.start as u32, range.end as u32, device)?,
            Self::List(list) => Tensor::new(list.as_slice(), device)?,
        })
    }
}

/// The rows of one expert.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Expert index in the bank.
    pub expert: usize,
    /// Its rows.
    pub rows: RowSet,
}

/// Matrices of one shape, such as the experts of a bank.
#[derive(Clone, Copy)]
pub struct Experts<'a> {
    /// W of all. `[experts, out, in]`
    pub weight: &'a Tensor,
    /// b of all, where they have one. `[experts, out]`
    pub bias: Option<&'a Tensor>,
}

impl Experts<'_> {
    /// `base + x W_eᵀ + b_e` with each row's own expert. x `[n, in]`, base `[n, out]` -> `[n, out]`
    pub fn forward(self, x: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
        self.product(Direction::Forward, x, groups, base)
    }

    /// `base + dy W_e`. dy `[n, out]`, base `[n, in]` -> `[n, in]`
    pub fn backward(self, dy: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
        self.product(Direction::Backward, dy, groups, base)
    }

    /// `acc + dy W_e`, reusing `acc`'s memory where possible. dy `[n, out]`, acc `[n, in]`
    pub fn backward_add(self, dy: &Tensor, groups: &[Group], acc: Tensor) -> Result<Tensor> {
        if takes_fast(dy) {
            if_fast!(&acc, Self::fast_backward_add(self, dy, groups, acc));
        }
        self.product(Direction::Backward, dy, groups, Some(&acc))
    }

    fn fast_backward_add<T: Number>(self, dy: &Tensor, groups: &[Group], acc: Tensor) -> Result<Tensor> {
        let (_, d_out, d_in) = self.weight.dims3()?;
        let (dys, ws) = (StoredRef::of(dy)?, HostRef::of(self.weight)?);
        host::in_place(acc, |acc: &mut [T]| {
            for group in groups {
                let weight = Matrix::rows(&ws[group.expert * d_out * d_in..(group.expert + 1) * d_out * d_in], d_in);
                let dims = [group.rows.len(), d_in, d_out];
                match &group.rows {
                    RowSet::Range(rows) => {
                        let dy = Matrix::rows(dys.values().from(rows.start * d_out), d_out);
                        product_add(dims, dy, weight, &mut acc[rows.start * d_in..rows.end * d_in]);
                    }
                    RowSet::List(list) => {
                        let gathered = gather(dys.values(), list, d_out, 0..d_out);
                        let result: Vec<f32> = product(dims, Matrix::rows(&gathered[..], d_out), weight, None);
                        for (&r, row) in list.iter().zip(result.chunks_exact(d_in)) {
                            let target = &mut acc[r as usize * d_in..(r as usize + 1) * d_in];
                            target.iter_mut().zip(row).for_each(|(o, v)| *o = T::narrow(o.wide() + v));
                        }
                    }
                }
            }
        })
    }

    /// x and base may differ in format; the output has that of `base`, or f32.
    fn product(self, dir: Direction, x: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
        if takes_fast(x) && is_fast(self.weight) {
            match base {
                Some(base) if is_fast16(base) => return self.fast_product::<bf16>(dir, x, groups, Some(base)),
                Some(base) if !is_fast(base) => {}
                base => return self.fast_product::<f32>(dir, x, groups, base),
            }
        }
        on_gpu!(x, experts::routed_product(self, dir == Direction::Backward, x, groups, base));
        if has_kernels(x) {
            let (bias, transposed) = (self.bias.filter(|_| dir == Direction::Forward), dir == Direction::Backward);
            let (segments, list) = segments(groups);
            let product = RoutedProduct { x, weight: self.weight, bias, base, transposed };
            return ops::routed_product(product, &segments, &list);
        }
        let wide = self.weight.dtype();
        if x.dtype() == wide && base.is_none_or(|base| base.dtype() == wide) {
            return self.plain_product(dir, x, groups, base);
        }
        let sum = base.map(|base| base.to_dtype(wide)).transpose()?;
        let out = self.product(dir, &x.to_dtype(wide)?, groups, sum.as_ref())?;
        out.to_dtype(base.map_or(wide, Tensor::dtype))
    }

    fn fast_product<T: Number>(
        self,
        dir: Direction,
        x: &Tensor,
        groups: &[Group],
        base: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (n, width) = x.dims2()?;
        let (_, d_out, d_in) = self.weight.dims3()?;
        let out_width = if dir == Direction::Forward { d_out } else { d_in };
        let (xs, ws) = (StoredRef::of(x)?, HostRef::of(self.weight)?);
        let biases = self.bias.filter(|_| dir == Direction::Forward).map(HostRef::of).transpose()?;
        let base = base.map(HostView::<T>::of).transpose()?;
        let mut out: Vec<T> = Vec::with_capacity(n * out_width);
        for group in groups {
            let weight = &ws[group.expert * d_out * d_in..(group.expert + 1) * d_out * d_in];
            let weight =
                if dir == Direction::Forward { Matrix::cols(weight, d_in) } else { Matrix::rows(weight, d_in) };
            let bias = biases.as_ref().map(|bias| &bias[group.expert * d_out..(group.expert + 1) * d_out]);
            let dims = [group.rows.len(), out_width, width];
            let finish = |row: usize, first: usize, piece: &mut [f32]| {
                if let Some(base) = &base {
                    T::values(base).add_to(row * out_width + first, piece);
                }
                if let Some(bias) = bias {
                    Values::F32(bias).add_to(first, piece);
                }
            };
            match &group.rows {
                RowSet::Range(range) => {
                    let rows = Matrix::rows(xs.values().from(range.start * width), width);
                    let (start, end) = (range.start * out_width, range.end * out_width);
                    let after = |row: usize, first: usize, piece: &mut [f32]| finish(range.start + row, first, piece);
                    if out.len() == start {
                        product_append(dims, rows, weight, &mut out, Some(&after));
                    } else {
                        out.resize(out.len().max(end), T::narrow(0.0));
                        product_into(dims, rows, weight, &mut out[start..end], Some(&after));
                    }
                }
                RowSet::List(list) => {
                    out.resize(n * out_width, T::narrow(0.0));
                    let gathered = gather(xs.values(), list, width, 0..width);
                    let after = |row: usize, first: usize, piece: &mut [f32]| finish(list[row] as usize, first, piece);
                    let result: Vec<T> = product(dims, Matrix::rows(&gathered[..], width), weight, Some(&after));
                    for (&r, row) in list.iter().zip(result.chunks_exact(out_width)) {
                        out[r as usize * out_width..(r as usize + 1) * out_width].copy_from_slice(row);
                    }
                }
            }
        }
        out.resize(n * out_width, T::narrow(0.0));
        host::tensor(out, (n, out_width))
    }

    fn plain_product(self, dir: Direction, x: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
        let (n, _) = x.dims2()?;
        let (_, d_out, d_in) = self.weight.dims3()?;
        let out_width = if dir == Direction::Forward { d_out } else { d_in };
        let mut out = match base {
            Some(base) => base.clone(),
            None => Tensor::zeros((n, out_width), x.dtype(), x.device())?,
        };
        for group in groups {
            let weight = self.weight.narrow(0, group.expert, 1)?.squeeze(0)?;
            let part = rows_of(x, &group.rows)?;
            let part = match dir {
                Direction::Forward => {
                    let part = part.matmul(&weight.t()?)?;
                    match self.bias {
                        Some(bias) => part.broadcast_add(&bias.narrow(0, group.expert, 1)?.squeeze(0)?)?,
                        None => part,
                    }
                }
                Direction::Backward => part.matmul(&weight)?,
            };
            out = out.index_add(&group.rows.index(x.device())?, &part, 0)?;
        }
        Ok(out)
    }
}

/// The gradient of one expert's matrix, and of its bias where it has one.
pub struct ExpertGrad {
    /// Its number in the bank.
    pub expert: usize,
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

/// The gradients of the experts that ran. x `[n, in]`, dy `[n, out]`
pub fn expert_grads(x: &Tensor, dy: &Tensor, groups: &[Group], with_bias: bool) -> Result<Vec<ExpertGrad>> {
    let grad = |group: &Group| {
        let (weight, bias) = one_expert_grads(x, dy, group, with_bias)?;
        Ok(ExpertGrad { expert: group.expert, weight, bias })
    };
    groups.iter().map(grad).collect()
}

fn one_expert_grads(x: &Tensor, dy: &Tensor, group: &Group, with_bias: bool) -> Result<(Tensor, Option<Tensor>)> {
    if has_kernels(dy) {
        let (segments, list) = segments(std::slice::from_ref(group));
        let (dw, db) = ops::routed_grads(dy, x, segments[0], &list)?;
        return Ok((dw, with_bias.then_some(db)));
    }
    let (x, dy) = (rows_of(x, &group.rows)?, rows_of(dy, &group.rows)?);
    let db = if with_bias { Some(gemm::bias_grad(&dy)?) } else { None };
    Ok((gemm::weight_grad(&dy, &x)?, db))
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Forward,
    Backward,
}

/// The rows of one group.
pub(super) fn rows_of(x: &Tensor, rows: &RowSet) -> Result<Tensor> {
    Ok(match rows {
        RowSet::Range(range) => x.narrow(0, range.start, range.len())?,
        RowSet::List(list) => x.index_select(&Tensor::new(list.as_slice(), x.device())?, 0)?,
    })
}

/// Some rows' values of a block of columns in single precision, side by side.
pub(super) fn gather(values: Values<'_>, rows: &[u32], width: usize, columns: Range<usize>) -> Vec<f32> {
    let mut out = vec![0.0f32; rows.len() * columns.len()];
    for (&row, out) in rows.iter().zip(out.chunks_exact_mut(columns.len().max(1))) {
        values.add_to(row as usize * width + columns.start, out);
    }
    out
}

/// Groups as the devices' kernels take them: listed rows of all groups in one list.
pub(super) fn segments(groups: &[Group]) -> (Vec<Segment>, Vec<u32>) {
    let mut all = Vec::new();
    let segment = |group: &Group| {
        let expert = group.expert;
        match &group.rows {
            RowSet::Range(range) => Segment { expert, start: range.start, len: range.len(), listed: false },
            RowSet::List(list) => {
                let start = all.len();
                all.extend_from_slice(list);
                Segment { expert, start, len: list.len(), listed: true }
            }
        }
    };
    let segments = groups.iter().map(segment).collect();
    (segments, all)
}
