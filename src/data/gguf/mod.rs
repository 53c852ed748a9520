//! Tokenizers in GGUF files: [`tokenizer()`] rebuilds one from the metadata, [`describe`] writes one into it.

pub mod describe;
mod pre_tokenizers;
mod tokenizer;
mod vocabulary;

pub use tokenizer::tokenizer;
