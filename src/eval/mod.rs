//! Metrics and evaluation modes (merged, random routes, fixed experts, ensemble).

pub mod compare;
pub mod metrics;
pub mod report;

pub use report::{Band, EvalReport, Scores};
