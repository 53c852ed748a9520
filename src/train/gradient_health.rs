//! Whether each tensor learns: after steps 1, 3 and 10 every trained tensor's gradient and change are checked.

use crate::config::{AdapterInit, MixtureConfig, MixtureKind};
use crate::error::Result;
use crate::nn::{Grads, ParamId, Params};
use crate::records::{HealthState, TensorHealth};
use crate::tensor::to_f32;
use crate::train::optimizer::AdamW;

/// Steps after which gradient health is checked.
pub const CHECKS: [u64; 3] = [1, 3, 10];

/// A change of more than this many times the start is no learning. High rates on small initial weights make ratios of a few.
const EXPLODING: f64 = 10.0;

/// The start values and the largest gradients so far.
#[derive(Debug)]
pub struct GradientHealth {
    start: Vec<Vec<f32>>,
    /// Largest absolute gradient of each expert of each tensor so far.
    pub max_abs_grad: Vec<Vec<f64>>,
}

impl GradientHealth {
    /// At the start of training.
    pub fn new(params: &Params) -> Result<Self> {
        let start = params.iter().map(|p| to_f32(&p.value)).collect::<Result<_>>()?;
        Ok(Self { start, max_abs_grad: params.iter().map(|p| vec![0.0; p.experts]).collect() })
    }

    /// Whether step number `step` (from 1) still counts.
    pub fn watching(step: u64) -> bool {
        step <= CHECKS[CHECKS.len() - 1]
    }

    /// Remembers the gradients of a step.
    pub fn see(&mut self, grads: &Grads) -> Result<()> {
        for (ParamId(id), expert, grad) in grads.iter() {
            let largest = to_f32(grad)?.iter().fold(0.0f64, |m, &g| m.max(f64::from(g).abs()));
            let seen = &mut self.max_abs_grad[id][expert];
            *seen = seen.max(largest);
        }
        Ok(())
    }

    /// The verdict on each expert of each tensor.
    pub fn read(
        &self,
        step: u64,
        params: &Params,
        optimizer: &AdamW,
        mixture: Option<&MixtureConfig>,
    ) -> Result<Vec<TensorHealth>> {
        // LoRA's B starts at zero, as an adapter's up side does from an identity start.
        let identity = mixture.is_some_and(|m| m.kind == MixtureKind::Lora || m.init == AdapterInit::Identity);
        let mut verdicts = Vec::new();
        for (id, (param, steps)) in params.iter().zip(optimizer.steps()).enumerate() {
            let now = to_f32(&param.value)?;
            let size = now.len() / param.experts;
            for (expert, &updates) in steps.iter().enumerate() {
                let part = expert * size..(expert + 1) * size;
                let (now, start) = (&now[part.clone()], &self.start[id][part]);
                let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
                let change = norm(&mut now.iter().zip(start).map(|(a, b)| f64::from(a - b)));
                // Biases start at zero: measure them against a start of the usual size.
                let scale = norm(&mut start.iter().map(|&v| f64::from(v))).max(0.02 * (size as f64).sqrt());
                let (max_abs_grad, update_ratio) = (self.max_abs_grad[id][expert], change / scale);
                // From an identity start the down side gets no gradient before the up side has moved.
                let waiting = max_abs_grad == 0.0 && identity && updates == 1;
                let state = if updates == 0 || waiting {
                    HealthState::NotDrawn
                } else if max_abs_grad == 0.0 || change == 0.0 {
                    HealthState::Dead
                } else if update_ratio > EXPLODING || !update_ratio.is_finite() {
                    HealthState::Exploding
                } else {
                    HealthState::Learning
                };
                let (tensor, expert) = (param.name.clone(), param.bank.then_some(expert));
                verdicts.push(TensorHealth { tensor, expert, step, max_abs_grad, update_ratio, state });
            }
        }
        Ok(verdicts)
    }
}
