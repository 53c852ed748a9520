//! Sentences after some of their own words: `words | words | words`, the end token, the sentence, the end token.
//!
//! Only the sentence is predicted. Everything comes out of the corpora themselves.

use crate::bpe::tokenizer_error;
use crate::text::Document;
use crate::windows::Windows;
use adamix::error::Result;
use adamix::rng::{Purpose, SeedStream, Stream};
use rayon::prelude::*;
use tokenizers::Tokenizer;

/// Words of a sentence that is taken.
const WORDS: std::ops::RangeInclusive<usize> = 8..=28;
/// Longest record in tokens.
const LONGEST: usize = 120;

/// `most` records, of sentences chosen by chance.
pub fn build(documents: &[&Document], tokenizer: &Tokenizer, most: usize, seed: SeedStream) -> Result<Windows> {
    let all = documents.iter().flat_map(|document| &document.sentences);
    let mut sentences: Vec<&String> = all.filter(|text| WORDS.contains(&text.split(' ').count())).collect();
    seed.stream(Purpose::Sampling, 1 << 34).shuffle(&mut sentences);
    sentences.truncate(most);
    let record = |(i, sentence): (usize, &&String)| -> Result<(Vec<u16>, usize)> {
        let mut stream = seed.stream(Purpose::Sampling, (1 << 35) + i as u64);
        let encode = |text: String| -> Result<Vec<u16>> {
            let encoded = tokenizer.encode_fast(text, false).map_err(tokenizer_error)?;
            Ok(encoded.get_ids().iter().map(|&id| id as u16).collect())
        };
        let mut ids = encode(keys(sentence, &mut stream))?;
        let first = ids.len() + 1;
        ids.push(0);
        ids.extend(encode(format!(" {sentence}"))?);
        ids.push(0);
        Ok((ids, first))
    };
    let records: Vec<Result<(Vec<u16>, usize)>> = sentences.par_iter().enumerate().map(record).collect();
    let mut windows = Windows::default();
    for record in records {
        let (ids, first) = record?;
        if ids.len() <= LONGEST {
            windows.push(&ids, first);
        }
    }
    Ok(windows)
}

/// Three to six runs of one to three neighbouring words, in any order; every other one begins at a name if there is any.
fn keys(sentence: &str, stream: &mut Stream) -> String {
    let words: Vec<&str> = sentence.split(' ').collect();
    let capital = |i: &usize| words[*i].starts_with(|c: char| c.is_uppercase());
    let names: Vec<usize> = (1..words.len()).filter(capital).collect();
    let mut runs = Vec::new();
    for i in 0..3 + stream.below(4) {
        let start = match i % 2 == 0 && !names.is_empty() {
            true => names[stream.below(names.len())],
            false => stream.below(words.len()),
        };
        let end = (start + 1 + stream.below(3)).min(words.len());
        runs.push(words[start..end].join(" ").trim_matches(|c: char| !c.is_alphanumeric()).to_owned());
    }
    runs.retain(|run| !run.is_empty());
    stream.shuffle(&mut runs);
    runs.dedup();
    runs.join(" | ")
}
