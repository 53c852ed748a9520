//! Residual layer normalisation `y = LayerNorm(dropout(x) + residual)`. All `[n, d]`.

use super::kernels::Dropout;
use super::kernels::layer_norm::{self, Affine};
use super::params::{Grads, ParamId, Params};
use crate::error::Result;
use crate::tensor::Tensor;

/// A layer normalisation, frozen or trained.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Tensor,
    beta: Tensor,
    eps: f64,
    trained: Option<(ParamId, ParamId)>,
}

/// What [`LayerNorm::backward`] needs.
#[derive(Clone, Debug)]
pub struct Saved {
    norm: layer_norm::Saved,
    drop: Dropout,
}

impl LayerNorm {
    /// A frozen one. γ, β `[d]`
    pub fn new(gamma: Tensor, beta: Tensor, eps: f64) -> Self {
        Self { gamma, beta, eps, trained: None }
    }

    /// Makes it trained; its tensors get the names `{name}.weight` and `{name}.bias`.
    pub fn train(&mut self, name: &str, params: &mut Params) {
        let gamma = params.add(format!("{name}.weight"), &self.gamma);
        let beta = params.add(format!("{name}.bias"), &self.beta);
        self.trained = Some((gamma, beta));
    }

    /// γ. `[d]`
    pub fn gamma(&self) -> &Tensor {
        &self.gamma
    }
    /// β. `[d]`
    pub fn beta(&self) -> &Tensor {
        &self.beta
    }
    /// Where the gradients of γ and β go, if they are trained.
    pub(super) fn trained(&self) -> Option<(ParamId, ParamId)> {
        self.trained
    }
    pub(super) fn affine(&self) -> Affine<'_> {
        Affine { gamma: &self.gamma, beta: &self.beta, eps: self.eps }
    }

    /// `LayerNorm(dropout(x) + residual)`
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, drop: Dropout) -> Result<(Tensor, Saved)> {
        let (y, norm) = layer_norm::forward(x, residual, drop, self.affine())?;
        Ok((y, Saved { norm, drop }))
    }

    /// Gradients of x and of the residual, as `(dx, dresidual)`; each in memory of its own.
    pub fn backward(&self, saved: &Saved, dy: &Tensor, grads: &mut Grads) -> Result<(Tensor, Tensor)> {
        if let Some((gamma, beta)) = self.trained {
            let (dgamma, dbeta) = layer_norm::affine_grads(dy, &saved.norm)?;
            grads.add(gamma, 0, dgamma)?;
            grads.add(beta, 0, dbeta)?;
        }
        let back = layer_norm::backward(dy, &saved.norm, &self.gamma, saved.drop)?;
        Ok((back.x, back.sum))
    }
}
