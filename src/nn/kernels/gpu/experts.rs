//! Experts: adapters and LoRA, with each row's own expert.

use super::{linear, mask, of, operand, single};
use crate::error::{Error, Result};
use crate::gpu::Operand;
use crate::gpu::kernels::experts::{self, Direction, Drawn, Runs, Side, Values};
use crate::gpu::kernels::product::{self, Epilogue, LowRankBlock};
use crate::nn::kernels::bottleneck::{Bottleneck, Routed, SideGrads};
use crate::nn::kernels::low_rank::LowRank;
use crate::nn::kernels::routed::{ExpertGrad, Experts, Group, RowSet};
use crate::nn::kernels::types::Dropout;
use crate::tensor::{DType, GpuTensor, Shape, Tensor};

/// Groups of rows as runs: first row and expert, by ascending first row.
fn runs_of(groups: &[Group]) -> Vec<[u32; 2]> {
    let mut rows: Vec<(u32, u32, u32)> = Vec::new();
    for group in groups {
        let expert = group.expert as u32;
        match &group.rows {
            RowSet::Range(range) => rows.push((range.start as u32, range.end as u32, expert)),
            RowSet::List(list) => rows.extend(list.iter().map(|&row| (row, row + 1, expert))),
        }
    }
    rows.sort_unstable();
    let mut runs: Vec<[u32; 2]> = Vec::with_capacity(rows.len());
    for (start, _, expert) in rows {
        if runs.last().is_none_or(|last| last[1] != expert) {
            runs.push([start, expert]);
        }
    }
    runs
}

/// The experts that are drawn, in the order of their groups, and where the gradients of `size` values each begin.
fn drawn_of(groups: &[Group], size: usize, first: usize) -> Vec<Drawn> {
    let mut drawn: Vec<Drawn> = Vec::new();
    for group in groups {
        if drawn.iter().all(|other| other.expert != group.expert) {
            drawn.push(Drawn { expert: group.expert, first: first + drawn.len() * size });
        }
    }
    drawn
}

/// Both sides' runs in one table on the device.
struct Table {
    words: GpuTensor,
    lists: [Vec<[u32; 2]>; 2],
}

impl Table {
    fn new(like: &GpuTensor, routed: &Routed) -> Result<Self> {
        let lists = [runs_of(&routed.down), runs_of(&routed.up)];
        let words: Vec<u32> = lists.iter().flatten().flatten().copied().collect();
        Ok(Self { words: like.gpu().table(&words)?, lists })
    }

    fn down(&self) -> Runs {
        let count = self.lists[0].len();
        Runs { operand: self.words.operand().part(0, 2 * count), count }
    }

    fn up(&self) -> Runs {
        let (first, count) = (2 * self.lists[0].len(), self.lists[1].len());
        Runs { operand: self.words.operand().part(first, 2 * count), count }
    }
}

fn bias(bias: Option<&Tensor>) -> Result<Operand> {
    single("a bias", bias.ok_or_else(|| Error::internal("an adapter's projection without a bias"))?)
}

fn adapter(of_what: Bottleneck<'_>, n: usize, table: &Table) -> Result<experts::Adapter> {
    let (_, r, d) = of_what.down.weight.dims3()?;
    Ok(experts::Adapter {
        n,
        d,
        r,
        act: of_what.act as u32,
        down: single("an adapter", of_what.down.weight)?,
        down_bias: bias(of_what.down.bias)?,
        up: single("an adapter", of_what.up.weight)?,
        up_bias: bias(of_what.up.bias)?,
        down_runs: table.down(),
        up_runs: table.up(),
    })
}

/// The output and z
pub(in crate::nn::kernels) fn adapter_forward(
    bottleneck: Bottleneck<'_>,
    h: &Tensor,
    routed: &Routed,
) -> Result<(Tensor, Tensor)> {
    let (n, _) = h.dims2()?;
    let h = of(h)?;
    let table = Table::new(h, routed)?;
    let kernel = adapter(bottleneck, n, &table)?;
    let (out, z) = (h.like()?, h.gpu().empty((n, kernel.r), DType::F32)?);
    h.gpu().run([kernel.forward(h.operand(), Some(z.operand()), out.operand())])?;
    Ok((out.into(), z.into()))
}

pub(in crate::nn::kernels) fn adapter_backward(
    bottleneck: Bottleneck<'_>,
    [h, z]: [&Tensor; 2],
    dout: &Tensor,
    routed: &Routed,
    below: bool,
) -> Result<SideGrads> {
    let (n, _) = h.dims2()?;
    let (h, z, dout) = (of(h)?, of(z)?, of(dout)?);
    let table = Table::new(h, routed)?;
    let kernel = adapter(bottleneck, n, &table)?;
    let (d, r) = (kernel.d, kernel.r);
    let dz = z.like()?;
    let dh = below.then(|| dout.like()).transpose()?;
    h.gpu().run([kernel.backward(dout.operand(), z.operand(), dz.operand(), dh.as_ref().map(GpuTensor::operand))])?;
    let sides = Sides::new(routed, [[r, d], [d, r]], 1);
    let out = h.gpu().empty(sides.len, DType::F32)?;
    let words = h.gpu().words(&kernel.tables(sides.down(&table), sides.up(&table)))?;
    let values = Values {
        x: h.operand(),
        dy: dout.operand(),
        z: z.operand(),
        dz: dz.operand(),
        table: words.operand(),
        out: out.operand(),
    };
    h.gpu().run([kernel.gradients(values, sides.counts())])?;
    let [down, up] = sides.grads(&out, true)?;
    Ok(SideGrads { down, up, input: dh.map(Tensor::from) })
}

/// A LoRA module on so many rows of x and y.
fn module(of_what: LowRank<'_>, [n, y_row]: [usize; 2], drop: Dropout, table: &Table) -> Result<experts::LowRank> {
    let ((_, _, d_in), (_, _, rank)) = (of_what.a.dims3()?, of_what.b.dims3()?);
    Ok(experts::LowRank {
        n,
        d_in,
        y_row,
        rank,
        columns: of_what.columns.to_vec(),
        scale: of_what.scale as f32,
        mask: mask(drop),
        a: single("LoRA", of_what.a)?,
        b: single("LoRA", of_what.b)?,
        a_runs: table.down(),
        b_runs: table.up(),
    })
}

/// y with what the module adds, in y's memory, and z
pub(in crate::nn::kernels) fn low_rank_add(
    lora: LowRank<'_>,
    x: &Tensor,
    drop: Dropout,
    routed: &Routed,
    y: Tensor,
) -> Result<(Tensor, Tensor)> {
    let (n, y_row) = y.dims2()?;
    let (x, sum) = (of(x)?, of(&y)?);
    let table = Table::new(x, routed)?;
    let kernel = module(lora, [n, y_row], drop, &table)?;
    let z = x.gpu().empty((n, kernel.z_width()), DType::F32)?;
    let launches = [
        experts::low_rank_down(&kernel, x.operand(), z.operand()),
        experts::low_rank_up(&kernel, z.operand(), sum.operand()),
    ];
    x.gpu().run(launches)?;
    Ok((y, z.into()))
}

/// Most blocks of columns that [`low_rank_linear`] takes.
pub(in crate::nn::kernels) const MOST_BLOCKS: usize = product::LowRank::BLOCKS;

/// `x Wᵀ (+ bias)` with what the module adds, in one product, and z
pub(in crate::nn::kernels) fn low_rank_linear(
    lora: LowRank<'_>,
    x: &Tensor,
    (w, bias): (&Tensor, Option<&Tensor>),
    drop: Dropout,
    routed: &Routed,
) -> Result<(Tensor, Tensor)> {
    let ((n, _), (outputs, _)) = (x.dims2()?, w.dims2()?);
    let input = of(x)?;
    let table = Table::new(input, routed)?;
    let kernel = module(lora, [n, outputs], drop, &table)?;
    let z = input.gpu().empty((n, kernel.z_width()), DType::F32)?;
    input.gpu().run([experts::low_rank_down(&kernel, input.operand(), z.operand())])?;
    let mut row = 0;
    let blocks = lora.columns.iter().enumerate().map(|(i, columns)| {
        row += columns.len();
        LowRankBlock { columns: columns.clone(), row: row - columns.len(), z: i * kernel.rank }
    });
    let blocks = blocks.collect();
    let low_rank = product::LowRank {
        z: z.operand(),
        z_row: kernel.z_width(),
        rank: kernel.rank,
        b: kernel.b,
        rows: row,
        blocks,
        runs: kernel.b_runs.operand,
        run_count: kernel.b_runs.count,
        scale: kernel.scale,
    };
    Ok((linear::with(x, w, bias, Epilogue { low_rank: Some(low_rank), ..Epilogue::default() })?, z.into()))
}

pub(in crate::nn::kernels) fn low_rank_backward(
    lora: LowRank<'_>,
    [x, z]: [&Tensor; 2],
    drop: Dropout,
    routed: &Routed,
    dy: &Tensor,
    dx: Option<Tensor>,
) -> Result<SideGrads> {
    let (n, y_row) = dy.dims2()?;
    let (x, z, dy) = (of(x)?, of(z)?, of(dy)?);
    let table = Table::new(x, routed)?;
    let kernel = module(lora, [n, y_row], drop, &table)?;
    let dz = z.like()?;
    x.gpu().run([experts::low_rank_up_back(&kernel, dy.operand(), dz.operand())])?;
    let sides = Sides::new(routed, [[kernel.z_width(), kernel.d_in], [lora.b.dims3()?.1, kernel.rank]], 0);
    let out = x.gpu().empty(sides.len, DType::F32)?;
    let words = x.gpu().words(&kernel.tables(sides.down(&table), sides.up(&table)))?;
    let values = Values {
        x: x.operand(),
        dy: dy.operand(),
        z: z.operand(),
        dz: dz.operand(),
        table: words.operand(),
        out: out.operand(),
    };
    x.gpu().run([experts::low_rank_gradients(&kernel, values, sides.counts())])?;
    if let Some(dx) = &dx {
        x.gpu().run([experts::low_rank_down_back(&kernel, dz.operand(), operand(dx)?)])?;
    }
    let [down, up] = sides.grads(&out, false)?;
    Ok(SideGrads { down, up, input: dx })
}

/// Any other product with each row's own expert: in `base`'s format, or f32
pub(in crate::nn::kernels) fn routed_product(
    of_what: Experts<'_>,
    backward: bool,
    x: &Tensor,
    groups: &[Group],
    base: Option<&Tensor>,
) -> Result<Tensor> {
    let ((_, d_out, d_in), (n, _), from) = (of_what.weight.dims3()?, x.dims2()?, of(x)?);
    let runs = runs_of(groups);
    let words: Vec<u32> = runs.iter().flatten().copied().collect();
    let table = from.gpu().table(&words)?;
    let (direction, width) = if backward { (Direction::Backward, d_in) } else { (Direction::Forward, d_out) };
    let out = from.gpu().empty((n, width), base.map_or(DType::F32, Tensor::dtype))?;
    let kernel = experts::Routed {
        n,
        d_in,
        d_out,
        weight: single("experts", of_what.weight)?,
        bias: of_what.bias.filter(|_| !backward).map(|bias| single("a bias", bias)).transpose()?,
        runs: Runs { operand: table.operand(), count: runs.len() },
    };
    let base = base.map(operand).transpose()?;
    from.gpu().run([experts::routed_product(&kernel, direction, from.operand(), base, out.operand())])?;
    Ok(out.into())
}

/// Both sides' drawn experts, and the memory of their gradients.
struct Sides {
    drawn: [Vec<Drawn>; 2],
    /// Rows and columns of each side's matrices.
    shapes: [[usize; 2]; 2],
    /// Values of all gradients.
    len: usize,
}

impl Sides {
    /// `biases`: 1 where a bias follows each matrix, of as many values as that has rows; else 0.
    fn new(routed: &Routed, shapes: [[usize; 2]; 2], biases: usize) -> Self {
        let size = |[rows, columns]: [usize; 2]| rows * (columns + biases);
        let down = drawn_of(&routed.down, size(shapes[0]), 0);
        let middle = down.len() * size(shapes[0]);
        let up = drawn_of(&routed.up, size(shapes[1]), middle);
        let len = middle + up.len() * size(shapes[1]);
        Self { drawn: [down, up], shapes, len }
    }

    fn down<'a>(&'a self, table: &'a Table) -> Side<'a> {
        Side { runs: &table.lists[0], drawn: &self.drawn[0] }
    }
    fn up<'a>(&'a self, table: &'a Table) -> Side<'a> {
        Side { runs: &table.lists[1], drawn: &self.drawn[1] }
    }
    fn counts(&self) -> [usize; 2] {
        [self.drawn[0].len(), self.drawn[1].len()]
    }

    fn grads(&self, all: &GpuTensor, with_bias: bool) -> Result<[Vec<ExpertGrad>; 2]> {
        let side = |i: usize| {
            self.drawn[i].iter().map(|&drawn| grad_of(all, drawn, self.shapes[i], with_bias)).collect::<Result<_>>()
        };
        Ok([side(0)?, side(1)?])
    }
}

/// An expert's part of the gradients' memory.
fn grad_of(all: &GpuTensor, drawn: Drawn, [rows, columns]: [usize; 2], with_bias: bool) -> Result<ExpertGrad> {
    let (size, Drawn { expert, first }) = (rows * columns, drawn);
    let weight = all.narrow(0, first, size)?.reshape(Shape::from((rows, columns)))?;
    let bias = if with_bias { Some(all.narrow(0, first + size, rows)?.into()) } else { None };
    Ok(ExpertGrad { expert, weight: weight.into(), bias })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_become_runs_of_rows() {
        let range = |expert, range| Group { expert, rows: RowSet::Range(range) };
        assert_eq!(runs_of(&[range(2, 0..5), range(0, 5..9)]), [[0, 2], [5, 0]]);
        assert_eq!(runs_of(&[range(1, 0..4), range(1, 4..8)]), [[0, 1]], "neighbours of one expert are one run");
        let list = |expert, rows: &[u32]| Group { expert, rows: RowSet::List(rows.to_vec()) };
        let groups = [range(3, 0..2), list(0, &[2, 3, 6]), list(1, &[4, 5])];
        assert_eq!(runs_of(&groups), [[0, 3], [2, 0], [4, 1], [6, 0]]);
        let drawn = drawn_of(&[range(1, 0..4), range(0, 4..5), range(1, 5..8)], 10, 100);
        assert_eq!(drawn, [Drawn { expert: 1, first: 100 }, Drawn { expert: 0, first: 110 }]);
    }
}
