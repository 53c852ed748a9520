//! A base model's tensors with LoRA and head added, one at a time: what both kinds of merged models are written from.
//!
//! The base may be a Hugging Face directory or anything else that [`BaseTensors`] gives. Names are those that transformers
//! gives the whole model (`model.layers.0...`, `lm_head.weight`), whatever the file left out.

use super::modules::{LoraAdapter, ModuleLora};
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::tensor::gguf::{Metadata, NamingScheme};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

/// The tensors of a base model, under the names of its files.
pub trait BaseTensors {
    /// All names.
    fn names(&self) -> Vec<String>;
    /// The shape of one.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;
    /// The values of one in 32 bits, row by row.
    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;
}

/// What the files of a language model say of its architecture.
pub trait DecoderArchitecture: Debug {
    /// How checkpoints name the tensors.
    fn naming(&self) -> NamingScheme;
    /// What the names of the base model's tensors begin with in a checkpoint that has an LM head: `model`.
    fn prefix(&self) -> &'static str;
    /// Whether the LM head is the table of embeddings.
    fn tied(&self) -> bool;
    /// Rows of the table of embeddings.
    fn vocab_size(&self) -> usize;
    /// The class that transformers loads: `LlamaForCausalLM`.
    fn transformers_class(&self) -> &'static str;
    /// `config.json`, for a base in a GGUF file, which has none.
    fn config_json(&self, file: &Path) -> Result<Value>;
    /// `general.architecture` in GGUF.
    fn gguf_architecture(&self) -> &'static str;
    /// The heads whose rows llama.cpp has in another order, in a tensor of this name.
    fn permuted_heads(&self, name: &str) -> Option<usize>;
    /// The architecture's metadata in GGUF, and a factor for each rotary frequency where there are such, for a base in a
    /// Hugging Face directory.
    fn gguf_metadata(&self, dir: &Path) -> Result<(Metadata, Option<Vec<f32>>)>;
}

/// What the base is.
#[derive(Clone, Copy, Debug)]
pub enum BaseKind<'a> {
    /// A language model.
    Decoder(&'a dyn DecoderArchitecture),
    /// An encoder: `bert` or `roberta`.
    Encoder(&'a str),
}

impl<'a> BaseKind<'a> {
    /// What the names of the base model's tensors begin with in a checkpoint that has a head.
    pub fn prefix(self) -> &'a str {
        match self {
            Self::Decoder(spec) => spec.prefix(),
            Self::Encoder(model_type) => model_type,
        }
    }
    /// The language model's family and sizes.
    pub fn decoder(self) -> Result<&'a dyn DecoderArchitecture> {
        match self {
            Self::Decoder(spec) => Ok(spec),
            Self::Encoder(_) => Err(Error::config("GGUF is for language models; this is an encoder")),
        }
    }
}

/// Where the base model's configuration and tokenizer are.
#[derive(Clone, Copy, Debug)]
pub enum BaseFiles<'a> {
    /// A Hugging Face directory.
    Dir(&'a Path),
    /// A GGUF file.
    Gguf(&'a Path),
}

/// A base model and what is added to it.
pub struct MergedWeights<'a> {
    weights: &'a dyn BaseTensors,
    kind: BaseKind<'a>,
    /// Names as transformers has them, and in the file.
    names: BTreeMap<String, String>,
    modules: BTreeMap<String, ModuleLora>,
    head: BTreeMap<String, HostTensor>,
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

impl<'a> MergedWeights<'a> {
    /// Checks that every module has its matrix.
    pub fn new(weights: &'a dyn BaseTensors, kind: BaseKind<'a>, adapter: LoraAdapter) -> Result<Self> {
        let mut merged =
            Self { weights, kind, names: BTreeMap::new(), modules: BTreeMap::new(), head: BTreeMap::new() };
        for stored in weights.names() {
            if let Some(name) = merged.full(&stored) {
                merged.names.insert(name, stored);
            }
        }
        for tensor in adapter.head {
            let prefix = if tensor.name.starts_with("pooler.") { "bert." } else { "" };
            merged.head.insert(format!("{prefix}{}", tensor.name), tensor);
        }
        for module in adapter.modules {
            let name = merged.full(&match kind {
                BaseKind::Decoder(spec) if spec.naming() == NamingScheme::Gpt2 => {
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
                "lm_head.weight" => (!spec.tied()).then(|| stored.to_owned()),
                _ => Some(with(spec.prefix(), stored)),
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
        matches!(self.kind, BaseKind::Decoder(spec) if spec.naming().input_major(name))
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
        stored.ok_or_else(|| Error::internal(format!("there is no tensor {name}")))
    }

    /// One tensor: the head's, the base's with its LoRA, or the base's. Sums in f64, rounded once.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        if let Some(tensor) = self.head.get(name) {
            return Ok(HostTensor { name: name.to_owned(), ..tensor.clone() });
        }
        let shape = self.shape(name)?;
        let stored = self.names.get(name).map_or(name, String::as_str);
        let mut data = self.weights.read(stored, &shape)?;
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
