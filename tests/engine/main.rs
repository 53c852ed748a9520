//! Engine tests: maths, data, files, protocol, processes. No window crate is needed.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod architecture;
mod artifact;
mod certificate;
mod cli;
mod data;
mod golden;
mod gradients;
mod independence;
mod kill;
mod merge;
mod metrics;
mod trainer;

#[path = "../support/mod.rs"]
mod support;
