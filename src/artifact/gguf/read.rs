//! Tensors and raw metadata of a GGUF file, for checking what was written and for carrying metadata over.

use super::{Entries, Value};
use crate::artifact::HostTensor;
use crate::data::gguf::GgufHeader;
use crate::error::{Context as _, Error, Result};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// An open file whose header has been checked.
#[derive(Debug)]
pub struct GgufTensors {
    path: PathBuf,
    header: GgufHeader,
}

impl GgufTensors {
    /// Opens a file and checks its header.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), header: GgufHeader::open(path)? })
    }

    /// What stands before the tensors.
    pub fn header(&self) -> &GgufHeader {
        &self.header
    }

    /// One tensor, dequantised, in the order of PyTorch.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        let entry = self.header.tensors.get(name).ok_or_else(|| Error::format(format!("there is no tensor {name}")));
        let entry = entry.with_context(|| self.path.display().to_string())?;
        let mut bytes = vec![0; entry.bytes as usize];
        let mut file = File::open(&self.path).map_err(|err| Error::io("opening", &self.path, err))?;
        file.seek(SeekFrom::Start(entry.offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|err| Error::io("reading", &self.path, err))?;
        let shape: Vec<usize> = entry.shape.iter().map(|&size| size as usize).collect();
        let dtype = format(entry.dtype).ok_or_else(|| {
            Error::format(format!(
                "tensor {name} has type {}, which is not read back: {}",
                entry.dtype,
                self.path.display()
            ))
        })?;
        let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, dtype)?;
        let values = QTensor::new(storage, shape.as_slice())?.dequantize(&Device::Cpu)?;
        HostTensor::new(name, shape, values.flatten_all()?.to_vec1()?)
    }
}

fn format(number: u32) -> Option<GgmlDType> {
    Some(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// All metadata of a file as it stands there, byte for byte, in its order.
pub fn raw_entries(path: &Path) -> Result<Entries> {
    // Checks every length; what follows can then trust them.
    let header = GgufHeader::open(path)?;
    let end = header.tensors.values().map(|t| t.offset).min();
    let size = std::fs::metadata(path).map_err(|err| Error::io("reading", path, err))?.len();
    let mut bytes = vec![0; end.unwrap_or(size) as usize];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(|err| Error::io("reading", path, err))?;
    let mut at = Place { bytes: &bytes, at: 16 };
    let mut entries = Entries::new();
    for _ in 0..at.number(8)? {
        let size = at.number(8)? as usize;
        let key = String::from_utf8_lossy(at.take(size)?).into_owned();
        let kind = at.number(4)? as u32;
        let start = at.at;
        at.skip(kind, 0)?;
        entries.push((key, Value::Raw(kind, bytes[start..at.at].to_vec())));
    }
    Ok(entries)
}

struct Place<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Place<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let part = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let part = part.ok_or_else(|| Error::format("the metadata is cut off"))?;
        self.at += n;
        Ok(part)
    }
    fn number(&mut self, n: usize) -> Result<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }
    fn skip(&mut self, kind: u32, depth: u32) -> Result<()> {
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => self.number(8)? as usize,
            9 if depth < 8 => {
                let (inner, count) = (self.number(4)? as u32, self.number(8)?);
                for _ in 0..count {
                    self.skip(inner, depth + 1)?;
                }
                0
            }
            other => return Err(Error::format(format!("a value of the unknown kind {other}"))),
        };
        self.take(size).map(drop)
    }
}
