//! One optimizer step of AdaMix, whole: for classifiers and language models alike (paper, section 3).
//!
//! ```
//! use adamix::config::{RunConfig, presets};
//! use adamix::data::order::Order;
//! use adamix::model::Network as _;
//! use adamix::rng::SeedStream;
//! use adamix::train::step::{StepIndex, step};
//! use adamix::train::{AdamW, ModelAndData};
//! use adamix::workflow::prepare::prepare;
//!
//! let mut config = RunConfig::default();
//! presets::lab().apply(&mut config);
//! config.data.max_train_rows = 64;
//! let ModelAndData::Classifier(model, task) = prepare(&config)?.subject else { unreachable!("the lab has labels") };
//! let mut optimizer = AdamW::new(model.params())?;
//! let mut order = Order::new(SeedStream::new(config.train.seed), task.train.len(), config.train.batch_size);
//! for step_index in 0..2 {
//!     let at = StepIndex::new(step_index, 2);
//!     let result = step(&config, &model, &mut optimizer, at, |index| Ok(task.train.batch(order.rows(index))))?;
//!     assert!(result.loss.total.is_finite() && result.routes.len() == 1);
//! }
//! # Ok::<(), adamix::error::Error>(())
//! ```

use super::loss::{LossValues, PendingLoss};
use super::optimizer::{self, AdamW};
use super::schedule::learning_rate;
use super::trainable::{BatchSize, Trainable};
use crate::config::{Method, MixtureConfig, Recompute, RoutingLaw, RunConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::mixture::{Route, RouteShape};
use crate::model::{DropKeys, ForwardOptions, Network};
use crate::nn::Grads;
use crate::nn::profile::{Phase, scope, timed};
use crate::rng::{Purpose, SeedStream};
use crate::tensor::DType;

/// Attempts after the first one to keep a step's gradients in the range of f16.
const OVERFLOWS: u32 = 4;

/// Step number `at.step` on the micro-batches that `batch_of` gives by their index. Nothing is changed when the loss or
/// the gradient is not finite: that is an error of kind [`ErrorKind::Numerics`].
pub fn step<M: Trainable>(
    config: &RunConfig,
    model: &M,
    optimizer: &mut AdamW,
    at: StepIndex,
    mut batch_of: impl FnMut(u64) -> Result<M::Batch>,
) -> Result<StepResult> {
    let micro_batches = config.train.gradient_accumulation_steps as u64;
    let indices = at.step * micro_batches..(at.step + 1) * micro_batches;
    let batch = |index| Ok((index, timed(Phase::Data, || batch_of(index))?));
    let batches = indices.map(batch).collect::<Result<Vec<_>>>()?;
    let narrow = model.dtype() == DType::F16;
    let mut result = gradients(config, model, &batches, at.overflows)?;
    // In f16 gradients are scaled up, and may leave its range: then the same ones are computed again, scaled up less.
    while result.loss.total.is_finite()
        && !result.grad_norm.is_finite()
        && narrow
        && result.overflows < at.overflows + OVERFLOWS
    {
        result = gradients(config, model, &batches, result.overflows + 1)?;
    }
    result.learning_rate = learning_rate(&config.train, at.step, at.total);
    result.check_finite(at, narrow)?;
    let _optimizer = scope(Phase::Optimizer);
    optimizer::clip(&mut result.grads, result.grad_norm, config.train.max_grad_norm)?;
    // AdamW changes the experts that were drawn; the others have no gradient.
    optimizer.step(model.params(), &result.grads, result.learning_rate, &config.train)?;
    Ok(result)
}

/// Loss and gradients of a step, before clipping; a GPU has been waited for, once. `overflows`: how often they have left the range
/// of f16 before.
fn gradients<M: Trainable>(
    config: &RunConfig,
    model: &M,
    batches: &[(u64, M::Batch)],
    overflows: u32,
) -> Result<StepResult> {
    let several = batches.len() > 1;
    let mut result = StepResult { grads: Grads::new(model.params()), overflows, ..StepResult::default() };
    let mut losses = Vec::new();
    for (index, batch) in batches {
        let size = model.size(batch);
        // Of every adapted module one expert for each side, drawn anew for pass A and for pass B.
        let route = timed(Phase::Data, || draw_route(config, model, size, *index));
        let (loss, mut grads) = forward_backward_again(config, model, batch, route.as_ref(), *index, overflows)?;
        if several && size.weight != 1.0 {
            grads.scale(size.weight)?;
        }
        result.grads.merge(grads)?;
        result.tokens += size.tokens * passes(config);
        result.targets += size.targets;
        result.routes.extend(route);
        losses.push((loss, size.weight));
    }
    let _optimizer = scope(Phase::Optimizer);
    if several {
        result.grads.scale(1.0 / losses.iter().map(|(_, weight)| weight).sum::<f64>())?;
    }
    // Here the host waits for a GPU, once, before anything is changed.
    (result.loss, result.grad_norm) = PendingLoss::mean(&losses, &optimizer::norm(&result.grads)?)?;
    Ok(result)
}

/// Forward, loss and backward of micro-batch number `index` under a given route: the loss, which a GPU may still be
/// computing, and the gradients of everything trained.
pub fn forward_backward<M: Trainable>(
    config: &RunConfig,
    model: &M,
    batch: &M::Batch,
    route: Option<&Route>,
    index: u64,
) -> Result<(PendingLoss, Grads)> {
    forward_backward_again(config, model, batch, route, index, 0)
}

/// Whether the loss of a batch is a finite number: in f16 the sums of some models leave its range.
pub fn is_finite<M: Trainable>(config: &RunConfig, model: &M, batch: &M::Batch) -> Result<bool> {
    let route = draw_route(config, model, model.size(batch), 0);
    let (loss, _) = model.forward(batch, training_options(config, route.as_ref(), 0), config, 0)?;
    Ok(loss.value.read()?.total.is_finite())
}

fn forward_backward_again<M: Trainable>(
    config: &RunConfig,
    model: &M,
    batch: &M::Batch,
    route: Option<&Route>,
    index: u64,
    overflows: u32,
) -> Result<(PendingLoss, Grads)> {
    // Both passes run as one batch, pass A's rows, then pass B's:
    // loss = task(A) + λ ½ [KL(p_B ‖ p_A) + KL(p_A ‖ p_B)]
    let (loss, activations) = model.forward(batch, training_options(config, route, index), config, overflows)?;
    let mut grads = model.backward(activations, loss.gradient)?;
    // In f16 the gradient was scaled up on its way back.
    if loss.scale != 1.0 {
        grads.scale(1.0 / loss.scale)?;
    }
    Ok((loss.value, grads))
}

/// Passes of each batch through the model: A and B with the consistency term, else A alone.
pub fn passes(config: &RunConfig) -> usize {
    if config.model.method == Method::Adamix && config.mixture.consistency { 2 } else { 1 }
}

/// Which optimizer step this is.
#[derive(Clone, Copy, Debug)]
pub struct StepIndex {
    /// Steps done before.
    pub step: u64,
    /// Steps of the whole run: the learning rate depends on it.
    pub total: u64,
    /// How often the gradients of steps before have left the range of f16: they are scaled up as much less from the start.
    pub overflows: u32,
}

impl StepIndex {
    /// Step number `step` of `total`, before which nothing has left the range of f16.
    pub fn new(step: u64, total: u64) -> Self {
        Self { step, total, overflows: 0 }
    }
}

/// What one optimizer step gave.
#[derive(Default)]
pub struct StepResult {
    /// Mean over the micro-batches (of language models: over all their target tokens).
    pub loss: LossValues,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Tokens through the model, all passes counted.
    pub tokens: usize,
    /// Examples, or target tokens of language models, of one pass.
    pub targets: usize,
    /// One for each micro-batch; empty without a mixture.
    pub routes: Vec<Route>,
    /// After clipping: what the optimizer used.
    pub grads: Grads,
    /// How often the gradients have left the range of f16, in steps before and in this one, where they were computed again.
    pub overflows: u32,
}

impl StepResult {
    /// `narrow`: whether the base model computes in f16.
    fn check_finite(&self, at: StepIndex, narrow: bool) -> Result<()> {
        if self.loss.total.is_finite() && self.grad_norm.is_finite() {
            return Ok(());
        }
        let (loss, norm, step) = (self.loss.total, self.grad_norm, at.step + 1);
        let other = if narrow { "choose dtype f32, " } else { "" };
        let message = format!(
            "loss {loss} and gradient norm {norm} in step {step} are not finite; {other}lower the learning rate or check the data"
        );
        Err(Error::new(ErrorKind::Numerics, message))
    }
}

/// The route of micro-batch number `index`; none without a mixture. A pure function, so that any step can be replayed.
pub fn draw_route(config: &RunConfig, model: &dyn Network, size: BatchSize, index: u64) -> Option<Route> {
    let (sites, BatchSize { sequences, tokens, .. }) = (model.sites().len(), size);
    let shape = RouteShape { passes: passes(config), sites, sequences, tokens };
    let seed = SeedStream::new(config.train.seed);
    // The law may change while the model stays.
    let law = |mixture: &MixtureConfig| {
        let mut mixture = mixture.clone();
        RoutingLaw::of(&config.mixture).apply(&mut mixture);
        mixture
    };
    model.mixture().map(|mixture| Route::draw(&law(mixture), seed, Purpose::Routing, index, shape))
}

/// How micro-batch number `index` runs: dropout masks are a function of the seed and the index.
pub(super) fn training_options<'a>(config: &RunConfig, route: Option<&'a Route>, index: u64) -> ForwardOptions<'a> {
    let keys = DropKeys::new(SeedStream::new(config.train.seed), index);
    ForwardOptions {
        passes: passes(config),
        route,
        drop: config.model.trunk_dropout.then_some(keys),
        lora_drop: Some(keys),
        all_tokens: false,
        keep: true,
        recompute: config.train.recompute == Recompute::On,
    }
}
