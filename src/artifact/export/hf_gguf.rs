//! What a GGUF base lacks for a Hugging Face directory: `config.json` and the tokenizer's files, made from its metadata.

use crate::artifact::checkpoint::write_json;
use crate::data::gguf;
use crate::error::{Error, Result};
use crate::model::decoder::rope::{RopeSpec, Scaling};
use crate::model::decoder::{DecoderFamily, DecoderSpec};
use crate::tensor::gguf::GgufFile;
use serde_json::{Map, Value, json};
use std::path::Path;

/// `config.json` of the model in a GGUF file.
pub(super) fn config(file: &Path, spec: &DecoderSpec) -> Result<Value> {
    let header = GgufFile::open(file)?;
    let eos = if let [one] = spec.eos.as_slice() { json!(one) } else { json!(spec.eos) };
    let mut config = match &spec.rope {
        None => json!({
            "activation_function": "gelu_new",
            "n_embd": spec.hidden_size,
            "n_head": spec.num_heads,
            "n_inner": spec.intermediate_size,
            "n_layer": spec.num_layers,
            "n_positions": spec.max_positions,
            "layer_norm_epsilon": spec.norm_eps,
        }),
        Some(rope) => llama(&header, spec, rope)?,
    };
    let common = json!({
        "model_type": spec.family.model_type(),
        "vocab_size": spec.vocab_size,
        "bos_token_id": spec.bos,
        "eos_token_id": if spec.eos.is_empty() { Value::Null } else { eos },
    });
    if let (Some(config), Value::Object(common)) = (config.as_object_mut(), common) {
        config.extend(common);
    }
    Ok(config)
}

fn llama(header: &GgufFile, spec: &DecoderSpec, rope: &RopeSpec) -> Result<Value> {
    let architecture = header.str("general.architecture").unwrap_or("llama");
    let theta = header.float(&format!("{architecture}.rope.freq_base")).unwrap_or(10_000.0);
    let mut config = json!({
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": spec.max_positions,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": theta,
        "rope_scaling": scaling(theta, spec.head_dim, rope)?,
    });
    match spec.family {
        DecoderFamily::Llama => {
            config["attention_bias"] = json!(spec.biases.qkv);
            config["mlp_bias"] = json!(spec.biases.ffn);
        }
        DecoderFamily::Mistral => config["sliding_window"] = json!(spec.sliding_window),
        _ if spec.sliding_window.is_some() => {
            return Err(Error::config("the base's sliding window cannot be written to config.json from a GGUF file"));
        }
        _ => {}
    }
    Ok(config)
}

/// The scaling that makes these frequencies: none, linear, or Llama 3's with its published constants.
fn scaling(theta: f64, head_dim: usize, rope: &RopeSpec) -> Result<Value> {
    let plain = RopeSpec::new(theta, head_dim, Scaling::None);
    let stretched = |i: usize| f64::from(plain.frequencies[i]) / f64::from(rope.frequencies[i]);
    let pairs = 0..plain.frequencies.len().min(rope.frequencies.len());
    let factor = pairs.map(stretched).fold(1.0, f64::max);
    let factor = (factor * 1e4).round() / 1e4;
    let near = |other: &RopeSpec| {
        let pairs = other.frequencies.iter().zip(&rope.frequencies);
        pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs())
    };
    if near(&plain) {
        return Ok(Value::Null);
    }
    if near(&RopeSpec::new(theta, head_dim, Scaling::Linear(factor))) {
        return Ok(json!({ "rope_type": "linear", "factor": factor }));
    }
    let (low, high, original) = (1.0, 4.0, 8192.0);
    if near(&RopeSpec::new(theta, head_dim, Scaling::Llama3 { factor, low, high, original })) {
        return Ok(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        }));
    }
    Err(Error::config(
        "the base's rotary frequencies are of no known kind, so they cannot be written to config.json; export as GGUF instead",
    ))
}

/// `tokenizer.json` and `tokenizer_config.json`.
pub(super) fn tokenizer(file: &Path, dir: &Path) -> Result<()> {
    let header = GgufFile::open(file)?;
    let found = gguf::tokenizer(&header)?;
    let text = found.tokenizer.to_string(false);
    let text = text.map_err(|err| Error::internal(format!("the tokenizer cannot be written: {err}")))?;
    let mut json: Value = serde_json::from_str(&text)
        .map_err(|err| Error::internal(format!("the tokenizer was written as no JSON: {err}")))?;
    let token = |id: Option<u32>| id.and_then(|id| found.tokenizer.id_to_token(id));
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
