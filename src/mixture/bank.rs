//! A bank: all experts of one projection in one tensor. Each row of a batch goes through the expert drawn for it.

use super::merging;
use crate::error::{Error, Result};
use crate::nn::kernels::routed::{ExpertGrad, Experts};
use crate::nn::{Grads, ParamId, Params};
use crate::tensor::Tensor;

/// All experts of one projection. weight `[experts, out, in]`, bias `[experts, out]` (adapters) or none (LoRA)
#[derive(Clone, Debug)]
pub struct Bank {
    weight: Tensor,
    bias: Option<Tensor>,
    trained: Option<(ParamId, Option<ParamId>)>,
}

impl Bank {
    /// A frozen bank. weight `[experts, out, in]`, bias `[experts, out]`
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (experts, d_out, _) = weight.dims3()?;
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [experts, d_out]) {
            return Err(Error::format(format!("bank bias {:?} does not fit weight {:?}", bias.dims(), weight.dims())));
        }
        Ok(Self { weight, bias, trained: None })
    }

    /// Makes it trained; its tensors get the names `{name}.weight` and `{name}.bias`.
    pub fn train(&mut self, name: &str, params: &mut Params) -> Result<()> {
        let weight = params.add_bank(format!("{name}.weight"), &self.weight)?;
        let bias = self.bias.as_ref().map(|bias| params.add_bank(format!("{name}.bias"), bias)).transpose()?;
        self.trained = Some((weight, bias));
        Ok(())
    }

    /// The weighted mean of the experts: one module. Weights `[M]`
    pub fn mean(&self, weights: &[f64]) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| merging::mean(bias, weights)).transpose()?;
        Ok(Self { weight: merging::mean(&self.weight, weights)?, bias, trained: None })
    }

    /// A bank of one expert of this shape, format and device. weight `[out * in]`, bias `[out]`, or nothing without one
    pub fn one(&self, weight: &[f32], bias: &[f32]) -> Result<Self> {
        let (_, d_out, d_in) = self.weight.dims3()?;
        let like = |values: &[f32], shape: &[usize], like: &Tensor| {
            Tensor::from_slice(values, shape, like.device())?.to_dtype(like.dtype())
        };
        let bias = self.bias.as_ref().map(|own| like(bias, &[1, d_out], own)).transpose()?;
        Self::new(like(weight, &[1, d_out, d_in], &self.weight)?, bias)
    }

    /// The experts moved from their mean by a factor: `W̄ + alpha (W_j - W̄)`. Not trained.
    pub fn spread(&self, alpha: f64) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| merging::spread(bias, alpha)).transpose()?;
        Ok(Self { weight: merging::spread(&self.weight, alpha)?, bias, trained: None })
    }

    /// W of all experts. `[experts, out, in]`
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
    /// b of all experts, where they have one. `[experts, out]`
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
    /// Number of experts: 1 when the side is shared.
    pub fn experts(&self) -> usize {
        self.weight.dims()[0]
    }

    /// The matrices, for the routed products.
    pub fn matrices(&self) -> Experts<'_> {
        Experts { weight: &self.weight, bias: self.bias.as_ref() }
    }

    /// Adds gradients of experts, where they are trained.
    pub fn add_grads(&self, of: Vec<ExpertGrad>, grads: &mut Grads) -> Result<()> {
        let Some((weight, bias)) = self.trained else { return Ok(()) };
        for grad in of {
            grads.add(weight, grad.expert, grad.weight)?;
            if let (Some(bias), Some(db)) = (bias, grad.bias) {
                grads.add(bias, grad.expert, db)?;
            }
        }
        Ok(())
    }
}
