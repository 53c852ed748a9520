//! One training step, whole (paper section 3):
//!
//! 1. draw a route for each pass,
//! 2. run both passes as one batch,
//! 3. task loss on pass A plus λ times the disagreement of A and B,
//! 4. gradients down to the lowest mixture,
//! 5. clip,
//! 6. AdamW on what was drawn.

use super::loss::{self, Queued};
use super::optimizer::{self, AdamW};
use super::schedule;
use crate::config::{Method, Recompute, RunConfig};
use crate::data::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::mixture::{Route, RouteShape};
use crate::model::{Classifier, DropKeys, Run};
use crate::nn::profile::{Phase, scope, timed};
use crate::nn::{Grads, Params};
use crate::rng::{Purpose, SeedStream};

/// Times each batch goes through the model: twice with the consistency term.
pub fn passes(config: &RunConfig) -> usize {
    if config.model.method == Method::Adamix && config.mixture.consistency { 2 } else { 1 }
}

/// What one micro-batch gave.
pub struct Micro {
    /// Its loss and the parts.
    pub loss: StepLoss,
    /// Gradients of what was drawn.
    pub grads: Grads,
    /// Its route, where there is a mixture.
    pub route: Option<Route>,
    /// Tokens, all passes counted.
    pub tokens: usize,
}

/// The route of micro-batch number `index`: a pure function, so that any step can be replayed.
pub fn route_of(config: &RunConfig, model: &Classifier, batch: &Batch, index: u64) -> Option<Route> {
    let shape = RouteShape {
        passes: passes(config),
        sites: model.sites().len(),
        sequences: batch.len(),
        tokens: batch.tokens(),
    };
    let seed = SeedStream::new(config.train.seed);
    model.mixture().map(|mixture| Route::draw(mixture, seed, Purpose::Routing, index, shape))
}

/// Forward, loss and backward of micro-batch number `index` under a given route.
pub fn micro_batch(
    config: &RunConfig,
    model: &Classifier,
    batch: &Batch,
    index: u64,
    route: Option<Route>,
) -> Result<Micro> {
    let (loss, grads) = queue(config, model, batch, index, route.as_ref())?;
    let loss = loss.read()?;
    Ok(Micro { loss: StepLoss { nll: loss.task, ..loss }, grads, route, tokens: batch.tokens() * passes(config) })
}

/// The same without waiting for a GPU: the loss to be read, and the gradients.
fn queue(
    config: &RunConfig,
    model: &Classifier,
    batch: &Batch,
    index: u64,
    route: Option<&Route>,
) -> Result<(Queued, Grads)> {
    let passes = passes(config);
    let keys = DropKeys::new(SeedStream::new(config.train.seed), index);
    let drop = config.model.trunk_dropout.then_some(keys);
    let recompute = config.train.recompute == Recompute::On;
    let run = Run { passes, route, drop, lora_drop: Some(keys), all_tokens: false, keep: true, recompute };
    let (logits, trace) = model.forward(batch, run)?;
    let trace = trace.ok_or_else(|| Error::internal("nothing was kept for the backward pass"))?;
    let (classes, flow) = (model.head().classes(), model.encoder().flow());
    let queued = timed(Phase::Head, || loss::queue(&logits, &batch.labels, (classes, passes), flow, &config.mixture))?;
    let (loss, dlogits, scale) = queued;
    let mut grads = model.backward(trace, &dlogits)?;
    if scale != 1.0 {
        grads.scale(1.0 / scale)?;
    }
    Ok((loss, grads))
}

/// The loss of a step and its parts, means over its micro-batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepLoss {
    /// What is minimised.
    pub total: f64,
    /// Cross-entropy in nats, smoothed as the settings say, or squared error.
    pub task: f64,
    /// Before λ; 0 with one pass.
    pub consistency: f64,
    /// Of language models: -log p of the targets in pass A, without smoothing. Otherwise the task loss.
    pub nll: f64,
}

/// What one optimizer step gave.
pub struct Stepped {
    /// Mean over the micro-batches (of language models: over all their target tokens).
    pub loss: StepLoss,
    /// Rate used.
    pub learning_rate: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// All passes counted.
    pub tokens: usize,
    /// Examples, or target tokens of language models, of one pass.
    pub targets: usize,
    /// One for each micro-batch.
    pub routes: Vec<Route>,
    /// After clipping: what the optimizer used.
    pub grads: Grads,
    /// Steps done before.
    before: u64,
    /// Losses of the micro-batches and what they count.
    queued: Vec<(Queued, f64)>,
}

impl Stepped {
    /// Before the first micro-batch of step number `step` of `total`.
    pub(super) fn new(config: &RunConfig, params: &Params, (step, total): (u64, u64)) -> Self {
        Self {
            loss: StepLoss::default(),
            learning_rate: schedule::learning_rate(&config.train, step, total),
            grad_norm: 0.0,
            tokens: 0,
            targets: 0,
            routes: Vec::new(),
            grads: Grads::new(params),
            before: step,
            queued: Vec::new(),
        }
    }

    /// Adds a micro-batch's loss, counted `weight` times.
    pub(super) fn add(&mut self, loss: Queued, weight: f64) {
        self.queued.push((loss, weight));
    }

    /// The mean of the micro-batches' losses; waits for a device that computes them.
    fn read_loss(&mut self) -> Result<()> {
        let all: f64 = self.queued.iter().map(|(_, weight)| weight).sum();
        for (loss, weight) in self.queued.drain(..) {
            let (sum, loss) = (&mut self.loss, loss.read()?);
            for (sum, part) in [
                (&mut sum.total, loss.total),
                (&mut sum.task, loss.task),
                (&mut sum.consistency, loss.consistency),
                (&mut sum.nll, loss.nll),
            ] {
                *sum += part * weight;
            }
        }
        let sum = &mut self.loss;
        for sum in [&mut sum.total, &mut sum.task, &mut sum.consistency, &mut sum.nll] {
            *sum /= all.max(1.0);
        }
        Ok(())
    }

    /// The end of the step: the gradients, divided by `divisor`, are clipped and used. Nothing is changed when
    /// the loss or the gradient is not finite: that is an error of kind [`ErrorKind::Numerics`].
    pub(super) fn finish(
        mut self,
        config: &RunConfig,
        params: &Params,
        optimizer: &mut AdamW,
        divisor: f64,
    ) -> Result<Self> {
        let _optimizing = scope(Phase::Optimizer);
        if divisor != 1.0 {
            self.grads.scale(1.0 / divisor)?;
        }
        // Here, at the end of the step, the host waits for the device: a step that went wrong must not change anything.
        self.grad_norm = optimizer::clip(&mut self.grads, config.train.max_grad_norm)?;
        self.read_loss()?;
        if !self.loss.total.is_finite() || !self.grad_norm.is_finite() {
            let what =
                format!("loss {} and gradient norm {} in step {}", self.loss.total, self.grad_norm, self.before + 1);
            return Err(Error::new(
                ErrorKind::Numerics,
                format!("{what} are not finite; lower the learning rate or check the data"),
            ));
        }
        optimizer.step(params, &self.grads, self.learning_rate, &config.train)?;
        Ok(self)
    }
}

/// Step number `step` (from 0) of `total`. Nothing is changed when the loss or the gradient is not finite: that is an
/// error of kind [`ErrorKind::Numerics`].
pub fn step(
    config: &RunConfig,
    model: &Classifier,
    optimizer: &mut AdamW,
    (step, total): (u64, u64),
    mut batch_of: impl FnMut(u64) -> Result<Batch>,
) -> Result<Stepped> {
    let micros = config.train.gradient_accumulation_steps as u64;
    let mut sum = Stepped::new(config, model.params(), (step, total));
    for micro in 0..micros {
        let index = step * micros + micro;
        let (batch, route) = timed(Phase::Data, || {
            let batch = batch_of(index)?;
            let route = route_of(config, model, &batch, index);
            Ok::<_, Error>((batch, route))
        })?;
        let (loss, grads) = queue(config, model, &batch, index, route.as_ref())?;
        sum.add(loss, 1.0);
        sum.tokens += batch.tokens() * passes(config);
        sum.targets += batch.len();
        sum.routes.extend(route);
        sum.grads.merge(grads)?;
    }
    let mut done = sum.finish(config, model.params(), optimizer, micros as f64)?;
    done.loss.nll = done.loss.task;
    Ok(done)
}
