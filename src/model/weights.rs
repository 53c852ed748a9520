//! Tensors of a Hugging Face directory: one `model.safetensors`, or shards with an index, or bundled bytes; or those of a
//! GGUF file under the names of such a directory; or tensors in memory.
//!
//! Only headers are read at first; each tensor is read, and converted to the working dtype, when it is asked for.

use super::gguf::GgufWeights;
use crate::error::{Context as _, Error, Result};
use crate::nn::kernels::device::wide;
use crate::rng::{Purpose, SeedStream};
use crate::tensor::safetensors::{SafetensorsFile, TensorEntry};
use crate::tensor::{DType, Device, NumberFormat, Tensor};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// The tensors of a model, by name.
#[derive(Default)]
pub struct Weights {
    files: Vec<SafetensorsFile>,
    /// Number of the file, and of the tensor in it.
    entries: BTreeMap<String, (usize, usize)>,
    prefix: String,
    gguf: Option<GgufWeights>,
    /// Tensors in memory.
    held: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Tensors in memory, under the names that a checkpoint gives them.
    pub fn of_tensors(held: BTreeMap<String, Tensor>) -> Self {
        Self { held, ..Self::default() }
    }

    /// A tensor in memory, with or without the prefix.
    fn in_memory(&self, name: &str) -> Option<&Tensor> {
        self.held.get(&format!("{}.{name}", self.prefix)).or_else(|| self.held.get(name))
    }

    /// Those of a GGUF file.
    pub fn from_gguf(file: GgufWeights) -> Self {
        Self { gguf: Some(file), ..Self::default() }
    }

    /// The GGUF file they come from, if they do.
    pub fn gguf(&self) -> Option<&GgufWeights> {
        self.gguf.as_ref()
    }

    /// Opens `model.safetensors`, or the shards of `model.safetensors.index.json`.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut weights = Self::default();
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.is_file() {
            weights.add(SafetensorsFile::open_any(&single).context(UNUSABLE)?);
        } else if index.is_file() {
            for shard in shards(&index)? {
                weights.add(SafetensorsFile::open_any(&dir.join(shard)).context(UNUSABLE)?);
            }
        } else if dir.join("pytorch_model.bin").is_file() {
            return Err(Error::config(format!(
                "only pytorch_model.bin is there, a pickle; make model.safetensors of it: python -c \"import torch, safetensors.torch as s; s.save_file({{k: v.clone() for k, v in torch.load('{0}/pytorch_model.bin', map_location='cpu', weights_only=True).items()}}, '{0}/model.safetensors')\": {0}",
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
        let mut weights = Self::default();
        weights.add(SafetensorsFile::bundled(bytes)?);
        Ok(weights)
    }

    fn add(&mut self, file: SafetensorsFile) {
        let number = self.files.len();
        let place = |(i, entry): (usize, &TensorEntry)| (entry.name.clone(), (number, i));
        self.entries.extend(file.entries().iter().enumerate().map(place));
        self.files.push(file);
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

    fn entry(&self, name: &str) -> Option<(&SafetensorsFile, &TensorEntry)> {
        let prefixed = format!("{}.{name}", self.prefix);
        // Old checkpoints call the scale and shift of a layer normalisation gamma and beta.
        let old = |name: &str| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        };
        let candidates = [prefixed.clone(), name.to_owned(), old(&prefixed), old(name)];
        let (file, entry) = candidates.iter().find_map(|candidate| self.entries.get(candidate))?;
        let file = self.files.get(*file)?;
        Some((file, file.entries().get(*entry)?))
    }

    /// Whether there is such a tensor, with or without the prefix.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
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

    /// Reads tensors of the expected shapes: matrices in `dtype`, vectors never narrower than f32.
    pub(super) fn reader<'a>(
        &'a self,
        dtype: DType,
        device: &'a Device,
    ) -> impl Fn(&str, &[usize]) -> Result<Tensor> + 'a {
        move |name, shape| self.get(name, shape, if shape.len() > 1 { dtype } else { wide(dtype) }, device)
    }

    /// Reads one tensor of the expected shape.
    pub fn get(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        if let Some(file) = &self.gguf {
            return file.dense(self.bare(name), shape)?.to_dtype(dtype)?.to_device(device);
        }
        if let Some(tensor) = self.in_memory(name) {
            if tensor.dims() != shape {
                let text = format!("tensor {name:?} has shape {:?} instead of {shape:?}", tensor.dims());
                return Err(Error::internal(text));
            }
            return tensor.to_dtype(dtype)?.to_device(device);
        }
        let Some((file, entry)) = self.entry(name) else {
            return Err(Error::format(format!("the weights hold no tensor {name:?}; they do not fit config.json")));
        };
        if entry.shape != shape {
            let (name, found) = (&entry.name, &entry.shape);
            return Err(Error::format(format!(
                "tensor {name:?} has shape {found:?} but config.json asks for {shape:?}"
            )));
        }
        let tensor = file.read_entry(entry)?;
        tensor.check_finite().context("the weights are damaged")?;
        if dtype == DType::F16 {
            tensor.check_range(NumberFormat::F16)?;
        }
        // Narrowed before it goes there: in f32 a large table may be more than a GPU takes in one piece.
        Tensor::from_vec(tensor.data, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }
}

/// Tensors of a new model: N(0, 0.02), norms 1 and biases 0.
pub(super) fn random_tensors(seed: SeedStream, device: &Device) -> impl Fn(&str, &[usize]) -> Result<Tensor> {
    let stream = RefCell::new(seed.stream(Purpose::Init, 1 << 32));
    move |name, shape| {
        // Numbers that nothing computes with are not drawn.
        if let Device::Gpu(gpu) = device
            && !gpu.backend().computes()
        {
            return Tensor::zeros(shape, DType::F32, device);
        }
        let n = shape.iter().product();
        let norm = ["norm", "Norm", "ln_"].iter().any(|part| name.contains(part));
        let values = match (name.ends_with(".bias"), norm) {
            (true, _) => vec![0.0; n],
            (_, true) => vec![1.0; n],
            _ => stream.borrow_mut().normal_vec(n, 0.02),
        };
        Tensor::from_vec(values, shape, device)
    }
}

/// What to do about a file whose header cannot be read.
const UNUSABLE: &str = "not usable weights; download or export them again";

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
