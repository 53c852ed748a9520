//! Engine tests: maths, data, files, protocol, processes. No window crate is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod architecture;
mod artifact;
mod branch;
mod capsule;
mod certificate;
mod cli;
mod control;
mod conventions;
mod data;
mod decoder;
mod experts;
mod file_circles;
mod generate;
mod gguf;
mod golden;
mod gpu;
mod gradients;
mod independence;
mod kill;
mod lab;
mod language;
mod long_records;
mod lora_run;
mod merge;
mod metrics;
mod old_files;
mod plan;
mod profile;
mod queue;
mod recompute;
mod record_table;
mod reweigh;
mod score;
mod store;
mod studies;
mod text_metrics;
mod texts;
mod trainer;
mod transfer;
mod try_it;
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
mod twins;
mod unbalanced;
mod ways;
mod weights;

#[path = "../support/mod.rs"]
mod support;

use adamix::nn::kernels::vocab_loss::{MAX_LOGITS, Objective};

/// The plain loss of one pass, without a gradient.
fn plain_loss() -> Objective {
    let (smoothing, weight) = (0.0, 0.0);
    Objective {
        passes: 1,
        smoothing,
        weight,
        detach: true,
        both: false,
        gradient: false,
        max_logits: MAX_LOGITS,
        overflows: 0,
    }
}
