//! Imports: adapters that other programs wrote, as plain host data under our names.
//!
//! | source | reader |
//! |---|---|
//! | PEFT LoRA directory | [`peft::read`] |
//! | checkpoint of the AdaMix reference code | [`reference::read`] |
//!
//! [`kind_of`] tells them apart by looking. [`place_in_decoder`] and [`place_in_encoder`] put modules on a trunk: what a
//! reader of an export computes with.

pub mod peft;
pub mod reference;

use super::export::modules::ModuleLora;
use crate::error::{Error, Result};
use crate::model::Classifier;
use crate::model::decoder::targets::lora_targets;
use crate::model::decoder::{CausalLm, Decoder, LmSetup};
use crate::model::encoder::{self, Encoder};
use crate::model::loras::{LayerLoras, Module, Placed, Target};
use crate::rng::SeedStream;
use crate::tensor::{HostTensor, to_f32};
use candle_core::{DType, Device};
use std::path::Path;

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PEFT directory.
    Peft,
    /// A file of the reference code, written by `torch.save`.
    Reference,
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
    let json = peft::read_json(&config)?;
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

/// Puts modules on a decoder: a language model without a mixture. Nothing may be on it yet.
pub fn place_in_decoder(mut decoder: Decoder, modules: &[ModuleLora]) -> Result<CausalLm> {
    let targets = lora_targets(decoder.spec());
    let (device, dtype) = (decoder.device().clone(), crate::nn::kernels::device::wide(decoder.dtype()));
    let layers = decoder.layers_mut().iter_mut().map(|layer| &mut layer.loras).collect();
    place(modules, &targets, layers, &device, dtype)?;
    CausalLm::new(decoder, LmSetup { mixture: None, seed: SeedStream::new(0) })
}

/// Puts modules on an encoder's layers.
pub fn place_in_encoder(encoder: &mut Encoder, modules: &[ModuleLora]) -> Result<()> {
    let targets = encoder::lora_targets(encoder.spec());
    let (device, dtype) = (encoder.device().clone(), crate::nn::kernels::device::wide(encoder.dtype()));
    let layers = encoder.layers_mut().iter_mut().map(|layer| &mut layer.loras).collect();
    place(modules, &targets, layers, &device, dtype)
}

/// A classifier without experts with an adapter on its trunk and the adapter's head in place of its own: the tensors of
/// `bare`'s head are overwritten, those that the adapter lacks stay as they are.
pub fn on_classifier(bare: &Classifier, adapter: &peft::PeftAdapter) -> Result<Classifier> {
    with_modules(bare, &adapter.modules, &adapter.head)
}

/// [`on_classifier`] with modules and head by themselves.
pub fn with_modules(bare: &Classifier, modules: &[ModuleLora], head: &[HostTensor]) -> Result<Classifier> {
    let model = bare.with_trunk(|encoder| place_in_encoder(encoder, modules))?;
    for tensor in head {
        if model.params().find(&tensor.name).is_none() {
            return Err(Error::format(format!("tensor {} has no place in this model's head", tensor.name)));
        }
    }
    let values: Vec<HostTensor> = model
        .params()
        .iter()
        .map(|param| match head.iter().find(|t| t.name == param.name) {
            Some(tensor) => Ok(tensor.clone()),
            None => {
                let values = to_f32(&param.value)?;
                HostTensor::new(param.name.clone(), param.value.dims(), values)
            }
        })
        .collect::<Result<_>>()?;
    model.set_params(|name| values.iter().find(|t| t.name == name).map(|t| (t.shape.as_slice(), t.data.as_slice())))?;
    Ok(model)
}

fn place(
    modules: &[ModuleLora],
    targets: &[Target],
    mut layers: Vec<&mut LayerLoras>,
    device: &Device,
    dtype: DType,
) -> Result<()> {
    let per_layer = targets.iter().filter(|t| t.whole).count();
    for module in modules {
        let position = targets.iter().filter(|t| t.whole).position(|t| t.path == module.path);
        let target = targets.iter().find(|t| t.whole && t.path == module.path);
        let count = layers.len();
        let (Some(position), Some(target), Some(loras)) = (position, target, layers.get_mut(module.layer)) else {
            return Err(Error::format(format!(
                "LoRA on {}, but this model of {count} layers has no such matrix; the adapter belongs to another model",
                module.name()
            )));
        };
        let lora = Module::Merged(module.lora(target, device, dtype)?);
        let site = module.layer * per_layer + position;
        loras.push(target.slot, Placed { site, path: module.path.clone(), module: lora });
    }
    Ok(())
}
