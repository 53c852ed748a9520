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
//! Each module may use the modules of its third column and no other; a test reads this table and the sources and
//! compares them.
//!
//! | module | what lives there | what it may use |
//! |---|---|---|
//! | [`error`], `format`, [`rng`] | the error type; numbers and times as people read them; seeded random streams | nothing of ours |
//! | [`figure`] | plots and tables as plain data, written as SVG, PNG and CSV | error, format |
//! | [`atomic`] | files and directories that appear whole or not at all | error |
//! | [`config`] | settings, their keys, presets | error |
//! | [`gpu`] | GPUs of any vendor: adapters, memory, kernels in WGSL as launches; knows no tensor and no model | error |
//! | [`tensor`] | devices and tensors, number formats, safetensors and GGUF as formats | atomic, error, gpu |
//! | [`nn`] | layers as pairs of `forward` and `backward`, kernels; knows no model | error, gpu, tensor |
//! | [`records`] | what a run records, as plain data: steps, routes, evaluations, checkpoints | tensor |
//! | [`mixture`] | banks of experts, routing, consistency, merging; knows no model and no file | config, error, nn, records, rng, tensor |
//! | [`data`] | readers, tasks, chat templates, tokenizing, packed batches; knows no model | config, error, rng, tensor |
//! | [`model_store`] | models by name: Hugging Face cache and downloads | atomic, config, error, format, tensor |
//! | [`model`] | encoders (BERT, RoBERTa) and decoders (GPT-2, the Llama kind), heads, reading weights; knows no training | config, data, error, mixture, model_store, nn, rng, tensor |
//! | [`eval`] | metrics; merged, random, fixed and ensemble evaluation, row by row; generation and its scores | analysis, config, data, error, mixture, model, nn, records, rng, tensor |
//! | [`train`] | the step, the optimizer, the loop; knows no files | config, data, error, eval, mixture, model, nn, records, rng, tensor |
//! | [`analysis`] | statistics of experts and routes on host data, the verdict on a comparison | config, error, format, records, rng, tensor |
//! | [`artifact`] | run directory, checkpoints, exports, certificates; knows no model and no trainer | atomic, config, data, error, records, tensor |
//! | [`protocol`] | what window and engine say to each other: plain data, no tensor | analysis, artifact, config, data, error, eval, figure, format, mixture, model_store, nn, records, tensor |
//! | [`machine`] | devices, processor and memory, estimates of a run's memory, the self-test | atomic, config, data, error, eval, gpu, mixture, model, nn, protocol, rng, tensor, train |
//! | `bench` | speed and memory of the training step on random weights | config, data, error, gpu, machine, model, nn, rng, tensor, train |
//! | [`workflow`] | use cases without threads, shared by window and command line | analysis, artifact, atomic, config, data, error, eval, figure, format, machine, mixture, model, model_store, nn, protocol, records, rng, tensor, train |
//! | [`engine`] | threads and channels, nothing else | analysis, artifact, config, error, machine, model, model_store, nn, protocol, records, train, workflow |
//! | [`cli`] | one file per command | analysis, artifact, bench, config, data, engine, error, eval, format, gpu, machine, mixture, model, model_store, protocol, records, rng, tensor, train, workflow |
//! | `app` | the window; egui lives here and nowhere else | analysis, config, error, figure, format, protocol |
//! | `window_bench` | the window's frames, opening, and training beside it, measured without a display | analysis, app, artifact, bench, config, engine, error, machine, protocol, records |
//!
//! # Invariants
//!
//! * The base model is frozen: no gradient of a frozen weight is ever computed, and the backward pass stops at the
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
//! 1. [`train::step`]: the whole training step on one screen, and [`train::trainable`]: what it needs of a model.
//! 2. [`mixture::routing`], [`mixture::adapter`] and [`mixture::lora`]: what is drawn, and what an adapted module computes.
//! 3. [`mixture::consistency`] and [`mixture::merging`]: the term between the passes, the mean at the end.
//! 4. [`model::layer`] and [`model::encoder`]: where the mixture sits; [`model::decoder`] for language models,
//!    with [`nn::kernels::vocab_loss`].
//!    [`model::gguf`] and [`nn::kernels::quant`] for weights that stay quantised, [`eval::generate`] for writing.
//! 5. [`nn::kernels`]: what makes it fast, [`gpu`] on a GPU; [`nn::profile`]: where the time goes.
//! 6. [`train::trainer`], [`eval::compare`], [`artifact`]: the loop, the comparison, the files.
//! 7. [`protocol`]: how the window talks to all of it.

pub mod atomic;
pub mod error;
pub mod format;
pub mod rng;

pub mod config;

pub mod figure;

pub mod gpu;
pub mod tensor;

pub mod records;

pub mod mixture;
pub mod nn;

pub mod data;
pub mod model;
pub mod model_store;

pub mod analysis;
pub mod artifact;
pub mod eval;
pub mod train;

pub mod bench;
pub mod machine;
pub mod workflow;

pub mod protocol;

pub mod engine;

pub mod cli;

#[cfg(feature = "gui")]
pub mod app;
#[cfg(feature = "gui")]
pub mod window_bench;
