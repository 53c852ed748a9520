//! HTTP requests to the hub. Redirects are followed here and not by the transport: only the hub's own answer carries a
//! file's etag and size, and only the hub may get the token.

use crate::config::model_id::ModelId;
use crate::model_store::error::{FetchError, RequestContext};
use crate::model_store::hub::Hub;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

/// Longest time for finding a host, and for connecting to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time for a whole answer that is small: headers, or the list of files.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// Redirects after which a request is given up.
const MAX_REDIRECTS: usize = 8;
/// Characters shown of an error message of the server.
const MAX_SERVER_MESSAGE: usize = 200;
/// Longest list of files that is read, in bytes: a hundred thousand files.
const MAX_LIST_BYTES: u64 = 32 << 20;

/// What the hub says about a file, and where its contents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileMetadata {
    /// Names the contents; the checksum of the contents for files of the hub itself.
    pub(crate) etag: String,
    /// Its size; nothing where the hub does not say.
    pub(crate) bytes: Option<u64>,
    /// The commit it belongs to; nothing where the hub does not say.
    pub(crate) commit: Option<String>,
    /// Address of the contents, often on another server and valid for some minutes.
    pub(crate) url: String,
}

/// A connection pool for one hub. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) hub: Hub,
    agent: Agent,
}

impl Client {
    /// A client with the time limits of `hub` and the proxy of the environment (`HTTPS_PROXY`, `NO_PROXY`).
    pub fn new(hub: &Hub) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("adamix/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(hub.read_timeout))
            .timeout_per_write(Some(hub.read_timeout));
        Self { hub: hub.clone(), agent: config.build().new_agent() }
    }

    /// Closes all connections: requests in work fail at once, and new ones are refused.
    pub fn shutdown(&self) {
        self.agent.clone().shutdown();
    }

    /// The JSON text that describes a revision: its commit and files.
    pub(crate) fn model_info(&self, id: &ModelId) -> Result<String, FetchError> {
        let context = RequestContext { hub: &self.hub, id, file: None };
        let revision = escape(id.revision()).replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.hub.endpoint, id.repo);
        let (mut response, _) = self.follow(url, &context, |url| limited(self.agent.get(url)), |_| false)?;
        let body = response.body_mut().with_config().limit(MAX_LIST_BYTES).read_to_string();
        body.map_err(|err| context.transport(&err))
    }

    /// Size, etag and address of a file at a commit.
    pub(crate) fn file_metadata(&self, id: &ModelId, commit: &str, file: &str) -> Result<FileMetadata, FetchError> {
        let context = RequestContext { hub: &self.hub, id, file: Some(file) };
        let url = format!("{}/{}/resolve/{commit}/{}", self.hub.endpoint, id.repo, escape(file));
        let described = |headers: &HeaderMap| headers.contains_key("x-linked-etag");
        let (response, url) = self.follow(url, &context, |url| limited(self.agent.head(url)), described)?;
        let headers = response.headers();
        let linked = text(headers, "x-linked-size");
        let size = if response.status().is_success() { linked.or(text(headers, "content-length")) } else { linked };
        let etag = text(headers, "x-linked-etag").or(text(headers, "etag")).unwrap_or_default();
        Ok(FileMetadata {
            etag: etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_owned(),
            bytes: size.and_then(|size| size.parse().ok()),
            commit: text(headers, "x-repo-commit").map(str::to_owned),
            url,
        })
    }

    /// The contents of a file from byte `from` on; the server may send all of it instead (status 200).
    pub(crate) fn contents(
        &self,
        url: &str,
        from: u64,
        context: &RequestContext<'_>,
    ) -> Result<Response<Body>, FetchError> {
        let request = |url: &str| {
            let request = self.agent.get(url);
            if from > 0 { request.header(header::RANGE, format!("bytes={from}-")) } else { request }
        };
        Ok(self.follow(url.to_owned(), context, request, |_| false)?.0)
    }

    /// Sends a request and follows redirects up to one that is `enough`. The address is that of the last answer, or
    /// where it redirects to.
    fn follow(
        &self,
        mut url: String,
        context: &RequestContext<'_>,
        request: impl Fn(&str) -> RequestBuilder<WithoutBody>,
        enough: impl Fn(&HeaderMap) -> bool,
    ) -> Result<(Response<Body>, String), FetchError> {
        for _ in 0..=MAX_REDIRECTS {
            let mut request = request(&url);
            if let Some(token) = self.hub.token.as_ref().filter(|_| origin(&url) == origin(&self.hub.endpoint)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|err| context.transport(&err))?;
            let status = response.status();
            if status.is_success() {
                return Ok((response, url));
            }
            let Some(location) = text(response.headers(), "location").filter(|_| status.is_redirection()) else {
                let message = text(response.headers(), "x-error-message").unwrap_or_default().trim();
                let message: String = message.chars().take(MAX_SERVER_MESSAGE).collect();
                return Err(context.status(status.as_u16(), &message));
            };
            url = redirected(&url, location).ok_or_else(|| {
                context.not_a_hub(&format!("it redirects to an address that is refused, {location:?}"))
            })?;
            if enough(response.headers()) {
                return Ok((response, url));
            }
        }
        Err(context.not_a_hub(&format!("it redirects more than {MAX_REDIRECTS} times")))
    }
}

fn limited(request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
    request.config().timeout_global(Some(ANSWER_TIMEOUT)).build()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().or(match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    })?;
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// The address that a redirect means. Refused: what is neither HTTP nor HTTPS, from HTTPS to HTTP, and paths relative
/// to the present one, which the hub does not use.
fn redirected(url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let next = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        let authority = rest.split(['/', '?']).next()?;
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let (to, ..) = origin(&next)?;
    (to == "https" || !scheme.eq_ignore_ascii_case("https")).then_some(next)
}

/// Percent-encodes everything in a path that is not allowed to stand there as it is.
fn escape(path: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    path.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_unsafe_ones_refused() {
        let to = |location: &str| redirected("https://hub.co/a/b?c", location);
        assert_eq!(to("/x?y=http://z").as_deref(), Some("https://hub.co/x?y=http://z"));
        assert_eq!(to("//cdn.co/x").as_deref(), Some("https://cdn.co/x"));
        assert_eq!(to("https://cdn.co:8443/x").as_deref(), Some("https://cdn.co:8443/x"));
        for refused in ["http://hub.co/x", "ftp://hub.co/x", "file:///etc/passwd", "x", "", "https://"] {
            assert_eq!(to(refused), None, "{refused}");
        }
        assert!(redirected("http://localhost:1/a", "http://localhost:2/a").is_some());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = origin("https://hub.co");
        assert!(hub.is_some() && hub == origin("https://HUB.co:443/x"));
        for other in ["http://hub.co", "https://hub.co:444", "https://hub.co@evil.co/", "https://hub.co.evil.co"] {
            assert_ne!(hub, origin(other), "{other}");
        }
    }

    #[test]
    fn names_are_escaped_in_addresses() {
        assert_eq!(escape("q4/a b#?%ü.gguf"), "q4/a%20b%23%3F%25%C3%BC.gguf");
    }
}
