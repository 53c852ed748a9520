//! Which files of a repository a model needs: its configuration, its tokenizer, one set of weights.

use crate::config::model_id::{ModelId, is_gguf_name};
use crate::error::{Error, Result};
use crate::format;
use crate::model_store::listing::RemoteFile;

/// Small files that belong to a model, where they are there.
const SMALL: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];
/// Names of GGUF files that are listed when one must be chosen.
const LISTED: usize = 24;
/// The index of weights in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The files to fetch, small ones first, in two parts: what describes the model, and its weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Configuration, tokenizer, index.
    pub small: Vec<RemoteFile>,
    /// Weights; for a GGUF file there is nothing else.
    pub weights: Vec<RemoteFile>,
}

/// Chooses from everything the repository holds.
pub fn choose(id: &ModelId, files: &[RemoteFile]) -> Result<Choice> {
    let find = |name: &str| files.iter().find(|file| file.name == name).cloned();
    let ggufs: Vec<&RemoteFile> = files.iter().filter(|file| is_gguf_name(&file.name)).collect();
    if let Some(wanted) = &id.file {
        let file = find(wanted).ok_or_else(|| {
            let hint = if ggufs.is_empty() { "it has no GGUF file".to_owned() } else { offer(id, &ggufs) };
            Error::config(format!("{} has no file {wanted}; {hint}", id.repo))
        })?;
        return single_gguf(file);
    }
    let shards: Vec<RemoteFile> = files.iter().filter(|file| is_shard(&file.name)).cloned().collect();
    let (single, index) = (find("model.safetensors"), find(INDEX));
    if find("config.json").is_some() && (single.is_some() || index.is_some() && !shards.is_empty()) {
        let mut small: Vec<RemoteFile> = SMALL.into_iter().filter_map(find).collect();
        let weights = match single {
            Some(single) => vec![single],
            None => {
                small.extend(index);
                shards
            }
        };
        return Ok(Choice { small, weights });
    }
    match ggufs.as_slice() {
        [only] => single_gguf((*only).clone()),
        [] => Err(nothing(id, files)),
        several => Err(Error::config(format!("{} holds several GGUF files; {}", id.repo, offer(id, several)))),
    }
}

fn single_gguf(file: RemoteFile) -> Result<Choice> {
    if is_split(&file.name) {
        return Err(Error::config(format!(
            "{} is one part of a model in several GGUF files; choose a model in one file",
            file.name
        )));
    }
    Ok(Choice { small: Vec::new(), weights: vec![file] })
}

/// The GGUF files to choose from, smallest first, in words.
fn offer(id: &ModelId, ggufs: &[&RemoteFile]) -> String {
    let mut files: Vec<&&RemoteFile> = ggufs.iter().filter(|file| !is_split(&file.name)).collect();
    files.sort_by_key(|file| file.bytes);
    let one = |file: &&&RemoteFile| match file.bytes {
        Some(bytes) => format!("{} ({})", file.name, format::bytes(bytes)),
        None => file.name.clone(),
    };
    let names: Vec<String> = files.iter().take(LISTED).map(one).collect();
    let more = if files.len() > LISTED { ", ..." } else { "" };
    let first = files.first().map_or("FILE.gguf", |file| file.name.as_str());
    let whole = ModelId { file: Some(first.to_owned()), ..id.clone() };
    format!("choose one, as in {whole}: {}{more}", names.join(", "))
}

fn nothing(id: &ModelId, files: &[RemoteFile]) -> Error {
    let has = |name: &str| files.iter().any(|file| file.name == name);
    let ends = |ending: &str| files.iter().any(|file| file.name.ends_with(ending));
    let why = if has("adapter_config.json") {
        "it is an adapter and no model; fetch the model it was made for"
    } else if has("model_index.json") {
        "it holds a pipeline for pictures and no language model"
    } else if ends(".bin") || ends(".pt") || ends(".pth") || ends(".h5") || ends(".msgpack") {
        "its weights are there as pickles or for other frameworks only; look for a copy with model.safetensors"
    } else if !has("config.json") {
        "it has neither config.json nor a GGUF file"
    } else {
        "it has no model.safetensors"
    };
    Error::config(format!("{} cannot be used here: {why}", id.repo))
}

fn is_shard(name: &str) -> bool {
    name.strip_suffix(".safetensors").and_then(part_of) == Some("model")
}

/// Whether a GGUF file is one of several parts, `name-00001-of-00003.gguf`.
fn is_split(name: &str) -> bool {
    name.get(..name.len().saturating_sub(5)).and_then(part_of).is_some()
}

/// `name` of `name-00001-of-00003`.
fn part_of(stem: &str) -> Option<&str> {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (before, of) = stem.rsplit_once("-of-")?;
    let (name, at) = before.rsplit_once('-')?;
    (number(of) && number(at)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(id: &str, names: &[&str]) -> Result<Vec<String>> {
        let file = |name: &&str| RemoteFile { name: (*name).to_owned(), bytes: Some(1_500_000), checksum: None };
        let files: Vec<RemoteFile> = names.iter().map(file).collect();
        let Choice { small, weights } = choose(&ModelId::parse(id)?, &files)?;
        Ok(small.into_iter().chain(weights).map(|file| file.name).collect())
    }

    #[test]
    fn one_set_of_weights_and_what_belongs_to_it() {
        let all = [
            "README.md",
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "tf_model.h5",
            "onnx/model.onnx",
            "tokenizer.json",
            "vocab.txt",
            "model.fp16.safetensors",
            "flax_model.msgpack",
            "x-q4.gguf",
        ];
        assert_eq!(pick("a/b", &all).unwrap(), ["config.json", "tokenizer.json", "vocab.txt", "model.safetensors"]);
        assert_eq!(pick("a/b:x-q4.gguf", &all).unwrap(), ["x-q4.gguf"]);
        let sharded = [
            "config.json",
            INDEX,
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model-x.safetensors",
        ];
        assert_eq!(pick("a/b", &sharded).unwrap(), &sharded[..4]);
        assert_eq!(pick("a/b", &["only.gguf", "config.json"]).unwrap(), ["only.gguf"]);
    }

    #[test]
    fn what_cannot_be_used_says_why_and_what_else() {
        let refused = |id: &str, names: &[&str]| pick(id, names).unwrap_err().to_string();
        let several = refused("a/b", &["m-q8.gguf", "m-q4.gguf", "m-f16-00001-of-00002.gguf"]);
        assert!(several.contains("a/b:m-q4.gguf") || several.contains("a/b:m-q8.gguf"), "{several}");
        assert!(several.contains("m-q8.gguf (1.5 MB)") && !several.contains("00001"), "{several}");
        assert!(refused("a/b:z.gguf", &["x.gguf"]).contains("x.gguf (1.5 MB)"));
        assert!(refused("a/b:z-00001-of-00002.gguf", &["z-00001-of-00002.gguf"]).contains("several GGUF files"));
        assert!(refused("a/b", &["config.json", "pytorch_model.bin"]).contains("pickles"));
        assert!(refused("a/b", &["adapter_config.json", "adapter_model.safetensors"]).contains("adapter"));
        assert!(refused("a/b", &["model_index.json"]).contains("pictures"));
        assert!(refused("a/b", &["README.md"]).contains("neither"));
    }
}
