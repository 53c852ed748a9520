//! Model families built from layers and mixtures; loading of weights; heads.
//!
//! [`ModelSource`] opens a Hugging Face directory (or the bundled lab encoder); [`Classifier`] is encoder, mixture and head
//! together. [`LmSource`] and [`CausalLm`] are the same for language models, which are read from GGUF files too ([`gguf`]).

pub mod classifier;
pub mod decoder;
pub mod dir;
mod dropout;
pub mod encoder;
pub mod gguf;
pub mod head;
mod header_reader;
pub mod layer;
pub mod loras;
pub mod network;
pub mod spec;
pub mod stack;
pub mod walk;
pub mod weights;

pub use classifier::{Classifier, Setup};
pub use decoder::{CachedId, CausalLm, DecoderSpec, KvCache, LmSetup, LmSource, Packed};
pub use dir::ModelSource;
pub use dropout::DropKeys;
pub use encoder::Encoder;
pub use header_reader::HeaderReader;
pub use network::{AdaptedModel, BaseModel, Counts, Network, Site, layer_of};
pub use spec::{EncoderSpec, Family};
pub use stack::ForwardOptions;
pub use walk::Walk;
pub use weights::Weights;
