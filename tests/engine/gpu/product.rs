//! Matrix products against sums in double precision: forms, formats, tiles, tails, windows, pieces, and what follows the sums.

use super::elementwise::{slope, value};
use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::product::{Form, LowRank, LowRankBlock, Product, ProductPlan, Tile};
use adamix::gpu::kernels::tuning;
use adamix::gpu::{AdapterKind, Address, Backend, Format, Launch, Operand};

pub(super) const FORMS: [Form; 3] = [Form::Nt, Form::Nn, Form::Tn];
const TINY: Tile = Tile::SMALL;

/// A matrix in a larger array: `first` values before it, `gap` behind each row.
struct Matrix {
    array: Array,
    values: Vec<f64>,
    all: Vec<f64>,
    first: usize,
    row: usize,
    shape: [usize; 2],
}

impl Matrix {
    fn new(device: &dyn Backend, seed: u64, shape: [usize; 2], [first, gap]: [usize; 2], format: Format) -> Self {
        let row = shape[1] + gap;
        let host = random(seed, first + shape[0] * row + 9, 1.0);
        let all = stored(&host, format);
        let at = |i: usize, j: usize| all[first + i * row + j];
        let values = (0..shape[0]).flat_map(|i| (0..shape[1]).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect();
        Self { array: Array::floats(device, &host, format), values, all, first, row, shape }
    }

    fn operand(&self) -> Operand {
        let len = if self.shape[0] == 0 { 0 } else { (self.shape[0] - 1) * self.row + self.shape[1] };
        self.array.operand.part(self.first, len)
    }

    /// What the array holds where the matrix became `values`.
    #[track_caller]
    fn assert_became(&self, what: &str, device: &dyn Backend, values: &[f64], tolerance: f64) {
        let (got, mut want) = (self.array.read(device), self.all.clone());
        for i in 0..self.shape[0] {
            let at = self.first + i * self.row;
            want[at..at + self.shape[1]].copy_from_slice(&values[i * self.shape[1]..(i + 1) * self.shape[1]]);
        }
        assert_close(what, &got, &want, self.array.operand.format, tolerance);
        let mut outside = (0..want.len()).filter(|i| {
            let (i, width) = (i.wrapping_sub(self.first), self.row.max(1));
            let (row, column) = (i / width, i % width);
            row >= self.shape[0] || column >= self.shape[1]
        });
        assert_eq!(outside.find(|&i| f64::from(got[i]) != self.all[i]), None, "{what}: written beside the matrix");
    }
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) form: Form,
    pub(super) shape: [usize; 3],
    pub(super) formats: [Format; 3],
    /// Values before each matrix, and behind each of its rows.
    pub(super) spare: [usize; 2],
    pub(super) scale: f32,
    pub(super) bias: bool,
    pub(super) slope: Option<u32>,
    /// 1: its own operand, 2: out.
    pub(super) add: u32,
    pub(super) act: Option<u32>,
    pub(super) rank: usize,
    pub(super) split: bool,
    /// What a value may be off, as a part of the largest one; more where it is stored in 16 bits.
    pub(super) tolerance: f64,
}

impl Case {
    pub(super) fn new(form: Form, shape: [usize; 3], formats: [Format; 3], spare: [usize; 2]) -> Self {
        let (scale, bias, slope, add, act, rank, split) = (1.0, false, None, 0, None, 0, false);
        Self { form, shape, formats, spare, scale, bias, slope, add, act, rank, split, tolerance: 3e-6 }
    }

    /// Runs it and compares. -> its launches
    #[track_caller]
    pub(super) fn check(&self, device: &dyn Backend, plan: &ProductPlan) -> Vec<Launch> {
        let (what, [m, n, k]) = (format!("{self:?} {}", plan.tile.name()), self.shape);
        let shapes = match self.form {
            Form::Nt => [[m, k], [n, k]],
            Form::Nn => [[m, k], [k, n]],
            Form::Tn => [[k, m], [k, n]],
        };
        let other = if self.formats[2] == Format::F16 { Format::F32 } else { self.formats[0] };
        let matrix = |seed, shape, format| Matrix::new(device, seed, shape, self.spare, format);
        let (a, b) = (matrix(1, shapes[0], self.formats[0]), matrix(2, shapes[1], self.formats[1]));
        let out = matrix(3, [m, n], self.formats[2]);
        let (bias, z, add) = (matrix(4, [1, n], Format::F32), matrix(5, [m, n], other), matrix(6, [m, n], other));
        let acted = matrix(7, [m, n], self.formats[2]);
        let low = LowRankParts::new(device, self);
        let mut product = Product::new(self.form, self.shape, a.operand(), b.operand(), out.operand());
        product.rows = [a.row, b.row, out.row];
        product.epilogue.scale = self.scale;
        product.epilogue.bias = self.bias.then(|| bias.operand());
        product.epilogue.slope = self.slope.map(|act| (act, z.operand()));
        product.epilogue.add = [None, Some(add.operand()), Some(out.operand())][self.add as usize];
        product.epilogue.act = self.act.map(|act| (act, acted.operand()));
        product.epilogue.low_rank = low.as_ref().map(|low| low.term.clone());
        let scratch = product.scratch(plan);
        let memory = (self.split && scratch > 0).then(|| Array::unwritten(device, scratch, Format::F32));
        product.scratch = memory.as_ref().map(|memory| memory.operand);
        let launches = product.launches(plan);

        run(device, launches.clone());

        let (mut want, mut want_acted) = (Vec::new(), Vec::new());
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let term = |l: usize| match self.form {
                Form::Nt => a.values[i * k + l] * b.values[j * k + l],
                Form::Nn => a.values[i * k + l] * b.values[l * n + j],
                Form::Tn => a.values[l * m + i] * b.values[l * n + j],
            };
            let mut sum = (0..k).map(term).sum::<f64>() * f64::from(self.scale);
            sum += if self.bias { bias.values[j] } else { 0.0 };
            sum += low.as_ref().map_or(0.0, |low| low.at(i, j));
            sum *= self.slope.map_or(1.0, |act| slope(act, z.values[i * n + j]));
            sum += [0.0, add.values[i * n + j], out.values[i * n + j]][self.add as usize];
            want.push(sum);
            want_acted.push(self.act.map_or(acted.values[i * n + j], |act| value(act, sum)));
        }
        out.assert_became(&what, device, &want, self.tolerance);
        acted.assert_became(&format!("{what}, act"), device, &want_acted, self.tolerance);
        for (name, input) in [("a", &a), ("b", &b), ("bias", &bias), ("z", &z), ("add", &add)] {
            input.assert_became(&format!("{what}, {name}"), device, &input.values, 0.0);
        }
        launches
    }
}

/// A low-rank term with several runs and blocks.
struct LowRankParts {
    term: LowRank,
    z: Matrix,
    b: Matrix,
    runs: Vec<[usize; 2]>,
    _runs: Array,
}

impl LowRankParts {
    fn new(device: &dyn Backend, case: &Case) -> Option<Self> {
        let ([m, n, _], rank) = (case.shape, case.rank);
        if rank == 0 {
            return None;
        }
        // Three experts; the third column of blocks has none.
        let cut = [n / 3, 2 * n / 3];
        let blocks = vec![
            LowRankBlock { columns: 0..cut[0], row: 1, z: rank },
            LowRankBlock { columns: cut[0]..cut[1], row: 1 + cut[0], z: 0 },
        ];
        let rows = 2 + cut[1];
        let z = Matrix::new(device, 8, [m, 2 * rank + 4], [0, 0], Format::F32);
        let b = Matrix::new(device, 9, [3 * rows, rank], [0, 0], Format::F32);
        let runs = if m < 6 { vec![[0, 2]] } else { vec![[0, 2], [m / 3, 0], [m / 3, 1], [m / 2 + 1, 2], [m - 1, 0]] };
        let words: Vec<u32> = runs.iter().flatten().map(|&v| v as u32).collect();
        let on = Array::words(device, &words);
        let (operands, run_count) = ([z.operand(), b.operand()], runs.len());
        let term = LowRank {
            z: operands[0],
            z_row: z.row,
            rank,
            b: operands[1],
            rows,
            blocks,
            runs: on.operand,
            run_count,
            scale: 0.7,
        };
        Some(Self { term, z, b, runs, _runs: on })
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        let Some(block) = self.term.blocks.iter().find(|block| block.columns.contains(&j)) else { return 0.0 };
        let expert = self.runs.iter().rev().find(|run| run[0] <= i).unwrap()[1];
        let (row, rank) = (expert * self.term.rows + block.row + j - block.columns.start, self.term.rank);
        let term = |r: usize| self.z.values[i * self.z.row + block.z + r] * self.b.values[row * rank + r];
        (0..rank).map(term).sum::<f64>() * f64::from(self.term.scale)
    }
}

/// A plan of one tile, for a device of no known speed.
fn plan(device: &dyn Backend, tile: Tile) -> ProductPlan {
    ProductPlan { tile, fit: false, ..ProductPlan::of(device.facts()) }
}

const F32: [Format; 3] = [Format::F32; 3];

#[test]
fn forms_and_formats_with_tails_and_windows() {
    let Some(device) = device() else { return };
    let plan = plan(&*device, TINY);
    let (x, y) = (Format::F32, *formats(&*device).last().unwrap());
    for form in FORMS {
        Case::new(form, [33, 37, 35], F32, [1, 3]).check(&*device, &plan);
        Case::new(form, [1, 1, 1], F32, [0, 0]).check(&*device, &plan);
        Case::new(form, [68, 36, 20], [y, y, y], [8, 4]).check(&*device, &plan);
    }
    Case::new(Form::Nt, [33, 37, 35], [y, x, y], [1, 3]).check(&*device, &plan);
    Case::new(Form::Nn, [68, 36, 20], [x, y, x], [8, 4]).check(&*device, &plan);
    Case::new(Form::Tn, [33, 37, 35], [y, y, x], [1, 3]).check(&*device, &plan);
}

#[test]
fn nothing_to_multiply() {
    let Some(device) = device() else { return };
    let plan = plan(&*device, TINY);
    for form in FORMS {
        for shape in [[0, 5, 3], [5, 0, 3], [0, 0, 0]] {
            assert!(Case::new(form, shape, F32, [0, 0]).check(&*device, &plan).is_empty());
        }
    }
    // Without k there is what follows the sums.
    Case { bias: true, ..Case::new(Form::Nt, [5, 6, 0], F32, [0, 0]) }.check(&*device, &plan);
}

#[test]
fn tiles() {
    let Some(device) = device() else { return };
    for (i, &tile) in Tile::CANDIDATES.iter().enumerate() {
        let (form, spare) = (FORMS[i % 3], [8 * (i % 2), 4]);
        let launches = Case::new(form, [tile.m + 4, tile.n + 4, 20], F32, spare).check(&*device, &plan(&*device, tile));
        assert_eq!(launches[0].grid, [2, 2, 1]);
    }
    // Shapes that get tiles of their own.
    let fit = ProductPlan { rate: 2e11, tile: Tile::LARGE, fit: true, ..plan(&*device, TINY) };
    for (form, shape, grid) in [
        (Form::Nt, [1000, 16, 20], [1, 8, 1]),
        (Form::Nn, [1000, 32, 20], [1, 8, 1]),
        (Form::Tn, [32, 1000, 20], [8, 1, 1]),
        (Form::Tn, [16, 1000, 20], [8, 1, 1]),
    ] {
        assert_eq!(Case::new(form, shape, F32, [0, 0]).check(&*device, &fit)[0].grid, grid);
    }
}

#[test]
fn what_follows_the_sums() {
    let Some(device) = device() else { return };
    let plan = plan(&*device, TINY);
    let (x, y) = (Format::F32, *formats(&*device).last().unwrap());
    let case = |form, shape, formats| Case { scale: 0.5, ..Case::new(form, shape, formats, [4, 4]) };
    // Forward: a layer with its nonlinearity, and one on top of what came before. Backward: through a nonlinearity.
    let forward = |shape, formats| Case { bias: true, act: Some(0), ..case(Form::Nt, shape, formats) };
    let upon = |shape, formats| Case { bias: true, add: 1, ..case(Form::Nt, shape, formats) };
    let backward = |shape, formats| Case { slope: Some(3), add: 2, ..case(Form::Nn, shape, formats) };
    forward([35, 36, 8], [x, x, x]).check(&*device, &plan);
    forward([3, 37, 9], [y, y, y]).check(&*device, &plan);
    upon([35, 36, 8], [y, y, y]).check(&*device, &plan);
    upon([3, 37, 9], [x, y, x]).check(&*device, &plan);
    backward([35, 36, 8], [y, x, y]).check(&*device, &plan);
    backward([35, 37, 9], [x, x, x]).check(&*device, &plan);
    let all = Case { bias: true, slope: Some(4), add: 1, act: Some(1), ..case(Form::Tn, [33, 4, 6], [x, y, x]) };
    all.check(&*device, &plan);
}

#[test]
fn low_rank_terms_of_several_experts() {
    let Some(device) = device() else { return };
    let plan = plan(&*device, TINY);
    let y = *formats(&*device).last().unwrap();
    let low = |form, shape, formats, rank| Case { rank, scale: 2.0, ..Case::new(form, shape, formats, [0, 0]) };
    // One run to a tile and two, one block of columns to a tile and three; ranks above and below a tile's k.
    low(Form::Nt, [70, 100, 8], F32, 4).check(&*device, &plan);
    low(Form::Nt, [70, 99, 9], [y; 3], 18).check(&*device, &plan);
    low(Form::Nt, [2, 97, 8], F32, 4).check(&*device, &plan);
    low(Form::Nt, [8, 8, 8], F32, 3).check(&*device, &plan);
    Case { bias: true, act: Some(2), ..low(Form::Nt, [9, 100, 8], F32, 4) }.check(&*device, &plan);
    // More operands than a kernel has.
    let launches =
        Case { bias: true, slope: Some(2), add: 1, ..low(Form::Nn, [9, 100, 8], F32, 4) }.check(&*device, &plan);
    assert_eq!(launches.len(), 2);
    let launches =
        Case { bias: true, act: Some(2), add: 1, ..low(Form::Nt, [3, 100, 8], F32, 4) }.check(&*device, &plan);
    assert_eq!(launches.len(), 2);
}

#[test]
fn few_rows() {
    let Some(device) = device() else { return };
    let plan = plan(&*device, TINY);
    let y = *formats(&*device).last().unwrap();
    for (m, n, k) in [(1, 19, 300), (2, 7, 3), (3, 8, 129), (8, 9, 260)] {
        let launches = Case::new(Form::Nt, [m, n, k], [y; 3], [0, 0]).check(&*device, &plan);
        assert_eq!(launches[0].entry, "few");
        Case::new(Form::Nt, [m, n, k], F32, [1, 0]).check(&*device, &plan);
    }
}

#[test]
fn long_sums_in_slices() {
    let Some(device) = device() else { return };
    let plan = ProductPlan { rate: 4e13, ..plan(&*device, TINY) };
    let y = *formats(&*device).last().unwrap();
    let slices = |case: Case| {
        let launches = Case { split: true, ..case }.check(&*device, &plan);
        assert_eq!(launches.iter().map(|launch| launch.entry).collect::<Vec<_>>(), ["product", "combine"]);
        assert!(launches[0].grid[2] > 1);
    };
    slices(Case::new(Form::Tn, [36, 36, 530], F32, [0, 0]));
    slices(Case { scale: 0.5, add: 2, ..Case::new(Form::Tn, [35, 5, 700], [y, y, Format::F32], [0, 0]) });
    slices(Case { bias: true, act: Some(2), rank: 3, ..Case::new(Form::Nt, [12, 12, 530], [y; 3], [0, 0]) });
    let nowhere = Operand::new(Address::new(0, 0), 1 << 20, Format::F32);
    let short = Product::new(Form::Tn, [36, 36, 100], nowhere, nowhere, nowhere);
    assert_eq!(short.scratch(&plan), 0, "sums that are too short");
}

#[test]
fn products_that_are_too_large_are_cut() {
    let Some(device) = device() else { return };
    let whole = plan(&*device, TINY);
    let small = |values: u64| ProductPlan { max_binding: 512 + 4 * values, ..whole.clone() };
    let count = |case: Case, plan: &ProductPlan| case.check(&*device, plan).len();
    let case =
        |form, shape| Case { scale: 0.5, bias: true, add: 1, act: Some(2), ..Case::new(form, shape, F32, [0, 0]) };
    // b and out by their rows; out alone; a.
    assert_eq!(count(case(Form::Nt, [10, 300, 8]), &small(1100)), 9);
    assert_eq!(count(case(Form::Nt, [40, 300, 8]), &small(20 * 300)), 2);
    assert_eq!(count(case(Form::Nt, [300, 8, 40]), &small(128 * 40)), 3);
    // Over k, where a step is added to the one before; and rows of a.
    assert_eq!(count(case(Form::Nn, [9, 12, 300]), &small(12 * 128)), 6);
    let tn = case(Form::Tn, [12, 9, 300]);
    assert_eq!(count(Case { slope: Some(2), add: 2, act: None, ..tn }, &small(12 * 128)), 3);
    // By time: rows, then columns too.
    let slow = |seconds: f64| ProductPlan { rate: 1e6, budget: seconds, ..whole.clone() };
    let low = Case { rank: 4, act: None, ..case(Form::Nt, [300, 300, 4]) };
    assert_eq!(count(low.clone(), &slow(0.5)), 3);
    assert_eq!(count(low, &slow(0.1)), 9);
}

#[test]
fn the_fastest_tile_is_measured() {
    let Some(device) = device() else { return };
    let (tile, rate) = tuning::measure_candidates(&*device, &[TINY], 40, 0.01).unwrap();
    assert!(tile == TINY && rate > 1e3, "{} {rate}", tile.name());
    let rate = tuning::rate(&*device, TINY, *formats(&*device).last().unwrap(), 36, 0.01).unwrap();
    assert!(rate > 1e3, "{rate}");
    if device.facts().kind == AdapterKind::Software {
        assert_eq!(tuning::measure(&*device, 100.0).unwrap().0, ProductPlan::of(device.facts()).tile);
    }
}
