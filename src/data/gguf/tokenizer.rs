//! A tokenizer from the metadata of a GGUF file.

use super::pre_tokenizers;
use super::vocabulary::Vocabulary;
use crate::data::text::codec::Specials;
use crate::error::{Context as _, Error, Result};
use crate::tensor::gguf::GgufFile;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

/// Rebuilds the tokenizer that a GGUF file describes: byte-level BPE (`gpt2`) or SentencePiece's BPE (`llama`).
/// It has no truncation, padding and post-processing: it adds no token by itself.
pub fn tokenizer(file: &GgufFile) -> Result<(Tokenizer, Specials)> {
    read(file).with_context(|| format!("the tokenizer of the GGUF file cannot be used: {}", file.path.display()))
}

fn read(file: &GgufFile) -> Result<(Tokenizer, Specials)> {
    let vocabulary = Vocabulary::of(file)?;
    let (json, usual_bos) = match file.str("tokenizer.ggml.model") {
        Some("gpt2") => byte_level(file, &vocabulary)?,
        Some("llama") => (sentence_piece(file, &vocabulary)?, true),
        Some(other) => {
            return Err(Error::format(format!(
                "its kind is {other:?}, and gpt2 and llama are known; use the model's Hugging Face directory instead"
            )));
        }
        None => return Err(Error::format("it brings none; choose a model that does")),
    };
    let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes())
        .map_err(|err| Error::format(format!("its tokens and merges do not fit together ({err})")))?;
    let id = |purpose: &str| {
        let id = file.uint(&format!("tokenizer.ggml.{purpose}_token_id"));
        id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < vocabulary.tokens.len())
    };
    let mut stops: Vec<u32> = ["eos", "eot", "eom"].into_iter().filter_map(id).collect();
    stops.dedup();
    let specials = Specials {
        bos: id("bos"),
        eos: id("eos"),
        stops,
        add_bos: file.bool("tokenizer.ggml.add_bos_token").unwrap_or(usual_bos),
        chat_template: file.str("tokenizer.chat_template").map(str::to_owned),
    };
    Ok((tokenizer, specials))
}

/// As a `tokenizer.json`, and whether the start token is usual.
fn byte_level(file: &GgufFile, vocabulary: &Vocabulary<'_>) -> Result<(Value, bool)> {
    let words = pre_tokenizers::named(file.str("tokenizer.ggml.pre").unwrap_or("default"))?;
    let json = json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(),
        "normalizer": words.normalizer,
        "pre_tokenizer": words.steps,
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": words.ignore_merges, "vocab": vocabulary.ids(), "merges": vocabulary.merges(file)?,
        },
    });
    Ok((json, words.add_bos))
}

/// As a `tokenizer.json`. Spaces are written `\u{2581}`, and one goes before every text unless the file says no.
fn sentence_piece(file: &GgufFile, vocabulary: &Vocabulary<'_>) -> Result<Value> {
    let prefix = file.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let unknown = vocabulary.unknown(file);
    let fallback = vocabulary.has_all_bytes();
    if !fallback && unknown.is_none() {
        return Err(Error::format("it has neither a token for every byte nor an unknown token"));
    }
    let mut normalizers = vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "\u{2581}" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": fallback, "ignore_merges": false,
            "vocab": vocabulary.ids(), "merges": vocabulary.merges_from_scores(file)?,
        },
    }))
}
