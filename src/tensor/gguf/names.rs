//! The names of a checkpoint's tensors and those of a GGUF file.

/// Modules outside the layers: GGUF's name, GPT-2's, the Llama kind's.
const OUTER: [(&str, &str, &str); 4] = [
    ("token_embd", "wte", "embed_tokens"),
    ("position_embd", "wpe", ""),
    ("output_norm", "ln_f", "norm"),
    ("output", "lm_head", "lm_head"),
];

/// Modules of a layer.
const LAYER: [(&str, &str, &str); 12] = [
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

/// How Hugging Face checkpoints of a decoder name their tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamingScheme {
    /// `transformer.h.0.attn.c_attn`.
    Gpt2,
    /// `model.layers.0.self_attn.q_proj`: Llama, Mistral, Qwen2, Qwen3.
    Llama,
}

/// A tensor of a GGUF file under its name in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointTensor<'a> {
    /// Without the prefix of the base model: `layers.3.self_attn.q_proj.weight`.
    pub name: String,
    /// Its layer; absent outside the layers.
    pub layer: Option<usize>,
    /// GGUF's name of its module: `attn_q`.
    pub module: &'a str,
    /// Whether it is the bias of the module, not the weight.
    pub bias: bool,
}

impl NamingScheme {
    fn pick<'a>(self, (_, gpt2, llama): &(&'a str, &'a str, &'a str)) -> &'a str {
        if self == Self::Gpt2 { gpt2 } else { llama }
    }

    /// What names begin with: prefix of the base model, list of layers.
    fn prefixes(self) -> (&'static str, &'static str) {
        if self == Self::Gpt2 { ("transformer.", "h.") } else { ("model.", "layers.") }
    }

    /// GGUF's name of a module of a layer: `attn_q` for `self_attn.q_proj`.
    pub fn module_to_gguf(self, path: &str) -> Option<&'static str> {
        let found = LAYER.iter().find(|row| !path.is_empty() && self.pick(row) == path)?;
        Some(found.0)
    }

    /// The checkpoint's name of a module of a layer: `self_attn.q_proj` for `attn_q`.
    pub fn module_from_gguf(self, module: &str) -> Option<&'static str> {
        let found = LAYER.iter().find(|row| row.0 == module)?;
        Some(self.pick(found)).filter(|path| !path.is_empty())
    }

    /// GGUF's name of a tensor; `name` is the checkpoint's, with or without the prefix of the base model.
    pub fn to_gguf(self, name: &str) -> Option<String> {
        let (prefix, layers) = self.prefixes();
        let (path, suffix) = split_suffix(name.strip_prefix(prefix).unwrap_or(name))?;
        if let Some((module, _, _)) = OUTER.iter().find(|row| !path.is_empty() && self.pick(row) == path) {
            return Some(format!("{module}.{suffix}"));
        }
        let (layer, path) = path.strip_prefix(layers)?.split_once('.')?;
        Some(format!("blk.{layer}.{}.{suffix}", self.module_to_gguf(path)?))
    }

    /// The checkpoint's name of a tensor of a GGUF file.
    pub fn from_gguf(self, name: &str) -> Option<CheckpointTensor<'_>> {
        let (path, suffix) = split_suffix(name)?;
        let bias = suffix == "bias";
        let Some(rest) = path.strip_prefix("blk.") else {
            let found = self.pick(OUTER.iter().find(|row| row.0 == path)?);
            let tensor = CheckpointTensor { name: format!("{found}.{suffix}"), layer: None, module: path, bias };
            return (!found.is_empty()).then_some(tensor);
        };
        let (layer, module) = rest.split_once('.')?;
        let (layer, found): (usize, _) = (layer.parse().ok()?, self.module_from_gguf(module)?);
        let name = format!("{}{layer}.{found}.{suffix}", self.prefixes().1);
        Some(CheckpointTensor { name, layer: Some(layer), module, bias })
    }

    /// Whether a checkpoint keeps this matrix `[in, out]`.
    pub fn input_major(self, name: &str) -> bool {
        let conv = ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"];
        self == Self::Gpt2 && conv.iter().any(|end| name.ends_with(end))
    }
}

fn split_suffix(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.').filter(|(_, suffix)| ["weight", "bias"].contains(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_of_checkpoints_become_gguf_s() {
        for (scheme, name, wanted) in [
            (NamingScheme::Llama, "model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight"),
            (NamingScheme::Llama, "layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias"),
            (NamingScheme::Llama, "model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"),
            (NamingScheme::Llama, "lm_head.weight", "output.weight"),
            (NamingScheme::Gpt2, "transformer.h.11.mlp.c_fc.bias", "blk.11.ffn_up.bias"),
            (NamingScheme::Gpt2, "wpe.weight", "position_embd.weight"),
            (NamingScheme::Gpt2, "h.0.attn.c_attn.weight", "blk.0.attn_qkv.weight"),
        ] {
            assert_eq!(scheme.to_gguf(name).as_deref(), Some(wanted));
        }
        assert_eq!(NamingScheme::Llama.to_gguf("model.layers.0.mlp.experts.weight"), None);
        assert_eq!(NamingScheme::Gpt2.to_gguf("transformer.h.0.attn.bias"), None);
        assert_eq!(NamingScheme::Llama.from_gguf("position_embd.weight"), None);
        assert_eq!(NamingScheme::Gpt2.from_gguf("blk.0.attn_q.weight"), None);
    }

    #[test]
    fn every_name_has_one_counterpart() {
        for scheme in [NamingScheme::Gpt2, NamingScheme::Llama] {
            let mut found = BTreeSet::new();
            let mut add = |gguf: &str| {
                let Some(tensor) = scheme.from_gguf(gguf) else { return };
                assert_eq!(scheme.to_gguf(&tensor.name).as_deref(), Some(gguf));
                assert!(found.insert(tensor.name.clone()), "{} twice", tensor.name);
            };
            for suffix in ["weight", "bias"] {
                OUTER.iter().for_each(|row| add(&format!("{}.{suffix}", row.0)));
                LAYER.iter().for_each(|row| add(&format!("blk.7.{}.{suffix}", row.0)));
            }
            assert_eq!(found.len(), if scheme == NamingScheme::Gpt2 { 20 } else { 28 });
        }
    }
}
