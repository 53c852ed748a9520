//! LoRA and trained head as a directory of Hugging Face's PEFT library.
//!
//! | file | what |
//! |---|---|
//! | `adapter_config.json` | rank, alpha, where the modules sit |
//! | `adapter_model.safetensors` | `base_model.model.<module>.lora_{A,B}.weight`, and the head's tensors |
//!
//! The rank and alpha most modules have stand in `r` and `lora_alpha`; modules with others are in `rank_pattern` and
//! `alpha_pattern`. The head of a classifier goes through `modules_to_save`. Load it with
//! `PeftModel.from_pretrained(base, dir)`. [`peft_experts`] writes one such directory for every expert.

use super::modules::ModuleLora;
use super::{ExportMeta, new_dir};
use crate::artifact::checkpoint::write_json;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::tensor::safetensors::{self, Metadata};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Name of the configuration, the same as AdapterHub's.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Name of the weights.
pub const MODEL_FILE: &str = "adapter_model.safetensors";
/// What stands before every name in the weights.
pub(in crate::artifact) const PREFIX: &str = "base_model.model.";

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

/// Writes the directory. `head`: the trained head under our names (`classifier...`, `pooler.dense...`); empty for a
/// language model.
pub fn peft(dir: &Path, modules: &[ModuleLora], head: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    let (config, tensors) = parts(modules, head, meta)?;
    new_dir(dir, |dir| write(dir, &config, &tensors, meta))
}

/// Writes `expert_0/`, `expert_1/`, ...: every expert as its own adapter, shared sides and the head repeated in each.
pub fn peft_experts(dir: &Path, experts: &[Vec<ModuleLora>], head: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    let all = experts.iter().map(|modules| parts(modules, head, meta)).collect::<Result<Vec<_>>>()?;
    new_dir(dir, |dir| {
        all.iter().enumerate().try_for_each(|(expert, (config, tensors))| {
            let dir = dir.join(format!("expert_{expert}"));
            std::fs::create_dir(&dir).map_err(|err| Error::io("creating a directory", &dir, err))?;
            write(&dir, config, tensors, meta)
        })
    })
}

fn write(dir: &Path, config: &Value, tensors: &[HostTensor], meta: &ExportMeta) -> Result<()> {
    let format = Metadata::from([("format".to_owned(), "pt".to_owned())]);
    write_json(&dir.join(CONFIG_FILE), config)?;
    safetensors::write(&dir.join(MODEL_FILE), tensors, meta.dtype, &format)
}

fn parts(modules: &[ModuleLora], head: &[HostTensor], meta: &ExportMeta) -> Result<(Value, Vec<HostTensor>)> {
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
