//! Whether a file is what the hub says it is.

use crate::error::{Error, Result};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
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

    /// Whether the file has it. `go_on` is asked after every piece; false ends with a cancelled error.
    pub fn fits(&self, path: &Path, mut go_on: impl FnMut(u64) -> bool) -> Result<bool> {
        let mut file = File::open(path).map_err(|err| Error::io("opening what was downloaded", path, err))?;
        let size = file.metadata().map_err(|err| Error::io("reading what was downloaded", path, err))?.len();
        let mut pieces = |take: &mut dyn FnMut(&[u8])| -> Result<()> {
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = file.read(&mut buffer).map_err(|err| Error::io("reading what was downloaded", path, err))?;
                if n == 0 {
                    return Ok(());
                }
                take(&buffer[..n]);
                if !go_on(n as u64) {
                    return Err(Error::new(crate::error::ErrorKind::Cancelled, "cancelled"));
                }
            }
        };
        Ok(match self {
            Self::Sha256(expected) => {
                let mut hash = Sha256::new();
                pieces(&mut |piece| hash.update(piece))?;
                hex(&hash.finalize()) == *expected
            }
            Self::Git(expected) => {
                let mut hash = Sha1::new();
                hash.update(format!("blob {size}\0").as_bytes());
                pieces(&mut |piece| hash.update(piece))?;
                hex(&hash.finalize()) == *expected
            }
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").ok(); // a String takes everything
    }
    text
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
        assert!(git.fits(&path, |_| true).unwrap() && sha.fits(&path, |_| true).unwrap());
        assert!(sha.fits(&path, |_| false).is_err(), "cancelled");
        std::fs::write(&path, "hello").unwrap();
        assert!(!git.fits(&path, |_| true).unwrap() && !sha.fits(&path, |_| true).unwrap());
        assert_eq!(Checksum::of_etag("W/abc"), None);
        assert_eq!(Checksum::of_etag("abc"), None);
    }
}
