//! A decoder's shape from the metadata of a GGUF file: every key of the architecture is honoured or refused by name.

use crate::error::{Context as _, Error, Result};
use crate::model::decoder::rope::{RopeSpec, Scaling};
use crate::model::decoder::spec::{Biases, DropRates};
use crate::model::decoder::{DecoderFamily, DecoderSpec};
use crate::nn::Act;
use crate::tensor::gguf::{GgufFile, GgufValue};

/// No size of a model is larger.
const LARGEST: u64 = 1 << 24;
/// Keys of the architecture that are read, or that change nothing that is computed here.
const KNOWN: [&str; 25] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
    "use_parallel_residual",
    "vocab_size",
];

/// The metadata of one architecture.
struct ArchitectureKeys<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

impl ArchitectureKeys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        let name = self.name(key);
        let number = match self.file.metadata.get(&name) {
            None => return Ok(None),
            Some(GgufValue::Int(number)) => *number,
            // One number for each layer, where some converters have one for all.
            Some(GgufValue::Ints(list)) if list.windows(2).all(|w| w[0] == w[1]) && !list.is_empty() => {
                i128::from(list[0])
            }
            Some(GgufValue::Ints(_)) => return Err(refused(&format!("{name} that differs from layer to layer"))),
            Some(_) => return Err(Error::format(format!("{name} is not an integer"))),
        };
        match usize::try_from(number) {
            Ok(size) if (1..=LARGEST).contains(&(size as u64)) => Ok(Some(size)),
            _ => Err(Error::format(format!("{name} is {number}, expected 1 to {LARGEST}"))),
        }
    }

    fn need(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| Error::format(format!("it lacks {}", self.name(key))))
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.file.float(&self.name(key))
    }
}

fn refused(what: &str) -> Error {
    Error::config(format!("{what} is not supported; choose a plain model of its family"))
}

/// Reads the metadata.
pub fn read(file: &GgufFile) -> Result<DecoderSpec> {
    let architecture = file.str("general.architecture").unwrap_or_default();
    // Mistral's models say llama too.
    let own = DecoderFamily::of(architecture).filter(|family| family.gguf_architecture() == architecture);
    let Some(family) = own else {
        return Err(Error::config(format!(
            "its architecture is {architecture:?}; choose a GPT-2, Llama, Mistral, Qwen2 or Qwen3 model"
        )));
    };
    let keys = ArchitectureKeys { file, architecture };
    refuse_unknown(&keys)?;
    let (hidden_size, num_heads) = (keys.need("embedding_length")?, keys.need("attention.head_count")?);
    let rope_width = keys.size("rope.dimension_count")?;
    let head_dim = match keys.size("attention.key_length")?.or(rope_width) {
        Some(width) => width,
        None if hidden_size.is_multiple_of(num_heads) => hidden_size / num_heads,
        None => return Err(Error::format(format!("{hidden_size} columns do not divide into {num_heads} heads"))),
    };
    if keys.size("attention.value_length")?.is_some_and(|width| width != head_dim) {
        return Err(refused("a value_length that differs from the key_length"));
    }
    if rope_width.is_some_and(|width| width != head_dim) {
        return Err(refused("rotary positions on a part of each head (rope.dimension_count)"));
    }
    let gpt2 = family == DecoderFamily::Gpt2;
    if gpt2 && num_heads * head_dim != hidden_size {
        return Err(Error::format(format!("{num_heads} heads of {head_dim} in {hidden_size} columns")));
    }
    let epsilon = if gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    let norm_eps = keys.number(epsilon).ok_or_else(|| Error::format(format!("it lacks {}", keys.name(epsilon))))?;
    let has = |name: &str| file.tensors.contains_key(name);
    let table = file.tensors.get("token_embd.weight").map(|tensor| tensor.shape.as_slice());
    let vocab_size = match table {
        Some([rows, _]) if (1..=LARGEST).contains(rows) => *rows as usize,
        _ => return Err(Error::format("it has no table token_embd.weight of two dimensions")),
    };
    let biases = if gpt2 {
        Biases { qkv: true, out: true, ffn: true }
    } else {
        let (qkv, out, ffn) = (has("blk.0.attn_q.bias"), has("blk.0.attn_output.bias"), has("blk.0.ffn_up.bias"));
        Biases { qkv, out, ffn }
    };
    let dropout = if gpt2 { 0.1 } else { 0.0 };
    let token = |purpose: &str| {
        let id = file.uint(&format!("tokenizer.ggml.{purpose}_token_id"));
        id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < vocab_size)
    };
    let mut eos: Vec<u32> = ["eos", "eot", "eom"].into_iter().filter_map(token).collect();
    eos.dedup();
    let spec = DecoderSpec {
        family,
        hidden_size,
        num_layers: keys.need("block_count")?,
        num_heads,
        num_kv_heads: if gpt2 { num_heads } else { keys.size("attention.head_count_kv")?.unwrap_or(num_heads) },
        head_dim,
        intermediate_size: keys.need("feed_forward_length")?,
        vocab_size,
        max_positions: keys.need("context_length")?,
        sliding_window: window(&keys)?,
        act: if gpt2 { Act::GeluTanh } else { Act::Swish },
        norm_eps,
        biases,
        qk_norm: family == DecoderFamily::Qwen3,
        rope: if gpt2 { None } else { Some(rope(&keys, head_dim)?) },
        tied: !has("output.weight"),
        drop: DropRates { embedding: dropout, attention: dropout, residual: dropout },
        eos,
        bos: token("bos"),
        name: file.str("general.name").filter(|name| !name.is_empty()).map(str::to_owned),
    };
    spec.check().context("its metadata")?;
    Ok(spec)
}

fn window(keys: &ArchitectureKeys<'_>) -> Result<Option<usize>> {
    match keys.file.uint(&keys.name("attention.sliding_window")) {
        Some(0) => Ok(None),
        _ => keys.size("attention.sliding_window"),
    }
}

fn refuse_unknown(keys: &ArchitectureKeys<'_>) -> Result<()> {
    let prefix = format!("{}.", keys.architecture);
    let own = keys.file.metadata.keys().filter_map(|key| key.strip_prefix(&prefix));
    for key in own {
        if !KNOWN.contains(&key) {
            return Err(refused(&format!("the setting {prefix}{key}")));
        }
    }
    let uint = |key: &str| keys.file.uint(&keys.name(key));
    let bool = |key: &str| keys.file.bool(&keys.name(key));
    if uint("expert_count").is_some_and(|count| count > 0) {
        return Err(refused("a mixture of feed-forward experts (expert_count)"));
    }
    if bool("attention.causal") == Some(false) {
        return Err(refused("attention in both directions (attention.causal = false)"));
    }
    if bool("use_parallel_residual") == Some(true) {
        return Err(refused("use_parallel_residual = true"));
    }
    if keys.number("rope.scaling.attn_factor").is_some_and(|factor| factor != 1.0) {
        return Err(refused("rope.scaling.attn_factor other than 1"));
    }
    Ok(())
}

/// Without the factors of `rope_freqs.weight`, which are a tensor.
fn rope(keys: &ArchitectureKeys<'_>, head_dim: usize) -> Result<RopeSpec> {
    let theta = keys.number("rope.freq_base").unwrap_or(10_000.0);
    let factor = keys.number("rope.scaling.factor").or_else(|| keys.number("rope.scale_linear"));
    let kind = keys.file.str(&keys.name("rope.scaling.type"));
    let scaling = match (kind, factor) {
        (None | Some("none"), None) | (Some("none"), _) => Scaling::None,
        (None | Some("linear"), Some(factor)) if factor.is_finite() && factor > 0.0 => Scaling::Linear(factor),
        (None | Some("linear"), _) => return Err(Error::format("its rotary scaling lacks a factor above 0")),
        (Some(other), _) => return Err(refused(&format!("rope.scaling.type {other:?}"))),
    };
    if !(theta.is_finite() && theta > 0.0) {
        return Err(Error::format(format!("{} is {theta}, expected a number above 0", keys.name("rope.freq_base"))));
    }
    Ok(RopeSpec::new(theta, head_dim, scaling))
}
