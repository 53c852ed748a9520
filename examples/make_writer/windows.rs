//! Documents as windows of tokens: what a step reads.

use crate::bpe::tokenizer_error;
use crate::text::Document;
use adamix::error::Result;
use adamix::rng::{Purpose, SeedStream};
use rayon::prelude::*;
use tokenizers::Tokenizer;

/// Tokens of the longest window; a document's last one is shorter.
const LONGEST: usize = 160;
/// Shorter ones are left out.
const SHORTEST: usize = 16;
/// The token between documents.
const END: u16 = 0;

/// Windows back to back.
#[derive(Default)]
pub struct Windows {
    ids: Vec<u16>,
    ends: Vec<usize>,
    /// The first token of each that is to be predicted.
    first: Vec<u16>,
}

/// The given share of the documents.
pub fn choose(documents: Vec<Document>, share: f64, seed: SeedStream, source: u64) -> Vec<Document> {
    let mut stream = seed.stream(Purpose::Sampling, source);
    documents.into_iter().filter(|_| stream.uniform() < share).collect()
}

impl Windows {
    /// Number of windows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    /// Tokens of all windows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
    /// The tokens of window `i`.
    pub fn get(&self, i: usize) -> &[u16] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.ids[start..self.ends[i]]
    }

    /// The first token of window `i` that is to be predicted.
    pub fn first(&self, i: usize) -> usize {
        usize::from(self.first[i])
    }

    /// Adds a window of which the tokens from `first` on are to be predicted.
    pub fn push(&mut self, ids: &[u16], first: usize) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
        self.first.push(first as u16);
    }

    /// Keeps some, chosen by chance.
    pub fn shorten(&mut self, most: usize, seed: SeedStream) {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        seed.stream(Purpose::Sampling, 1 << 33).shuffle(&mut rows);
        let mut kept = Self::default();
        rows.iter().take(most).for_each(|&row| kept.push(self.get(row), self.first(row)));
        *self = kept;
    }

    /// Adds the windows of `other` at the end.
    pub fn append(&mut self, other: &Self) {
        let before = self.ids.len();
        self.ids.extend_from_slice(&other.ids);
        self.ends.extend(other.ends.iter().map(|end| before + end));
        self.first.extend(&other.first);
    }

    /// Tokenizes documents, an end token before and after each, and cuts them up.
    pub fn build(documents: &[Document], tokenizer: &Tokenizer) -> Result<Self> {
        let parts: Vec<Result<Self>> = documents
            .par_iter()
            .map(|document| {
                let encoded = tokenizer.encode_fast(document.sentences.join(" "), false).map_err(tokenizer_error)?;
                let ids = encoded.get_ids().iter().map(|&id| id as u16);
                let ids: Vec<u16> = std::iter::once(END).chain(ids).chain([END]).collect();
                let mut windows = Self::default();
                for window in ids.chunks(LONGEST).filter(|window| window.len() >= SHORTEST) {
                    windows.push(window, 0);
                }
                Ok(windows)
            })
            .collect();
        let mut all = Self::default();
        for part in parts {
            all.append(&part?);
        }
        Ok(all)
    }
}
