//! AdamW with readable, restorable state.
//!
//! Each expert of a bank has its own step count: one that was not drawn is skipped, as in PyTorch since version 2. With
//! `update_unselected` it moves on by momentum and decay once it has been drawn, as in older versions (the reference).

use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::nn::kernels::adamw::{self, Item, Update};
use crate::nn::kernels::device::PendingNorm;
use crate::nn::{Grads, ParamId, Params};
use crate::tensor::{HostTensor, Tensor, to_f32};

/// First and second moments and step counts of all trained tensors.
#[derive(Debug)]
pub struct AdamW {
    moments: Vec<Moments>,
}

#[derive(Debug)]
struct Moments {
    m: Tensor,
    v: Tensor,
    steps: Vec<u64>,
}

impl AdamW {
    /// Zero moments.
    pub fn new(params: &Params) -> Result<Self> {
        let zero = |p: &crate::nn::Param| -> Result<Moments> {
            Ok(Moments { m: p.value.zeros_like()?, v: p.value.zeros_like()?, steps: vec![0; p.experts] })
        };
        Ok(Self { moments: params.iter().map(zero).collect::<Result<_>>()? })
    }

    /// One update of everything that has a gradient; where it fails, nothing has moved.
    pub fn step(&mut self, params: &Params, grads: &Grads, lr: f64, config: &TrainConfig) -> Result<()> {
        // One tensor, or one expert of a bank: values, moments, gradient, the numbers.
        let (mut parts, mut moved) = (Vec::new(), Vec::new());
        for (index, (param, moments)) in params.iter().zip(&self.moments).enumerate() {
            for expert in 0..param.experts {
                let part = |t: &Tensor| -> Result<Tensor> {
                    Ok(if param.bank { t.narrow(0, expert, 1)?.squeeze(0)? } else { t.clone() })
                };
                let grad = grads.get(ParamId(index), expert);
                if grad.is_none() && !(config.update_unselected && moments.steps[expert] > 0) {
                    continue;
                }
                moved.push((index, expert));
                let update = Update {
                    lr,
                    betas: (config.adam_beta1, config.adam_beta2),
                    eps: config.adam_epsilon,
                    weight_decay: if param.decay { config.weight_decay } else { 0.0 },
                    t: moments.steps[expert] + 1,
                };
                parts.push(([part(&param.value)?, part(&moments.m)?, part(&moments.v)?], grad, update));
            }
        }
        let item = |part| {
            let ([p, m, v], g, update): &([Tensor; 3], Option<&Tensor>, Update) = part;
            Item { p, m, v, g: *g, update: *update }
        };
        adamw::update_all(&parts.iter().map(item).collect::<Vec<_>>())?;
        moved.into_iter().for_each(|(index, expert)| self.moments[index].steps[expert] += 1);
        Ok(())
    }

    /// Updates of each expert so far, in the order of the parameters.
    pub fn steps(&self) -> impl Iterator<Item = &[u64]> {
        self.moments.iter().map(|m| m.steps.as_slice())
    }

    /// Host copies of all moments: `{name}.m` and `{name}.v` of each trained tensor, in order.
    pub fn moments(&self, params: &Params) -> Result<Vec<HostTensor>> {
        let mut all = Vec::new();
        for (param, moments) in params.iter().zip(&self.moments) {
            for (part, values) in [("m", &moments.m), ("v", &moments.v)] {
                all.push(HostTensor::new(format!("{}.{part}", param.name), values.dims(), to_f32(values)?)?);
            }
        }
        Ok(all)
    }

    /// Restores what [`AdamW::moments`] and [`AdamW::steps`] gave.
    pub fn restore(&mut self, params: &Params, values: &[HostTensor], steps: &[Vec<u64>]) -> Result<()> {
        for (i, (param, moments)) in params.iter().zip(&mut self.moments).enumerate() {
            let find = |part: &str| {
                let name = format!("{}.{part}", param.name);
                values.iter().find(|tensor| tensor.name == name && tensor.data.len() == moments.m.elem_count())
            };
            let steps = steps.get(i).filter(|steps| steps.len() == moments.steps.len());
            let (Some(m), Some(v), Some(steps)) = (find("m"), find("v"), steps) else {
                return Err(Error::format(format!(
                    "the checkpoint holds no optimizer state of {:?} in its shape; it belongs to other settings",
                    param.name
                )));
            };
            for (target, HostTensor { data, .. }) in [(&moments.m, m), (&moments.v, v)] {
                let values = Tensor::from_slice(data, target.shape(), target.device())?.to_dtype(target.dtype())?;
                target.slice_set(&values, 0, 0)?;
            }
            moments.steps.clone_from(steps);
        }
        Ok(())
    }
}

/// The norm of all gradients together, which a GPU may still be computing.
pub fn norm(grads: &Grads) -> Result<PendingNorm> {
    PendingNorm::of(&grads.iter().map(|(_, _, grad)| grad).collect::<Vec<_>>())
}

/// The same, in f64; waits for the device that computes it.
pub fn global_norm(grads: &Grads) -> Result<f64> {
    let norm = norm(grads)?;
    Ok(norm.value(norm.tensor().map(to_f32).transpose()?))
}

/// Scales gradients of this norm down to `max_norm` (0: never), as PyTorch's `clip_grad_norm_` does.
pub fn clip(grads: &mut Grads, norm: f64, max_norm: f64) -> Result<()> {
    let factor = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && factor < 1.0 { grads.scale(factor) } else { Ok(()) }
}
