//! What the engine says in words: failures and lines for the log.

use crate::error::ErrorKind;

/// What went wrong, as data: the kind to act on, the words to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort of thing.
    pub kind: ErrorKind,
    /// What failed, with values, and what to do.
    pub message: String,
}

impl From<&crate::error::Error> for Failure {
    fn from(err: &crate::error::Error) -> Self {
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
