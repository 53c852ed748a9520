//! Kernels that read and write the values of heads four at a time, or one at a time where heads do not start at multiples of
//! four values.

use crate::gpu::{Operand, Source};

/// A file of WGSL for one value and for four values at a time.
pub(super) type Sources = [Source; 2];

/// A file of WGSL and what it needs, with the operands before it.
macro_rules! sources {
    ($name:literal $(, $part:literal)*) => {{
        const ONE: $crate::gpu::Source = $crate::gpu::Source {
            name: concat!($name, "1"),
            text: concat!(
                include_str!("../wgsl/heads_memory1.wgsl"),
                $(include_str!(concat!("../wgsl/", $part, ".wgsl")),)*
                include_str!(concat!("../wgsl/", $name, ".wgsl"))
            ),
        };
        const FOUR: $crate::gpu::Source = $crate::gpu::Source {
            name: concat!($name, "4"),
            text: concat!(
                include_str!("../wgsl/heads_memory4.wgsl"),
                $(include_str!(concat!("../wgsl/", $part, ".wgsl")),)*
                include_str!(concat!("../wgsl/", $name, ".wgsl"))
            ),
        };
        [ONE, FOUR]
    }};
}
pub(super) use sources;

/// The kernel for four values at a time where all columns and operands allow it, otherwise for one.
pub(super) fn by_four(sources: Sources, columns: &[usize], operands: &[Option<Operand>]) -> Source {
    let [one, four] = sources;
    let starts = |operand: &Operand| operand.address.byte().is_multiple_of(4 * operand.format.bytes());
    let all = columns.iter().all(|column| column.is_multiple_of(4)) && operands.iter().flatten().all(starts);
    if all { four } else { one }
}
