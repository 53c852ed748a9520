//! The merged model as a Hugging Face directory: what transformers loads without this program.
//!
//! | file | what |
//! |---|---|
//! | `config.json` | the base's, with the number format, tied tables and, for a classifier, its labels |
//! | `model.safetensors`, or shards of at most 5 GB with an index | all weights, LoRA added |
//! | tokenizer files, `generation_config.json`, chat template | copied, or made from a GGUF base |
//!
//! Weights go through memory one at a time.

use super::base::{BaseFiles, BaseKind, MergedWeights};
use super::source::{Expected, ExportSource, LoadedModel, probe};
use super::target::ExportFormat;
use super::{ExportMeta, chat, hf_gguf};
use crate::artifact::certificate::{self, Certificate, Comparison, Rerun};
use crate::artifact::json::{read_config, write_json};
use crate::error::{Error, Result};
use crate::tensor::safetensors::{Metadata, SafetensorsFile};
use crate::tensor::{HostTensor, NumberFormat, TensorPlan, safetensors};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

/// Largest file with weights.
pub const SHARD: u64 = 5_000_000_000;
/// The configuration.
pub const CONFIG_FILE: &str = "config.json";
/// The weights, where they fit into one file.
pub const MODEL_FILE: &str = "model.safetensors";
/// Which shard has which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Files that are carried over where the base has them.
const CARRIED: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// The target.
pub(super) struct Hf;

impl ExportFormat for Hf {
    fn file(&self) -> &'static str {
        CONFIG_FILE
    }
    fn file_names(&self, dir: &Path) -> Result<Vec<String>> {
        file_names(dir)
    }
    fn check(&self, source: &dyn ExportSource) -> Result<()> {
        config(source.whole()?.files, source.kind()).map(drop)
    }
    fn export(&self, dir: &Path, source: &dyn ExportSource) -> Result<Certificate> {
        let (whole, meta) = (source.whole()?, source.meta());
        hf(dir, &whole.weights, source.kind(), whole.files, meta, SHARD)?;
        let logits = source.expected(Expected::Whole)?;
        let mut run = || source.logits(LoadedModel::Whole(dir));
        certify(dir, &whole.weights, meta.dtype, Some((probe(source, &logits), &mut run)))
    }
}

/// Writes the model into `dir`, in files of at most `shard` bytes (see [`SHARD`]).
pub fn hf(
    dir: &Path,
    merged: &MergedWeights<'_>,
    kind: BaseKind<'_>,
    files: BaseFiles<'_>,
    meta: &ExportMeta,
    shard: u64,
) -> Result<()> {
    let mut config = config(files, kind)?;
    let object = config.as_object_mut().ok_or_else(|| Error::format("config.json is not an object"))?;
    adapt(object, kind, meta)?;
    let plan = shards(merged, meta.dtype, shard)?;
    write_json(&dir.join(CONFIG_FILE), &config)?;
    match files {
        BaseFiles::Dir(base) => carry(base, dir)?,
        BaseFiles::Gguf(file) => hf_gguf::tokenizer(file, dir)?,
    }
    chat::into_directory(dir, &config, meta)?;
    write_weights(dir, merged, &plan)
}

/// The base's `config.json`, or one made from a GGUF file's metadata; an error says why there can be none.
pub fn config(files: BaseFiles<'_>, kind: BaseKind<'_>) -> Result<Value> {
    match (files, kind) {
        (BaseFiles::Dir(base), _) => read_config(&base.join(CONFIG_FILE)),
        (BaseFiles::Gguf(file), BaseKind::Decoder(spec)) => spec.config_json(file),
        (BaseFiles::Gguf(_), BaseKind::Encoder(_)) => {
            Err(Error::config("an encoder from a GGUF file cannot be written as a Hugging Face directory"))
        }
    }
}

fn carry(base: &Path, dir: &Path) -> Result<()> {
    for name in CARRIED {
        let from = base.join(name);
        if from.is_file() {
            std::fs::copy(&from, dir.join(name)).map_err(|err| Error::io("copying", &from, err))?;
        }
    }
    Ok(())
}

/// What differs from the base.
fn adapt(config: &mut Map<String, Value>, kind: BaseKind<'_>, meta: &ExportMeta) -> Result<()> {
    let dtype = match meta.dtype {
        NumberFormat::F32 => "float32",
        NumberFormat::F16 => "float16",
        NumberFormat::Bf16 => "bfloat16",
        other => return Err(Error::internal(format!("transformers has no {}", other.name()))),
    };
    // Older versions of transformers read `torch_dtype` only, newer ones prefer `dtype`.
    config.remove("dtype");
    config.insert("torch_dtype".to_owned(), json!(dtype));
    match kind {
        BaseKind::Decoder(spec) => {
            config.insert("architectures".to_owned(), json!([spec.transformers_class()]));
            config.insert("tie_word_embeddings".to_owned(), json!(spec.tied()));
        }
        BaseKind::Encoder(kind) => {
            let class =
                if kind == "bert" { "BertForSequenceClassification" } else { "RobertaForSequenceClassification" };
            config.insert("architectures".to_owned(), json!([class]));
            let labels = if meta.labels.is_empty() { vec!["LABEL_0".to_owned()] } else { meta.labels.clone() };
            let ids: Map<String, Value> = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l))).collect();
            let back: Map<String, Value> = labels.iter().enumerate().map(|(i, l)| (l.clone(), json!(i))).collect();
            config.insert("id2label".to_owned(), Value::Object(ids));
            config.insert("label2id".to_owned(), Value::Object(back));
            config.remove("num_labels");
            let problem = if meta.labels.is_empty() { "regression" } else { "single_label_classification" };
            config.insert("problem_type".to_owned(), json!(problem));
        }
    }
    Ok(())
}

/// All tensors in files of at most `limit` bytes; a tensor larger than that has a file of its own.
fn shards(merged: &MergedWeights<'_>, format: NumberFormat, limit: u64) -> Result<Vec<Vec<TensorPlan>>> {
    let (mut all, mut last, mut used): (Vec<Vec<TensorPlan>>, Vec<TensorPlan>, u64) = (Vec::new(), Vec::new(), 0);
    for name in merged.names() {
        let shape = merged.shape(&name)?;
        let planned = TensorPlan { name, shape, format };
        let bytes = planned.bytes();
        if !last.is_empty() && used + bytes > limit {
            all.push(std::mem::take(&mut last));
            used = 0;
        }
        used += bytes;
        last.push(planned);
    }
    all.push(last);
    Ok(all)
}

fn write_weights(dir: &Path, merged: &MergedWeights<'_>, plan: &[Vec<TensorPlan>]) -> Result<()> {
    let format = Metadata::from([("format".to_owned(), "pt".to_owned())]);
    let (mut map, mut total) = (Map::new(), 0u64);
    for (i, tensors) in plan.iter().enumerate() {
        let name = match plan {
            [_] => MODEL_FILE.to_owned(),
            _ => format!("model-{:05}-of-{:05}.safetensors", i + 1, plan.len()),
        };
        let mut read = |i: usize| merged.read(&tensors[i].name).map(Cow::Owned);
        safetensors::write_streamed(&dir.join(&name), tensors, &format, &mut read)?;
        for tensor in tensors {
            total += tensor.bytes();
            map.insert(tensor.name.clone(), json!(name));
        }
    }
    if plan.len() > 1 {
        write_json(&dir.join(INDEX_FILE), &json!({ "metadata": { "total_size": total }, "weight_map": map }))?;
    }
    Ok(())
}

/// All files of such a directory, sorted, without its certificate.
fn file_names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(|err| Error::io("reading a directory", dir, err))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let ours = |name: &String| {
        CARRIED.contains(&name.as_str())
            || [CONFIG_FILE, INDEX_FILE].contains(&name.as_str())
            || name.ends_with(".safetensors")
    };
    let mut names: Vec<String> = names.filter(ours).collect();
    names.sort();
    Ok(names)
}

/// Certifies a directory: its files are read afresh, tensor by tensor, and compared with what was exported, rounded.
pub fn certify(
    dir: &Path,
    merged: &MergedWeights<'_>,
    dtype: NumberFormat,
    rerun: Option<Rerun<'_>>,
) -> Result<Certificate> {
    let opened = open_weights(dir).map_err(|err| err.to_string());
    let entries = |files: &[SafetensorsFile]| {
        files.iter().flat_map(SafetensorsFile::entries).map(|entry| entry.name.clone()).collect()
    };
    let stored = |name: &str| -> Result<HostTensor> {
        let files = opened.as_ref().map_err(Error::format)?;
        let file = files.iter().find(|file| file.entries().iter().any(|entry| entry.name == name));
        file.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))?.read(name)
    };
    let comparison = Comparison {
        store: dtype,
        names: &merged.names(),
        original: &|name| merged.read(name),
        format: &|_| dtype,
        found: opened.as_ref().map(|files| entries(files)).map_err(String::clone),
        found_dtype: dtype,
        stored: &stored,
    };
    certificate::certify_streamed(dir, &comparison, rerun)
}

/// The files with the weights of a Hugging Face directory.
fn open_weights(dir: &Path) -> Result<Vec<SafetensorsFile>> {
    let index = dir.join(INDEX_FILE);
    let mut names = BTreeSet::from([MODEL_FILE.to_owned()]);
    if index.is_file() {
        let json = read_config(&index)?;
        let map = json["weight_map"].as_object().into_iter().flat_map(|map| map.values());
        names = map.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    }
    names.iter().map(|name| SafetensorsFile::open(&dir.join(name))).collect()
}
