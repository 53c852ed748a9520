//! SHA-256 of files, as lower-case hexadecimal, and of values.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// A file as it should be: what manifests and certificates list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Name relative to the directory of the list.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl FileHash {
    /// Of the file `name` in `dir`, read now.
    pub fn of(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let mut file = File::open(&path).map_err(|err| Error::io("opening", &path, err))?;
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hash.update(&buffer[..n]);
                    bytes += n as u64;
                }
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                Err(err) => return Err(Error::io("reading", &path, err)),
            }
        }
        Ok(Self { name: name.to_owned(), bytes, sha256: hex(&hash.finalize()) })
    }

    /// What is wrong with the file in `dir`; nothing when it is as listed.
    pub fn problem(&self, dir: &Path) -> Option<String> {
        let Self { name, bytes, sha256 } = self;
        // A file inside a directory of it may be listed; nothing outside may.
        if name.contains(['\\', ':']) || name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Some(format!("{name} is not the name of a file of this directory"));
        }
        match Self::of(dir, name) {
            Err(err) => Some(format!("{name} cannot be read: {err}")),
            Ok(found) if found.bytes != *bytes => {
                Some(format!("{name} has {} bytes but should have {bytes}", found.bytes))
            }
            Ok(found) if found.sha256 != *sha256 => Some(format!("{name} was changed after it was written")),
            Ok(_) => None,
        }
    }
}

/// SHA-256 of shapes and values.
#[derive(Default)]
pub struct FloatHash(Sha256);

impl FloatHash {
    /// Adds a shape.
    pub fn shape(&mut self, dims: &[usize]) {
        dims.iter().for_each(|&dim| self.0.update((dim as u64).to_le_bytes()));
    }

    /// Adds values.
    pub fn add(&mut self, values: &[f32]) {
        // The hash takes a block at once much faster than number by number.
        let mut bytes = [0u8; 4096];
        for block in values.chunks(bytes.len() / 4) {
            bytes.chunks_exact_mut(4).zip(block).for_each(|(to, value)| to.copy_from_slice(&value.to_le_bytes()));
            self.0.update(&bytes[..4 * block.len()]);
        }
    }

    /// The hash of all that was added.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_known_digest_of_abc() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("abc"), "abc").unwrap();
        let hash = super::FileHash::of(dir.path(), "abc").unwrap();
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((hash.bytes, hash.sha256.as_str()), (3, want));
    }
}
