//! A base model's tensors with LoRA and head added, one at a time: what both kinds of merged models are written from.
//!
//! The base may be a Hugging Face directory or anything else that [`Weights`] reads. Names are those that transformers
//! gives the whole model (`model.layers.0...`, `lm_head.weight`), whatever the file left out.

use super::modules::ModuleLora;
use crate::error::{Error, Result};
use crate::model::decoder::{DecoderFamily, DecoderSpec};
use crate::model::weights::Weights;
use crate::tensor::{HostTensor, to_f32};
use candle_core::{DType, Device};
use std::collections::BTreeMap;

/// What the base is.
#[derive(Clone, Copy, Debug)]
pub enum BaseKind<'a> {
    /// A language model.
    Decoder(&'a DecoderSpec),
    /// An encoder: `bert` or `roberta`.
    Encoder(&'a str),
}

/// A base model and what is added to it.
pub struct Merged<'a> {
    weights: &'a Weights,
    kind: BaseKind<'a>,
    /// Names as transformers has them, and in the file.
    names: BTreeMap<String, String>,
    modules: BTreeMap<String, &'a ModuleLora>,
    head: BTreeMap<String, &'a HostTensor>,
}

/// Ends of the names of what is computed, not trained: old checkpoints store it.
const BUFFERS: [&str; 6] = [
    ".attn.bias",
    ".attn.masked_bias",
    ".rotary_emb.inv_freq",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "rope_freqs.weight",
];

impl<'a> Merged<'a> {
    /// Checks that every module has its matrix. `head`: trained tensors of a classifier's head under our names.
    pub fn new(
        weights: &'a Weights,
        kind: BaseKind<'a>,
        modules: &'a [ModuleLora],
        head: &'a [HostTensor],
    ) -> Result<Self> {
        let mut merged =
            Self { weights, kind, names: BTreeMap::new(), modules: BTreeMap::new(), head: BTreeMap::new() };
        for stored in weights.names() {
            if let Some(name) = merged.full(stored) {
                merged.names.insert(name, stored.to_owned());
            }
        }
        for tensor in head {
            let prefix = if tensor.name.starts_with("pooler.") { "bert." } else { "" };
            merged.head.insert(format!("{prefix}{}", tensor.name), tensor);
        }
        for module in modules {
            let name = merged.full(&match kind {
                BaseKind::Decoder(spec) if spec.family == DecoderFamily::Gpt2 => {
                    format!("h.{}.{}.weight", module.layer, module.path)
                }
                BaseKind::Decoder(_) => format!("layers.{}.{}.weight", module.layer, module.path),
                BaseKind::Encoder(_) => format!("encoder.layer.{}.{}.weight", module.layer, module.path),
            });
            let name = name.filter(|name| merged.names.contains_key(name));
            let name = name.ok_or_else(|| Error::config(format!("the base model has no matrix {}", module.name())))?;
            let mut shape = merged.shape(&name)?;
            if merged.input_major(&name) {
                shape.reverse();
            }
            if shape != [module.d_out(), module.d_in()] {
                return Err(Error::format(format!(
                    "LoRA on {name} is for a matrix [{}, {}], but the base model has {shape:?}",
                    module.d_out(),
                    module.d_in()
                )));
            }
            if merged.modules.insert(name.clone(), module).is_some() {
                return Err(Error::internal(format!("two modules on {name}; compose them first")));
            }
        }
        Ok(merged)
    }

    /// As transformers calls a tensor of the whole model; nothing for what such a model does not have.
    fn full(&self, stored: &str) -> Option<String> {
        if BUFFERS.iter().any(|end| stored.ends_with(end)) {
            return None;
        }
        let with = |prefix: &str, name: &str| {
            if name.starts_with(&format!("{prefix}.")) { name.to_owned() } else { format!("{prefix}.{name}") }
        };
        match self.kind {
            BaseKind::Decoder(spec) => match stored {
                "lm_head.weight" => (!spec.tied).then(|| stored.to_owned()),
                _ => Some(with(spec.family.prefix(), stored)),
            },
            BaseKind::Encoder(kind) => {
                if stored.starts_with("classifier.") {
                    return Some(stored.to_owned());
                }
                if ["cls.", "lm_head.", "qa_outputs."].iter().any(|start| stored.starts_with(start)) {
                    return None;
                }
                let name = with(kind, stored)
                    .replace("LayerNorm.gamma", "LayerNorm.weight")
                    .replace("LayerNorm.beta", "LayerNorm.bias");
                // RoBERTa's head has its own dense layer in the pooler's place.
                (kind == "bert" || !name.starts_with("roberta.pooler.")).then_some(name)
            }
        }
    }

    fn input_major(&self, name: &str) -> bool {
        matches!(self.kind, BaseKind::Decoder(spec) if spec.family.naming().input_major(name))
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let head = self.head.keys().filter(|name| !self.names.contains_key(*name));
        let mut names: Vec<String> = self.names.keys().chain(head).cloned().collect();
        names.sort();
        names
    }

    /// The shape of a tensor as transformers has it.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        if let Some(tensor) = self.head.get(name) {
            return Ok(tensor.shape.clone());
        }
        let stored = self.names.get(name).and_then(|stored| self.weights.shape(stored));
        stored.map(<[usize]>::to_vec).ok_or_else(|| Error::internal(format!("there is no tensor {name}")))
    }

    /// One tensor: the head's, the base's with its LoRA, or the base's. Sums in f64, rounded once.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        if let Some(tensor) = self.head.get(name) {
            return Ok(HostTensor { name: name.to_owned(), ..(*tensor).clone() });
        }
        let shape = self.shape(name)?;
        let stored = self.names.get(name).map_or(name, String::as_str);
        let base = self.weights.get(stored, &shape, DType::F32, &Device::Cpu)?;
        let mut data = to_f32(&base)?;
        if let Some(module) = self.modules.get(name) {
            let delta = module.delta()?;
            let (rows, columns) = (module.d_out(), module.d_in());
            for row in 0..rows {
                for column in 0..columns {
                    let at = if self.input_major(name) { column * rows + row } else { row * columns + column };
                    data[at] = (f64::from(data[at]) + delta[row * columns + column]) as f32;
                }
            }
        }
        HostTensor::new(name, shape, data)
    }
}
