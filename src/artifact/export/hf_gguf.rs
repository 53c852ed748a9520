//! The tokenizer's files of a Hugging Face directory, made from the metadata of a GGUF base.

use crate::artifact::json::write_json;
use crate::data::gguf;
use crate::error::{Error, Result};
use crate::tensor::gguf::GgufFile;
use serde_json::{Map, Value, json};
use std::path::Path;

/// `tokenizer.json` and `tokenizer_config.json`.
pub(super) fn tokenizer(file: &Path, dir: &Path) -> Result<()> {
    let header = GgufFile::open(file)?;
    let (tokenizer, found) = gguf::tokenizer(&header)?;
    let text = tokenizer.to_string(false);
    let text = text.map_err(|err| Error::internal(format!("the tokenizer cannot be written: {err}")))?;
    let mut json: Value = serde_json::from_str(&text)
        .map_err(|err| Error::internal(format!("the tokenizer was written as no JSON: {err}")))?;
    let token = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
    let bos = token(found.bos);
    if let (true, Some(bos), Some(id)) = (found.add_bos, &bos, found.bos) {
        json["post_processor"] = starting_with(bos, id);
    }
    write_json(&dir.join("tokenizer.json"), &json)?;
    let named =
        |key: &str| header.uint(&format!("tokenizer.ggml.{key}_token_id")).and_then(|id| u32::try_from(id).ok());
    let mut config = Map::new();
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    config.insert("add_bos_token".to_owned(), json!(found.add_bos));
    for (key, value) in [
        ("bos_token", bos),
        ("eos_token", token(found.eos)),
        ("pad_token", token(named("padding"))),
        ("unk_token", token(named("unknown"))),
        ("chat_template", found.chat_template.clone()),
    ] {
        if let Some(value) = value {
            config.insert(key.to_owned(), json!(value));
        }
    }
    write_json(&dir.join("tokenizer_config.json"), &Value::Object(config))
}

/// What puts the start token before every text.
fn starting_with(token: &str, id: u32) -> Value {
    let special = |kind: u32| json!({ "SpecialToken": { "id": token, "type_id": kind } });
    let text = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), text("A", 0)],
        "pair": [special(0), text("A", 0), special(1), text("B", 1)],
        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
    })
}
