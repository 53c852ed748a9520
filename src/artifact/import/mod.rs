//! Imports: adapters that other programs wrote, as plain host data under our names.
//!
//! | source | reader |
//! |---|---|
//! | PEFT LoRA directory | [`peft::read`] |
//! | checkpoint of the AdaMix reference code | [`reference::read`] |
//!
//! [`kind_of`] tells them apart by looking.

pub mod peft;
pub mod reference;

use super::export::modules::ModuleLora;
use crate::artifact::json::read_config;
use crate::config::MixtureConfig;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use std::path::Path;

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PEFT directory.
    Peft,
    /// A file of the reference code, written by `torch.save`.
    Reference,
}

/// What was found in the files: a mixture of experts.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// What wrote them, in words.
    pub source: &'static str,
    /// `bert`, `roberta`, `gpt2`, where the files say it.
    pub model_type: Option<String>,
    /// The base model, where the files name it.
    pub base_model: Option<String>,
    /// Kind, experts, sizes and sharing; everything else is the default.
    pub mixture: MixtureConfig,
    /// Modules whose experts do not count the same, with one merge weight for each expert.
    pub weights: Vec<(String, Vec<f64>)>,
    /// Banks and head under our names.
    pub tensors: Vec<HostTensor>,
    /// What the user should know, in words.
    pub notes: Vec<String>,
}

/// Looks at a directory or file and says what it is, or why it cannot be imported.
pub fn kind_of(path: &Path) -> Result<Kind> {
    if path.is_file() {
        return Ok(Kind::Reference);
    }
    let config = path.join("adapter_config.json");
    if !config.is_file() {
        return Err(Error::config(format!(
            "neither a file written by torch.save nor a directory with adapter_config.json: {}",
            path.display()
        )));
    }
    let json = read_config(&config)?;
    if json.get("peft_type").is_some() {
        return Ok(Kind::Peft);
    }
    let what = if json.get("fine_tune_type").is_some() {
        "an adapter of MLX; convert it to PEFT's layout first"
    } else if json.get("version").and_then(|v| v.as_str()).is_some_and(|v| v.starts_with("adapters.")) {
        "an adapter of the AdapterHub library, which is only read back as an export of this program"
    } else {
        "of no program that is known here: it has no peft_type"
    };
    Err(Error::config(format!("the adapter_config.json is {what}: {}", path.display())))
}

/// Several adapters of one shape as the experts of a mixture: banks under our names, `[M, ..]`, and one for all where a
/// side is the same in every adapter.
pub fn as_experts(adapters: &[Vec<ModuleLora>]) -> Result<Vec<HostTensor>> {
    let first = adapters.first().ok_or_else(|| Error::config("no adapters were given"))?;
    let mut banks = Vec::new();
    for (i, module) in first.iter().enumerate() {
        let mut sides: [Vec<&[f32]>; 2] = [Vec::new(), Vec::new()];
        for (number, adapter) in adapters.iter().enumerate() {
            let same = |m: &&ModuleLora| {
                m.name() == module.name() && m.b.len() == module.b.len() && m.a.len() == module.a.len()
            };
            match adapter.get(i).filter(same) {
                Some(m) if m.rank == module.rank && m.scale == module.scale && adapter.len() == first.len() => {
                    sides[0].push(&m.a);
                    sides[1].push(&m.b);
                }
                _ => {
                    return Err(Error::config(format!(
                        "adapter {number} differs from the first one in modules, rank or scale at {}; only adapters of one shape can be experts of one mixture",
                        module.name()
                    )));
                }
            }
        }
        for (tensor, side) in module.tensors()?.into_iter().zip(sides) {
            let shared = side.iter().all(|values| *values == side[0]);
            let experts = if shared { 1 } else { side.len() };
            let shape = [&[experts], tensor.shape.as_slice()].concat();
            banks.push(HostTensor::new(tensor.name, shape, side[..experts].concat())?);
        }
    }
    Ok(banks)
}
