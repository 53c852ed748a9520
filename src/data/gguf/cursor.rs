//! Little-endian numbers and texts from a file whose end is never passed.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

/// A place in a file of known size.
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

    /// Bytes before the place.
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

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.must_hold(N as u64, 1, "bytes")?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|err| Error::io("reading the model", &self.path, err))?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// A whole number of the kind with this number in the format.
    pub fn whole(&mut self, kind: u32) -> Result<i128> {
        Ok(match kind {
            0 => i128::from(u8::from_le_bytes(self.bytes()?)),
            1 => i128::from(i8::from_le_bytes(self.bytes()?)),
            2 => i128::from(u16::from_le_bytes(self.bytes()?)),
            3 => i128::from(i16::from_le_bytes(self.bytes()?)),
            4 => i128::from(self.u32()?),
            5 => i128::from(i32::from_le_bytes(self.bytes()?)),
            10 => i128::from(self.u64()?),
            11 => i128::from(i64::from_le_bytes(self.bytes()?)),
            other => return Err(Error::format(format!("a value of the unknown kind {other}"))),
        })
    }

    /// A floating point number: kind 6 has four bytes, 12 has eight.
    pub fn number(&mut self, kind: u32) -> Result<f64> {
        Ok(match kind {
            6 => f64::from(f32::from_le_bytes(self.bytes()?)),
            _ => f64::from_le_bytes(self.bytes()?),
        })
    }

    /// A text with its length before it. Bytes that are not UTF-8 are replaced: such names occur in published files.
    pub fn text(&mut self, longest: u64) -> Result<String> {
        let length = self.u64()?;
        self.must_hold(length, 1, "bytes of a text")?;
        if length > longest {
            return Err(Error::format(format!("a text of {length} bytes, longer than {longest}")));
        }
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes).map_err(|err| Error::io("reading the model", &self.path, err))?;
        self.at += length;
        Ok(String::from_utf8(bytes).unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned()))
    }
}
