//! Parts of events: phases of a run, failures, log lines.

use crate::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// Phase of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunPhase {
    /// No run.
    #[default]
    Idle,
    /// Model and data are being loaded.
    Preparing,
    /// Steps are being made.
    Training,
    /// Paused between two steps.
    Paused,
    /// The merged model is being evaluated, or answers its fixed inputs.
    Evaluating,
    /// A stop was requested; a checkpoint is being written.
    Stopping,
    /// Ended as planned, or stopped.
    Finished,
    /// Ended by an error.
    Failed,
}

impl RunPhase {
    /// Whether the run has not ended.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Preparing | Self::Training | Self::Paused | Self::Evaluating | Self::Stopping)
    }
}

/// How far an evaluation of the run in training has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalProgress {
    /// Steps done.
    pub step: u64,
    /// Whether it is the comparison at the end: merged, random routes and single experts, one after the other.
    pub comparison: bool,
    /// Rows done; where several variants are compared, each of them counts all rows.
    pub done: u64,
    /// Rows in all.
    pub rows: u64,
    /// Expected remaining seconds; absent: not known yet.
    pub seconds_left: Option<f64>,
}

impl EvalProgress {
    /// Share done, 0 to 1.
    pub fn share(&self) -> f32 {
        if self.rows == 0 { 0.0 } else { (self.done as f32 / self.rows as f32).min(1.0) }
    }
}

/// An error as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Kind of error.
    pub kind: ErrorKind,
    /// What failed, with values, and a remedy.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(err: &Error) -> Self {
        Self { kind: err.kind(), message: err.to_string() }
    }
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Information.
    Info,
    /// Possibly unintended.
    Warning,
    /// Something failed.
    Error,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How serious.
    pub level: LogLevel,
    /// Text, one line.
    pub text: String,
}
