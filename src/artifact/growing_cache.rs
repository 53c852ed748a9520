//! `NAME.index` beside a growing file: what a part of it came down to, so that the part need not be read again.
//!
//! The index is a cache and never believed unchecked: it has a checksum of its own, and says of the file how long the
//! part is, when it was last written, and a checksum of samples of it, its ends among them. A file that was changed and
//! has not grown, that is shorter, or whose samples differ, is read anew. The index appears whole or not at all, may be
//! deleted at any time, and where it cannot be written nothing is lost but time.
//!
//! All numbers are little-endian: 8 bytes `ADAMIXIX`, the version of what it holds (`u32`), of the file's part the length
//! (`u64`), the time (`u64` seconds and `u32` nanoseconds since 1970; zeros: not known) and the checksum of the samples
//! (`u32`), then what it holds, then the CRC-32C of everything before (`u32`).

use super::recorder::crc32c;
use super::run_dir::CAPSULE_FILE;
use crate::atomic::write_file;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const MAGIC: &[u8; 8] = b"ADAMIXIX";
/// Bytes before what it holds.
const HEAD: usize = 8 + 4 + 8 + 8 + 4 + 4;
/// Larger than any real index.
const MOST: u64 = 1 << 26;
/// Places between both ends of the part that are sampled.
const PLACES: u64 = 14;
/// Bytes of a sample.
const SAMPLE: u64 = 1024;

/// The index of one file.
pub struct GrowingCache {
    path: PathBuf,
    version: u32,
}

impl GrowingCache {
    /// Of this file; `version`: of what is kept in it.
    pub fn of(file: &Path, version: u32) -> Self {
        Self { path: file.with_extension("index"), version }
    }

    /// What the index holds, and the length of the file's part that it stands for; `None` where there is none to believe.
    pub fn load(&self, file: &mut File) -> Option<(Vec<u8>, u64)> {
        if fs::metadata(&self.path).ok().filter(|meta| meta.is_file())?.len() > MOST {
            return None;
        }
        let mut bytes = fs::read(&self.path).ok()?;
        let (head, check) = bytes.split_last_chunk()?;
        let whole = crc32c(head) == u32::from_le_bytes(*check);
        let (magic, rest) = head.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        let length = u64::from_le_bytes(*length);
        if !whole || magic != MAGIC || u32::from_le_bytes(*version) != self.version {
            return None;
        }
        let now = state(file, length).ok().flatten()?;
        let then = head.get(MAGIC.len() + 4..HEAD)?;
        // The time says nothing of a part that has been appended to since.
        let grown = file.metadata().ok()?.len() > length;
        let same = if grown { [&now[..8], &now[20..]] == [&then[..8], &then[20..]] } else { now == then };
        if !same {
            return None;
        }
        bytes.truncate(bytes.len() - 4);
        bytes.drain(..HEAD);
        Some((bytes, length))
    }

    /// Writes what the first `length` bytes of the file came down to; where that fails there is no index. Nothing is written
    /// into an unpacked capsule.
    pub fn store(&self, file: &mut File, length: u64, holds: &[u8]) {
        if self.path.with_file_name(CAPSULE_FILE).is_file() {
            return;
        }
        let state = match state(file, length) {
            Ok(Some(state)) => state,
            Ok(None) => return,
            Err(err) => return log::debug!("no index of {}: {err}", self.path.display()),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(state);
        bytes.extend(holds);
        bytes.extend(crc32c(&bytes).to_le_bytes());
        if let Err(err) = write_file(&self.path, &bytes) {
            log::debug!("no index is kept: {err}");
        }
    }
}

/// Length, time and samples of the file's first `length` bytes; `None`: it is shorter.
fn state(file: &mut File, length: u64) -> io::Result<Option<[u8; HEAD - 12]>> {
    let meta = file.metadata()?;
    if meta.len() < length {
        return Ok(None);
    }
    let time = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let last = length.saturating_sub(SAMPLE);
    let mut sampled = Vec::new();
    for place in 0..=PLACES + 1 {
        // Both ends, and evenly between them.
        let at = u128::from(last) * u128::from(place) / u128::from(PLACES + 1);
        file.seek(SeekFrom::Start(at as u64))?;
        file.by_ref().take(SAMPLE.min(length)).read_to_end(&mut sampled)?;
    }
    let mut state = [0; HEAD - 12];
    state[..8].copy_from_slice(&length.to_le_bytes());
    state[8..16].copy_from_slice(&time.as_secs().to_le_bytes());
    state[16..20].copy_from_slice(&time.subsec_nanos().to_le_bytes());
    state[20..].copy_from_slice(&crc32c(&sampled).to_le_bytes());
    Ok(Some(state))
}
