//! Decoder and mixture together: what is trained, merged and run as a language model. The counterpart of
//! [`Classifier`](crate::model::Classifier).

use super::spec::DecoderSpec;
use super::targets::{default_targets, lora_targets};
use super::{Decoder, DecoderActivations, Packed};
use crate::config::MixtureConfig;
use crate::error::Result;
use crate::mixture::Route;
use crate::model::network::{AdaptedModel, BaseModel as _, MixtureBuilder};
use crate::model::stack::ForwardOptions;
use crate::model::weights::Weights;
use crate::nn::kernels::vocab_loss::{Head, MAX_LOGITS, Objective, VocabLoss, vocab_loss, vocab_loss_and_head};
use crate::nn::kernels::vocab_scores::{TokenScores, target_log_probs, vocab_scores};
use crate::nn::profile::{Phase, timed};
use crate::nn::{Grads, Params};
use crate::rng::SeedStream;
use crate::tensor::{DType, Device, Tensor};

/// A causal language model.
pub type CausalLm = AdaptedModel<Decoder>;

/// What is built around the base model.
#[derive(Clone, Copy, Debug)]
pub struct LmSetup<'a> {
    /// The mixture; absent: the bare model.
    pub mixture: Option<&'a MixtureConfig>,
    /// Seed of the new weights.
    pub seed: SeedStream,
}

impl AdaptedModel<Decoder> {
    /// Reads a base model and puts the mixture around it. The weights carry the family's prefix
    /// ([`DecoderFamily::prefix`](super::DecoderFamily::prefix)).
    pub fn load(
        spec: DecoderSpec,
        weights: &Weights,
        setup: LmSetup<'_>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::new(Decoder::load(spec, weights, dtype, device)?, setup)
    }

    /// Puts the mixture around a base model.
    pub fn new(mut decoder: Decoder, setup: LmSetup<'_>) -> Result<Self> {
        let (spec, mut params) = (decoder.spec.clone(), Params::default());
        if let Some(mixture) = setup.mixture {
            let builder = MixtureBuilder { mixture, seed: setup.seed, dtype: decoder.dtype() };
            builder.fill(&mut decoder, lora_targets(&spec), default_targets(spec.family), &mut params)?;
        }
        Ok(Self { base: decoder, head: (), params, mixture: setup.mixture.cloned() })
    }

    /// Makes the base model's own weights trained, behind what is trained already; see [`Decoder::train_base`].
    pub fn train_base(&mut self) -> Result<()> {
        self.base.train_base(&mut self.params)
    }

    /// Final hidden states of some rows of a batch run `options.passes` times as one; see [`Decoder::forward`].
    pub fn forward(
        &self,
        batch: Packed<'_>,
        rows: Option<&[u32]>,
        options: ForwardOptions<'_>,
    ) -> Result<(Tensor, Option<DecoderActivations>)> {
        self.base.forward(batch, rows, options)
    }

    /// Gradients of all trained tensors, but for what the loss gives the head itself ([`CausalLm::add_head_grad`]).
    /// dhidden as forward's output
    pub fn backward(&self, activations: DecoderActivations, dhidden: &Tensor) -> Result<Grads> {
        let mut grads = Grads::new(&self.params);
        self.base.backward(activations, dhidden, &mut grads)?;
        Ok(grads)
    }

    /// The loss of final hidden states against their targets, which a GPU may still be computing; logits are never held whole.
    /// Where the base model is trained and the gradient wanted, the head's is computed too. hidden `[passes * targets, d]`
    pub fn loss(&self, hidden: &Tensor, targets: &[u32], objective: Objective) -> Result<VocabLoss> {
        // What fits a processor's memory leaves a GPU without work.
        let default = objective.max_logits == MAX_LOGITS && !hidden.device().is_cpu();
        let objective = Objective { max_logits: objective.max_logits * if default { 4 } else { 1 }, ..objective };
        timed(Phase::Head, || {
            if self.base.base_trained() && objective.gradient {
                vocab_loss_and_head(hidden, self.base.head.tensor()?, targets, objective)
            } else {
                let head = Head::from(&self.base.head);
                let narrow = self.base.activation_dtype() == DType::BF16;
                vocab_loss(hidden, if narrow { head.rounded() } else { head }, targets, objective)
            }
        })
    }

    /// Adds the head's own gradient, if the loss has one ([`VocabLoss::head`]).
    pub fn add_head_grad(&self, head: Option<Tensor>, grads: &mut Grads) -> Result<()> {
        head.map_or(Ok(()), |head| self.base.add_head_grad(head, grads))
    }

    /// How well final hidden states of several ways of running the model predict each of the same targets, and how well the
    /// mean of their probabilities does; logits are never held whole. hidden: each `[targets, d]` -> `[ways][targets]`,
    /// `[targets]`
    pub fn token_scores(
        &self,
        hidden: &[Tensor],
        targets: &[u32],
    ) -> Result<(Vec<Vec<TokenScores>>, Vec<TokenScores>)> {
        let logits = |hidden: &Tensor| self.base.head.logits(hidden);
        timed(Phase::Head, || vocab_scores(hidden, targets, self.base.spec.vocab_size, MAX_LOGITS, &logits))
    }

    /// ln p of each target. hidden `[targets, d]`
    pub fn target_log_probs(&self, hidden: &Tensor, targets: &[u32]) -> Result<Vec<f64>> {
        let logits = |hidden: &Tensor| self.base.head.logits(hidden);
        timed(Phase::Head, || target_log_probs(hidden, targets, (self.base.spec.vocab_size, MAX_LOGITS), &logits))
    }

    /// Logits of some rows (all, if absent), without dropout. -> `[rows, vocab]`
    pub fn logits(&self, batch: Packed<'_>, rows: Option<&[u32]>, route: Option<&Route>) -> Result<Tensor> {
        let (hidden, _) = self.forward(batch, rows, ForwardOptions { route, ..ForwardOptions::eval() })?;
        self.base.head.logits(&hidden)
    }
}
