//! `config.json` of the decoder families: every field that changes the result is honoured or refused by name.

use super::rope::RopeSpec;
use crate::error::{Context as _, Error, Result};
use crate::model::spec::{NEVER, OnlyValue, activation, divided, name, number, parse, rate, refuse_others, size, text};
use crate::nn::Act;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which family a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderFamily {
    /// GPT-2: learned positions, LayerNorm, biases everywhere, weights stored input-major.
    Gpt2,
    /// Llama 2 and 3, SmolLM2: rotary positions, RMSNorm, gated feed-forward block, grouped keys.
    Llama,
    /// As Llama, with a sliding window.
    Mistral,
    /// As Llama, with biases on q, k and v.
    Qwen2,
    /// As Llama, with normalised queries and keys.
    Qwen3,
}

impl DecoderFamily {
    /// Prefix of the base model's tensors in a file with a language-model head.
    pub fn prefix(self) -> &'static str {
        if self == Self::Gpt2 { "transformer" } else { "model" }
    }
    /// As `config.json` calls it.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
    /// The family of a `model_type`, if it is one of these.
    pub fn of(model_type: &str) -> Option<Self> {
        [Self::Gpt2, Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3]
            .into_iter()
            .find(|family| family.model_type() == model_type)
    }
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// q, k and v.
    pub qkv: bool,
    /// Attention's output.
    pub out: bool,
    /// The feed-forward block.
    pub ffn: bool,
}

/// Dropout rates in training; GPT-2 has them, most others have none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DropRates {
    /// Of the embeddings.
    pub embedding: f64,
    /// Of attention probabilities.
    pub attention: f64,
    /// Of what is added to the residual stream.
    pub residual: f64,
}

/// A decoder's shape and constants.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Family.
    pub family: DecoderFamily,
    /// d: hidden size.
    pub hidden_size: usize,
    /// L: layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads: a divisor of `num_heads`.
    pub num_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Positions the model was made for.
    pub max_positions: usize,
    /// Keys a token sees in a layer with a sliding window; sequences may not be longer.
    pub sliding_window: Option<usize>,
    /// Nonlinearity of the feed-forward block.
    pub act: Act,
    /// ε of the normalisations.
    pub norm_eps: f64,
    /// Which linear layers have a bias.
    pub biases: Biases,
    /// Whether queries and keys are normalised head by head.
    pub qk_norm: bool,
    /// Rotary positions; absent: a learned table.
    pub rope: Option<RopeSpec>,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// Dropout in training.
    pub drop: DropRates,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Token that starts a text, if the model has one.
    pub bos: Option<u32>,
    /// Name or path the directory says it came from.
    pub name: Option<String>,
}

impl DecoderSpec {
    /// Reads `config.json`.
    pub fn from_json(config: &str) -> Result<Self> {
        let json = parse(config)?;
        let kind = text(&json, "model_type").unwrap_or_default();
        let Some(family) = DecoderFamily::of(kind) else {
            return Err(Error::config(format!(
                "model type {kind:?} is not supported; choose a GPT-2, Llama, Mistral, Qwen2 or Qwen3 model"
            )));
        };
        refuse_others(&json, &NEVER, CHOOSE)?;
        refuse_others(&json, &ONLY_VALUES, CHOOSE)?;
        let spec = read(family, &json)?;
        spec.check().context("config.json")?;
        Ok(spec)
    }

    /// Columns of q, k and v side by side.
    pub fn qkv_width(&self) -> usize {
        (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
    }

    /// Longest sequence: the positions the model was made for, or its sliding window where that is shorter.
    pub fn max_length(&self) -> usize {
        self.sliding_window.map_or(self.max_positions, |window| window.min(self.max_positions))
    }

    /// Whether the feed-forward block is gated.
    pub fn gated(&self) -> bool {
        self.family != DecoderFamily::Gpt2
    }

    /// Parameters of the base model that each token passes through: the GEMM weights of the layers.
    pub fn matmul_parameters(&self) -> usize {
        let (d, f, q) = (self.hidden_size, self.intermediate_size, self.num_heads * self.head_dim);
        self.num_layers * (d * self.qkv_width() + q * d + d * f * if self.gated() { 3 } else { 2 })
    }

    /// Refuses sizes that do not fit together.
    pub(in crate::model) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::format(what));
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            return wrong(format!(
                "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                self.num_heads, self.num_kv_heads
            ));
        }
        if self.rope.is_some() && !self.head_dim.is_multiple_of(2) {
            return wrong(format!("head_dim {} is odd, but rotary positions need pairs", self.head_dim));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return wrong(format!("the normalisations' epsilon is {}, expected a small number above 0", self.norm_eps));
        }
        Ok(())
    }
}

fn flag(json: &Value, key: &str, default: bool) -> Result<bool> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| Error::format(format!("config.json: {key} is {value}, expected true or false"))),
    }
}

fn optional_size(json: &Value, key: &str) -> Result<Option<usize>> {
    if number(json, key)?.is_some() { size(json, key).map(Some) } else { Ok(None) }
}

/// One token id or a list of them.
fn tokens(json: &Value, key: &str) -> Result<Vec<u32>> {
    let bad = |value: &Value| Error::format(format!("config.json: {key} is {value}, expected token ids"));
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| bad(value));
    match json.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

fn read(family: DecoderFamily, json: &Value) -> Result<DecoderSpec> {
    let gpt2 = family == DecoderFamily::Gpt2;
    // Names of the same fields in both kinds of files.
    let [width, layers, heads, positions, activation_key, epsilon] = if gpt2 {
        ["n_embd", "n_layer", "n_head", "n_positions", "activation_function", "layer_norm_epsilon"]
    } else {
        [
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "max_position_embeddings",
            "hidden_act",
            "rms_norm_eps",
        ]
    };
    let (hidden_size, num_heads) = (size(json, width)?, size(json, heads)?);
    let head_dim = match (optional_size(json, "head_dim")?, family) {
        (Some(head_dim), _) if !gpt2 => head_dim,
        // Qwen3 fixes the width of a head apart from the hidden size.
        (_, DecoderFamily::Qwen3) => 128,
        _ => divided(hidden_size, num_heads)?,
    };
    let num_kv_heads = match (optional_size(json, "num_key_value_heads")?, family) {
        (_, DecoderFamily::Gpt2) => num_heads,
        (Some(heads), _) => heads,
        (None, DecoderFamily::Llama) => num_heads,
        (None, DecoderFamily::Mistral) => 8,
        (None, DecoderFamily::Qwen2 | DecoderFamily::Qwen3) => 32,
    };
    let attention_bias = flag(json, "attention_bias", false)?;
    let biases = match family {
        DecoderFamily::Gpt2 => Biases { qkv: true, out: true, ffn: true },
        DecoderFamily::Qwen2 => Biases { qkv: true, ..Biases::default() },
        DecoderFamily::Mistral => Biases::default(),
        _ => Biases { qkv: attention_bias, out: attention_bias, ffn: flag(json, "mlp_bias", false)? },
    };
    let drop = if gpt2 {
        DropRates {
            embedding: rate(json, "embd_pdrop", 0.1)?,
            attention: rate(json, "attn_pdrop", 0.1)?,
            residual: rate(json, "resid_pdrop", 0.1)?,
        }
    } else {
        DropRates { attention: rate(json, "attention_dropout", 0.0)?, ..DropRates::default() }
    };
    let intermediate_size = match optional_size(json, "n_inner")? {
        inner if gpt2 => inner.unwrap_or(4 * hidden_size),
        _ => size(json, "intermediate_size")?,
    };
    let act = text(json, activation_key).unwrap_or(if gpt2 { "gelu_new" } else { "silu" });
    Ok(DecoderSpec {
        family,
        hidden_size,
        num_layers: size(json, layers)?,
        num_heads,
        num_kv_heads,
        head_dim,
        intermediate_size,
        vocab_size: size(json, "vocab_size")?,
        max_positions: size(json, positions)?,
        sliding_window: sliding_window(family, json)?,
        act: activation(activation_key, act)?,
        norm_eps: number(json, epsilon)?.unwrap_or(if gpt2 { 1e-5 } else { 1e-6 }),
        biases,
        qk_norm: family == DecoderFamily::Qwen3,
        rope: if gpt2 { None } else { Some(RopeSpec::from_json(json, head_dim)?) },
        tied: flag(json, "tie_word_embeddings", gpt2)?,
        drop,
        eos: tokens(json, "eos_token_id")?,
        bos: tokens(json, "bos_token_id")?.first().copied(),
        name: name(json),
    })
}

/// The shortest window of any layer. The Qwens name one that is off unless another field says so.
fn sliding_window(family: DecoderFamily, json: &Value) -> Result<Option<usize>> {
    let by_layer = json.get("layer_types").and_then(Value::as_array);
    if let Some(layers) = by_layer
        && let Some(other) =
            layers.iter().find(|kind| !matches!(kind.as_str(), Some("full_attention" | "sliding_attention")))
    {
        return Err(Error::config(format!("config.json: layer_types with {other} is not supported; {CHOOSE}")));
    }
    let on = match (family, by_layer) {
        (DecoderFamily::Llama | DecoderFamily::Gpt2, _) => false,
        (_, Some(layers)) => layers.iter().any(|kind| kind.as_str() == Some("sliding_attention")),
        (DecoderFamily::Mistral, None) => true,
        (_, None) => flag(json, "use_sliding_window", false)?,
    };
    match json.get("sliding_window") {
        _ if !on => Ok(None),
        // What these families take where nothing is said; null says that there is none.
        None => Ok(Some(4096)),
        Some(_) => optional_size(json, "sliding_window"),
    }
}

const CHOOSE: &str = "choose a plain model of its family";

/// Of decoders: among them multipliers of relatives of Llama that would change the result silently.
const ONLY_VALUES: [OnlyValue; 11] = [
    ("scale_attn_weights", "true", "scores without 1 / √head_dim"),
    ("scale_attn_by_inverse_layer_idx", "false", "scores divided by the number of the layer"),
    ("num_local_experts", "0", "a mixture of feed-forward experts"),
    ("num_experts", "0", "a mixture of feed-forward experts"),
    ("partial_rotary_factor", "1", "rotary positions on a part of each head"),
    ("attention_multiplier", "1", "scaled scores"),
    ("embedding_multiplier", "1", "scaled embeddings"),
    ("residual_multiplier", "1", "a scaled residual"),
    ("logits_scaling", "1", "scaled logits"),
    ("attn_logit_softcapping", "null", "capped scores"),
    ("final_logit_softcapping", "null", "capped logits"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn llama() -> Value {
        json!({"model_type": "llama", "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
            "num_hidden_layers": 2, "intermediate_size": 24, "vocab_size": 40, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": [2, 3]})
    }

    fn gpt2() -> Value {
        json!({"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 2, "n_positions": 32, "vocab_size": 40})
    }

    fn read(mut json: Value, changes: &[(&str, Value)]) -> Result<DecoderSpec> {
        for (key, value) in changes {
            json[*key] = value.clone();
        }
        DecoderSpec::from_json(&json.to_string())
    }

    #[test]
    fn reads_each_family() {
        let spec = read(llama(), &[]).unwrap();
        assert_eq!((spec.head_dim, spec.num_kv_heads, spec.qkv_width()), (4, 2, 32));
        assert_eq!((spec.tied, spec.eos.clone(), spec.max_length()), (true, vec![2, 3], 64));
        assert_eq!(spec.biases, Biases::default());
        let qwen2 = read(llama(), &[("model_type", "qwen2".into()), ("sliding_window", 8.into())]).unwrap();
        assert_eq!((qwen2.biases.qkv, qwen2.biases.out, qwen2.sliding_window), (true, false, None));
        let qwen3 = read(llama(), &[("model_type", "qwen3".into())]).unwrap();
        assert!(qwen3.qk_norm && qwen3.head_dim == 128);
        let gpt2 = read(gpt2(), &[]).unwrap();
        assert_eq!((gpt2.intermediate_size, gpt2.tied, gpt2.act, gpt2.rope.is_none()), (64, true, Act::GeluTanh, true));
    }

    #[test]
    fn a_sliding_window_limits_the_length() {
        let mistral = |window: Value| read(llama(), &[("model_type", "mistral".into()), ("sliding_window", window)]);
        assert_eq!(mistral(12.into()).unwrap().max_length(), 12);
        assert_eq!(mistral(4096.into()).unwrap().max_length(), 64);
        assert_eq!(mistral(Value::Null).unwrap().sliding_window, None);
        let silent = read(llama(), &[("model_type", "mistral".into()), ("max_position_embeddings", 8192.into())]);
        assert_eq!(silent.unwrap().max_length(), 4096, "Mistral has a window unless it says null");
        let layers = json!(["full_attention", "sliding_attention"]);
        let on = [("model_type", "qwen3".into()), ("layer_types", layers), ("sliding_window", 9.into())];
        assert_eq!(read(llama(), &on).unwrap().max_length(), 9);
    }

    #[test]
    fn refuses_what_it_cannot_compute() {
        let cases: [(Value, &str, Value, &str); 15] = [
            (llama(), "model_type", "mixtral".into(), "mixtral"),
            (llama(), "num_key_value_heads", 3.into(), "num_key_value_heads"),
            (llama(), "hidden_act", "mish".into(), "hidden_act"),
            (llama(), "rope_scaling", json!({"rope_type": "yarn", "factor": 2.0}), "yarn"),
            (llama(), "partial_rotary_factor", 0.5.into(), "partial_rotary_factor"),
            (llama(), "quantization_config", json!({"bits": 4}), "quantization_config"),
            (llama(), "num_local_experts", 8.into(), "num_local_experts"),
            (llama(), "logits_scaling", 8.0.into(), "logits_scaling"),
            (llama(), "vocab_size", Value::Null, "vocab_size"),
            (llama(), "eos_token_id", "end".into(), "eos_token_id"),
            (llama(), "layer_types", json!(["linear_attention"]), "layer_types"),
            (gpt2(), "scale_attn_weights", false.into(), "scale_attn_weights"),
            (gpt2(), "scale_attn_by_inverse_layer_idx", true.into(), "scale_attn_by_inverse_layer_idx"),
            (gpt2(), "add_cross_attention", true.into(), "add_cross_attention"),
            (gpt2(), "n_head", 5.into(), "heads"),
        ];
        for (base, key, value, word) in cases {
            let err = read(base, &[(key, value)]).unwrap_err().to_string();
            assert!(err.contains(word), "{key}: {err}");
        }
    }
}
