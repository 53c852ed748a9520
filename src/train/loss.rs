//! The loss of a step and its gradient on the logits, on the host: a classifier's logits are few numbers.
//!
//! ```text
//! loss = task(pass A) + λ consistency(pass A, pass B)
//! ```
//! with cross-entropy or squared error as the task loss, on pass A alone as in the reference, or as the mean
//! of both passes.

use crate::config::MixtureConfig;
use crate::data::Labels;
use crate::error::{Error, Result};
use crate::mixture::consistency::{self, log_softmax};
use candle_core::DType;

/// A loss with its parts and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// What is minimised.
    pub total: f64,
    /// Cross-entropy or mean squared error.
    pub task: f64,
    /// Before λ; 0 with one pass.
    pub consistency: f64,
    /// d total / d logits, as laid out. `[passes * n * outputs]`
    pub grad: Vec<f32>,
}

/// Mean cross-entropy in nats, or mean squared error, with its gradient. logits `[n * outputs]`
pub fn task_loss(logits: &[f64], labels: &Labels, outputs: usize) -> Result<(f64, Vec<f64>)> {
    let n = logits.len() / outputs.max(1);
    let expect = |len: usize| {
        if len == n && n > 0 { Ok(()) } else { Err(Error::internal(format!("{len} labels for {n} rows of logits"))) }
    };
    match labels {
        Labels::Classes(classes) => {
            expect(classes.len())?;
            let mut loss = 0.0;
            let mut grad = Vec::with_capacity(logits.len());
            for (row, &class) in logits.chunks_exact(outputs).zip(classes) {
                let log_p = log_softmax(row);
                let picked = log_p
                    .get(class as usize)
                    .ok_or_else(|| Error::internal(format!("label {class} of {outputs} classes")))?;
                loss -= picked / n as f64;
                grad.extend(
                    log_p
                        .iter()
                        .enumerate()
                        .map(|(c, l)| (l.exp() - f64::from(u8::from(c == class as usize))) / n as f64),
                );
            }
            Ok((loss, grad))
        }
        Labels::Values(values) => {
            expect(values.len())?;
            let diff: Vec<f64> = logits.iter().zip(values).map(|(z, &y)| z - f64::from(y)).collect();
            let loss = diff.iter().map(|d| d * d).sum::<f64>() / n as f64;
            Ok((loss, diff.iter().map(|d| 2.0 * d / n as f64).collect()))
        }
    }
}

/// What the gradient is multiplied with on its way through a trunk of this format, and divided by afterwards: f16 has
/// nothing below 6e-8, so its gradients start near 16. A power of two that depends on this gradient alone, so a replay
/// makes the same bits; 1 for the other formats.
pub fn gradient_scale(trunk: DType, grad: &[f32]) -> f32 {
    let largest = grad.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    if trunk != DType::F16 || largest == 0.0 || !largest.is_finite() {
        return 1.0;
    }
    (16.0 / largest).log2().floor().clamp(0.0, 24.0).exp2()
}

/// The loss of one micro-batch. logits: pass A's rows, then pass B's if there are two passes.
pub fn loss(logits: &[f32], labels: &Labels, outputs: usize, passes: usize, mixture: &MixtureConfig) -> Result<Loss> {
    let logits: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let (a, b) = logits.split_at(logits.len() / passes.max(1));
    let (mut task, mut grad_a) = task_loss(a, labels, outputs)?;
    if passes < 2 {
        return Ok(Loss { total: task, task, consistency: 0.0, grad: grad_a.iter().map(|&g| g as f32).collect() });
    }
    let mut grad_b = vec![0.0; b.len()];
    if mixture.ce_both_passes {
        let (task_b, grad) = task_loss(b, labels, outputs)?;
        task = 0.5 * (task + task_b);
        grad_a.iter_mut().for_each(|g| *g *= 0.5);
        grad_b = grad.iter().map(|g| 0.5 * g).collect();
    }
    let term = match labels {
        Labels::Classes(_) => consistency::symmetric_kl(a, b, outputs, mixture.consistency_detach),
        Labels::Values(_) => consistency::squared_difference(a, b, mixture.consistency_detach),
    };
    let lambda = mixture.consistency_weight;
    let add =
        |grad: Vec<f64>, term: &[f64]| grad.into_iter().zip(term.to_vec()).map(move |(g, t)| (g + lambda * t) as f32);
    let grad = add(grad_a, &term.grad_a).chain(add(grad_b, &term.grad_b)).collect();
    Ok(Loss { total: task + lambda * term.value, task, consistency: term.value, grad })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_scaled_by_powers_of_two_and_only_in_f16() {
        for grad in [[1e-7f32, -2e-7], [0.5, 0.1], [3.0, 1000.0]] {
            assert_eq!(gradient_scale(DType::F32, &grad), 1.0);
            assert_eq!(gradient_scale(DType::BF16, &grad), 1.0);
            let (scale, largest) = (gradient_scale(DType::F16, &grad), grad[0].abs().max(grad[1].abs()));
            assert_eq!(scale.log2().fract(), 0.0);
            assert!(scale == 1.0 || (largest * scale <= 16.0 && (largest * scale > 8.0 || scale == 16_777_216.0)));
        }
        assert_eq!(gradient_scale(DType::F16, &[0.0]), 1.0);
        assert_eq!(gradient_scale(DType::F16, &[f32::NAN, f32::INFINITY]), 1.0);
    }
}
