//! A bank: all experts of one projection in one tensor, and products that send each row to its expert.

use super::merging;
use super::routing::{Pick, Route, Side};
use crate::error::{Error, Result};
use crate::nn::kernels::cuda::plan::Segment;
use crate::nn::kernels::device::{self, RoutedProduct};
use crate::nn::kernels::gemm::{self, Mat, Stored, product, product_add, product_append, product_into};
use crate::nn::kernels::host::{self, HostRef, HostView, Number, StoredRef, Values};
use crate::nn::kernels::{is_fast, is_fast16};
use crate::nn::{Grads, ParamId, Params};
use candle_core::{Device, Tensor};
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

/// How rows of a layer's input relate to sequences and tokens (rows of one pass; the next pass follows).
#[derive(Clone, Debug)]
pub struct RowMap {
    /// Passes packed one after the other.
    pub passes: usize,
    /// Sequence of each row. `[rows of one pass]`
    pub sequence: Vec<u32>,
    /// Token of each row. `[rows of one pass]`
    pub token: Vec<u32>,
}

impl RowMap {
    /// Every token of every sequence is a row.
    pub fn tokens(offsets: &[usize], passes: usize) -> Self {
        let spans = offsets.windows(2).enumerate();
        let sequence: Vec<u32> = spans.flat_map(|(s, w)| std::iter::repeat_n(s as u32, w[1] - w[0])).collect();
        let token = (0..sequence.len() as u32).collect();
        Self { passes, sequence, token }
    }
    /// Only the first token of each sequence is a row.
    pub fn first_tokens(offsets: &[usize], passes: usize) -> Self {
        let n = offsets.len().saturating_sub(1);
        Self { passes, sequence: (0..n as u32).collect(), token: offsets[..n].iter().map(|&o| o as u32).collect() }
    }
    /// Rows of all passes.
    pub fn rows(&self) -> usize {
        self.sequence.len() * self.passes
    }

    /// The groups of one side under a route: each row exactly once.
    pub fn groups(&self, route: &Route, site: usize, side: Side, experts: usize) -> Result<Vec<Group>> {
        let n = self.sequence.len();
        if route.passes != self.passes {
            return Err(Error::internal(format!("route of {} passes for a batch of {}", route.passes, self.passes)));
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut lists: Vec<Vec<u32>> = vec![Vec::new(); experts];
        for pass in 0..self.passes {
            let (start, index) = match route.pick(pass, site, side) {
                Pick::One(expert) => {
                    push_range(&mut groups, usize::from(*expert), pass * n..(pass + 1) * n);
                    continue;
                }
                Pick::PerExample(picks) => (picks, &self.sequence),
                Pick::PerToken(picks) => (picks, &self.token),
            };
            for (row, &i) in index.iter().enumerate() {
                let expert = start.get(i as usize).map_or(usize::MAX, |&e| usize::from(e));
                let list = lists.get_mut(expert).ok_or_else(|| Error::internal("route does not fit the batch"))?;
                list.push((pass * n + row) as u32);
            }
        }
        let listed = lists.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        groups.extend(listed.map(|(expert, rows)| Group { expert, rows: RowSet::List(rows) }));
        match groups.iter().find(|group| group.expert >= experts) {
            Some(group) => Err(Error::internal(format!("route names expert {} of {experts}", group.expert))),
            None => Ok(groups),
        }
    }

    /// One group with all rows: what a single adapter uses.
    pub fn single(&self) -> Vec<Group> {
        vec![Group { expert: 0, rows: RowSet::Range(0..self.rows()) }]
    }
}

fn push_range(groups: &mut Vec<Group>, expert: usize, rows: Range<usize>) {
    if let Some(Group { expert: last, rows: RowSet::Range(range) }) = groups.last_mut()
        && *last == expert
        && range.end == rows.start
    {
        range.end = rows.end;
        return;
    }
    groups.push(Group { expert, rows: RowSet::Range(rows) });
}

/// All experts of one projection. weight `[experts, out, in]`, bias `[experts, out]` (adapters) or none (LoRA)
#[derive(Clone, Debug)]
pub struct Bank {
    weight: Tensor,
    bias: Option<Tensor>,
    trained: Option<(ParamId, Option<ParamId>)>,
}

impl Bank {
    /// A frozen bank.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        let (experts, d_out, _) = weight.dims3()?;
        if bias.dims() != [experts, d_out] {
            return Err(Error::format(format!("bank bias {:?} does not fit weight {:?}", bias.dims(), weight.dims())));
        }
        Ok(Self { weight, bias: Some(bias), trained: None })
    }

    /// A frozen bank whose projections have no bias.
    pub fn without_bias(weight: Tensor) -> Result<Self> {
        weight.dims3()?;
        Ok(Self { weight, bias: None, trained: None })
    }

    /// Makes it trained; its tensors get the names `{name}.weight` and `{name}.bias`.
    pub fn train(&mut self, name: &str, params: &mut Params) -> Result<()> {
        let weight = params.add_bank(format!("{name}.weight"), &self.weight)?;
        let bias = self.bias.as_ref().map(|bias| params.add_bank(format!("{name}.bias"), bias)).transpose()?;
        self.trained = Some((weight, bias));
        Ok(())
    }

    /// The weighted mean of the experts: one module. Weights `[M]`
    pub fn mean(&self, weights: &[f64]) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| merging::mean(bias, weights)).transpose()?;
        Ok(Self { weight: merging::mean(&self.weight, weights)?, bias, trained: None })
    }

    /// W of all experts. `[experts, out, in]`
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
    /// b of all experts, where they have one. `[experts, out]`
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
    /// Number of experts: 1 when the side is shared.
    pub fn experts(&self) -> usize {
        self.weight.dims()[0]
    }

    /// `base + x W_eᵀ + b_e` with each row's own expert. x `[n, in]`, base `[n, out]` -> `[n, out]`
    pub fn forward(&self, x: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
        routed(self, Direction::Forward, x, groups, base)
    }

    /// `base + dy W_e`. dy `[n, out]`, base `[n, in]` -> `[n, in]`
    pub fn backward(&self, dy: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
        routed(self, Direction::Backward, dy, groups, base)
    }

    /// `acc + dy W_e`, reusing `acc`'s memory where possible. dy `[n, out]`, acc `[n, in]`
    pub fn backward_add(&self, dy: &Tensor, groups: &[Group], acc: Tensor) -> Result<Tensor> {
        if quick(dy) {
            if is_fast(&acc) {
                return self.fast_backward_add::<f32>(dy, groups, acc);
            } else if is_fast16(&acc) {
                return self.fast_backward_add::<bf16>(dy, groups, acc);
            }
        }
        routed(self, Direction::Backward, dy, groups, Some(&acc))
    }

    fn fast_backward_add<T: Number>(&self, dy: &Tensor, groups: &[Group], acc: Tensor) -> Result<Tensor> {
        let (_, d_out, d_in) = self.weight.dims3()?;
        let (dys, ws) = (StoredRef::of(dy)?, HostRef::of(&self.weight)?);
        host::in_place(acc, |acc: &mut [T]| {
            for group in groups {
                let weight = Mat::rows(&ws[group.expert * d_out * d_in..(group.expert + 1) * d_out * d_in], d_in);
                let dims = [group.rows.len(), d_in, d_out];
                match &group.rows {
                    RowSet::Range(rows) => {
                        let dy = Stored::rows(dys.values().from(rows.start * d_out), d_out);
                        product_add(dims, dy, weight.stored(), &mut acc[rows.start * d_in..rows.end * d_in]);
                    }
                    RowSet::List(list) => {
                        let gathered = gather(dys.values(), list, d_out, 0..d_out);
                        let result: Vec<f32> = product(dims, Mat::rows(&gathered, d_out), weight.stored(), None);
                        for (&r, row) in list.iter().zip(result.chunks_exact(d_in)) {
                            let target = &mut acc[r as usize * d_in..(r as usize + 1) * d_in];
                            target.iter_mut().zip(row).for_each(|(o, v)| *o = T::narrow(o.wide() + v));
                        }
                    }
                }
            }
        })
    }

    /// Adds the gradients of the experts that ran. x `[n, in]`, dy `[n, out]`
    pub fn add_grads(&self, x: &Tensor, dy: &Tensor, groups: &[Group], grads: &mut Grads) -> Result<()> {
        let Some((weight, bias)) = self.trained else { return Ok(()) };
        for group in groups {
            if !quick(x) || !quick(dy) {
                let (segments, list) = segments(std::slice::from_ref(group));
                if let Some((dw, db)) = device::routed_grads(dy, x, segments[0], &list)? {
                    grads.add(weight, group.expert, dw)?;
                    if let Some(bias) = bias {
                        grads.add(bias, group.expert, db)?;
                    }
                    continue;
                }
            }
            let (x, dy) = (rows_of(x, &group.rows)?, rows_of(dy, &group.rows)?);
            grads.add(weight, group.expert, gemm::weight_grad(&dy, &x)?)?;
            if let Some(bias) = bias {
                grads.add(bias, group.expert, gemm::bias_grad(&dy)?)?;
            }
        }
        Ok(())
    }

    /// Adds the gradient of one expert's weight that was computed elsewhere. `[out, in]`
    pub fn add_weight_grad(&self, expert: usize, grad: Tensor, grads: &mut Grads) -> Result<()> {
        match self.trained {
            Some((weight, _)) => grads.add(weight, expert, grad),
            None => Ok(()),
        }
    }
    /// Whether its gradient is needed.
    pub fn is_trained(&self) -> bool {
        self.trained.is_some()
    }
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

/// Whether the fast products take it.
pub(super) fn quick(x: &Tensor) -> bool {
    is_fast(x) || is_fast16(x)
}

/// The output has the format of `base`, or f32.
fn routed(bank: &Bank, dir: Direction, x: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
    if quick(x) && is_fast(&bank.weight) {
        match base {
            Some(base) if is_fast16(base) => return fast_routed::<bf16>(bank, dir, x, groups, Some(base)),
            Some(base) if !is_fast(base) => {}
            base => return fast_routed::<f32>(bank, dir, x, groups, base),
        }
    }
    routed_elsewhere(bank, dir, x, groups, base)
}

fn fast_routed<T: Number>(
    bank: &Bank,
    dir: Direction,
    x: &Tensor,
    groups: &[Group],
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let (_, d_out, d_in) = bank.weight.dims3()?;
    let out_width = if dir == Direction::Forward { d_out } else { d_in };
    let (xs, ws) = (StoredRef::of(x)?, HostRef::of(&bank.weight)?);
    let biases = bank.bias.as_ref().filter(|_| dir == Direction::Forward).map(HostRef::of).transpose()?;
    let base = base.map(HostView::<T>::of).transpose()?;
    let mut out: Vec<T> = Vec::with_capacity(n * out_width);
    for group in groups {
        let weight = &ws[group.expert * d_out * d_in..(group.expert + 1) * d_out * d_in];
        let weight = if dir == Direction::Forward { Mat::cols(weight, d_in) } else { Mat::rows(weight, d_in) };
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
                let rows = Stored::rows(xs.values().from(range.start * width), width);
                let (start, end) = (range.start * out_width, range.end * out_width);
                let after = |row: usize, first: usize, piece: &mut [f32]| finish(range.start + row, first, piece);
                if out.len() == start {
                    product_append(dims, rows, weight.stored(), &mut out, Some(&after));
                } else {
                    out.resize(out.len().max(end), T::narrow(0.0));
                    product_into(dims, rows, weight.stored(), &mut out[start..end], Some(&after));
                }
            }
            RowSet::List(list) => {
                out.resize(n * out_width, T::narrow(0.0));
                let gathered = gather(xs.values(), list, width, 0..width);
                let after = |row: usize, first: usize, piece: &mut [f32]| finish(list[row] as usize, first, piece);
                let result: Vec<T> = product(dims, Mat::rows(&gathered, width), weight.stored(), Some(&after));
                for (&r, row) in list.iter().zip(result.chunks_exact(out_width)) {
                    out[r as usize * out_width..(r as usize + 1) * out_width].copy_from_slice(row);
                }
            }
        }
    }
    out.resize(n * out_width, T::narrow(0.0));
    host::tensor(out, (n, out_width))
}

/// [`routed`] on a device, or with 16-bit formats on the CPU: x and base may differ in format, the output has base's.
fn routed_elsewhere(
    bank: &Bank,
    dir: Direction,
    x: &Tensor,
    groups: &[Group],
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let product = RoutedProduct {
        x,
        weight: &bank.weight,
        bias: bank.bias.as_ref().filter(|_| dir == Direction::Forward),
        base,
        transposed: dir == Direction::Backward,
    };
    let (segments, list) = segments(groups);
    if let Some(out) = device::routed_product(product, &segments, &list)? {
        return Ok(out);
    }
    let wide = bank.weight.dtype();
    if x.dtype() == wide && base.is_none_or(|base| base.dtype() == wide) {
        return plain_routed(bank, dir, x, groups, base);
    }
    let sum = base.map(|base| base.to_dtype(wide)).transpose()?;
    let out = routed(bank, dir, &x.to_dtype(wide)?, groups, sum.as_ref())?;
    Ok(out.to_dtype(base.map_or(wide, Tensor::dtype))?)
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

fn plain_routed(bank: &Bank, dir: Direction, x: &Tensor, groups: &[Group], base: Option<&Tensor>) -> Result<Tensor> {
    let (n, _) = x.dims2()?;
    let (_, d_out, d_in) = bank.weight.dims3()?;
    let out_width = if dir == Direction::Forward { d_out } else { d_in };
    let mut out = match base {
        Some(base) => base.clone(),
        None => Tensor::zeros((n, out_width), x.dtype(), x.device())?,
    };
    for group in groups {
        let weight = bank.weight.narrow(0, group.expert, 1)?.squeeze(0)?;
        let part = rows_of(x, &group.rows)?;
        let part = match dir {
            Direction::Forward => {
                let part = part.matmul(&weight.t()?)?;
                match &bank.bias {
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
