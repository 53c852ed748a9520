//! LoRA directories of PEFT: `adapter_config.json` with `adapter_model.safetensors` (or the older `adapter_model.bin`).
//!
//! What would change the result and is not understood is refused by its name in the configuration. The rank the
//! configuration states must be that of the tensors.

use crate::artifact::export::modules::{LoraAdapter, ModuleLora};
use crate::artifact::json::read_config;
use crate::artifact::torch_file::TorchFile;
use crate::config::lora_scaling;
use crate::error::{Context as _, Error, Result};
use crate::tensor::safetensors::SafetensorsFile;
use crate::tensor::{HostTensor, NumberFormat};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the configuration, the same as AdapterHub's.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Name of the weights.
pub const MODEL_FILE: &str = "adapter_model.safetensors";
/// What stands before every name in the weights.
pub(in crate::artifact) const PREFIX: &str = "base_model.model.";
/// Name of the weights that older versions wrote.
const OLD_FILE: &str = "adapter_model.bin";

/// An adapter as its directory tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftAdapter {
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// `r` of most modules.
    pub rank: usize,
    /// `lora_alpha` of most modules.
    pub alpha: f64,
    /// Whether alpha is divided by the root of the rank.
    pub use_rslora: bool,
    /// Dropout it was trained with.
    pub dropout: f64,
    /// The LoRA and the trained head.
    pub lora: LoraAdapter,
    /// The least exact number format of the tensors.
    pub dtype: NumberFormat,
}

/// Reads a directory.
pub fn read(dir: &Path) -> Result<PeftAdapter> {
    read_dir(dir).with_context(|| format!("the PEFT adapter cannot be used: {}", dir.display()))
}

fn read_dir(dir: &Path) -> Result<PeftAdapter> {
    let json = read_config(&dir.join(CONFIG_FILE))?;
    let config = Config::from_json(&json)?;
    let mut pairs: BTreeMap<(usize, String), [Option<HostTensor>; 2]> = BTreeMap::new();
    let (mut head, mut dtype) = (Vec::new(), NumberFormat::F32);
    read_tensors(dir, &mut |tensor, stored| {
        dtype = dtype.max(stored);
        let name = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name).to_owned();
        match lora_name(&name) {
            Some((layer, path, side)) => {
                let slot = &mut pairs.entry((layer, path)).or_default()[side];
                if slot.is_some() {
                    return Err(Error::format(format!("tensor {} is there twice under two names", tensor.name)));
                }
                *slot = Some(tensor);
            }
            None => head.push(HostTensor { name: head_name(&name)?, ..tensor }),
        }
        Ok(())
    })?;
    let mut modules = Vec::new();
    for ((layer, path), pair) in pairs {
        let [Some(a), Some(b)] = pair else {
            return Err(Error::format(format!("layer {layer}: {path} has only one of lora_A and lora_B")));
        };
        modules.push(config.module(layer, path, a, b)?);
    }
    if modules.is_empty() {
        return Err(Error::format("its weights hold no LoRA"));
    }
    Ok(PeftAdapter {
        base_model: json["base_model_name_or_path"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
        rank: config.rank,
        alpha: config.alpha,
        use_rslora: config.rslora,
        dropout: json.get("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0),
        lora: LoraAdapter { modules, head },
        dtype,
    })
}

fn read_tensors(dir: &Path, take: &mut dyn FnMut(HostTensor, NumberFormat) -> Result<()>) -> Result<()> {
    let path = dir.join(MODEL_FILE);
    if path.is_file() || !dir.join(OLD_FILE).is_file() {
        let file = SafetensorsFile::open(&path)?;
        for entry in file.entries() {
            take(file.read_entry(entry)?, entry.format())?;
        }
        return Ok(());
    }
    let mut file = TorchFile::open(&dir.join(OLD_FILE))?;
    for name in file.names() {
        let (tensor, dtype) = file.read(&name)?;
        take(tensor, dtype)?;
    }
    Ok(())
}

/// Layer, path and side (A is 0) of `<anything>.layers.3.self_attn.q_proj.lora_A.weight`.
fn lora_name(name: &str) -> Option<(usize, String, usize)> {
    let (module, end) = name.rsplit_once(".lora_")?;
    // In memory the adapter's name follows: some tools write it too.
    let side = match end {
        "A.weight" | "A.default.weight" => 0,
        "B.weight" | "B.default.weight" => 1,
        _ => return None,
    };
    for marker in ["encoder.layer.", "layers.", "h."] {
        let at = if module.starts_with(marker) { Some(0) } else { module.find(&format!(".{marker}")).map(|at| at + 1) };
        let Some((layer, path)) = at.and_then(|at| module[at + marker.len()..].split_once('.')) else { continue };
        if let Ok(layer) = layer.parse() {
            return Some((layer, path.to_owned(), side));
        }
    }
    None
}

/// Our name of a tensor of a head.
fn head_name(name: &str) -> Result<String> {
    let name = name.replace(".modules_to_save.default.", ".");
    let rest = name.strip_prefix("bert.").unwrap_or(&name);
    if rest.starts_with("pooler.dense.") || name.starts_with("classifier.") {
        return Ok(rest.to_owned());
    }
    let what = if name.contains("lora_magnitude_vector") {
        "is part of DoRA"
    } else if name.contains("lora_embedding_") {
        "is a LoRA on an embedding"
    } else if name.contains("embed_tokens") || name.contains("lm_head") || name.contains("wte") {
        "is a new table of tokens"
    } else {
        "has no place in a model here"
    };
    Err(Error::config(format!("tensor {name} {what}, which cannot be imported")))
}

struct Config {
    rank: usize,
    alpha: f64,
    rslora: bool,
    ranks: Map<String, Value>,
    alphas: Map<String, Value>,
}

impl Config {
    fn from_json(json: &Value) -> Result<Self> {
        if !json.is_object() {
            return Err(Error::format(format!("{CONFIG_FILE} is not an object")));
        }
        match json.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => {
                return Err(Error::config(format!("its peft_type is {other}, and only LORA can be imported")));
            }
            None => return Err(Error::format(format!("{CONFIG_FILE} has no peft_type"))),
        }
        refuse(json)?;
        let rank = json.get("r").and_then(Value::as_u64).filter(|r| (1..=65_536).contains(r));
        let rank = rank.ok_or_else(|| Error::format(format!("r is {}, not a rank", json["r"])))? as usize;
        let alpha = json.get("lora_alpha").and_then(Value::as_f64).filter(|alpha| alpha.is_finite());
        let alpha =
            alpha.ok_or_else(|| Error::format(format!("lora_alpha is {}, not a number", json["lora_alpha"])))?;
        let pattern = |key: &str| match json.get(key) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(other) => Err(Error::format(format!("{key} is {other}, not an object"))),
        };
        let rslora = json.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { rank, alpha, rslora, ranks: pattern("rank_pattern")?, alphas: pattern("alpha_pattern")? })
    }

    fn module(&self, layer: usize, path: String, a: HostTensor, b: HostTensor) -> Result<ModuleLora> {
        let full = a.name.strip_prefix(PREFIX).unwrap_or(&a.name);
        let full = full.rsplit_once(".lora_").map_or(full, |(module, _)| module);
        let rank = match pattern(&self.ranks, "rank_pattern", full)? {
            Some(value) => value.as_u64().map(|r| r as usize).filter(|&r| r > 0),
            None => Some(self.rank),
        };
        let alpha = match pattern(&self.alphas, "alpha_pattern", full)? {
            Some(value) => value.as_f64().filter(|alpha| alpha.is_finite()),
            None => Some(self.alpha),
        };
        let (Some(rank), Some(alpha)) = (rank, alpha) else {
            return Err(Error::format(format!("the pattern for {full} in {CONFIG_FILE} gives no usable number")));
        };
        match (a.shape.as_slice(), b.shape.as_slice()) {
            (&[r, d_in], &[d_out, r_b]) if r == rank && r_b == rank && d_in > 0 && d_out > 0 => {}
            (found_a, found_b) => {
                return Err(Error::format(format!(
                    "{full} has A {found_a:?} and B {found_b:?}, which are not of the rank {rank} that {CONFIG_FILE} states"
                )));
            }
        }
        if let Some(tensor) = [&a, &b].into_iter().find(|tensor| tensor.data.iter().any(|value| !value.is_finite())) {
            return Err(Error::format(format!("tensor {} holds a number that is not finite", tensor.name)));
        }
        let scale = lora_scaling(alpha, rank, self.rslora);
        Ok(ModuleLora { layer, path, rank, a: a.data, b: b.data, scale })
    }
}

/// The value of the pattern that names this module: by its whole name, or its end.
fn pattern<'m>(map: &'m Map<String, Value>, what: &str, module: &str) -> Result<Option<&'m Value>> {
    let mut found = None;
    for (key, value) in map {
        let (name, whole) = key.strip_prefix('^').map_or((key.as_str(), false), |name| (name, true));
        let name = name.strip_suffix('$').unwrap_or(name).replace("\\.", ".");
        if name.contains(['\\', '*', '+', '?', '(', '[', '{', '|', '^', '$']) {
            return Err(Error::config(format!("{what} has the regular expression {key:?}; only names are understood")));
        }
        if found.is_none() && (name == module || (!whole && module.ends_with(&format!(".{name}")))) {
            found = Some(value);
        }
    }
    Ok(found)
}

/// Everything that would change the result.
fn refuse(json: &Value) -> Result<()> {
    let refused = |key: &str, value: &Value| {
        Err(Error::config(format!("{key} is {value} in {CONFIG_FILE}, which cannot be imported; only plain LoRA can")))
    };
    for key in ["use_dora", "lora_bias", "use_qalora", "use_bdlora"] {
        if let Some(value) = json.get(key).filter(|value| !matches!(value, Value::Null | Value::Bool(false))) {
            return refused(key, value);
        }
    }
    for key in [
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
        "megatron_config",
        "alora_invocation_tokens",
        "arrow_config",
        "kasa_config",
        "monteclora_config",
        "velora_config",
    ] {
        let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if let Some(value) = json.get(key).filter(|value| !empty(value)) {
            return refused(key, value);
        }
    }
    if let Some(value) = json.get("bias").filter(|value| value.as_str() != Some("none")) {
        return refused("bias", value);
    }
    // These starts change the base model's weights: without that change the adapter means something else.
    let start = json.get("init_lora_weights");
    let changed =
        |text: &str| ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|kind| text.starts_with(kind));
    if let Some(value) = start.filter(|value| value.as_str().is_some_and(|text| changed(&text.to_lowercase()))) {
        return refused("init_lora_weights", value);
    }
    Ok(())
}
