//! Blocks and threads around the tiles of [`super::avx512`].
//!
//! The output is cut into tasks of [`COLUMNS`] columns by some rows. A task packs the right operand block by block along
//! the inner dimension (one block fits the second-level cache), multiplies all its rows with it, and, when a
//! strip of rows is finished, hands each row segment to the caller's closure while it is still in the first-level
//! cache: that is where biases are added and nonlinearities applied.

#![expect(unsafe_code, reason = "tasks write disjoint blocks of one checked output through raw pointers")]

use super::avx512::{self, Left, ROWS, Target, WIDTH};
use super::{After, Job, Values};
use rayon::prelude::*;
use std::cell::RefCell;

/// Columns of the output that one task computes.
const COLUMNS: usize = 6 * WIDTH;
/// Steps of the inner dimension that are packed at a time; even.
const STEPS: usize = 384;
/// Below so many multiplications a second thread costs more than it saves.
const PARALLEL_FROM: usize = 1 << 17;

thread_local! {
    /// Packed blocks of this thread: the right operand's, and the left one's pairs of bf16.
    static PACKED: RefCell<(Vec<f32>, Vec<u32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

struct Task {
    rows: (usize, usize),
    columns: (usize, usize),
}

/// Computes the job.
///
/// # Safety
/// The processor has AVX-512; the operands were checked against the dims; the output is writable and not aliased.
pub unsafe fn run(job: &Job<'_>, after: Option<After<'_>>) {
    let [m, n, k] = job.dims;
    let threads = rayon::current_num_threads();
    let one = !job.parallel || threads == 1 || m * n * k < PARALLEL_FROM;
    let column_blocks = n.div_ceil(COLUMNS);
    let row_blocks = if one { 1 } else { (2 * threads).div_ceil(column_blocks).min(m.div_ceil(4 * ROWS)).max(1) };
    let strips = m.div_ceil(ROWS).div_ceil(row_blocks);
    let rows = strips * ROWS;
    let task = |index: usize| {
        let (row, column) = (index / column_blocks * rows, index % column_blocks * COLUMNS);
        Task { rows: (row.min(m), (row + rows).min(m)), columns: (column, (column + COLUMNS).min(n)) }
    };
    let tasks = row_blocks * column_blocks;
    // SAFETY: tasks cover disjoint blocks inside the dims.
    let work = |index: usize| unsafe { compute(job, &task(index), after) };
    if one {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(work);
    }
}

unsafe fn compute(job: &Job<'_>, task: &Task, after: Option<After<'_>>) {
    let [_, _, k] = job.dims;
    let (first, last) = task.columns;
    let pairs = matches!(job.b.values, Values::Bf16(_)) && avx512::has_bf16();
    let panels = (last - first).div_ceil(WIDTH);
    PACKED.with_borrow_mut(|(right, left)| {
        let depth = STEPS.min(k.next_multiple_of(2));
        if right.len() < panels * depth * WIDTH {
            right.resize(panels * depth * WIDTH, 0.0);
        }
        if pairs && left.len() < ROWS * depth / 2 {
            left.resize(ROWS * depth / 2, 0);
        }
        for k0 in (0..k).step_by(STEPS) {
            let steps = STEPS.min(k - k0);
            for panel in 0..panels {
                let j0 = first + panel * WIDTH;
                let columns = (j0, WIDTH.min(last - j0));
                // SAFETY: the block lies inside the operand, the panel inside the buffer sized above.
                unsafe {
                    let at = right.as_mut_ptr().add(panel * depth * WIDTH);
                    if pairs {
                        avx512::pack_pairs(job.b, (k0, steps), columns, at.cast());
                    } else {
                        avx512::pack(job.b, (k0, steps), columns, at);
                    }
                }
            }
            let mut row = task.rows.0;
            while row < task.rows.1 {
                let rows = ROWS.min(task.rows.1 - row);
                // SAFETY: rows, steps and panels are inside the operands, the output block belongs to this task.
                unsafe {
                    if pairs {
                        avx512::left_pairs(rows, steps, job.a, (row, k0), left.as_mut_ptr());
                    }
                    for panel in 0..panels {
                        let j0 = first + panel * WIDTH;
                        let to = Target {
                            start: job.out.start.add(row * job.out.row + j0),
                            row: job.out.row,
                            columns: WIDTH.min(last - j0),
                            add: job.out.add || k0 > 0,
                            scale: job.scale,
                        };
                        let packed = right.as_ptr().add(panel * depth * WIDTH);
                        if pairs {
                            let depth = steps.div_ceil(2);
                            avx512::tile_pairs(rows, depth, left.as_ptr(), depth, packed.cast(), to);
                        } else {
                            let start = job.a.values.as_ptr().add(row * job.a.row + k0 * job.a.col);
                            avx512::tile(rows, steps, Left { start, row: job.a.row, step: job.a.col }, packed, to);
                        }
                    }
                    if let Some(after) = after
                        && k0 + steps == k
                    {
                        for i in row..row + rows {
                            let start = job.out.start.add(i * job.out.row + first);
                            after(i, first, std::slice::from_raw_parts_mut(start, last - first));
                        }
                    }
                }
                row += rows;
            }
        }
    });
}
