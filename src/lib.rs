//! AdaMix workbench: fine-tunes language models with a mixture of adapters. (Map to be written.)
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
