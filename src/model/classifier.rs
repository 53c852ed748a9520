//! Encoder, mixture and head together: what is trained, evaluated, merged and exported.

use super::encoder::{self, Encoder, EncoderActivations};
use super::head::{self, Head};
use super::network::{AdaptedModel, BaseModel as _, MixtureBuilder};
use super::spec::EncoderSpec;
use super::stack::ForwardOptions;
use super::weights::Weights;
use crate::config::{Method, MixtureConfig};
use crate::data::Batch;
use crate::error::Result;
use crate::mixture::Route;
use crate::nn::kernels::device::wide;
use crate::nn::profile::{Phase, timed};
use crate::nn::{Grads, Params};
use crate::rng::{Purpose, SeedStream};
use crate::tensor::{DType, Device, Tensor, to_f32};

/// A classifier or regressor.
pub type Classifier = AdaptedModel<Encoder, Head>;

/// What is built around the base model.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// What is trained.
    pub method: Method,
    /// The mixture, used when the method is `adamix`.
    pub mixture: &'a MixtureConfig,
    /// Outputs: classes, or 1 for regression.
    pub outputs: usize,
    /// Seed of the new weights.
    pub seed: SeedStream,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct ClassifierActivations {
    encoder: EncoderActivations,
    head: head::Saved,
}

impl AdaptedModel<Encoder, Head> {
    /// Reads a base model in the format `dtype` and puts mixture and head around it, which are never narrower than f32.
    pub fn load(
        spec: EncoderSpec,
        weights: &Weights,
        setup: &Setup<'_>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::new(Encoder::load(spec, weights, dtype, device)?, Some(weights), setup, dtype)
    }

    /// Puts mixture and head around an encoder. A head that the weights already hold in the right shape is read.
    pub fn new(mut encoder: Encoder, weights: Option<&Weights>, setup: &Setup<'_>, dtype: DType) -> Result<Self> {
        let (spec, device, dtype) = (encoder.spec.clone(), encoder.device().clone(), wide(dtype));
        let mut stream = setup.seed.stream(Purpose::Init, 0);
        let mut head = Head::new(&spec, weights, setup.outputs, &mut stream, dtype, &device)?;
        let mut params = Params::default();
        if setup.method == Method::Full {
            encoder.train_base(&mut params);
        }
        let mixture = (setup.method == Method::Adamix).then_some(setup.mixture);
        if let Some(mixture) = mixture {
            let builder = MixtureBuilder { mixture, seed: setup.seed, dtype };
            builder.fill(&mut encoder, encoder::lora_targets(&spec), &encoder::DEFAULT_TARGETS, &mut params)?;
        }
        head.train(setup.method == Method::Full, &mut params);
        Ok(Self { base: encoder, head, params, mixture: mixture.cloned() })
    }

    /// Logits of a batch run `options.passes` times as one. -> `[passes * sequences, outputs]`, and what backward needs
    pub fn forward(
        &self,
        batch: &Batch,
        options: ForwardOptions<'_>,
    ) -> Result<(Tensor, Option<ClassifierActivations>)> {
        let (x, encoder) = self.base.forward(batch, ForwardOptions { all_tokens: false, ..options })?;
        let (logits, head) = timed(Phase::Head, || self.head.forward(&x, options.drop))?;
        Ok((logits, encoder.map(|encoder| ClassifierActivations { encoder, head })))
    }

    /// Gradients of all trained tensors. dlogits as forward's output
    pub fn backward(&self, activations: ClassifierActivations, dlogits: &Tensor) -> Result<Grads> {
        let mut grads = Grads::new(&self.params);
        let dx = timed(Phase::Head, || self.head.backward(&activations.head, dlogits, &mut grads))?;
        self.base.backward(activations.encoder, dx, &mut grads)?;
        Ok(grads)
    }

    /// Logits as host values, without dropout. Row-major `[sequences * outputs]`
    pub fn logits(&self, batch: &Batch, route: Option<&Route>) -> Result<Vec<f32>> {
        let (logits, _) = self.forward(batch, ForwardOptions { route, ..ForwardOptions::eval() })?;
        to_f32(&logits)
    }

    /// The same model with a changed base model, such as one with LoRA modules on it.
    pub fn with_base(&self, change: impl FnOnce(&mut Encoder) -> Result<()>) -> Result<Self> {
        let mut model = self.clone();
        change(&mut model.base)?;
        Ok(model)
    }
}
