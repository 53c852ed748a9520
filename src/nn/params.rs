//! Trained tensors with stable names and order, and the gradients of a step.

use super::kernels::device;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Position of a trained tensor in [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(pub usize);

/// One trained tensor. Its storage is shared with the layer that uses it and changed in place by the optimizer.
#[derive(Clone, Debug)]
pub struct Param {
    /// Stable name, such as `layers.3.ffn.down.weight`: part of the file formats.
    pub name: String,
    /// The values. A bank has its experts in the first dimension.
    pub value: Tensor,
    /// Number of experts when this is a bank: each is updated only when it was drawn. 1: an ordinary tensor.
    pub experts: usize,
    /// Whether this is a bank (its first dimension counts experts, even if there is one).
    pub bank: bool,
    /// Whether weight decay applies (not to biases and norms).
    pub decay: bool,
}

/// All trained tensors, in a fixed order.
#[derive(Clone, Debug, Default)]
pub struct Params {
    list: Vec<Param>,
}

impl Params {
    /// Registers a tensor that is trained.
    pub fn add(&mut self, name: impl Into<String>, value: &Tensor) -> ParamId {
        let name = name.into();
        let decay = value.rank() > 1;
        self.list.push(Param { name, value: value.clone(), experts: 1, bank: false, decay });
        ParamId(self.list.len() - 1)
    }

    /// Registers a bank: the first dimension of `value` counts experts.
    pub fn add_bank(&mut self, name: impl Into<String>, value: &Tensor) -> Result<ParamId> {
        let experts = value.dim(0)?;
        let decay = value.rank() > 2;
        self.list.push(Param { name: name.into(), value: value.clone(), experts, bank: true, decay });
        Ok(ParamId(self.list.len() - 1))
    }

    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Param> {
        self.list.iter()
    }
    /// By name.
    pub fn find(&self, name: &str) -> Option<&Param> {
        self.list.iter().find(|param| param.name == name)
    }
    /// Number of trained values.
    pub fn count(&self) -> usize {
        self.list.iter().map(|param| param.value.elem_count()).sum()
    }
}

/// Gradients of the trained tensors: absent where nothing was computed (an expert that was not drawn).
#[derive(Clone, Debug, Default)]
pub struct Grads {
    slots: Vec<Vec<Option<Tensor>>>,
}

impl Grads {
    /// No gradients yet.
    pub fn new(params: &Params) -> Self {
        Self { slots: params.iter().map(|param| vec![None; param.experts]).collect() }
    }

    /// Adds to the gradient of one expert (0 for an ordinary tensor).
    pub fn add(&mut self, id: ParamId, expert: usize, grad: Tensor) -> Result<()> {
        let slot = self.slots.get_mut(id.0).and_then(|experts| experts.get_mut(expert));
        let slot = slot.ok_or_else(|| Error::internal(format!("no gradient slot {expert} of tensor {}", id.0)))?;
        *slot = Some(match slot.take() {
            None => grad,
            Some(sum) => (sum + grad)?,
        });
        Ok(())
    }

    /// The gradient of one expert, if there is one.
    pub fn get(&self, id: ParamId, expert: usize) -> Option<&Tensor> {
        self.slots.get(id.0)?.get(expert)?.as_ref()
    }

    /// All present gradients with their tensor and expert, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, usize, &Tensor)> {
        self.slots.iter().enumerate().flat_map(|(id, experts)| {
            experts.iter().enumerate().filter_map(move |(e, grad)| grad.as_ref().map(|grad| (ParamId(id), e, grad)))
        })
    }

    /// Multiplies every gradient.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        let mut all: Vec<&mut Tensor> = self.slots.iter_mut().flatten().flatten().collect();
        device::scale_all(&mut all, factor)
    }

    /// Adds the gradients of another micro-batch.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (id, experts) in other.slots.into_iter().enumerate() {
            for (expert, grad) in experts.into_iter().enumerate() {
                if let Some(grad) = grad {
                    self.add(ParamId(id), expert, grad)?;
                }
            }
        }
        Ok(())
    }
}
