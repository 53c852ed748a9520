//! Checksums of files, as the hub gives them.

use crate::error::{Error, Result};
use crate::tensor::hash::hex;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What a file must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256 of the bytes: large files.
    Sha256(String),
    /// Git's name of the contents: files that lie in the repository itself.
    Git(String),
}

impl Checksum {
    /// What an `etag` of the hub says about the contents; nothing where it says nothing.
    pub fn of_etag(etag: &str) -> Option<Self> {
        let hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let text = etag.to_ascii_lowercase();
        match (hex, etag.len()) {
            (true, 64) => Some(Self::Sha256(text)),
            (true, 40) => Some(Self::Git(text)),
            _ => None,
        }
    }

    /// Its hexadecimal digits.
    pub fn hex(&self) -> &str {
        let (Self::Sha256(hex) | Self::Git(hex)) = self;
        hex
    }

    /// Whether the file has it. `on_chunk` is called with the size of every piece that was read; its error ends this.
    pub fn matches(&self, path: &Path, on_chunk: impl FnMut(u64) -> Result<()>) -> Result<bool> {
        let file = File::open(path).map_err(|err| Error::io("opening what was downloaded", path, err))?;
        let size = file.metadata().map_err(|err| Error::io("reading what was downloaded", path, err))?.len();
        let found = match self {
            Self::Sha256(_) => digest(Sha256::new(), file, path, on_chunk),
            Self::Git(_) => digest(Sha1::new_with_prefix(format!("blob {size}\0")), file, path, on_chunk),
        };
        Ok(found? == self.hex())
    }
}

/// Hashes the rest of a file; hexadecimal digits.
fn digest(
    mut hash: impl Digest,
    mut file: File,
    path: &Path,
    mut on_chunk: impl FnMut(u64) -> Result<()>,
) -> Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(|err| Error::io("reading what was downloaded", path, err))?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
        on_chunk(n as u64)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_checksum_are_computed_as_git_and_sha256sum_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "hello\n").unwrap();
        let git = Checksum::of_etag("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let sha = Checksum::of_etag("5891B5B522D5DF086D0FF0B110FBD9D21BB4FC7163AF34D08286A2E846F6BE03").unwrap();
        assert!(matches!((&git, &sha), (Checksum::Git(_), Checksum::Sha256(_))));
        assert!(git.matches(&path, |_| Ok(())).unwrap() && sha.matches(&path, |_| Ok(())).unwrap());
        assert!(sha.matches(&path, |_| Err(Error::internal("stop"))).is_err(), "cancelled");
        std::fs::write(&path, "hello").unwrap();
        assert!(!git.matches(&path, |_| Ok(())).unwrap() && !sha.matches(&path, |_| Ok(())).unwrap());
        assert_eq!(Checksum::of_etag("W/abc"), None);
        assert_eq!(Checksum::of_etag("abc"), None);
    }
}
