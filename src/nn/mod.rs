//! Layers with explicit forward and backward passes.
//!
//! The base model is frozen, so there is no autograd: each layer is a pair of functions, `forward` returning what
//! its `backward` needs and nothing more. A layer whose parameters are trained also adds their gradients to
//! [`Grads`]; a frozen one only passes the gradient on. Shapes: token-wise layers see `[tokens, width]` with
//! all sequences back to back.

pub mod embedding;
pub mod kernels;
pub mod linear;
pub mod norm;
pub mod params;
pub mod pre_norm;
pub mod profile;
pub mod weight;

pub use embedding::Embeddings;
pub use kernels::{Act, Dropout};
pub use linear::Linear;
pub use norm::LayerNorm;
pub use params::{Grads, Param, ParamId, Params};
pub use pre_norm::PreNorm;
pub use weight::Weight;
