//! The directory of a ZIP archive whose entries are stored without compression, as `torch.save` writes it.
//!
//! Every place and size is compared with the file before it is used.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

const END: [u8; 4] = *b"PK\x05\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// More entries than this are taken for a forgery: there is one for each tensor.
const MOST_ENTRIES: usize = 65_535;

/// An entry: bytes inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its local header begins.
    header: u64,
    /// Bytes.
    pub size: u64,
    crc: u32,
}

/// An open archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    length: u64,
    entries: BTreeMap<String, Entry>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64> {
    let part = bytes.get(at..at + N).ok_or_else(|| Error::format("the archive's directory is cut off"))?;
    Ok(part.iter().rev().fold(0, |n, &byte| (n << 8) | u64::from(byte)))
}

impl Archive {
    /// Reads the directory.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|err| Error::io("opening", path, err))?;
        let length = file.metadata().map_err(|err| Error::io("reading", path, err))?.len();
        let read = |file: &mut File, at: u64, size: u64| {
            let mut bytes = vec![0; size as usize];
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map(|()| bytes)
        };
        // The end record is followed by a comment of at most 65535 bytes.
        let tail_size = length.min(22 + 65_535);
        let tail = read(&mut file, length - tail_size, tail_size).map_err(|err| Error::io("reading", path, err))?;
        let end = (0..tail.len().saturating_sub(21)).rev().find(|&at| tail[at..at + 4] == END);
        let end =
            end.ok_or_else(|| Error::format("the archive has no directory at its end; it is cut off: fetch it again"))?;
        let (count, size, start) =
            (number::<2>(&tail, end + 10)?, number::<4>(&tail, end + 12)?, number::<4>(&tail, end + 16)?);
        if count as usize >= MOST_ENTRIES || start == u64::from(u32::MAX) {
            return Err(Error::format("the archive has more than 65534 entries or 4 GB, which cannot be read"));
        }
        if start.checked_add(size).is_none_or(|end| end > length) {
            return Err(Error::format("the archive's directory lies outside the file; it is cut off: fetch it again"));
        }
        let directory = read(&mut file, start, size).map_err(|err| Error::io("reading", path, err))?;
        let (mut entries, mut at) = (BTreeMap::new(), 0);
        for _ in 0..count {
            at = Self::entry(&directory, at, length, &mut entries)?;
        }
        Ok(Self { path: path.to_owned(), file, length, entries })
    }

    fn entry(directory: &[u8], at: usize, length: u64, entries: &mut BTreeMap<String, Entry>) -> Result<usize> {
        if directory.get(at..at + 4) != Some(&ENTRY) {
            return Err(Error::format("the archive's directory is damaged"));
        }
        let field = |offset: usize| number::<2>(directory, at + offset);
        let (flags, method, name_size, extra, comment) = (field(8)?, field(10)?, field(28)?, field(30)?, field(32)?);
        let crc = number::<4>(directory, at + 16)? as u32;
        let (packed, size) = (number::<4>(directory, at + 20)?, number::<4>(directory, at + 24)?);
        let header = number::<4>(directory, at + 42)?;
        let name = directory.get(at + 46..at + 46 + name_size as usize);
        let name = name.ok_or_else(|| Error::format("the archive's directory is cut off"))?;
        let name = String::from_utf8_lossy(name).into_owned();
        if method != 0 || packed != size || flags & 1 != 0 {
            return Err(Error::format(format!(
                "entry {name:?} of the archive is compressed or encrypted; torch.save stores entries as they are"
            )));
        }
        if size == u64::from(u32::MAX) || header.checked_add(30 + size).is_none_or(|end| end > length) {
            return Err(Error::format(format!(
                "entry {name:?} of {size} bytes at {header} lies outside the file of {length} bytes; it is cut off or forged"
            )));
        }
        if entries.insert(name.clone(), Entry { header, size, crc }).is_some() {
            return Err(Error::format(format!("entry {name:?} is in the archive twice")));
        }
        Ok(at + 46 + (name_size + extra + comment) as usize)
    }

    /// All entries by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The bytes of an entry, checked against its sum.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let entry =
            *self.entries.get(name).ok_or_else(|| Error::format(format!("the archive lacks entry {name:?}")))?;
        let failed = |err| Error::io("reading", &self.path, err);
        let mut head = [0; 30];
        self.file.seek(SeekFrom::Start(entry.header)).map_err(failed)?;
        self.file.read_exact(&mut head).map_err(failed)?;
        let start = entry.header + 30 + number::<2>(&head, 26)? + number::<2>(&head, 28)?;
        if head[..4] != LOCAL || start.checked_add(entry.size).is_none_or(|end| end > self.length) {
            return Err(Error::format(format!("entry {name:?} of the archive is damaged")));
        }
        let mut bytes = vec![0; entry.size as usize];
        self.file.seek(SeekFrom::Start(start)).map_err(failed)?;
        self.file.read_exact(&mut bytes).map_err(failed)?;
        if crc32(&bytes) != entry.crc {
            return Err(Error::format(format!(
                "entry {name:?} of the archive does not fit its sum; it is damaged: fetch it again"
            )));
        }
        Ok(bytes)
    }
}

/// The sum of ZIP and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|i| {
        (0..8).fold(i as u32, |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    });
    !bytes.iter().fold(!0, |sum, &byte| (sum >> 8) ^ table[((sum ^ u32::from(byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_zip_s() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
