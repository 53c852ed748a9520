//! From a Hugging Face checkpoint's names and layouts to GGUF's.
//!
//! Two things change besides names. GPT-2 keeps its matrices input-major, GGUF outputs first. And llama.cpp turns pairs of
//! neighbouring values in its Llama (and Mistral), where Hugging Face turns the two halves of a head: the rows of q and k
//! change places. Qwen2 and Qwen3 are turned by halves there too and stay as they are.

use crate::error::{Error, Result};
use crate::model::decoder::{DecoderFamily, DecoderSpec};

/// What is not in a layer: GPT-2's name, the Llama kind's, GGUF's.
const ENDS: [(&str, &str, &str); 4] = [
    ("wte", "embed_tokens", "token_embd"),
    ("wpe", "", "position_embd"),
    ("ln_f", "norm", "output_norm"),
    ("lm_head", "lm_head", "output"),
];

/// What is in a layer.
const PARTS: [(&str, &str, &str); 12] = [
    ("ln_1", "input_layernorm", "attn_norm"),
    ("attn.c_attn", "", "attn_qkv"),
    ("", "self_attn.q_proj", "attn_q"),
    ("", "self_attn.k_proj", "attn_k"),
    ("", "self_attn.v_proj", "attn_v"),
    ("", "self_attn.q_norm", "attn_q_norm"),
    ("", "self_attn.k_norm", "attn_k_norm"),
    ("attn.c_proj", "self_attn.o_proj", "attn_output"),
    ("ln_2", "post_attention_layernorm", "ffn_norm"),
    ("", "mlp.gate_proj", "ffn_gate"),
    ("mlp.c_fc", "mlp.up_proj", "ffn_up"),
    ("mlp.c_proj", "mlp.down_proj", "ffn_down"),
];

/// `general.architecture`.
pub fn architecture(family: DecoderFamily) -> &'static str {
    match family {
        DecoderFamily::Gpt2 => "gpt2",
        DecoderFamily::Llama | DecoderFamily::Mistral => "llama",
        DecoderFamily::Qwen2 => "qwen2",
        DecoderFamily::Qwen3 => "qwen3",
    }
}

/// GGUF's name of a part of a layer: `self_attn.q_proj` is `attn_q`.
pub fn part(family: DecoderFamily, path: &str) -> Option<&'static str> {
    let gpt2 = family == DecoderFamily::Gpt2;
    let found = PARTS.iter().find(|(a, b, _)| !path.is_empty() && path == if gpt2 { *a } else { *b })?;
    Some(found.2)
}

/// The checkpoint's name of a part of a layer: `attn_q` is `self_attn.q_proj`.
pub fn path(family: DecoderFamily, part: &str) -> Option<&'static str> {
    let found = PARTS.iter().find(|(_, _, there)| *there == part)?;
    Some(if family == DecoderFamily::Gpt2 { found.0 } else { found.1 }).filter(|path| !path.is_empty())
}

/// GGUF's name of a tensor; `name` is the checkpoint's with or without the trunk's prefix.
pub fn gguf(family: DecoderFamily, name: &str) -> Result<String> {
    let unknown = || Error::config(format!("tensor {name} has no place in a GGUF file of this family"));
    let bare = name.strip_prefix(family.prefix()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
    let (path, suffix) = bare.rsplit_once('.').filter(|(_, s)| ["weight", "bias"].contains(s)).ok_or_else(unknown)?;
    let gpt2 = family == DecoderFamily::Gpt2;
    if let Some((_, _, there)) = ENDS.iter().find(|(a, b, _)| path == if gpt2 { *a } else { *b }) {
        return Ok(format!("{there}.{suffix}"));
    }
    let inside = path.strip_prefix(if gpt2 { "h." } else { "layers." }).and_then(|rest| rest.split_once('.'));
    let (layer, rest) = inside.ok_or_else(unknown)?;
    let there = part(family, rest).ok_or_else(unknown)?;
    Ok(format!("blk.{layer}.{there}.{suffix}"))
}

/// Whether a checkpoint keeps this matrix input-major.
pub fn input_major(family: DecoderFamily, name: &str) -> bool {
    let conv = ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"];
    family == DecoderFamily::Gpt2 && conv.iter().any(|end| name.ends_with(end))
}

/// Heads whose rows change places in a tensor of this name (of a checkpoint: weight, bias or a LoRA's B).
pub fn turned_heads(spec: &DecoderSpec, name: &str) -> Option<usize> {
    let turned = matches!(spec.family, DecoderFamily::Llama | DecoderFamily::Mistral);
    if turned && name.contains("self_attn.q_proj") {
        return Some(spec.num_heads);
    }
    (turned && name.contains("self_attn.k_proj")).then_some(spec.num_kv_heads)
}

/// Rows from Hugging Face's order to llama.cpp's: in each head row `t * half + j` becomes row `2 j + t`.
pub fn turn(values: &[f32], heads: usize, width: usize) -> Vec<f32> {
    let rows = values.len() / width.max(1);
    let (head, mut out) = (rows / heads.max(1), Vec::with_capacity(values.len()));
    for h in 0..heads {
        for i in 0..head {
            let row = h * head + (i % 2) * (head / 2) + i / 2;
            out.extend_from_slice(&values[row * width..(row + 1) * width]);
        }
    }
    out
}

/// The way back of [`turn`].
pub fn turn_back(values: &[f32], heads: usize, width: usize) -> Vec<f32> {
    let rows = values.len() / width.max(1);
    let (head, mut out) = (rows / heads.max(1), Vec::with_capacity(values.len()));
    for h in 0..heads {
        for i in 0..head {
            let row = h * head + 2 * (i % (head / 2).max(1)) + i / (head / 2).max(1);
            out.extend_from_slice(&values[row * width..(row + 1) * width]);
        }
    }
    out
}

/// A matrix with rows and columns exchanged. `[rows, columns] -> [columns, rows]`
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_gguf_s() {
        for (family, name, there) in [
            (DecoderFamily::Llama, "model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight"),
            (DecoderFamily::Qwen2, "layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias"),
            (DecoderFamily::Qwen3, "model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"),
            (DecoderFamily::Mistral, "lm_head.weight", "output.weight"),
            (DecoderFamily::Gpt2, "transformer.h.11.mlp.c_fc.bias", "blk.11.ffn_up.bias"),
            (DecoderFamily::Gpt2, "wpe.weight", "position_embd.weight"),
            (DecoderFamily::Gpt2, "h.0.attn.c_attn.weight", "blk.0.attn_qkv.weight"),
        ] {
            assert_eq!(gguf(family, name).unwrap(), there);
        }
        assert!(gguf(DecoderFamily::Llama, "model.layers.0.mlp.experts.weight").is_err());
        assert!(gguf(DecoderFamily::Gpt2, "transformer.h.0.attn.bias").is_err());
    }

    #[test]
    fn rows_change_places_as_llama_cpp_has_them() {
        // Two heads of four rows of one value: reshape (heads, 2, half), exchange the last two.
        assert_eq!(turn(&[0., 1., 2., 3., 10., 11., 12., 13.], 2, 1), [0., 2., 1., 3., 10., 12., 11., 13.]);
        assert_eq!(turn_back(&[0., 2., 1., 3., 10., 12., 11., 13.], 2, 1), [0., 1., 2., 3., 10., 11., 12., 13.]);
        assert_eq!(transposed(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
    }
}
