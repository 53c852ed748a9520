//! Tokenizer files: `tokenizer.json`, or the older vocabulary files of BERT, RoBERTa and GPT-2, which are turned into the
//! `tokenizer.json` that transformers builds for them.

use crate::error::{Context as _, Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{NormalizerWrapper, Tokenizer};

/// The tokenizer of a model directory, or of one of its tokenizer files, and the end at which it cuts texts.
pub(super) fn read(path: &Path) -> Result<(Tokenizer, TruncationDirection)> {
    let file = if path.is_dir() { choose(path)? } else { path.to_path_buf() };
    let dir = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let config = json_file(&dir.join("tokenizer_config.json"))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let json = match name.as_str() {
        "vocab.txt" => {
            plain_class(
                &config,
                &dir,
                &[
                    "BertTokenizer",
                    "BertTokenizerFast",
                    "DistilBertTokenizer",
                    "DistilBertTokenizerFast",
                    "ElectraTokenizer",
                    "ElectraTokenizerFast",
                    "MobileBertTokenizer",
                    "ConvBertTokenizer",
                ],
            )?;
            wordpiece(&text(&file)?, &config).with_context(|| file.display().to_string())?
        }
        "vocab.json" => {
            plain_class(
                &config,
                &dir,
                &[
                    "RobertaTokenizer",
                    "RobertaTokenizerFast",
                    "GPT2Tokenizer",
                    "GPT2TokenizerFast",
                    "BartTokenizer",
                    "BartTokenizerFast",
                    "LongformerTokenizer",
                ],
            )?;
            let merges = text(&dir.join("merges.txt"))?;
            byte_level_bpe(&text(&file)?, &merges, &config).with_context(|| file.display().to_string())?
        }
        _ => text(&file)?,
    };
    let mut tokenizer = Tokenizer::from_bytes(json.as_bytes()).map_err(|err| {
        Error::format(format!(
            "not a tokenizer this program knows ({err}); use the model's own file: {}",
            file.display()
        ))
    })?;
    apply_config(&mut tokenizer, &config)?;
    let left = config.get("truncation_side").and_then(Value::as_str) == Some("left");
    Ok((tokenizer, if left { TruncationDirection::Left } else { TruncationDirection::Right }))
}

/// The best tokenizer file of a directory.
fn choose(dir: &Path) -> Result<PathBuf> {
    let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    file("tokenizer.json")
        .or_else(|| file("vocab.txt"))
        .or_else(|| file("vocab.json").filter(|_| dir.join("merges.txt").is_file()))
        .ok_or_else(|| {
            let pieces = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];
            if let Some(name) = pieces.into_iter().find(|name| dir.join(name).is_file()) {
                return Error::format(format!(
                    "only {name} is there, which is SentencePiece's and is not read here; make tokenizer.json of it: python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('{0}').save_pretrained('{0}')\": {0}",
                    dir.display()
                ));
            }
            Error::format(format!(
                "no tokenizer found; put tokenizer.json (or vocab.txt, or vocab.json with merges.txt) beside the model: {}",
                dir.display()
            ))
        })
}

/// Refuses vocabulary files of a tokenizer that does more than these files say, such as cutting Japanese into words first:
/// the tokens would be others than the model was made with, and nobody would see it.
fn plain_class(config: &Value, dir: &Path, known: &[&str]) -> Result<()> {
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    // The word pieces of Japanese BERT say it in another way too.
    let more = ["word_tokenizer_type", "subword_tokenizer_type"]
        .into_iter()
        .find_map(|key| config.get(key).and_then(Value::as_str).filter(|kind| !["basic", "wordpiece"].contains(kind)));
    match (class, more) {
        (Some(class), _) if !known.contains(&class) && class != "PreTrainedTokenizerFast" => {
            Err(Error::format(format!(
                "the tokenizer is a {class}, which these vocabulary files alone do not make; put its tokenizer.json beside the model: {}",
                dir.display()
            )))
        }
        (_, Some(kind)) => Err(Error::format(format!(
            "the tokenizer cuts words with {kind:?}, which is not known here; put a tokenizer.json beside the model: {}",
            dir.display()
        ))),
        _ => Ok(()),
    }
}

fn text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|err| Error::io("reading the tokenizer", path, err))?;
    String::from_utf8(bytes).map_err(|_| Error::format(format!("not UTF-8 text; fetch it again: {}", path.display())))
}

/// The contents of a JSON file; null where there is none.
pub(super) fn json_file(path: &Path) -> Result<Value> {
    if !path.is_file() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text(path)?)
        .map_err(|err| Error::format(format!("not JSON ({err}); fetch it again: {}", path.display())))
}

/// The settings of `tokenizer_config.json` that transformers lets win over `tokenizer.json`.
fn apply_config(tokenizer: &mut Tokenizer, config: &Value) -> Result<()> {
    let Some(NormalizerWrapper::BertNormalizer(found)) = tokenizer.get_normalizer() else { return Ok(()) };
    let mut normalizer = *found;
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    normalizer.lowercase = flag("do_lower_case").unwrap_or(normalizer.lowercase);
    normalizer.handle_chinese_chars = flag("tokenize_chinese_chars").unwrap_or(normalizer.handle_chinese_chars);
    if config.get("strip_accents").is_some() {
        normalizer.strip_accents = flag("strip_accents");
    }
    tokenizer
        .with_normalizer(Some(NormalizerWrapper::BertNormalizer(normalizer)))
        .map_err(|err| Error::format(format!("the normalizer cannot be set: {err}")))?;
    Ok(())
}

/// The text of a special token: a string, or an object with `content`.
pub(super) fn token_text<'a>(source: &'a Value, name: &str) -> Option<&'a str> {
    let value = source.get(name)?;
    value.get("content").unwrap_or(value).as_str().filter(|text| !text.is_empty())
}

fn special(config: &Value, key: &str, usual: &str) -> String {
    token_text(config, key).unwrap_or(usual).to_owned()
}

/// Looks up the special tokens, all of which must be in the vocabulary; `stripping` swallows spaces before it.
fn added(names: &[String], vocab: &Value, stripping: Option<&String>) -> Result<Vec<Value>> {
    let mut found: Vec<Value> = Vec::new();
    for name in names {
        let Some(id) = vocab.get(name) else {
            return Err(Error::format(format!(
                "the vocabulary has no token {name:?}; this is not a BERT or RoBERTa vocabulary, give a tokenizer.json"
            )));
        };
        if found.iter().all(|token| token["content"] != json!(name)) {
            found.push(json!({
                "id": id, "content": name, "single_word": false, "lstrip": Some(name) == stripping, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
    }
    found.sort_by_key(|token| token["id"].as_u64());
    Ok(found)
}

/// BERT: one token a line, the line number is the id.
fn wordpiece(lines: &str, config: &Value) -> Result<String> {
    let vocab: Value =
        lines.lines().enumerate().map(|(id, token)| (token.trim_end_matches('\r').to_owned(), json!(id))).collect();
    let named = |key: &str, usual: &str| special(config, key, usual);
    let (unk, sep, cls) = (named("unk_token", "[UNK]"), named("sep_token", "[SEP]"), named("cls_token", "[CLS]"));
    let names = [named("pad_token", "[PAD]"), unk.clone(), cls.clone(), sep.clone(), named("mask_token", "[MASK]")];
    let added_tokens = added(&names, &vocab, None)?;
    let piece = |id: &str, segment: u32| json!({ "SpecialToken": { "id": id, "type_id": segment } });
    let sequence = |id: &str, segment: u32| json!({ "Sequence": { "id": id, "type_id": segment } });
    let token = |name: &str| json!({ "id": name, "ids": [vocab[name]], "tokens": [name] });
    let whole = json!({
        "version": "1.0",
        "added_tokens": added_tokens,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece(&cls, 0), sequence("A", 0), piece(&sep, 0)],
            "pair": [piece(&cls, 0), sequence("A", 0), piece(&sep, 0), sequence("B", 1), piece(&sep, 1)],
            "special_tokens": { cls.as_str(): token(&cls), sep.as_str(): token(&sep) },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    });
    Ok(whole.to_string())
}

/// GPT-2's one special token, which starts, separates and ends texts.
const GPT2_END: &str = "<|endoftext|>";

/// Byte-level BPE. GPT-2 adds no tokens; RoBERTa writes `<s> A </s>` or `<s> A </s> </s> B </s>`, all in segment 0.
fn byte_level_bpe(vocab: &str, merges: &str, config: &Value) -> Result<String> {
    let vocab: Value = serde_json::from_str(vocab)
        .map_err(|err| Error::format(format!("the vocabulary is not JSON ({err}); fetch it again")))?;
    let merges: Vec<&str> = merges
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .enumerate()
        .filter(|(number, line)| !line.is_empty() && (*number > 0 || !line.starts_with("#version")))
        .map(|(_, line)| line)
        .collect();
    let prefix = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    let bytes = |prefix: bool| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true });
    let named = |key: &str, usual: &str| special(config, key, usual);
    let (added_tokens, post_processor, decoder);
    if vocab.get("<s>").is_none() && vocab.get(GPT2_END).is_some() {
        let mut names = vec![GPT2_END.to_owned(), named("eos_token", GPT2_END), named("bos_token", GPT2_END)];
        names.retain(|name| vocab.get(name).is_some());
        (added_tokens, post_processor, decoder) = (added(&names, &vocab, None)?, Value::Null, bytes(prefix));
    } else {
        let (sep, cls, mask) = (named("sep_token", "</s>"), named("cls_token", "<s>"), named("mask_token", "<mask>"));
        let names = [cls.clone(), named("pad_token", "<pad>"), sep.clone(), named("unk_token", "<unk>"), mask.clone()];
        // Whether spaces before a mask belong to it: only where the model's files say so.
        let strips = config.pointer("/mask_token/lstrip").and_then(Value::as_bool).unwrap_or(false);
        added_tokens = added(&names, &vocab, Some(&mask).filter(|_| strips))?;
        post_processor = json!({
            "type": "RobertaProcessing", "sep": [sep, vocab[&sep]], "cls": [cls, vocab[&cls]], "trim_offsets": true,
            "add_prefix_space": prefix,
        });
        decoder = bytes(true);
    }
    let whole = json!({
        "version": "1.0",
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": bytes(prefix),
        "post_processor": post_processor,
        "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    Ok(whole.to_string())
}
