//! The matrices of a decoder layer that can have a LoRA.

use super::spec::{DecoderFamily, DecoderSpec};
use crate::model::loras::{Slot, Target};
use std::ops::Range;

/// All of them, under their names in the checkpoint. GPT-2's fused q, k, v is one matrix there; its parts can be named
/// too: `q`, `k`, `v`, and `qv`, which is the reference's module, one draw serving both.
pub fn lora_targets(spec: &DecoderSpec) -> Vec<Target> {
    let (d, f) = (spec.hidden_size, spec.intermediate_size);
    let (q, kv) = (spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim);
    if spec.family == DecoderFamily::Gpt2 {
        let part = |name: &str, first: Range<usize>, second: Option<Range<usize>>| {
            let columns = std::iter::once(first).chain(second).collect();
            Target { path: format!("attn.c_attn.{name}"), slot: Slot::Qkv, columns, d_in: d, whole: false }
        };
        return vec![
            Target::whole("attn.c_attn", Slot::Qkv, 0..3 * d, d),
            part("qv", 0..d, Some(2 * d..3 * d)),
            part("q", 0..d, None),
            part("k", d..2 * d, None),
            part("v", 2 * d..3 * d, None),
            Target::whole("attn.c_proj", Slot::Out, 0..d, d),
            Target::whole("mlp.c_fc", Slot::Inner, 0..f, d),
            Target::whole("mlp.c_proj", Slot::Outer, 0..d, f),
        ];
    }
    vec![
        Target::whole("self_attn.q_proj", Slot::Qkv, 0..q, d),
        Target::whole("self_attn.k_proj", Slot::Qkv, q..q + kv, d),
        Target::whole("self_attn.v_proj", Slot::Qkv, q + kv..q + 2 * kv, d),
        Target::whole("self_attn.o_proj", Slot::Out, 0..d, q),
        Target::whole("mlp.gate_proj", Slot::Inner, 0..f, d),
        Target::whole("mlp.up_proj", Slot::Inner, f..2 * f, d),
        Target::whole("mlp.down_proj", Slot::Outer, 0..d, f),
    ]
}

/// The targets of an empty setting: the paper's queries and values.
pub fn default_targets(family: DecoderFamily) -> &'static [&'static str] {
    if family == DecoderFamily::Gpt2 { &["c_attn.qv"] } else { &["q_proj", "v_proj"] }
}
