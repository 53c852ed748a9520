//! A Hugging Face tokenizer as a GGUF file describes one: the inverse of [`tokenizer`](super::tokenizer()).
//! Byte-level BPE only: SentencePiece needs scores, which `tokenizer.json` does not have.

use super::pre_tokenizers::{GPT2, LLAMA3, QWEN2};
use super::vocabulary::token_type;
use crate::data::text::codec_files::{chat_template, ids};
use crate::data::tokenizer_files::{json_file, token_text};
use crate::error::{Context as _, Error, Result};
use crate::tensor::gguf::{GgufValue, Metadata};
use serde_json::{Value, json};
use std::path::Path;

/// The metadata of a GGUF file that describe the tokenizer in a directory. `vocab_size`: rows of the model's table; rows
/// without a token are filled.
pub fn describe(dir: &Path, vocab_size: usize) -> Result<Metadata> {
    read(dir, vocab_size).with_context(|| format!("the tokenizer cannot be put into a GGUF file: {}", dir.display()))
}

fn read(dir: &Path, vocab_size: usize) -> Result<Metadata> {
    let file = match json_file(&dir.join("tokenizer.json"))? {
        Value::Null => old_files(dir)?,
        json => json,
    };
    let pre = pre_tokenizer(&file)?;
    let model = &file["model"];
    let mut tokens: Vec<Option<String>> = vec![None; vocab_size];
    let mut types = vec![token_type::UNUSED; vocab_size];
    let mut put = |token: &str, id: Option<u64>, kind: i64| -> Result<()> {
        let id = id.map(|id| id as usize).filter(|&id| id < vocab_size).ok_or_else(|| {
            Error::format(format!("token {token:?} has no id below the model's vocabulary of {vocab_size}"))
        })?;
        tokens[id] = Some(token.to_owned());
        types[id] = kind;
        Ok(())
    };
    let vocab = model["vocab"].as_object().ok_or_else(|| Error::format("tokenizer.json has no vocabulary"))?;
    for (token, id) in vocab {
        put(token, id.as_u64(), token_type::NORMAL)?;
    }
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let special = token["special"].as_bool().unwrap_or(false);
        let kind = if special { token_type::CONTROL } else { token_type::USER_DEFINED };
        put(token["content"].as_str().unwrap_or_default(), token["id"].as_u64(), kind)?;
    }
    let merges = model["merges"].as_array().into_iter().flatten().map(merge).collect::<Result<Vec<_>>>()?;
    let tokens: Vec<String> =
        tokens.into_iter().enumerate().map(|(id, token)| token.unwrap_or_else(|| format!("[PAD{id}]"))).collect();
    let settings = json_file(&dir.join("tokenizer_config.json"))?;
    let special = json_file(&dir.join("special_tokens_map.json"))?;
    let config = json_file(&dir.join("config.json"))?;
    let id = |name: &str| {
        let key = format!("{name}_token");
        let named = token_text(&settings, &key).or_else(|| token_text(&special, &key));
        let found = named.and_then(|token| tokens.iter().position(|known| known == token)).map(|id| id as u32);
        let number = || ids(&config, &format!("{key}_id")).first().copied();
        found.or_else(|| number().filter(|&id| (id as usize) < tokens.len()))
    };
    let bos = id("bos");
    let add_bos = settings["add_bos_token"].as_bool().unwrap_or_else(|| {
        let start = bos.and_then(|bos| tokens.get(bos as usize));
        start.is_some_and(|start| starts_with(&file["post_processor"], start))
    });
    let named = [("bos", bos), ("eos", id("eos")), ("unknown", id("unk")), ("padding", id("pad"))];
    let mut entries = vec![
        ("tokenizer.ggml.model".to_owned(), "gpt2".into()),
        ("tokenizer.ggml.pre".to_owned(), pre.into()),
        ("tokenizer.ggml.tokens".to_owned(), GgufValue::Strings(tokens)),
        ("tokenizer.ggml.token_type".to_owned(), GgufValue::Ints(types)),
        ("tokenizer.ggml.merges".to_owned(), GgufValue::Strings(merges)),
        ("tokenizer.ggml.add_bos_token".to_owned(), GgufValue::Bool(add_bos)),
    ];
    entries.extend(
        named.into_iter().filter_map(|(purpose, id)| {
            Some((format!("tokenizer.ggml.{purpose}_token_id"), GgufValue::Int(id?.into())))
        }),
    );
    let template = chat_template(dir, &settings)?;
    entries.extend(template.map(|template| ("tokenizer.chat_template".to_owned(), template.into())));
    Ok(entries)
}

/// GPT-2's own files.
fn old_files(dir: &Path) -> Result<Value> {
    let vocab = json_file(&dir.join("vocab.json"))?;
    let path = dir.join("merges.txt");
    if vocab.is_null() || !path.is_file() {
        let why = if dir.join("tokenizer.model").is_file() {
            "there is only tokenizer.model, which is SentencePiece's; its scores are not read here, so start from the model's own GGUF file instead"
        } else {
            "there is neither tokenizer.json nor vocab.json with merges.txt, and a GGUF file carries its tokenizer"
        };
        return Err(Error::config(why));
    }
    let text = std::fs::read_to_string(&path).map_err(|err| Error::io("reading", &path, err))?;
    let merges: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    // The end of text is the one special token of these files.
    let end = vocab["<|endoftext|>"].as_u64();
    let added: Vec<Value> =
        end.into_iter().map(|id| json!({ "id": id, "content": "<|endoftext|>", "special": true })).collect();
    Ok(json!({
        "model": { "type": "BPE", "vocab": vocab, "merges": merges },
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
        "added_tokens": added,
    }))
}

fn merge(value: &Value) -> Result<String> {
    let pair = value.as_array().and_then(|pair| match pair.as_slice() {
        [a, b] => Some(format!("{} {}", a.as_str()?, b.as_str()?)),
        _ => None,
    });
    let text = pair.or_else(|| value.as_str().map(str::to_owned));
    text.ok_or_else(|| Error::format(format!("merge {value} in tokenizer.json is not two tokens")))
}

/// The name of the way in which words are cut.
fn pre_tokenizer(file: &Value) -> Result<&'static str> {
    let model = &file["model"];
    let kind = model["type"].as_str().unwrap_or("BPE");
    if kind != "BPE" || model["byte_fallback"].as_bool().unwrap_or(false) {
        let what = if kind == "BPE" { "SentencePiece's BPE" } else { kind };
        return Err(Error::config(format!(
            "it is {what}, whose scores of tokens tokenizer.json does not have; start from the model's own GGUF file instead"
        )));
    }
    let steps = match &file["pre_tokenizer"] {
        Value::Object(step) if step["type"] == "Sequence" => {
            step["pretokenizers"].as_array().cloned().unwrap_or_default()
        }
        Value::Null => Vec::new(),
        step => vec![step.clone()],
    };
    let bytes = |step: &Value, regex: bool| {
        step["type"] == "ByteLevel"
            && !step["add_prefix_space"].as_bool().unwrap_or(true)
            && step["use_regex"].as_bool().unwrap_or(true) == regex
    };
    let cut = |step: &Value, pattern: &str| {
        step["type"] == "Split"
            && step["pattern"]["Regex"] == pattern
            && step["behavior"] == "Isolated"
            && !step["invert"].as_bool().unwrap_or(false)
    };
    let digits = |step: &Value| step["type"] == "Digits" && step["individual_digits"] == true;
    let gpt2 = |step: &Value| cut(step, GPT2);
    let normal = file["normalizer"]["type"].as_str();
    match (steps.as_slice(), normal) {
        ([one], None) if bytes(one, true) => Ok("gpt-2"),
        ([words, one], None) if gpt2(words) && bytes(one, false) => Ok("gpt-2"),
        ([first, one], None) if digits(first) && bytes(one, true) => Ok("smollm"),
        ([first, words, one], None) if digits(first) && gpt2(words) && bytes(one, false) => Ok("smollm"),
        ([words, one], None) if cut(words, LLAMA3) && bytes(one, false) => Ok("llama-bpe"),
        ([words, one], Some("NFC")) if cut(words, QWEN2) && bytes(one, false) => Ok("qwen2"),
        _ => Err(Error::config(format!(
            "its way to cut words has no name among those known here (gpt-2, smollm, llama-bpe, qwen2): {}",
            file["pre_tokenizer"].to_string().chars().take(300).collect::<String>()
        ))),
    }
}

/// Whether the tokenizer's own template puts this token first.
fn starts_with(processor: &Value, token: &str) -> bool {
    let own = processor["single"][0]["SpecialToken"]["id"] == token;
    own || processor["processors"].as_array().into_iter().flatten().any(|inner| starts_with(inner, token))
}
