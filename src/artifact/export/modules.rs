//! LoRA as other programs know it: one pair of matrices on one matrix of the checkpoint.
//!
//! A site of ours may write several blocks of a fused matrix (q and v inside GPT-2's `c_attn`), and several sites may sit
//! on one matrix. Elsewhere there is one A and one B for each matrix. [`compose`] makes them: the rows of A of all blocks
//! one below the other, and a B whose rows are zero outside the block that an A belongs to. Nothing is lost; the rank is
//! the sum of the blocks' ranks.

use crate::error::{Error, Result};
use crate::mixture::{Lora, Side};
use crate::model::loras::{Module, Placed, Target};
use crate::tensor::{HostTensor, to_f32};
use candle_core::{DType, Device, Tensor};

/// One LoRA on one matrix of the checkpoint: `W + scale B A`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleLora {
    /// Layer, from 0.
    pub layer: usize,
    /// Hugging Face name inside the layer: `self_attn.q_proj`.
    pub path: String,
    /// R.
    pub rank: usize,
    /// `[R, in]`, row by row.
    pub a: Vec<f32>,
    /// `[out, R]`, row by row; always outputs first, also where the checkpoint keeps its matrix input-major.
    pub b: Vec<f32>,
    /// What the product is multiplied with.
    pub scale: f64,
}

impl ModuleLora {
    /// Width of the input.
    pub fn d_in(&self) -> usize {
        self.a.len() / self.rank.max(1)
    }
    /// Width of the output.
    pub fn d_out(&self) -> usize {
        self.b.len() / self.rank.max(1)
    }
    /// Our stable name of the module: `layers.3.self_attn.q_proj`.
    pub fn name(&self) -> String {
        format!("layers.{}.{}", self.layer, self.path)
    }
    /// A and B under our stable names. `[R, in]`, `[out, R]`
    pub fn tensors(&self) -> Result<[HostTensor; 2]> {
        let name = self.name();
        Ok([
            HostTensor::new(format!("{name}.lora_a.weight"), [self.rank, self.d_in()], self.a.clone())?,
            HostTensor::new(format!("{name}.lora_b.weight"), [self.d_out(), self.rank], self.b.clone())?,
        ])
    }
    /// `scale B A`, computed in f64. `[out, in]`
    pub fn delta(&self) -> Result<Vec<f64>> {
        let cpu = &Device::Cpu;
        let a = Tensor::from_slice(&self.a, (self.rank, self.d_in()), cpu)?.to_dtype(DType::F64)?;
        let b = Tensor::from_slice(&self.b, (self.d_out(), self.rank), cpu)?.to_dtype(DType::F64)?;
        Ok((b.matmul(&a)? * self.scale)?.flatten_all()?.to_vec1()?)
    }
    /// As the model runs it, on its matrix inside the layer.
    pub fn lora(&self, target: &Target, device: &Device, dtype: DType) -> Result<Lora> {
        let width: usize = target.columns.iter().map(|c| c.len()).sum();
        if !target.whole || self.d_in() != target.d_in || self.d_out() != width || self.rank == 0 {
            return Err(Error::format(format!(
                "LoRA on {} has A [{}, {}] and B [{}, {}], but this model's matrix is [{width}, {}]; the adapter belongs to another model",
                self.name(),
                self.rank,
                self.d_in(),
                self.d_out(),
                self.rank,
                target.d_in
            )));
        }
        let a = Tensor::from_slice(&self.a, (self.rank, self.d_in()), device)?.to_dtype(dtype)?;
        let b = Tensor::from_slice(&self.b, (self.d_out(), self.rank), device)?.to_dtype(dtype)?;
        Lora::new(&a, &b, target.columns.clone(), self.scale)
    }
}

/// The modules of a model's merged LoRAs, layer by layer. `targets`: all of the model's, whole ones and parts.
pub fn compose(loras: &[(String, &Placed)], targets: &[Target]) -> Result<Vec<ModuleLora>> {
    compose_with(loras, targets, &|module| match module {
        Module::Merged(lora) => Ok(lora.clone()),
        Module::Mixture(_) => Err(Error::internal("experts were exported as one module; merge them first")),
    })
}

/// As [`compose`], of expert number `expert` of every site.
pub fn compose_expert(loras: &[(String, &Placed)], targets: &[Target], expert: usize) -> Result<Vec<ModuleLora>> {
    compose_with(loras, targets, &|module| match module {
        Module::Merged(lora) => Ok(lora.clone()),
        Module::Mixture(mixture) => mixture.expert(expert),
    })
}

fn compose_with(
    loras: &[(String, &Placed)],
    targets: &[Target],
    pick: &dyn Fn(&Module) -> Result<Lora>,
) -> Result<Vec<ModuleLora>> {
    let mut found: Vec<(usize, &Target, Vec<Lora>)> = Vec::new();
    for (name, placed) in loras {
        let layer = name.split('.').nth(1).and_then(|layer| layer.parse::<usize>().ok());
        let path = placed.path.as_str();
        let inside = |t: &&Target| {
            t.whole && (t.path == path || path.strip_prefix(t.path.as_str()).is_some_and(|rest| rest.starts_with('.')))
        };
        let (Some(layer), Some(target)) = (layer, targets.iter().find(inside)) else {
            return Err(Error::internal(format!("LoRA site {name} is on no matrix of the model")));
        };
        let lora = pick(&placed.module)?;
        match found.iter_mut().find(|(l, t, _)| *l == layer && t.path == target.path) {
            Some((_, _, list)) => list.push(lora),
            None => found.push((layer, target, vec![lora])),
        }
    }
    found.into_iter().map(|(layer, target, list)| one(layer, target, &list)).collect()
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    to_f32(tensor)
}

/// All LoRAs on one matrix as one.
fn one(layer: usize, target: &Target, list: &[Lora]) -> Result<ModuleLora> {
    let first = target.columns.first().map_or(0, |c| c.start);
    let d_out: usize = target.columns.iter().map(|c| c.len()).sum();
    let rank: usize = list.iter().map(|lora| lora.rank() * lora.columns().len()).sum();
    let scale = list.first().map_or(1.0, Lora::scale);
    let (mut a, mut b, mut column) = (Vec::new(), vec![0.0f32; d_out * rank], 0);
    for lora in list {
        a.extend(values(&lora.side(Side::Down)?)?);
        let ours = values(&lora.side(Side::Up)?)?;
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
