//! Tensors of a Hugging Face directory: one `model.safetensors`, or shards with an index, or bundled bytes; or those of a
//! GGUF file under the names of such a directory; or tensors in memory.
//!
//! Only headers are read at first; each tensor is read, and turned into the working dtype, when it is asked for.

use super::gguf::GgufWeights;
use crate::error::{Context as _, Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

enum Source {
    File(PathBuf),
    Bytes(&'static [u8]),
}

struct Entry {
    source: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    len: usize,
}

/// The tensors of a model, by name.
pub struct Weights {
    sources: Vec<Source>,
    entries: BTreeMap<String, Entry>,
    prefix: String,
    gguf: Option<GgufWeights>,
    /// Tensors that lie in memory.
    held: BTreeMap<String, Tensor>,
}

impl Weights {
    fn empty() -> Self {
        Self { sources: Vec::new(), entries: BTreeMap::new(), prefix: String::new(), gguf: None, held: BTreeMap::new() }
    }

    /// Tensors in memory, under the names that a checkpoint gives them.
    pub fn of_tensors(held: BTreeMap<String, Tensor>) -> Self {
        Self { held, ..Self::empty() }
    }

    /// A tensor in memory, with or without the prefix.
    fn in_memory(&self, name: &str) -> Option<&Tensor> {
        self.held.get(&format!("{}.{name}", self.prefix)).or_else(|| self.held.get(name))
    }

    /// Those of a GGUF file.
    pub fn from_gguf(file: GgufWeights) -> Self {
        Self { gguf: Some(file), ..Self::empty() }
    }

    /// The GGUF file they come from, if they do.
    pub fn gguf(&self) -> Option<&GgufWeights> {
        self.gguf.as_ref()
    }

    /// Opens `model.safetensors`, or the shards of `model.safetensors.index.json`.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut weights = Self::empty();
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.is_file() {
            weights.add_file(&single)?;
        } else if index.is_file() {
            for shard in shards(&index)? {
                weights.add_file(&dir.join(shard))?;
            }
        } else if dir.join("pytorch_model.bin").is_file() {
            return Err(Error::config(format!(
                "only pytorch_model.bin is there, a pickle; convert it to model.safetensors first: {}",
                dir.display()
            )));
        } else {
            return Err(Error::config(format!(
                "no model.safetensors (or model.safetensors.index.json); choose a directory in Hugging Face layout: {}",
                dir.display()
            )));
        }
        Ok(weights)
    }

    /// Tensors inside the program.
    pub fn bundled(bytes: &'static [u8]) -> Result<Self> {
        let mut weights = Self::empty();
        weights
            .add(Source::Bytes(bytes), bytes.len() as u64, |want| Ok(bytes[..want.min(bytes.len())].to_vec()))
            .context("bundled weights")?;
        Ok(weights)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let mut file = File::open(path).map_err(|err| Error::io("opening the weights", path, err))?;
        let len = file.metadata().map_err(|err| Error::io("reading the weights", path, err))?.len();
        let head = |want: usize| {
            let mut bytes = vec![0; want.min(len as usize)];
            file.seek(SeekFrom::Start(0))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|err| Error::io("reading the weights", path, err))?;
            Ok(bytes)
        };
        self.add(Source::File(path.to_owned()), len, head).with_context(|| format!("{}", path.display()))
    }

    fn add(&mut self, source: Source, len: u64, mut head: impl FnMut(usize) -> Result<Vec<u8>>) -> Result<()> {
        let bad =
            |what: String| Error::format(format!("not a usable safetensors file: {what}; download or export it again"));
        let first = head(8)?;
        let first: [u8; 8] = first.try_into().map_err(|_| bad(format!("only {len} bytes long")))?;
        let header_len = u64::from_le_bytes(first);
        if header_len > 100_000_000 || header_len + 8 > len {
            return Err(bad(format!("its header claims {header_len} bytes of {len}")));
        }
        // Not `SafeTensors::read_metadata`: that one wants the whole file in memory.
        let header = head(header_len as usize + 8)?;
        let metadata: Metadata = serde_json::from_slice(&header[8..]).map_err(|err| bad(err.to_string()))?;
        let data = header_len + 8;
        let end = metadata.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0) as u64;
        if data + end != len {
            return Err(bad(format!("its tensors need {} bytes but the file has {len} (truncated?)", data + end)));
        }
        let source_index = self.sources.len();
        self.sources.push(source);
        let tensors: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
        for (name, info) in tensors {
            let (start, stop) = info.data_offsets;
            let elements = info.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
            let bytes = elements.and_then(|n| n.checked_mul(info.dtype.bitsize())).map(|bits| bits / 8);
            if start > stop || bytes != Some(stop - start) {
                return Err(bad(format!("tensor {name:?} of shape {:?} lies at bytes {start} to {stop}", info.shape)));
            }
            let entry = Entry {
                source: source_index,
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + start as u64,
                len: stop - start,
            };
            self.entries.insert(name, entry);
        }
        Ok(())
    }

    /// Tries names with this prefix first, then without it: base checkpoints lack it.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The name without the prefix.
    fn bare<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.prefix.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
    }

    fn entry(&self, name: &str) -> Option<(&str, &Entry)> {
        let prefixed = format!("{}.{name}", self.prefix);
        // Old checkpoints call the scale and shift of a layer normalisation gamma and beta.
        let old = |name: &str| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        };
        [prefixed.clone(), name.to_owned(), old(&prefixed), old(name)]
            .iter()
            .find_map(|candidate| self.entries.get_key_value(candidate.as_str()))
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// Whether there is such a tensor, with or without the prefix.
    pub fn has(&self, name: &str) -> bool {
        let stored = || self.entry(name).is_some() || self.in_memory(name).is_some();
        self.gguf.as_ref().map_or_else(stored, |file| file.has(self.bare(name)))
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        if let Some(file) = &self.gguf {
            return file.shape(self.bare(name));
        }
        let stored = self.entry(name).map(|(_, entry)| entry.shape.as_slice());
        stored.or_else(|| self.in_memory(name).map(Tensor::dims))
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let in_gguf = self.gguf.iter().flat_map(GgufWeights::names);
        self.entries.keys().chain(self.held.keys()).map(String::as_str).chain(in_gguf)
    }

    /// Reads one tensor of the expected shape.
    pub fn get(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        if let Some(file) = &self.gguf {
            return Ok(file.dense(self.bare(name), shape)?.to_dtype(dtype)?.to_device(device)?);
        }
        if let Some(tensor) = self.in_memory(name) {
            if tensor.dims() != shape {
                let text = format!("tensor {name:?} has shape {:?} instead of {shape:?}", tensor.dims());
                return Err(Error::internal(text));
            }
            return Ok(tensor.to_dtype(dtype)?.to_device(device)?);
        }
        let Some((key, entry)) = self.entry(name) else {
            return Err(Error::format(format!("the weights hold no tensor {name:?}; they do not fit config.json")));
        };
        if entry.shape != shape {
            return Err(Error::format(format!(
                "tensor {key:?} has shape {:?} but config.json asks for {shape:?}",
                entry.shape
            )));
        }
        let bytes = self.bytes(entry).with_context(|| format!("tensor {key:?}"))?;
        let values = to_f32(entry.dtype, &bytes).with_context(|| format!("tensor {key:?}"))?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::new(
                crate::error::ErrorKind::Numerics,
                format!("tensor {key:?} holds {} at element {at}; the weights are damaged", values[at]),
            ));
        }
        Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
    }

    fn bytes(&self, entry: &Entry) -> Result<Vec<u8>> {
        match &self.sources[entry.source] {
            Source::Bytes(bytes) => Ok(bytes[entry.start as usize..entry.start as usize + entry.len].to_vec()),
            Source::File(path) => {
                let mut bytes = vec![0; entry.len];
                let mut read =
                    |file: &mut File| file.seek(SeekFrom::Start(entry.start)).and_then(|_| file.read_exact(&mut bytes));
                File::open(path)
                    .and_then(|mut file| read(&mut file))
                    .map_err(|err| Error::io("reading the weights", path, err))?;
                Ok(bytes)
            }
        }
    }
}

fn shards(index: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(index).map_err(|err| Error::io("reading the index", index, err))?;
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|err| Error::format(format!("not valid JSON: {err}: {}", index.display())))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| Error::format(format!("no weight_map: {}", index.display())))?;
    let mut names: Vec<String> = map.values().filter_map(|value| value.as_str()).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    match names.iter().find(|name| name.contains(['/', '\\'])) {
        Some(name) => Err(Error::format(format!("shard name {name:?} leaves the directory: {}", index.display()))),
        None => Ok(names),
    }
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| f(*chunk)).collect()
    }
    Ok(match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F16 => each(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        other => return Err(Error::format(format!("stored as {other:?}; expected F32, F16, BF16 or F64"))),
    })
}
