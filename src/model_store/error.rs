//! What can go wrong between here and the hub, in words that say what to do.

use crate::error::{Error, ErrorKind};
use crate::model_store::hub::Hub;
use crate::model_store::id::ModelId;
use hf_hub::api::sync::ApiError;
use std::io;

/// A failure on the way.
#[derive(Debug)]
pub struct Trouble {
    /// Whether it may be gone in a moment.
    pub passing: bool,
    /// The rest of the file does not fit what is there of it: it must be begun anew.
    pub start_over: bool,
    /// What to tell the user when it does not pass.
    pub error: Error,
}

impl Trouble {
    pub(crate) fn lasting(error: Error) -> Self {
        Self { passing: false, start_over: false, error }
    }

    pub(crate) fn passing(error: Error) -> Self {
        Self { passing: true, start_over: false, error }
    }
}

fn network(message: String) -> Error {
    Error::new(ErrorKind::Network, message)
}

/// What an answer with this status means for a repository, or one of its files.
pub fn of_status(hub: &Hub, id: &ModelId, file: Option<&str>, status: u16) -> Trouble {
    let (host, repo) = (hub.host(), &id.repo);
    let page = format!("{}/{repo}", hub.endpoint);
    let what = match file {
        Some(file) => format!("{file} of {repo}"),
        None => repo.clone(),
    };
    match status {
        401 if hub.has_token() => Trouble::lasting(network(format!(
            "{host} does not accept the token (401) for {what}; make a new one at {}/settings/tokens and put it into \
             HF_TOKEN, and check the name: there may be no such model",
            hub.endpoint
        ))),
        401 => Trouble::lasting(network(format!(
            "{host} asks who you are (401) for {what}: the model is private or its terms must be accepted, or there is no \
             such model; check the name, accept the terms at {page}, then set HF_TOKEN to a token of {}/settings/tokens",
            hub.endpoint
        ))),
        403 => Trouble::lasting(network(format!(
            "{host} refuses {what} (403): its terms must be accepted first; do so at {page} with the account of your token, \
             and give the token the right to read such models"
        ))),
        404 => Trouble::lasting(network(format!(
            "{host} has no {what} in revision {} (404); check organisation, name and revision at {page}",
            id.revision()
        ))),
        416 => Trouble {
            passing: true,
            start_over: true,
            error: network(format!(
                "{host} cannot go on with {what} where it was broken off (416); it is fetched anew"
            )),
        },
        429 => Trouble::passing(network(format!(
            "{host} gets too many requests (429); wait some minutes, or set HF_TOKEN: with a token more are allowed"
        ))),
        408 | 500..=599 => Trouble::passing(network(format!(
            "{host} cannot answer now ({status}) for {what}; try again later, what was fetched is kept"
        ))),
        _ => Trouble::lasting(network(format!(
            "{host} answers {status} for {what}; check HF_ENDPOINT ({})",
            hub.endpoint
        ))),
    }
}

/// What an error of the transport means.
pub fn of_transport(hub: &Hub, id: &ModelId, file: Option<&str>, err: &ureq::Error) -> Trouble {
    let host = hub.host();
    match err {
        ureq::Error::StatusCode(status) => of_status(hub, id, file, *status),
        ureq::Error::Io(err) => of_io(hub, err),
        ureq::Error::HostNotFound => Trouble::passing(network(format!(
            "{host} is not found; check the connection, HF_ENDPOINT and HTTPS_PROXY (what is on disk works without: adamix models)"
        ))),
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => Trouble::passing(
            network(format!("no connection to {host}: {err}; check the connection, HF_ENDPOINT and HTTPS_PROXY")),
        ),
        ureq::Error::Http(_) => Trouble::lasting(network(
            "a request cannot be made; HF_TOKEN or HF_ENDPOINT holds characters that do not belong there".to_owned(),
        )),
        err if err.to_string().to_lowercase().contains("certificate") => Trouble::lasting(network(format!(
            "the certificate of {host} is not accepted: {err}; is there a proxy that looks into connections?"
        ))),
        err => Trouble::lasting(network(format!("no connection to {host}: {err}; check HF_ENDPOINT and HTTPS_PROXY"))),
    }
}

/// What an input or output error in the middle of a transfer means.
fn of_io(hub: &Hub, err: &io::Error) -> Trouble {
    use io::ErrorKind as Kind;
    let host = hub.host();
    match err.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => Trouble::lasting(Error::new(
            ErrorKind::Io,
            format!(
                "the disk is full: {}; free some space (adamix models remove NAME) and start the same download again: it \
                 goes on where it stopped",
                hub.cache.display()
            ),
        )),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Trouble::lasting(Error::new(
            ErrorKind::Io,
            format!(
                "writing into the cache failed: {err}; check the permissions, or set HF_HUB_CACHE: {}",
                hub.cache.display()
            ),
        )),
        Kind::ConnectionRefused => Trouble::passing(network(format!(
            "{host} refuses connections; check HF_ENDPOINT ({}) and the connection",
            hub.endpoint
        ))),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
            Trouble::passing(network(format!(
                "the connection to {host} broke off; start the same download again: it goes on where it stopped"
            )))
        }
        _ => Trouble::passing(network(format!("the connection to {host} failed: {err}; check it and try again"))),
    }
}

/// What an error of the crate that transfers means.
pub fn of_api(hub: &Hub, id: &ModelId, file: &str, err: &ApiError) -> Trouble {
    match err {
        ApiError::RequestError(err) => of_transport(hub, id, Some(file), err),
        ApiError::IoError(err) => of_io(hub, err),
        ApiError::TooManyRetries(err) => of_api(hub, id, file, err),
        ApiError::InvalidResume => Trouble {
            passing: true,
            start_over: true,
            error: Error::format(format!("what is there of {file} is longer than the file; it is fetched anew")),
        },
        ApiError::LockAcquisition(path) => Trouble::lasting(Error::config(format!(
            "another program is fetching {file} right now; wait until it is done, or end it: {}",
            path.display()
        ))),
        err => Trouble::lasting(network(format!(
            "{} does not answer as a hub does: {err}; check HF_ENDPOINT ({})",
            hub.host(),
            hub.endpoint
        ))),
    }
}
