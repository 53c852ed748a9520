//! Exports: what leaves the workbench, as files that other programs read.
//!
//! | target | files |
//! |---|---|
//! | [`merged_adapter`] | `adapter.safetensors`: one adapter per site and the head, under our stable names |
//! | [`experts`] | `experts.safetensors`: all banks and the head, under our stable names |
//! | [`adapterhub`](adapterhub::adapterhub) | the merged adapter and head as the `adapters` library loads them |
//! | [`peft`](peft::peft), [`peft_experts`](peft::peft_experts) | the merged LoRA, or each expert, as PEFT loads it |
//! | [`gguf_adapter`](gguf_adapter::gguf_adapter) | the merged LoRA as llama.cpp loads it |
//! | [`hf`](hf::hf) | the whole merged model as transformers loads it |
//! | [`GgufModel`](gguf_model::GgufModel) | the whole merged model as llama.cpp loads it |
//!
//! The first two carry their story as safetensors metadata, all strings: `format` (`adamix-adapter` or
//! `adamix-experts`), `version` (`1`), `tool`, `base_model`, `model_type`, `hidden_size`, `num_experts`, `kind` (`adapter`
//! or `lora`), `adapter_size`, `lora_rank`, `lora_alpha`, `use_rslora`, `sharing_down`, `sharing_up`, `activation`, `dtype`, `labels` (a JSON array, empty for regression), and for a
//! merged adapter `recipe` (in words) and `recipe_toml` (to be replayed).
//!
//! A target directory is written whole or not at all, and an existing one with contents is never touched.
//! [`read`] loads adapters and experts back under our names; the certificate is made from what it returns. Whole models
//! are proven tensor by tensor ([`proof`]).

pub mod adapterhub;
pub mod base;
pub mod gguf_adapter;
pub mod gguf_model;
pub mod hf;
mod hf_gguf;
mod hub_head;
pub mod modules;
pub mod peft;
pub mod proof;
pub mod recipe;

pub use adapterhub::adapterhub;
pub use recipe::{Recipe, SiteWeights};

use super::TOOL;
use crate::atomic::write_dir;
use crate::config::{Activation, MixtureConfig, MixtureKind};
use crate::error::{Context as _, Error, Result};
use crate::tensor::safetensors::{self, Metadata};
use crate::tensor::{HostTensor, NumberFormat};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const ADAPTER_FILE: &str = "adapter.safetensors";
const EXPERTS_FILE: &str = "experts.safetensors";
const ADAPTER_FORMAT: &str = "adamix-adapter";
const EXPERTS_FORMAT: &str = "adamix-experts";

/// What an export directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The merged adapter and the head, our names.
    Adapter,
    /// All experts and the head, our names.
    Experts,
    /// The merged adapter and the head for the `adapters` library.
    Adapterhub,
    /// The merged LoRA and the head for PEFT.
    Peft,
    /// Each expert for PEFT.
    PeftExperts,
    /// The merged LoRA for llama.cpp.
    GgufAdapter,
    /// The whole merged model for transformers.
    Hf,
    /// The whole merged model for llama.cpp.
    Gguf,
}

/// What a reader of an export must know besides the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportMeta {
    /// The base model: its directory or hub name.
    pub base_model: String,
    /// The family as `config.json` calls it: `bert` or `roberta`.
    pub model_type: String,
    /// d.
    pub hidden_size: usize,
    /// M, r, sharing, activation.
    pub mixture: MixtureConfig,
    /// Class names in order; empty for regression.
    pub labels: Vec<String>,
    /// How the experts became one; ignored where all are exported.
    pub recipe: Recipe,
    /// How the tensors are stored.
    pub dtype: NumberFormat,
}

impl ExportMeta {
    fn metadata(&self, format: &str) -> Result<Metadata> {
        let labels = serde_json::to_string(&self.labels).map_err(|err| Error::internal(err.to_string()))?;
        let mixture = &self.mixture;
        let mut pairs = vec![
            ("format", format.to_owned()),
            ("version", "1".to_owned()),
            ("tool", TOOL.to_owned()),
            ("base_model", self.base_model.clone()),
            ("model_type", self.model_type.clone()),
            ("hidden_size", self.hidden_size.to_string()),
            ("num_experts", mixture.num_experts.to_string()),
            ("kind", kind_name(mixture.kind).to_owned()),
            ("adapter_size", mixture.adapter_size.to_string()),
            ("lora_rank", mixture.lora_rank.to_string()),
            ("lora_alpha", mixture.lora_alpha.to_string()),
            ("use_rslora", mixture.use_rslora.to_string()),
            ("sharing_down", mixture.sharing_down.to_string()),
            ("sharing_up", mixture.sharing_up.to_string()),
            ("activation", activation_name(mixture.activation).to_owned()),
            ("dtype", self.dtype.name().to_owned()),
            ("labels", labels),
        ];
        if format == ADAPTER_FORMAT {
            pairs.push(("recipe", self.recipe.words()));
            pairs.push(("recipe_toml", self.recipe.to_toml()?));
        }
        Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

/// Writes `adapter.safetensors`: for every site one down- and one up-projection, and the head.
/// Banks of one expert lose that dimension: `layers.3.ffn.down.weight` is `[r, d]`.
pub fn merged_adapter(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    let merged = tensors.iter().map(plain).collect::<Result<Vec<_>>>()?;
    let metadata = meta.metadata(ADAPTER_FORMAT)?;
    new_dir(dir, |dir| safetensors::write(&dir.join(ADAPTER_FILE), &merged, meta.dtype, &metadata))
}

/// Writes `experts.safetensors`: the banks of all experts, `[experts, ..]` each, and the head.
pub fn experts(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    let metadata = meta.metadata(EXPERTS_FORMAT)?;
    new_dir(dir, |dir| safetensors::write(&dir.join(EXPERTS_FILE), tensors, meta.dtype, &metadata))
}

/// An export read back from its files.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it is.
    pub target: Target,
    /// How its tensors are stored; the least exact where they differ.
    pub dtype: NumberFormat,
    /// The tensors under our names.
    pub tensors: Vec<HostTensor>,
    /// The metadata of the tensor file.
    pub metadata: Metadata,
}

/// Reads an export directory of any target.
pub fn read(dir: &Path) -> Result<Loaded> {
    let target = target_of(dir)?;
    if matches!(target, Target::Peft | Target::PeftExperts) {
        return read_peft(dir, target);
    }
    let mut loaded = Loaded { target, dtype: NumberFormat::F32, tensors: Vec::new(), metadata: Metadata::new() };
    for (file, rename) in adapterhub::files(dir, target)? {
        let tensors = safetensors::SafetensorsFile::open(&file)?;
        for entry in tensors.entries() {
            loaded.dtype = loaded.dtype.max(entry.format());
            let mut tensor = tensors.read_entry(entry)?;
            tensor.name = rename(&tensor.name).with_context(|| format!("reading {}", file.display()))?;
            loaded.tensors.push(tensor);
        }
        loaded.metadata.extend(tensors.metadata().clone());
    }
    Ok(loaded)
}

/// The adapters in a directory of experts, in their order: `expert_0`, `expert_1`, ...
fn expert_dirs(dir: &Path) -> Vec<PathBuf> {
    let name = |expert: usize| dir.join(format!("expert_{expert}"));
    (0..).map(name).take_while(|dir| dir.join(peft::CONFIG_FILE).is_file()).collect()
}

/// Tensors of an expert's own directory have its number before their names: `expert_0/layers...`.
fn read_peft(dir: &Path, target: Target) -> Result<Loaded> {
    let mut loaded = Loaded { target, dtype: NumberFormat::F32, tensors: Vec::new(), metadata: Metadata::new() };
    let one = target == Target::Peft;
    let dirs = if one { vec![dir.to_owned()] } else { expert_dirs(dir) };
    for (expert, dir) in dirs.iter().enumerate() {
        let adapter = super::import::peft::read(dir)?;
        loaded.dtype = loaded.dtype.max(adapter.dtype);
        let name = |name: String| if one { name } else { format!("expert_{expert}/{name}") };
        loaded.tensors.extend(adapter.tensors()?.into_iter().map(|t| HostTensor { name: name(t.name), ..t }));
    }
    Ok(loaded)
}

/// What sort of export a directory holds.
pub fn target_of(dir: &Path) -> Result<Target> {
    if dir.join(adapterhub::CONFIG_FILE).is_file() {
        let json = super::import::peft::read_json(&dir.join(adapterhub::CONFIG_FILE))?;
        Ok(if json.get("peft_type").is_some() { Target::Peft } else { Target::Adapterhub })
    } else if !expert_dirs(dir).is_empty() {
        Ok(Target::PeftExperts)
    } else if dir.join(gguf_adapter::FILE).is_file() {
        Ok(Target::GgufAdapter)
    } else if dir.join(gguf_model::FILE).is_file() {
        Ok(Target::Gguf)
    } else if dir.join(hf::CONFIG_FILE).is_file() {
        Ok(Target::Hf)
    } else if dir.join(ADAPTER_FILE).is_file() {
        Ok(Target::Adapter)
    } else if dir.join(EXPERTS_FILE).is_file() {
        Ok(Target::Experts)
    } else {
        let text =
            format!("neither {ADAPTER_FILE} nor {EXPERTS_FILE} is there, so this is no export: {}", dir.display());
        Err(Error::format(text))
    }
}

/// The names of an export's files, without its certificate.
pub fn file_names(dir: &Path) -> Result<Vec<String>> {
    Ok(match target_of(dir)? {
        Target::Adapter => vec![ADAPTER_FILE.to_owned()],
        Target::Experts => vec![EXPERTS_FILE.to_owned()],
        Target::Adapterhub => adapterhub::FILES.map(str::to_owned).to_vec(),
        Target::Peft => [peft::CONFIG_FILE, peft::MODEL_FILE].map(str::to_owned).to_vec(),
        Target::PeftExperts => {
            let files = |expert| [peft::CONFIG_FILE, peft::MODEL_FILE].map(|file| format!("expert_{expert}/{file}"));
            (0..expert_dirs(dir).len()).flat_map(files).collect()
        }
        Target::GgufAdapter => vec![gguf_adapter::FILE.to_owned()],
        Target::Gguf => vec![gguf_model::FILE.to_owned()],
        Target::Hf => hf::file_names(dir)?,
    })
}

/// Where a tensor file lies and how its names become ours.
type Part = (PathBuf, Box<dyn Fn(&str) -> Result<String>>);

/// Checks that there is no directory yet, or an empty one.
pub fn free(dir: &Path) -> Result<()> {
    let taken = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => false,
        Err(err) => return Err(Error::io("reading a directory", dir, err)),
    };
    if taken {
        return Err(Error::config(format!("the directory is not empty; choose a new one: {}", dir.display())));
    }
    Ok(())
}

/// Makes a directory that does not exist yet, or is empty.
fn new_dir(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    free(dir)?;
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(|err| Error::io("creating a directory", parent, err))?;
    }
    write_dir(dir, fill).with_context(|| format!("exporting to {}", dir.display()))
}

/// A merged tensor without the dimension of its single expert.
fn plain(tensor: &HostTensor) -> Result<HostTensor> {
    let HostTensor { name, shape, data } = tensor;
    if !name.starts_with("layers.") {
        return Ok(tensor.clone());
    }
    let dims = if name.ends_with(".weight") { 2 } else { 1 };
    match shape.len() {
        n if n == dims => Ok(tensor.clone()),
        n if n == dims + 1 && shape[0] == 1 => HostTensor::new(name.clone(), &shape[1..], data.clone()),
        _ => Err(Error::internal(format!("tensor {name} of shape {shape:?} is not merged"))),
    }
}

/// As in settings files.
fn kind_name(kind: MixtureKind) -> &'static str {
    match kind {
        MixtureKind::Adapter => "adapter",
        MixtureKind::Lora => "lora",
    }
}

/// As in settings files.
fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu-tanh",
        Activation::Relu => "relu",
        Activation::Swish => "swish",
    }
}
