//! The merged language model as a GGUF file.
//!
//! From a GGUF base the metadata, tokenizer included, is carried over byte for byte; from a Hugging Face directory the keys
//! of the architecture and of a byte-level tokenizer are written as llama.cpp's converter does. Weights go through memory
//! one at a time; matrices are stored in the format asked for, vectors and position tables in 32 bits.

use super::base::Merged;
use super::gguf_adapter::base_name;
use super::hf::BaseFiles;
use super::{ExportMeta, new_dir};
use crate::artifact::HostTensor;
use crate::artifact::gguf::names::{self, input_major, transposed, turn, turned_heads};
use crate::artifact::gguf::read::{GgufTensors, raw_entries};
use crate::artifact::gguf::{self, Entries, Planned, Store, Value, text};
use crate::artifact::import::peft::read_json;
use crate::data::gguf::describe::{self, Description};
use crate::error::{Error, Result};
use crate::model::decoder::DecoderSpec;
use crate::model::decoder::rope::{RopeSpec, Scaling};
use std::path::Path;

/// Name of the file in its directory.
pub const FILE: &str = "model.gguf";
/// One factor for each rotary frequency (Llama 3).
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The tensors of the file: their plan, and how each is made.
pub struct GgufModel<'a> {
    merged: &'a Merged<'a>,
    spec: &'a DecoderSpec,
    /// Name in the checkpoint of each tensor; absent for the rotary factors.
    sources: Vec<Option<String>>,
    plan: Vec<Planned>,
    factors: Option<HostTensor>,
    entries: Entries,
}

impl<'a> GgufModel<'a> {
    /// Plans the file.
    pub fn new(
        merged: &'a Merged<'a>,
        spec: &'a DecoderSpec,
        files: BaseFiles<'_>,
        meta: &ExportMeta,
        store: Store,
    ) -> Result<Self> {
        let (entries, factors) = match files {
            BaseFiles::Dir(dir) => from_dir(dir, spec, meta, store)?,
            BaseFiles::Gguf(file) => from_gguf(file, store)?,
        };
        let mut model = Self { merged, spec, sources: Vec::new(), plan: Vec::new(), factors, entries };
        for name in merged.names() {
            let mut shape = merged.shape(&name)?;
            if input_major(spec.family, &name) {
                shape.reverse();
            }
            let there = names::gguf(spec.family, &name)?;
            let store = if there.starts_with("position_embd") { Store::F32 } else { store.of(&shape) };
            model.plan.push(Planned { name: there, shape, store });
            model.sources.push(Some(name));
        }
        if let Some(factors) = &model.factors {
            model.plan.push(Planned { name: ROPE_FACTORS.to_owned(), shape: factors.shape.clone(), store: Store::F32 });
            model.sources.push(None);
        }
        Ok(model)
    }

    /// The tensors in their order.
    pub fn plan(&self) -> &[Planned] {
        &self.plan
    }

    /// Tensor number `i` in GGUF's layout, before it is rounded.
    pub fn tensor(&self, i: usize) -> Result<HostTensor> {
        let planned = self.plan.get(i).ok_or_else(|| Error::internal(format!("there is no tensor {i}")))?;
        let Some(Some(source)) = self.sources.get(i) else {
            return self.factors.clone().ok_or_else(|| Error::internal("there are no rotary factors"));
        };
        let HostTensor { shape, mut data, .. } = self.merged.read(source)?;
        if input_major(self.spec.family, source) {
            data = transposed(&data, shape[0], shape[1]);
        }
        if let Some(heads) = turned_heads(self.spec, source) {
            data = turn(&data, heads, shape.get(1).copied().unwrap_or(1));
        }
        HostTensor::new(planned.name.clone(), planned.shape.clone(), data)
    }

    /// Writes `model.gguf` into a new directory.
    pub fn write(&self, dir: &Path) -> Result<()> {
        new_dir(dir, |dir| gguf::write(&dir.join(FILE), &self.entries, &self.plan, &mut |i| self.tensor(i)))
    }
}

fn from_gguf(file: &Path, store: Store) -> Result<(Entries, Option<HostTensor>)> {
    let dropped = |key: &str| {
        ["general.file_type", "general.quantization_version", "general.alignment"].contains(&key)
            || key.starts_with("split.")
    };
    let mut entries: Entries = raw_entries(file)?.into_iter().filter(|(key, _)| !dropped(key)).collect();
    entries.extend(format(store));
    let base = GgufTensors::open(file)?;
    let factors = base.header().tensors.contains_key(ROPE_FACTORS).then(|| base.read(ROPE_FACTORS)).transpose()?;
    Ok((entries, factors))
}

fn format(store: Store) -> Entries {
    let mut entries = vec![("general.file_type".to_owned(), Value::U32(store.file_type()))];
    if store == Store::Q8_0 {
        entries.push(("general.quantization_version".to_owned(), Value::U32(2)));
    }
    entries
}

fn from_dir(dir: &Path, spec: &DecoderSpec, meta: &ExportMeta, store: Store) -> Result<(Entries, Option<HostTensor>)> {
    let config = read_json(&dir.join("config.json"))?;
    let architecture = names::architecture(spec.family);
    let mut entries: Entries = vec![
        ("general.architecture".to_owned(), text(architecture)),
        ("general.type".to_owned(), text("model")),
        ("general.name".to_owned(), text(base_name(&meta.base_model))),
    ];
    let mut put = |key: &str, value: Value| entries.push((format!("{architecture}.{key}"), value));
    let size = |n: usize| Value::U32(n as u32);
    put("block_count", size(spec.num_layers));
    put("context_length", size(spec.max_positions));
    put("embedding_length", size(spec.hidden_size));
    put("feed_forward_length", size(spec.intermediate_size));
    put("attention.head_count", size(spec.num_heads));
    let mut factors = None;
    if let Some(rope) = &spec.rope {
        put("attention.head_count_kv", size(spec.num_kv_heads));
        put("attention.layer_norm_rms_epsilon", Value::F32(spec.norm_eps as f32));
        put("attention.key_length", size(spec.head_dim));
        put("attention.value_length", size(spec.head_dim));
        put("rope.dimension_count", size(spec.head_dim));
        put("vocab_size", size(spec.vocab_size));
        if let Some(window) = spec.sliding_window {
            put("attention.sliding_window", size(window));
        }
        let inside =
            if config["rope_parameters"].is_object() { &config["rope_parameters"] } else { &config["rope_scaling"] };
        let theta = inside["rope_theta"].as_f64().or_else(|| config["rope_theta"].as_f64()).unwrap_or(10_000.0);
        put("rope.freq_base", Value::F32(theta as f32));
        match inside["rope_type"].as_str().or_else(|| inside["type"].as_str()) {
            Some("linear") => {
                put("rope.scaling.type", text("linear"));
                put("rope.scaling.factor", Value::F32(inside["factor"].as_f64().unwrap_or(1.0) as f32));
            }
            Some("llama3") => {
                let plain = RopeSpec::new(theta, spec.head_dim, Scaling::None).frequencies;
                let stretch =
                    plain.iter().zip(&rope.frequencies).map(|(plain, ours)| plain / ours).collect::<Vec<f32>>();
                factors = Some(HostTensor::new(ROPE_FACTORS, [stretch.len()], stretch)?);
            }
            _ => {}
        }
    } else {
        put("attention.layer_norm_epsilon", Value::F32(spec.norm_eps as f32));
    }
    entries.extend(format(store));
    entries.extend(tokenizer(describe::describe(dir, spec.vocab_size)?));
    Ok((entries, factors))
}

fn tokenizer(found: Description) -> Entries {
    let mut entries = vec![
        ("model", text("gpt2")),
        ("pre", text(found.pre)),
        ("tokens", Value::Texts(found.tokens)),
        ("token_type", Value::I32s(found.types)),
        ("merges", Value::Texts(found.merges)),
        ("add_bos_token", Value::Bool(found.add_bos)),
    ];
    for (key, id) in [
        ("bos_token_id", found.bos),
        ("eos_token_id", found.eos),
        ("unknown_token_id", found.unknown),
        ("padding_token_id", found.padding),
    ] {
        entries.extend(id.map(|id| (key, Value::U32(id))));
    }
    let mut entries: Entries =
        entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect();
    entries.extend(found.chat_template.map(|template| ("tokenizer.chat_template".to_owned(), text(template))));
    entries
}
