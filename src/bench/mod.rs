//! Speed and memory of training on random weights of a known shape.
//!
//! | module | contents |
//! |---|---|
//! | `shapes`, `lengths` | sizes of the models, lengths of the sequences |
//! | `work` | multiplications a step needs, and those it makes |
//! | `measure` | makes steps of a classifier or a language model and times them, by phase |
//! | `products` | f32 products: the `gemm` crate beside our tiles |
//! | `figures` | the results |
//! | `compare` | two results side by side, ours or PyTorch's |
//! | `asked` | what a step asks of a GPU, counted without one |
//! | `window` | what is measured of the window, and its limits |
//! | `scale`, `fit`, `plot` | cost as work grows, its exponents, its picture |

mod asked;
pub(crate) mod compare;
pub(crate) mod figures;
pub(crate) mod fit;
mod lengths;
mod measure;
pub(crate) mod plot;
mod products;
pub(crate) mod scale;
pub(crate) mod shapes;
pub mod window;
mod work;

pub use asked::{Asked, Estimate, asked};
pub(crate) use figures::Measured;
pub use lengths::Lengths;
pub(crate) use measure::bench;
pub use measure::{Plan, Series, series};
pub use shapes::Shape;
