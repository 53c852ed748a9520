//! One training step of a language model, whole: [`step`](super::step) with the loss of every target token.
//!
//! 1. draw a route for each pass,
//! 2. run both passes as one batch, up to the final hidden states of the tokens before targets,
//! 3. cross-entropy on pass A plus λ times the disagreement of A and B, over the vocabulary in chunks,
//! 4. gradients down to the lowest mixture,
//! 5. clip,
//! 6. AdamW on what was drawn.

use super::loss::Queued;
use super::optimizer::AdamW;
use super::step::{StepLoss, Stepped, passes};
use crate::config::{Recompute, RunConfig};
use crate::data::text::TextBatch;
use crate::error::{Error, Result};
use crate::mixture::{Route, RouteShape};
use crate::model::{CausalLm, DropKeys, Packed, Run};
use crate::nn::Grads;
use crate::nn::kernels::vocab_loss::{MAX_LOGITS, Objective};
use crate::nn::profile::{Phase, timed};
use crate::rng::{Purpose, SeedStream};

/// Text as the model sees it: sequences back to back, and which tokens are to be learned.
#[derive(Clone, Copy, Debug)]
pub struct LmBatch<'a> {
    /// Tokens and where sequences start.
    pub packed: Packed<'a>,
    /// Whether each token is a target; the first of a sequence never is. `[tokens]`
    pub wanted: &'a [bool],
}

impl<'a> From<&'a TextBatch> for LmBatch<'a> {
    fn from(batch: &'a TextBatch) -> Self {
        Self { packed: Packed { ids: &batch.ids, offsets: &batch.offsets }, wanted: &batch.learn }
    }
}

/// What one micro-batch gave.
pub struct LmMicro {
    /// Its loss and the parts, means over target tokens.
    pub loss: StepLoss,
    /// Gradients of what was drawn.
    pub grads: Grads,
    /// Its route, where there is a mixture.
    pub route: Option<Route>,
    /// Tokens, all passes counted.
    pub tokens: usize,
    /// Target tokens of one pass.
    pub targets: usize,
}

/// The route of micro-batch number `index`: a pure function, so that any step can be replayed.
pub fn route_of(config: &RunConfig, model: &CausalLm, batch: LmBatch<'_>, index: u64) -> Option<Route> {
    let shape = RouteShape {
        passes: passes(config),
        sites: model.sites().len(),
        sequences: batch.packed.sequences(),
        tokens: batch.packed.ids.len(),
    };
    let seed = SeedStream::new(config.train.seed);
    model.mixture().map(|mixture| Route::draw(mixture, seed, Purpose::Routing, index, shape))
}

/// What is minimised under these settings.
pub fn objective(config: &RunConfig) -> Objective {
    let mixture = &config.mixture;
    Objective {
        passes: passes(config),
        smoothing: config.train.label_smoothing,
        weight: mixture.consistency_weight,
        detach: mixture.consistency_detach,
        both: mixture.ce_both_passes,
        gradient: true,
        max_logits: MAX_LOGITS,
    }
}

/// Forward, loss and backward of micro-batch number `index` under a given route.
pub fn micro_batch(
    config: &RunConfig,
    model: &CausalLm,
    batch: LmBatch<'_>,
    index: u64,
    route: Option<Route>,
) -> Result<LmMicro> {
    let (loss, grads, targets) = queue(config, model, batch, index, route.as_ref())?;
    let tokens = batch.packed.ids.len() * passes(config);
    Ok(LmMicro { loss: loss.read()?, grads, route, tokens, targets })
}

/// The same without waiting for a GPU: the loss to be read, the gradients, the target tokens of one pass.
fn queue(
    config: &RunConfig,
    model: &CausalLm,
    batch: LmBatch<'_>,
    index: u64,
    route: Option<&Route>,
) -> Result<(Queued, Grads, usize)> {
    let (rows, targets) = batch.packed.targets(batch.wanted);
    if targets.is_empty() {
        return Err(Error::data("a batch without a single token to learn; check the template and max_length"));
    }
    let keys = DropKeys::new(SeedStream::new(config.train.seed), index);
    let run = Run {
        passes: passes(config),
        route,
        drop: config.model.trunk_dropout.then_some(keys),
        lora_drop: Some(keys),
        all_tokens: true,
        keep: true,
        recompute: config.train.recompute == Recompute::On,
    };
    let (hidden, trace) = model.forward(batch.packed, Some(&rows), run)?;
    let trace = trace.ok_or_else(|| Error::internal("nothing was kept for the backward pass"))?;
    let loss = model.queue_loss(&hidden, &targets, objective(config))?;
    drop(hidden);
    let dhidden = loss.grad.ok_or_else(|| Error::internal("the loss gave no gradient"))?;
    let mut grads = model.backward(trace, &dhidden)?;
    model.add_head_grad(loss.head, &mut grads)?;
    if loss.scale != 1.0 {
        grads.scale(1.0 / loss.scale)?;
    }
    Ok((Queued::There(loss.rows), grads, targets.len()))
}

/// Step number `step` (from 0) of `total`. `run` hands each micro-batch of the given index to its second argument.
/// Micro-batches count by their target tokens, so that accumulating gives what one large batch would. Nothing is
/// changed when the loss or the gradient is not finite: that is an error of kind [`Numerics`](crate::error::ErrorKind::Numerics).
pub fn step(
    config: &RunConfig,
    model: &CausalLm,
    optimizer: &mut AdamW,
    (step, total): (u64, u64),
    mut batch_of: impl FnMut(u64, &mut dyn FnMut(LmBatch<'_>) -> Result<()>) -> Result<()>,
) -> Result<Stepped> {
    let micros = config.train.gradient_accumulation_steps as u64;
    let mut sum = Stepped::new(config, model.params(), (step, total));
    for micro in 0..micros {
        let index = step * micros + micro;
        batch_of(index, &mut |batch| {
            let route = timed(Phase::Data, || route_of(config, model, batch, index));
            let (loss, mut grads, targets) = queue(config, model, batch, index, route.as_ref())?;
            sum.add(loss, targets as f64);
            sum.tokens += batch.packed.ids.len() * passes(config);
            sum.targets += targets;
            sum.routes.extend(route);
            if micros > 1 {
                grads.scale(targets as f64)?;
            }
            sum.grads.merge(grads)
        })?;
    }
    let n = sum.targets.max(1) as f64;
    sum.finish(config, model.params(), optimizer, if micros > 1 { n } else { 1.0 })
}
