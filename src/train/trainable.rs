//! What a model offers to be trained: the training step is written against this alone.

use super::loss::{self, Loss, OutputGradient, PendingLoss};
use crate::config::RunConfig;
use crate::data::Batch;
use crate::data::text::TextBatch;
use crate::error::{Error, Result};
use crate::mixture::consistency;
use crate::model::classifier::ClassifierActivations;
use crate::model::decoder::DecoderActivations;
use crate::model::{CausalLm, Classifier, ForwardOptions, Network, Packed};
use crate::nn::Grads;
use crate::nn::kernels::vocab_loss::Objective;
use crate::nn::profile::{Phase, timed};

/// Sizes of a micro-batch, one pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSize {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of all sequences.
    pub tokens: usize,
    /// Examples, or tokens to be predicted.
    pub targets: usize,
    /// How much its loss counts beside the other micro-batches of a step.
    pub weight: f64,
}

/// A model with its loss.
pub trait Trainable: Network {
    /// What goes through at once.
    type Batch;
    /// What the backward pass needs.
    type Activations;

    /// Sizes of a batch.
    fn size(&self, batch: &Self::Batch) -> BatchSize;
    /// Runs all passes of a batch as one: the task loss plus λ times consistency with its gradient on the outputs, and what
    /// the backward pass needs. A GPU is not waited for. `overflows`: how often the gradient of this very batch has left the range
    /// of f16 before.
    fn forward(
        &self,
        batch: &Self::Batch,
        options: ForwardOptions<'_>,
        config: &RunConfig,
        overflows: u32,
    ) -> Result<(Loss, Self::Activations)>;
    /// Gradients of everything trained.
    fn backward(&self, activations: Self::Activations, gradient: OutputGradient) -> Result<Grads>;
}

fn kept<T>(activations: Option<T>) -> Result<T> {
    activations.ok_or_else(|| Error::internal("no activations were saved for the backward pass"))
}

impl Trainable for Classifier {
    type Batch = Batch;
    type Activations = ClassifierActivations;

    fn size(&self, batch: &Batch) -> BatchSize {
        let sequences = batch.rows.len();
        BatchSize { sequences, tokens: batch.ids.len(), targets: sequences, weight: 1.0 }
    }

    fn forward(
        &self,
        batch: &Batch,
        options: ForwardOptions<'_>,
        config: &RunConfig,
        overflows: u32,
    ) -> Result<(Loss, ClassifierActivations)> {
        let (logits, activations) = Self::forward(self, batch, options)?;
        let (format, passes) = (self.base.activation_dtype(), options.passes);
        let weights = config.train.class_weights();
        let how =
            loss::ClassifierObjective { passes, mixture: &config.mixture, weights: weights.as_deref(), overflows };
        let loss = || loss::classifier_loss(&logits, &batch.labels, format, how);
        Ok((timed(Phase::Head, loss)?, kept(activations)?))
    }

    fn backward(&self, activations: ClassifierActivations, gradient: OutputGradient) -> Result<Grads> {
        Self::backward(self, activations, &gradient.outputs)
    }
}

impl Trainable for CausalLm {
    type Batch = TextBatch;
    type Activations = DecoderActivations;

    fn size(&self, batch: &TextBatch) -> BatchSize {
        let packed = Packed::from(batch);
        let targets = packed.targets(&batch.learn).1.len();
        // By its target tokens, so that accumulated micro-batches give what one large batch would.
        BatchSize { sequences: packed.sequences(), tokens: batch.ids.len(), targets, weight: targets as f64 }
    }

    fn forward(
        &self,
        batch: &TextBatch,
        options: ForwardOptions<'_>,
        config: &RunConfig,
        overflows: u32,
    ) -> Result<(Loss, DecoderActivations)> {
        let packed = Packed::from(batch);
        let (rows, targets) = packed.targets(&batch.learn);
        if rows.is_empty() {
            return Err(Error::data("a batch without a single token to learn; check the template and max_length"));
        }
        let (hidden, activations) = Self::forward(self, packed, Some(&rows), options)?;
        let objective = consistency::objective(&config.mixture, options.passes, config.train.label_smoothing);
        let objective = Objective { overflows, ..objective };
        let loss = self.loss(&hidden, &targets, objective)?;
        let outputs = loss.grad.ok_or_else(|| Error::internal("the loss gave no gradient"))?;
        let gradient = OutputGradient { outputs, head: loss.head };
        Ok((Loss { value: PendingLoss::Device(loss.rows), gradient, scale: loss.scale }, kept(activations)?))
    }

    fn backward(&self, activations: DecoderActivations, gradient: OutputGradient) -> Result<Grads> {
        let mut grads = Self::backward(self, activations, &gradient.outputs)?;
        self.add_head_grad(gradient.head, &mut grads)?;
        Ok(grads)
    }
}
