//! GGUF headers, read with suspicion.
//!
//! A GGUF file states the length of everything it holds. Here no length is believed before it was compared with
//! what is left of the file, so that a truncated or forged file is an error and never an allocation of
//! gigabytes. [`GgufHeader::open`] reads metadata and the list of tensors, not the tensors; a reader of tensors
//! asks for it first and can then trust every offset. [`tokenizer()`] rebuilds the tokenizer from the metadata.

mod cursor;
pub mod describe;
mod parse;
mod pre_tokenizers;
mod tokenizer;
mod vocabulary;

pub use tokenizer::{GgufTokenizer, tokenizer};

use crate::error::{Context as _, Error, Result};
use cursor::Cursor;
use std::collections::BTreeMap;
use std::path::Path;

/// More tensors than this are taken for a forgery.
const MOST_TENSORS: u64 = 1 << 18;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// A whole number of any width.
    Whole(i128),
    /// A floating point number.
    Number(f64),
    /// `true` or `false`.
    Switch(bool),
    /// A text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// Whole numbers.
    Wholes(Vec<i64>),
    /// Floating point numbers.
    Numbers(Vec<f32>),
    /// Texts.
    Texts(Vec<String>),
    /// Something no key of ours has: arrays of arrays or of switches. Its size was checked, its contents were passed over.
    Other,
}

/// A tensor in the list: its bytes are known to lie inside the file.
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

/// What stands before the tensors of a GGUF file.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    /// The file, for messages.
    pub name: String,
    /// 2 or 3.
    pub version: u32,
    /// Keys and values.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, GgufTensor>,
}

/// Whether a file starts like a GGUF file; its name does not matter.
pub fn is_gguf(path: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path).map_err(|err| Error::io("reading the model", path, err))?;
    let mut magic = [0; 4];
    Ok(file.read_exact(&mut magic).is_ok() && &magic == b"GGUF")
}

impl GgufHeader {
    /// Reads and checks everything before the tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let mut cursor = Cursor::open(path)?;
        Self::read(&mut cursor, path.display().to_string())
            .with_context(|| format!("the GGUF file cannot be used: {}", path.display()))
    }

    fn read(cursor: &mut Cursor, name: String) -> Result<Self> {
        if cursor.bytes()? != *b"GGUF" {
            return Err(Error::format("it does not start with GGUF; choose a model in GGUF format"));
        }
        let version = cursor.u32()?;
        match version {
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
        if tensor_count > MOST_TENSORS {
            return Err(Error::format(format!("it announces {tensor_count} tensors, more than {MOST_TENSORS}")));
        }
        let (mut metadata, mut budget) = (BTreeMap::new(), parse::MOST_VALUES);
        for _ in 0..value_count {
            let key = cursor.text(u64::from(u16::MAX))?;
            let kind = cursor.u32()?;
            let value = parse::value(cursor, kind, &mut budget).with_context(|| format!("metadata {key:?}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(Error::format(format!("metadata {key:?} is there twice")));
            }
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = cursor.text(u64::from(u16::MAX))?;
            let tensor = parse::tensor(cursor).with_context(|| format!("tensor {name:?}"))?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(Error::format(format!("tensor {name:?} is there twice")));
            }
        }
        let mut header = Self { name, version, metadata, tensors };
        header.place(cursor)?;
        Ok(header)
    }

    /// Turns offsets into the data section into offsets into the file, all of them inside it.
    fn place(&mut self, cursor: &Cursor) -> Result<()> {
        let alignment = match self.metadata.get("general.alignment") {
            None => 32,
            Some(GgufValue::Whole(given)) if (8..=1 << 20).contains(given) && given & (given - 1) == 0 => *given as u64,
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

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(GgufValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A whole number of the metadata that is 0 or more.
    pub fn whole(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key) {
            Some(GgufValue::Whole(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A switch of the metadata.
    pub fn switch(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key) {
            Some(GgufValue::Switch(value)) => Some(*value),
            _ => None,
        }
    }

    /// A number of the metadata, whole or not.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key) {
            Some(GgufValue::Number(value)) => Some(*value),
            Some(GgufValue::Whole(value)) => Some(*value as f64),
            _ => None,
        }
    }

    /// A list of texts of the metadata.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key) {
            Some(GgufValue::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    /// A list of whole numbers of the metadata.
    pub fn wholes(&self, key: &str) -> Option<&[i64]> {
        match self.metadata.get(key) {
            Some(GgufValue::Wholes(numbers)) => Some(numbers),
            _ => None,
        }
    }

    /// A list of numbers of the metadata.
    pub fn numbers(&self, key: &str) -> Option<&[f32]> {
        match self.metadata.get(key) {
            Some(GgufValue::Numbers(numbers)) => Some(numbers),
            _ => None,
        }
    }
}
