//! Window tests: panels and flows through the accessibility tree, without a display.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod app_flow;
mod chooser;
mod comparing_runs;
mod computer;
mod engine_flow;
mod flow;
mod harness;
mod old_settings;
mod one_run;
mod panel_experts;
mod panel_export;
mod panel_merge;
mod panel_models;
mod panel_playground;
mod panel_routing;
mod panel_rows;
mod panel_runs;
mod panel_samples;
mod panel_setup;
mod panel_steps;
mod panel_support;
mod panel_texts;
mod panel_train;
mod panel_try;
mod panel_ways;
mod presenting;
mod saving;
mod session;
mod setup_layout;
mod setup_truth;
mod sitting;
mod start_page;
mod weights;

#[path = "../support/fake_engine/mod.rs"]
mod fake_engine;
#[path = "../support/place.rs"]
mod place;
