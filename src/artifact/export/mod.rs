//! Exports: a trained model as files for this and other programs, written and certified in one step.
//!
//! | target | files |
//! |---|---|
//! | `merged`, `experts` ([`native`]) | `adapter.safetensors`, `experts.safetensors` under our stable names |
//! | `adapterhub` ([`adapterhub`]) | the merged adapter and head as the `adapters` library loads them |
//! | `peft`, `peft-experts` ([`peft`]) | the merged LoRA, or each expert, as PEFT loads it |
//! | `gguf-adapter` ([`gguf_adapter`]) | the merged LoRA as llama.cpp loads it |
//! | `hf` ([`hf`]) | the whole merged model as transformers loads it |
//! | `gguf` ([`gguf_model`]) | the whole merged model as llama.cpp loads it |
//!
//! [`ExportTarget::export`] is the whole path. It writes the files into a temporary directory, loads them again, compares
//! every tensor with what was exported and the logits of the model made of them with those of the model in memory
//! ([`certificate`](super::certificate)), and renames the directory. A directory with contents is never touched.
//!
//! To add a target: a file here with a type that implements `ExportFormat`, and in [`target`] a variant of
//! [`ExportTarget`] with its row of `TARGETS`. The command line and the window show what that row says.

pub mod adapterhub;
pub mod base;
mod chat;
pub mod gguf_adapter;
pub mod gguf_model;
pub mod hf;
mod hf_gguf;
mod hub_head;
pub mod modules;
pub mod native;
pub mod peft;
pub mod recipe;
pub mod source;
pub mod target;

pub use recipe::{Recipe, SiteWeights};
pub use source::{Expected, ExportSource, LoadedModel, WholeModel};
pub use target::{ExportTarget, Refusal, TargetInfo};

use super::checkpoint_choice::WeightsOf;
use crate::atomic::write_dir;
use crate::config::MixtureConfig;
use crate::error::{Context as _, Error, Result};
use crate::tensor::safetensors::SafetensorsFile;
use crate::tensor::{HostTensor, NumberFormat};
use std::path::{Path, PathBuf};

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
    /// How a language model was taught to be asked, where that was by a chat template.
    pub chat: Option<ChatFormat>,
    /// Which of the run's weights these are, where they are a run's.
    pub weights: Option<WeightsOf>,
    /// How the tensors are stored.
    pub dtype: NumberFormat,
}

/// How a language model was taught to be asked and to end its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatFormat {
    /// The chat template, in Jinja.
    pub template: String,
    /// The token that ends an answer, where the base model's files do not stop at it.
    pub turn_end: Option<u32>,
}

impl ExportMeta {
    /// Bottleneck or rank of the merged modules: r, unless experts stand side by side in them.
    pub fn merged_width(&self) -> usize {
        self.recipe.width().unwrap_or(self.mixture.rank())
    }

    /// The settings with which the merged modules are read: experts of their width.
    pub fn merged_mixture(&self) -> MixtureConfig {
        self.mixture.of_rank(self.merged_width())
    }
}

/// The tensors of an export, loaded from its files.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// How they are stored; the least exact where they differ.
    pub dtype: NumberFormat,
    /// The tensors under our names.
    pub tensors: Vec<HostTensor>,
}

/// Loads an export directory of any target but whole models and GGUF adapters.
pub fn read(dir: &Path) -> Result<Loaded> {
    ExportTarget::of(dir)?.read(dir)
}

/// A tensor file, and what makes our names of those in it.
type RenamedFile<'a> = (PathBuf, &'a dyn Fn(&str) -> Result<String>);

fn read_files(files: &[RenamedFile<'_>]) -> Result<Loaded> {
    let mut loaded = Loaded { dtype: NumberFormat::F32, tensors: Vec::new() };
    for (path, rename) in files {
        let file = SafetensorsFile::open(path)?;
        for entry in file.entries() {
            loaded.dtype = loaded.dtype.max(entry.format());
            let mut tensor = file.read_entry(entry)?;
            tensor.name = rename(&tensor.name).with_context(|| format!("reading {}", path.display()))?;
            loaded.tensors.push(tensor);
        }
    }
    Ok(loaded)
}

/// Checks that there is no directory yet, or an empty one.
pub fn check_free(dir: &Path) -> Result<()> {
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

/// Makes a directory that does not exist yet, or is empty: `fill` writes into a temporary one, which is renamed.
pub fn new_dir<T>(dir: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    check_free(dir)?;
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(|err| Error::io("creating a directory", parent, err))?;
    }
    write_dir(dir, fill).with_context(|| format!("exporting to {}", dir.display()))
}
