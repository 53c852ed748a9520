//! How a text is cut into words before byte-level BPE merges inside each: the kinds that GGUF files name.

use crate::error::{Error, Result};
use serde_json::{Value, json};

/// What `tokenizer.ggml.pre` stands for.
pub(super) struct PreTokenizer {
    /// As in a `tokenizer.json`.
    pub steps: Value,
    /// As in a `tokenizer.json`.
    pub normalizer: Value,
    /// Whether a word that is a token is taken whole, without merging.
    pub ignore_merges: bool,
    /// Whether the start token goes before every text where the file does not say.
    pub add_bos: bool,
}

/// The words of GPT-2: contractions, letters, numbers, signs, spaces.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The words of Llama 3: numbers in groups of three, line ends kept with what they end.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The words of Qwen 2: as Llama 3's, each digit alone.
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The kind with this name; files from before the names have `default`.
pub(super) fn named(name: &str) -> Result<PreTokenizer> {
    let plain = |steps: &[Value]| {
        let all = [steps, &[bytes()]].concat();
        PreTokenizer {
            steps: json!({ "type": "Sequence", "pretokenizers": all }),
            normalizer: Value::Null,
            ignore_merges: false,
            add_bos: false,
        }
    };
    Ok(match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" => plain(&[split(GPT2)]),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            plain(&[json!({ "type": "Digits", "individual_digits": true }), split(GPT2)])
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            PreTokenizer { ignore_merges: true, add_bos: true, ..plain(&[split(LLAMA3)]) }
        }
        "qwen2" | "deepseek-r1-qwen" => PreTokenizer { normalizer: json!({ "type": "NFC" }), ..plain(&[split(QWEN2)]) },
        "default" => plain(&[split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2), split(r"\p{N}+"), split("[0-9][0-9][0-9]")]),
        other => {
            return Err(Error::format(format!(
                "it cuts words in the way {other:?}, which this program does not know (gpt-2, llama-bpe, smollm, qwen2 and default are known); use the model's Hugging Face directory instead"
            )));
        }
    })
}

/// Every match becomes a word of its own, and so does what is between two matches.
fn split(pattern: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
}

/// Bytes to the characters that stand for them in the vocabulary.
fn bytes() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false })
}
