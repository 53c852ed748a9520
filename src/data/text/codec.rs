//! The tokenizer of a model that writes, with what its files say about texts: start and end tokens, chat template.

pub use super::codec_files::Specials;

use super::codec_files;
use crate::config::WRITER_LAB;
use crate::data::gguf;
use crate::data::tokenizer::failed;
use crate::data::{TextTokenizer, lab};
use crate::error::{Error, Result};
use crate::tensor::gguf::{GgufFile, is_gguf};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// Text to tokens and back for a causal language model. It adds no token by itself: start and end tokens come from the
/// [layout](super::Layout). Cheap to clone.
#[derive(Clone, Debug)]
pub struct TextCodec {
    tokenizer: Arc<Tokenizer>,
    /// What the model's files say besides the tokenizer.
    pub specials: Specials,
    special_ids: Arc<BTreeSet<u32>>,
    /// Tokens that stand in texts as they are written in the vocabulary.
    added_ids: Arc<BTreeSet<u32>>,
    /// Whether a space is put before every text (SentencePiece): pieces of a text cannot be tokenized one by one then.
    pub(super) prefixes_space: bool,
    byte_level: bool,
}

impl TextCodec {
    /// From a model directory in Hugging Face layout, or from a GGUF file (told by its contents, not its name), or that of
    /// the bundled language model for the path [`WRITER_LAB`].
    pub fn open(path: &Path) -> Result<Self> {
        if path == Path::new(WRITER_LAB) {
            return Self::writer_lab();
        }
        if path.is_file() && is_gguf(path)? {
            return Self::from_gguf(&GgufFile::open(path)?);
        }
        if !path.exists() {
            return Err(Error::config(format!(
                "no such model; choose a directory in Hugging Face layout or a GGUF file: {}",
                path.display()
            )));
        }
        let (tokenizer, specials) = codec_files::read(path)?;
        Ok(Self::new(&tokenizer, specials))
    }

    /// That of the bundled language model.
    pub fn writer_lab() -> Result<Self> {
        let tokenizer = TextTokenizer::from_bytes(lab::WRITER_TOKENIZER_JSON)?;
        let end = tokenizer.token_id(lab::WRITER_END);
        let end = end.ok_or_else(|| Error::internal(format!("the bundled tokenizer has no {}", lab::WRITER_END)))?;
        Ok(Self::new(&tokenizer, Specials { bos: Some(end), eos: Some(end), ..Specials::default() }))
    }

    /// From the header of a GGUF file.
    pub fn from_gguf(header: &GgufFile) -> Result<Self> {
        let (tokenizer, specials) = gguf::tokenizer(header)?;
        Ok(Self::from_parts(tokenizer, specials))
    }

    /// From a tokenizer and what is said besides it.
    pub fn new(tokenizer: &TextTokenizer, specials: Specials) -> Self {
        Self::from_parts(tokenizer.inner().clone(), specials)
    }

    fn from_parts(mut tokenizer: Tokenizer, mut specials: Specials) -> Self {
        // Start and end tokens come from the layout alone.
        tokenizer.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        specials.chat_template = specials.chat_template.filter(|template| !template.trim().is_empty());
        specials.stops.extend(specials.eos);
        let mut seen = BTreeSet::new();
        specials.stops.retain(|&id| seen.insert(id));
        let added = tokenizer.get_added_tokens_decoder();
        let mut special_ids: BTreeSet<u32> = specials.bos.into_iter().chain(specials.stops.iter().copied()).collect();
        // The map has no order of its own; sets do.
        let ids = |special: bool| added.iter().filter(move |(_, token)| !special || token.special).map(|(&id, _)| id);
        let added_ids: BTreeSet<u32> = ids(false).collect();
        special_ids.extend(ids(true));
        let byte_level = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let prefixes_space = prefixes_space(&tokenizer);
        Self {
            tokenizer: Arc::new(tokenizer),
            specials,
            special_ids: Arc::new(special_ids),
            added_ids: Arc::new(added_ids),
            prefixes_space,
            byte_level,
        }
    }

    /// The token that ends a text; an error where the model names none.
    pub fn require_eos(&self) -> Result<u32> {
        self.specials.eos.ok_or_else(|| {
            Error::format("the model's files name no end token; give eos_token in its tokenizer_config.json")
        })
    }

    /// Whether the start token goes before every text.
    pub fn add_bos(&self) -> bool {
        self.specials.add_bos && self.specials.bos.is_some()
    }

    /// Token ids of a text. Special tokens written out in it are recognised, no token is added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode_fast(text, false).map_err(|err| failed(&*err))?.get_ids().to_vec())
    }

    /// As [`TextCodec::encode`], with the bytes of the text that each token ends at.
    pub(super) fn encode_with_ends(&self, text: &str) -> Result<Vec<(u32, usize)>> {
        let encoding = self.tokenizer.encode(text, false).map_err(|err| failed(&*err))?;
        Ok(encoding.get_ids().iter().zip(encoding.get_offsets()).map(|(&id, &(_, end))| (id, end)).collect())
    }

    /// The text of these tokens, special ones written out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, false).map_err(|err| failed(&*err))
    }

    /// The text of these tokens without special ones: what a reader sees of a generated text.
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|err| failed(&*err))
    }

    /// Whether a token stands for something else than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// Whether a token is special, or was added to the vocabulary as a whole.
    pub fn is_added(&self, id: u32) -> bool {
        self.is_special(id) || self.added_ids.contains(&id)
    }

    /// Ids of the special tokens.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> {
        self.special_ids.iter().copied()
    }

    /// The piece of text that one token stands for. Bytes that are no whole character are written `<0xE2>`.
    pub fn piece(&self, id: u32) -> String {
        let Some(token) = self.tokenizer.id_to_token(id) else { return format!("<{id}>") };
        if self.is_added(id) {
            return token;
        }
        if !self.byte_level {
            return token.replace('\u{2581}', " ");
        }
        let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
        match bytes.map(String::from_utf8) {
            Some(Ok(text)) => text,
            Some(Err(err)) => err.into_bytes().iter().map(|byte| format!("<0x{byte:02X}>")).collect(),
            None => token,
        }
    }

    /// The token's text as it stands in the vocabulary; empty for an id that is not there.
    pub fn token(&self, id: u32) -> String {
        self.tokenizer.id_to_token(id).unwrap_or_default()
    }

    /// The largest id of the vocabulary without the tokens that were added to it: texts hold those only where they are
    /// written out, and a model may have no row for them.
    pub fn max_word_id(&self) -> u32 {
        self.tokenizer.get_vocab(false).into_values().max().unwrap_or(0)
    }

    /// The largest id that can come out; a model's embedding table needs at least one row more.
    pub fn max_id(&self) -> u32 {
        self.tokenizer.get_vocab(true).into_values().max().unwrap_or(0)
    }
}

/// The byte that a character of a byte-level vocabulary stands for: printable bytes stand for themselves, the others,
/// in order, for the characters from U+0100 on.
fn byte_of(c: char) -> Option<u8> {
    let itself = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match c as u32 {
        code if code < 0x100 => itself(code).then_some(code as u8),
        code => (0..=0xff).filter(|&byte| !itself(byte)).nth(code as usize - 0x100).map(|byte| byte as u8),
    }
}

fn prefixes_space(tokenizer: &Tokenizer) -> bool {
    let prepends = |normalizer: &NormalizerWrapper| matches!(normalizer, NormalizerWrapper::Prepend(_));
    let normalizer = match tokenizer.get_normalizer() {
        Some(NormalizerWrapper::Sequence(steps)) => steps.as_ref().iter().any(prepends),
        Some(other) => prepends(other),
        None => false,
    };
    let adds = |step: &PreTokenizerWrapper| match step {
        PreTokenizerWrapper::Metaspace(_) => true,
        PreTokenizerWrapper::ByteLevel(step) => step.add_prefix_space,
        _ => false,
    };
    let pre_tokenizer = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::Sequence(steps)) => steps.as_ref().iter().any(adds),
        Some(other) => adds(other),
        None => false,
    };
    normalizer || pre_tokenizer
}
