//! What a snapshot holds, read from its headers only, and whether it can be trained here.

use crate::config::model_id::is_file;
use crate::error::{Error, Result};
use crate::model_store::choose::INDEX;
use crate::tensor::gguf::GgufFile;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Encodes a text: for labels and scores.
    Encoder,
    /// Generates text.
    Decoder,
}

/// A file of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoredFile {
    /// Its path in the snapshot.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// A model in the cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StoredModel {
    /// The name under which it can be used.
    pub id: String,
    /// The commit of its snapshot; empty when no file is complete.
    pub commit: String,
    /// The snapshot directory, or the GGUF file in it.
    pub path: PathBuf,
    /// Its files.
    pub files: Vec<StoredFile>,
    /// Bytes of its files, and of what is there of incomplete files.
    pub bytes: u64,
    /// What it is for, where that is known.
    pub kind: Option<ModelKind>,
    /// Its architecture, such as `RoBERTa`.
    pub family: String,
    /// Numbers in its weights; 0: not known.
    pub parameters: u64,
    /// Something of it is missing: the same download goes on.
    pub incomplete: bool,
    /// Why it cannot be used; absent: it can.
    pub problem: Option<String>,
}

/// What the models of this program say of a file's header. The caller implements it: the store knows no model.
pub trait ModelReader {
    /// Architecture and kind that a `config.json` describes; an error when it is not supported.
    fn config(&self, config_json: &str) -> Result<(String, ModelKind)>;
    /// Numbers in the weights of a directory; an error when they cannot be read.
    fn parameters(&self, dir: &Path) -> Result<u64>;
    /// Architecture of a GGUF file with this `general.architecture`; nothing when it is not supported.
    fn gguf_family(&self, architecture: &str) -> Option<String>;
}

/// Puts kind, family and parameters of a directory into `model`, from `config.json` and the headers of the weights. An
/// error says why it cannot be used.
pub(crate) fn read_dir(dir: &Path, reader: &dyn ModelReader, model: &mut StoredModel) -> Result<()> {
    let (family, kind) = read_config(dir, reader)?;
    (model.family, model.kind) = (family, Some(kind));
    model.parameters = reader.parameters(dir)?;
    let file = |name: &str| dir.join(name).is_file();
    let readable = file("tokenizer.json") || file("vocab.txt") || file("vocab.json") && file("merges.txt");
    if !readable {
        return Err(Error::config(
            "it has no tokenizer that this program reads (tokenizer.json, vocab.txt, or vocab.json with merges.txt)",
        ));
    }
    Ok(())
}

fn read_config(dir: &Path, reader: &dyn ModelReader) -> Result<(String, ModelKind)> {
    let config = dir.join("config.json");
    let text = std::fs::read_to_string(&config).map_err(|err| Error::io("reading the model's config", &config, err))?;
    reader.config(&text)
}

/// Whether a model with this `config.json` can be used at all; nothing is said where there is none.
pub(crate) fn check_config(dir: &Path, reader: &dyn ModelReader) -> Result<()> {
    if dir.join("config.json").is_file() { read_config(dir, reader).map(drop) } else { Ok(()) }
}

/// Whether every file of weights that the index names is there; nothing is said where there is no index.
pub(crate) fn check_shards(dir: &Path) -> Result<()> {
    let index = dir.join(INDEX);
    if !index.is_file() || dir.join("model.safetensors").is_file() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&index).map_err(|err| Error::io("reading the index", &index, err))?;
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|err| Error::format(format!("not valid JSON: {err}: {}", index.display())))?;
    let names = json.get("weight_map").and_then(|map| map.as_object()).into_iter().flat_map(|map| map.values());
    match names.filter_map(|name| name.as_str()).find(|name| !is_file(name) || !dir.join(name).is_file()) {
        None => Ok(()),
        Some(name) => Err(Error::format(format!("{name} is missing, which its index names"))),
    }
}

/// As [`read_dir`] for a GGUF file, from its header.
pub(crate) fn read_gguf(path: &Path, reader: &dyn ModelReader, model: &mut StoredModel) -> Result<()> {
    model.kind = Some(ModelKind::Decoder);
    let header = GgufFile::open(path)?;
    model.parameters = header.tensors.values().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
    let kind =
        header.str("general.architecture").ok_or_else(|| Error::format("its header has no general.architecture"))?;
    match reader.gguf_family(kind) {
        Some(family) => model.family = family,
        None => {
            kind.clone_into(&mut model.family);
            return Err(Error::config(format!(
                "architecture {kind:?} is not supported; choose a GPT-2, Llama, Mistral, Qwen2 or Qwen3 model"
            )));
        }
    }
    Ok(())
}
