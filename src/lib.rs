//! AdaMix workbench: fine-tunes language models on the user's own machine with a mixture of adapters, shows
//! the routing while it trains, merges the experts into one adapter, and proves that the export is what was
//! seen.
//!
//! # The method in five lines
//!
//! Each layer of a frozen encoder gets M small adapters. In each step every batch goes through the network
//! twice; each time one adapter per layer is drawn at random, without a gate. The loss is the task's loss on
//! the first pass plus λ times the symmetric KL divergence between both passes. At the end the M adapters of
//! each layer are averaged into one. Inference costs no more than a single adapter.
//! (Wang et al., "AdaMix: Mixture-of-Adaptations for Parameter-efficient Model Tuning", EMNLP 2022.)
//!
//! # The map
//!
//! ```text
//! app, cli  ->  engine  ->  train, eval, analysis, artifact  ->  model, data  ->  mixture, nn  ->  config, error, rng
//! ```
//!
//! Arrows point one way; a test reads the sources and holds everybody to it.
//!
//! | module | what lives there | what it must not know |
//! |---|---|---|
//! | [`config`], [`error`], [`rng`] | settings, the error type, seeded streams | anything of ours |
//! | [`nn`] | layers as pairs of `forward` and `backward`, fused kernels | models, mixtures |
//! | [`mixture`] | the heart: banks of experts, routing, consistency, merging | families of models, files |
//! | [`model`] | encoders (BERT, RoBERTa) and decoders (GPT-2, the Llama kind) built from layers and mixtures, heads, reading weights (safetensors, GGUF) | training |
//! | [`data`] | readers, tasks, chat templates, tokenizing, packed batches | models |
//! | [`train`] | the step, the optimizer, the loop | files, threads, screens |
//! | [`eval`] | metrics; merged, random, fixed and ensemble evaluation; writing text | files, threads |
//! | [`analysis`] | norms, cosines, distances, histograms, routing statistics | threads, screens |
//! | [`artifact`] | run directory, checkpoints, exports, certificates | models, training |
//! | [`engine`] | threads and messages, benchmarks, what window and command line share | egui |
//! | [`cli`] | one file per command | egui |
//! | `app` | the window; egui lives here and nowhere else | tensors, training, files |
//!
//! # Invariants
//!
//! * The trunk is frozen: no gradient of a frozen weight is ever computed, and the backward pass stops at the
//!   lowest trained module.
//! * Sequences are packed, never padded.
//! * Everything random comes from one seed, split by purpose and step ([`rng`]): any step can be replayed, and
//!   a resumed run makes the same bits as one that was never interrupted.
//! * Merging changes the type: a merged model has no routes, and there is no flag to forget.
//! * Engine and window never wait for each other.
//! * Files appear whole or not at all; exports are proven by reading them back.
//!
//! # Read in this order
//!
//! 1. [`train::step`]: the whole training step on one screen.
//! 2. [`mixture::routing`], [`mixture::adapter`] and [`mixture::lora`]: what is drawn, and what a site computes.
//! 3. [`mixture::consistency`] and [`mixture::merging`]: the term between the passes, the mean at the end.
//! 4. [`model::layer`] and [`model::encoder`]: where the mixture sits; [`model::decoder`] for language models,
//!    with [`train::lm_step`] and [`nn::kernels::vocab_loss`].
//!    [`model::gguf`] and [`nn::kernels::quant`] for weights that stay quantised, [`eval::generate`] for writing.
//! 5. [`nn::kernels`]: what makes it fast; [`nn::profile`]: where the time goes.
//! 6. [`train::trainer`], [`eval::compare`], [`artifact`]: the loop, the comparison, the files.
//! 7. [`engine::protocol`]: how the window talks to all of it.

pub mod error;
pub mod rng;

pub mod config;

pub mod mixture;
pub mod nn;

pub mod data;
pub mod model;

pub mod analysis;
pub mod artifact;
pub mod eval;
pub mod train;

pub mod engine;

pub mod cli;

#[cfg(feature = "gui")]
pub mod app;
