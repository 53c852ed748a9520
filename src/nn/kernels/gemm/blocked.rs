//! Blocks and threads around the tiles of [`super::avx512`].
//!
//! A task computes some rows and columns of the output. It packs the right operand (block by block along the inner
//! dimension in f32, whole in bf16 as far as it fits the second-level cache) and calls the caller's closure for each row
//! segment of a finished strip while it is in the first-level cache: biases, nonlinearities, rounding to bf16.

#![expect(unsafe_code, reason = "tasks write disjoint blocks of one checked output through raw pointers")]

use super::avx512::{self, Left, ROWS, Right, Target, WIDTH};
use super::operands::{After, Matrix, Operand, Orientation, Out, Precision, Product, Widen, by_way_of_f32, finish_row};
use crate::nn::kernels::host::{Place, Values, room};
use crate::nn::kernels::simd;
use half::bf16;
use rayon::prelude::*;
use std::cell::RefCell;
use std::mem::MaybeUninit;

/// Columns of the output that one task computes in f32, in panels; the most it computes in bf16.
const PANELS: usize = 6;
/// Steps of the inner dimension that are packed at a time in f32; even.
const STEPS: usize = 384;
/// In bf16 the inner dimension is packed whole up to this length; a longer one goes in blocks of [`LONG_STEPS`].
const WHOLE_STEPS: usize = 8192;
const LONG_STEPS: usize = 2048;
/// Bytes of packed panels that leave room for the left operand in the second-level cache.
const PACKED_BYTES: usize = 640 * 1024;
/// The most panels and steps of a task that widens its operand, which takes longer than packing.
const WIDENED_PANELS: usize = 9;
const WIDENED_STEPS: usize = 640;
/// Values that are quantised together at most: blocks of the inner dimension are whole multiples.
const GRANULE: usize = 256;
/// Rows of the right operand that are packed into all panels before the next ones; even.
const PACKED_ROWS: usize = 16;
/// Below so many multiplications a second thread costs more than it saves.
const PARALLEL_FROM: usize = 1 << 17;
/// Strips of rows that a task should have when rows are split: fewer, and packing is no longer negligible.
const STRIPS: usize = 16;
/// Rows at this distance, in bytes, fall into the same cache sets.
const SAME_SETS: usize = 4096;

#[derive(Default)]
struct Buffers {
    /// Packed panels of the right operand.
    right: Vec<f32>,
    /// A strip of the left operand, where it cannot be read in place.
    strip: Vec<f32>,
    /// Sums of a strip of rows, where the output has another format.
    sums: Vec<f32>,
    /// Part of a right operand that is widened.
    wide: Vec<f32>,
    /// The whole left operand in the tiles' format, of a product on one thread.
    left: Vec<u32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::default());
}

/// How a job is cut.
struct Cut {
    /// Multiplies pairs of bf16.
    pairs: bool,
    /// Steps that are packed at a time.
    depth: usize,
    /// Columns of a task.
    columns: usize,
    /// Rows of a task, and tasks along each side.
    rows: usize,
    blocks: (usize, usize),
    one: bool,
}

impl Cut {
    fn of(job: &Product<'_>) -> Self {
        let [m, n, k] = job.dims;
        let (narrow, widened) = match job.b {
            Operand::Stored(b) => (matches!(b.values, Values::Bf16(_)), false),
            Operand::Widened(..) => (matches!(job.a.values, Values::Bf16(_)), true),
        };
        let wanted = match job.precision {
            Precision::Stored => narrow,
            Precision::Rounded => true,
            Precision::Single => false,
        };
        let pairs = wanted && simd::multiplies_bf16();
        let depth = match (pairs, k) {
            (false, _) if widened => even_part(k, WIDENED_STEPS).next_multiple_of(GRANULE).min(k.next_multiple_of(2)),
            (false, _) => STEPS.min(k.next_multiple_of(2)),
            (true, k) if k <= WHOLE_STEPS => k.next_multiple_of(2),
            (true, _) => LONG_STEPS,
        };
        let threads = rayon::current_num_threads();
        let one = !job.parallel || threads == 1 || m * n * k < PARALLEL_FROM;
        let panels = match (pairs, widened) {
            // Each block of columns is widened once: as many blocks as keep all threads busy with all the rows.
            (pairs, true) => {
                let most =
                    if pairs { (PACKED_BYTES / (2 * depth * WIDTH)).clamp(1, WIDENED_PANELS) } else { WIDENED_PANELS };
                let all = n.div_ceil(WIDTH);
                let blocks = all.div_ceil(most);
                all.div_ceil(if one || all < threads { blocks } else { blocks.next_multiple_of(threads) })
            }
            (true, false) => (PACKED_BYTES / (2 * depth * WIDTH)).clamp(1, PANELS),
            (false, false) => PANELS,
        };
        let columns = panels * WIDTH;
        let column_blocks = n.div_ceil(columns);
        let row_blocks = if one {
            1
        } else {
            // As many as give every thread the same number of tasks, or at least several.
            let even = threads / gcd(threads, column_blocks);
            let most = m.div_ceil(if column_blocks < threads { 4 } else { STRIPS } * ROWS);
            if column_blocks < threads { (2 * threads).div_ceil(column_blocks).min(most) } else { even.min(most) }
                .max(1)
        };
        let rows = m.div_ceil(ROWS).div_ceil(row_blocks) * ROWS;
        Self { pairs, depth, columns, rows, blocks: (row_blocks, column_blocks), one }
    }

    fn task(&self, index: usize, [m, n, _]: [usize; 3]) -> Task {
        // Columns vary fastest: neighbours share the left operand's rows.
        let (row, column) = (index / self.blocks.1 * self.rows, index % self.blocks.1 * self.columns);
        let end = |start: usize, len: usize, all: usize| (start.min(all), (start + len).min(all));
        Task { rows: end(row, self.rows, m), columns: end(column, self.columns, n) }
    }
}

/// The length of equal parts of at most `most`.
fn even_part(whole: usize, most: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most).max(1))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

struct Task {
    rows: (usize, usize),
    columns: (usize, usize),
}

/// The left operand as the tiles read it. Distances count values.
#[derive(Clone, Copy)]
enum Prepared {
    Single(Left),
    Pairs(*const bf16, usize),
    /// Is converted to f32 strip by strip, by the task.
    Strips,
}
// SAFETY: read only, and alive as long as the job.
unsafe impl Send for Prepared {}
// SAFETY: as above.
unsafe impl Sync for Prepared {}

/// Computes the job.
///
/// # Safety
/// The processor has AVX-512; the operands were checked against the dims; the output is writable and not aliased.
pub unsafe fn run(job: &Product<'_>, after: Option<After<'_>>) {
    let [_, n, k] = job.dims;
    let cut = Cut::of(job);
    if let Place::Bf16(start) = job.out.start
        && k > cut.depth
    {
        // Sums cannot wait in 16 bits for the next block of the inner dimension.
        let product = |start: *mut f32| {
            let out = Out { start: Place::F32(start), row: n, add: false };
            // SAFETY: `start` is an output of its own.
            unsafe { run(&Product { out, ..*job }, None) }
        };
        // SAFETY: passed on.
        unsafe { by_way_of_f32(job, start, after, &product) };
        return;
    }
    if cut.one {
        let mut left = BUFFERS.with_borrow_mut(|buffers| std::mem::take(&mut buffers.left));
        // SAFETY: passed on; tasks cover disjoint blocks inside the dims.
        unsafe {
            let prepared = prepare(job, &cut, false, &mut left);
            (0..cut.blocks.0 * cut.blocks.1).for_each(|i| compute(job, &cut, prepared, &cut.task(i, job.dims), after));
        }
        BUFFERS.with_borrow_mut(|buffers| buffers.left = left);
    } else {
        let mut left = Vec::new();
        // SAFETY: as above.
        unsafe {
            let prepared = prepare(job, &cut, true, &mut left);
            let work = |i: usize| compute(job, &cut, prepared, &cut.task(i, job.dims), after);
            (0..cut.blocks.0 * cut.blocks.1).into_par_iter().with_max_len(1).for_each(work);
        }
    }
}

/// The left operand in the tiles' format: in place where it has it, else converted once, into `buffer`.
unsafe fn prepare(job: &Product<'_>, cut: &Cut, parallel: bool, buffer: &mut Vec<u32>) -> Prepared {
    let ([m, _, k], a, pairs) = (job.dims, job.a, cut.pairs);
    match a.values {
        Values::F32(values) if !pairs => {
            return Prepared::Single(Left { start: values.as_ptr(), row: a.row, step: a.col });
        }
        // Each strip is needed once.
        Values::Bf16(_) if !pairs && cut.blocks.1 == 1 => return Prepared::Strips,
        Values::Bf16(values) if pairs && a.col == 1 && k.is_multiple_of(2) => {
            return Prepared::Pairs(values.as_ptr(), a.row);
        }
        _ => {}
    }
    // Words of a converted row, which does not start in the same cache set as the one before.
    let words = if pairs { k.div_ceil(2) } else { k };
    let width = if (4 * words).is_multiple_of(SAME_SETS) { words + 16 } else { words };
    // Only written and read through pointers: every word that is read is written below.
    buffer.clear();
    buffer.reserve(m * width);
    let out = &mut buffer.spare_capacity_mut()[..m * width];
    let convert = |(block, out): (usize, &mut [MaybeUninit<u32>])| {
        let rows = out.len() / width;
        // SAFETY: rows lie inside the operand and the block.
        unsafe {
            if pairs {
                avx512::left_pairs(rows, k, a, block * ROWS, out.as_mut_ptr().cast(), width);
            } else {
                avx512::left_single(rows, k, a, block * ROWS, out.as_mut_ptr().cast(), width);
            }
        }
    };
    if parallel {
        out.par_chunks_mut(ROWS * width).enumerate().for_each(convert);
    } else {
        out.chunks_mut(ROWS * width).enumerate().for_each(convert);
    }
    if pairs {
        Prepared::Pairs(buffer.as_ptr().cast(), 2 * width)
    } else {
        Prepared::Single(Left { start: buffer.as_ptr().cast(), row: width, step: 1 })
    }
}

unsafe fn compute(job: &Product<'_>, cut: &Cut, left: Prepared, task: &Task, after: Option<After<'_>>) {
    let [_, _, k] = job.dims;
    let (first, last) = task.columns;
    let panels = (last - first).div_ceil(WIDTH);
    let words = if cut.pairs { cut.depth / 2 } else { cut.depth } * WIDTH;
    BUFFERS.with_borrow_mut(|Buffers { right, strip, sums, wide, .. }| {
        let right = room(right, panels * words).as_mut_ptr();
        let sums = if matches!(job.out.start, Place::Bf16(_)) { room(sums, ROWS * panels * WIDTH) } else { &mut [] };
        for k0 in (0..k).step_by(cut.depth) {
            let steps = cut.depth.min(k - k0);
            let panels_to = Panels { pairs: cut.pairs, steps: (k0, steps), columns: task.columns, to: right, words };
            // SAFETY: the block lies inside the operand, the panels inside the buffer sized above.
            unsafe {
                match job.b {
                    Operand::Stored(b) => pack(b, panels_to),
                    Operand::Widened(matrix, Orientation::Rows) => pack_widened(matrix, panels_to, wide),
                    Operand::Widened(matrix, Orientation::Transposed) => {
                        pack_widened_transposed(matrix, panels_to, wide);
                    }
                }
            };
            for row in (task.rows.0..task.rows.1).step_by(ROWS) {
                let rows = ROWS.min(task.rows.1 - row);
                // SAFETY: rows, steps and panels are inside the operands, the output block belongs to this task.
                unsafe {
                    let strip = strip_of((job.a, left), row, rows, (k0, steps), strip);
                    let add = (job.out.add && sums.is_empty()) || k0 > 0;
                    for panel in 0..panels {
                        let j0 = first + panel * WIDTH;
                        let (start, distance) = match job.out.start {
                            Place::F32(start) => (start.add(row * job.out.row + j0), job.out.row),
                            Place::Bf16(_) => (sums.as_mut_ptr().add(panel * WIDTH), panels * WIDTH),
                        };
                        let columns = WIDTH.min(last - j0);
                        let to = Target { start, row: distance, columns, add, scale: job.scale };
                        let packed = right.add(panel * words);
                        match strip {
                            Prepared::Pairs(start, row) => {
                                let right = Right { pairs: steps.div_ceil(2), panel: packed.cast() };
                                avx512::tile_pairs(rows, start, row, right, to);
                            }
                            Prepared::Single(left) => avx512::tile(rows, steps, left, packed, to),
                            Prepared::Strips => {}
                        }
                    }
                    if k0 + steps == k {
                        finish(job, (row, rows), (first, last), (&mut *sums, panels * WIDTH), after);
                    }
                }
            }
        }
    });
}

/// A block of the right operand and the panels it is packed into.
#[derive(Clone, Copy)]
struct Panels {
    /// Packs pairs of bf16.
    pairs: bool,
    /// First step, and how many.
    steps: (usize, usize),
    /// First column, and the end.
    columns: (usize, usize),
    to: *mut f32,
    /// Distance between panels.
    words: usize,
}

impl Panels {
    /// From a step of the block on, and from a panel on.
    unsafe fn at(&self, step: usize, panel: usize) -> *mut f32 {
        // SAFETY: the caller's block has that step and panel.
        unsafe { self.to.add(panel * self.words + if self.pairs { step / 2 } else { step } * WIDTH) }
    }
}

/// Packs a block of the right operand.
unsafe fn pack(b: Matrix<'_>, panels: Panels) {
    let ((k0, steps), (first, last)) = (panels.steps, panels.columns);
    // Of a row-major matrix some rows at a time: their neighbours in memory are the next panel's.
    let chunk = if b.col == 1 { PACKED_ROWS } else { steps };
    for k in (0..steps).step_by(chunk) {
        let rows = (k0 + k, chunk.min(steps - k));
        for (panel, j0) in (first..last).step_by(WIDTH).enumerate() {
            let columns = (j0, WIDTH.min(last - j0));
            // SAFETY: passed on.
            unsafe {
                let to = panels.at(k, panel);
                if panels.pairs {
                    avx512::pack_pairs(b, rows, columns, to.cast());
                } else {
                    avx512::pack(b, rows, columns, to);
                }
            }
        }
    }
}

/// As [`pack`], of a matrix that is widened some rows at a time.
unsafe fn pack_widened(matrix: &dyn Widen, panels: Panels, wide: &mut Vec<f32>) {
    let ((k0, steps), (first, last), granule) = (panels.steps, panels.columns, matrix.granule());
    let (start, end) = (first / granule * granule, last.next_multiple_of(granule));
    let width = end - start;
    for k in (0..steps).step_by(PACKED_ROWS) {
        let rows = PACKED_ROWS.min(steps - k);
        let wide = room(wide, rows * width);
        wide.chunks_exact_mut(width).enumerate().for_each(|(i, row)| matrix.widen(k0 + k + i, start, row));
        let columns = (first - start, last - start);
        // SAFETY: rows and columns lie inside the block, the panels are the caller's.
        unsafe {
            let some = Panels { steps: (0, rows), columns, to: panels.at(k, 0), ..panels };
            pack(Matrix::rows(Values::F32(wide), width), some);
        }
    }
}

/// As [`pack`], of the transpose of a matrix that is widened: a panel's columns are some of its rows.
unsafe fn pack_widened_transposed(matrix: &dyn Widen, panels: Panels, wide: &mut Vec<f32>) {
    let ((k0, steps), (first, last), granule) = (panels.steps, panels.columns, matrix.granule());
    for (panel, j0) in (first..last).step_by(WIDTH).enumerate() {
        let columns = WIDTH.min(last - j0);
        for k in (0..steps).step_by(2 * GRANULE) {
            let here = (2 * GRANULE).min(steps - k);
            let (start, end) = ((k0 + k) / granule * granule, (k0 + k + here).next_multiple_of(granule));
            let width = end - start;
            let wide = room(wide, columns * width);
            wide.chunks_exact_mut(width).enumerate().for_each(|(j, row)| matrix.widen(j0 + j, start, row));
            // SAFETY: rows and columns lie inside the block, the panels are the caller's.
            unsafe {
                let steps = (k0 + k - start, here);
                let some = Panels { steps, columns: (0, columns), to: panels.at(k, panel), ..panels };
                pack(Matrix::cols(Values::F32(wide), width), some);
            }
        }
    }
}

/// The strip of the left operand at a row and step; converted where it still is to be, copied where its rows would push
/// each other out of the cache.
unsafe fn strip_of(
    (a, left): (Matrix<'_>, Prepared),
    row: usize,
    rows: usize,
    (k0, steps): (usize, usize),
    strip: &mut Vec<f32>,
) -> Prepared {
    // SAFETY: row and step lie inside the operand.
    unsafe {
        match left {
            Prepared::Strips => {
                let width = steps + 16;
                let strip = room(strip, rows * width).as_mut_ptr();
                let a = Matrix { values: a.values.from(k0 * a.col), ..a };
                avx512::left_single(rows, steps, a, row, strip, width);
                Prepared::Single(Left { start: strip, row: width, step: 1 })
            }
            Prepared::Single(left) => {
                Prepared::Single(Left { start: left.start.add(row * left.row + k0 * left.step), ..left })
            }
            Prepared::Pairs(start, distance) => {
                let start = start.add(row * distance + k0);
                if !(2 * distance).is_multiple_of(SAME_SETS) || rows < 8 {
                    return Prepared::Pairs(start, distance);
                }
                let (len, width) = (steps.next_multiple_of(2), steps.next_multiple_of(2) + 32);
                let strip: *mut bf16 = room(strip, rows * width.div_ceil(2)).as_mut_ptr().cast();
                for i in 0..rows {
                    std::ptr::copy_nonoverlapping(start.add(i * distance), strip.add(i * width), len);
                }
                Prepared::Pairs(strip, width)
            }
        }
    }
}

/// Hands the row segments of a finished strip on, and rounds them where the output has 16 bits.
unsafe fn finish(
    job: &Product<'_>,
    (row, rows): (usize, usize),
    (first, last): (usize, usize),
    (sums, width): (&mut [f32], usize),
    after: Option<After<'_>>,
) {
    for i in 0..rows {
        // SAFETY: the segment lies inside the output and belongs to this task.
        unsafe {
            match (job.out.start, after) {
                (Place::F32(start), Some(after)) => {
                    let start = start.add((row + i) * job.out.row + first);
                    after(row + i, first, std::slice::from_raw_parts_mut(start, last - first));
                }
                (Place::F32(_), None) => {}
                (Place::Bf16(start), after) => {
                    let start = start.add((row + i) * job.out.row + first);
                    let out = std::slice::from_raw_parts_mut(start, last - first);
                    finish_row(&mut sums[i * width..i * width + last - first], out, job.out.add, &mut |values| {
                        if let Some(after) = after {
                            after(row + i, first, values);
                        }
                    });
                }
            }
        }
    }
}
