//! LoRA and trained head as a directory of Hugging Face's PEFT library.
//!
//! | file | what |
//! |---|---|
//! | `adapter_config.json` | rank, alpha, where the modules sit |
//! | `adapter_model.safetensors` | `base_model.model.<module>.lora_{A,B}.weight`, and the head's tensors |
//! | `chat_template.jinja` | the template that a language model was trained with, where it was |
//!
//! The rank and alpha most modules have stand in `r` and `lora_alpha`; modules with others are in `rank_pattern` and
//! `alpha_pattern`. The head of a classifier goes through `modules_to_save`. Load it with
//! `PeftModel.from_pretrained(base, dir)`. [`peft_experts`] writes one such directory for every expert.

use super::modules::{LoraAdapter, ModuleLora};
use super::source::{Expected, ExportSource, LoadedModel, certify};
use super::target::ExportFormat;
use super::{ExportMeta, Loaded, chat};
use crate::artifact::certificate::Certificate;
use crate::artifact::import::peft::{CONFIG_FILE, MODEL_FILE, PREFIX, read as read_adapter};
use crate::artifact::json::{read_config, write_json};
use crate::error::{Error, Result};
use crate::tensor::safetensors::{self, Metadata};
use crate::tensor::{HostTensor, NumberFormat};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the name of a module begins with in a model of this type; its layer's number follows.
pub(in crate::artifact) fn layers_prefix(model_type: &str) -> Result<&'static str> {
    Ok(match model_type {
        "bert" => "bert.encoder.layer",
        "roberta" => "roberta.encoder.layer",
        "gpt2" => "transformer.h",
        "llama" | "mistral" | "qwen2" | "qwen3" => "model.layers",
        other => return Err(Error::config(format!("model type {other:?} has no place in a PEFT directory"))),
    })
}

fn is_classifier(model_type: &str) -> bool {
    matches!(model_type, "bert" | "roberta")
}

/// The merged LoRA and the head.
pub(super) struct Peft;
/// Each expert.
pub(super) struct PeftExperts;

impl ExportFormat for Peft {
    fn file(&self) -> &'static str {
        CONFIG_FILE
    }
    fn is_in(&self, dir: &Path) -> bool {
        is_in(dir)
    }
    fn file_names(&self, dir: &Path) -> Result<Vec<String>> {
        Ok(chat::with_template(dir, &[CONFIG_FILE, MODEL_FILE]))
    }
    fn read(&self, dir: &Path) -> Result<Loaded> {
        let adapter = read_adapter(dir)?;
        Ok(Loaded { dtype: adapter.dtype, tensors: adapter.lora.tensors()? })
    }
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        let adapter = source.lora(None)?;
        peft(dir, &adapter, source.meta())?;
        let run = |_: &[HostTensor]| source.logits(LoadedModel::Loras(&[read_adapter(dir)?.lora]));
        certify(dir, source, &adapter.tensors()?, Expected::Merged, run)
    }
}

impl ExportFormat for PeftExperts {
    fn file(&self) -> &'static str {
        "expert_0/adapter_config.json"
    }
    fn file_names(&self, dir: &Path) -> Result<Vec<String>> {
        let files = |(expert, dir): (usize, PathBuf)| {
            let names = chat::with_template(&dir, &[CONFIG_FILE, MODEL_FILE]).into_iter();
            names.map(|file| format!("expert_{expert}/{file}")).collect::<Vec<_>>()
        };
        Ok(expert_dirs(dir).into_iter().enumerate().flat_map(files).collect())
    }
    fn read(&self, dir: &Path) -> Result<Loaded> {
        let mut loaded = Loaded { dtype: NumberFormat::F32, tensors: Vec::new() };
        for (expert, dir) in expert_dirs(dir).iter().enumerate() {
            let adapter = read_adapter(dir)?;
            loaded.dtype = loaded.dtype.max(adapter.dtype);
            loaded.tensors.extend(tensors_of_expert(expert, &adapter.lora)?);
        }
        Ok(loaded)
    }
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        let experts = 0..source.meta().mixture.num_experts;
        let adapters = experts.map(|expert| source.lora(Some(expert))).collect::<Result<Vec<_>>>()?;
        peft_experts(dir, &adapters, source.meta())?;
        let originals = adapters.iter().enumerate().map(|(expert, adapter)| tensors_of_expert(expert, adapter));
        let originals = originals.collect::<Result<Vec<_>>>()?.concat();
        let run = |_: &[HostTensor]| {
            let read = expert_dirs(dir).iter().map(|dir| Ok(read_adapter(dir)?.lora)).collect::<Result<Vec<_>>>()?;
            source.logits(LoadedModel::Loras(&read))
        };
        certify(dir, source, &originals, Expected::ExpertLoras, run)
    }
}

/// Whether a directory holds one adapter of PEFT.
pub(super) fn is_in(dir: &Path) -> bool {
    let config = dir.join(CONFIG_FILE);
    config.is_file() && read_config(&config).is_ok_and(|json| json.get("peft_type").is_some())
}

/// The adapters in a directory of experts, in their order: `expert_0`, `expert_1`, ...
fn expert_dirs(dir: &Path) -> Vec<PathBuf> {
    let name = |expert: usize| dir.join(format!("expert_{expert}"));
    (0..).map(name).take_while(|dir| dir.join(CONFIG_FILE).is_file()).collect()
}

/// An expert's tensors have its number before their names: `expert_0/layers...`.
fn tensors_of_expert(expert: usize, adapter: &LoraAdapter) -> Result<Vec<HostTensor>> {
    let tensors = adapter.tensors()?.into_iter();
    Ok(tensors.map(|t| HostTensor { name: format!("expert_{expert}/{}", t.name), ..t }).collect())
}

/// Writes the files into `dir`. The head has our names (`classifier...`, `pooler.dense...`).
pub fn peft(dir: &Path, adapter: &LoraAdapter, meta: &ExportMeta) -> Result<()> {
    let (config, tensors) = parts(adapter, meta)?;
    let format = Metadata::from([("format".to_owned(), "pt".to_owned())]);
    write_json(&dir.join(CONFIG_FILE), &config)?;
    chat::beside_adapter(dir, meta)?;
    safetensors::write(&dir.join(MODEL_FILE), &tensors, meta.dtype, &format)
}

/// Writes `expert_0/`, `expert_1/`, ... into `dir`: every expert as its own adapter, shared sides and the head repeated in
/// each.
pub fn peft_experts(dir: &Path, experts: &[LoraAdapter], meta: &ExportMeta) -> Result<()> {
    for (expert, adapter) in experts.iter().enumerate() {
        let dir = dir.join(format!("expert_{expert}"));
        std::fs::create_dir(&dir).map_err(|err| Error::io("creating a directory", &dir, err))?;
        peft(&dir, adapter, meta)?;
    }
    Ok(())
}

fn parts(LoraAdapter { modules, head }: &LoraAdapter, meta: &ExportMeta) -> Result<(Value, Vec<HostTensor>)> {
    if modules.is_empty() {
        return Err(Error::config("there is no LoRA in this model, so there is nothing for PEFT to load"));
    }
    let layers = layers_prefix(&meta.model_type)?;
    let mut tensors = Vec::new();
    for module in modules {
        let name = format!("{PREFIX}{layers}.{}.{}", module.layer, module.path);
        for (tensor, side) in module.tensors()?.into_iter().zip(["lora_A", "lora_B"]) {
            tensors.push(HostTensor { name: format!("{name}.{side}.weight"), ..tensor });
        }
    }
    for tensor in head {
        let name = if tensor.name.starts_with("pooler.") && meta.model_type == "bert" {
            format!("{PREFIX}bert.{}", tensor.name)
        } else if tensor.name.starts_with("classifier.") && is_classifier(&meta.model_type) {
            format!("{PREFIX}{}", tensor.name)
        } else {
            return Err(Error::config(format!("tensor {} has no place in a PEFT directory", tensor.name)));
        };
        tensors.push(HostTensor { name, ..tensor.clone() });
    }
    Ok((config(modules, head, meta, layers), tensors))
}

/// alpha that gives this scale at this rank, without the last bit that dividing and multiplying may have cost.
fn alpha(scale: f64, rank: usize, rslora: bool) -> f64 {
    let rank = rank as f64;
    let alpha = if rslora { scale * rank.sqrt() } else { scale * rank };
    let whole = alpha.round();
    if (alpha - whole).abs() <= 1e-12 * whole.abs() { whole } else { alpha }
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

fn config(modules: &[ModuleLora], head: &[HostTensor], meta: &ExportMeta, layers: &str) -> Value {
    let rslora = meta.mixture.use_rslora;
    let of = |m: &ModuleLora| (m.rank, alpha(m.scale, m.rank, rslora));
    let count = |wanted: (usize, f64)| modules.iter().filter(|m| of(m) == wanted).count();
    let usual = modules.iter().map(of).max_by_key(|&pair| count(pair)).unwrap_or((1, 1.0));
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for module in modules {
        let (rank, alpha) = of(module);
        let name = format!("{layers}.{}.{}", module.layer, module.path);
        if rank != usual.0 {
            ranks.insert(name.clone(), json!(rank));
        }
        if alpha != usual.1 {
            alphas.insert(name, number(alpha));
        }
    }
    let classifier = is_classifier(&meta.model_type);
    let saved = if classifier {
        let pooler = head.iter().any(|tensor| tensor.name.starts_with("pooler."));
        json!(["classifier", "score"].into_iter().chain(pooler.then_some("pooler")).collect::<Vec<_>>())
    } else {
        Value::Null
    };
    json!({
        "alpha_pattern": alphas,
        "base_model_name_or_path": meta.base_model,
        "bias": "none",
        "fan_in_fan_out": meta.model_type == "gpt2",
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": number(usual.1),
        "lora_dropout": meta.mixture.lora_dropout,
        "modules_to_save": saved,
        "peft_type": "LORA",
        "r": usual.0,
        "rank_pattern": ranks,
        "revision": null,
        "target_modules": target_modules(modules, layers),
        "task_type": if classifier { "SEQ_CLS" } else { "CAUSAL_LM" },
        "use_dora": false,
        "use_rslora": rslora
    })
}

/// Ends of names where each is in every layer and means nothing else in this model, full names otherwise.
fn target_modules(modules: &[ModuleLora], layers: &str) -> Vec<String> {
    let paths: BTreeSet<&str> = modules.iter().map(|m| m.path.as_str()).collect();
    let numbers: BTreeSet<usize> = modules.iter().map(|m| m.layer).collect();
    let last = numbers.iter().next_back().map_or(0, |last| last + 1);
    // An encoder's `output.dense` is also the end of `attention.output.dense`.
    let plain = !paths.contains("output.dense");
    if plain && numbers.len() == last && modules.len() == paths.len() * numbers.len() {
        return paths.into_iter().map(str::to_owned).collect();
    }
    modules.iter().map(|m| format!("{layers}.{}.{}", m.layer, m.path)).collect()
}
