//! The optimizer over all trained tensors: gradient norm, scaling, AdamW.
//!
//! Tensors lie in a few slabs. [`groups`] puts together what one launch can take: pieces whose values, moments and gradients
//! lie in the same slabs, and there near enough to be bound. The caller brings each group's table to the device.

use super::source;
use crate::gpu::{Address, Format, Launch, Operand};
use std::collections::BTreeMap;

/// A piece of a trained tensor with its moments and gradient, all f32.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Values.
    pub p: Address,
    /// First moment.
    pub m: Address,
    /// Second moment.
    pub v: Address,
    /// Gradient; absent: zeros.
    pub g: Option<Address>,
    /// Number of values.
    pub len: usize,
    /// `1 - lr * decay`.
    pub keep: f32,
    /// `lr / (1 - β₁^t)`.
    pub step: f32,
    /// `1 / sqrt(1 - β₂^t)`.
    pub inv_c2: f32,
}

/// Values that one workgroup takes at most.
pub const PIECE: usize = 8 * 1024;
/// Words of a table's entry.
const ENTRY: usize = 8;
/// What bindings start at a multiple of.
const ALIGNMENT: u64 = crate::gpu::pool::ALIGNMENT;

/// Pieces that one launch takes.
#[derive(Clone, Debug)]
pub struct Group {
    /// The parts of the slabs that hold values, moments and gradients; either all pieces have gradients or none has.
    windows: [Option<Window>; 4],
    /// The pieces, cut into what a workgroup takes.
    blocks: Vec<Piece>,
}

/// Bytes of a slab.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    slab: u32,
    start: u64,
    end: u64,
}

impl Window {
    fn of(address: Address, len: usize) -> Self {
        let start = address.byte() / ALIGNMENT * ALIGNMENT;
        Self { slab: address.slab(), start, end: address.byte() + 4 * len as u64 }
    }
    fn with(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end), ..self }
    }
    fn operand(self) -> Operand {
        Operand::new(Address::new(self.slab, self.start), ((self.end - self.start) / 4) as usize, Format::F32)
    }
    /// The number of the value at an address.
    fn place(self, address: Address) -> u32 {
        ((address.byte() - self.start) / 4) as u32
    }
}

impl Piece {
    fn addresses(&self) -> [Option<Address>; 4] {
        [Some(self.p), Some(self.m), Some(self.v), self.g]
    }

    /// `len` of its values from `start` on.
    fn part(&self, start: usize, len: usize) -> Self {
        let at = |address: Address| address.plus(4 * start as u64);
        Self { p: at(self.p), m: at(self.m), v: at(self.v), g: self.g.map(at), len, ..*self }
    }
}

/// Groups of the pieces, in the order of their first ones; windows hold at most `max_binding` bytes.
pub fn groups(pieces: &[Piece], max_binding: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // The last group of each combination of slabs.
    let mut open: BTreeMap<[Option<u32>; 4], usize> = BTreeMap::new();
    for piece in pieces {
        let slabs = piece.addresses().map(|address| address.map(Address::slab));
        for start in (0..piece.len).step_by(PIECE) {
            let block = piece.part(start, PIECE.min(piece.len - start));
            let windows = block.addresses().map(|address| address.map(|address| Window::of(address, block.len)));
            let last = open.get(&slabs).and_then(|&number| groups.get_mut(number));
            let joined = last.as_ref().map(|group| join(group.windows, windows));
            match (last, joined) {
                (Some(group), Some(joined)) if joined.iter().flatten().all(|w| w.end - w.start <= max_binding) => {
                    group.windows = joined;
                    group.blocks.push(block);
                }
                _ => {
                    open.insert(slabs, groups.len());
                    groups.push(Group { windows, blocks: vec![block] });
                }
            }
        }
    }
    groups
}

fn join(mut a: [Option<Window>; 4], b: [Option<Window>; 4]) -> [Option<Window>; 4] {
    for (a, b) in a.iter_mut().zip(b) {
        *a = a.zip(b).map(|(a, b)| a.with(b));
    }
    a
}

/// The numbers that all tensors share.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// β₁, β₂.
    pub betas: (f64, f64),
    /// ε, added to the root of the corrected second moment.
    pub eps: f64,
}

impl Group {
    /// Entries of the table: workgroups, and values of [`Group::squares`].
    pub fn entries(&self) -> usize {
        self.blocks.len()
    }

    /// The table the kernels read; to be a U32 operand of so many values.
    pub fn table(&self) -> Vec<u32> {
        let mut words = Vec::with_capacity(ENTRY * self.blocks.len());
        for block in &self.blocks {
            let places = block.addresses().into_iter().zip(self.windows);
            words.extend(places.map(|(address, window)| match (address, window) {
                (Some(address), Some(window)) => window.place(address),
                _ => 0,
            }));
            words.push(block.len as u32);
            words.extend([block.keep, block.step, block.inv_c2].map(f32::to_bits));
        }
        words
    }

    fn launch(&self, entry: &'static str, table: Operand, used: [bool; 4], floats: [f32; 6]) -> Launch {
        let operands = self.windows.into_iter().zip(used).map(|(window, used)| window.filter(|_| used));
        let launch = Launch::new(source!("update"), entry).constant("HAS_G", self.windows[3].is_some()).operand(table);
        let values: usize = self.blocks.iter().map(|block| block.len).sum();
        operands
            .fold(launch, |launch, window| launch.operand(window.map(Window::operand)))
            .ints([self.blocks.len()])
            .floats(floats)
            .blocks(self.blocks.len())
            .work(2.0 * values as f64)
    }

    /// The sum of the squares of each block's gradient; zeros where there are none. table: [`Group::table`]; out f32 `[entries]`
    pub fn squares(&self, table: Operand, out: Operand) -> Launch {
        let mut launch = self.launch("squares", table, [false, false, false, true], [0.0; 6]);
        launch.operands.push(Some(out));
        launch
    }

    /// Gradients times a factor, in place; nothing to do where there are none.
    pub fn scale(&self, table: Operand, factor: f32) -> Launch {
        let floats = [0.0, 0.0, 0.0, 0.0, 0.0, factor];
        let mut launch = self.launch("scale", table, [false, false, false, true], floats);
        launch.operands.push(None);
        if self.windows[3].is_some() { launch } else { launch.blocks(0) }
    }

    /// One AdamW update of values and moments, in place.
    pub fn adamw(&self, table: Operand, numbers: AdamW) -> Launch {
        let AdamW { betas: (b1, b2), eps } = numbers;
        let floats = [b1, b2, 1.0 - b1, 1.0 - b2, eps, 0.0].map(|v| v as f32);
        let mut launch = self.launch("adamw", table, [true; 4], floats);
        launch.operands.push(None);
        launch.flops *= 6.0;
        launch
    }
}

/// The sum of what [`Group::squares`] wrote for all groups. parts f32 `[entries of all]`, out f32 `[1]`
pub fn squares_total(parts: Operand, out: Operand) -> Launch {
    Launch::new(source!("update"), "squares_total")
        .constant("HAS_G", true)
        .operand(None)
        .operand(None)
        .operand(None)
        .operand(None)
        .operand(parts)
        .operand(out)
        .ints([parts.len as usize])
        .floats([0.0; 6])
        .work(parts.len as f64)
}
