//! Decoder and mixture together: what is trained, merged and run as a language model. The counterpart of
//! [`Classifier`](crate::model::Classifier).

use super::layer::DecoderLayer;
use super::spec::DecoderSpec;
use super::targets::{default_targets, lora_targets};
use super::{Decoder, DecoderActivations, Packed};
use crate::config::MixtureConfig;
use crate::error::{Error, Result};
use crate::mixture::{Adapter, Lora, LoraMixture, MergeWeights, Route};
use crate::model::classifier::{Builder, Counts, Site, layer_site_names, layer_sites, lora_name};
use crate::model::layer::FfnAdapter;
use crate::model::loras::{LayerLoras, Placed};
use crate::model::network::overwrite;
use crate::model::stack::ForwardOptions;
use crate::model::weights::Weights;
use crate::nn::kernels::vocab_loss::{
    Head, MAX_LOGITS, Objective, QueuedLoss, VocabLoss, queue_vocab_loss, queue_vocab_loss_and_head,
};
use crate::nn::kernels::vocab_scores::{TokenScores, vocab_scores};
use crate::nn::profile::{Phase, timed};
use crate::nn::{Grads, Params, Weight};
use crate::rng::SeedStream;
use candle_core::{DType, Device, Tensor};

/// A causal language model. Cloning shares all tensors.
#[derive(Clone, Debug)]
pub struct CausalLm {
    decoder: Decoder,
    params: Params,
    mixture: Option<MixtureConfig>,
}

/// What is built around the trunk.
#[derive(Clone, Copy, Debug)]
pub struct LmSetup<'a> {
    /// The mixture; absent: the bare model.
    pub mixture: Option<&'a MixtureConfig>,
    /// Seed of the new weights.
    pub seed: SeedStream,
}

impl CausalLm {
    /// Reads a trunk and puts the mixture around it. The weights carry the family's prefix
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

    /// Puts the mixture around a trunk.
    pub fn new(mut decoder: Decoder, setup: LmSetup<'_>) -> Result<Self> {
        let (spec, device) = (decoder.spec().clone(), decoder.device().clone());
        let mut params = Params::default();
        if let Some(mixture) = setup.mixture {
            let dtype = decoder.dtype();
            let builder = Builder { mixture, seed: setup.seed, dtype, device: &device };
            let targets = builder.targets(lora_targets(&spec), default_targets(spec.family))?;
            for (i, layer) in decoder.layers_mut().iter_mut().enumerate() {
                let parts = (&mut layer.adapter, &mut layer.loras);
                builder.fill(i, spec.hidden_size, &targets, parts, &mut params)?;
            }
        }
        Ok(Self { decoder, params, mixture: setup.mixture.cloned() })
    }

    /// Makes the trunk's own weights trained, behind what is trained already; see [`Decoder::train_trunk`].
    pub fn train_trunk(&mut self) -> Result<()> {
        self.decoder.train_trunk(&mut self.params)
    }

    /// The trunk with its layers.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
    /// Shape and constants.
    pub fn spec(&self) -> &DecoderSpec {
        self.decoder.spec()
    }
    /// The language-model head. `[vocab, d]`
    pub fn head(&self) -> &Weight {
        &self.decoder.segments().head
    }
    /// All trained tensors, in a fixed order. Empty for a merged model.
    pub fn params(&self) -> &Params {
        &self.params
    }
    /// The mixture's settings, if this is an unmerged mixture.
    pub fn mixture(&self) -> Option<&MixtureConfig> {
        self.mixture.as_ref()
    }
    /// The mixtures in site order; empty when merged or without a mixture.
    pub fn sites(&self) -> Vec<Site<'_>> {
        self.decoder.layers().iter().flat_map(|layer| layer_sites(&layer.adapter, &layer.loras)).collect()
    }
    /// Names of the sites, in order.
    pub fn site_names(&self) -> Vec<String> {
        let layers = self.decoder.layers().iter().enumerate();
        layers.flat_map(|(i, layer)| layer_site_names(i, &layer.adapter, &layer.loras)).collect()
    }
    /// The merged adapters in site order; empty when not merged.
    pub fn adapters(&self) -> Vec<&Adapter> {
        let merged = |layer: &'_ DecoderLayer| matches!(layer.adapter, FfnAdapter::Merged(_));
        let layers = self.decoder.layers().iter().filter(|layer| merged(layer));
        layers.filter_map(|layer| if let FfnAdapter::Merged(a) = &layer.adapter { Some(a) } else { None }).collect()
    }
    /// The LoRA modules of every layer, merged or not, with their site names; empty without any.
    pub fn loras(&self) -> Vec<(String, &Placed)> {
        let layers = self.decoder.layers().iter().enumerate();
        layers
            .flat_map(|(i, layer)| layer.loras.iter().map(move |(_, placed)| (lora_name(i, placed), placed)))
            .collect()
    }

    /// Final hidden states of some rows of a batch run `options.passes` times as one; see [`Decoder::forward`].
    pub fn forward(
        &self,
        batch: Packed<'_>,
        rows: Option<&[u32]>,
        options: ForwardOptions<'_>,
    ) -> Result<(Tensor, Option<DecoderActivations>)> {
        self.decoder.forward(batch, rows, options)
    }

    /// Gradients of all trained tensors, but for what the loss gives the head itself ([`CausalLm::add_head_grad`]).
    /// dhidden as forward's output
    pub fn backward(&self, activations: DecoderActivations, dhidden: &Tensor) -> Result<Grads> {
        let mut grads = Grads::new(&self.params);
        self.decoder.backward(activations, dhidden, &mut grads)?;
        Ok(grads)
    }

    /// The loss of final hidden states against their targets; logits are never held whole. Where the trunk is trained and
    /// the gradient wanted, the head's is computed too. hidden `[passes * targets, d]`
    pub fn loss(&self, hidden: &Tensor, targets: &[u32], objective: Objective) -> Result<VocabLoss> {
        self.queue_loss(hidden, targets, objective)?.read()
    }

    /// As [`CausalLm::loss`], without waiting for a GPU.
    pub fn queue_loss(&self, hidden: &Tensor, targets: &[u32], objective: Objective) -> Result<QueuedLoss> {
        // What fits a processor's memory leaves a GPU without work.
        let default = objective.max_logits == MAX_LOGITS && hidden.device().is_cuda();
        let objective = Objective { max_logits: objective.max_logits * if default { 4 } else { 1 }, ..objective };
        timed(Phase::Head, || {
            if self.decoder.trunk_trained() && objective.gradient {
                queue_vocab_loss_and_head(hidden, self.head().tensor()?, targets, objective)
            } else {
                let head = Head::from(self.head());
                let narrow = self.decoder.activation_dtype() == DType::BF16;
                queue_vocab_loss(hidden, if narrow { head.rounded() } else { head }, targets, objective)
            }
        })
    }

    /// Adds the head's own gradient, if the loss has one ([`VocabLoss::head`]).
    pub fn add_head_grad(&self, head: Option<Tensor>, grads: &mut Grads) -> Result<()> {
        head.map_or(Ok(()), |head| self.decoder.add_head_grad(head, grads))
    }

    /// How well final hidden states of several ways of running the model predict the same targets, and how well the mean
    /// of their probabilities does; logits are never held whole. hidden: each `[targets, d]`
    pub fn token_scores(&self, hidden: &[Tensor], targets: &[u32]) -> Result<(Vec<TokenScores>, TokenScores)> {
        let logits = |hidden: &Tensor| self.head().logits(hidden);
        timed(Phase::Head, || vocab_scores(hidden, targets, self.spec().vocab_size, MAX_LOGITS, &logits))
    }

    /// Logits of some rows (all, if absent), without dropout. -> `[rows, vocab]`
    pub fn logits(&self, batch: Packed<'_>, rows: Option<&[u32]>, route: Option<&Route>) -> Result<Tensor> {
        let (hidden, _) = self.forward(batch, rows, ForwardOptions { route, ..ForwardOptions::eval() })?;
        self.head().logits(&hidden)
    }

    /// The same model with each site's experts replaced by their weighted mean, factor by factor. Without a mixture: a copy.
    #[must_use = "merging makes a new model and leaves the experts as they are"]
    pub fn merged(&self, weights: &MergeWeights) -> Result<Self> {
        if let Some(mixture) = &self.mixture {
            weights.check(self.sites().len(), mixture.num_experts)?;
        }
        self.replaced(weights, &mut |site, mixture| mixture.merge(weights.site(site)?))
    }

    /// The uniform merge: the paper's.
    #[must_use = "merging makes a new model and leaves the experts as they are"]
    pub fn merged_uniform(&self) -> Result<Self> {
        self.merged(&MergeWeights::uniform(self.mixture.as_ref().map_or(1, |m| m.num_experts)))
    }

    /// Merged as the mixture itself says: the paper's mean, or the scores that it was imported with.
    #[must_use = "merging makes a new model and leaves the experts as they are"]
    pub fn merged_own(&self) -> Result<Self> {
        self.merged(&MergeWeights::own(self.mixture.as_ref())?)
    }

    /// The same model with each LoRA site's experts replaced by what `merge` makes of them (site number, experts): another
    /// average than the paper's, or one expert. Adapters are merged uniformly.
    #[must_use = "merging makes a new model and leaves the experts as they are"]
    pub fn with_loras(&self, mut merge: impl FnMut(usize, &LoraMixture) -> Result<Lora>) -> Result<Self> {
        let uniform = MergeWeights::uniform(self.mixture.as_ref().map_or(1, |m| m.num_experts));
        self.replaced(&uniform, &mut merge)
    }

    fn replaced(
        &self,
        weights: &MergeWeights,
        merge: &mut dyn FnMut(usize, &LoraMixture) -> Result<Lora>,
    ) -> Result<Self> {
        let mut model = self.clone();
        for (site, layer) in model.decoder.layers_mut().iter_mut().enumerate() {
            if let FfnAdapter::Mixture(mixture) = &layer.adapter {
                layer.adapter = FfnAdapter::Merged(mixture.merge(weights.site(site)?)?);
            }
            layer.loras.replace(&mut *merge)?;
        }
        model.params = Params::default();
        model.mixture = None;
        Ok(model)
    }

    /// The same model without its mixture: the frozen trunk alone.
    pub fn bare(&self) -> Self {
        let mut model = self.clone();
        for layer in model.decoder.layers_mut() {
            (layer.adapter, layer.loras) = (FfnAdapter::None, LayerLoras::default());
        }
        model.params = Params::default();
        model.mixture = None;
        model
    }

    /// The same merged model with every LoRA added to the weights themselves: a plain decoder again.
    pub fn with_folded_loras(&self) -> Result<Self> {
        let mut model = self.clone();
        for layer in model.decoder.layers_mut() {
            layer.loras.fold([&mut layer.qkv, &mut layer.out, &mut layer.inner, &mut layer.outer])?;
        }
        Ok(model)
    }

    /// The same model with the given single adapters in its layers, in order: what a reader of an export builds.
    pub fn with_adapters(&self, adapters: Vec<Adapter>) -> Result<Self> {
        let layers = self.decoder.layers().len();
        if adapters.len() != layers {
            return Err(Error::format(format!("{} adapters for a model of {layers} layers", adapters.len())));
        }
        let mut model = self.clone();
        for (layer, adapter) in model.decoder.layers_mut().iter_mut().zip(adapters) {
            layer.adapter = FfnAdapter::Merged(adapter);
        }
        model.params = Params::default();
        model.mixture = None;
        Ok(model)
    }

    /// Trained values, and those after merging. There is no head of its own.
    pub fn counts(&self) -> Counts {
        let merged = self.params.iter().filter(|p| p.bank).map(|p| p.value.elem_count() / p.experts).sum();
        Counts { trained: self.params.count(), head: 0, merged, trunk: self.decoder.parameter_count() }
    }

    /// Overwrites trained tensors with host values by name, such as a checkpoint's. Every trained tensor must be there.
    pub fn set_params<'a>(&self, values: impl Fn(&str) -> Option<(&'a [usize], &'a [f32])>) -> Result<()> {
        overwrite(&self.params, values)
    }
}
