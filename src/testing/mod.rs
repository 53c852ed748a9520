//! Test doubles, behind the feature `testing`: an engine without a model and the data it shows.

pub mod data;
pub mod fake_engine;
pub mod model_store;
pub mod studies;
pub mod texts;
