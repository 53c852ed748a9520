//! Documents as token sequences, and the order in which an epoch reads them.

use crate::text::{Document, SOURCES};
use crate::wordpiece::tokenizer_error;
use adamix::error::{Error, Result};
use adamix::rng::{Purpose, SeedStream, Stream};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use tokenizers::Tokenizer;

/// `[CLS]` and `[SEP]` as the tokenizer numbers them.
pub const CLS: u16 = 2;
/// End of a sequence.
pub const SEP: u16 = 3;
/// Tokens of the shortest and of the longest sequence, `[CLS]` and `[SEP]` not counted.
const LENGTHS: std::ops::RangeInclusive<usize> = 10..=62;

/// Token sequences back to back, without `[CLS]` and `[SEP]`.
#[derive(Default)]
pub struct Sequences {
    ids: Vec<u16>,
    offsets: Vec<u32>,
    /// Source of each sequence, times two, plus one for articles about films, books, music and theatre.
    kinds: Vec<u8>,
}

impl Sequences {
    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }
    /// Number of tokens, without `[CLS]` and `[SEP]`.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
    /// The tokens of sequence `i`.
    pub fn get(&self, i: usize) -> &[u16] {
        &self.ids[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
    /// The source of sequence `i` and whether it is about films, books, music or theatre.
    fn kind(&self, i: usize) -> (usize, bool) {
        (usize::from(self.kinds[i] / 2), self.kinds[i] % 2 == 1)
    }

    /// How often an epoch reads sequence `i`; fractions are chances.
    pub fn repeats(&self, i: usize) -> f64 {
        let (source, culture) = self.kind(i);
        SOURCES.get(source).map_or(0.0, |s| if culture { s.culture_repeats } else { s.repeats })
    }

    fn push(&mut self, ids: &[u16], kind: u8) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.ids.extend_from_slice(ids);
        self.offsets.push(self.ids.len() as u32);
        self.kinds.push(kind);
    }

    /// Adds the sequences of `other` at the end.
    pub fn append(&mut self, other: &Self) {
        for i in 0..other.len() {
            self.push(other.get(i), other.kinds[i]);
        }
    }

    /// Tokenizes documents of source number `source` and cuts them into sequences of whole sentences.
    pub fn build(documents: &[Document], source: usize, tokenizer: &Tokenizer, seed: SeedStream) -> Result<Self> {
        let parts: Vec<Result<Self>> = documents
            .par_iter()
            .enumerate()
            .map(|(i, document)| {
                let mut stream = seed.stream(Purpose::Sampling, ((source as u64 + 1) << 40) + i as u64);
                let kind = (source * 2) as u8 + u8::from(document.culture);
                cut(document, kind, tokenizer, &mut stream)
            })
            .collect();
        let mut all = Self::default();
        for part in parts {
            all.append(&part?);
        }
        Ok(all)
    }

    /// Reads what [`Self::write`] wrote; `None` if there is nothing or it belongs to other settings.
    pub fn read(path: &Path, key: &str) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let (head, mut rest) = bytes.split_at_checked(64 + 16)?;
        if head.get(..64)? != key.as_bytes() {
            return None;
        }
        let count =
            |at: usize| -> Option<usize> { Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?) as usize) };
        let (sequences, tokens) = (count(64)?, count(72)?);
        let mut take = |n: usize| -> Option<&[u8]> {
            let (part, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(part)
        };
        let ids = take(tokens * 2)?.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        let offsets =
            take(sequences * 4 + 4)?.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let kinds = take(sequences)?.to_vec();
        Some(Self { ids, offsets, kinds })
    }

    /// Keeps the sequences for the next start; `key` (64 characters) names the settings they depend on.
    pub fn write(&self, path: &Path, key: &str) -> Result<()> {
        let mut bytes = key.as_bytes().to_vec();
        bytes.extend((self.len() as u64).to_le_bytes());
        bytes.extend((self.tokens() as u64).to_le_bytes());
        bytes.extend(self.ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(self.offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        bytes.extend(&self.kinds);
        std::fs::write(path, bytes).map_err(|err| Error::io("writing the token cache", path, err))
    }
}

/// One document: consecutive sentences until a random length is reached; longer sentences are cut.
fn cut(document: &Document, kind: u8, tokenizer: &Tokenizer, stream: &mut Stream) -> Result<Sequences> {
    let mut sequences = Sequences::default();
    let mut current: Vec<u16> = Vec::new();
    let mut wanted = length(stream);
    for sentence in &document.sentences {
        let encoded = tokenizer.encode_fast(sentence.as_str(), false).map_err(tokenizer_error)?;
        let ids: Vec<u16> = encoded.get_ids().iter().map(|&id| id as u16).collect();
        if !current.is_empty() && current.len() + ids.len() > *LENGTHS.end() {
            flush(&mut sequences, &mut current, kind);
        }
        current.extend(ids);
        while current.len() > *LENGTHS.end() {
            let rest = current.split_off(*LENGTHS.end());
            flush(&mut sequences, &mut current, kind);
            current = rest;
        }
        if current.len() >= wanted {
            flush(&mut sequences, &mut current, kind);
            wanted = length(stream);
        }
    }
    flush(&mut sequences, &mut current, kind);
    Ok(sequences)
}

fn length(stream: &mut Stream) -> usize {
    LENGTHS.start() + stream.below(LENGTHS.end() - LENGTHS.start() + 1)
}

fn flush(sequences: &mut Sequences, current: &mut Vec<u16>, kind: u8) {
    if current.len() >= *LENGTHS.start() {
        sequences.push(current, kind);
    }
    current.clear();
}

/// What the cached sequences depend on: tokenizer, seed and the rules of this program.
pub fn cache_key(tokenizer_json: &str, seed: u64) -> String {
    let mut hash = Sha256::new();
    hash.update(b"sequences 1");
    hash.update(tokenizer_json.as_bytes());
    hash.update(seed.to_le_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sequences of epoch number `epoch`, in reading order: each source as often as its settings say, shuffled.
pub fn epoch(sequences: &Sequences, seed: SeedStream, epoch: u64) -> Vec<u32> {
    let mut stream = seed.stream(Purpose::Shuffle, epoch);
    let mut order = Vec::new();
    for i in 0..sequences.len() {
        let repeats = sequences.repeats(i);
        let times = repeats.floor() as usize + usize::from(stream.uniform() < repeats.fract());
        order.extend(std::iter::repeat_n(i as u32, times));
    }
    stream.shuffle(&mut order);
    order
}
