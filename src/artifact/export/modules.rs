//! LoRA as other programs know it: one pair of matrices on one matrix of the checkpoint.

use crate::error::Result;
use crate::tensor::{DType, Device, HostTensor, Tensor};

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
        (b.matmul(&a)? * self.scale)?.flatten_all()?.to_vec1()
    }
}

/// LoRA and trained head of one adapter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoraAdapter {
    /// The LoRA, by layer and name.
    pub modules: Vec<ModuleLora>,
    /// The trained head under our names; empty for a language model.
    pub head: Vec<HostTensor>,
}

impl LoraAdapter {
    /// All tensors under our names.
    pub fn tensors(&self) -> Result<Vec<HostTensor>> {
        let modules = self.modules.iter().map(ModuleLora::tensors).collect::<Result<Vec<_>>>()?;
        Ok(modules.into_iter().flatten().chain(self.head.iter().cloned()).collect())
    }
}
