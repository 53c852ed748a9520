//! Metrics and evaluation modes (merged, random routes, fixed experts, ensemble); scores of generated text ([`text`]).

pub mod compare;
pub mod metrics;
pub mod report;
pub mod text;

pub use report::{Band, EvalReport, Scores};
