//! The names of GGUF's tensors and those of Hugging Face checkpoints, without the trunk's prefix.

use crate::model::decoder::{DecoderFamily, DecoderSpec};

/// What is not in a layer: (GGUF, GPT-2, the Llama kind).
const ENDS: [(&str, &str, &str); 4] = [
    ("token_embd", "wte", "embed_tokens"),
    ("position_embd", "wpe", ""),
    ("output_norm", "ln_f", "norm"),
    ("output", "lm_head", "lm_head"),
];

/// What is in a layer.
const PARTS: [(&str, &str, &str); 12] = [
    ("attn_norm", "ln_1", "input_layernorm"),
    ("attn_qkv", "attn.c_attn", ""),
    ("attn_q", "", "self_attn.q_proj"),
    ("attn_k", "", "self_attn.k_proj"),
    ("attn_v", "", "self_attn.v_proj"),
    ("attn_output", "attn.c_proj", "self_attn.o_proj"),
    ("attn_q_norm", "", "self_attn.q_norm"),
    ("attn_k_norm", "", "self_attn.k_norm"),
    ("ffn_norm", "ln_2", "post_attention_layernorm"),
    ("ffn_gate", "", "mlp.gate_proj"),
    ("ffn_up", "mlp.c_fc", "mlp.up_proj"),
    ("ffn_down", "mlp.c_proj", "mlp.down_proj"),
];

/// The Hugging Face name of a tensor; nothing for one that such a model does not have.
pub fn hugging_face(name: &str, spec: &DecoderSpec) -> Option<String> {
    let gpt2 = spec.family == DecoderFamily::Gpt2;
    let (path, suffix) = name.rsplit_once('.').filter(|(_, suffix)| ["weight", "bias"].contains(suffix))?;
    let find = |list: &[(&str, &'static str, &'static str)], part: &str| {
        let (_, first, second) = list.iter().find(|(gguf, _, _)| *gguf == part)?;
        Some(if gpt2 { *first } else { *second }).filter(|name| !name.is_empty())
    };
    let (found, part) = match path.strip_prefix("blk.") {
        Some(rest) => {
            let (layer, part) = rest.split_once('.')?;
            let layer: usize = layer.parse().ok().filter(|&layer| layer < spec.num_layers)?;
            let found = find(&PARTS, part)?;
            (format!("{}.{layer}.{found}", if gpt2 { "h" } else { "layers" }), part)
        }
        None => (find(&ENDS, path)?.to_owned(), path),
    };
    has(spec, part, suffix == "bias").then(|| format!("{found}.{suffix}"))
}

/// Whether a model of this shape has the weight or bias of a part.
fn has(spec: &DecoderSpec, part: &str, bias: bool) -> bool {
    match (part, bias) {
        ("attn_q_norm" | "attn_k_norm", bias) => spec.qk_norm && !bias,
        ("output", bias) => !bias && !spec.tied,
        (_, false) => true,
        ("attn_norm" | "ffn_norm" | "output_norm", true) => spec.family == DecoderFamily::Gpt2,
        ("attn_qkv" | "attn_q" | "attn_k" | "attn_v", true) => spec.biases.qkv,
        ("attn_output", true) => spec.biases.out,
        ("ffn_gate" | "ffn_up" | "ffn_down", true) => spec.biases.ffn,
        (_, true) => false,
    }
}
