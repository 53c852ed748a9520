//! The normalisation in front of a block, with the residual add of the block before it:
//! `sum = dropout(x) + residual`, `y = norm(sum)`. The sum goes on as the residual stream. All `[n, d]`.
//!
//! The stream has the norm's own format, also where y, which the block computes with, has 16 bits.

use super::kernels::layer_norm::{self, Affine};
use super::kernels::rms_norm::{self, Scale};
use super::kernels::{Dropout, residual};
use super::params::{Grads, ParamId, Params};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};

/// A normalisation of either kind, frozen or trained. γ, β `[d]`
#[derive(Clone, Debug)]
pub enum PreNorm {
    /// LayerNorm.
    Layer {
        /// Scale.
        gamma: Tensor,
        /// Shift.
        beta: Tensor,
        /// Added to the variance.
        eps: f64,
        /// Where the gradients of γ and β go, if they are trained.
        trained: Option<[ParamId; 2]>,
    },
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
    kind: Kind,
    drop: Dropout,
    /// Format of x.
    x: DType,
}

#[derive(Clone, Debug)]
enum Kind {
    Layer(layer_norm::Saved),
    Rms(rms_norm::Saved),
}

impl PreNorm {
    /// γ. `[d]`
    pub fn gamma(&self) -> &Tensor {
        let (Self::Layer { gamma, .. } | Self::Rms { gamma, .. }) = self;
        gamma
    }

    /// Makes it trained; its tensors get the names `{name}.weight` and `{name}.bias`.
    pub fn train(&mut self, name: &str, params: &mut Params) {
        match self {
            Self::Layer { gamma, beta, trained, .. } => {
                let gamma = params.add(format!("{name}.weight"), gamma);
                *trained = Some([gamma, params.add(format!("{name}.bias"), beta)]);
            }
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
            Self::Layer { gamma, beta, eps, .. } => {
                let sum = Dropout::none().apply_as(&residual::add(x, residual, drop)?, gamma.dtype())?;
                let affine = Affine { gamma, beta, eps: *eps };
                let (y, saved) = layer_norm::forward(&sum, None, Dropout::none(), affine)?;
                (Dropout::none().apply_as(&y, activation_dtype)?, sum, Kind::Layer(saved.kept_as(activation_dtype)?))
            }
            Self::Rms { gamma, eps, .. } => {
                let norm = Scale { gamma, eps: *eps };
                let (y, sum, saved) = rms_norm::forward_as(x, residual, drop, norm, activation_dtype)?;
                (y, sum, Kind::Rms(saved))
            }
        };
        Ok((y, sum, Saved { kind, drop, x: x.dtype() }))
    }

    /// `norm(sum)` once more: cheaper than keeping it.
    pub fn output(&self, saved: &Saved) -> Result<Tensor> {
        match (self, &saved.kind) {
            (Self::Layer { gamma, beta, eps, .. }, Kind::Layer(saved)) => {
                layer_norm::output(saved, Affine { gamma, beta, eps: *eps })
            }
            (Self::Rms { gamma, .. }, Kind::Rms(saved)) => rms_norm::output(saved, gamma),
            _ => Err(Error::internal("a norm was given another one's saved values")),
        }
    }

    /// Adds the gradients of γ and β, if they are trained. dy `[n, d]`
    pub fn add_grads(&self, saved: &Saved, dy: &Tensor, grads: &mut Grads) -> Result<()> {
        match (self, &saved.kind) {
            (Self::Layer { trained: Some([gamma, beta]), .. }, Kind::Layer(saved)) => {
                let (dgamma, dbeta) = layer_norm::affine_grads(dy, saved)?;
                grads.add(*gamma, 0, dgamma)?;
                grads.add(*beta, 0, dbeta)
            }
            (Self::Rms { trained: Some(gamma), .. }, Kind::Rms(saved)) => {
                grads.add(*gamma, 0, rms_norm::gamma_grad(dy, saved)?)
            }
            _ => Ok(()),
        }
    }

    /// The gradient of the sum, from those of both outputs; `dsum`'s memory is reused.
    pub fn backward(&self, saved: &Saved, dy: &Tensor, dsum: Option<Tensor>) -> Result<Tensor> {
        let gamma = self.gamma();
        match &saved.kind {
            Kind::Layer(saved) => {
                let dx = layer_norm::backward(dy, saved, gamma, Dropout::none(), false)?.sum;
                match dsum {
                    Some(dsum) => residual::accumulate(dsum, &dx),
                    None => Dropout::none().apply_as(&dx, gamma.dtype()),
                }
            }
            Kind::Rms(saved) => rms_norm::backward(dy, dsum, saved, gamma),
        }
    }
}

impl Saved {
    /// The gradient of x, in its format, which was dropped before it was added, from that of the sum. Shares its memory
    /// without dropout in the same format.
    pub fn through_dropout(&self, dsum: &Tensor) -> Result<Tensor> {
        self.drop.apply_as(dsum, self.x)
    }
}
