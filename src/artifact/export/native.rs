//! Our own files: the merged modules, or all experts, with the head, under stable names.
//!
//! They carry their settings as safetensors metadata, all strings: `format` (`adamix-adapter` or `adamix-experts`),
//! `version` (`1`), `tool`, `base_model`, `model_type`, `hidden_size`, `num_experts`, `kind` (`adapter` or `lora`),
//! `adapter_size`, `lora_rank`, `lora_alpha`, `use_rslora`, `sharing_down`, `sharing_up`, `activation`, `dtype`, `labels`
//! (a JSON array, empty for regression), `step` (steps of training), and for a merged adapter `recipe` (in words) and `recipe_toml` (to be replayed).

use super::source::{Expected, ExportSource, LoadedModel, certify};
use super::target::ExportFormat;
use super::{ExportMeta, Loaded, read_files};
use crate::artifact::TOOL;
use crate::artifact::certificate::Certificate;
use crate::artifact::import::peft::CONFIG_FILE;
use crate::config::choice_name;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::tensor::safetensors::{self, Metadata};
use std::path::Path;

pub(super) const ADAPTER_FILE: &str = "adapter.safetensors";
const EXPERTS_FILE: &str = "experts.safetensors";
const ADAPTER_FORMAT: &str = "adamix-adapter";
const EXPERTS_FORMAT: &str = "adamix-experts";

/// Our own files.
pub(super) enum Native {
    /// The merged modules and the head.
    Merged,
    /// All experts and the head.
    Experts,
}

impl ExportFormat for Native {
    fn file(&self) -> &'static str {
        match self {
            Self::Merged => ADAPTER_FILE,
            Self::Experts => EXPERTS_FILE,
        }
    }
    fn is_in(&self, dir: &Path) -> bool {
        // AdapterHub's directories have a file of the merged adapter's name too.
        dir.join(self.file()).is_file() && !dir.join(CONFIG_FILE).is_file()
    }
    fn read(&self, dir: &Path) -> Result<Loaded> {
        read_files(&[(dir.join(self.file()), &|name| Ok(name.to_owned()))])
    }
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        match self {
            Self::Merged => {
                let tensors = source.tensors(false)?;
                merged_adapter(dir, &tensors, source.meta())?;
                let run = |loaded: &[HostTensor]| source.logits(LoadedModel::Merged(loaded));
                certify(dir, source, &tensors, Expected::Merged, run)
            }
            Self::Experts => {
                let tensors = source.tensors(true)?;
                experts(dir, &tensors, source.meta())?;
                let run = |loaded: &[HostTensor]| source.logits(LoadedModel::Experts(loaded));
                certify(dir, source, &tensors, Expected::Experts, run)
            }
        }
    }
}

/// Writes `adapter.safetensors`: for every place of a module one down- and one up-projection, and the head.
/// Banks of one expert lose that dimension: `layers.3.ffn.down.weight` is `[r, d]`.
pub fn merged_adapter(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    let merged = tensors.iter().map(plain).collect::<Result<Vec<_>>>()?;
    safetensors::write(&dir.join(ADAPTER_FILE), &merged, meta.dtype, &metadata(meta, ADAPTER_FORMAT)?)
}

/// Writes `experts.safetensors`: the banks of all experts, `[experts, ..]` each, and the head.
pub fn experts(dir: &Path, tensors: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    safetensors::write(&dir.join(EXPERTS_FILE), tensors, meta.dtype, &metadata(meta, EXPERTS_FORMAT)?)
}

/// A merged tensor without the dimension of its single expert.
pub(super) fn plain(tensor: &HostTensor) -> Result<HostTensor> {
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

fn metadata(meta: &ExportMeta, format: &str) -> Result<Metadata> {
    let labels = serde_json::to_string(&meta.labels).map_err(|err| Error::internal(err.to_string()))?;
    // A merged module of another width has a bottleneck, or rank and alpha, of its own.
    let mixture = if format == ADAPTER_FORMAT { &meta.merged_mixture() } else { &meta.mixture };
    let mut pairs = vec![
        ("format", format.to_owned()),
        ("version", "1".to_owned()),
        ("tool", TOOL.to_owned()),
        ("base_model", meta.base_model.clone()),
        ("model_type", meta.model_type.clone()),
        ("hidden_size", meta.hidden_size.to_string()),
        ("num_experts", mixture.num_experts.to_string()),
        ("kind", choice_name(mixture.kind)),
        ("adapter_size", mixture.adapter_size.to_string()),
        ("lora_rank", mixture.lora_rank.to_string()),
        ("lora_alpha", mixture.lora_alpha.to_string()),
        ("use_rslora", mixture.use_rslora.to_string()),
        ("sharing_down", mixture.sharing_down.to_string()),
        ("sharing_up", mixture.sharing_up.to_string()),
        ("activation", choice_name(mixture.activation)),
        ("dtype", meta.dtype.name().to_owned()),
        ("labels", labels),
    ];
    // The step alone: files of the same weights are the same, however these were chosen.
    pairs.extend(meta.weights.map(|weights| ("step", weights.step.to_string())));
    if format == ADAPTER_FORMAT {
        pairs.push(("recipe", meta.recipe.describe()));
        pairs.push(("recipe_toml", meta.recipe.to_toml()?));
    }
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
