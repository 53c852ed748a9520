//! Model families built from layers and mixtures; loading of weights; heads.
//!
//! [`ModelSource`] opens a Hugging Face directory (or the bundled lab encoder); [`Classifier`] is encoder,
//! mixture and head together. BERT and RoBERTa are one implementation, told apart by [`spec::Family`].
//! [`crate::model_store`] finds models by name in the Hugging Face cache and fetches them there.
//! [`LmSource`] and [`CausalLm`] are the same for language models ([`decoder`]: GPT-2 and the Llama kind), which are read from
//! GGUF files too ([`gguf`]).

pub mod classifier;
pub mod decoder;
pub mod dir;
pub mod encoder;
pub mod gguf;
pub mod head;
mod header_reader;
pub mod layer;
pub mod loras;
pub mod network;
pub mod spec;
pub mod stack;
pub mod weights;

pub use classifier::{Classifier, Counts, Setup, Site};
pub use decoder::{CachedId, CausalLm, DecoderSpec, KvCache, LmSetup, LmSource, Packed};
pub use dir::ModelSource;
pub use encoder::Encoder;
pub use header_reader::HeaderReader;
pub use network::Network;
pub use spec::{EncoderSpec, Family};
pub use stack::{DropKeys, ForwardOptions};
pub use weights::Weights;
