//! The tokenizer of a Hugging Face directory with its special tokens, from `tokenizer_config.json`, then
//! `special_tokens_map.json`, then the ids in `config.json`; and its chat template.

use crate::data::TextTokenizer;
use crate::data::tokenizer_files::{json_file, token_text};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// What a model's files say besides the tokenizer itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    /// The token that starts a text.
    pub bos: Option<u32>,
    /// The token that ends a text.
    pub eos: Option<u32>,
    /// Tokens at which generation stops; `eos` is always one of them.
    pub stops: Vec<u32>,
    /// Whether the start token goes before every text.
    pub add_bos: bool,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
}

pub(super) fn read(path: &Path) -> Result<(TextTokenizer, Specials)> {
    let tokenizer = TextTokenizer::from_file(path)?;
    let dir = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let config = json_file(&dir.join("tokenizer_config.json"))?;
    let map = json_file(&dir.join("special_tokens_map.json"))?;
    let (model, generation) = (json_file(&dir.join("config.json"))?, json_file(&dir.join("generation_config.json"))?);
    let id = |name: &str| -> Result<Option<u32>> {
        for source in [&config, &map] {
            if let Some(token) = token_text(source, name) {
                return match tokenizer.token_id(token) {
                    Some(id) => Ok(Some(id)),
                    None => Err(Error::format(format!(
                        "{name} is {token:?}, which is not in the vocabulary; fetch the tokenizer's files again: {}",
                        dir.display()
                    ))),
                };
            }
        }
        Ok(ids(&model, &format!("{name}_id")).first().copied())
    };
    let (bos, eos) = (id("bos_token")?, id("eos_token")?);
    let mut stops = ids(&generation, "eos_token_id");
    stops.extend(ids(&model, "eos_token_id"));
    // What the tokenizer itself puts before an empty text; newer files say it with a switch.
    let begins = tokenizer.encode("", None, usize::MAX)?.ids.first().copied();
    let add_bos = config.get("add_bos_token").and_then(Value::as_bool).unwrap_or(bos.is_some() && begins == bos);
    let chat_template = chat_template(dir, &config)?;
    Ok((tokenizer, Specials { bos, eos, stops, add_bos, chat_template }))
}

/// One id, or a list of them.
pub(in crate::data) fn ids(source: &Value, name: &str) -> Vec<u32> {
    let value = source.get(name).unwrap_or(&Value::Null);
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}

/// The chat template of a model directory; `config` is its `tokenizer_config.json`.
pub(in crate::data) fn chat_template(dir: &Path, config: &Value) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    if path.is_file() {
        return std::fs::read_to_string(&path)
            .map(Some)
            .map_err(|err| Error::io("reading the chat template", &path, err));
    }
    Ok(match config.get("chat_template") {
        Some(Value::String(template)) => Some(template.clone()),
        // Several templates with names; the one called default is for conversations.
        Some(Value::Array(list)) => {
            let named = list.iter().find(|entry| entry.get("name").is_some_and(|name| name == "default"));
            let entry = named.or(list.first());
            entry.and_then(|entry| entry.get("template")).and_then(Value::as_str).map(str::to_owned)
        }
        _ => None,
    })
}
