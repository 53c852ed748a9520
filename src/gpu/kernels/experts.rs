//! Products whose matrix is that of the expert drawn for each row: adapters, LoRA, and others of that kind, with the
//! gradients of the experts. A module with one expert is a module whose rows are all in one run.

mod adapter;
mod gradients;
mod low_rank;
mod product;

pub use adapter::Adapter;
pub use gradients::{Drawn, Side, Values};
pub use low_rank::{LowRank, low_rank_down, low_rank_down_back, low_rank_gradients, low_rank_up, low_rank_up_back};
pub use product::{Direction, Routed, routed_product};

use crate::gpu::{Constant, Format, Launch, Operand, Source};

/// Which expert each row goes to: for each run of rows its first row and its expert, ascending from row 0; a run goes on to
/// the next one's first row, the last one to the last row. `[count, 2]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Runs {
    /// The list.
    pub operand: Operand,
    /// Runs in it.
    pub count: usize,
}

/// Pieces of four values of a workgroup's memory that tiles take: 12 KB.
const TILE: usize = 768;

/// A shader in its two variants: for operands of which every row starts at a multiple of four values, and for any.
macro_rules! sources {
    ($name:literal) => {
        [
            $crate::gpu::Source {
                name: concat!($name, "4"),
                text: concat!(
                    include_str!("../wgsl/experts_memory4.wgsl"),
                    include_str!("../wgsl/experts_tile.wgsl"),
                    include_str!("../wgsl/experts_runs.wgsl"),
                    include_str!(concat!("../wgsl/", $name, ".wgsl"))
                ),
            },
            $crate::gpu::Source {
                name: $name,
                text: concat!(
                    include_str!("../wgsl/experts_memory1.wgsl"),
                    include_str!("../wgsl/experts_tile.wgsl"),
                    include_str!("../wgsl/experts_runs.wgsl"),
                    include_str!(concat!("../wgsl/", $name, ".wgsl"))
                ),
            },
        ]
    };
}

const ADAPTER: [Source; 2] = sources!("experts_adapter");
const GRADIENTS: [Source; 2] = sources!("experts_gradients");
const PRODUCT: [Source; 2] = sources!("experts_product");

/// A launch of one of these shaders: the variant for rows and parts of these widths and places; the float operands, read four
/// values at a time, then the others.
fn launch(
    sources: [Source; 2],
    entry: &'static str,
    widths: &[usize],
    floats: &[Option<Operand>],
    others: &[Option<Operand>],
) -> Launch {
    let aligned = |operand: &Operand| operand.address.byte().is_multiple_of(4 * operand.format.bytes());
    let by_four = widths.iter().all(|width| width.is_multiple_of(4)) && floats.iter().flatten().all(aligned);
    let [four, one] = sources;
    let mut launch = Launch::new(if by_four { four } else { one }, entry);
    let formats = floats.iter().map(|operand| operand.map_or(Format::F32, |operand| operand.format));
    let formats = formats.chain(std::iter::repeat(Format::F32));
    for (name, format) in ["T0", "T1", "T2", "T3", "T4", "T5", "T6"].into_iter().zip(formats) {
        launch = launch.constant(name, Constant::Type(format));
    }
    launch.operands.extend(floats.iter().chain(others));
    launch
}

/// Largest power of two that is at most `n`, or 1.
fn power_of_two_below(n: usize) -> usize {
    1 << n.max(1).ilog2()
}
