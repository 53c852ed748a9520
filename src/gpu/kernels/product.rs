//! Matrix products with what follows them: bias, low-rank term, slope, sum, nonlinearity. A product becomes one launch, or
//! several where it is too large for a binding or would hold the device too long.

mod cooperative;
mod kernel;
mod tile;

pub use cooperative::{Cooperative, CooperativeTile, CooperativeUnit};
pub use tile::Tile;

use super::quantised::Blocks;
use crate::gpu::{AdapterKind, Facts, Launch, Operand};
use kernel::Part;
use std::ops::Range;

/// Which of the operands is transposed. The sums always run over k; `out` is [m, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// a [m, k], b [n, k]: x Wᵀ
    Nt,
    /// a [m, k], b [k, n]: dy W
    Nn,
    /// a [k, m], b [k, n]: dyᵀ x
    Tn,
}

/// What is done to the sums before they are stored, in this order: times `scale`, + `bias`, + `low_rank`, times the slope of
/// a nonlinearity, + `add`; then they are stored, and a nonlinearity of what was stored is stored too.
#[derive(Clone, Debug)]
pub struct Epilogue {
    /// What the sums are multiplied with.
    pub scale: f32,
    /// `[n]` in f32.
    pub bias: Option<Operand>,
    /// A low-rank matrix beside b, one of several by row.
    pub low_rank: Option<LowRank>,
    /// The nonlinearity whose slope at z the sums are multiplied with; z [m, n] in any format.
    pub slope: Option<(u32, Operand)>,
    /// [m, n] in any format; may be the product's `out`.
    pub add: Option<Operand>,
    /// The nonlinearity, and where its values go: [m, n] in the format of `out`.
    pub act: Option<(u32, Operand)>,
}

impl Default for Epilogue {
    fn default() -> Self {
        Self { scale: 1.0, bias: None, low_rank: None, slope: None, add: None, act: None }
    }
}

/// `scale z Bᵀ`, with the B of the expert that a row is routed to, for blocks of the columns of `out`.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// [m, z_row] in f32.
    pub z: Operand,
    /// Values from one row of z to the next.
    pub z_row: usize,
    /// Columns of B.
    pub rank: usize,
    /// All experts' B: [experts, rows, rank] in f32.
    pub b: Operand,
    /// Rows of the B of one expert.
    pub rows: usize,
    /// Which columns of `out` it is added to; at most [`LowRank::BLOCKS`] that do not overlap.
    pub blocks: Vec<LowRankBlock>,
    /// [run_count, 2] in u32: first row and expert of each run of rows, by ascending first row, the first of which is 0.
    pub runs: Operand,
    /// How many runs there are.
    pub run_count: usize,
    /// What the term is multiplied with.
    pub scale: f32,
}

impl LowRank {
    /// Most blocks of columns.
    pub const BLOCKS: usize = 3;
}

/// Columns of `out` that a low-rank term is added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowRankBlock {
    /// The columns of `out`.
    pub columns: Range<usize>,
    /// The row of B that belongs to the first of them.
    pub row: usize,
    /// The first of the `rank` columns of z.
    pub z: usize,
}

/// `out = epilogue(a b)`
#[derive(Clone, Debug)]
pub struct Product {
    /// How a and b lie.
    pub form: Form,
    /// Rows of `out`.
    pub m: usize,
    /// Columns of `out`.
    pub n: usize,
    /// Length of the sums. 0: they are zero, a and b are not touched.
    pub k: usize,
    /// [m, k] or [k, m] in any format.
    pub a: Operand,
    /// [n, k] or [k, n] in any format; the words of a packed matrix if `packed` tells so.
    pub b: Operand,
    /// How b is packed, in one piece. Its rows are those of a matrix `[n, k]` or `[k, n]`; not of the form [`Form::Tn`].
    pub packed: Option<Blocks>,
    /// [m, n] in any format.
    pub out: Operand,
    /// Values from one row to the next of a, of b (packed: before they were), and of `out` and all that lies like it.
    pub rows: [usize; 3],
    /// What is done to the sums.
    pub epilogue: Epilogue,
    /// Memory in f32 for partial sums, of at least [`Product::scratch`] values; it is written. Without it, or with less, a
    /// product of long sums and few values runs on a part of the device.
    pub scratch: Option<Operand>,
}

/// How products are run on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductPlan {
    /// The tile that large products are fastest with.
    pub tile: Tile,
    /// Whether other tiles may be taken for shapes that they suit better.
    pub fit: bool,
    /// Largest operand of a launch, in bytes. Must hold one row of each operand, two of a packed one.
    pub max_binding: u64,
    /// FLOP/s that the device is known to reach.
    pub rate: f64,
    /// Seconds that one launch may last.
    pub budget: f64,
    /// How products run with cooperative matrices, where a test found that the device computes them rightly.
    pub cooperative: Option<Cooperative>,
}

impl ProductPlan {
    /// What suits most adapters of this kind.
    pub fn of(facts: &Facts) -> Self {
        // A desktop that the device draws waits for a launch to end.
        let (tile, rate, budget) = match facts.kind {
            AdapterKind::Discrete => (Tile::LARGE, 5e12, 0.03),
            AdapterKind::Virtual => (Tile::LARGE, 2e12, 0.03),
            AdapterKind::Integrated => (Tile::MEDIUM, 4e11, 0.008),
            AdapterKind::Software => (Tile::SMALL, 2e9, 0.5),
        };
        Self { tile, fit: true, max_binding: facts.max_binding, rate, budget, cooperative: None }
    }

    /// Floating-point operations of one launch at most, so that the device draws the desktop in between.
    pub fn most_flops(&self) -> f64 {
        self.budget * self.rate
    }

    /// Bytes of the largest operand: a binding starts at a multiple of 256 before it. Kernels count values in 32 bits.
    fn limit(&self) -> u64 {
        self.max_binding.min(1 << 32).saturating_sub(512)
    }
}

/// Rows and columns of a piece are multiples of this where nothing forces them to be fewer: of every tile.
const UNIT: usize = 128;
/// Rows or columns of a piece at most: in the smallest tiles, what a grid holds.
const MOST: usize = 1 << 19;

/// The largest step up to `most` that is a multiple of a unit, if there is one.
fn step(count: usize, most: usize, unit: usize) -> usize {
    match most {
        _ if most >= count => count,
        _ if most >= unit => most / unit * unit,
        _ => most.max(1),
    }
}

fn ranges(count: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(step.max(1)).map(move |start| start..count.min(start + step))
}

/// A part of rows that lie `row` values apart.
fn window(operand: Operand, row: usize, rows: &Range<usize>, columns: &Range<usize>) -> Operand {
    let len = match rows.len() {
        0 => 0,
        count => (count - 1) * row + columns.len(),
    };
    operand.part(rows.start * row + columns.start, len)
}

impl Product {
    /// A product of packed rows, without anything that follows.
    pub fn new(form: Form, [m, n, k]: [usize; 3], a: Operand, b: Operand, out: Operand) -> Self {
        let rows = match form {
            Form::Nt => [k, k, n],
            Form::Nn => [k, n, n],
            Form::Tn => [m, n, n],
        };
        Self { form, m, n, k, a, b, packed: None, out, rows, epilogue: Epilogue::default(), scratch: None }
    }

    /// Values of f32 that [`Product::scratch`](Self#structfield.scratch) should hold; 0: none are of use.
    pub fn scratch(&self, plan: &ProductPlan) -> usize {
        if self.m == 0 || self.n == 0 || self.piece(plan) != [self.m, self.n, self.k] || kernel::is_few(self) {
            return 0;
        }
        match kernel::choose(self, plan, true) {
            (_, slices) if slices > 1 && kernel::fits_scratch(self, slices, plan) => slices * self.m * self.n,
            _ => 0,
        }
    }

    /// The launches that compute it, in order.
    pub fn launches(&self, plan: &ProductPlan) -> Vec<Launch> {
        if self.m == 0 || self.n == 0 {
            return Vec::new();
        }
        let [rows, columns, depth] = self.piece(plan);
        let whole = [rows, columns, depth] == self.shape();
        let mut launches = Vec::new();
        for columns in ranges(self.n, columns) {
            for rows in ranges(self.m, rows) {
                let mut start = 0;
                loop {
                    let end = self.k.min(start + depth);
                    let part = self.part(rows.clone(), columns.clone(), start..end);
                    part.launches(plan, self.scratch.filter(|_| whole), &mut launches);
                    if end == self.k {
                        break;
                    }
                    start = end;
                }
            }
        }
        launches
    }

    fn shape(&self) -> [usize; 3] {
        [self.m, self.n, self.k]
    }

    /// Rows, columns and k of the pieces it is cut into.
    fn piece(&self, plan: &ProductPlan) -> [usize; 3] {
        let held = |operand: Operand, row: usize, width: usize| {
            let values = (plan.limit() / operand.format.bytes()) as usize;
            values.saturating_sub(width) / row.max(1) + 1
        };
        let Self { m, n, k, form, a, b, packed, out, rows: [a_row, b_row, row], epilogue, .. } = self;
        let (mut m, mut n, mut k) = (*m, *n, *k);
        let held_b = |width: usize| match packed {
            Some(blocks) => blocks.rows_in(plan.limit(), *b_row),
            None => held(*b, *b_row, width),
        };
        match form {
            Form::Nt => n = step(n, held_b(k), UNIT),
            Form::Nn => k = step(k, held_b(n), UNIT),
            Form::Tn => k = step(k, held_b(n).min(held(*a, *a_row, m)), UNIT),
        }
        let like_out = [epilogue.add, epilogue.slope.map(|(_, z)| z), epilogue.act.map(|(_, y)| y), Some(*out)];
        let mut most = like_out.into_iter().flatten().map(|operand| held(operand, *row, n)).min().unwrap_or(MOST);
        if *form != Form::Tn {
            most = most.min(held(*a, *a_row, k));
        }
        if let Some(low_rank) = &epilogue.low_rank {
            most = most.min(held(low_rank.z, low_rank.z_row, low_rank.z_row));
        }
        let flops = plan.most_flops() / (2.0 * k.max(1) as f64);
        // Columns of a packed b are cut between its blocks.
        let unit = packed.map_or(UNIT, |blocks| UNIT.max(blocks.values()));
        n = step(n, MOST.min(unit.max((flops / m.clamp(1, UNIT) as f64) as usize)), unit);
        m = step(m, most.min(MOST).min(UNIT.max((flops / n.max(1) as f64) as usize)), UNIT);
        [m, n, k]
    }

    /// A part of b, which starts with a word of its own if b is packed.
    fn window_of_b(&self, rows: &Range<usize>, columns: &Range<usize>) -> Operand {
        let (b, row) = (self.b, self.rows[1]);
        let Some(blocks) = self.packed else { return window(b, row, rows, columns) };
        let values = match rows.len() {
            0 => 0,
            count => (count - 1) * row + columns.len(),
        };
        b.part(blocks.words(rows.start * row + columns.start), blocks.words(values))
    }

    /// The product of some rows and columns over some k, as its own product. What follows is linear up to the last sum, so
    /// each part of the sums is stored with its slope on top of those before.
    fn part(&self, rows: Range<usize>, columns: Range<usize>, k: Range<usize>) -> Part {
        let [a_row, _, row] = self.rows;
        let (a, b) = match self.form {
            _ if self.k == 0 => (self.a, self.b),
            Form::Nt => (window(self.a, a_row, &rows, &k), self.window_of_b(&columns, &k)),
            Form::Nn => (window(self.a, a_row, &rows, &k), self.window_of_b(&k, &columns)),
            Form::Tn => (window(self.a, a_row, &k, &rows), self.window_of_b(&k, &columns)),
        };
        let like_out = |operand| window(operand, row, &rows, &columns);
        let (first, last) = (k.start == 0, k.end == self.k);
        let whole = &self.epilogue;
        let epilogue = Epilogue {
            scale: whole.scale,
            bias: whole.bias.filter(|_| last).map(|bias| bias.part(columns.start, columns.len())),
            low_rank: whole.low_rank.as_ref().filter(|_| last).and_then(|low_rank| low_rank.part(&rows, &columns)),
            slope: whole.slope.map(|(act, z)| (act, like_out(z))),
            add: if first { whole.add.map(like_out) } else { Some(like_out(self.out)) },
            act: whole.act.filter(|_| last).map(|(act, y)| (act, like_out(y))),
        };
        let (m, n) = (rows.len(), columns.len());
        let product = Self { m, n, k: k.len(), a, b, out: like_out(self.out), epilogue, scratch: None, ..*self };
        Part { product, first_row: rows.start }
    }
}

impl LowRank {
    /// Its part in some rows and columns; `None` if there is none.
    fn part(&self, rows: &Range<usize>, columns: &Range<usize>) -> Option<Self> {
        let block = |block: &LowRankBlock| {
            let (start, end) = (block.columns.start.max(columns.start), block.columns.end.min(columns.end));
            let row = block.row + start - block.columns.start;
            (start < end).then(|| LowRankBlock { columns: start - columns.start..end - columns.start, row, z: block.z })
        };
        let blocks: Vec<_> = self.blocks.iter().filter_map(block).collect();
        debug_assert!(blocks.len() <= Self::BLOCKS, "{} blocks of a low-rank term", blocks.len());
        if blocks.is_empty() || self.rank == 0 || self.run_count == 0 {
            return None;
        }
        let used = blocks.iter().map(|block| block.z + self.rank).max().unwrap_or(0);
        Some(Self { z: window(self.z, self.z_row, rows, &(0..used)), blocks, ..self.clone() })
    }
}
