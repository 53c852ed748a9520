//! The chat template that a model was trained with, and the token that ends its answers, in the files of an export: whoever
//! serves it asks as it was taught, and stops where it stops.

use super::{ChatFormat, ExportMeta};
use crate::artifact::json::{read_config, write_json};
use crate::error::{Error, Result};
use crate::tensor::gguf::{GgufValue, Metadata};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Where transformers, vLLM and others look for the template.
pub(super) const TEMPLATE_FILE: &str = "chat_template.jinja";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";

/// The template beside an adapter.
pub(super) fn beside_adapter(dir: &Path, meta: &ExportMeta) -> Result<()> {
    let Some(chat) = &meta.chat else { return Ok(()) };
    write_template(dir, chat)
}

/// The files of an adapter's directory: these, and the template where there is one.
pub(super) fn with_template(dir: &Path, names: &[&str]) -> Vec<String> {
    let there = dir.join(TEMPLATE_FILE).is_file().then_some(TEMPLATE_FILE);
    names.iter().copied().chain(there).map(str::to_owned).collect()
}

fn write_template(dir: &Path, chat: &ChatFormat) -> Result<()> {
    let path = dir.join(TEMPLATE_FILE);
    std::fs::write(&path, &chat.template).map_err(|err| Error::io("writing", &path, err))
}

/// Puts template and end token into a Hugging Face directory whose other files are written. `config` is its `config.json`.
pub(super) fn into_directory(dir: &Path, config: &Value, meta: &ExportMeta) -> Result<()> {
    let Some(chat) = &meta.chat else { return Ok(()) };
    write_template(dir, chat)?;
    // Older versions read it from here, and a template of the base must not contradict.
    let path = dir.join(TOKENIZER_CONFIG);
    if path.is_file() {
        let mut settings = read_config(&path)?;
        if let Some(settings) = settings.as_object_mut() {
            settings.insert("chat_template".to_owned(), json!(chat.template));
            write_json(&path, &Value::Object(settings.clone()))?;
        }
    }
    let Some(end) = chat.turn_end else { return Ok(()) };
    let path = dir.join(GENERATION_CONFIG);
    let mut settings = match path.is_file() {
        true => read_config(&path)?.as_object().cloned().unwrap_or_default(),
        false => Map::new(),
    };
    // What was derived from the model's configuration would be derived again, without the token.
    settings.remove("_from_model_config");
    let known = settings.get("eos_token_id").or_else(|| config.get("eos_token_id")).cloned();
    let mut ends = match known {
        Some(Value::Array(ends)) => ends,
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one],
    };
    if !ends.contains(&json!(end)) {
        ends.push(json!(end));
    }
    settings.insert("eos_token_id".to_owned(), Value::Array(ends));
    write_json(&path, &Value::Object(settings))
}

/// Puts template and end token into the metadata of a GGUF file.
pub(super) fn into_metadata(entries: &mut Metadata, meta: &ExportMeta) {
    let Some(chat) = &meta.chat else { return };
    let mut set = |key: &str, value: GgufValue| {
        entries.retain(|(known, _)| known != key);
        entries.push((key.to_owned(), value));
    };
    set("tokenizer.chat_template", chat.template.as_str().into());
    if let Some(end) = chat.turn_end {
        set("tokenizer.ggml.eot_token_id", GgufValue::Int(end.into()));
    }
}
