//! Cross-entropy over a vocabulary and the consistency term between two passes, with the gradient on the final hidden
//! states.
//!
//! ```text
//! task        = mean over targets of (1 - s) (-log p_A[target]) + s mean over the vocabulary of -log p_A
//! consistency = mean over targets of ½ Σ_v (p_A - p_B)(log p_A - log p_B)       (both directions of KL)
//! total       = task + λ consistency
//! ```
//!
//! Memory: at most [`MAX_LOGITS`] logits of all passes together (64 MiB in f32), or one target's rows. Their gradient is
//! written over them.

use super::cuda::requests::{VocabLossRequest, VocabLossTensors};
use super::cuda::{has_kernels, lm_ops};
use super::device::{half, is_fast, widen};
use super::gemm::{self, Matrix, Precision};
use super::gpu;
use super::gpu::losses::GpuHead;
use super::host::{self, HostRef, StoredRef};
pub use super::loss_rows::VocabLoss;
use super::loss_rows::{LossRows, PARTS};
use super::quant::Quantised;
use super::simd;
use super::types::LossWeights;
use crate::error::{Error, Result};
use crate::tensor::{D, DType, Device, Tensor, to_f32};
use rayon::prelude::*;
use std::ops::Range;

/// Logits in memory at one time, all passes together.
pub const MAX_LOGITS: usize = 1 << 24;

/// What is computed.
#[derive(Clone, Copy, Debug)]
pub struct Objective {
    /// Passes stacked in the hidden states: 1, or 2 for the consistency term.
    pub passes: usize,
    /// s: share of the target's weight spread over the whole vocabulary, at least 0 and below 1.
    pub smoothing: f64,
    /// λ: weight of the consistency term.
    pub weight: f64,
    /// Take the other pass as a constant in each direction of the consistency term.
    pub detach: bool,
    /// The task loss on both passes (their mean) instead of on the first alone.
    pub both: bool,
    /// Whether the gradient is wanted.
    pub gradient: bool,
    /// Logits in memory at one time; see [`MAX_LOGITS`].
    pub max_logits: usize,
    /// How often the same gradient has left the range of f16 before: each time it is scaled up less.
    pub overflows: u32,
}

impl Objective {
    /// λ of what is computed: 0 with one pass.
    fn counted(&self) -> f64 {
        if self.passes == 2 { self.weight } else { 0.0 }
    }

    fn weights(&self, n: usize) -> LossWeights {
        let task = 1.0 / n as f64;
        let both = self.both && self.passes == 2;
        LossWeights {
            task: [if both { 0.5 * task } else { task }, if both { 0.5 * task } else { 0.0 }],
            consistency: self.counted() / n as f64,
            smoothing: self.smoothing,
            detach: self.detach,
        }
    }
}

/// Powers of two by which the gradient is scaled up less after each overflow.
pub const OVERFLOW_BITS: u32 = 6;

/// What the gradient is multiplied with where it is computed in this format: f16 has nothing below 6e-8, and each of many
/// targets has its share of the loss only. A power of two that depends on their number and the device alone; 1 for the other
/// formats.
fn gradient_scale(format: DType, device: &Device, targets: usize, overflows: u32) -> f64 {
    let up = (targets.max(1) as f64).log2().floor() + f64::from(device.f16_shift());
    let scale = up - f64::from(OVERFLOW_BITS * overflows);
    if format == DType::F16 { scale.exp2() } else { 1.0 }
}

/// The same for the logits of a classifier or regressor, whose gradients are the larger and pass through a head first.
pub fn classifier_scale(format: DType, device: &Device, targets: usize, overflows: u32) -> f64 {
    let more = if format == DType::F16 { 16.0 } else { 1.0 };
    more * gradient_scale(format, device, targets, overflows)
}

/// The language-model head. `[vocab, d]`
///
/// A quantised one is widened twice for each chunk of rows, for logits and gradient, which takes little of the products'
/// time; looping over the vocabulary first would need a third product for the sums of exponentials.
#[derive(Clone, Copy, Debug)]
pub enum Head<'a> {
    /// Values in a tensor.
    Dense(&'a Tensor),
    /// Quantised values, multiplied in this precision.
    Quantised(&'a Quantised, Precision),
}

impl<'a> From<&'a Tensor> for Head<'a> {
    fn from(dense: &'a Tensor) -> Self {
        Self::Dense(dense)
    }
}

impl<'a> Head<'a> {
    fn dims2(self) -> Result<(usize, usize)> {
        match self {
            Self::Dense(dense) => Ok(dense.dims2()?),
            Self::Quantised(quantised, _) => Ok(quantised.dims()),
        }
    }
    /// A quantised head's values rounded to bf16 as those of a head that is stored so, with what they are multiplied with.
    #[must_use]
    pub fn rounded(self) -> Self {
        match self {
            Self::Quantised(quantised, _) => Self::Quantised(quantised, Precision::Rounded),
            Self::Dense(_) => self,
        }
    }
    fn tensor(self) -> Option<&'a Tensor> {
        match self {
            Self::Dense(dense) => Some(dense),
            Self::Quantised(..) => None,
        }
    }
    fn fast(self, hidden: &Tensor) -> bool {
        match self {
            Self::Dense(dense) => is_fast(hidden) && gemm::fast(hidden, dense),
            Self::Quantised(..) => is_fast(hidden),
        }
    }
    fn like(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => gemm::like(dense, x),
            Self::Quantised(quantised, _) => gemm::like(&quantised.dense()?.to_device(x.device())?, x),
        }
    }
    /// Logits. x `[n, d]` -> `[n, vocab]`
    fn logits(self, [n, vocab, d]: [usize; 3], x: &[f32], out: &mut [f32]) -> Result<()> {
        match self {
            Self::Dense(w) => {
                let w = StoredRef::of(w)?;
                gemm::product_into([n, vocab, d], Matrix::rows(x, d), Matrix::cols(w.values(), d), out, None);
            }
            Self::Quantised(w, precision) => w.product_into(x, n, out, precision),
        }
        Ok(())
    }
    /// The gradient of x. dlogits `[n, vocab]` -> `[n, d]`
    fn back(self, [n, vocab, d]: [usize; 3], dlogits: &[f32]) -> Result<Vec<f32>> {
        Ok(match self {
            Self::Dense(w) => {
                let (w, dlogits) = (StoredRef::of(w)?, Matrix::rows(dlogits, vocab));
                gemm::product([n, d, vocab], dlogits, Matrix::rows(w.values(), d), None)
            }
            Self::Quantised(w, precision) => {
                let mut dx = vec![0.0; n * d];
                w.product_back(dlogits, n, &mut dx, precision);
                dx
            }
        })
    }
}

/// Without waiting for a GPU. hidden `[passes * targets, d]` (pass A's rows, then pass B's), head `[vocab, d]`, targets
/// `[targets]`
pub fn vocab_loss<'a>(
    hidden: &Tensor,
    head: impl Into<Head<'a>>,
    targets: &[u32],
    objective: Objective,
) -> Result<VocabLoss> {
    run(hidden, head.into(), targets, objective, false)
}

/// As [`vocab_loss`] with the gradients of the hidden states and of the head.
pub fn vocab_loss_and_head(hidden: &Tensor, head: &Tensor, targets: &[u32], objective: Objective) -> Result<VocabLoss> {
    run(hidden, head.into(), targets, Objective { gradient: true, ..objective }, true)
}

/// The same loss of logits that are there whole, such as a classifier's, and its gradient on them; only where their device
/// [has kernels](has_kernels), and without waiting for it. `format`: that of the gradients below. logits `[passes * targets,
/// classes]`
pub fn logits_loss(logits: &Tensor, targets: &[u32], objective: Objective, format: DType) -> Result<VocabLoss> {
    let (rows, classes) = logits.dims2()?;
    check([rows, classes], targets, objective.passes)?;
    let scale = classifier_scale(format, logits.device(), targets.len(), objective.overflows);
    let weights = objective.weights(targets.len()).times(scale);
    let loss = if logits.device().is_gpu() { gpu::losses::logits_loss } else { lm_ops::logits_loss };
    let (rows, grad) = loss(logits, targets, objective.passes, weights)?;
    Ok(VocabLoss { rows: LossRows::new(rows, objective.counted()), grad: Some(grad), head: None, scale })
}

fn check([rows, vocab]: [usize; 2], targets: &[u32], passes: usize) -> Result<()> {
    let n = targets.len();
    if !(1..=2).contains(&passes) || n == 0 || rows != passes * n {
        return Err(Error::internal(format!("{n} targets for {passes} passes of {rows} rows")));
    }
    match targets.iter().find(|&&target| target as usize >= vocab) {
        Some(target) => Err(Error::internal(format!("target {target} of a vocabulary of {vocab}"))),
        None => Ok(()),
    }
}

fn run(hidden: &Tensor, head: Head<'_>, targets: &[u32], objective: Objective, with_head: bool) -> Result<VocabLoss> {
    let ((rows, d), (vocab, head_d)) = (hidden.dims2()?, head.dims2()?);
    let (n, Objective { passes, gradient, .. }) = (targets.len(), objective);
    check([rows, vocab], targets, passes)?;
    if d != head_d {
        return Err(Error::internal(format!("hidden states of {d} columns for a head of {head_d}")));
    }
    let chunk = (objective.max_logits / (passes * vocab)).min(gpu::losses::most_targets(hidden, vocab)).clamp(1, n);
    let chunks: Vec<Range<usize>> = (0..n).step_by(chunk).map(|start| start..(start + chunk).min(n)).collect();
    let weights = objective.weights(n);
    let job =
        VocabLossRequest { hidden, targets, passes, weights, chunks: &chunks, gradient, head_gradient: with_head };
    let fast = head.fast(hidden);
    if hidden.device().is_gpu() {
        // What flows on below has the format of the activations.
        let (on_gpu, format) = match head {
            Head::Dense(dense) => (GpuHead::Dense(dense), dense.dtype()),
            Head::Quantised(quantised, _) => (GpuHead::Packed(quantised.packed()?), DType::F16),
        };
        let scale = gradient_scale(format, hidden.device(), n, objective.overflows);
        let job = VocabLossRequest { weights: weights.times(scale), ..job };
        let VocabLossTensors { rows, hidden: grad, head } = gpu::losses::vocab_loss(job, on_gpu, vocab)?;
        return Ok(VocabLoss { rows: LossRows::new(rows, objective.counted()), grad, head, scale });
    }
    // A device's kernels multiply in the head's format, a processor in the hidden states' or a wider one.
    let on_device = head.tensor().filter(|head| !fast && has_kernels(head));
    let format = on_device.map_or(hidden.dtype(), Tensor::dtype);
    let scale = gradient_scale(format, hidden.device(), n, objective.overflows);
    let VocabLossTensors { rows, hidden: grad, head } = if fast {
        run_fast(job, head)?
    } else if let Some(head) = on_device {
        lm_ops::vocab_loss(VocabLossRequest { weights: weights.times(scale), ..job }, head)?
    } else if half(hidden) {
        let wide = run(&widen(hidden)?, head, targets, objective, with_head)?;
        let grad = wide.grad.map(|grad| (grad * scale)?.to_dtype(hidden.dtype())).transpose()?;
        return Ok(VocabLoss { grad, head: wide.head.map(|head| head * scale).transpose()?, scale, ..wide });
    } else {
        run_plain(job, head)?
    };
    Ok(VocabLoss { rows: LossRows::new(rows, objective.counted()), grad, head, scale })
}

fn run_fast(job: VocabLossRequest<'_>, head: Head<'_>) -> Result<VocabLossTensors> {
    let VocabLossRequest { hidden, targets, passes, weights, chunks, gradient, head_gradient } = job;
    let ((rows, d), (vocab, _)) = (hidden.dims2()?, head.dims2()?);
    let (n, hs) = (targets.len(), HostRef::of(hidden)?);
    let mut grad = vec![0.0f32; if gradient { rows * d } else { 0 }];
    let mut dhead = vec![0.0f32; if head_gradient { vocab * d } else { 0 }];
    let mut parts = vec![0.0f32; n * PARTS];
    let (mut logits, mut gathered) = (Vec::new(), Vec::new());
    for range in chunks.iter().cloned() {
        let c = range.len();
        gathered.clear();
        for pass in 0..passes {
            gathered.extend_from_slice(&hs[(pass * n + range.start) * d..(pass * n + range.end) * d]);
        }
        logits.resize(passes * c * vocab, 0.0);
        let dims = [passes * c, vocab, d];
        head.logits(dims, &gathered, &mut logits)?;
        let parts = parts[range.start * PARTS..range.end * PARTS].par_chunks_mut(PARTS);
        let rows = parts.zip(&targets[range.clone()]).with_min_len(host::rows_per_task(vocab));
        let (a, b) = logits.split_at_mut(c * vocab);
        if passes == 2 {
            let both = a.par_chunks_mut(vocab).zip(b.par_chunks_mut(vocab));
            rows.zip(both).for_each(|((parts, &target), (a, b))| {
                simd::vectors!(|| pair(a, b, target as usize, weights, parts));
            });
        } else {
            rows.zip(a.par_chunks_mut(vocab)).for_each(|((parts, &target), a)| {
                simd::vectors!(|| single(a, target as usize, weights, parts));
            });
        }
        if head_gradient {
            let (dlogits, x) = (Matrix::cols(&logits[..], vocab), Matrix::rows(&gathered[..], d));
            gemm::product_add([vocab, d, passes * c], dlogits, x, &mut dhead);
        }
        if gradient {
            let dh = head.back(dims, &logits)?;
            for (pass, dh) in dh.chunks_exact(c * d).enumerate() {
                grad[(pass * n + range.start) * d..(pass * n + range.end) * d].copy_from_slice(dh);
            }
        }
    }
    let grad = if gradient { Some(host::tensor(grad, (rows, d))?) } else { None };
    let head = if head_gradient { Some(host::tensor(dhead, (vocab, d))?) } else { None };
    Ok(VocabLossTensors { rows: host::tensor(parts, (n, PARTS))?, hidden: grad, head })
}

#[inline(always)]
pub(super) fn log_sum_exp(z: &[f32]) -> f32 {
    let max = simd::max(z);
    max + simd::sum_map(z, |v| simd::exp(v - max)).ln()
}

/// Smoothed and plain cross-entropy of one row.
#[inline(always)]
fn entropy(z: &[f32], lse: f32, target: usize, smoothing: f64) -> (f32, f32) {
    let nll = lse - z[target];
    if smoothing == 0.0 {
        return (nll, nll);
    }
    let spread = lse - simd::sum_map(z, |v| v) / z.len() as f32;
    ((1.0 - smoothing) as f32 * nll + smoothing as f32 * spread, nll)
}

/// One pass: logits become their gradient.
#[inline(always)]
fn single(z: &mut [f32], target: usize, w: LossWeights, parts: &mut [f32]) {
    let lse = log_sum_exp(z);
    let (smooth, nll) = entropy(z, lse, target, w.smoothing);
    parts.copy_from_slice(&[smooth, 0.0, nll]);
    let (weight, floor) = (w.task[0] as f32, (w.task[0] * w.smoothing / z.len() as f64) as f32);
    for v in z.iter_mut() {
        *v = weight * simd::exp(*v - lse) - floor;
    }
    z[target] -= (w.task[0] * (1.0 - w.smoothing)) as f32;
}

/// Both passes: logits become their gradients.
#[inline(always)]
fn pair(a: &mut [f32], b: &mut [f32], target: usize, w: LossWeights, parts: &mut [f32]) {
    let (la, lb) = (log_sum_exp(a), log_sum_exp(b));
    let (smooth_a, nll) = entropy(a, la, target, w.smoothing);
    let (smooth_b, _) = entropy(b, lb, target, w.smoothing);
    let task = if w.task[1] > 0.0 { 0.5 * (smooth_a + smooth_b) } else { smooth_a };
    let (mut kl_ab, mut kl_ba) = (0.0, 0.0);
    let symmetric = if w.detach {
        simd::sum_map2(a, b, |a, b| (simd::exp(a - la) - simd::exp(b - lb)) * ((a - la) - (b - lb)))
    } else {
        kl_ab = simd::sum_map2(a, b, |a, b| simd::exp(a - la) * ((a - la) - (b - lb)));
        kl_ba = simd::sum_map2(a, b, |a, b| simd::exp(b - lb) * ((b - lb) - (a - la)));
        kl_ab + kl_ba
    };
    parts.copy_from_slice(&[task, 0.5 * symmetric, nll]);
    let share = |task: f64| (task as f32, (task * w.smoothing / a.len() as f64) as f32);
    let ((wa, fa), (wb, fb)) = (share(w.task[0]), share(w.task[1]));
    let half = (0.5 * w.consistency) as f32;
    let through = if w.detach { 0.0 } else { half };
    for (a, b) in a.iter_mut().zip(b.iter_mut()) {
        let (log_a, log_b) = (*a - la, *b - lb);
        let (pa, pb) = (simd::exp(log_a), simd::exp(log_b));
        let apart = half * (pa - pb);
        *a = wa * pa - fa + apart + through * pa * (log_a - log_b - kl_ab);
        *b = wb * pb - fb - apart + through * pb * (log_b - log_a - kl_ba);
    }
    a[target] -= (w.task[0] * (1.0 - w.smoothing)) as f32;
    b[target] -= (w.task[1] * (1.0 - w.smoothing)) as f32;
}

/// The same from candle operations.
fn run_plain(job: VocabLossRequest<'_>, head: Head<'_>) -> Result<VocabLossTensors> {
    let VocabLossRequest { hidden, targets, passes, weights: w, chunks, gradient, head_gradient } = job;
    let (n, head) = (targets.len(), &head.like(hidden)?);
    let (mut parts, mut grads) = (Vec::new(), vec![Vec::new(); passes]);
    let mut dhead = if head_gradient { Some(head.zeros_like()?) } else { None };
    for range in chunks.iter().cloned() {
        let rows = |pass: usize| hidden.narrow(0, pass * n + range.start, range.len());
        let logits = |pass: usize| -> Result<Tensor> { rows(pass)?.matmul(&head.t()?) };
        let targets = &targets[range.clone()];
        let a = Row::new(&logits(0)?, targets)?;
        let b = if passes == 2 { Some(Row::new(&logits(1)?, targets)?) } else { None };
        let (mut da, mut task) = (a.task_gradient(w.task[0], w.smoothing)?, a.entropy(w.smoothing)?);
        let mut term = task.zeros_like()?;
        if let Some(b) = &b {
            if w.task[1] > 0.0 {
                task = ((task + b.entropy(w.smoothing)?)? * 0.5)?;
            }
            let (kl_ab, kl_ba) = (a.kl(b)?, b.kl(&a)?);
            term = ((&kl_ab + &kl_ba)? * 0.5)?;
            let db = b.task_gradient(w.task[1], w.smoothing)?;
            let db = (db + b.consistency_gradient(&a, &kl_ba, w)?)?;
            da = (da + a.consistency_gradient(b, &kl_ab, w)?)?;
            if let Some(sum) = &mut dhead {
                *sum = (&*sum + db.t()?.matmul(&rows(1)?)?)?;
            }
            grads[1].push(db.matmul(head)?);
        }
        if let Some(sum) = &mut dhead {
            *sum = (&*sum + da.t()?.matmul(&rows(0)?)?)?;
        }
        grads[0].push(da.matmul(head)?);
        let columns = Tensor::stack(&[task, term, a.entropy(0.0)?], 1)?;
        parts.extend(to_f32(&columns)?);
    }
    let grad = if gradient { Some(Tensor::cat(&grads.concat(), 0)?) } else { None };
    Ok(VocabLossTensors { rows: host::tensor(parts, (n, PARTS))?, hidden: grad, head: dhead })
}

/// Log probabilities of one pass, their exponentials, and the targets as ones among zeros. `[rows, vocab]` each
struct Row {
    log: Tensor,
    p: Tensor,
    hot: Tensor,
}

impl Row {
    fn new(z: &Tensor, targets: &[u32]) -> Result<Self> {
        let (rows, vocab) = z.dims2()?;
        let shifted = z.broadcast_sub(&z.max_keepdim(D::Minus1)?)?;
        let log = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
        let mut hot = vec![0.0f32; rows * vocab];
        for (row, &target) in targets.iter().enumerate() {
            hot[row * vocab + target as usize] = 1.0;
        }
        let hot = Tensor::from_vec(hot, (rows, vocab), z.device())?.to_dtype(z.dtype())?;
        Ok(Self { p: log.exp()?, log, hot })
    }

    /// The distribution that is aimed at.
    fn aim(&self, smoothing: f64) -> Result<Tensor> {
        let (_, vocab) = self.log.dims2()?;
        self.hot.affine(1.0 - smoothing, smoothing / vocab as f64)
    }

    fn entropy(&self, smoothing: f64) -> Result<Tensor> {
        (self.aim(smoothing)? * &self.log)?.sum(D::Minus1)?.neg()
    }

    fn task_gradient(&self, weight: f64, smoothing: f64) -> Result<Tensor> {
        (&self.p - self.aim(smoothing)?)? * weight
    }

    fn kl(&self, other: &Self) -> Result<Tensor> {
        (&self.p * (&self.log - &other.log)?)?.sum(D::Minus1)
    }

    fn consistency_gradient(&self, other: &Self, kl: &Tensor, w: LossWeights) -> Result<Tensor> {
        let mut grad = (&self.p - &other.p)?;
        if !w.detach {
            let apart = (&self.log - &other.log)?.broadcast_sub(&kl.unsqueeze(1)?)?;
            grad = (grad + (&self.p * apart)?)?;
        }
        grad * (0.5 * w.consistency)
    }
}
