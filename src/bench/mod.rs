//! The speed and the memory of training on random weights of a known shape: what a machine and this program can
//! do together.
//!
//! | module | what |
//! |---|---|
//! | [`shapes`] | the models' sizes |
//! | [`lengths`] | how long the sequences are |
//! | [`work`] | the multiplications a step needs, and those it makes |
//! | [`measure`], `decoder` | makes steps of a classifier or a language model and times them, by phase |
//! | [`products`] | f32 products: the `gemm` crate beside our tiles |
//! | [`figures`] | what comes out |
//! | [`compare`] | two results side by side, ours or PyTorch's |
//! | [`scale`], [`fit`], [`plot`] | cost as work grows, its exponents, its picture |

pub mod compare;
mod decoder;
pub mod figures;
pub mod fit;
pub mod lengths;
pub mod measure;
pub mod plot;
pub mod products;
pub mod scale;
pub mod shapes;
pub mod work;

pub use figures::{Measured, Spread};
pub use lengths::Lengths;
pub use measure::{Plan, StepMemory, bench, step_memory};
pub use shapes::{SHAPES, Shape};
