//! What the headers of model files say, for lists of stored models and before downloads.

use super::decoder::DecoderFamily;
use super::{DecoderSpec, EncoderSpec, Family, LmSource, Weights};
use crate::error::Result;
use crate::model_store::{ModelKind, ModelReader};
use std::path::Path;

/// Tells the model store which models can be used here.
pub struct HeaderReader;

impl ModelReader for HeaderReader {
    fn config(&self, config_json: &str) -> Result<(String, ModelKind)> {
        if LmSource::reads(config_json) {
            return Ok((decoder_name(DecoderSpec::from_json(config_json)?.family), ModelKind::Decoder));
        }
        let family = match EncoderSpec::from_json(config_json)?.family {
            Family::Bert => "BERT",
            Family::Roberta => "RoBERTa",
        };
        Ok((family.to_owned(), ModelKind::Encoder))
    }

    fn parameters(&self, dir: &Path) -> Result<u64> {
        let weights = Weights::open(dir)?;
        let size = |name: &str| weights.shape(name).map_or(0, |shape| shape.iter().map(|&n| n as u64).product());
        Ok(weights.names().map(size).sum())
    }

    fn gguf_family(&self, architecture: &str) -> Option<String> {
        DecoderFamily::of(architecture).map(decoder_name)
    }
}

fn decoder_name(family: DecoderFamily) -> String {
    match family.model_type() {
        "gpt2" => "GPT-2".to_owned(),
        other => {
            let mut letters = other.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        }
    }
}
