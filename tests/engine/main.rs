//! Engine tests: maths, data, files, protocol, processes. No window crate is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod architecture;
mod artifact;
mod certificate;
mod cli;
mod data;
mod decoder;
mod experts;
mod generate;
mod gguf;
mod golden;
mod gradients;
mod independence;
mod kill;
mod lab;
mod language;
mod lora_run;
mod merge;
mod metrics;
mod old_files;
mod plan;
mod profile;
mod recompute;
mod score;
mod store;
mod studies;
mod text_metrics;
mod texts;
mod trainer;
mod transfer;
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
mod twins;

#[path = "../support/mod.rs"]
mod support;
