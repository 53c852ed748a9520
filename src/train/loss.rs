//! The loss of a step and its gradient on the logits. On the host, in double precision: a classifier's logits are few
//! numbers. An NVIDIA GPU computes it itself, so that nothing waits for it in the
//! middle of a step.
//!
//! ```text
//! loss = task(pass A) + λ consistency(pass A, pass B)
//! ```
//! with cross-entropy or squared error as the task loss, on pass A alone as in the reference, or as the mean
//! of both passes.

use super::step::StepLoss;
use crate::config::MixtureConfig;
use crate::data::Labels;
use crate::error::{Error, Result};
use crate::mixture::consistency::{self, log_softmax};
use crate::nn::kernels::device;
use crate::nn::kernels::loss_rows::{LossParts, LossRows};
use crate::nn::kernels::vocab_loss::{self, Objective};
use crate::tensor::to_f32;
use candle_core::{DType, Tensor};

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

/// A loss that a GPU may not have computed yet.
#[derive(Clone, Debug)]
pub enum Queued {
    /// The numbers.
    Here(StepLoss),
    /// The numbers row by row, on a device or not.
    There(LossRows),
}

impl Queued {
    /// The numbers; waits for the device that computes them.
    pub fn read(self) -> Result<StepLoss> {
        match self {
            Self::Here(loss) => Ok(loss),
            Self::There(rows) => {
                let LossParts { total, task, consistency, nll } = rows.read()?;
                let nll = nll.iter().map(|&v| f64::from(v)).sum::<f64>() / nll.len().max(1) as f64;
                Ok(StepLoss { total, task, consistency, nll })
            }
        }
    }
}

/// What a GPU minimises for a classifier: the terms of [`loss`].
fn objective(passes: usize, mixture: &MixtureConfig) -> Objective {
    Objective {
        passes,
        weight: mixture.consistency_weight,
        detach: mixture.consistency_detach,
        both: mixture.ce_both_passes,
        gradient: true,
        ..Objective::eval()
    }
}

/// The loss of one micro-batch, its gradient on the logits times a factor, and the factor. An NVIDIA GPU computes it and is
/// not waited for, but for a trunk in f16: there the gradient has to be seen before it can be scaled.
/// logits `[passes * n, outputs]`
pub fn queue(
    logits: &Tensor,
    labels: &Labels,
    (outputs, passes): (usize, usize),
    trunk: DType,
    mixture: &MixtureConfig,
) -> Result<(Queued, Tensor, f64)> {
    let there = trunk != DType::F16 && device::has_kernels(logits);
    match labels {
        Labels::Classes(classes) if there => {
            let loss = vocab_loss::queue_logits_loss(logits, classes, objective(passes, mixture))?;
            let grad = loss.grad.ok_or_else(|| Error::internal("the loss gave no gradient"))?;
            Ok((Queued::There(loss.rows), grad, 1.0))
        }
        Labels::Values(values) if there => {
            let (rows, grad) = squares(logits, values, passes, mixture)?;
            Ok((Queued::There(rows), grad, 1.0))
        }
        _ => {
            let values: Vec<f32> = to_f32(logits)?;
            let Loss { total, task, consistency, grad } = loss(&values, labels, outputs, passes, mixture)?;
            let scale = gradient_scale(trunk, &grad);
            let scaled: Vec<f32> = grad.iter().map(|&g| g * scale).collect();
            let grad = Tensor::from_slice(&scaled, logits.shape(), logits.device())?.to_dtype(logits.dtype())?;
            Ok((Queued::Here(StepLoss { total, task, consistency, nll: task }), grad, f64::from(scale)))
        }
    }
}

/// Squared errors as tensors: on any device, without waiting for it. logits `[passes * n, 1]` -> gradient as they
fn squares(logits: &Tensor, values: &[f32], passes: usize, mixture: &MixtureConfig) -> Result<(LossRows, Tensor)> {
    let n = values.len();
    if n == 0 || logits.elem_count() != passes * n {
        return Err(Error::internal(format!("{n} labels for {} logits", logits.elem_count())));
    }
    let z = logits.to_dtype(DType::F32)?.flatten_all()?;
    let pass = |i: usize| z.narrow(0, i * n, n);
    let labels = Tensor::from_slice(values, n, logits.device())?;
    let (a, share) = (pass(0)?, 2.0 / n as f64);
    let off = (&a - &labels)?;
    let (mut task, mut grads) = (off.sqr()?, vec![(off * share)?]);
    let mut apart = task.zeros_like()?;
    let mut weight = 0.0;
    if passes == 2 {
        let b = pass(1)?;
        let mut grad_b = b.zeros_like()?;
        if mixture.ce_both_passes {
            let off = (&b - &labels)?;
            task = ((task + off.sqr()?)? * 0.5)?;
            grads[0] = (&grads[0] * 0.5)?;
            grad_b = (off * (0.5 * share))?;
        }
        weight = mixture.consistency_weight;
        let between = (a - b)?;
        let pull = (&between * (weight * if mixture.consistency_detach { 0.5 * share } else { share }))?;
        grads[0] = (&grads[0] + &pull)?;
        grads.push((grad_b - pull)?);
        apart = between.sqr()?;
    }
    let rows = Tensor::stack(&[&task, &apart, &task], 1)?;
    let grad = Tensor::cat(&grads, 0)?.reshape(logits.shape())?.to_dtype(logits.dtype())?;
    Ok((LossRows::there(rows, weight), grad))
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
    use candle_core::Device;

    /// Seven rows of logits of each pass.
    fn logits(outputs: usize, passes: usize) -> Vec<f32> {
        (0..7 * outputs * passes).map(|i| ((i * 37 + 11) % 29) as f32 / 7.0 - 2.0).collect()
    }

    /// Every way of combining the terms.
    fn mixtures() -> impl Iterator<Item = (usize, MixtureConfig)> {
        let ways = [(1, true, false), (2, true, false), (2, false, false), (2, true, true), (2, false, true)];
        ways.into_iter().map(|(passes, consistency_detach, ce_both_passes)| {
            let mixture =
                MixtureConfig { consistency_weight: 2.5, consistency_detach, ce_both_passes, ..Default::default() };
            (passes, mixture)
        })
    }

    #[track_caller]
    fn same(got: (StepLoss, Vec<f32>), want: &Loss) {
        let (loss, grad) = got;
        for (got, want) in [(loss.total, want.total), (loss.task, want.task), (loss.consistency, want.consistency)] {
            assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "{got} {want}");
        }
        assert_eq!(grad.len(), want.grad.len());
        assert!(grad.iter().zip(&want.grad).all(|(got, want)| (got - want).abs() < 1e-6), "{grad:?} {:?}", want.grad);
    }

    #[test]
    fn what_a_gpu_is_given_to_compute_is_the_same_loss() {
        for (passes, mixture) in mixtures() {
            // Classes: here by the plain form that the kernel is compared with.
            let (outputs, classes) = (3, vec![0u32, 1, 2, 2, 1, 0, 1]);
            let values = logits(outputs, passes);
            let want = loss(&values, &Labels::Classes(classes.clone()), outputs, passes, &mixture).unwrap();
            let z = Tensor::from_slice(&values, (7 * passes, outputs), &Device::Cpu).unwrap();
            let head = Tensor::eye(outputs, DType::F32, &Device::Cpu).unwrap();
            let queued = vocab_loss::queue_vocab_loss(&z, &head, &classes, objective(passes, &mixture)).unwrap();
            let grad = queued.grad.unwrap().flatten_all().unwrap().to_vec1().unwrap();
            same((Queued::There(queued.rows).read().unwrap(), grad), &want);
            // Values: as tensors, here on the processor.
            let values = logits(1, passes);
            let labels = vec![0.5f32, -1.0, 2.0, 0.0, 3.5, 1.0, -0.25];
            let want = loss(&values, &Labels::Values(labels.clone()), 1, passes, &mixture).unwrap();
            let z = Tensor::from_slice(&values, (7 * passes, 1), &Device::Cpu).unwrap();
            let (rows, grad) = squares(&z, &labels, passes, &mixture).unwrap();
            assert_eq!(grad.dims(), z.dims());
            let grad = grad.flatten_all().unwrap().to_vec1().unwrap();
            same((Queued::There(rows).read().unwrap(), grad), &want);
            assert!(squares(&z, &labels[1..], passes, &mixture).is_err());
        }
    }

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
