//! Safetensors files: named tensors with a header that is read before anything else is believed.
//!
//! Layout: 8 bytes little-endian length of the header; the header, a JSON object that maps each tensor's name to
//! `{"dtype", "shape", "data_offsets": [begin, end]}` and `__metadata__` to strings, padded with spaces to a
//! multiple of 8; the values, without gaps. Tensors keep the order in which they were given and metadata is sorted,
//! so equal contents give equal bytes (the `safetensors` crate keeps metadata in hash order, and drops a name
//! that occurs twice without a word; both matter here, where files are hashed and checked).
//!
//! Read are `F32`, `F16` and `BF16`, all widened to `f32`. Every claim of the header is checked against the file
//! before memory is taken for it, and every error names the file and the tensor.

use super::atomic::write_file_with;
use super::{Dtype, HostTensor};
use crate::error::{Context as _, Error, ErrorKind, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Strings by name: the free-form part of the header.
pub type Metadata = BTreeMap<String, String>;

/// The largest header that is read, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;
const METADATA: &str = "__metadata__";

/// Writes tensors to the file at `path`, all in one number format, rounding to nearest even. Atomic.
/// Refuses a finite value that would become infinite.
pub fn write(path: &Path, tensors: &[HostTensor], dtype: Dtype, metadata: &Metadata) -> Result<()> {
    let header = header(tensors, dtype, metadata).with_context(|| format!("writing {}", path.display()))?;
    write_file_with(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        write_values(out, tensors, dtype)
    })
}

/// Everything in the file at `path`.
pub fn read(path: &Path) -> Result<(Vec<HostTensor>, Metadata)> {
    let mut file = TensorFile::open(path)?;
    let names: Vec<String> = file.entries.iter().map(|entry| entry.name.clone()).collect();
    let tensors = names.iter().map(|name| file.read(name)).collect::<Result<_>>()?;
    Ok((tensors, file.metadata))
}

/// The number format in which `metadata`-bearing header bytes and values are laid out, ready to be written.
fn header(tensors: &[HostTensor], dtype: Dtype, metadata: &Metadata) -> Result<Vec<u8>> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    let mut begin = 0;
    for tensor in tensors {
        tensor.check()?;
        let name = &tensor.name;
        if name.is_empty() || name == METADATA {
            return Err(Error::internal(format!("a tensor cannot be called {name:?}")));
        }
        let lost = tensor.data.iter().find(|value| value.is_finite() && !dtype.round(**value).is_finite());
        if let Some(value) = lost {
            let text = format!("{value:e} in tensor {name} is too large for {}; use f32 or bf16", dtype.name());
            return Err(Error::new(ErrorKind::Numerics, text));
        }
        let end = begin + tensor.data.len() * dtype.size();
        let entry = json!({ "dtype": dtype.name(), "shape": tensor.shape, "data_offsets": [begin, end] });
        if header.insert(name.clone(), entry).is_some() {
            return Err(Error::internal(format!("two tensors are called {name}")));
        }
        begin = end;
    }
    let text = serde_json::to_string(&header).map_err(|err| Error::internal(format!("header not written: {err}")))?;
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

/// Encodes piece by piece, so that a large tensor is never held twice.
fn write_values(out: &mut dyn Write, tensors: &[HostTensor], dtype: Dtype) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for tensor in tensors {
        for piece in tensor.data.chunks(1 << 16) {
            bytes.clear();
            dtype.encode(piece, &mut bytes);
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// Where a tensor lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
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

/// An open file whose header has been checked; tensors are read one at a time.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    values_at: u64,
    entries: Vec<Entry>,
    metadata: Metadata,
}

impl TensorFile {
    /// Opens a file and checks its whole header.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|err| Error::io("opening", path, err))?;
        let length = file.metadata().map_err(|err| Error::io("reading", path, err))?.len();
        let bad = |what: String| Error::format(format!("{what}: {}", path.display()));
        let mut size = [0u8; 8];
        if length < 8 {
            return Err(bad(format!("not a safetensors file: {length} bytes are too few")));
        }
        file.read_exact(&mut size).map_err(|err| Error::io("reading", path, err))?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err(bad(format!("not a safetensors file: it announces a header of {size} bytes")));
        }
        if size > length - 8 {
            return Err(bad(format!("the file is truncated: a header of {size} bytes in {length} bytes")));
        }
        let mut header = vec![0u8; size as usize];
        file.read_exact(&mut header).map_err(|err| Error::io("reading", path, err))?;
        let values_at = 8 + size;
        let (entries, metadata) = parse_header(&header).map_err(bad)?;
        check_layout(&entries, length - values_at).map_err(bad)?;
        Ok(Self { path: path.to_owned(), file, values_at, entries, metadata })
    }

    /// What the file holds, in the order of the header.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The strings of the header.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads one tensor, widened to `f32`.
    pub fn read(&mut self, name: &str) -> Result<HostTensor> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else {
            return Err(Error::format(format!("there is no tensor {name} in the file: {}", self.path.display())));
        };
        let mut bytes = vec![0u8; (entry.end - entry.begin) as usize];
        self.file
            .seek(SeekFrom::Start(self.values_at + entry.begin))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|err| Error::io("reading", &self.path, err).context(format!("tensor {name}")))?;
        HostTensor::new(name, entry.shape.clone(), entry.dtype.decode(&bytes))
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

fn parse_header(header: &[u8]) -> Result<(Vec<Entry>, Metadata), String> {
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

fn parse_entry(name: String, value: &Value) -> Result<Entry, String> {
    let dtype = value["dtype"].as_str().ok_or_else(|| format!("tensor {name} has no dtype"))?;
    let dtype = Dtype::from_name(dtype)
        .ok_or_else(|| format!("tensor {name} has dtype {dtype}; only F32, F16 and BF16 can be read"))?;
    let numbers = |key: &str| -> Option<Vec<u64>> { value[key].as_array()?.iter().map(Value::as_u64).collect() };
    let shape = numbers("shape").ok_or_else(|| format!("tensor {name} has no valid shape"))?;
    let elements = shape.iter().try_fold(dtype.size() as u64, |product, &size| product.checked_mul(size));
    let Some([begin, end]) = numbers("data_offsets").and_then(|offsets| <[u64; 2]>::try_from(offsets).ok()) else {
        return Err(format!("tensor {name} has no valid data_offsets"));
    };
    if begin > end || elements != Some(end - begin) {
        let dtype = dtype.name();
        return Err(format!("tensor {name} of shape {shape:?} and dtype {dtype} does not fit bytes {begin} to {end}"));
    }
    let shape = shape.into_iter().map(|size| size as usize).collect();
    Ok(Entry { name, dtype, shape, begin, end })
}

/// The tensors must fill the `available` bytes after the header without gaps and overlaps.
fn check_layout(entries: &[Entry], available: u64) -> Result<(), String> {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| (entry.begin, entry.end));
    let mut at = 0;
    for Entry { name, begin, end, .. } in order {
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
