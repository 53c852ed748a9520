//! The byte-level vocabulary, as GPT-2's is made: text is split into words, a word into bytes (each shown as a
//! character), and the most frequent pair of neighbours becomes a piece, again and again.

use super::pairs::Pairs;
use super::text::Document;
use adamix::error::{Error, Result};
use rayon::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

/// Token number 0: between documents, and at the end of an answer.
pub const END: &str = "<|endoftext|>";
/// Of so many sentences one is read for the vocabulary.
const EVERY: usize = 4;

/// Pieces by their ids, and which pairs make them.
pub struct Vocabulary {
    pieces: Vec<String>,
    merges: Vec<(String, String)>,
}

/// Learns `size` pieces, [`END`] and the 256 bytes included.
pub fn learn(documents: &[&Document], size: usize) -> Result<Vocabulary> {
    let sentences: Vec<&str> =
        documents.iter().flat_map(|document| document.sentences.iter().map(String::as_str)).step_by(EVERY).collect();
    let counts = count_words(&sentences)?;
    let bytes: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    let mut pieces: Vec<String> = std::iter::once(END.to_owned()).chain(bytes.into_iter().map(String::from)).collect();
    let mut ids: HashMap<String, u32> = (0..).zip(&pieces).map(|(id, piece)| (piece.clone(), id)).collect();
    let mut words: Vec<(Vec<u32>, u64)> = counts
        .iter()
        .filter(|&(_, &count)| count > 1)
        .filter_map(|(word, &count)| {
            let bytes: Option<Vec<u32>> = word.chars().map(|c| ids.get(c.to_string().as_str()).copied()).collect();
            Some((bytes?, count))
        })
        .collect();
    let (mut pairs, mut merges) = (Pairs::new(&words), Vec::new());
    while pieces.len() < size {
        let Some((left, right)) = pairs.best() else { break };
        let (head, tail) = (pieces[left as usize].clone(), pieces[right as usize].clone());
        // Two different pairs can spell the same piece; the second one shares its id.
        let id = *ids.entry(format!("{head}{tail}")).or_insert_with_key(|merged| {
            pieces.push(merged.clone());
            pieces.len() as u32 - 1
        });
        pairs.merge(&mut words, (left, right), id);
        merges.push((head, tail));
    }
    Ok(Vocabulary { pieces, merges })
}

/// Words with their counts, in alphabetical order.
fn count_words(sentences: &[&str]) -> Result<BTreeMap<String, u64>> {
    let parts: Vec<Result<HashMap<String, u64>>> = sentences
        .par_chunks(2048)
        .map(|chunk| {
            let mut part = HashMap::new();
            for sentence in chunk {
                // As inside a text: most words have a space before them.
                let mut split = PreTokenizedString::from(format!(" {sentence}"));
                ByteLevel::new(false, true, true).pre_tokenize(&mut split).map_err(tokenizer_error)?;
                for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
                    *part.entry(word.to_owned()).or_default() += 1;
                }
            }
            Ok(part)
        })
        .collect();
    let mut counts = BTreeMap::new();
    for part in parts {
        // Sums do not depend on the order of the entries, and the result is sorted.
        part?.into_iter().for_each(|(word, count)| *counts.entry(word).or_default() += count);
    }
    Ok(counts)
}

/// The text of `tokenizer.json`.
pub fn tokenizer_json(vocabulary: &Vocabulary) -> Result<String> {
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0u32..).zip(&vocabulary.pieces).map(|(id, piece)| (piece.clone(), id.into())).collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{"id": 0, "content": END, "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": null,
        "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": vocabulary.merges}
    });
    serde_json::to_string(&tokenizer).map_err(|err| Error::internal(format!("the tokenizer cannot be written: {err}")))
}

/// An error of the tokenizer crate as one of ours.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub fn tokenizer_error(err: tokenizers::Error) -> Error {
    Error::format(format!("the tokenizer failed: {err}"))
}
