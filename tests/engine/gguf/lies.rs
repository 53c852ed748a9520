//! GGUF files that are cut off, forged or of another kind: refused with a message.

use super::{K_QUANTS, metadata, tensors};
use crate::support::gguf::{Entries, Stored, Value, file_of, number, text};
use adamix::error::Error;
use adamix::model::{CausalLm, LmSetup, LmSource};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device};

/// Opens and reads a file whole; the error, with the file's name in it.
#[track_caller]
fn refusal(bytes: &[u8]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forged.gguf");
    std::fs::write(&path, bytes).unwrap();
    let load = || {
        let source = LmSource::open(&path)?;
        let setup = LmSetup { mixture: None, seed: SeedStream::new(1) };
        CausalLm::load(source.spec, &source.weights, setup, DType::F32, &Device::Cpu)
    };
    let err = load().unwrap_err();
    assert!(err.to_string().contains("forged.gguf"), "{err}");
    err
}

#[track_caller]
fn says(err: &Error, part: &str) {
    assert!(err.to_string().contains(part), "{part:?} is not in: {err}");
}

/// With other metadata: changed, added, or (nothing) left out.
fn with_key(key: &str, value: Option<Value>) -> Error {
    let mut entries: Entries = metadata().into_iter().filter(|(name, _)| name != key).collect();
    entries.extend(value.map(|value| (key.to_owned(), value)));
    refusal(&file_of(&entries, &tensors(K_QUANTS)))
}

/// With one tensor changed.
fn with_tensor(name: &str, change: impl Fn(&mut Stored)) -> Error {
    let mut stored = tensors(K_QUANTS);
    stored.iter_mut().filter(|tensor| tensor.name == name).for_each(change);
    refusal(&file_of(&metadata(), &stored))
}

#[test]
fn a_model_cut_off_is_refused() {
    let bytes = file_of(&metadata(), &tensors(K_QUANTS));
    for keep in [0, 3, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        let err = refusal(&bytes[..keep]);
        says(&err, if keep < 4 { "GGUF" } else { "cut off or forged" });
    }
}

#[test]
fn shapes_that_lie_are_refused() {
    let q = "blk.0.attn_q.weight";
    says(&with_tensor(q, |t| t.shape = vec![32, 512]), "has shape [32, 512]");
    says(&with_tensor(q, |t| t.shape = vec![0, 256]), "impossible");
    says(&with_tensor(q, |t| t.shape = vec![64, 0]), "impossible");
    says(&with_tensor(q, |t| t.shape = vec![1 << 40, 256]), "does not lie inside the file");
    says(&with_tensor(q, |t| t.shape = vec![64, 250]), "impossible");
    says(&with_tensor(q, |t| t.shape = vec![2, 32, 256]), "has shape [2, 32, 256]");
    says(&with_tensor("blk.0.attn_norm.weight", |t| t.shape = vec![255]), "has shape [255]");
    says(&with_tensor("token_embd.weight", |t| t.shape = vec![24 * 256]), "token_embd.weight");
    // Another table: what the other one promised is not there.
    says(&with_tensor("output.weight", |t| t.shape = vec![12, 512]), "has shape [12, 512]");
}

#[test]
fn types_and_values_that_cannot_be_are_refused() {
    let err = with_tensor("blk.0.attn_q.weight", |t| {
        t.dtype = 11;
        t.bytes = vec![0; 64 * 110];
    });
    says(&err, "its type Q3_K (number 11) cannot be read; choose a file in F32, F16");
    says(&with_tensor("blk.0.attn_q.weight", |t| t.dtype = 99), "unknown");
    says(&with_tensor("blk.0.ffn_up.weight", |t| t.bytes[208..210].fill(0xff)), "not finite");
    says(&with_tensor("blk.0.attn_norm.weight", |t| t.bytes[..4].fill(0xff)), "not finite");
}

#[test]
fn tensors_too_many_or_too_few_are_refused() {
    let renamed = |from: &str, to: &str| with_tensor(from, |t| t.name = to.to_owned());
    says(&renamed("blk.0.ffn_up.weight", "blk.0.ffn_up_exps.weight"), "blk.0.ffn_up_exps.weight");
    says(&renamed("blk.0.ffn_up.weight", "blk.1.ffn_up.weight"), "blk.1.ffn_up.weight");
    says(&renamed("output.weight", "output.bias"), "output.bias");
    says(&renamed("output_norm.weight", "rope_freqs.weight"), "rope_freqs.weight");
    let without: Vec<Stored> = tensors(K_QUANTS).into_iter().filter(|t| t.name != "blk.0.ffn_up.weight").collect();
    says(&refusal(&file_of(&metadata(), &without)), "layers.0.mlp.up_proj.weight");
}

#[test]
fn metadata_that_cannot_be_are_refused() {
    for key in ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"] {
        let key = format!("llama.{key}");
        for value in [Value::U32(0), Value::U64(1 << 40), Value::U64(u64::MAX), text("8")] {
            says(&with_key(&key, Some(value)), &key);
        }
        says(&with_key(&key, None), &format!("lacks {key}"));
    }
    says(&with_key("llama.block_count", Some(Value::U32(1 << 20))), "layers.1.");
    says(&with_key("llama.attention.head_count_kv", Some(Value::U32(3))), "num_key_value_heads");
    says(&with_key("llama.attention.head_count", Some(Value::U32(4))), "has shape [64, 256]");
    says(&with_key("llama.attention.head_count", Some(Value::I32s(vec![2, 1]))), "differs from layer to layer");
    says(&with_key("llama.attention.value_length", Some(Value::U32(16))), "value_length");
    says(&with_key("llama.rope.dimension_count", Some(Value::U32(16))), "rope.dimension_count");
    says(&with_key("llama.attention.layer_norm_rms_epsilon", Some(number(f32::NAN))), "epsilon");
    says(&with_key("llama.rope.freq_base", Some(number(-1.0))), "rope.freq_base");
    says(&with_key("llama.rope.scaling.type", Some(text("yarn"))), "yarn");
    says(&with_key("llama.rope.scaling.type", Some(text("linear"))), "factor");
    says(&with_key("llama.expert_count", Some(Value::U32(8))), "expert_count");
    says(&with_key("llama.attention.causal", Some(Value::Bool(false))), "attention.causal");
    says(&with_key("llama.logit_scale", Some(number(2.0))), "llama.logit_scale");
    says(&with_key("general.architecture", Some(text("mamba"))), "mamba");
    says(&with_key("general.architecture", None), "architecture");
}

#[test]
fn other_files_and_no_file_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let err = LmSource::open(&dir.path().join("absent")).map(|_| ()).unwrap_err();
    says(&err, "no such directory or file");
    says(&LmSource::open(dir.path()).map(|_| ()).unwrap_err(), "no config.json");
    says(&refusal(b"PK\x03\x04"), "does not start with GGUF");
}
