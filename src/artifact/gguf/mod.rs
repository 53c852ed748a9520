//! GGUF files, written tensor by tensor and read back.
//!
//! Version 3, little-endian: magic, counts, metadata, the list of tensors, then their values, each at a multiple of 32.
//! All sizes are known before the first value is asked for, so that one tensor is in memory at a time.

pub mod names;
pub mod read;

use super::atomic::write_file_with;
use super::{Dtype, HostTensor};
use crate::error::{Error, ErrorKind, Result};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// Values begin at multiples of this.
const ALIGNMENT: u64 = 32;
/// Values in a block of Q8_0.
const BLOCK: usize = 32;

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// Brain float.
    Bf16,
    /// Blocks of 32 whole numbers of 8 bits with a 16-bit scale.
    Q8_0,
}

impl Store {
    /// Its number in the format.
    pub fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
            Self::Bf16 => 30,
        }
    }

    /// Its name there.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
        }
    }

    /// `general.file_type` of a file whose matrices have this format.
    pub fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }

    /// The format of a tensor of this shape in a file of this one: vectors stay in 32 bits, and rows that are not whole
    /// blocks in 16, as llama.cpp's own tools have it.
    pub fn of(self, shape: &[usize]) -> Self {
        match (self, shape) {
            (_, [] | [_]) => Self::F32,
            (Self::Q8_0, [.., row]) if !row.is_multiple_of(BLOCK) => Self::F16,
            (store, _) => store,
        }
    }

    /// Bytes of so many values; of Q8_0 whole blocks.
    pub fn bytes(self, elements: u64) -> u64 {
        match self {
            Self::F32 => elements * 4,
            Self::F16 | Self::Bf16 => elements * 2,
            Self::Q8_0 => elements / BLOCK as u64 * 34,
        }
    }

    /// The bytes of a tensor. A finite value that would become infinite is an error.
    pub fn encode(self, tensor: &HostTensor) -> Result<Vec<u8>> {
        let dtype = match self {
            Self::F32 => Dtype::F32,
            Self::F16 | Self::Q8_0 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
        };
        // The scale of a block is its largest value over 127, in 16 bits.
        let largest = if self == Self::Q8_0 { 127.0 } else { 1.0 };
        let lost = |value: &&f32| !value.is_finite() || !dtype.round(**value / largest).is_finite();
        if let Some(value) = tensor.data.iter().find(lost) {
            let text = format!("{value:e} in tensor {} does not fit into {}", tensor.name, self.name());
            return Err(Error::new(ErrorKind::Numerics, text));
        }
        if self == Self::Q8_0 {
            let values = Tensor::from_slice(&tensor.data, tensor.shape.as_slice(), &Device::Cpu)?;
            return Ok(QTensor::quantize(&values, GgmlDType::Q8_0)?.data()?.into_owned());
        }
        let mut bytes = Vec::new();
        dtype.encode(&tensor.data, &mut bytes);
        Ok(bytes)
    }
}

impl Store {
    /// The values after a round trip through this format.
    pub fn rounded(self, tensor: &HostTensor) -> Result<Vec<f32>> {
        let bytes = self.encode(tensor)?;
        Ok(match self {
            Self::F32 => tensor.data.clone(),
            Self::F16 => Dtype::F16.decode(&bytes),
            Self::Bf16 => Dtype::Bf16.decode(&bytes),
            Self::Q8_0 => {
                let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, GgmlDType::Q8_0)?;
                let values = QTensor::new(storage, tensor.shape.as_slice())?.dequantize(&Device::Cpu)?;
                values.flatten_all()?.to_vec1()?
            }
        })
    }
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// 32 bits without sign.
    U32(u32),
    /// 32 bits.
    F32(f32),
    /// A switch.
    Bool(bool),
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Whole numbers of 32 bits.
    I32s(Vec<i32>),
    /// Numbers.
    F32s(Vec<f32>),
    /// Kind and bytes as they stood in another file.
    Raw(u32, Vec<u8>),
}

/// A text value.
pub fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// Keys and values in order.
pub type Entries = Vec<(String, Value)>;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name in the file.
    pub name: String,
    /// Sizes in the order of PyTorch: rows first.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub store: Store,
}

impl Planned {
    fn bytes(&self) -> u64 {
        self.store.bytes(self.shape.iter().map(|&size| size as u64).product())
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_list<T>(out: &mut Vec<u8>, kind: u32, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| put(out, item));
}

fn put_entry(out: &mut Vec<u8>, (key, value): &(String, Value)) {
    put_text(out, key);
    let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
    match value {
        Value::U32(number) => {
            kind(out, 4);
            out.extend(number.to_le_bytes());
        }
        Value::F32(number) => {
            kind(out, 6);
            out.extend(number.to_le_bytes());
        }
        Value::Bool(value) => {
            kind(out, 7);
            out.push(u8::from(*value));
        }
        Value::Text(text) => {
            kind(out, 8);
            put_text(out, text);
        }
        Value::Texts(texts) => put_list(out, 8, texts, |out, text| put_text(out, text)),
        Value::I32s(numbers) => put_list(out, 5, numbers, |out, number| out.extend(number.to_le_bytes())),
        Value::F32s(numbers) => put_list(out, 6, numbers, |out, number| out.extend(number.to_le_bytes())),
        Value::Raw(raw, bytes) => {
            kind(out, *raw);
            out.extend(bytes);
        }
    }
}

/// Everything before the values.
fn head(entries: &Entries, tensors: &[Planned]) -> Result<Vec<u8>> {
    let mut seen = BTreeSet::new();
    if let Some((key, _)) = entries.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        return Err(Error::internal(format!("metadata {key} would be written twice")));
    }
    let mut seen = BTreeSet::new();
    let wrong = |t: &&Planned| {
        t.shape.is_empty() || t.shape.len() > 4 || t.store.of(&t.shape) != t.store && t.store == Store::Q8_0
    };
    if let Some(tensor) = tensors.iter().find(|t| !seen.insert(t.name.as_str())).or_else(|| tensors.iter().find(wrong))
    {
        return Err(Error::internal(format!("tensor {} of shape {:?} cannot be planned", tensor.name, tensor.shape)));
    }
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    entries.iter().for_each(|entry| put_entry(&mut out, entry));
    let mut offset = 0u64;
    for tensor in tensors {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&size| out.extend((size as u64).to_le_bytes()));
        out.extend(tensor.store.number().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.resize((out.len() as u64).next_multiple_of(ALIGNMENT) as usize, 0);
    Ok(out)
}

/// Writes a file. `tensor` gives the planned tensor of this number; it is asked for each once, in order. Atomic.
pub fn write(
    path: &Path,
    entries: &Entries,
    tensors: &[Planned],
    tensor: &mut dyn FnMut(usize) -> Result<HostTensor>,
) -> Result<()> {
    let head = head(entries, tensors)?;
    let mut own = None;
    let mut fill = |out: &mut dyn Write| -> std::io::Result<()> {
        out.write_all(&head)?;
        for (i, planned) in tensors.iter().enumerate() {
            let bytes = tensor(i).and_then(|given| {
                if given.shape != planned.shape {
                    let text = format!(
                        "tensor {} came with shape {:?}, planned was {:?}",
                        planned.name, given.shape, planned.shape
                    );
                    return Err(Error::internal(text));
                }
                planned.store.encode(&given)
            });
            let mut bytes = bytes.map_err(|err| {
                let text = err.to_string();
                own = Some(err);
                std::io::Error::other(text)
            })?;
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
            out.write_all(&bytes)?;
        }
        Ok(())
    };
    let written = write_file_with(path, |out| fill(out));
    // The error of a tensor says more than that of the file it stopped.
    match own {
        Some(err) => Err(err),
        None => written,
    }
}
