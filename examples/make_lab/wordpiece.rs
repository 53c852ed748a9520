//! The lab's WordPiece vocabulary and its `tokenizer.json`.
//!
//! The pieces are learned as in byte-pair encoding over characters: the most frequent pair of neighbours becomes a
//! piece, again and again. Ties go to the smaller ids, so the same text always gives the same vocabulary (the
//! trainer of the `tokenizers` crate iterates hash maps and does not promise that).

use crate::pairs::Pairs;
use adamix::error::{Error, Result};
use rayon::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _,
};

/// Special tokens in the order of their ids, from 0.
pub const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Characters that get a piece of their own; rarer ones become `[UNK]`.
const ALPHABET: usize = 110;

/// Words with their weighted counts, in alphabetical order.
pub type WordCounts = BTreeMap<String, u64>;

/// Adds the words of `texts` to `counts`, each occurrence `weight` times.
pub fn count_words(counts: &mut WordCounts, texts: &[&str], weight: u64) -> Result<()> {
    let parts: Vec<Result<HashMap<String, u64>>> = texts
        .par_chunks(2048)
        .map(|chunk| {
            let mut part = HashMap::new();
            for text in chunk {
                for word in split_words(text)? {
                    *part.entry(word).or_default() += weight;
                }
            }
            Ok(part)
        })
        .collect();
    for part in parts {
        // sums do not depend on the order of the entries, and the result is sorted
        part?.into_iter().for_each(|(word, count)| *counts.entry(word).or_default() += count);
    }
    Ok(())
}

/// Lower-cased words and punctuation marks, exactly as the finished tokenizer splits them.
fn split_words(text: &str) -> Result<Vec<String>> {
    let mut normalized = NormalizedString::from(text);
    normalizer().normalize(&mut normalized).map_err(tokenizer_error)?;
    let mut split = PreTokenizedString::from(normalized);
    BertPreTokenizer.pre_tokenize(&mut split).map_err(tokenizer_error)?;
    let words = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(words.into_iter().map(|(word, _, _)| word.to_owned()).collect())
}

/// Learns `size` pieces, special tokens included; the index of a piece is its id.
pub fn learn(counts: &WordCounts, size: usize) -> Vec<String> {
    let alphabet = alphabet(counts);
    let mut pieces: Vec<String> = SPECIAL.iter().map(|&token| token.to_owned()).collect();
    pieces.extend(alphabet.iter().map(char::to_string));
    pieces.extend(alphabet.iter().map(|c| format!("##{c}")));
    let ids: HashMap<String, u32> = (0..).zip(&pieces).map(|(id, piece)| (piece.clone(), id)).collect();
    let mut words: Vec<(Vec<u32>, u64)> = counts
        .iter()
        .filter(|&(_, &count)| count > 1)
        .filter_map(|(word, &count)| {
            let pieces: Option<Vec<u32>> = word
                .chars()
                .enumerate()
                .map(|(i, c)| ids.get(&if i == 0 { c.to_string() } else { format!("##{c}") }).copied())
                .collect();
            Some((pieces?, count))
        })
        .collect();
    let mut pairs = Pairs::new(&words);
    let mut known: BTreeSet<String> = pieces.iter().cloned().collect();
    while pieces.len() < size {
        let Some((left, right)) = pairs.best() else { break };
        let (Some(head), Some(tail)) = (pieces.get(left as usize), pieces.get(right as usize)) else { break };
        let merged = format!("{head}{}", tail.trim_start_matches("##"));
        // two different pairs can spell the same piece; the second one shares its id
        let id = if known.insert(merged.clone()) {
            pieces.push(merged);
            pieces.len() as u32 - 1
        } else {
            pieces.iter().position(|piece| *piece == merged).unwrap_or_default() as u32
        };
        pairs.merge(&mut words, (left, right), id);
    }
    pieces
}

/// The most frequent characters, sorted.
fn alphabet(counts: &WordCounts) -> BTreeSet<char> {
    let mut chars: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in counts {
        for c in word.chars() {
            *chars.entry(c).or_default() += count;
        }
    }
    let mut by_count: Vec<(char, u64)> = chars.into_iter().collect();
    by_count.sort_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
    by_count.into_iter().take(ALPHABET).map(|(c, _)| c).collect()
}

fn normalizer() -> BertNormalizer {
    BertNormalizer::new(true, true, None, true)
}

/// The text of `tokenizer.json`: BERT's normalizer, splitter and frame around the learned pieces.
pub fn tokenizer_json(pieces: &[String]) -> Result<String> {
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0u32..).zip(pieces).map(|(id, piece)| (piece.clone(), id.into())).collect();
    let added: Vec<serde_json::Value> = (0u32..)
        .zip(SPECIAL)
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer(),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab}
    });
    serde_json::to_string(&tokenizer).map_err(|err| Error::internal(format!("the tokenizer cannot be written: {err}")))
}

/// An error of the tokenizer crate as one of ours.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub fn tokenizer_error(err: tokenizers::Error) -> Error {
    Error::format(format!("the tokenizer failed: {err}"))
}
