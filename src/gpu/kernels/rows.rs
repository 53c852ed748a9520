//! How kernels take rows: one or four values at a time, and how many threads share a row.

use super::THREADS;
use crate::gpu::{Format, Launch, Operand, Source};

/// A shader in two versions, for one and for four values at a time. Of each format `F` that is named, `FL` is what is taken
/// at a time.
macro_rules! lanes {
    ($name:literal, [$($format:literal),*] $(, $shared:literal)*) => {
        [
            $crate::gpu::Source {
                name: $name,
                text: concat!(
                    include_str!("../wgsl/lanes1.wgsl"),
                    $(include_str!(concat!("../wgsl/", $shared, ".wgsl")),)*
                    $("alias ", $format, "L = ", $format, ";\n",)*
                    include_str!(concat!("../wgsl/", $name, ".wgsl")),
                ),
            },
            $crate::gpu::Source {
                name: concat!($name, "4"),
                text: concat!(
                    include_str!("../wgsl/lanes4.wgsl"),
                    $(include_str!(concat!("../wgsl/", $shared, ".wgsl")),)*
                    $("alias ", $format, "L = vec4<", $format, ">;\n",)*
                    include_str!(concat!("../wgsl/", $name, ".wgsl")),
                ),
            },
        ]
    };
}
pub(crate) use lanes;

/// How many values are taken at a time: four where rows of `d` values and all operands allow it.
pub(super) fn lanes_of(d: usize, operands: &[Option<Operand>]) -> usize {
    let aligned = |operand: &Operand| operand.address.byte().is_multiple_of(4 * operand.format.bytes());
    if d.is_multiple_of(4) && operands.iter().flatten().all(aligned) { 4 } else { 1 }
}

/// The version of a shader for so many values at a time.
pub(super) fn version(sources: [Source; 2], lanes: usize) -> Source {
    sources[usize::from(lanes == 4)]
}

/// Threads that share a row of `width` lanes, so that each has about two of them: a power of two.
pub(super) fn threads_of(width: usize) -> usize {
    width.div_ceil(2).next_power_of_two().clamp(8, THREADS)
}

/// The format of an operand that may be absent.
pub(super) fn format_of(operand: Option<Operand>) -> Format {
    operand.map_or(Format::F32, |operand| operand.format)
}

/// A launch over `n` rows that so many threads share each; what numbers the workgroups folds the grid.
pub(super) fn over_rows(launch: Launch, n: usize, threads: usize) -> Launch {
    launch.constant("ROW", threads as u32).blocks(n.div_ceil(THREADS / threads))
}
