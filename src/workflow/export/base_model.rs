//! Base models as exports see them: their tensors, and what the files of other programs say of an architecture.

use crate::artifact::export::base::{BaseTensors, DecoderArchitecture};
use crate::artifact::json::read_config;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::model::decoder::rope::{RopeSpec, Scaling};
use crate::model::decoder::{DecoderFamily, DecoderSpec};
use crate::nn::kernels::Act;
use crate::tensor::gguf::{GgufFile, GgufValue, Metadata, NamingScheme};
use crate::tensor::{DType, Device, to_f32};
use serde_json::{Value, json};
use std::path::Path;

impl BaseTensors for Weights {
    fn names(&self) -> Vec<String> {
        Self::names(self).map(str::to_owned).collect()
    }
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Self::shape(self, name).map(<[usize]>::to_vec)
    }
    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        to_f32(&self.get(name, shape, DType::F32, &Device::Cpu)?)
    }
}

impl DecoderArchitecture for DecoderSpec {
    fn naming(&self) -> NamingScheme {
        self.family.naming()
    }
    fn prefix(&self) -> &'static str {
        self.family.prefix()
    }
    fn tied(&self) -> bool {
        self.tied
    }
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
    fn transformers_class(&self) -> &'static str {
        match self.family {
            DecoderFamily::Gpt2 => "GPT2LMHeadModel",
            DecoderFamily::Llama => "LlamaForCausalLM",
            DecoderFamily::Mistral => "MistralForCausalLM",
            DecoderFamily::Qwen2 => "Qwen2ForCausalLM",
            DecoderFamily::Qwen3 => "Qwen3ForCausalLM",
        }
    }
    fn config_json(&self, file: &Path) -> Result<Value> {
        let header = GgufFile::open(file)?;
        let eos = if let [one] = self.eos.as_slice() { json!(one) } else { json!(self.eos) };
        let mut config = match &self.rope {
            None => json!({
                "activation_function": "gelu_new",
                "n_embd": self.hidden_size,
                "n_head": self.num_heads,
                "n_inner": self.intermediate_size,
                "n_layer": self.num_layers,
                "n_positions": self.max_positions,
                "layer_norm_epsilon": self.norm_eps,
            }),
            Some(rope) => llama_config(&header, self, rope)?,
        };
        let common = json!({
            "model_type": self.family.model_type(),
            "vocab_size": self.vocab_size,
            "bos_token_id": self.bos,
            "eos_token_id": if self.eos.is_empty() { Value::Null } else { eos },
        });
        if let (Some(config), Value::Object(common)) = (config.as_object_mut(), common) {
            config.extend(common);
        }
        Ok(config)
    }
    fn gguf_architecture(&self) -> &'static str {
        self.family.gguf_architecture()
    }
    fn permuted_heads(&self, name: &str) -> Option<usize> {
        Self::permuted_heads(self, name)
    }
    fn gguf_metadata(&self, dir: &Path) -> Result<(Metadata, Option<Vec<f32>>)> {
        let config = read_config(&dir.join("config.json"))?;
        let architecture = self.family.gguf_architecture();
        let usual = if self.rope.is_some() { Act::Swish } else { Act::GeluTanh };
        if self.act != usual {
            return Err(Error::config(format!(
                "a GGUF file says nothing of the activation, and its readers take {usual:?} for this family, while this model has {:?}; export it as hf instead",
                self.act
            )));
        }
        let mut entries = Metadata::new();
        let mut put = |key: &str, value: GgufValue| entries.push((format!("{architecture}.{key}"), value));
        put("block_count", GgufValue::from(self.num_layers));
        put("context_length", GgufValue::from(self.max_positions));
        put("embedding_length", GgufValue::from(self.hidden_size));
        put("feed_forward_length", GgufValue::from(self.intermediate_size));
        put("attention.head_count", GgufValue::from(self.num_heads));
        let mut factors = None;
        if let Some(rope) = &self.rope {
            put("attention.head_count_kv", GgufValue::from(self.num_kv_heads));
            put("attention.layer_norm_rms_epsilon", GgufValue::Float(self.norm_eps));
            put("attention.key_length", GgufValue::from(self.head_dim));
            put("attention.value_length", GgufValue::from(self.head_dim));
            put("rope.dimension_count", GgufValue::from(self.head_dim));
            put("vocab_size", GgufValue::from(self.vocab_size));
            if let Some(window) = self.sliding_window {
                put("attention.sliding_window", GgufValue::from(window));
            }
            let inside = if config["rope_parameters"].is_object() {
                &config["rope_parameters"]
            } else {
                &config["rope_scaling"]
            };
            let theta = inside["rope_theta"].as_f64().or_else(|| config["rope_theta"].as_f64()).unwrap_or(10_000.0);
            put("rope.freq_base", GgufValue::Float(theta));
            match inside["rope_type"].as_str().or_else(|| inside["type"].as_str()) {
                Some("linear") => {
                    put("rope.scaling.type", "linear".into());
                    put("rope.scaling.factor", GgufValue::Float(inside["factor"].as_f64().unwrap_or(1.0)));
                }
                Some("llama3") => {
                    let plain = RopeSpec::new(theta, self.head_dim, Scaling::None).frequencies;
                    let stretch =
                        plain.iter().zip(&rope.frequencies).map(|(plain, ours)| plain / ours).collect::<Vec<f32>>();
                    factors = Some(stretch);
                }
                _ => {}
            }
        } else {
            put("attention.layer_norm_epsilon", GgufValue::Float(self.norm_eps));
        }
        Ok((entries, factors))
    }
}

fn llama_config(header: &GgufFile, spec: &DecoderSpec, rope: &RopeSpec) -> Result<Value> {
    let architecture = header.str("general.architecture").unwrap_or("llama");
    let theta = header.float(&format!("{architecture}.rope.freq_base")).unwrap_or(10_000.0);
    let mut config = json!({
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": spec.max_positions,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": theta,
        "rope_scaling": scaling(theta, spec.head_dim, rope)?,
    });
    match spec.family {
        DecoderFamily::Llama => {
            config["attention_bias"] = json!(spec.biases.qkv);
            config["mlp_bias"] = json!(spec.biases.ffn);
        }
        DecoderFamily::Mistral => config["sliding_window"] = json!(spec.sliding_window),
        _ if spec.sliding_window.is_some() => {
            return Err(Error::config("the base's sliding window cannot be written to config.json from a GGUF file"));
        }
        _ => {}
    }
    Ok(config)
}

/// The scaling that makes these frequencies: none, linear, or Llama 3's with its published constants.
fn scaling(theta: f64, head_dim: usize, rope: &RopeSpec) -> Result<Value> {
    let plain = RopeSpec::new(theta, head_dim, Scaling::None);
    let stretched = |i: usize| f64::from(plain.frequencies[i]) / f64::from(rope.frequencies[i]);
    let pairs = 0..plain.frequencies.len().min(rope.frequencies.len());
    let factor = pairs.map(stretched).fold(1.0, f64::max);
    let factor = (factor * 1e4).round() / 1e4;
    let near = |other: &RopeSpec| {
        let pairs = other.frequencies.iter().zip(&rope.frequencies);
        pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs())
    };
    if near(&plain) {
        return Ok(Value::Null);
    }
    if near(&RopeSpec::new(theta, head_dim, Scaling::Linear(factor))) {
        return Ok(json!({ "rope_type": "linear", "factor": factor }));
    }
    let (low, high, original) = (1.0, 4.0, 8192.0);
    if near(&RopeSpec::new(theta, head_dim, Scaling::Llama3 { factor, low, high, original })) {
        return Ok(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        }));
    }
    Err(Error::config(
        "the base's rotary frequencies are of no known kind, so they cannot be written to config.json; export as GGUF instead",
    ))
}
