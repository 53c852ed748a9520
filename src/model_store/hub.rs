//! Which server, which cache, which token: what the hub's own tools read from the environment.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Silence after which a connection is closed.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The public hub.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Where models come from and where they are kept.
#[derive(Clone)]
pub struct Hub {
    /// The cache: the directory of the `models--org--name` directories. It need not exist.
    pub cache: PathBuf,
    /// The server's address without a slash at its end.
    pub endpoint: String,
    /// The variable that forbids downloads; nothing where they are allowed.
    pub offline: Option<&'static str>,
    /// How long a connection may be silent before it is closed.
    pub read_timeout: Duration,
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Hub {
    /// Without the token, which must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("offline", &self.offline)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .finish()
    }
}

impl Hub {
    /// As the environment says: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and their
    /// older names.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// As these variables say.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| {
            let value = variable(name)?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let path = |name: &str| text(name).map(PathBuf::from);
        let home = path("HF_HOME").or_else(|| {
            let user = || Some(path("HOME").or_else(|| path("USERPROFILE"))?.join(".cache"));
            Some(path("XDG_CACHE_HOME").or_else(user)?.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or_else(|| {
            Error::config("no home directory is known, so there is no place for models; set HF_HOME (or HOME)")
        })?;
        let file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| read_token(&file?));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let is_on = |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        let on = |name: &str| text(name).is_some_and(is_on);
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| on(name));
        Ok(Self {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            offline,
            read_timeout: READ_TIMEOUT,
            token,
        })
    }

    /// The server's name, for messages.
    pub fn host(&self) -> &str {
        self.endpoint.split_once("://").map_or(self.endpoint.as_str(), |(_, rest)| rest)
    }
}

fn read_token(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(pairs: &[(&str, &str)]) -> Hub {
        Hub::from_variables(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())).unwrap()
    }

    #[test]
    fn the_cache_is_where_the_hubs_own_tools_have_it() {
        let cache = |pairs: &[(&str, &str)]| hub(pairs).cache.display().to_string();
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "/hf")]), "/hf/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), "/c");
        assert_eq!(cache(&[("HF_HOME", ""), ("HOME", "/h")]), "/h/.cache/huggingface/hub", "empty is not set");
        assert!(Hub::from_variables(|_| None).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn server_token_and_offline_are_read_and_the_token_is_never_shown() {
        let plain = hub(&[("HOME", "/nowhere")]);
        assert_eq!((plain.endpoint.as_str(), plain.offline, plain.token), (ENDPOINT, None, None));
        let set =
            hub(&[("HOME", "/h"), ("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", " hf_x\n"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!((set.endpoint.as_str(), set.host()), ("http://mirror", "mirror"));
        assert_eq!((set.token.as_deref(), set.offline), (Some("hf_x"), Some("HF_HUB_OFFLINE")));
        assert!(!format!("{set:?}").contains("hf_x"));
        for (value, on) in [("true", true), ("YES", true), ("0", false), ("", false), ("no", false)] {
            assert_eq!(hub(&[("HOME", "/h"), ("HF_HUB_OFFLINE", value)]).offline.is_some(), on, "{value:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(hub(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", "hf_env")]).token.as_deref(), Some("hf_env"));
    }
}
