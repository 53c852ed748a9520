//! `config.json` of the encoder families: every field that changes the result is honoured or refused.

use crate::error::{Error, Result};
use crate::nn::Act;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which family a directory holds. DistilRoBERTa, XLM-R and MiniLM are these with other sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// BERT: segments, pooler, positions from 0.
    Bert,
    /// RoBERTa: no segments, head with its own dense layer, positions after the padding id.
    Roberta,
}

impl Family {
    /// Prefix of the base model's tensors in a file with a head.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
        }
    }
}

/// An encoder's shape and constants.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderSpec {
    /// Family.
    pub family: Family,
    /// d: hidden size.
    pub hidden_size: usize,
    /// L: layers.
    pub num_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Rows of the position table.
    pub max_positions: usize,
    /// Rows of the segment table.
    pub type_vocab_size: usize,
    /// First position id: 0 for BERT, padding id + 1 for RoBERTa.
    pub position_offset: usize,
    /// Nonlinearity of the feed-forward block.
    pub act: Act,
    /// ε of the layer normalisations.
    pub layer_norm_eps: f64,
    /// Dropout of hidden states in training.
    pub hidden_dropout: f64,
    /// Dropout of attention probabilities in training.
    pub attention_dropout: f64,
    /// Dropout in the head in training.
    pub head_dropout: f64,
    /// Name or path the directory says it came from.
    pub name: Option<String>,
}

/// The JSON of `config.json`.
pub(super) fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|err| Error::format(format!("config.json is not valid JSON: {err}")))
}

pub(super) fn number(json: &Value, key: &str) -> Result<Option<f64>> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| unexpected(key, value, "a number")),
    }
}

fn unexpected(key: &str, value: impl std::fmt::Display, expected: &str) -> Error {
    Error::format(format!("config.json: {key} is {value}, expected {expected}"))
}

pub(super) fn size(json: &Value, key: &str) -> Result<usize> {
    let value = number(json, key)?.ok_or_else(|| {
        Error::format(format!("config.json: {key} is missing; is this a complete Hugging Face directory?"))
    })?;
    if value.fract() != 0.0 || !(1.0..=1e9).contains(&value) {
        return Err(unexpected(key, value, "a whole number of at least 1"));
    }
    Ok(value as usize)
}

pub(super) fn rate(json: &Value, key: &str, default: f64) -> Result<f64> {
    let value = number(json, key)?.unwrap_or(default);
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err(unexpected(key, value, "at least 0 and below 1")) }
}

pub(super) fn text<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Value::as_str)
}

/// Width of a head.
pub(super) fn divided(hidden_size: usize, heads: usize) -> Result<usize> {
    if hidden_size.is_multiple_of(heads) {
        return Ok(hidden_size / heads);
    }
    Err(Error::format(format!("config.json: the hidden size {hidden_size} is not a multiple of the {heads} heads")))
}

/// Name or path the directory says it came from.
pub(super) fn name(json: &Value) -> Option<String> {
    text(json, "_name_or_path").filter(|name| !name.is_empty()).map(str::to_owned)
}

/// A setting with the only value that is computed here (as JSON; null and an absent one always are), and what another one
/// would mean.
pub(super) type OnlyValue = (&'static str, &'static str, &'static str);

/// What no supported model has: weights of another kind, or a second input.
pub(super) const NEVER: [OnlyValue; 4] = [
    ("add_cross_attention", "false", "attention to a second input"),
    ("is_encoder_decoder", "false", "an encoder and a decoder in one"),
    ("quantization_config", "null", "a quantised checkpoint"),
    ("pruned_heads", "{}", "heads that were taken out"),
];

/// Refuses settings with other values; `choose`: what to do then.
pub(super) fn refuse_others(json: &Value, settings: &[OnlyValue], choose: &str) -> Result<()> {
    for &(key, only, meaning) in settings {
        let Some(value) = json.get(key).filter(|value| !value.is_null()) else { continue };
        let same_number = value.as_f64().is_some_and(|value| only.parse() == Ok(value));
        let written = value.to_string();
        if !same_number && written != only {
            let message = format!("config.json: {key} = {written} is not supported ({meaning}); {choose}");
            return Err(Error::config(message));
        }
    }
    Ok(())
}

impl EncoderSpec {
    /// Reads `config.json`.
    pub fn from_json(config: &str) -> Result<Self> {
        let json = parse(config)?;
        let family = match text(&json, "model_type") {
            Some("bert") => Family::Bert,
            Some("roberta" | "xlm-roberta" | "camembert") => Family::Roberta,
            Some(other) => {
                return Err(Error::config(format!(
                    "model type {other:?} is not supported; choose a BERT or RoBERTa encoder"
                )));
            }
            None => return Err(Error::format("config.json: model_type is missing; choose a BERT or RoBERTa encoder")),
        };
        refuse_others(&json, &NEVER, CHOOSE)?;
        refuse_others(&json, &ONLY_VALUES, CHOOSE)?;
        let hidden_size = size(&json, "hidden_size")?;
        if number(&json, "embedding_size")?.is_some_and(|width| width != hidden_size as f64) {
            let message = format!("config.json: an embedding_size other than hidden_size is not supported; {CHOOSE}");
            return Err(Error::config(message));
        }
        let num_heads = size(&json, "num_attention_heads")?;
        divided(hidden_size, num_heads)?;
        let pad = number(&json, "pad_token_id")?.unwrap_or(if family == Family::Roberta { 1.0 } else { 0.0 });
        let hidden_dropout = rate(&json, "hidden_dropout_prob", 0.1)?;
        let max_positions = size(&json, "max_position_embeddings")?;
        let position_offset = if family == Family::Roberta { pad as usize + 1 } else { 0 };
        if position_offset >= max_positions {
            return Err(Error::format(format!(
                "config.json: max_position_embeddings {max_positions} leaves no position after the padding id"
            )));
        }
        let eps = number(&json, "layer_norm_eps")?.unwrap_or(1e-12);
        if !(eps > 0.0 && eps < 1.0) {
            return Err(unexpected("layer_norm_eps", eps, "a small number above 0"));
        }
        Ok(Self {
            family,
            hidden_size,
            num_layers: size(&json, "num_hidden_layers")?,
            num_heads,
            intermediate_size: size(&json, "intermediate_size")?,
            vocab_size: size(&json, "vocab_size")?,
            max_positions,
            type_vocab_size: number(&json, "type_vocab_size")?
                .map_or(if family == Family::Bert { 2 } else { 1 }, |n| n as usize),
            position_offset,
            act: activation("hidden_act", text(&json, "hidden_act").unwrap_or("gelu"))?,
            layer_norm_eps: eps,
            hidden_dropout,
            attention_dropout: rate(&json, "attention_probs_dropout_prob", 0.1)?,
            head_dropout: rate(&json, "classifier_dropout", hidden_dropout)?,
            name: name(&json),
        })
    }

    /// Longest sequence the position table allows.
    pub fn max_length(&self) -> usize {
        self.max_positions - self.position_offset
    }

    /// Parameters of the base model that each token passes through: the GEMM weights. Cost of a frozen step: 4 FLOPs each per token.
    pub fn matmul_parameters(&self) -> usize {
        self.num_layers * (4 * self.hidden_size * self.hidden_size + 2 * self.hidden_size * self.intermediate_size)
    }
}

pub(super) fn activation(key: &str, name: &str) -> Result<Act> {
    Ok(match name {
        "gelu" | "gelu_python" => Act::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Act::GeluTanh,
        "relu" => Act::Relu,
        "silu" | "swish" => Act::Swish,
        other => {
            return Err(Error::config(format!(
                "config.json: {key} {other:?} is not supported; known are gelu, gelu_new, relu and silu"
            )));
        }
    })
}

const CHOOSE: &str = "choose a plain BERT or RoBERTa encoder";

/// Of encoders.
const ONLY_VALUES: [OnlyValue; 2] = [
    ("position_embedding_type", "\"absolute\"", "positions in the attention"),
    ("is_decoder", "false", "attention to earlier tokens alone"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{"model_type":"roberta","hidden_size":8,"num_attention_heads":2,"num_hidden_layers":1,
        "intermediate_size":16,"vocab_size":10,"max_position_embeddings":20,"pad_token_id":1,"type_vocab_size":1}"#;

    fn with(key: &str, value: Value) -> Result<EncoderSpec> {
        let mut json: Value = serde_json::from_str(BASE).unwrap();
        json[key] = value;
        EncoderSpec::from_json(&json.to_string())
    }

    #[test]
    fn reads_a_roberta() {
        let spec = EncoderSpec::from_json(BASE).unwrap();
        assert_eq!((spec.family, spec.position_offset, spec.max_length()), (Family::Roberta, 2, 18));
        assert_eq!(with("classifier_dropout", 0.3.into()).unwrap().head_dropout, 0.3);
        assert_eq!(with("hidden_act", "gelu_new".into()).unwrap().act, Act::GeluTanh);
    }

    #[test]
    fn refuses_what_it_cannot_compute() {
        let cases: [(&str, Value, &str); 9] = [
            ("model_type", "deberta".into(), "deberta"),
            ("position_embedding_type", "relative_key".into(), "relative_key"),
            ("is_decoder", true.into(), "is_decoder"),
            ("pruned_heads", serde_json::json!({"0": [1]}), "pruned_heads"),
            ("hidden_act", "mish".into(), "mish"),
            ("num_attention_heads", 3.into(), "multiple"),
            ("hidden_size", Value::Null, "hidden_size"),
            ("layer_norm_eps", 0.into(), "layer_norm_eps"),
            ("hidden_dropout_prob", 1.5.into(), "hidden_dropout_prob"),
        ];
        for (key, value, word) in cases {
            let err = with(key, value).unwrap_err().to_string();
            assert!(err.contains(word), "{key}: {err}");
        }
        assert!(EncoderSpec::from_json("{").unwrap_err().to_string().contains("not valid JSON"));
    }
}
