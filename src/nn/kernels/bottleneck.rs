//! A bottleneck adapter with each row's own experts: `out = h + W_U act(W_D h + b_D) + b_U`, and its gradients.

use super::activation::{self, Act};
use super::gpu;
use super::routed::{ExpertGrad, Experts, Group, expert_grads};
use crate::error::Result;
use crate::tensor::Tensor;

/// Both sides of all experts.
#[derive(Clone, Copy)]
pub struct Bottleneck<'a> {
    /// W_D `[experts, r, d]` and b_D `[experts, r]`.
    pub down: Experts<'a>,
    /// W_U `[experts, d, r]` and b_U `[experts, d]`.
    pub up: Experts<'a>,
    /// The nonlinearity.
    pub act: Act,
}

/// The rows of each expert, for both sides.
#[derive(Clone, Debug)]
pub struct Routed {
    /// Of the down-projection.
    pub down: Vec<Group>,
    /// Of the up-projection.
    pub up: Vec<Group>,
}

/// What the backward pass of two sides gives.
pub struct SideGrads {
    /// Of the experts of the down-projection (LoRA's A) that ran.
    pub down: Vec<ExpertGrad>,
    /// Of the experts of the up-projection (LoRA's B) that ran.
    pub up: Vec<ExpertGrad>,
    /// Of the input, where it was asked for.
    pub input: Option<Tensor>,
}

impl Bottleneck<'_> {
    /// The output, and what came before the nonlinearity. h `[n, d]` -> `[n, d]`, z `[n, r]`
    pub fn forward(self, h: &Tensor, routed: &Routed) -> Result<(Tensor, Tensor)> {
        if h.device().is_gpu() {
            return gpu::experts::adapter_forward(self, h, routed);
        }
        let z = self.down.forward(h, &routed.down, None)?;
        let a = activation::forward(self.act, &z)?;
        Ok((self.up.forward(&a, &routed.up, Some(h))?, z))
    }

    /// Gradients of the experts that ran and, with `below`, of h. h `[n, d]`, z `[n, r]`, dout `[n, d]`
    pub fn backward(self, [h, z]: [&Tensor; 2], dout: &Tensor, routed: &Routed, below: bool) -> Result<SideGrads> {
        if h.device().is_gpu() {
            return gpu::experts::adapter_backward(self, [h, z], dout, routed, below);
        }
        let a = activation::forward(self.act, z)?;
        let up = expert_grads(&a, dout, &routed.up, self.up.bias.is_some())?;
        let da = self.up.backward(dout, &routed.up, None)?;
        let dz = activation::backward(self.act, z, da)?;
        let down = expert_grads(h, &dz, &routed.down, self.down.bias.is_some())?;
        // The residual's share of the gradient is dout itself.
        let input = below.then(|| self.down.backward(&dz, &routed.down, Some(dout))).transpose()?;
        Ok(SideGrads { down, up, input })
    }
}
