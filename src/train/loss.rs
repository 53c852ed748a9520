//! The loss of a step: task loss on pass A plus λ times the consistency of the passes, with its gradient on the outputs.
//!
//! A classifier's loss is computed on the host in double precision, or by an NVIDIA GPU, which is not waited for; that of
//! language models over the vocabulary in chunks ([`vocab_loss`]).

use crate::config::MixtureConfig;
use crate::data::Labels;
use crate::error::{Error, Result};
use crate::mixture::consistency;
use crate::nn::kernels::device;
use crate::nn::kernels::device::PendingNorm;
use crate::nn::kernels::loss_rows::{LossParts, LossRows};
use crate::nn::kernels::vocab_loss::{self, OVERFLOW_BITS, Objective};
use crate::tensor::{DType, Tensor, all_to_f32, log_softmax, to_f32};

/// The loss and its parts: means over the rows of a micro-batch, or over the micro-batches of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossValues {
    /// What is minimised: task + λ consistency.
    pub total: f64,
    /// Cross-entropy in nats, smoothed as the settings say, or squared error.
    pub task: f64,
    /// Before λ; 0 with one pass.
    pub consistency: f64,
}

impl LossValues {
    /// The weighted mean of several micro-batches' losses.
    pub fn mean(losses: &[(Self, f64)]) -> Self {
        let all = losses.iter().map(|(_, weight)| weight).sum::<f64>().max(1.0);
        let mut sum = Self::default();
        for (loss, weight) in losses {
            sum.total += loss.total * weight;
            sum.task += loss.task * weight;
            sum.consistency += loss.consistency * weight;
        }
        Self { total: sum.total / all, task: sum.task / all, consistency: sum.consistency / all }
    }
}

impl From<LossParts> for LossValues {
    fn from(parts: LossParts) -> Self {
        Self { total: parts.total, task: parts.task, consistency: parts.consistency }
    }
}

/// A loss that a GPU may still be computing.
#[derive(Clone, Debug)]
pub enum PendingLoss {
    /// Values on the host.
    Host(LossValues),
    /// Row by row, where the outputs are.
    Device(LossRows),
}

impl PendingLoss {
    /// The values; waits for the device that computes them.
    pub fn read(self) -> Result<LossValues> {
        match self {
            Self::Host(values) => Ok(values),
            Self::Device(rows) => Ok(rows.read()?.into()),
        }
    }

    /// The weighted mean of several micro-batches' losses, and the norm of the gradients; a GPU that computes them is waited
    /// for once.
    pub fn mean(losses: &[(Self, f64)], norm: &PendingNorm) -> Result<(LossValues, f64)> {
        let rows = losses.iter().filter_map(|(loss, _)| match loss {
            Self::Device(rows) => Some(rows.values()),
            Self::Host(_) => None,
        });
        let wanted: Vec<&Tensor> = norm.tensor().into_iter().chain(rows).collect();
        let mut found = all_to_f32(&wanted)?.into_iter();
        let norm = norm.value(if norm.tensor().is_some() { found.next() } else { None });
        let mut value = |loss: &Self| match loss {
            Self::Host(values) => *values,
            Self::Device(rows) => rows.means(&found.next().unwrap_or_default()).into(),
        };
        let losses: Vec<(LossValues, f64)> = losses.iter().map(|(loss, weight)| (value(loss), *weight)).collect();
        Ok((LossValues::mean(&losses), norm))
    }
}

/// Where the backward pass starts.
#[derive(Clone, Debug)]
pub struct OutputGradient {
    /// On the model's outputs, times [`Loss::scale`].
    pub outputs: Tensor,
    /// On a trained language-model head, times the same. `[vocab, d]`
    pub head: Option<Tensor>,
}

/// A loss with its gradient.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The loss.
    pub value: PendingLoss,
    /// Its gradient.
    pub gradient: OutputGradient,
    /// What the gradient was multiplied with: 1 but for f16, which has no small numbers.
    pub scale: f64,
}

/// What a classifier's loss is made of.
#[derive(Clone, Copy, Debug)]
pub struct ClassifierObjective<'a> {
    /// 1 or 2.
    pub passes: usize,
    /// The terms between the passes.
    pub mixture: &'a MixtureConfig,
    /// What each class counts; the same where absent. `[classes]`
    pub weights: Option<&'a [f64]>,
    /// Steps whose gradients left the range of f16.
    pub overflows: u32,
}

/// The loss of one micro-batch of a classifier or regressor. A GPU computes it and is not waited for, but where classes have
/// weights, and through CUDA where gradients flow in f16 (`format`): there the gradient is seen before it is scaled.
/// logits `[passes * n, outputs]`
pub fn classifier_loss(
    logits: &Tensor,
    labels: &Labels,
    format: DType,
    objective: ClassifierObjective<'_>,
) -> Result<Loss> {
    let ClassifierObjective { passes, mixture, weights, overflows } = objective;
    // Through CUDA a gradient in f16 is seen before it is scaled.
    let on_device =
        weights.is_none() && (logits.device().is_gpu() || format != DType::F16 && device::has_kernels(logits));
    let (value, outputs, scale) = match labels {
        Labels::Classes(classes) if on_device => {
            let objective = Objective { overflows, ..consistency::objective(mixture, passes, 0.0) };
            let loss = vocab_loss::logits_loss(logits, classes, objective, format)?;
            let gradient = loss.grad.ok_or_else(|| Error::internal("the loss gave no gradient"))?;
            (PendingLoss::Device(loss.rows), gradient, loss.scale)
        }
        Labels::Values(values) if on_device => {
            let (rows, gradient) = squared_error_rows(logits, values, passes, mixture)?;
            let scale = vocab_loss::classifier_scale(format, logits.device(), values.len(), overflows);
            let gradient = if scale == 1.0 { gradient } else { (gradient * scale)? };
            (PendingLoss::Device(rows), gradient, scale)
        }
        _ => {
            let (_, outputs) = logits.dims2()?;
            let values = to_f32(logits)?;
            let HostLoss { values, gradient } =
                weighted_host_loss(&values, labels, outputs, (passes, mixture), weights)?;
            let scale = gradient_scale(format, &gradient) / ((OVERFLOW_BITS * overflows) as f32).exp2();
            let scaled: Vec<f32> = gradient.iter().map(|&g| g * scale).collect();
            let gradient = Tensor::from_slice(&scaled, logits.shape(), logits.device())?.to_dtype(logits.dtype())?;
            (PendingLoss::Host(values), gradient, f64::from(scale))
        }
    };
    Ok(Loss { value, gradient: OutputGradient { outputs, head: None }, scale })
}

/// Squared errors as tensors: on any device, without waiting for it. logits `[passes * n, 1]` -> gradient as they
fn squared_error_rows(
    logits: &Tensor,
    values: &[f32],
    passes: usize,
    mixture: &MixtureConfig,
) -> Result<(LossRows, Tensor)> {
    let n = values.len();
    if n == 0 || logits.elem_count() != passes * n {
        return Err(Error::internal(format!("{n} labels for {} logits", logits.elem_count())));
    }
    let z = logits.to_dtype(DType::F32)?.flatten_all()?;
    let pass = |i: usize| z.narrow(0, i * n, n);
    let labels = Tensor::from_slice(values, n, logits.device())?;
    let (a, share) = (pass(0)?, 2.0 / n as f64);
    let error = (&a - &labels)?;
    let (mut task, mut gradients) = ((&error * &error)?, vec![(error * share)?]);
    let mut term = task.zeros_like()?;
    let mut lambda = 0.0;
    if passes == 2 {
        let b = pass(1)?;
        let mut gradient_b = b.zeros_like()?;
        if mixture.ce_both_passes {
            let error = (&b - &labels)?;
            task = ((task + (&error * &error)?)? * 0.5)?;
            gradients[0] = (&gradients[0] * 0.5)?;
            gradient_b = (error * (0.5 * share))?;
        }
        lambda = mixture.consistency_weight;
        let (rows, gradient) = consistency::squared_difference_rows(&a, &b, lambda, mixture.consistency_detach)?;
        gradients[0] = (&gradients[0] + &gradient)?;
        gradients.push((gradient_b - gradient)?);
        term = rows;
    }
    let rows = Tensor::stack(&[&task, &term, &task], 1)?;
    let gradient = Tensor::cat(&gradients, 0)?.reshape(logits.shape())?.to_dtype(logits.dtype())?;
    Ok((LossRows::new(rows, lambda), gradient))
}

/// The loss of one micro-batch on the host. logits: pass A's rows, then pass B's if there are two passes.
pub fn host_loss(
    logits: &[f32],
    labels: &Labels,
    outputs: usize,
    passes: usize,
    mixture: &MixtureConfig,
) -> Result<HostLoss> {
    weighted_host_loss(logits, labels, outputs, (passes, mixture), None)
}

/// The same, with a weight for each class in the cross-entropy; the term between the passes counts all rows the same.
pub fn weighted_host_loss(
    logits: &[f32],
    labels: &Labels,
    outputs: usize,
    (passes, mixture): (usize, &MixtureConfig),
    weights: Option<&[f64]>,
) -> Result<HostLoss> {
    let logits: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let (a, b) = logits.split_at(logits.len() / passes.max(1));
    let (mut task, mut grad_a) = task_loss(a, labels, outputs, weights)?;
    if passes < 2 {
        let values = LossValues { total: task, task, consistency: 0.0 };
        return Ok(HostLoss { values, gradient: grad_a.iter().map(|&g| g as f32).collect() });
    }
    let mut grad_b = vec![0.0; b.len()];
    if mixture.ce_both_passes {
        let (task_b, grad) = task_loss(b, labels, outputs, weights)?;
        task = 0.5 * (task + task_b);
        grad_a.iter_mut().for_each(|g| *g *= 0.5);
        grad_b = grad.iter().map(|g| 0.5 * g).collect();
    }
    let term = match labels {
        Labels::Classes(_) => consistency::symmetric_kl(a, b, outputs, mixture.consistency_detach),
        Labels::Values(_) => consistency::squared_difference(a, b, mixture.consistency_detach),
    };
    let lambda = mixture.consistency_weight;
    let add = |grad: Vec<f64>, term: Vec<f64>| grad.into_iter().zip(term).map(move |(g, t)| (g + lambda * t) as f32);
    let gradient = add(grad_a, term.grad_a).chain(add(grad_b, term.grad_b)).collect();
    let values = LossValues { total: task + lambda * term.value, task, consistency: term.value };
    Ok(HostLoss { values, gradient })
}

/// The loss on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostLoss {
    /// The loss and its parts.
    pub values: LossValues,
    /// d total / d logits, as laid out. `[passes * n * outputs]`
    pub gradient: Vec<f32>,
}

/// Mean cross-entropy in nats, each row weighted by its class as PyTorch's `CrossEntropyLoss(weight=...)` does, or mean
/// squared error, with its gradient. logits `[n * outputs]`, weights `[outputs]`
fn task_loss(logits: &[f64], labels: &Labels, outputs: usize, weights: Option<&[f64]>) -> Result<(f64, Vec<f64>)> {
    let n = logits.len() / outputs.max(1);
    let expect = |len: usize| {
        if len == n && n > 0 { Ok(()) } else { Err(Error::internal(format!("{len} labels for {n} rows of logits"))) }
    };
    match labels {
        Labels::Classes(classes) => {
            expect(classes.len())?;
            let weight = |class: u32| weights.and_then(|list| list.get(class as usize)).copied().unwrap_or(1.0);
            let all: f64 = classes.iter().map(|&class| weight(class)).sum();
            let mut loss = 0.0;
            let mut grad = Vec::with_capacity(logits.len());
            for (row, &class) in logits.chunks_exact(outputs).zip(classes) {
                let share = weight(class) / all;
                let log_p = log_softmax(row);
                let picked = log_p
                    .get(class as usize)
                    .ok_or_else(|| Error::internal(format!("label {class} of {outputs} classes")))?;
                loss -= picked * share;
                grad.extend(
                    log_p.iter().enumerate().map(|(c, l)| (l.exp() - f64::from(u8::from(c == class as usize))) * share),
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

/// Loss scale of a base model in f16, which has nothing below 6e-8: a power of two, by this gradient alone, that brings its
/// largest value near 16. 1 for the other formats.
pub fn gradient_scale(format: DType, grad: &[f32]) -> f32 {
    let largest = grad.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    if format != DType::F16 || largest == 0.0 || !largest.is_finite() {
        return 1.0;
    }
    (16.0 / largest).log2().floor().clamp(0.0, 24.0).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

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
    fn same(rows: LossRows, gradient: &Tensor, want: &HostLoss) {
        let (loss, wanted) = (PendingLoss::Device(rows).read().unwrap(), want.values);
        for (got, want) in
            [(loss.total, wanted.total), (loss.task, wanted.task), (loss.consistency, wanted.consistency)]
        {
            assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "{got} {want}");
        }
        let got: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(got.len(), want.gradient.len());
        let close = got.iter().zip(&want.gradient).all(|(got, want)| (got - want).abs() < 1e-6);
        assert!(close, "{got:?} {:?}", want.gradient);
    }

    #[test]
    fn what_a_gpu_is_given_to_compute_is_the_same_loss() {
        for (passes, mixture) in mixtures() {
            // Classes: here by the plain form that the kernel is compared with.
            let (outputs, classes) = (3, vec![0u32, 1, 2, 2, 1, 0, 1]);
            let values = logits(outputs, passes);
            let want = host_loss(&values, &Labels::Classes(classes.clone()), outputs, passes, &mixture).unwrap();
            let z = Tensor::from_slice(&values, (7 * passes, outputs), &Device::Cpu).unwrap();
            let identity = [[1.0f32, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
            let head = Tensor::new(&identity, &Device::Cpu).unwrap();
            let objective = consistency::objective(&mixture, passes, 0.0);
            let loss = vocab_loss::vocab_loss(&z, &head, &classes, objective).unwrap();
            same(loss.rows, &loss.grad.unwrap(), &want);
            // Values: as tensors, here on the processor.
            let values = logits(1, passes);
            let labels = vec![0.5f32, -1.0, 2.0, 0.0, 3.5, 1.0, -0.25];
            let want = host_loss(&values, &Labels::Values(labels.clone()), 1, passes, &mixture).unwrap();
            let z = Tensor::from_slice(&values, (7 * passes, 1), &Device::Cpu).unwrap();
            let (rows, gradient) = squared_error_rows(&z, &labels, passes, &mixture).unwrap();
            assert_eq!(gradient.dims(), z.dims());
            same(rows, &gradient, &want);
            assert!(squared_error_rows(&z, &labels[1..], passes, &mixture).is_err());
        }
    }

    #[test]
    fn classes_count_as_their_weights_say() {
        let (logits, classes) = (logits(3, 1), vec![0u32, 1, 2, 2, 1, 0, 1]);
        let weights = [0.5, 2.0, 3.0];
        let loss = |logits: &[f32]| {
            let labels = Labels::Classes(classes.clone());
            weighted_host_loss(logits, &labels, 3, (1, &MixtureConfig::default()), Some(&weights)).unwrap()
        };
        let found = loss(&logits);
        // sum of w_y times -ln p_y, over the sum of w_y
        let mut wanted = [0.0, 0.0];
        for (row, &class) in logits.chunks_exact(3).zip(&classes) {
            let sum: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
            wanted[0] -= weights[class as usize] * (f64::from(row[class as usize]) - sum.ln());
            wanted[1] += weights[class as usize];
        }
        assert!((found.values.task - wanted[0] / wanted[1]).abs() < 1e-12, "{}", found.values.task);
        for (i, gradient) in found.gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut logits = logits.clone();
                logits[i] += by;
                loss(&logits).values.task
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(*gradient)).abs() < 1e-5, "{slope} {gradient}");
        }
        // Equal weights change nothing but the last bits.
        let (labels, mixture) = (Labels::Classes(classes), MixtureConfig::default());
        let plain = host_loss(&logits, &labels, 3, 1, &mixture).unwrap().values.task;
        let equal = weighted_host_loss(&logits, &labels, 3, (1, &mixture), Some(&[7.0; 3])).unwrap().values.task;
        assert!((plain - equal).abs() < 1e-12);
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
