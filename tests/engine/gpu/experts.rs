//! Experts' kernels against double precision.

mod adapter;
mod gradients;
mod low_rank;
mod routed;

use super::support::{Array, random, stored};
use adamix::gpu::kernels::experts::Runs;
use adamix::gpu::{Backend, Format, Operand};

/// Each row's expert, and the runs that say so.
pub struct Routes {
    pub of: Vec<usize>,
    pub runs: Vec<[u32; 2]>,
}

/// One run, one for each half of the rows, or many short ones.
pub fn routes(seed: u64, n: usize, experts: usize, many: usize) -> Routes {
    let numbers = random(seed, 2 * n + 8, 0.5);
    let number = |i: usize, below: usize| (((numbers[i] + 0.5) * below as f32) as usize).min(below - 1);
    let mut firsts = vec![0];
    match many {
        1 => {}
        2 if n > 1 => firsts.push(n / 2),
        _ => {
            let mut row = 0;
            while row + 4 < n {
                row += 1 + number(row, 4);
                firsts.push(row);
            }
        }
    }
    let runs: Vec<[u32; 2]> =
        firsts.iter().enumerate().map(|(i, &first)| [first as u32, number(n + i, experts) as u32]).collect();
    let of = |row: usize| runs.iter().rev().find(|run| run[0] as usize <= row).unwrap()[1] as usize;
    Routes { of: (0..n).map(of).collect(), runs }
}

/// The runs of two sides in one table. -> the table, and each side's part
pub fn both(device: &dyn Backend, first: &Routes, second: &Routes) -> (Array, Runs, Runs) {
    let words: Vec<u32> = first.runs.iter().chain(&second.runs).flatten().copied().collect();
    let table = Array::words(device, &words);
    let split = 2 * first.runs.len();
    let part = |at, count| Runs { operand: table.operand.part(at, 2 * count), count };
    let (a, b) = (part(0, first.runs.len()), part(split, second.runs.len()));
    (table, a, b)
}

/// Random values on the device, and as they are there.
pub fn values(device: &dyn Backend, seed: u64, len: usize, scale: f32, format: Format) -> (Array, Vec<f64>) {
    let values = random(seed, len.max(1), scale);
    let mut array = Array::floats(device, &values, format);
    array.operand.len = len as u64;
    (array, stored(&values[..len], format))
}

/// Memory that is written in a window: `margin` values stay on each side of it.
pub struct Window {
    all: Array,
    margin: usize,
    len: usize,
}

impl Window {
    pub fn new(device: &dyn Backend, len: usize, format: Format) -> Self {
        let margin = 8;
        Self { all: Array::unwritten(device, len + 2 * margin, format), margin, len }
    }
    pub fn operand(&self) -> Operand {
        self.all.operand.part(self.margin, self.len)
    }
    /// What is in the window now; the margins must be as they were.
    #[track_caller]
    pub fn read(&self, device: &dyn Backend) -> Vec<f32> {
        let all = self.all.read(device);
        let (before, rest) = all.split_at(self.margin);
        let (window, behind) = rest.split_at(self.len);
        let untouched = Array::unwritten(device, 1, self.all.operand.format).read(device)[0];
        assert!(before.iter().chain(behind).all(|&v| v == untouched), "a kernel wrote outside of its operand");
        window.to_vec()
    }
}

/// `Σ f(i)` over a range.
pub fn sum(n: usize, f: impl Fn(usize) -> f64) -> f64 {
    (0..n).map(f).sum()
}
