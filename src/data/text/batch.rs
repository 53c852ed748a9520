//! Encoded texts of a split, and packed batches of them.

use super::encode::{EncodedText, TextEncoder};
use super::read::Examples;
use super::{Example, TextCodec};
use crate::config::TextFormat;
use crate::data::order::{BatchRule, Order};
use crate::data::rows::Refusals;
use crate::error::Result;
use crate::rng::SeedStream;
use rayon::prelude::*;

/// Answers looked at for the token that ends them.
const LOOKED_AT: usize = 200;

/// Packed sequences: `ids[offsets[i]..offsets[i + 1]]` is sequence `i`, never padded. Attention stays inside a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextBatch {
    /// Token ids of all sequences, back to back. `[total_tokens]`
    pub ids: Vec<u32>,
    /// Where each sequence starts, and the end of the last one. `[sequences + 1]`
    pub offsets: Vec<usize>,
    /// Whether a token is learned: what the model says at the token before it is scored against it. Never the first token
    /// of a sequence, so that the target of position `t` is `ids[t + 1]` where `learn[t + 1]`. `[total_tokens]`
    pub learn: Vec<bool>,
    /// Number of each sequence in its data set. `[sequences]`
    pub rows: Vec<usize>,
}

/// Examples of a split with their token ids: encoded once, batched many times.
#[derive(Clone, Debug)]
pub struct TextDataset {
    /// The examples, as in the file.
    pub examples: Vec<Example>,
    /// Their sequences: one for each example, several for a long plain text, none where nothing is left to learn.
    pub encoded: Vec<EncodedText>,
    /// What the examples are.
    pub format: TextFormat,
    /// The file.
    pub file: String,
    /// Examples of which nothing is left to learn after cutting.
    pub unlearned: usize,
}

impl TextDataset {
    /// Encodes examples on all threads of the current pool. Those that cannot be encoded (a template refuses them) are
    /// refused or skipped.
    pub(super) fn encode(examples: Examples, encoder: &TextEncoder, refusals: &mut Refusals) -> Result<Self> {
        let file = examples.name();
        let Examples { examples, format, files, .. } = examples;
        let sequences: Vec<Result<Vec<EncodedText>>> = examples
            .par_iter()
            .with_min_len(16)
            .enumerate()
            .map(|(number, example)| encoder.encode(example, number))
            .collect();
        let (mut kept, mut encoded, mut unlearned) = (Vec::with_capacity(examples.len()), Vec::new(), 0);
        for (example, sequences) in examples.into_iter().zip(sequences) {
            match sequences {
                Ok(mut sequences) => {
                    unlearned += usize::from(sequences.is_empty());
                    sequences.iter_mut().for_each(|sequence| sequence.example = kept.len());
                    encoded.extend(sequences);
                    kept.push(example);
                }
                Err(err) => {
                    let file = files.get(example.file).map_or("", String::as_str);
                    refusals.bad(file, example.line, err.to_string())?;
                }
            }
        }
        Ok(Self { examples: kept, encoded, format, file, unlearned })
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Tokens of all sequences together.
    pub fn tokens(&self) -> usize {
        self.encoded.iter().map(|text| text.ids.len()).sum()
    }

    /// Learned tokens of all sequences together.
    pub fn learned(&self) -> usize {
        self.encoded.iter().map(EncodedText::learned).sum()
    }

    /// Length of each sequence.
    pub fn lengths(&self) -> Vec<usize> {
        self.encoded.iter().map(|text| text.ids.len()).collect()
    }

    /// The special token that nearly all learned answers end with.
    pub fn turn_end(&self, codec: &TextCodec) -> Option<u32> {
        let whole = self.encoded.iter().filter(|text| text.cut == 0).take(LOOKED_AT);
        let ends: Vec<u32> =
            whole.filter_map(|text| Some(text.ids[text.learn.iter().rposition(|&learn| learn)?])).collect();
        let end = *ends.first().filter(|end| codec.is_added(**end))?;
        let same = ends.iter().filter(|other| **other == end).count();
        (same * 10 >= ends.len() * 9).then_some(end)
    }

    /// The seeded, restartable order of micro-batches.
    pub fn order(&self, seed: SeedStream, rule: BatchRule) -> Order {
        Order::of_lengths(seed, self.lengths(), rule)
    }

    /// Packs the sequences with these numbers (each below [`TextDataset::len`]), in this order.
    pub fn batch(&self, rows: &[usize]) -> TextBatch {
        let tokens = rows.iter().map(|&row| self.encoded[row].ids.len()).sum();
        let mut batch = TextBatch {
            ids: Vec::with_capacity(tokens),
            offsets: Vec::with_capacity(rows.len() + 1),
            learn: Vec::with_capacity(tokens),
            rows: rows.to_vec(),
        };
        batch.offsets.push(0);
        for &row in rows {
            batch.ids.extend(&self.encoded[row].ids);
            batch.learn.extend(&self.encoded[row].learn);
            batch.offsets.push(batch.ids.len());
        }
        batch
    }
}
