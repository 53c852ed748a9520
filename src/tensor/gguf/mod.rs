//! GGUF files: one reader, one writer, and what llama.cpp's converter changes in a checkpoint.
//!
//! Version 3, little-endian: magic, counts, metadata, the list of tensors, then their values at multiples of the alignment.
//! Counts, lengths and offsets are compared with what is left of the file before memory is allocated.

mod cursor;
pub mod layout;
pub mod names;
mod parse;
mod write;

pub use names::NamingScheme;
pub use write::write;

use super::{HostTensor, NumberFormat};
use crate::error::{Context as _, Error, Result};
use cursor::Cursor;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Values begin at multiples of this many bytes where a file does not say otherwise.
const ALIGNMENT: u64 = 32;
/// A file with more tensors is refused.
const MAX_TENSORS: u64 = 1 << 18;

/// The numbers of the format for types of values.
mod value_type {
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// An integer of any width; written as the first of u32, i32, u64 and i64 that holds it.
    Int(i128),
    /// A floating point number; written in 32 bits.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string; bytes that are not UTF-8 are replaced when it is read.
    String(String),
    /// An array of integers; written as i32 where all fit, else as i64.
    Ints(Vec<i64>),
    /// An array of floating point numbers.
    Floats(Vec<f32>),
    /// An array of strings.
    Strings(Vec<String>),
    /// Type and bytes as in a file: what is carried over, and what is not interpreted (arrays of arrays or booleans).
    Raw {
        /// The number of its type.
        kind: u32,
        /// What follows the type.
        bytes: Vec<u8>,
    },
}

impl From<&str> for GgufValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for GgufValue {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<usize> for GgufValue {
    fn from(size: usize) -> Self {
        Self::Int(size as i128)
    }
}

/// Keys and values of the metadata in the order of the file.
pub type Metadata = Vec<(String, GgufValue)>;

/// A tensor in the list: its bytes are inside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// Sizes in the order of PyTorch: the last one is contiguous.
    pub shape: Vec<u64>,
    /// The number of its type in GGML.
    pub dtype: u32,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// A GGUF file whose header was read and checked.
#[derive(Clone, Debug)]
pub struct GgufFile {
    /// Where it is.
    pub path: PathBuf,
    /// Keys and values.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, GgufTensor>,
    /// Key, type and bytes of each value, in the order of the file.
    values: Vec<(String, u32, Range<u64>)>,
}

/// Whether a file starts like a GGUF file; its name does not matter.
pub fn is_gguf(path: &Path) -> Result<bool> {
    let mut file = File::open(path).map_err(|err| Error::io("reading the model", path, err))?;
    let mut magic = [0; 4];
    Ok(file.read_exact(&mut magic).is_ok() && &magic == b"GGUF")
}

impl GgufFile {
    /// Reads and checks everything before the tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let mut cursor = Cursor::open(path)?;
        Self::parse(&mut cursor, path).with_context(|| format!("the GGUF file cannot be used: {}", path.display()))
    }

    fn parse(cursor: &mut Cursor, path: &Path) -> Result<Self> {
        if cursor.bytes()? != *b"GGUF" {
            return Err(Error::format("it does not start with GGUF; choose a model in GGUF format"));
        }
        match cursor.u32()? {
            2 | 3 => {}
            1 => return Err(Error::format("it has version 1 of the format; convert the model anew")),
            0x0200_0000 | 0x0300_0000 => {
                return Err(Error::format("its numbers are big-endian; convert the model for little-endian machines"));
            }
            other => return Err(Error::format(format!("it has version {other}, and 2 and 3 are known"))),
        }
        let (tensor_count, value_count) = (cursor.u64()?, cursor.u64()?);
        // The least an entry takes: length of the name, type, one byte; or length of the name, sizes, type, offset.
        cursor.must_hold(value_count, 8 + 4 + 1, "entries of metadata")?;
        cursor.must_hold(tensor_count, 8 + 4 + 4 + 8, "tensors")?;
        if tensor_count > MAX_TENSORS {
            return Err(Error::format(format!("it announces {tensor_count} tensors, more than {MAX_TENSORS}")));
        }
        let mut file =
            Self { path: path.to_owned(), metadata: BTreeMap::new(), tensors: BTreeMap::new(), values: Vec::new() };
        let mut budget = parse::MAX_ARRAY_VALUES;
        for _ in 0..value_count {
            let key = cursor.string(u64::from(u16::MAX))?;
            let kind = cursor.u32()?;
            let start = cursor.at();
            let value = parse::value(cursor, kind, &mut budget).with_context(|| format!("metadata {key:?}"))?;
            if file.metadata.insert(key.clone(), value).is_some() {
                return Err(Error::format(format!("metadata {key:?} is there twice")));
            }
            file.values.push((key, kind, start..cursor.at()));
        }
        if let Some(parts) = file.uint("split.count").filter(|&parts| parts > 1) {
            let number = file.uint("split.no").unwrap_or(0) + 1;
            return Err(Error::format(format!(
                "it is part {number} of {parts}; join them first: llama-gguf-split --merge FIRST-PART JOINED-FILE"
            )));
        }
        for _ in 0..tensor_count {
            let name = cursor.string(u64::from(u16::MAX))?;
            let tensor = parse::tensor(cursor).with_context(|| format!("tensor {name:?}"))?;
            if file.tensors.insert(name.clone(), tensor).is_some() {
                return Err(Error::format(format!("tensor {name:?} is there twice")));
            }
        }
        file.locate_tensors(cursor)?;
        Ok(file)
    }

    /// Turns offsets into the data section into offsets into the file, all of them inside it.
    fn locate_tensors(&mut self, cursor: &Cursor) -> Result<()> {
        let alignment = match self.metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(GgufValue::Int(given)) if (8..=1 << 20).contains(given) && given & (given - 1) == 0 => *given as u64,
            Some(other) => return Err(Error::format(format!("general.alignment is {other:?}, not a power of two"))),
        };
        let start = cursor.at().next_multiple_of(alignment);
        for (name, tensor) in &mut self.tensors {
            let offset = tensor.offset.checked_add(start).filter(|_| tensor.offset.is_multiple_of(alignment));
            let end = offset.and_then(|offset| offset.checked_add(tensor.bytes));
            match (offset, end) {
                (Some(offset), Some(end)) if end <= cursor.size() => tensor.offset = offset,
                _ => {
                    return Err(Error::format(format!(
                        "tensor {name:?} of {} bytes at {} does not lie inside the file of {} bytes; it is cut off or forged: fetch it again",
                        tensor.bytes,
                        tensor.offset,
                        cursor.size()
                    )));
                }
            }
        }
        Ok(())
    }

    fn range(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let read = |mut file: File| file.seek(SeekFrom::Start(range.start)).and_then(|_| file.read_exact(&mut bytes));
        File::open(&self.path).and_then(read).map_err(|err| Error::io("reading", &self.path, err))?;
        Ok(bytes)
    }

    /// The bytes of a tensor of this file.
    pub fn bytes(&self, tensor: &GgufTensor) -> Result<Vec<u8>> {
        self.range(tensor.offset..tensor.offset + tensor.bytes)
    }

    /// One tensor, dequantised, in the order of PyTorch.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        let read = || {
            let tensor = self.tensors.get(name).ok_or_else(|| Error::format("there is no such tensor"))?;
            let format = NumberFormat::of_ggml(tensor.dtype);
            let format = format.ok_or_else(|| Error::format(format!("its type {} cannot be read", tensor.dtype)))?;
            let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
            HostTensor::new(name, shape, format.decode(&self.bytes(tensor)?)?)
        };
        read().with_context(|| format!("tensor {name:?} of {}", self.path.display()))
    }

    /// All metadata byte for byte ([`GgufValue::Raw`]), in the order of the file.
    pub fn raw_metadata(&self) -> Result<Metadata> {
        let raw = |(key, kind, range): &(String, u32, Range<u64>)| {
            Ok((key.clone(), GgufValue::Raw { kind: *kind, bytes: self.range(range.clone())? }))
        };
        self.values.iter().map(raw).collect()
    }

    /// A string of the metadata.
    pub fn str(&self, key: &str) -> Option<&str> {
        if let Some(GgufValue::String(text)) = self.metadata.get(key) { Some(text) } else { None }
    }

    /// An integer of the metadata that is 0 or more.
    pub fn uint(&self, key: &str) -> Option<u64> {
        if let Some(GgufValue::Int(number)) = self.metadata.get(key) { u64::try_from(*number).ok() } else { None }
    }

    /// A boolean of the metadata.
    pub fn bool(&self, key: &str) -> Option<bool> {
        if let Some(GgufValue::Bool(value)) = self.metadata.get(key) { Some(*value) } else { None }
    }

    /// A number of the metadata, integer or not.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key) {
            Some(GgufValue::Float(value)) => Some(*value),
            Some(GgufValue::Int(value)) => Some(*value as f64),
            _ => None,
        }
    }

    /// An array of strings of the metadata.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        if let Some(GgufValue::Strings(texts)) = self.metadata.get(key) { Some(texts) } else { None }
    }

    /// An array of integers of the metadata.
    pub fn ints(&self, key: &str) -> Option<&[i64]> {
        if let Some(GgufValue::Ints(numbers)) = self.metadata.get(key) { Some(numbers) } else { None }
    }

    /// An array of floating point numbers of the metadata.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        if let Some(GgufValue::Floats(numbers)) = self.metadata.get(key) { Some(numbers) } else { None }
    }
}
