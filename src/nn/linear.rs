//! Linear layer: `y = x Wᵀ + b`. x `[n, in]`, W `[out, in]`, b `[out]` -> y `[n, out]`.
//!
//! Backward: `dx = dy W`; where it is trained also `dW = dyᵀ x` and `db = Σ dy`. A frozen layer saves nothing.

use super::kernels::activation::Act;
use super::kernels::bottleneck::Routed;
use super::kernels::gemm;
use super::kernels::low_rank::LowRank;
use super::kernels::types::Dropout;
use super::params::{Grads, ParamId, Params};
use super::weight::Weight;
use crate::error::Result;
use crate::tensor::{DType, NumberFormat, Tensor};

/// A linear layer, frozen or trained.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    trained: Option<(ParamId, Option<ParamId>)>,
}

impl Linear {
    /// A frozen layer. weight `[out, in]`, bias `[out]`
    pub fn new(weight: impl Into<Weight>, bias: Option<Tensor>) -> Self {
        Self { weight: weight.into(), bias, trained: None }
    }

    /// Makes the layer trained; its tensors get the names `{name}.weight` and `{name}.bias`. A quantised one stays frozen.
    pub fn train(&mut self, name: &str, params: &mut Params) {
        let Weight::Dense(weight) = &self.weight else { return };
        let weight = params.add(format!("{name}.weight"), weight);
        let bias = self.bias.as_ref().map(|bias| params.add(format!("{name}.bias"), bias));
        self.trained = Some((weight, bias));
    }

    /// W. `[out, in]`
    pub fn weight(&self) -> &Weight {
        &self.weight
    }
    /// b. `[out]`
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
    /// Whether its own gradient is needed.
    pub fn is_trained(&self) -> bool {
        self.trained.is_some()
    }

    /// The same layer for a block of its outputs (rows of W), frozen.
    pub fn rows(&self, start: usize, len: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, start, len)).transpose()?;
        Ok(Self::new(self.weight.rows(start, len)?, bias))
    }

    /// `x Wᵀ + b`. x `[n, in]` -> `[n, out]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.weight.linear(x, self.bias.as_ref())
    }

    /// `x Wᵀ + b` with what a LoRA module adds, and the module's z. x `[n, in]` -> `[n, out]`, `[n, blocks * r]`
    pub fn forward_low_rank(
        &self,
        x: &Tensor,
        lora: LowRank<'_>,
        drop: Dropout,
        routed: &Routed,
    ) -> Result<(Tensor, Tensor)> {
        self.weight.linear_low_rank(x, self.bias.as_ref(), lora, drop, routed)
    }

    /// `z = x Wᵀ + b` and `act(z)`. x `[n, in]` -> two of `[n, out]`
    pub fn forward_act(&self, x: &Tensor, act: Act) -> Result<(Tensor, Tensor)> {
        self.weight.linear_act(x, self.bias.as_ref(), act)
    }

    /// The same layer with its matrix in another format (a quantised one keeps its own); the bias keeps the wide one.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        Ok(Self { weight: self.weight.cast(dtype)?, ..self.clone() })
    }

    /// The same layer with its matrix quantised, frozen; see [`Weight::quantised`].
    pub fn quantised(&self, format: NumberFormat) -> Result<Self> {
        Ok(Self::new(self.weight.quantised(format)?, self.bias.clone()))
    }

    /// `dy W`. dy `[n, out]` -> `[n, in]`
    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        self.weight.backward(dy)
    }

    /// `(dy W) act'(z)`: back through this layer and the nonlinearity that made its input from z. dy `[n, out]`, z `[n, in]`
    pub fn backward_act(&self, dy: &Tensor, act: Act, z: &Tensor) -> Result<Tensor> {
        self.weight.backward_act(dy, act, z)
    }

    /// `acc + dy W`, in `acc`'s memory where possible. dy `[n, out]`, acc `[n, in]`
    pub fn backward_add(&self, dy: &Tensor, acc: Tensor) -> Result<Tensor> {
        self.weight.backward_add(dy, acc)
    }

    /// Adds the gradients of W and b, if they are trained. x `[n, in]`, dy `[n, out]`
    pub fn add_grads(&self, x: &Tensor, dy: &Tensor, grads: &mut Grads) -> Result<()> {
        Self::add_block_grads(self, 0, x, dy, grads)
    }

    /// As [`Linear::add_grads`] when this layer's rows are the block `start..` of a larger trained layer `whole`:
    /// the gradient of the other rows is zero.
    pub fn add_block_grads(whole: &Self, start: usize, x: &Tensor, dy: &Tensor, grads: &mut Grads) -> Result<()> {
        let Some((weight, bias)) = whole.trained else { return Ok(()) };
        let (rows, _) = whole.weight.dims2()?;
        let (_, d_out) = dy.dims2()?;
        let pad =
            |grad: Tensor| if d_out == rows { Ok(grad) } else { grad.pad_with_zeros(0, start, rows - start - d_out) };
        grads.add(weight, 0, pad(gemm::weight_grad(dy, x)?)?)?;
        if let Some(bias) = bias {
            grads.add(bias, 0, pad(gemm::bias_grad(dy)?)?)?;
        }
        Ok(())
    }
}
