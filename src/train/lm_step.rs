//! One training step of a language model, whole: [`step`](super::step) with the loss of every target token.
//!
//! 1. draw a route for each pass,
//! 2. run both passes as one batch, up to the final hidden states of the tokens before targets,
//! 3. cross-entropy on pass A plus λ times the disagreement of A and B, over the vocabulary in chunks,
//! 4. gradients down to the lowest mixture,
//! 5. clip,
//! 6. AdamW on what was drawn.

use super::optimizer::{self, AdamW};
use super::schedule;
use super::step::passes;
use crate::config::{Recompute, RunConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::mixture::{Route, RouteShape};
use crate::model::{CausalLm, DropKeys, Packed, Run};
use crate::nn::Grads;
use crate::nn::kernels::vocab_loss::{MAX_LOGITS, Objective};
use crate::rng::{Purpose, SeedStream};

/// Text as the model sees it: sequences back to back, and which tokens are to be learned.
#[derive(Clone, Copy, Debug)]
pub struct LmBatch<'a> {
    /// Tokens and where sequences start.
    pub packed: Packed<'a>,
    /// Whether each token is a target; the first of a sequence never is. `[tokens]`
    pub wanted: &'a [bool],
}

/// The loss of a step and its parts, means over target tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LmLoss {
    /// What is minimised.
    pub total: f64,
    /// Cross-entropy in nats, smoothed as the settings say.
    pub task: f64,
    /// Before λ; 0 with one pass.
    pub consistency: f64,
    /// -log p of the targets in pass A, without smoothing.
    pub nll: f64,
}

/// What one micro-batch gave.
pub struct LmMicro {
    /// Its loss and the parts.
    pub loss: LmLoss,
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
    let (rows, targets) = batch.packed.targets(batch.wanted);
    if targets.is_empty() {
        return Err(Error::data("a batch without a single token to learn; check the template and max_length"));
    }
    let keys = DropKeys::new(SeedStream::new(config.train.seed), index);
    let run = Run {
        passes: passes(config),
        route: route.as_ref(),
        drop: config.model.trunk_dropout.then_some(keys),
        lora_drop: Some(keys),
        all_tokens: true,
        keep: true,
        recompute: config.train.recompute == Recompute::On,
    };
    let (hidden, trace) = model.forward(batch.packed, Some(&rows), run)?;
    let trace = trace.ok_or_else(|| Error::internal("nothing was kept for the backward pass"))?;
    let loss = model.loss(&hidden, &targets, objective(config))?;
    drop(hidden);
    let dhidden = loss.grad.ok_or_else(|| Error::internal("the loss gave no gradient"))?;
    let grads = model.backward(trace, &dhidden)?;
    let nll = loss.nll.iter().map(|&v| f64::from(v)).sum::<f64>() / targets.len() as f64;
    let parts = LmLoss { total: loss.total, task: loss.task, consistency: loss.consistency, nll };
    let tokens = batch.packed.ids.len() * passes(config);
    Ok(LmMicro { loss: parts, grads, route, tokens, targets: targets.len() })
}

/// What one optimizer step gave.
pub struct LmStepped {
    /// Mean over all target tokens of the micro-batches.
    pub loss: LmLoss,
    /// Rate used.
    pub learning_rate: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// All passes counted.
    pub tokens: usize,
    /// Target tokens of one pass.
    pub targets: usize,
    /// One for each micro-batch.
    pub routes: Vec<Route>,
    /// After clipping: what the optimizer used.
    pub grads: Grads,
}

/// Step number `step` (from 0) of `total`. `run` hands each micro-batch of the given index to its second argument.
/// Micro-batches count by their target tokens, so that accumulating gives what one large batch would. Nothing is
/// changed when the loss or the gradient is not finite: that is an error of kind [`ErrorKind::Numerics`].
pub fn step(
    config: &RunConfig,
    model: &CausalLm,
    optimizer: &mut AdamW,
    (step, total): (u64, u64),
    mut batch_of: impl FnMut(u64, &mut dyn FnMut(LmBatch<'_>) -> Result<()>) -> Result<()>,
) -> Result<LmStepped> {
    let micros = config.train.gradient_accumulation_steps as u64;
    let mut sum = LmStepped {
        loss: LmLoss::default(),
        learning_rate: schedule::learning_rate(&config.train, step, total),
        grad_norm: 0.0,
        tokens: 0,
        targets: 0,
        routes: Vec::new(),
        grads: Grads::new(model.params()),
    };
    for micro in 0..micros {
        let index = step * micros + micro;
        batch_of(index, &mut |batch| {
            let route = route_of(config, model, batch, index);
            let mut one = micro_batch(config, model, batch, index, route)?;
            let n = one.targets as f64;
            for (part, of) in [
                (&mut sum.loss.total, one.loss.total),
                (&mut sum.loss.task, one.loss.task),
                (&mut sum.loss.consistency, one.loss.consistency),
                (&mut sum.loss.nll, one.loss.nll),
            ] {
                *part += of * n;
            }
            sum.tokens += one.tokens;
            sum.targets += one.targets;
            sum.routes.extend(one.route);
            if micros > 1 {
                one.grads.scale(n)?;
            }
            sum.grads.merge(one.grads)
        })?;
    }
    let n = sum.targets.max(1) as f64;
    let LmLoss { total, task, consistency, nll } = sum.loss;
    sum.loss = LmLoss { total: total / n, task: task / n, consistency: consistency / n, nll: nll / n };
    if micros > 1 {
        sum.grads.scale(1.0 / n)?;
    }
    sum.grad_norm = optimizer::clip(&mut sum.grads, config.train.max_grad_norm)?;
    if !sum.loss.total.is_finite() || !sum.grad_norm.is_finite() {
        let what = format!("loss {} and gradient norm {} in step {}", sum.loss.total, sum.grad_norm, step + 1);
        return Err(Error::new(
            ErrorKind::Numerics,
            format!("{what} are not finite; lower the learning rate or check the data"),
        ));
    }
    optimizer.step(model.params(), &sum.grads, sum.learning_rate, &config.train)?;
    Ok(sum)
}
