//! The merged language model as a GGUF file.
//!
//! From a GGUF base the metadata, tokenizer included, is carried over byte for byte; from a Hugging Face directory the keys
//! of the architecture and of a byte-level tokenizer are written as llama.cpp's converter does. Weights go through memory
//! one at a time; matrices are stored in the format asked for, vectors and position tables in 32 bits.

use super::base::Merged;
use super::gguf_adapter::base_name;
use super::hf::BaseFiles;
use super::{ExportMeta, new_dir};
use crate::artifact::import::peft::read_json;
use crate::data::gguf::describe::{self, Description};
use crate::error::{Error, Result};
use crate::model::decoder::DecoderSpec;
use crate::model::decoder::rope::{RopeSpec, Scaling};
use crate::tensor::gguf::{self, GgufFile, GgufValue, Metadata, layout};
use crate::tensor::{HostTensor, NumberFormat, TensorPlan};
use std::borrow::Cow;
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
    plan: Vec<TensorPlan>,
    factors: Option<HostTensor>,
    entries: Metadata,
}

impl<'a> GgufModel<'a> {
    /// Plans the file.
    pub fn new(
        merged: &'a Merged<'a>,
        spec: &'a DecoderSpec,
        files: BaseFiles<'_>,
        meta: &ExportMeta,
        store: NumberFormat,
    ) -> Result<Self> {
        let (entries, factors) = match files {
            BaseFiles::Dir(dir) => from_dir(dir, spec, meta, store)?,
            BaseFiles::Gguf(file) => from_gguf(file, store)?,
        };
        let mut model = Self { merged, spec, sources: Vec::new(), plan: Vec::new(), factors, entries };
        for name in merged.names() {
            let mut shape = merged.shape(&name)?;
            if spec.family.naming().input_major(&name) {
                shape.reverse();
            }
            let there = gguf_name(spec, &name)?;
            let format = stored_as(store, &there, &shape);
            model.plan.push(TensorPlan { name: there, shape, format });
            model.sources.push(Some(name));
        }
        if let Some(factors) = &model.factors {
            model.plan.push(TensorPlan {
                name: ROPE_FACTORS.to_owned(),
                shape: factors.shape.clone(),
                format: NumberFormat::F32,
            });
            model.sources.push(None);
        }
        Ok(model)
    }

    /// The tensors in their order.
    pub fn plan(&self) -> &[TensorPlan] {
        &self.plan
    }

    /// Tensor number `i` in GGUF's layout, before it is rounded.
    pub fn tensor(&self, i: usize) -> Result<HostTensor> {
        let planned = self.plan.get(i).ok_or_else(|| Error::internal(format!("there is no tensor {i}")))?;
        let Some(Some(source)) = self.sources.get(i) else {
            return self.factors.clone().ok_or_else(|| Error::internal("there are no rotary factors"));
        };
        let HostTensor { shape, mut data, .. } = self.merged.read(source)?;
        if self.spec.family.naming().input_major(source) {
            data = layout::transposed(&data, shape[0], shape[1]);
        }
        if let Some(heads) = self.spec.permuted_heads(source) {
            data = layout::rope_to_gguf(&data, heads, shape.get(1).copied().unwrap_or(1));
        }
        HostTensor::new(planned.name.clone(), planned.shape.clone(), data)
    }

    /// Writes `model.gguf` into a new directory.
    pub fn write(&self, dir: &Path) -> Result<()> {
        new_dir(dir, |dir| {
            gguf::write(&dir.join(FILE), &self.entries, &self.plan, &mut |i| self.tensor(i).map(Cow::Owned))
        })
    }
}

/// GGUF's name of a tensor of the checkpoint.
pub fn gguf_name(spec: &DecoderSpec, name: &str) -> Result<String> {
    let unknown = || Error::config(format!("tensor {name} has no place in a GGUF file of this family"));
    spec.family.naming().to_gguf(name).ok_or_else(unknown)
}

/// How a tensor of this GGUF name is stored in a file of this format: position tables stay in 32 bits too.
pub fn stored_as(format: NumberFormat, name: &str, shape: &[usize]) -> NumberFormat {
    if name.starts_with("position_embd") { NumberFormat::F32 } else { format.for_shape(shape) }
}

fn from_gguf(file: &Path, store: NumberFormat) -> Result<(Metadata, Option<HostTensor>)> {
    let dropped = |key: &str| {
        ["general.file_type", "general.quantization_version", "general.alignment"].contains(&key)
            || key.starts_with("split.")
    };
    let base = GgufFile::open(file)?;
    let mut entries: Metadata = base.raw_metadata()?.into_iter().filter(|(key, _)| !dropped(key)).collect();
    entries.extend(format(store));
    let factors = base.tensors.contains_key(ROPE_FACTORS).then(|| base.read(ROPE_FACTORS)).transpose()?;
    Ok((entries, factors))
}

fn format(store: NumberFormat) -> Metadata {
    let mut entries = vec![("general.file_type".to_owned(), GgufValue::Int(gguf::file_type(store).into()))];
    if store == NumberFormat::Q8_0 {
        entries.push(("general.quantization_version".to_owned(), GgufValue::Int(2)));
    }
    entries
}

fn from_dir(
    dir: &Path,
    spec: &DecoderSpec,
    meta: &ExportMeta,
    store: NumberFormat,
) -> Result<(Metadata, Option<HostTensor>)> {
    let config = read_json(&dir.join("config.json"))?;
    let architecture = spec.family.gguf_architecture();
    let mut entries: Metadata = vec![
        ("general.architecture".to_owned(), architecture.into()),
        ("general.type".to_owned(), "model".into()),
        ("general.name".to_owned(), base_name(&meta.base_model).into()),
    ];
    let mut put = |key: &str, value: GgufValue| entries.push((format!("{architecture}.{key}"), value));
    put("block_count", GgufValue::from(spec.num_layers));
    put("context_length", GgufValue::from(spec.max_positions));
    put("embedding_length", GgufValue::from(spec.hidden_size));
    put("feed_forward_length", GgufValue::from(spec.intermediate_size));
    put("attention.head_count", GgufValue::from(spec.num_heads));
    let mut factors = None;
    if let Some(rope) = &spec.rope {
        put("attention.head_count_kv", GgufValue::from(spec.num_kv_heads));
        put("attention.layer_norm_rms_epsilon", GgufValue::Float(spec.norm_eps));
        put("attention.key_length", GgufValue::from(spec.head_dim));
        put("attention.value_length", GgufValue::from(spec.head_dim));
        put("rope.dimension_count", GgufValue::from(spec.head_dim));
        put("vocab_size", GgufValue::from(spec.vocab_size));
        if let Some(window) = spec.sliding_window {
            put("attention.sliding_window", GgufValue::from(window));
        }
        let inside =
            if config["rope_parameters"].is_object() { &config["rope_parameters"] } else { &config["rope_scaling"] };
        let theta = inside["rope_theta"].as_f64().or_else(|| config["rope_theta"].as_f64()).unwrap_or(10_000.0);
        put("rope.freq_base", GgufValue::Float(theta));
        match inside["rope_type"].as_str().or_else(|| inside["type"].as_str()) {
            Some("linear") => {
                put("rope.scaling.type", "linear".into());
                put("rope.scaling.factor", GgufValue::Float(inside["factor"].as_f64().unwrap_or(1.0)));
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
        put("attention.layer_norm_epsilon", GgufValue::Float(spec.norm_eps));
    }
    entries.extend(format(store));
    entries.extend(tokenizer(describe::describe(dir, spec.vocab_size)?));
    Ok((entries, factors))
}

fn tokenizer(found: Description) -> Metadata {
    let mut entries = vec![
        ("model", "gpt2".into()),
        ("pre", found.pre.into()),
        ("tokens", GgufValue::Strings(found.tokens)),
        ("token_type", GgufValue::Ints(found.types.into_iter().map(i64::from).collect())),
        ("merges", GgufValue::Strings(found.merges)),
        ("add_bos_token", GgufValue::Bool(found.add_bos)),
    ];
    for (key, id) in [
        ("bos_token_id", found.bos),
        ("eos_token_id", found.eos),
        ("unknown_token_id", found.unknown),
        ("padding_token_id", found.padding),
    ] {
        entries.extend(id.map(|id| (key, GgufValue::Int(id.into()))));
    }
    let mut entries: Metadata =
        entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect();
    entries.extend(found.chat_template.map(|template| ("tokenizer.chat_template".to_owned(), template.into())));
    entries
}
