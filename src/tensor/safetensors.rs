//! Safetensors files.
//!
//! Layout: 8 bytes little-endian length of the header; the header, a JSON object that maps each tensor's name to
//! `{"dtype", "shape", "data_offsets": [begin, end]}` and `__metadata__` to strings, padded with spaces to a multiple of 8;
//! the values, without gaps. Tensors keep their order and metadata is sorted, so equal contents give equal bytes (the
//! `safetensors` crate writes metadata in hash order and accepts a name twice). `F32`, `F16`, `BF16` and `F64` are read as
//! `f32`. Counts and offsets are compared with the file's size before memory is allocated; errors name file and tensor.

use super::host_tensor::{HostTensor, TensorPlan, write_file};
use super::number_format::NumberFormat;
use crate::error::{Context as _, Error, Result};
use parking_lot::Mutex;
use safetensors::tensor::Dtype;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Strings by name: the free-form part of the header.
pub type Metadata = BTreeMap<String, String>;

/// The largest header that is read, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;
const METADATA: &str = "__metadata__";

/// Writes tensors to the file at `path`, all in one float format, rounding to nearest even. Atomic.
///
/// # Errors
/// A finite value that would become infinite, a name that is empty, reserved or given twice, and what the file system
/// reports.
pub fn write(path: &Path, tensors: &[HostTensor], format: NumberFormat, metadata: &Metadata) -> Result<()> {
    let plan = |tensor: &HostTensor| TensorPlan { name: tensor.name.clone(), shape: tensor.shape.clone(), format };
    let plan: Vec<TensorPlan> = tensors.iter().map(plan).collect();
    write_streamed(path, &plan, metadata, &mut |i| Ok(Cow::Borrowed(&tensors[i])))
}

/// As [`write()`], one tensor in memory at a time: `tensor` gives the planned tensor of a number, once each, in order.
pub fn write_streamed<'a>(
    path: &Path,
    plan: &[TensorPlan],
    metadata: &Metadata,
    tensor: &mut dyn FnMut(usize) -> Result<Cow<'a, HostTensor>>,
) -> Result<()> {
    let header = header(plan, metadata).with_context(|| format!("writing {}", path.display()))?;
    write_file(path, &header, plan, 1, tensor)
}

/// The header with its length before it.
fn header(plan: &[TensorPlan], metadata: &Metadata) -> Result<Vec<u8>> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    let mut begin = 0;
    for planned in plan {
        let TensorPlan { name, shape, format } = planned;
        if name.is_empty() || name == METADATA || format.block().0 != 1 {
            return Err(Error::internal(format!("a tensor {name:?} in {} cannot be written", format.name())));
        }
        let end = begin + planned.bytes();
        let entry = json!({ "dtype": format.name(), "shape": shape, "data_offsets": [begin, end] });
        if header.insert(name.clone(), entry).is_some() {
            return Err(Error::internal(format!("two tensors are called {name}")));
        }
        begin = end;
    }
    let text = serde_json::to_string(&header).map_err(|err| Error::internal(format!("header not written: {err}")))?;
    let size = text.len().next_multiple_of(8);
    let mut bytes = (size as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    bytes.resize(8 + size, b' ');
    Ok(bytes)
}

/// Everything in the file at `path`, which holds floats of at most 32 bits.
pub fn read(path: &Path) -> Result<(Vec<HostTensor>, Metadata)> {
    let file = SafetensorsFile::open(path)?;
    let tensors = file.entries.iter().map(|entry| file.read_entry(entry)).collect::<Result<_>>()?;
    Ok((tensors, file.metadata))
}

/// What the header says of a tensor; its bytes are inside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Name of the tensor.
    pub name: String,
    /// How its values are stored.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// First byte, counted from the end of the header.
    begin: u64,
    /// One past the last byte.
    end: u64,
}

impl TensorEntry {
    /// The float format of the values, or the one they are read as: `f32` for anything wider.
    pub fn format(&self) -> NumberFormat {
        match self.dtype {
            Dtype::F16 => NumberFormat::F16,
            Dtype::BF16 => NumberFormat::Bf16,
            _ => NumberFormat::F32,
        }
    }
}

#[derive(Debug)]
enum Source {
    File(PathBuf, Mutex<File>),
    Bytes(&'static [u8]),
}

impl Source {
    /// `len` bytes from `start` on, which the caller has compared with the size of the file.
    fn read(&self, start: u64, len: u64) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => {
                let part = bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize));
                part.map(<[u8]>::to_vec).ok_or_else(|| Error::internal("read beyond the end of bundled weights"))
            }
            Self::File(path, file) => {
                let mut bytes = vec![0; len as usize];
                let mut file = file.lock();
                file.seek(SeekFrom::Start(start))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|err| Error::io("reading", path, err))?;
                Ok(bytes)
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path, _) => path.display().to_string(),
            Self::Bytes(_) => "bundled weights".to_owned(),
        }
    }
}

/// An open file whose header has been checked; tensors are read one at a time.
#[derive(Debug)]
pub struct SafetensorsFile {
    source: Source,
    values_at: u64,
    entries: Vec<TensorEntry>,
    metadata: Metadata,
}

impl SafetensorsFile {
    /// Opens a file of `F32`, `F16` and `BF16` tensors and checks its whole header.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Self::open_any(path)?;
        let ours = |entry: &&TensorEntry| !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let Some(TensorEntry { name, dtype, .. }) = file.entries.iter().find(ours) else { return Ok(file) };
        let text = format!("tensor {name} has dtype {dtype:?}; only F32, F16 and BF16 can be read");
        Err(Error::format(format!("{text}: {}", path.display())))
    }

    /// Opens a file and checks its whole header. Tensors that cannot be read, such as `I64` ones, may be in it.
    pub fn open_any(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|err| Error::io("opening", path, err))?;
        let length = file.metadata().map_err(|err| Error::io("reading", path, err))?.len();
        Self::new(Source::File(path.to_owned(), Mutex::new(file)), length)
    }

    /// A file inside the program.
    pub fn bundled(bytes: &'static [u8]) -> Result<Self> {
        Self::new(Source::Bytes(bytes), bytes.len() as u64)
    }

    fn new(source: Source, length: u64) -> Result<Self> {
        let bad = |what: String| Error::format(format!("{what}: {}", source.name()));
        if length < 8 {
            return Err(bad(format!("not a safetensors file: {length} bytes are too few")));
        }
        let size = source.read(0, 8)?.iter().rev().fold(0, |size, &byte| (size << 8) | u64::from(byte));
        if size > MAX_HEADER {
            return Err(bad(format!("not a safetensors file: it announces a header of {size} bytes")));
        }
        if size > length - 8 {
            return Err(bad(format!("the file is truncated: a header of {size} bytes in {length} bytes")));
        }
        let (entries, metadata) = parse_header(&source.read(8, size)?).map_err(bad)?;
        check_layout(&entries, length - 8 - size).map_err(bad)?;
        Ok(Self { source, values_at: 8 + size, entries, metadata })
    }

    /// What the file holds, in the order of the header.
    pub fn entries(&self) -> &[TensorEntry] {
        &self.entries
    }

    /// The strings of the header.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads one tensor, converted to `f32`.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        let missing = || Error::format(format!("there is no tensor {name} in the file: {}", self.source.name()));
        self.read_entry(entry.ok_or_else(missing)?)
    }

    /// Reads the tensor of an entry of this file, converted to `f32`.
    pub fn read_entry(&self, entry: &TensorEntry) -> Result<HostTensor> {
        let TensorEntry { name, dtype, shape, begin, end } = entry;
        let bytes = self.source.read(self.values_at + begin, end - begin);
        let bytes = bytes.with_context(|| format!("tensor {name}"))?;
        let values = match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => entry.format().decode(&bytes)?,
            Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
            other => {
                let text = format!("tensor {name} is stored as {other:?}; expected F32, F16, BF16 or F64");
                return Err(Error::format(format!("{text}: {}", self.source.name())));
            }
        };
        HostTensor::new(name, shape.clone(), values)
    }
}

/// A JSON object that keeps keys which occur twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

fn parse_header(header: &[u8]) -> Result<(Vec<TensorEntry>, Metadata), String> {
    let Pairs(pairs) =
        serde_json::from_slice(header).map_err(|err| format!("the header is not the JSON it should be: {err}"))?;
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    let mut metadata = Metadata::new();
    for (name, value) in pairs {
        if !seen.insert(name.clone()) {
            return Err(format!("the header names tensor {name} twice"));
        }
        if name == METADATA {
            metadata = serde_json::from_value(value).map_err(|err| format!("the metadata is not text: {err}"))?;
        } else {
            entries.push(parse_entry(name, &value)?);
        }
    }
    Ok((entries, metadata))
}

fn parse_entry(name: String, value: &Value) -> Result<TensorEntry, String> {
    if !value["dtype"].is_string() {
        return Err(format!("tensor {name} has no dtype"));
    }
    let dtype = Dtype::deserialize(&value["dtype"])
        .map_err(|_| format!("tensor {name} has dtype {}, which is unknown", value["dtype"]))?;
    let numbers = |key: &str| -> Option<Vec<u64>> { value[key].as_array()?.iter().map(Value::as_u64).collect() };
    let shape = numbers("shape").ok_or_else(|| format!("tensor {name} has no valid shape"))?;
    let bits = shape.iter().try_fold(dtype.bitsize() as u64, |product, &size| product.checked_mul(size));
    let Some([begin, end]) = numbers("data_offsets").and_then(|offsets| <[u64; 2]>::try_from(offsets).ok()) else {
        return Err(format!("tensor {name} has no valid data_offsets"));
    };
    if begin > end || bits.map(|bits| bits / 8) != Some(end - begin) {
        return Err(format!(
            "tensor {name} of shape {shape:?} and dtype {dtype:?} does not fit bytes {begin} to {end}"
        ));
    }
    let shape = shape.into_iter().map(|size| size as usize).collect();
    Ok(TensorEntry { name, dtype, shape, begin, end })
}

/// The tensors must fill the `available` bytes after the header without gaps and overlaps.
fn check_layout(entries: &[TensorEntry], available: u64) -> Result<(), String> {
    let mut order: Vec<&TensorEntry> = entries.iter().collect();
    order.sort_by_key(|entry| (entry.begin, entry.end));
    let mut at = 0;
    for TensorEntry { name, begin, end, .. } in order {
        if *end > available {
            return Err(format!(
                "the file is truncated: tensor {name} ends at byte {end} of the values, but there are {available}"
            ));
        }
        if *begin < at {
            return Err(format!("tensor {name} overlaps another one: it begins at byte {begin}, before byte {at}"));
        }
        if *begin > at {
            return Err(format!("bytes {at} to {begin} before tensor {name} belong to no tensor"));
        }
        at = *end;
    }
    if at < available {
        return Err(format!("{} bytes after the last tensor belong to no tensor", available - at));
    }
    Ok(())
}
