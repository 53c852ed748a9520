//! The one error type of the crate.
//!
//! An [`Error`] is a kind (what sort of thing went wrong, so that a caller can act on it), a message
//! (what failed, with the values, and what to do) and the contexts it passed through on its way up.
//! It is displayed as one line, outermost context first, joined with `": "`.

use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is out of range or contradicts another one.
    Config,
    /// The user's data: a malformed row, an unknown label, a wrong encoding.
    Data,
    /// Tensors whose shapes do not fit together.
    Shape,
    /// NaN or infinity where a finite number was needed.
    Numerics,
    /// The operating system refused to read or write.
    Io,
    /// A file that is not what its name says: broken JSON, a truncated safetensors file.
    Format,
    /// The compute device: absent, out of memory, lost.
    Device,
    /// The user asked to stop. Not an error to the user.
    Cancelled,
    /// The network, or the server at its other end.
    Network,
    /// A written export does not reproduce what was seen.
    Certificate,
    /// A bug of ours.
    Internal,
}

/// An error with its kind, message and the contexts it passed through.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error: lower case, what failed with its values, then what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), source: None }
    }
    /// The user asked to stop.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }
    /// A setting that cannot be used.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }
    /// A problem in the user's data.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }
    /// A file with broken contents.
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }
    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
    /// A failed file operation; the path goes last in the message.
    pub fn io(action: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::StorageFull => "; free some disk space and try again",
            std::io::ErrorKind::PermissionDenied => "; check the permissions",
            _ => "",
        };
        Self {
            kind: ErrorKind::Io,
            message: format!("{action} failed: {source}{hint}: {}", path.display()),
            context: Vec::new(),
            source: Some(Box::new(source)),
        }
    }
    /// What sort of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// Adds what was being done when the error came by.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context.push(context.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<candle_core::Error> for Error {
    /// The first line of candle's message; its backtrace is for debuggers, not for users.
    fn from(err: candle_core::Error) -> Self {
        let text = err.to_string();
        let lower = text.to_lowercase();
        let kind = if lower.contains("out of memory") || lower.contains("cuda") {
            ErrorKind::Device
        } else if lower.contains("shape") || lower.contains("dim") {
            ErrorKind::Shape
        } else {
            ErrorKind::Internal
        };
        let message = text.lines().next().unwrap_or_default().to_owned();
        Self { kind, message, context: Vec::new(), source: None }
    }
}

/// Adds context to any result on its way up.
pub trait Context<T> {
    /// Wraps the error, if any, with what was being done.
    fn context(self, context: impl Into<String>) -> Result<T>;
    /// As [`Context::context`], computed only when there is an error.
    fn with_context(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|err| err.into().context(context))
    }
    fn with_context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|err| err.into().context(context()))
    }
}
