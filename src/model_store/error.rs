//! Failures of requests to the hub: what each means, whether a retry can help, and what the user can do.

use crate::config::model_id::ModelId;
use crate::error::{Error, ErrorKind};
use crate::model_store::hub::Hub;
use std::io;
use std::path::Path;

/// What to do after an interruption.
const AGAIN: &str = "start the same download again: it goes on where it stopped";

/// A failed step of a download.
#[derive(Debug)]
pub struct FetchError {
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether the bytes on disk must be deleted first: they do not belong to the file that the server sends.
    pub restart: bool,
    /// What to tell the user when it is not tried again.
    pub error: Error,
}

impl FetchError {
    pub(crate) fn lasting(error: Error) -> Self {
        Self { retryable: false, restart: false, error }
    }

    fn network(retryable: bool, message: String) -> Self {
        Self { retryable, restart: false, error: Error::new(ErrorKind::Network, message) }
    }

    pub(crate) fn restart(error: Error) -> Self {
        Self { retryable: true, restart: true, error }
    }
}

/// What a request is about, for messages.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The server.
    pub hub: &'a Hub,
    /// The model.
    pub id: &'a ModelId,
    /// The file, unless the request is about the whole repository.
    pub file: Option<&'a str>,
}

impl RequestContext<'_> {
    fn what(&self) -> String {
        match self.file {
            Some(file) => format!("{file} of {}", self.id.repo),
            None => self.id.repo.clone(),
        }
    }

    /// An answer that does not follow the hub's protocol.
    pub(crate) fn not_a_hub(&self, why: &str) -> FetchError {
        let (host, what, endpoint) = (self.hub.host(), self.what(), &self.hub.endpoint);
        let message = format!("{host} does not answer as a hub does for {what}: {why}; check HF_ENDPOINT ({endpoint})");
        FetchError::network(false, message)
    }

    /// An answer with this status and error message.
    pub(crate) fn status(&self, status: u16, message: &str) -> FetchError {
        let (host, what, endpoint) = (self.hub.host(), self.what(), &self.hub.endpoint);
        let page = format!("{endpoint}/{}", self.id.repo);
        let retryable = matches!(status, 408 | 416 | 429 | 500..=599);
        let text = match status {
            401 if self.hub.token.is_some() => format!(
                "{host} does not accept the token (401) for {what}; make a new one at {endpoint}/settings/tokens and \
                 put it into HF_TOKEN, and check the name: there may be no such model"
            ),
            401 => format!(
                "{host} requires a login (401) for {what}: the model is private or its terms must be accepted, or \
                 there is no such model; check the name, accept the terms at {page}, then set HF_TOKEN to a token of \
                 {endpoint}/settings/tokens"
            ),
            403 => format!(
                "{host} refuses {what} (403): its terms must be accepted first; do so at {page} with the account of \
                 your token, and give the token the right to read such models"
            ),
            404 => format!(
                "{host} has no {what} in revision {} (404); check organisation, name and revision at {page}",
                self.id.revision()
            ),
            416 => format!("{host} cannot resume {what} (416); it is fetched from the beginning"),
            429 => format!(
                "{host} gets too many requests (429); wait some minutes, or set HF_TOKEN: with a token more are allowed"
            ),
            408 | 500..=599 => {
                format!("{host} cannot answer now ({status}) for {what}; try again later, what was fetched is kept")
            }
            _ => format!("{host} answers {status} for {what}; check HF_ENDPOINT ({endpoint})"),
        };
        let error = Error::new(ErrorKind::Network, text);
        let error = if message.is_empty() { error } else { error.context(format!("the server says {message:?}")) };
        FetchError { retryable, restart: status == 416, error }
    }

    /// A failed connection or transfer.
    pub(crate) fn transport(&self, err: &ureq::Error) -> FetchError {
        let host = self.hub.host();
        // The transport hands on errors of TLS as those of the connection.
        if err.to_string().to_lowercase().contains("certificate") {
            let message =
                format!("the certificate of {host} is not accepted: {err}; a proxy may be inspecting connections");
            return FetchError::network(false, message);
        }
        let (retryable, message) = match err {
            ureq::Error::Io(err) => (true, self.connection(err)),
            ureq::Error::Timeout(ureq::Timeout::PerRead | ureq::Timeout::PerWrite) => {
                let seconds = self.hub.read_timeout.as_secs();
                (true, format!("{host} has sent nothing for {seconds} s; check the connection and {AGAIN}"))
            }
            ureq::Error::BodyExceedsLimit(bytes) => {
                return self.not_a_hub(&format!("its list of files is longer than {} MB", bytes / 1_000_000));
            }
            ureq::Error::HostNotFound => (
                true,
                format!(
                    "{host} is not found; check the connection, HF_ENDPOINT and HTTPS_PROXY (models on disk need no \
                     connection: adamix models)"
                ),
            ),
            ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
                (true, format!("no connection to {host}: {err}; check the connection, HF_ENDPOINT and HTTPS_PROXY"))
            }
            ureq::Error::Http(_) => (
                false,
                "the request is not valid; HF_TOKEN or HF_ENDPOINT contains characters that are not allowed".to_owned(),
            ),
            err => (false, format!("no connection to {host}: {err}; check HF_ENDPOINT and HTTPS_PROXY")),
        };
        FetchError::network(retryable, message)
    }

    fn connection(&self, err: &io::Error) -> String {
        use io::ErrorKind as Kind;
        let host = self.hub.host();
        match err.kind() {
            Kind::ConnectionRefused => {
                format!("{host} refuses connections; check HF_ENDPOINT ({}) and the connection", self.hub.endpoint)
            }
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
                format!("the connection to {host} broke off; {AGAIN}")
            }
            _ => format!("the connection to {host} failed: {err}; check it and try again"),
        }
    }

    /// A failed write into the cache.
    pub(crate) fn write(&self, path: &Path, err: io::Error) -> FetchError {
        use io::ErrorKind as Kind;
        let cache = self.hub.cache.display();
        FetchError::lasting(match err.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Error::new(
                ErrorKind::Io,
                format!("the disk is full: {cache}; free some space (adamix models remove NAME) and {AGAIN}"),
            ),
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Error::new(
                ErrorKind::Io,
                format!("writing into the cache failed: {err}; check the permissions, or set HF_HUB_CACHE: {cache}"),
            ),
            _ => Error::io("writing into the cache", path, err),
        })
    }
}
