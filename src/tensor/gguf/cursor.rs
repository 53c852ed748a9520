//! Little-endian numbers and strings from a file; reading never passes its end.

use super::value_type;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// A position in a file of known size.
pub(super) struct Cursor {
    reader: BufReader<File>,
    path: PathBuf,
    at: u64,
    size: u64,
}

impl Cursor {
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |err| Error::io("reading the model", path, err);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { reader: BufReader::new(file), path: path.to_owned(), at: 0, size })
    }

    /// Bytes before the position.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// An error unless `count` things of at least `least` bytes fit into what is left.
    pub fn must_hold(&self, count: u64, least: u64, what: &str) -> Result<()> {
        let left = self.size - self.at;
        match count.checked_mul(least) {
            Some(needed) if needed <= left => Ok(()),
            _ => Err(Error::format(format!(
                "it announces {count} {what} where {left} bytes are left; it is cut off or forged: fetch it again"
            ))),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|err| Error::io("reading the model", &self.path, err))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.must_hold(N as u64, 1, "bytes")?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The bytes from an earlier position up to this one, once more.
    pub fn since(&mut self, start: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (self.at - start) as usize];
        self.reader.seek(SeekFrom::Start(start)).map_err(|err| Error::io("reading the model", &self.path, err))?;
        self.at = start;
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// An integer of the type with this number.
    pub fn int(&mut self, kind: u32) -> Result<i128> {
        Ok(match kind {
            0 => i128::from(u8::from_le_bytes(self.bytes()?)),
            1 => i128::from(i8::from_le_bytes(self.bytes()?)),
            2 => i128::from(u16::from_le_bytes(self.bytes()?)),
            3 => i128::from(i16::from_le_bytes(self.bytes()?)),
            value_type::U32 => i128::from(self.u32()?),
            value_type::I32 => i128::from(i32::from_le_bytes(self.bytes()?)),
            value_type::U64 => i128::from(self.u64()?),
            value_type::I64 => i128::from(i64::from_le_bytes(self.bytes()?)),
            other => return Err(Error::format(format!("a value of the unknown kind {other}"))),
        })
    }

    /// A floating point number of 4 or 8 bytes.
    pub fn float(&mut self, kind: u32) -> Result<f64> {
        Ok(match kind {
            value_type::F32 => f64::from(f32::from_le_bytes(self.bytes()?)),
            _ => f64::from_le_bytes(self.bytes()?),
        })
    }

    /// A string with its length before it. Bytes that are not UTF-8 are replaced: such names occur in published files.
    pub fn string(&mut self, longest: u64) -> Result<String> {
        let length = self.u64()?;
        self.must_hold(length, 1, "bytes of a text")?;
        if length > longest {
            return Err(Error::format(format!("a text of {length} bytes, longer than {longest}")));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned()))
    }
}
