//! The name of a model: `org/name`, a revision after `@`, a file after `:`.

use crate::error::{Error, Result};
use std::fmt;
use std::path::{Component, Path};

/// Longest part of a name on the hub.
const LONGEST: usize = 96;

/// The name of a model on the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId {
    /// `org/name`, or `name` alone for the oldest models.
    pub repo: String,
    /// Branch, tag or commit; absent: `main`.
    pub revision: Option<String>,
    /// One GGUF file of a repository that holds several.
    pub file: Option<String>,
}

impl ModelId {
    /// Reads `org/name`, `org/name@revision`, `org/name:file.gguf`, or the address of a model's page.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            Error::config(format!(
                "{text:?} is not the name of a model: {why}; write org/name, org/name@revision or org/name:file.gguf"
            ))
        };
        let text = text.trim();
        if let Some((_, rest)) = text.split_once("://") {
            return Self::of_address(rest).ok_or_else(|| refused("this address is not that of a model's page"));
        }
        let (rest, file) = match text.split_once(':') {
            Some((rest, file)) => (rest, Some(file)),
            None => (text, None),
        };
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (rest, None),
        };
        if !is_repo(repo) {
            return Err(refused("organisation and name hold letters, digits, '-', '_' and '.'"));
        }
        if revision.is_some_and(|revision| !is_revision(revision)) {
            return Err(refused("the revision after '@' is a branch, a tag or a commit"));
        }
        if file.is_some_and(|file| !is_file(file) || !is_gguf_name(file)) {
            return Err(refused("the file after ':' is a GGUF file of the repository"));
        }
        let revision = revision.filter(|revision| *revision != "main");
        Ok(Self { repo: repo.to_owned(), revision: revision.map(str::to_owned), file: file.map(str::to_owned) })
    }

    /// `huggingface.co/org/name`, `.../tree/revision`, `.../blob/revision/file.gguf`; what follows `?` does not matter.
    fn of_address(rest: &str) -> Option<Self> {
        let path = rest.split(['?', '#']).next()?.trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (repo, revision, file) = match parts.as_slice() {
            [org, name] => (format!("{org}/{name}"), None, None),
            [org, name, "tree", revision] => (format!("{org}/{name}"), Some(*revision), None),
            [org, name, "blob" | "resolve", revision, file @ ..] if !file.is_empty() => {
                let file = file.join("/");
                (format!("{org}/{name}"), Some(*revision), is_gguf_name(&file).then_some(file))
            }
            _ => return None,
        };
        let revision = revision.filter(|revision| *revision != "main").map(str::to_owned);
        let fits = is_repo(&repo) && revision.as_deref().is_none_or(is_revision) && file.as_deref().is_none_or(is_file);
        fits.then_some(Self { repo, revision, file })
    }

    /// The directory of the repository in a cache.
    pub fn folder(&self) -> String {
        format!("models--{}", self.repo.replace('/', "--"))
    }

    /// The repository that such a directory holds.
    pub fn of_folder(folder: &str) -> Option<Self> {
        let repo = folder.strip_prefix("models--")?.replacen("--", "/", 1);
        is_repo(&repo).then_some(Self { repo, revision: None, file: None })
    }

    /// The revision, `main` when none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

/// The name of the model for other programs: `org/name` for one of the hub, else the path.
pub fn base_name(path: &str) -> String {
    match ModelId::parse(path) {
        Ok(id) if (id.revision.is_some() || id.file.is_some()) && !Path::new(path).exists() => id.repo,
        _ => path.to_owned(),
    }
}

/// A short name for the model of a run: `name` of `org/name@revision`, else the last part of the path.
pub fn title(path: &str) -> Option<String> {
    match ModelId::parse(path) {
        Ok(id) if !Path::new(path).exists() => Some(id.repo.rsplit('/').next()?.to_owned()),
        _ => Some(Path::new(path).file_name()?.to_string_lossy().into_owned()),
    }
}

/// Whether a name ends as GGUF files do.
pub(crate) fn is_gguf_name(name: &str) -> bool {
    name.len() > 5 && name.to_ascii_lowercase().ends_with(".gguf")
}

/// Whether a name from a server stays in its directory, on every system.
pub(crate) fn is_file(name: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && !name.ends_with('/')
        && Path::new(name).components().all(plain)
}

/// Whether a text is a commit, as long ones are written.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_repo(text: &str) -> bool {
    let part = |part: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        part.len() <= LONGEST
            && part.bytes().all(inside)
            && edge(part.bytes().next())
            && edge(part.bytes().last())
            && !part.contains("--")
            && !part.contains("..")
    };
    let parts: Vec<&str> = text.split('/').collect();
    parts.len() <= 2 && parts.into_iter().all(part)
}

fn is_revision(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    text.len() <= 2 * LONGEST && text.bytes().all(plain) && is_file(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Option<String>, Option<String>) {
        let id = ModelId::parse(text).unwrap_or_else(|err| panic!("{err}"));
        (id.repo, id.revision, id.file)
    }

    #[test]
    fn names_are_read_and_written() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("a/b-1.5"), ("a/b-1.5".to_owned(), None, None));
        assert_eq!(parts("gpt2"), ("gpt2".to_owned(), None, None));
        assert_eq!(parts("a/b@main"), ("a/b".to_owned(), None, None));
        assert_eq!(parts("a/b@refs/pr/1"), ("a/b".to_owned(), some("refs/pr/1"), None));
        assert_eq!(parts("a/b@v1:q4/x.GGUF"), ("a/b".to_owned(), some("v1"), some("q4/x.GGUF")));
        assert_eq!(parts("https://huggingface.co/a/b"), ("a/b".to_owned(), None, None));
        assert_eq!(parts("https://huggingface.co/a/b/tree/v2/"), ("a/b".to_owned(), some("v2"), None));
        assert_eq!(parts("https://hf.co/a/b/blob/main/x.gguf?download=true"), ("a/b".to_owned(), None, some("x.gguf")));
        for text in ["a/b", "a/b@v1", "a/b:x.gguf", "a/b@v1:x.gguf"] {
            assert_eq!(ModelId::parse(text).unwrap().to_string(), text);
        }
        let id = ModelId::parse("a/b-c").unwrap();
        assert_eq!((id.folder().as_str(), ModelId::of_folder("models--a--b-c")), ("models--a--b-c", Some(id.clone())));
        assert_eq!(ModelId::of_folder("datasets--a--b"), None);
    }

    #[test]
    fn what_would_leave_the_cache_is_refused() {
        for text in [
            "",
            "a/b/c",
            "../b",
            "a/..",
            "/a",
            "a/",
            "a b/c",
            "a/b--c",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a/b:x.bin",
            "a/b:../x.gguf",
            "a/b:/x.gguf",
            "C:\\models",
            "https://huggingface.co/a",
            "https://huggingface.co/datasets/a/b",
        ] {
            let err = ModelId::parse(text).expect_err(text).to_string();
            assert!(err.contains("org/name"), "{err}");
        }
    }
}
