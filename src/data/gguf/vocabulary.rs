//! The vocabulary inside a GGUF file: tokens, their types, their scores or merges.

use crate::error::{Error, Result};
use crate::tensor::gguf::GgufFile;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Types of tokens by their number in the format.
pub(super) mod token_type {
    pub const NORMAL: i64 = 1;
    pub const UNKNOWN: i64 = 2;
    pub const CONTROL: i64 = 3;
    pub const USER_DEFINED: i64 = 4;
    pub const UNUSED: i64 = 5;
    pub const BYTE: i64 = 6;
}

/// The longest token in bytes: every way to split a token in two is tried.
const MAX_TOKEN: usize = 4096;

/// Tokens and their types.
pub(super) struct Vocabulary<'a> {
    /// By id.
    pub tokens: &'a [String],
    types: Option<&'a [i64]>,
    /// Ids the file names for a purpose: start, end, unknown, padding.
    named: Vec<usize>,
}

impl<'a> Vocabulary<'a> {
    pub fn of(file: &'a GgufFile) -> Result<Self> {
        let tokens = file
            .strings("tokenizer.ggml.tokens")
            .filter(|tokens| !tokens.is_empty())
            .ok_or_else(|| Error::format("it has no tokens; choose a model that brings its tokenizer"))?;
        if let Some(id) = tokens.iter().position(|token| token.len() > MAX_TOKEN) {
            let bytes = tokens[id].len();
            return Err(Error::format(format!("token {id} has {bytes} bytes, and {MAX_TOKEN} are possible")));
        }
        let types = file.ints("tokenizer.ggml.token_type");
        if let Some(types) = types.filter(|types| types.len() != tokens.len()) {
            return Err(Error::format(format!("it has {} tokens but {} token types", tokens.len(), types.len())));
        }
        let mut named = Vec::new();
        for purpose in ["bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "separator", "mask"] {
            let key = format!("tokenizer.ggml.{purpose}_token_id");
            let Some(id) = file.uint(&key) else { continue };
            match usize::try_from(id).ok().filter(|&id| id < tokens.len()) {
                Some(id) => named.push(id),
                // Some converters write the largest number for "none".
                None if id == u64::from(u32::MAX) => {}
                None => return Err(Error::format(format!("{key} is {id}, and there are {} tokens", tokens.len()))),
            }
        }
        Ok(Self { tokens, types, named })
    }

    /// Its type; a file without types has only the tokens that it names besides normal ones.
    fn kind(&self, id: usize) -> i64 {
        match self.types {
            Some(types) => types[id],
            None if self.named.contains(&id) => token_type::CONTROL,
            None => token_type::NORMAL,
        }
    }

    /// Tokens to ids, as a `tokenizer.json` has them; where a token is there twice, the first counts.
    pub fn ids(&self) -> BTreeMap<&'a str, usize> {
        self.tokens.iter().enumerate().rev().map(|(id, token)| (token.as_str(), id)).collect()
    }

    /// The tokens that are found in a text before anything else happens, as a `tokenizer.json` has them.
    pub fn added(&self) -> Vec<Value> {
        let found = (0..self.tokens.len()).filter_map(|id| {
            let special = match self.kind(id) {
                token_type::CONTROL | token_type::UNKNOWN => true,
                token_type::USER_DEFINED => false,
                _ => return None,
            };
            Some(json!({
                "id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special,
            }))
        });
        found.filter(|token| token["content"] != "").collect()
    }

    /// The unknown token, if there is one.
    pub fn unknown(&self, file: &GgufFile) -> Option<&'a str> {
        let named = file.uint("tokenizer.ggml.unknown_token_id").and_then(|id| self.tokens.get(id as usize));
        let typed = || (0..self.tokens.len()).find(|&id| self.kind(id) == token_type::UNKNOWN);
        named.or_else(|| typed().map(|id| &self.tokens[id])).map(String::as_str)
    }

    /// Whether there is a token for every byte.
    pub fn has_all_bytes(&self) -> bool {
        let ids = self.ids();
        (0..=255u8).all(|byte| {
            ids.get(format!("<0x{byte:02X}>").as_str())
                .is_some_and(|&id| self.types.is_none() || self.kind(id) == token_type::BYTE)
        })
    }

    /// The merges of byte-level BPE, each as a pair of tokens.
    pub fn merges(&self, file: &'a GgufFile) -> Result<Vec<[&'a str; 2]>> {
        let lines = file
            .strings("tokenizer.ggml.merges")
            .ok_or_else(|| Error::format("it has no merges; choose a model that brings its whole tokenizer"))?;
        let pair = |line: &'a String| {
            // The first character may itself be a space.
            let first = line.chars().next().map_or(0, char::len_utf8);
            let space = line.get(first..).and_then(|rest| rest.find(' ')).map(|at| at + first);
            space
                .map(|space| [&line[..space], &line[space + 1..]])
                .filter(|pair| pair.iter().all(|part| !part.is_empty()))
        };
        let merges = lines.iter().enumerate().map(|(number, line)| {
            pair(line).ok_or_else(|| Error::format(format!("merge {number} is {line:?}, not two tokens")))
        });
        merges.collect()
    }

    /// The merges that make BPE do what SentencePiece does, which always joins the two neighbours whose union has the
    /// highest score: every split of every token, ranked by the token's score.
    pub fn merges_from_scores(&self, file: &GgufFile) -> Result<Vec<[&'a str; 2]>> {
        let scores = file
            .floats("tokenizer.ggml.scores")
            .filter(|scores| scores.len() == self.tokens.len())
            .ok_or_else(|| Error::format("it has no score for each token; choose a model that brings its tokenizer"))?;
        let ids = self.ids();
        let joins = |id: usize| ids.get(self.tokens[id].as_str()) == Some(&id) && self.kind(id) == token_type::NORMAL;
        let mut merges: Vec<(f32, [&'a str; 2])> = Vec::new();
        for id in (0..self.tokens.len()).filter(|&id| joins(id)) {
            let token = self.tokens[id].as_str();
            for (at, _) in token.char_indices().skip(1) {
                let parts = [&token[..at], &token[at..]];
                if parts.iter().all(|part| ids.get(part).is_some_and(|&id| joins(id))) {
                    merges.push((scores[id], parts));
                }
            }
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(merges.into_iter().map(|(_, parts)| parts).collect())
    }
}
