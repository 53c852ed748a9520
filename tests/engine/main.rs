//! Engine tests: maths, data, files, protocol, processes. No window crate is needed.
#![expect(clippy::allow_attributes, reason = "which of these occur changes with every test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod artifact;
mod certificate;
mod cli;
mod data;
mod golden;
mod gradients;
mod independence;
mod kill;
mod lab;
mod merge;
mod metrics;
mod trainer;

#[path = "../support/mod.rs"]
mod support;
