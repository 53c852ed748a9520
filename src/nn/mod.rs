//! Layers with explicit forward and backward passes on `[tokens, width]`, all sequences back to back.
//!
//! The base model is frozen, so there is no autograd: `forward` returns what `backward` needs; a trained layer also adds
//! its gradients to [`Grads`].

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
