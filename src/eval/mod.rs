//! Metrics and evaluation modes (merged, random routes, fixed experts, ensemble); writing text ([`mod@generate`]) and its scores
//! ([`text`]).

pub mod compare;
pub mod generate;
pub mod metrics;
pub mod report;
pub mod text;

pub use report::{Band, EvalReport, Scores};
