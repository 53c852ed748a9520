//! LoRA between the model and the checkpoint: as the model runs it, and as one pair of matrices on each matrix.
//!
//! A module of ours may write several blocks of a fused matrix (q and v inside GPT-2's `c_attn`), and several modules may
//! sit on one matrix. Other programs have one A and one B for each matrix. [`compose`] makes them: the rows of A of all
//! blocks one below the other, and a B whose rows are zero outside the block that an A belongs to. Nothing is lost; the
//! rank is the sum of the blocks' ranks. [`place_in_decoder`] and [`with_adapter`] are the way back.

use crate::artifact::export::modules::{LoraAdapter, ModuleLora};
use crate::error::{Error, Result};
use crate::mixture::{Lora, Side};
use crate::model::decoder::targets::lora_targets;
use crate::model::decoder::{CausalLm, Decoder, LmSetup};
use crate::model::loras::{Module, Placed, Target};
use crate::model::{BaseModel, Classifier, encoder};
use crate::nn::kernels::device::wide;
use crate::rng::SeedStream;
use crate::tensor::{DType, Device, Tensor, to_f32};
use crate::train::checkpoint::{host_tensors, set_tensors};

/// The merged LoRAs of a model, or with `expert` that expert in every place, as one module for each matrix, layer by layer.
/// `targets`: all of the model's, whole ones and parts.
pub fn compose(loras: &[(String, &Placed)], targets: &[Target], expert: Option<usize>) -> Result<Vec<ModuleLora>> {
    let mut found: Vec<(usize, &Target, Vec<Lora>)> = Vec::new();
    for (name, placed) in loras {
        let layer = name.split('.').nth(1).and_then(|layer| layer.parse::<usize>().ok());
        let path = placed.path.as_str();
        let inside = |t: &&Target| {
            t.whole && (t.path == path || path.strip_prefix(t.path.as_str()).is_some_and(|rest| rest.starts_with('.')))
        };
        let (Some(layer), Some(target)) = (layer, targets.iter().find(inside)) else {
            return Err(Error::internal(format!("LoRA {name} is on no matrix of the model")));
        };
        let lora = match (&placed.module, expert) {
            (Module::Merged(lora), _) => lora.clone(),
            (Module::Mixture(mixture), Some(expert)) => mixture.expert(expert)?,
            (Module::Mixture(_), None) => {
                return Err(Error::internal("experts were exported as one module; merge them first"));
            }
        };
        match found.iter_mut().find(|(l, t, _)| *l == layer && t.path == target.path) {
            Some((_, _, list)) => list.push(lora),
            None => found.push((layer, target, vec![lora])),
        }
    }
    found.into_iter().map(|(layer, target, list)| one(layer, target, &list)).collect()
}

/// All LoRAs on one matrix as one.
fn one(layer: usize, target: &Target, list: &[Lora]) -> Result<ModuleLora> {
    let first = target.columns.first().map_or(0, |c| c.start);
    let d_out: usize = target.columns.iter().map(|c| c.len()).sum();
    let rank: usize = list.iter().map(|lora| lora.rank() * lora.columns().len()).sum();
    let scale = list.first().map_or(1.0, Lora::scale);
    let (mut a, mut b, mut column) = (Vec::new(), vec![0.0f32; d_out * rank], 0);
    for lora in list {
        a.extend(to_f32(&lora.side(Side::Down)?)?);
        let ours = to_f32(&lora.side(Side::Up)?)?;
        let (r, factor, mut row) = (lora.rank(), lora.scale() / scale, 0);
        for block in lora.columns() {
            for out in block.start - first..block.end - first {
                let source = &ours[row * r..(row + 1) * r];
                let place = out * rank + column;
                for (to, from) in b[place..place + r].iter_mut().zip(source) {
                    // Equal scales, which is nearly always, change no bit.
                    *to = if factor == 1.0 { *from } else { (f64::from(*from) * factor) as f32 };
                }
                row += 1;
            }
            column += r;
        }
    }
    Ok(ModuleLora { layer, path: target.path.clone(), rank, a, b, scale })
}

/// Puts modules on a decoder: a language model without a mixture. Nothing may be on it yet.
pub fn place_in_decoder(mut decoder: Decoder, modules: &[ModuleLora]) -> Result<CausalLm> {
    let targets = lora_targets(&decoder.spec);
    let dtype = wide(decoder.dtype());
    place(modules, &targets, &mut decoder, dtype)?;
    CausalLm::new(decoder, LmSetup { mixture: None, seed: SeedStream::new(0) })
}

/// A classifier without experts with an adapter on its encoder and the adapter's head in place of its own: the tensors of
/// `bare`'s head are overwritten, those that the adapter lacks stay as they are.
pub fn with_adapter(bare: &Classifier, adapter: &LoraAdapter) -> Result<Classifier> {
    let model = bare.with_base(|encoder| {
        let targets = encoder::lora_targets(&encoder.spec);
        let dtype = wide(encoder.matrix_dtype());
        place(&adapter.modules, &targets, encoder, dtype)
    })?;
    let mut values = host_tensors(&model)?;
    for tensor in &adapter.head {
        let place = values.iter_mut().find(|value| value.name == tensor.name);
        let missing = || Error::format(format!("tensor {} has no place in this model's head", tensor.name));
        place.ok_or_else(missing)?.clone_from(tensor);
    }
    set_tensors(&model, &values)?;
    Ok(model)
}

fn place(modules: &[ModuleLora], targets: &[Target], base: &mut impl BaseModel, dtype: DType) -> Result<()> {
    let device = base.device().clone();
    let mut layers: Vec<_> = base.modules_mut().collect();
    let per_layer = targets.iter().filter(|t| t.whole).count();
    for module in modules {
        let position = targets.iter().filter(|t| t.whole).position(|t| t.path == module.path);
        let target = targets.iter().find(|t| t.whole && t.path == module.path);
        let count = layers.len();
        let (Some(position), Some(target), Some(layer)) = (position, target, layers.get_mut(module.layer)) else {
            return Err(Error::format(format!(
                "LoRA on {}, but this model of {count} layers has no such matrix; the adapter belongs to another model",
                module.name()
            )));
        };
        let lora = Module::Merged(lora_on(module, target, &device, dtype)?);
        let site = module.layer * per_layer + position;
        let placed = Placed { site, path: module.path.clone(), module: lora };
        layer.linears[target.slot as usize].loras.push(placed);
    }
    Ok(())
}

/// A LoRA as the model runs it, on its matrix inside the layer.
fn lora_on(module: &ModuleLora, target: &Target, device: &Device, dtype: DType) -> Result<Lora> {
    let width: usize = target.columns.iter().map(|c| c.len()).sum();
    if !target.whole || module.d_in() != target.d_in || module.d_out() != width || module.rank == 0 {
        return Err(Error::format(format!(
            "LoRA on {} has A [{}, {}] and B [{}, {}], but this model's matrix is [{width}, {}]; the adapter belongs to another model",
            module.name(),
            module.rank,
            module.d_in(),
            module.d_out(),
            module.rank,
            target.d_in
        )));
    }
    let a = Tensor::from_slice(&module.a, (module.rank, module.d_in()), device)?.to_dtype(dtype)?;
    let b = Tensor::from_slice(&module.b, (module.d_out(), module.rank), device)?.to_dtype(dtype)?;
    Lora::new(&a, &b, target.columns.clone(), module.scale)
}
