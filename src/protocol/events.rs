//! The small parts of events: phases of a run, failures, lines for the log.

use crate::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// What a run is doing.
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
    /// Held between two steps.
    Paused,
    /// The merged model is being measured, or answers its fixed inputs.
    Evaluating,
    /// A stop was heard; a checkpoint is being written.
    Stopping,
    /// Ended as planned, or stopped.
    Finished,
    /// Ended by an error.
    Failed,
}

impl RunPhase {
    /// Whether the run still occupies the engine.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Preparing | Self::Training | Self::Paused | Self::Evaluating | Self::Stopping)
    }
}

/// What went wrong, as data: the kind to act on, the words to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort of thing.
    pub kind: ErrorKind,
    /// What failed, with values, and what to do.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(err: &Error) -> Self {
        Self { kind: err.kind(), message: err.to_string() }
    }
}

/// How serious a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Good to know.
    Info,
    /// Probably not what was wanted.
    Warning,
    /// Something failed.
    Error,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How serious.
    pub level: LogLevel,
    /// The words, one line.
    pub text: String,
}
