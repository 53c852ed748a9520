//! What a snapshot holds, read from its headers only, and whether it can be trained here.

use crate::config::model_id::is_file;
use crate::error::{Error, Result};
use crate::model::decoder::DecoderFamily;
use crate::model::weights::Weights;
use crate::model::{DecoderSpec, EncoderSpec, Family, LmSource};
use crate::model_store::choose::INDEX;
use crate::tensor::gguf::GgufFile;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Reads a text as a whole: for labels and scores.
    Encoder,
    /// Writes text.
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
    /// The commit of its snapshot; empty when not even one file is whole.
    pub commit: String,
    /// The snapshot directory, or the GGUF file in it.
    pub path: PathBuf,
    /// Its files.
    pub files: Vec<StoredFile>,
    /// Bytes of its files, and of what is there of files that are not whole.
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

/// What is known of a model from its headers.
#[derive(Default)]
pub(crate) struct ModelCard {
    pub(crate) kind: Option<ModelKind>,
    pub(crate) family: String,
    pub(crate) parameters: u64,
    pub(crate) problem: Option<String>,
}

/// Reads what `config.json` and the headers of the weights say.
pub(crate) fn of_dir(dir: &Path) -> ModelCard {
    let mut card = ModelCard::default();
    card.problem = read_dir(dir, &mut card).err().map(|err| err.to_string());
    card
}

fn read_dir(dir: &Path, card: &mut ModelCard) -> Result<()> {
    (card.family, card.kind) = described(dir)?;
    let weights = Weights::open(dir)?;
    let size = |name: &str| weights.shape(name).map_or(0, |shape| shape.iter().map(|&n| n as u64).product());
    card.parameters = weights.names().map(size).sum();
    let file = |name: &str| dir.join(name).is_file();
    let readable = file("tokenizer.json") || file("vocab.txt") || file("vocab.json") && file("merges.txt");
    if !readable {
        return Err(Error::config(
            "it has no tokenizer that this program reads (tokenizer.json, vocab.txt, or vocab.json with merges.txt)",
        ));
    }
    Ok(())
}

/// Family and kind as `config.json` says; refused when it cannot be computed here.
fn described(dir: &Path) -> Result<(String, Option<ModelKind>)> {
    let config = dir.join("config.json");
    let text = std::fs::read_to_string(&config).map_err(|err| Error::io("reading the model's config", &config, err))?;
    if LmSource::reads(&text) {
        return Ok((writer_family(DecoderSpec::from_json(&text)?.family), Some(ModelKind::Decoder)));
    }
    let family = match EncoderSpec::from_json(&text)?.family {
        Family::Bert => "BERT",
        Family::Roberta => "RoBERTa",
    };
    Ok((family.to_owned(), Some(ModelKind::Encoder)))
}

fn writer_family(family: DecoderFamily) -> String {
    match family.model_type() {
        "gpt2" => "GPT-2".to_owned(),
        other => {
            let mut letters = other.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        }
    }
}

/// Whether a model with this `config.json` can be used at all; nothing is said where there is none.
pub(crate) fn check_described(dir: &Path) -> Result<()> {
    if dir.join("config.json").is_file() { described(dir).map(drop) } else { Ok(()) }
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

/// Reads what the header of a GGUF file says.
pub(crate) fn of_gguf(path: &Path) -> ModelCard {
    let mut card = ModelCard { kind: Some(ModelKind::Decoder), ..ModelCard::default() };
    card.problem = read_gguf(path, &mut card).err().map(|err| err.to_string());
    card
}

fn read_gguf(path: &Path, card: &mut ModelCard) -> Result<()> {
    let header = GgufFile::open(path)?;
    card.parameters = header.tensors.values().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
    let kind =
        header.str("general.architecture").ok_or_else(|| Error::format("its header has no general.architecture"))?;
    match DecoderFamily::of(kind) {
        Some(family) => card.family = writer_family(family),
        None => {
            kind.clone_into(&mut card.family);
            return Err(Error::config(format!(
                "architecture {kind:?} is not supported; choose a GPT-2, Llama, Mistral, Qwen2 or Qwen3 model"
            )));
        }
    }
    Ok(())
}
