//! Metrics and evaluation modes (merged, random routes, fixed experts, ensemble); writing text ([`mod@generate`]) and its
//! scores ([`text_metrics`]).
//!
//! [`compare`] is the comparison, for everything that is [`Measured`]: classifiers (`classes`) by the metrics of their
//! task ([`metrics`]), language models (`language`) by what they expect of the next token; what each row says is in [`rows`].

pub mod branches;
mod classes;
pub mod compare;
pub mod generate;
mod language;
pub mod metrics;
pub mod resumed;
pub mod rows;
pub mod text_metrics;

pub use crate::records::{Band, EvalReport, MergedWith, Scores};
pub use compare::Measured;
pub use language::largest_batch;
pub use resumed::{KeptBatch, Resumed};
pub use rows::{Answers, RowResults};
