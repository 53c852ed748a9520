//! Models before training, as the window shows them.

use crate::config::FileFormat;
use crate::data;
use crate::error::Result;
use crate::model::decoder::targets::lora_targets;
use crate::model::decoder::{DecoderFamily, LmSource};
use crate::model::loras::Target;
use crate::model::weights::Weights;
use crate::model::{Family, ModelSource, encoder};
use crate::protocol::{Columns, ModelInfo};
use crate::workflow::prepare;
use std::path::Path;

/// Texts of each split that are shown token by token.
pub(crate) const TEXTS: usize = 3;

/// What is in the columns of a table.
pub(crate) fn columns(path: &Path, format: FileFormat, header: Option<bool>) -> Result<Columns> {
    data::columns::columns(path, format, header)
}

/// What a model's files say about it; the tensors are listed, not read.
pub(crate) fn model(path: &str) -> Result<ModelInfo> {
    match prepare::language_model_source(path)? {
        Some(source) => Ok(language_model(path, &source)),
        None => encoder(path),
    }
}

fn language_model(path: &str, source: &LmSource) -> ModelInfo {
    let spec = &source.spec;
    let mut notes = Vec::new();
    if spec.tied {
        notes.push("the head is the word table".to_owned());
    }
    if spec.num_kv_heads != spec.num_heads {
        notes.push(format!("{} heads share keys and values", spec.num_heads / spec.num_kv_heads.max(1)));
    }
    if let Some(window) = spec.sliding_window {
        notes.push(format!("attention looks back {window} tokens; longer inputs are refused"));
    }
    ModelInfo {
        path: path.to_owned(),
        family: match spec.family {
            DecoderFamily::Gpt2 => "GPT-2",
            DecoderFamily::Llama => "Llama",
            DecoderFamily::Mistral => "Mistral",
            DecoderFamily::Qwen2 => "Qwen2",
            DecoderFamily::Qwen3 => "Qwen3",
        }
        .to_owned(),
        layers: spec.num_layers,
        hidden_size: spec.hidden_size,
        heads: spec.num_heads,
        vocab_size: spec.vocab_size,
        max_length: spec.max_length(),
        parameters: parameters(&source.weights),
        file_bytes: weight_bytes(&source.dir),
        writes: true,
        lora_targets: paths(&lora_targets(spec)),
        notes,
    }
}

fn parameters(weights: &Weights) -> usize {
    weights.names().map(|name| weights.shape(name).map_or(0, |shape| shape.iter().product::<usize>())).sum()
}

fn paths(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| target.path.clone()).collect()
}

fn encoder(path: &str) -> Result<ModelInfo> {
    let source = ModelSource::open(path)?;
    let spec = &source.spec;
    let names: Vec<&str> = source.weights.names().collect();
    let mut notes = Vec::new();
    if names.iter().any(|name| name.starts_with("classifier.")) {
        notes.push("brings a classification head, which is used when it fits the task".to_owned());
    }
    if spec.hidden_dropout != spec.attention_dropout {
        let (hidden, attention) = (spec.hidden_dropout, spec.attention_dropout);
        notes.push(format!("dropout {hidden} in the layers, {attention} in the attention"));
    }
    Ok(ModelInfo {
        path: path.to_owned(),
        family: match spec.family {
            Family::Bert => "BERT",
            Family::Roberta => "RoBERTa",
        }
        .to_owned(),
        layers: spec.num_layers,
        hidden_size: spec.hidden_size,
        heads: spec.num_heads,
        vocab_size: spec.vocab_size,
        max_length: spec.max_length(),
        parameters: parameters(&source.weights),
        file_bytes: source.dir.as_deref().map_or(0, weight_bytes),
        writes: false,
        lora_targets: paths(&encoder::lora_targets(spec)),
        notes,
    })
}

fn weight_bytes(dir: &Path) -> u64 {
    if dir.is_file() {
        return std::fs::metadata(dir).map_or(0, |meta| meta.len());
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let weights = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "safetensors"));
    weights.filter_map(|entry| std::fs::metadata(entry.path()).ok()).map(|meta| meta.len()).sum()
}
