//! Losses and scores over a vocabulary.

use super::linear::Into;
use super::of;
use super::packed::Packed;
use crate::error::{Error, Result};
use crate::gpu::Operand;
use crate::gpu::kernels::product::{Epilogue, Form};
use crate::gpu::kernels::vocab::{self, VocabLoss, VocabScore};
use crate::nn::kernels::cuda::requests::{VocabLossRequest, VocabLossTensors};
use crate::nn::kernels::types::LossWeights;
use crate::tensor::{DType, GpuTensor, Tensor, to_f32};

/// Numbers of each row of a loss.
const PARTS: usize = 3;

fn weights_of(weights: LossWeights) -> vocab::LossWeights {
    let LossWeights { task, consistency, smoothing, detach } = weights;
    vocab::LossWeights {
        task: task.map(|weight| weight as f32),
        consistency: consistency as f32,
        smoothing: smoothing as f32,
        detach,
    }
}

/// Targets of one vocabulary that a chunk of logits may have on this device: what a kernel can be given of one pass.
pub(in crate::nn::kernels) fn most_targets(like: &Tensor, vocab: usize) -> usize {
    like.gpu().map_or(usize::MAX, |x| {
        let values = x.gpu().backend().facts().max_binding.saturating_sub(512) / 4;
        (values as usize / vocab.max(1)).max(1)
    })
}

/// A head in a GPU's memory. `[vocab, d]`
#[derive(Clone, Copy)]
pub(in crate::nn::kernels) enum GpuHead<'a> {
    /// Values in a tensor.
    Dense(&'a Tensor),
    /// Quantised values.
    Packed(&'a Packed),
}

impl GpuHead<'_> {
    /// `x Wᵀ`
    fn logits(self, x: &GpuTensor, out: &GpuTensor) -> Result<()> {
        match self {
            Self::Dense(head) => Into { form: Form::Nt, out }.product(x, of(head)?, Epilogue::default()),
            Self::Packed(head) => head.forward(x, None, out),
        }
    }

    /// `dlogits W`
    fn back(self, dlogits: &GpuTensor, out: &GpuTensor) -> Result<()> {
        match self {
            Self::Dense(head) => Into { form: Form::Nn, out }.product(dlogits, of(head)?, Epilogue::default()),
            Self::Packed(head) => head.back(dlogits, out, false),
        }
    }
}

/// The hidden states' gradient has their format, nothing is rounded between. `vocab`: rows of the head
pub(in crate::nn::kernels) fn vocab_loss(
    request: VocabLossRequest<'_>,
    head: GpuHead<'_>,
    vocab: usize,
) -> Result<VocabLossTensors> {
    let VocabLossRequest { hidden, targets, passes, weights, chunks, gradient, head_gradient } = request;
    let hidden = of(hidden)?;
    let ((_, d), n, gpu) = (hidden.dims2()?, targets.len(), hidden.gpu());
    let targets = gpu.words(targets)?;
    let parts = gpu.empty((n, PARTS), DType::F32)?;
    let grad = gradient.then(|| hidden.like()).transpose()?;
    let dhead = head_gradient.then(|| gpu.empty((vocab, d), DType::F32)).transpose()?;
    let mut first = true;
    for chunk in chunks {
        let (start, c) = (chunk.start, chunk.len());
        let rows = |x: &GpuTensor, pass: usize| x.narrow(0, pass * n + start, c);
        let logits = (0..passes).map(|_| gpu.empty((c, vocab), DType::F32)).collect::<Result<Vec<_>>>()?;
        for (pass, logits) in logits.iter().enumerate() {
            head.logits(&rows(hidden, pass)?, logits)?;
        }
        let wanted = gradient || head_gradient;
        let [a, b] = [logits.first(), logits.get(1)].map(|logits| logits.map(GpuTensor::operand));
        let a = a.ok_or_else(|| Error::internal("a loss without a pass"))?;
        let loss = VocabLoss {
            a,
            b,
            targets: targets.narrow(0, start, c)?.operand(),
            parts: parts.narrow(0, start, c)?.operand(),
            grads: wanted.then_some((a, b)),
            n: c,
            vocab,
            weights: weights_of(weights),
        };
        gpu.run([loss.launch()])?;
        for (pass, dlogits) in logits.iter().enumerate() {
            if let Some(grad) = &grad {
                head.back(dlogits, &rows(grad, pass)?)?;
            }
            if let Some(sum) = &dhead {
                let add = (!std::mem::take(&mut first)).then(|| sum.operand());
                let epilogue = Epilogue { add, ..Epilogue::default() };
                Into { form: Form::Tn, out: sum }.product(dlogits, &rows(hidden, pass)?, epilogue)?;
            }
        }
    }
    Ok(VocabLossTensors { rows: parts.into(), hidden: grad.map(Tensor::from), head: dhead.map(Tensor::from) })
}

/// The loss of logits that are there whole and its gradient on them. -> the rows `[targets, 3]`, the gradient as the logits
pub(in crate::nn::kernels) fn logits_loss(
    logits: &Tensor,
    targets: &[u32],
    passes: usize,
    weights: LossWeights,
) -> Result<(Tensor, Tensor)> {
    let ((_, vocab), n) = (logits.dims2()?, targets.len());
    let given = of(logits)?;
    let (gpu, wide) = (given.gpu(), given.cast(DType::F32)?);
    let (targets, parts, grad) = (gpu.words(targets)?, gpu.empty((n, PARTS), DType::F32)?, wide.like()?);
    let pass = |x: &GpuTensor, pass: usize| -> Result<Option<Operand>> {
        let rows = (pass < passes).then(|| x.narrow(0, pass * n, n)).transpose()?;
        Ok(rows.map(|rows| rows.operand()))
    };
    let ([a, b], [da, db]) = ([pass(&wide, 0)?, pass(&wide, 1)?], [pass(&grad, 0)?, pass(&grad, 1)?]);
    let (Some(a), Some(da)) = (a, da) else { return Err(Error::internal("a loss without a pass")) };
    let (targets, parts_at) = (targets.operand(), parts.operand());
    let grads = Some((da, db));
    let loss = VocabLoss { a, b, targets, parts: parts_at, grads, n, vocab, weights: weights_of(weights) };
    gpu.run([loss.launch()])?;
    Ok((parts.into(), grad.cast(given.dtype())?.into()))
}

/// Of each row of logits the log probability of its target and the first of the likeliest tokens; probabilities are added to
/// `mixed`, if there is one. Without targets only the largest value's place is looked for. z, mixed `[rows, vocab]` in f32
pub(in crate::nn::kernels) fn vocab_scores(
    z: &Tensor,
    targets: Option<&[u32]>,
    mixed: Option<&Tensor>,
) -> Result<Vec<f32>> {
    let ((n, vocab), z) = (z.dims2()?, of(z)?.cast(DType::F32)?);
    let targets = targets.map(|targets| z.gpu().words(targets)).transpose()?;
    let parts = z.gpu().empty((n, 2), DType::F32)?;
    let score = VocabScore {
        logits: z.operand(),
        targets: targets.as_ref().map(GpuTensor::operand),
        parts: parts.operand(),
        mixed: mixed.map(|mixed| Ok::<_, Error>(of(mixed)?.operand())).transpose()?,
        n,
        vocab,
    };
    z.gpu().run([score.launch()])?;
    to_f32(&parts.into())
}
