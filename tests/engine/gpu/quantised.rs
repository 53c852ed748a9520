//! Products with quantised matrices, and rows of them, against what their bytes say in double precision.

use super::elementwise::{slope, value};
use super::support::{Array, assert_close, device, formats, random, run, stored};
use adamix::gpu::kernels::product::{Product, ProductPlan, Tile};
use adamix::gpu::kernels::quantised::{Blocks, Quantised};
use adamix::gpu::{Backend, Format, Launch, Operand};
use half::{bf16, f16};

/// Bytes that look random.
fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    random(seed, len, 128.0).into_iter().map(|v| (v + 128.0) as u8).collect()
}

/// Random blocks as GGML stores them, their 16-bit scales below `scale`.
fn random_blocks(blocks: Blocks, seed: u64, count: usize, scale: f32) -> Vec<u8> {
    let mut bytes = random_bytes(seed, count * blocks.bytes());
    let scales = random(seed + 1, 2 * count, scale);
    for (i, block) in bytes.chunks_exact_mut(blocks.bytes()).enumerate() {
        let [first, second] = [scales[2 * i], scales[2 * i + 1]].map(|v| f16::from_f32(v).to_le_bytes());
        match blocks {
            Blocks::F16 | Blocks::Q8_0 | Blocks::Q4_0 | Blocks::Q5_0 => block[..2].copy_from_slice(&first),
            Blocks::Bf16 => block.copy_from_slice(&bf16::from_f32(scales[2 * i]).to_le_bytes()),
            Blocks::Q4_1 | Blocks::Q5_1 | Blocks::Q4K | Blocks::Q5K => {
                block[..2].copy_from_slice(&first);
                block[2..4].copy_from_slice(&second);
            }
            Blocks::Q6K => block[208..].copy_from_slice(&first),
        }
    }
    bytes
}

/// The values of a block.
fn decoded(blocks: Blocks, block: &[u8]) -> Vec<f64> {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f64();
    let bits = |at: usize, shift: usize, count: u32| f64::from((block[at] >> shift) & ((1u16 << count) - 1) as u8);
    // Value i of 32, whose low four bits are in bytes from `at` on, and whose fifth bits start at `fifths`.
    let low = |at: usize, i: usize| bits(at + i % 16, i / 16 * 4, 4);
    let fifth = |fifths: usize, i: usize| 16.0 * bits(fifths + i / 8, i % 8, 1);
    // Scale and minimum of a group of 32 of 256.
    let line = |group: usize| {
        let at = |i: usize| u32::from(block[4 + i]);
        let (scale, minimum) = match group {
            0..4 => (at(group) & 63, at(group + 4) & 63),
            _ => ((at(group + 4) & 15) | ((at(group - 4) >> 6) << 4), (at(group + 4) >> 4) | ((at(group) >> 6) << 4)),
        };
        (half(0) * f64::from(scale), half(2) * f64::from(minimum))
    };
    let group = |i: usize, quants: usize| bits(quants + i / 64 * 32 + i % 32, i % 64 / 32 * 4, 4);
    let value = |i: usize| match blocks {
        Blocks::F16 => half(0),
        Blocks::Bf16 => bf16::from_le_bytes([block[0], block[1]]).to_f64(),
        Blocks::Q8_0 => half(0) * f64::from(block[2 + i] as i8),
        Blocks::Q4_0 => half(0) * (low(2, i) - 8.0),
        Blocks::Q4_1 => half(0) * low(4, i) + half(2),
        Blocks::Q5_0 => half(0) * (low(6, i) + fifth(2, i) - 16.0),
        Blocks::Q5_1 => half(0) * (low(8, i) + fifth(4, i)) + half(2),
        Blocks::Q4K => line(i / 32).0 * group(i, 16) - line(i / 32).1,
        Blocks::Q5K => {
            let fifth = 16.0 * bits(16 + i % 32, i / 32, 1);
            line(i / 32).0 * (group(i, 48) + fifth) - line(i / 32).1
        }
        Blocks::Q6K => {
            let (side, quarter, at) = (i / 128, i % 128 / 32, i % 32);
            let low = bits(64 * side + 32 * (quarter % 2) + at, quarter / 2 * 4, 4);
            let upper = bits(128 + 32 * side + at, 2 * quarter, 2);
            half(208) * f64::from(block[192 + i / 16] as i8) * (low + 16.0 * upper - 32.0)
        }
    };
    (0..blocks.values()).map(value).collect()
}

/// A quantised matrix on the device and its values.
struct Weights {
    on: Quantised,
    values: Vec<f64>,
    array: Array,
    words: Vec<u32>,
}

impl Weights {
    fn new(device: &dyn Backend, blocks: Blocks, [rows, columns]: [usize; 2], scale: f32) -> Self {
        let bytes = random_blocks(blocks, 77 + rows as u64, rows * columns / blocks.values(), scale);
        let values = bytes.chunks_exact(blocks.bytes()).flat_map(|block| decoded(blocks, block)).collect();
        let packed = blocks.pack(&bytes);
        let words: Vec<u32> = packed.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
        assert_eq!((packed.len() % 4, words.len()), (0, blocks.words(rows * columns)));
        // What lies behind it is no number, as brain floats.
        let on = [&words[..], &[u32::MAX; 9]].concat();
        let array = Array::words(device, &on);
        let on = Quantised { blocks, words: array.operand.part(0, words.len()), rows, columns };
        Self { on, values, array, words }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.on.columns + column]
    }

    /// The device's words are what they were.
    fn assert_unchanged(&self, device: &dyn Backend) {
        let got = device.download(&[(self.array.operand.address, 4 * self.words.len() as u64)]).unwrap().remove(0);
        let want: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!(got == want, "{:?} was written to", self.on.blocks);
    }
}

/// Scales that make values of about 1.
fn usual_scale(blocks: Blocks) -> f32 {
    match blocks {
        Blocks::F16 | Blocks::Bf16 => 1.0,
        Blocks::Q8_0 => 1.0 / 127.0,
        Blocks::Q4_0 | Blocks::Q4_1 | Blocks::Q5_0 | Blocks::Q5_1 => 1.0 / 12.0,
        Blocks::Q4K | Blocks::Q5K => 1e-3,
        Blocks::Q6K => 2.5e-4,
    }
}

/// Rows of plain numbers in a larger array: `first` values before them, `gap` behind each row.
struct Rows {
    array: Array,
    all: Vec<f64>,
    first: usize,
    row: usize,
    shape: [usize; 2],
}

impl Rows {
    fn new(device: &dyn Backend, seed: u64, shape: [usize; 2], [first, gap]: [usize; 2], format: Format) -> Self {
        let row = shape[1] + gap;
        let host = random(seed, first + shape[0] * row + 5, 1.0);
        Self { array: Array::floats(device, &host, format), all: stored(&host, format), first, row, shape }
    }
    fn at(&self, i: usize, j: usize) -> f64 {
        self.all[self.first + i * self.row + j]
    }
    fn operand(&self) -> Operand {
        let [rows, columns] = self.shape;
        self.array.operand.part(self.first, if rows == 0 { 0 } else { (rows - 1) * self.row + columns })
    }

    /// The rows became these, and nothing around them changed.
    #[track_caller]
    fn assert_became(&self, what: &str, device: &dyn Backend, want: impl Fn(usize, usize) -> f64) {
        let (got, mut all) = (self.array.read(device), self.all.clone());
        for (i, j) in (0..self.shape[0]).flat_map(|i| (0..self.shape[1]).map(move |j| (i, j))) {
            all[self.first + i * self.row + j] = want(i, j);
        }
        assert_close(what, &got, &all, self.array.operand.format, 3e-6);
        let untouched = |i: &usize| {
            let (row, column) = (i.wrapping_sub(self.first) / self.row, i.wrapping_sub(self.first) % self.row);
            *i < self.first || row >= self.shape[0] || column >= self.shape[1]
        };
        let changed = (0..all.len()).filter(untouched).find(|&i| f64::from(got[i]) != self.all[i]);
        assert_eq!(changed, None, "{what}: written beside the rows");
    }
}

fn plan(device: &dyn Backend) -> ProductPlan {
    ProductPlan { tile: Tile::SMALL, fit: false, ..ProductPlan::of(device.facts()) }
}

/// One product, forward or back, with what follows it.
struct Case<'a> {
    weights: &'a Weights,
    forward: bool,
    m: usize,
    /// Of x and of out.
    formats: [Format; 2],
    /// Values before x and out, and behind each of their rows.
    spare: [usize; 2],
    /// Nonlinearity forward, slope back; with a bias and a sum.
    act: Option<u32>,
    split: bool,
}

impl<'a> Case<'a> {
    fn new(weights: &'a Weights, forward: bool, m: usize, formats: [Format; 2], spare: [usize; 2]) -> Self {
        Self { weights, forward, m, formats, spare, act: None, split: false }
    }

    /// Runs it and compares. -> its launches
    #[track_caller]
    fn check(self, device: &dyn Backend, plan: &ProductPlan) -> Vec<Launch> {
        let (w, m) = (self.weights, self.m);
        let Quantised { blocks, rows, columns, .. } = w.on;
        let (k, n) = if self.forward { (columns, rows) } else { (rows, columns) };
        let what =
            format!("{blocks:?} {} [{m}, {n}, {k}] {:?}", if self.forward { "xWᵀ" } else { "dyW" }, self.formats);
        let x = Rows::new(device, 1, [m, k], self.spare, self.formats[0]);
        let out = Rows::new(device, 2, [m, n], self.spare, self.formats[1]);
        let acted = Rows::new(device, 3, [m, n], self.spare, self.formats[1]);
        let bias = Rows::new(device, 4, [1, n], [0, 0], Format::F32);
        let mut product = match self.forward {
            true => w.on.forward(m, x.operand(), out.operand()),
            false => w.on.backward(m, x.operand(), out.operand()),
        };
        product.rows = [x.row, product.rows[1], out.row];
        match self.act {
            Some(act) if self.forward => {
                product.epilogue.bias = Some(bias.operand());
                product.epilogue.act = Some((act, acted.operand()));
            }
            Some(act) => {
                product.epilogue.slope = Some((act, acted.operand()));
                product.epilogue.add = Some(out.operand());
            }
            None => {}
        }
        let scratch = product.scratch(plan);
        let memory = self.split.then(|| Array::unwritten(device, scratch, Format::F32));
        product.scratch = memory.as_ref().map(|memory| memory.operand);
        let launches = product.launches(plan);
        run(device, launches.clone());
        let sum = |i: usize, j: usize| {
            let weight = |l: usize| if self.forward { w.at(j, l) } else { w.at(l, j) };
            let sum: f64 = (0..k).map(|l| x.at(i, l) * weight(l)).sum();
            match self.act {
                Some(_) if self.forward => sum + bias.at(0, j),
                Some(act) => sum * slope(act, acted.at(i, j)) + out.at(i, j),
                None => sum,
            }
        };
        out.assert_became(&what, device, sum);
        acted.assert_became(&what, device, |i, j| match self.act {
            Some(act) if self.forward => value(act, sum(i, j)),
            _ => acted.at(i, j),
        });
        w.assert_unchanged(device);
        launches
    }
}

/// Columns of about so many whole blocks.
fn columns(blocks: Blocks, least: usize) -> usize {
    least.next_multiple_of(blocks.values())
}

#[test]
fn forward_and_back_in_all_formats() {
    let Some(device) = device() else { return };
    let plan = plan(&*device);
    let all = formats(&*device);
    for (i, blocks) in Blocks::ALL.into_iter().enumerate() {
        let (x, y) = (all[i % all.len()], all[i / 2 % all.len()]);
        let w = Weights::new(&*device, blocks, [37, columns(blocks, 96)], usual_scale(blocks));
        for (forward, m) in [(true, 40), (false, 40), (false, 3)] {
            let launches = Case::new(&w, forward, m, [x, y], [4, 4]).check(&*device, &plan);
            assert_eq!(launches.iter().map(|launch| launch.entry).collect::<Vec<_>>(), ["product"]);
        }
    }
}

#[test]
fn few_rows_in_all_formats() {
    let Some(device) = device() else { return };
    let plan = plan(&*device);
    let all = formats(&*device);
    for (i, blocks) in Blocks::ALL.into_iter().enumerate() {
        // More units of sixteen values than threads that share a row.
        let w = Weights::new(&*device, blocks, [19, columns(blocks, 544)], usual_scale(blocks));
        for m in [1, if i % 2 == 0 { 3 } else { 8 }] {
            let x = all[(i + m) % all.len()];
            let launches = Case::new(&w, true, m, [x, x], [4, 4]).check(&*device, &plan);
            assert_eq!(launches.iter().map(|launch| launch.entry).collect::<Vec<_>>(), ["few"]);
        }
    }
}

#[test]
fn what_follows_the_sums() {
    let Some(device) = device() else { return };
    let plan = plan(&*device);
    let y = *formats(&*device).last().unwrap();
    let w = Weights::new(&*device, Blocks::Q4_1, [38, 64], usual_scale(Blocks::Q4_1));
    // Rows that do not start at multiples of four values; and the same with sums in slices.
    for (m, forward) in [(5, true), (17, true), (17, false)] {
        Case { act: Some(3), ..Case::new(&w, forward, m, [y, y], [1, 3]) }.check(&*device, &plan);
    }
    let w = Weights::new(&*device, Blocks::Q8_0, [20, 640], usual_scale(Blocks::Q8_0));
    let fast = ProductPlan { rate: 4e13, ..plan };
    let launches = Case { act: Some(0), split: true, ..Case::new(&w, true, 12, [y, y], [0, 0]) }.check(&*device, &fast);
    assert_eq!(launches.iter().map(|launch| launch.entry).collect::<Vec<_>>(), ["product", "combine"]);
}

#[test]
fn rows_of_any_length_in_16_bits() {
    let Some(device) = device() else { return };
    let plan = plan(&*device);
    for (blocks, columns) in [(Blocks::F16, 35), (Blocks::Bf16, 18)] {
        let w = Weights::new(&*device, blocks, [21, columns], 1.0);
        for (forward, m) in [(true, 2), (true, 9), (false, 9)] {
            Case::new(&w, forward, m, [Format::F32; 2], [0, 0]).check(&*device, &plan);
        }
    }
}

#[test]
fn matrices_that_are_too_large_are_cut() {
    let Some(device) = device() else { return };
    let plan = plan(&*device);
    let f32s = [Format::F32; 2];
    // By rows of W, an even number of them, and forward by rows of x too.
    let w = Weights::new(&*device, Blocks::F16, [37, 35], 1.0);
    let small = ProductPlan { max_binding: 512 + 5 * 140, ..plan.clone() };
    for forward in [true, false] {
        let launches = Case { act: Some(3), ..Case::new(&w, forward, 10, f32s, [0, 0]) }.check(&*device, &small);
        assert_eq!(launches.len(), 4 * 2);
    }
    let w = Weights::new(&*device, Blocks::Q4K, [300, 256], usual_scale(Blocks::Q4K));
    let small = ProductPlan { max_binding: 512 + 144 * 130, ..plan.clone() };
    for forward in [true, false] {
        assert_eq!(Case::new(&w, forward, 9, f32s, [0, 0]).check(&*device, &small).len(), 3);
    }
    // By time, between blocks.
    let w = Weights::new(&*device, Blocks::Q4K, [9, 768], usual_scale(Blocks::Q4K));
    let slow = ProductPlan { rate: 1e3, ..plan };
    assert_eq!(Case::new(&w, false, 9, f32s, [0, 0]).check(&*device, &slow).len(), 3);
}

#[test]
fn matrices_of_several_formats_one_below_the_other() {
    let Some(device) = device() else { return };
    let plan = plan(&*device);
    let (m, columns) = (9, 256);
    let parts = [(Blocks::Q8_0, 12), (Blocks::Q4_1, 5), (Blocks::Q4K, 7)];
    let parts = parts.map(|(blocks, rows)| Weights::new(&*device, blocks, [rows, columns], usual_scale(blocks)));
    let rows = 24;
    let all: Vec<f64> = parts.iter().flat_map(|part| part.values.clone()).collect();
    let x = Rows::new(&*device, 5, [m, columns], [0, 0], Format::F32);
    let out = Rows::new(&*device, 6, [m, rows], [0, 0], Format::F32);
    let (dy, dx) = (&out, Rows::new(&*device, 7, [m, columns], [0, 0], Format::F32));
    let back = |part: &Weights, first: usize| {
        let window = dy.operand().part(first, (m - 1) * rows + part.on.rows);
        let mut product = part.on.backward(m, window, dx.operand());
        product.rows[0] = rows;
        product.epilogue.add = (first > 0).then(|| dx.operand());
        product
    };
    let forth = |part: &Weights, first: usize| {
        let window = out.operand().part(first, (m - 1) * rows + part.on.rows);
        let mut product = part.on.forward(m, x.operand(), window);
        product.rows[2] = rows;
        product
    };
    for product in [&back as &dyn Fn(&Weights, usize) -> Product, &forth] {
        let mut first = 0;
        for part in &parts {
            run(&*device, product(part, first).launches(&plan));
            first += part.on.rows;
        }
    }
    dx.assert_became("dy W", &*device, |i, j| (0..rows).map(|l| dy.at(i, l) * all[l * columns + j]).sum());
    out.assert_became("x Wᵀ", &*device, |i, j| (0..columns).map(|l| x.at(i, l) * all[j * columns + l]).sum());
}

#[test]
fn nothing_to_multiply() {
    let Some(device) = device() else { return };
    let w = Weights::new(&*device, Blocks::Q4K, [3, 256], usual_scale(Blocks::Q4K));
    for forward in [true, false] {
        assert!(Case::new(&w, forward, 0, [Format::F32; 2], [0, 0]).check(&*device, &plan(&*device)).is_empty());
    }
    let (ids, out) = (Array::words(&*device, &[]), Array::unwritten(&*device, 0, Format::F32));
    run(&*device, w.on.gather(ids.operand, out.operand, 1 << 20));
}

#[test]
fn rows_by_their_numbers() {
    let Some(device) = device() else { return };
    let all = formats(&*device);
    let ids = [36, 0, 7, 7, 1, 37, u32::MAX, 35, 20];
    for (i, blocks) in Blocks::ALL.into_iter().enumerate() {
        // The smallest scales are those whose exponent is 0.
        for (scale, format) in [(usual_scale(blocks), all[i % all.len()]), (6e-5, Format::F32)] {
            let columns = if blocks == Blocks::Bf16 { 5 } else { columns(blocks, 96) };
            let w = Weights::new(&*device, blocks, [37, columns], scale);
            let on_ids = Array::words(&*device, &ids);
            let bytes = 4 * blocks.words(10 * columns) as u64;
            for (limit, count) in [(device.facts().max_binding, 1), (256 + bytes.max(2 * 4 * columns as u64), 4)] {
                let out = Rows::new(&*device, 8, [ids.len(), columns], [4, 0], format);
                let launches = w.on.gather(on_ids.operand, out.operand(), limit);
                assert!(launches.len() >= count, "{blocks:?}: {} launches", launches.len());
                run(&*device, launches);
                out.assert_became(&format!("{blocks:?} {scale}"), &*device, |i, j| match ids[i] {
                    id @ 0..37 => w.at(id as usize, j),
                    _ => out.at(i, j),
                });
            }
            w.assert_unchanged(&*device);
        }
    }
}

#[test]
fn blocks_are_packed_in_whole_words() {
    let bytes: Vec<u8> = (0..=255).cycle().take(420).collect();
    assert_eq!(Blocks::Q4_0.pack(&bytes[..36])[18..26], [16, 17, 18, 19, 0, 0, 20, 21][..]);
    assert_eq!(Blocks::Q6K.pack(&bytes)[206..216], [206, 207, 208, 209, 0, 0, 210, 211, 212, 213][..]);
    assert_eq!(Blocks::F16.pack(&bytes[..6]), [0, 1, 2, 3, 4, 5, 0, 0]);
    for (blocks, size) in [(Blocks::Q8_0, 36), (Blocks::Q4_1, 20), (Blocks::Q5_0, 24), (Blocks::Q5K, 176)] {
        assert_eq!(blocks.pack(&bytes[..2 * blocks.bytes()]).len(), 2 * size);
        assert_eq!(blocks.words(2 * blocks.values()), size / 2);
    }
}
