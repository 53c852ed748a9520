//! Nonlinearities, sums, dropout and changes of format, element by element.

use super::{Mask, THREADS, source};
use crate::gpu::{Constant, Format, Launch, Operand};

fn launch(entry: &'static str, act: u32, [x, y]: [Operand; 2], z: Option<Operand>) -> Launch {
    let n = x.len as usize;
    let format = |operand: Option<Operand>| Constant::Type(operand.map_or(Format::F32, |operand| operand.format));
    Launch::new(source!("elementwise"), entry)
        .constant("X", x.format)
        .constant("Y", y.format)
        .constant("Z", format(z))
        .constant("HAS_Z", z.is_some())
        .constant("ACT", act)
        .operand(x)
        .operand(y)
        .operand(z)
        .blocks(n.div_ceil(THREADS))
        .work(n as f64)
        .ints([n])
}

fn with(launch: Launch, mask: Mask, [factor, shift]: [f32; 2]) -> Launch {
    let mut launch = launch;
    launch.words.extend(mask.words());
    launch.ints([0]).floats([factor, shift])
}

/// `y = act(x)`. All of one length; `act` counts GELU, its tanh approximation, ReLU, Swish, tanh from 0
pub fn act_forward(act: u32, x: Operand, y: Operand) -> Launch {
    with(launch("act_forward", act, [x, y], None), Mask::NONE, [1.0, 0.0])
}

/// `y *= act'(x)`
pub fn act_backward(act: u32, x: Operand, y: Operand) -> Launch {
    with(launch("act_backward", act, [x, y], None), Mask::NONE, [1.0, 0.0])
}

/// `y = dropout(x) + z`, or without z. y may be x or z.
pub fn add(x: Operand, z: Option<Operand>, y: Operand, mask: Mask) -> Launch {
    with(launch("add", 0, [x, y], z), mask, [1.0, 0.0])
}

/// `y = factor x + shift`, also from one format to another. y may be x.
pub fn affine(x: Operand, y: Operand, factor: f32, shift: f32) -> Launch {
    with(launch("affine", 0, [x, y], None), Mask::NONE, [factor, shift])
}
