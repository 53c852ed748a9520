//! Text to token ids, as transformers does it.
//!
//! Truncation and padding in a tokenizer file are ignored: sequences are never padded, and they are truncated to the run's
//! `max_length`, special tokens counted, the longer text of a pair first.

use super::{lab, tokenizer_files};
use crate::error::{Context as _, Error, ErrorKind, Result};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings};
use tokenizers::{PostProcessor as _, Tokenizer};

/// One encoded text or pair of texts, special tokens included, never padded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids. `[length]`
    pub ids: Vec<u32>,
    /// Segment of each token: 0 for the first text, 1 for the second (all 0 for RoBERTa). `[length]`
    pub type_ids: Vec<u32>,
    /// Whether tokens were cut off to fit the largest length.
    pub truncated: bool,
}

/// A tokenizer of a published model; cheap to clone.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: Arc<Tokenizer>,
    direction: TruncationDirection,
}

impl TextTokenizer {
    /// From a model directory (`tokenizer.json` is preferred there), or from its `tokenizer.json`, `vocab.txt` (BERT) or
    /// `vocab.json` (RoBERTa), with the settings of `tokenizer_config.json` beside it.
    pub fn from_file(path: &Path) -> Result<Self> {
        let read = || tokenizer_files::read(path).and_then(|(tokenizer, direction)| Self::new(tokenizer, direction));
        read().with_context(|| "the tokenizer cannot be loaded".to_owned())
    }

    /// The tokenizer of the bundled lab's encoder.
    pub fn lab() -> Result<Self> {
        Self::from_bytes(lab::TOKENIZER_JSON)
    }

    /// From the contents of a `tokenizer.json`.
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        let tokenizer = Tokenizer::from_bytes(json)
            .map_err(|err| Error::format(format!("tokenizer.json is not a tokenizer this program knows: {err}")))?;
        Self::new(tokenizer, TruncationDirection::Right)
    }

    /// Takes the file's truncation and padding away from `tokenizer`.
    pub(super) fn new(mut tokenizer: Tokenizer, direction: TruncationDirection) -> Result<Self> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|err| failed(&*err))?;
        Ok(Self { inner: Arc::new(tokenizer), direction })
    }

    /// One text, or a pair of texts, cut to at most `max_length` tokens with the special tokens counted.
    pub fn encode(&self, text: &str, pair: Option<&str>, max_length: usize) -> Result<Encoded> {
        let plain = |text: &str| self.inner.encode_fast(text, false).map_err(|err| failed(&*err));
        let (first, second) = (plain(text)?, pair.map(plain).transpose()?);
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(pair.is_some()));
        let length = first.len() + second.as_ref().map_or(0, tokenizers::Encoding::len);
        let params = TruncationParams {
            direction: self.direction,
            max_length: max_length.saturating_sub(special),
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        let truncated = length > params.max_length;
        let (mut first, mut second) = truncate_encodings(first, second, &params).map_err(|err| failed(&*err))?;
        // The cut-off windows are of no use here, and post-processing would combine all of them.
        first.set_overflowing(Vec::new());
        if let Some(second) = &mut second {
            second.set_overflowing(Vec::new());
        }
        let whole = self.inner.post_process(first, second, true).map_err(|err| failed(&*err))?;
        Ok(Encoded { ids: whole.get_ids().to_vec(), type_ids: whole.get_type_ids().to_vec(), truncated })
    }

    /// Many texts or pairs at once, in order, on all threads of the current pool.
    pub fn encode_all(&self, texts: &[(&str, Option<&str>)], max_length: usize) -> Result<Vec<Encoded>> {
        texts.par_iter().with_min_len(16).map(|(text, pair)| self.encode(text, *pair, max_length)).collect()
    }

    /// The tokenizer itself, for those who add no special tokens by it.
    pub(super) fn inner(&self) -> &Tokenizer {
        &self.inner
    }

    /// The largest id that can come out; a model's embedding table needs at least one row more.
    pub fn max_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// The largest id of the vocabulary without the tokens that were added to it: texts hold those only where they are
    /// written out, and a model may have no row for them.
    pub fn max_word_id(&self) -> u32 {
        self.inner.get_vocab(false).into_values().max().unwrap_or(0)
    }

    /// The id of a token such as `[MASK]`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The tokens as they are written in the vocabulary, such as `##ing` or `Ġthe`.
    pub fn tokens(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.inner.id_to_token(id).unwrap_or_else(|| format!("<{id}>"))).collect()
    }
}

/// The error of a text that the tokenizer refuses.
pub(super) fn failed(err: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Data, format!("the text cannot be tokenized: {err}"))
}
