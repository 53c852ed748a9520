//! The error type of the crate: a kind, a message (what failed, with the values, and what to do) and contexts. It is
//! displayed as one line, outermost context first, joined with `": "`.

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
    /// A written export does not reproduce the measured outputs.
    Certificate,
    /// A bug in this program.
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
    /// A bug in this program.
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
    /// Adds what was being done when the error occurred.
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
    /// The kind follows candle's own variant, below whatever contexts and backtraces it is wrapped in. The message is its
    /// first line; the whole error stays the source.
    fn from(err: candle_core::Error) -> Self {
        let (mut inner, mut context) = (&err, Vec::new());
        loop {
            match inner {
                candle_core::Error::WithBacktrace { inner: next, .. } => inner = next,
                candle_core::Error::WithPath { inner: next, path } => {
                    context.push(path.display().to_string());
                    inner = next;
                }
                candle_core::Error::Context { inner: next, context: text } => {
                    context.push(text.to_string());
                    inner = next;
                }
                _ => break,
            }
        }
        // Contexts are kept innermost first.
        context.reverse();
        let (kind, message) = (candle_kind(inner), inner.to_string());
        let message = message.lines().next().unwrap_or_default().to_owned();
        Self { kind, message, context, source: Some(Box::new(err)) }
    }
}

fn candle_kind(err: &candle_core::Error) -> ErrorKind {
    use candle_core::Error as E;
    match err {
        E::DimOutOfRange { .. }
        | E::DuplicateDimIndex { .. }
        | E::UnexpectedNumberOfDims { .. }
        | E::UnexpectedShape { .. }
        | E::ShapeMismatch { .. }
        | E::ShapeMismatchBinaryOp { .. }
        | E::ShapeMismatchCat { .. }
        | E::ShapeMismatchSplit { .. }
        | E::OnlySingleDimension { .. }
        | E::EmptyTensor { .. }
        | E::NarrowInvalidArgs { .. }
        | E::Conv1dInvalidArgs { .. }
        | E::InvalidIndex { .. }
        | E::BroadcastIncompatibleShapes { .. }
        | E::MatMulUnexpectedStriding(_) => ErrorKind::Shape,
        E::NotCompiledWithCudaSupport | E::Cuda(_) => ErrorKind::Device,
        E::Io(_) => ErrorKind::Io,
        E::CannotFindTensor { .. }
        | E::Npy(_)
        | E::Zip(_)
        | E::SafeTensor(_)
        | E::UnsupportedSafeTensorDtype(_)
        | E::ParseInt(_)
        | E::FromUtf8(_) => ErrorKind::Format,
        _ => ErrorKind::Internal,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn candle_errors_are_sorted_by_their_variant_and_kept_as_the_source() {
        use candle_core::Error as Candle;
        let io = || Candle::Io(std::io::Error::other("cannot open /data/cuda/dim/shape.bin"));
        let err = Error::from(io().with_path("/data/cuda/dim.bin").context("reading"));
        assert_eq!(err.kind(), ErrorKind::Io, "{err}");
        let text = "reading: /data/cuda/dim.bin: cannot open /data/cuda/dim/shape.bin";
        assert_eq!(err.to_string(), text);
        assert!(err.source().is_some_and(|source| source.is::<Candle>()));
        let kind = |err: Candle| Error::from(err).kind();
        assert_eq!(kind(Candle::Msg("a cuda kernel, dim 3".to_owned())), ErrorKind::Internal);
        assert_eq!(kind(Candle::Cuda("out of memory".into())), ErrorKind::Device);
        assert_eq!(kind(Candle::EmptyTensor { op: "cat" }.context("joining")), ErrorKind::Shape);
        assert_eq!(kind(Candle::CannotFindTensor { path: "dim".to_owned() }), ErrorKind::Format);
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let err = Error::from(Candle::WithBacktrace { inner: Box::new(io()), backtrace });
        assert_eq!((err.kind(), err.to_string().lines().count()), (ErrorKind::Io, 1));
    }
}
