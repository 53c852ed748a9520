//! Sizes of known models. Weights are random; speed does not depend on them.

use crate::error::{Error, Result};
use crate::model::{DecoderSpec, EncoderSpec};

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// As `--shape` takes it.
    pub name: &'static str,
    /// `model_type` of its `config.json`.
    pub family: &'static str,
    /// L: layers.
    pub layers: usize,
    /// d: hidden size.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of the feed-forward block.
    pub inner: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Rows of the position table.
    pub positions: usize,
}

const fn shape(name: &'static str, family: &'static str, sizes: [usize; 6]) -> Shape {
    let [layers, hidden, heads, inner, vocabulary, positions] = sizes;
    Shape { name, family, layers, hidden, heads, kv_heads: heads, inner, vocabulary, positions }
}

/// All shapes by name: layers, hidden size, heads, feed-forward width, vocabulary, positions.
pub const SHAPES: [Shape; 7] = [
    shape("roberta-base", "roberta", [12, 768, 12, 3072, 50_265, 514]),
    shape("roberta-large", "roberta", [24, 1024, 16, 4096, 50_265, 514]),
    shape("distilroberta", "roberta", [6, 768, 12, 3072, 50_265, 514]),
    shape("bert-base", "bert", [12, 768, 12, 3072, 30_522, 512]),
    shape("minilm", "bert", [6, 384, 12, 1536, 30_522, 512]),
    shape("lab", "bert", [4, 128, 4, 512, 8_192, 128]),
    Shape { kv_heads: 3, ..shape("smollm2-135m", "llama", [30, 576, 9, 1536, 49_152, 8192]) },
];

/// The names `--shape` takes.
pub fn names() -> [&'static str; SHAPES.len()] {
    SHAPES.map(|shape| shape.name)
}

impl Shape {
    /// The shape of this name.
    pub fn by_name(name: &str) -> Result<Self> {
        SHAPES
            .into_iter()
            .find(|shape| shape.name == name)
            .ok_or_else(|| Error::config(format!("there is no shape {name:?}; choose one of {}", names().join(", "))))
    }

    /// Whether it is a language model's: LoRA in a decoder instead of adapters in an encoder.
    pub fn is_decoder(&self) -> bool {
        self.family == "llama"
    }

    /// Longest sequence.
    pub fn max_length(&self) -> Result<usize> {
        if self.is_decoder() { Ok(self.decoder_spec()?.max_length()) } else { Ok(self.spec()?.max_length()) }
    }

    /// As the `config.json` of a decoder would say it; its head is the embedding table.
    pub fn decoder_spec(&self) -> Result<DecoderSpec> {
        let json = serde_json::json!({
            "model_type": self.family, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "intermediate_size": self.inner,
            "vocab_size": self.vocabulary, "max_position_embeddings": self.positions, "rms_norm_eps": 1e-5,
            "rope_theta": 100_000.0, "tie_word_embeddings": true, "hidden_act": "silu",
        });
        DecoderSpec::from_json(&json.to_string())
    }

    /// As the `config.json` of an encoder would say it.
    pub fn spec(&self) -> Result<EncoderSpec> {
        let json = serde_json::json!({
            "model_type": self.family, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "intermediate_size": self.inner, "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
        });
        EncoderSpec::from_json(&json.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_a_model() {
        for shape in SHAPES {
            assert_eq!(Shape::by_name(shape.name).unwrap(), shape);
            if shape.is_decoder() {
                let spec = shape.decoder_spec().unwrap();
                assert_eq!((spec.num_layers, spec.num_kv_heads, spec.tied), (shape.layers, shape.kv_heads, true));
                continue;
            }
            let spec = shape.spec().unwrap();
            assert_eq!((spec.num_layers, spec.hidden_size % spec.num_heads), (shape.layers, 0), "{}", shape.name);
        }
        assert!(Shape::by_name("gpt").unwrap_err().to_string().contains("roberta-base"));
    }
}
