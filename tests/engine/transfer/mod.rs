//! Exports that other programs load and imports of what they wrote: there and back on the tiny golden models, with the
//! same logits; and whatever lies, refused.

mod averages;
mod candle_llama;
mod gguf;
mod models;
mod others;
mod peft;
mod reference;

use crate::golden::{golden_dir, off};
use crate::support::fill;
use adamix::artifact::export::base::{BaseKind, MergedWeights};
use adamix::artifact::export::modules::ModuleLora;
use adamix::artifact::export::{ExportMeta, Recipe};
use adamix::config::{MixtureConfig, MixtureKind};
use adamix::model::decoder::targets::lora_targets;
use adamix::model::decoder::{Decoder, LmSource};
use adamix::model::{CausalLm, LmSetup, Network as _, Packed};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, NumberFormat};
use adamix::workflow::export::modules::{compose, place_in_decoder};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

pub const FAMILIES: [&str; 5] = ["gpt2-tiny", "llama-tiny", "mistral-tiny", "qwen2-tiny", "qwen3-tiny"];

/// A family's directory with a tokenizer of its 32 tokens.
pub fn base(family: &str, place: &Path) -> PathBuf {
    let dir = place.join("base");
    std::fs::create_dir(&dir).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden_dir(family).join(file), dir.join(file)).unwrap();
    }
    write_tokenizer(
        &dir,
        &json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true }),
    );
    dir
}

/// Three control tokens, the letters, the space and two merges.
pub fn write_tokenizer(dir: &Path, pre_tokenizer: &Value) {
    let mut vocab = Map::new();
    let letters = ('a'..='z').map(|letter| letter.to_string());
    for (id, token) in ["<pad>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(letters).enumerate() {
        vocab.insert(token, json!(id));
    }
    for (id, token) in [(29, "\u{120}"), (30, "ab"), (31, "abc")] {
        vocab.insert(token.to_owned(), json!(id));
    }
    let added: Vec<Value> = ["<pad>", "<s>", "</s>"]
        .iter()
        .enumerate()
        .map(|(id, token)| json!({ "id": id, "content": token, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false }))
        .collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
        "added_tokens": added, "pre_tokenizer": pre_tokenizer,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": [["a", "b"], ["ab", "c"]] },
    });
    std::fs::write(dir.join("tokenizer.json"), file.to_string()).unwrap();
    let config =
        json!({ "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": "{{ messages }}" });
    std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
}

pub fn settings(target: &[&str]) -> MixtureConfig {
    MixtureConfig {
        kind: MixtureKind::Lora,
        num_experts: 3,
        lora_rank: 2,
        lora_alpha: 3.0,
        lora_dropout: 0.1,
        lora_target: target.iter().map(|&name| name.to_owned()).collect(),
        ..MixtureConfig::default()
    }
}

pub fn decoder(dir: &Path) -> Decoder {
    let source = LmSource::open(dir).unwrap();
    Decoder::load(source.spec, &source.weights, DType::F32, &Device::Cpu).unwrap()
}

/// A model whose experts are random on both sides.
pub fn random(dir: &Path, mixture: &MixtureConfig) -> CausalLm {
    let model = CausalLm::new(decoder(dir), LmSetup { mixture: Some(mixture), seed: SeedStream::new(1) }).unwrap();
    fill(model.params(), 0.3);
    model
}

/// Two sequences.
pub const IDS: [u32; 14] = [3, 9, 27, 4, 11, 30, 7, 5, 16, 22, 8, 31, 12, 19];
pub const OFFSETS: [usize; 3] = [0, 5, 14];

pub fn logits(model: &CausalLm) -> Vec<f32> {
    let logits = model.logits(Packed { ids: &IDS, offsets: &OFFSETS }, None, None).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

pub fn modules(model: &CausalLm) -> Vec<ModuleLora> {
    compose(&model.loras(), &lora_targets(&model.base.spec), None).unwrap()
}

pub fn meta(model: &CausalLm, mixture: &MixtureConfig, dtype: NumberFormat) -> ExportMeta {
    ExportMeta {
        base_model: "models/tiny".to_owned(),
        model_type: model.base.spec.family.model_type().to_owned(),
        hidden_size: model.base.spec.hidden_size,
        mixture: mixture.clone(),
        labels: Vec::new(),
        weights: None,
        recipe: Recipe::uniform(mixture.num_experts),
        chat: None,
        dtype,
    }
}

/// The logits of a base with modules on it.
pub fn with_modules(dir: &Path, modules: &[ModuleLora]) -> Vec<f32> {
    logits(&place_in_decoder(decoder(dir), modules).unwrap())
}

/// The base's tensors with these modules added.
pub fn merged_with<T>(dir: &Path, modules: &[ModuleLora], then: impl FnOnce(&MergedWeights<'_>, &LmSource) -> T) -> T {
    let source = LmSource::open(dir).unwrap();
    let merged =
        crate::support::exported::merged(&source.weights, BaseKind::Decoder(&source.spec), modules, &[]).unwrap();
    then(&merged, &source)
}

/// Changes one byte at the end of a file.
pub fn damage(file: &Path) {
    damage_at(file, std::fs::metadata(file).unwrap().len() as usize - 3);
}

pub fn damage_at(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 0x41;
    std::fs::write(file, bytes).unwrap();
}

pub fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[track_caller]
pub fn same(what: &str, got: &[f32], want: &[f32], tolerance: f64) {
    let apart = off(got, want);
    assert!(apart <= tolerance, "{what}: logits are off by {apart}");
}
