//! The normalisation before a block, with the residual add of the block before it: `sum = dropout(x) + residual`, the
//! residual stream in the norm's own format, and `y = norm(sum)`, which may have 16 bits. All `[n, d]`.

use super::kernels::Dropout;
use super::kernels::device::widen;
use super::kernels::layer_norm;
use super::kernels::rms_norm::{self, Scale};
use super::norm::LayerNorm;
use super::params::{Grads, ParamId, Params};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// A normalisation of either kind, frozen or trained. γ, β `[d]`
#[derive(Clone, Debug)]
pub enum PreNorm {
    /// LayerNorm.
    Layer(LayerNorm),
    /// Root-mean-square normalisation.
    Rms {
        /// Scale.
        gamma: Tensor,
        /// Added to the mean square.
        eps: f64,
        /// Where the gradient of γ goes, if it is trained.
        trained: Option<ParamId>,
    },
}

/// What [`PreNorm::backward`] and [`PreNorm::output`] need.
#[derive(Clone, Debug)]
pub struct Saved {
    kind: PreNormKind,
    drop: Dropout,
    /// Format of x.
    x: DType,
}

#[derive(Clone, Debug)]
enum PreNormKind {
    Layer(layer_norm::Saved),
    Rms(rms_norm::Saved),
}

impl PreNorm {
    /// γ. `[d]`
    pub fn gamma(&self) -> &Tensor {
        match self {
            Self::Layer(norm) => norm.gamma(),
            Self::Rms { gamma, .. } => gamma,
        }
    }

    /// Makes it trained; its tensors get the names `{name}.weight` and `{name}.bias`.
    pub fn train(&mut self, name: &str, params: &mut Params) {
        match self {
            Self::Layer(norm) => norm.train(name, params),
            Self::Rms { gamma, trained, .. } => *trained = Some(params.add(format!("{name}.weight"), gamma)),
        }
    }

    /// `(norm(sum), sum)`, the first in the format `activation_dtype`
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        drop: Dropout,
        activation_dtype: DType,
    ) -> Result<(Tensor, Tensor, Saved)> {
        let (y, sum, kind) = match self {
            Self::Layer(norm) => {
                let (y, sum, saved) = layer_norm::forward_as(x, residual, drop, norm.affine(), activation_dtype)?;
                (y, sum, PreNormKind::Layer(saved))
            }
            Self::Rms { gamma, eps, .. } => {
                let norm = Scale { gamma, eps: *eps };
                let (y, sum, saved) = rms_norm::forward_as(x, residual, drop, norm, activation_dtype)?;
                (y, sum, PreNormKind::Rms(saved))
            }
        };
        Ok((y, sum, Saved { kind, drop, x: x.dtype() }))
    }

    /// `norm(sum)` once more: cheaper than keeping it.
    pub fn output(&self, saved: &Saved) -> Result<Tensor> {
        match (self, &saved.kind) {
            (Self::Layer(norm), PreNormKind::Layer(saved)) => layer_norm::output(saved, norm.affine()),
            (Self::Rms { gamma, .. }, PreNormKind::Rms(saved)) => rms_norm::output(saved, gamma),
            _ => Err(Error::internal("a norm was given another one's saved values")),
        }
    }

    /// Adds the gradients of γ and β, if they are trained. dy `[n, d]`
    pub fn add_grads(&self, saved: &Saved, dy: &Tensor, grads: &mut Grads) -> Result<()> {
        match (self, &saved.kind) {
            (Self::Layer(norm), PreNormKind::Layer(saved)) => {
                let Some((gamma, beta)) = norm.trained() else { return Ok(()) };
                let (dgamma, dbeta) = layer_norm::affine_grads(&widen(dy)?, saved)?;
                grads.add(gamma, 0, dgamma)?;
                grads.add(beta, 0, dbeta)
            }
            (Self::Rms { trained: Some(gamma), .. }, PreNormKind::Rms(saved)) => {
                grads.add(*gamma, 0, rms_norm::gamma_grad(dy, saved)?)
            }
            _ => Ok(()),
        }
    }

    /// The gradient of the sum, from those of both outputs, in `dsum`'s memory; and that of x, in its format, which was dropped
    /// before it was added. They may share memory.
    pub fn backward(&self, saved: &Saved, dy: &Tensor, dsum: Option<Tensor>) -> Result<(Tensor, Tensor)> {
        let (gamma, through) = (self.gamma(), (saved.drop, saved.x));
        match &saved.kind {
            PreNormKind::Layer(saved) => layer_norm::backward_both(dy, dsum, saved, gamma, through),
            PreNormKind::Rms(saved) => rms_norm::backward_both(dy, dsum, saved, gamma, through),
        }
    }
}
