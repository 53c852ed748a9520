//! The gated nonlinearity of feed-forward blocks, `act(gate) * up` with gate and up side by side: SwiGLU with Swish.

use super::THREADS;
use super::heads_memory::{Sources, by_four, sources};
use crate::gpu::{Launch, Operand};

const GATED: Sources = sources!("gated");

fn launch(entry: &'static str, act: u32, [x, y]: [Operand; 2], [rows, width]: [usize; 2], flops: usize) -> Launch {
    Launch::new(by_four(GATED, &[width], &[Some(x), Some(y)]), entry)
        .constant("X", x.format)
        .constant("ACT", act)
        .operand(x)
        .operand(y)
        .blocks((rows * width.div_ceil(4)).div_ceil(THREADS))
        .work((flops * rows * width) as f64)
        .ints([rows, width])
}

/// `y = act(gate) * up`. x `[rows, 2 width]`, gate first, y `[rows, width]` of the same format, `dims` rows and width; `act`
/// as in [`act_forward`](super::elementwise::act_forward)
pub fn forward(act: u32, x: Operand, y: Operand, dims: [usize; 2]) -> Launch {
    launch("forward", act, [x, y], dims, 6)
}

/// Gate and up become their gradients, dy being the result's. x `[rows, 2 width]`, dy `[rows, width]`
pub fn backward(act: u32, x: Operand, dy: Operand, dims: [usize; 2]) -> Launch {
    launch("backward", act, [x, dy], dims, 16)
}
