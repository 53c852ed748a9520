//! Between the window and the training: messages, the training thread, snapshots.
//!
//! Neither side ever waits for the other; [`protocol`] says how. [`fake`] is an engine without a model, for tests and demonstrations.

pub mod bench;
pub mod fake;
pub mod fake_data;
pub mod machine;
pub mod opened;
pub mod plan;
pub mod protocol;
pub mod questions;
pub mod run;
pub mod snapshots;
