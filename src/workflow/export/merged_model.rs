//! Whole merged models in memory, made of the tensors that an export would write.

use crate::artifact::export::base::{BaseKind, Merged};
use crate::artifact::export::modules::compose;
use crate::config::RunConfig;
use crate::error::Result;
use crate::model::decoder::targets::lora_targets;
use crate::model::{CausalLm, Classifier, DecoderSpec, LmSetup, LmSource, ModelSource, Weights, encoder};
use crate::nn::Param;
use crate::rng::SeedStream;
use crate::tensor::{HostTensor, to_f32};
use crate::workflow::export::decoder::{Written, bare};
use crate::workflow::export::{Kind, Labelled};
use crate::workflow::run;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// Makes a model of tensors under the names that transformers gives them.
type Build<'a, M> = &'a dyn Fn(BTreeMap<String, Tensor>) -> Result<M>;

/// What a whole model is made from.
pub(crate) struct Parts<'a, M> {
    /// The base model's tensors with the merged LoRA added to them.
    pub merged: &'a Merged<'a>,
    /// Of a language model: its shape, which GGUF's layout depends on.
    pub spec: Option<&'a DecoderSpec>,
    /// Logits of the probe rows that the written files must give.
    pub logits: Vec<f32>,
    pub build: Build<'a, M>,
}

/// Kinds of models that can be written whole.
pub(crate) trait Whole: Kind {
    /// Hands over what the whole model is made from. `merged` is `model` with its experts merged.
    fn whole<T>(
        &self,
        model: &Self::Model,
        merged: &Self::Model,
        config: &RunConfig,
        then: impl FnOnce(&Parts<'_, Self::Model>) -> Result<T>,
    ) -> Result<T>;

    /// Number of layers.
    fn layers(model: &Self::Model) -> usize;

    /// `exact` with one layer of `rounded`; without a number, with all that is no layer. Both are whole models.
    fn mixed(exact: &Self::Model, rounded: &Self::Model, layer: Option<usize>) -> Result<Self::Model>;
}

impl Whole for Labelled<'_> {
    fn whole<T>(
        &self,
        model: &Classifier,
        merged: &Classifier,
        config: &RunConfig,
        then: impl FnOnce(&Parts<'_, Classifier>) -> Result<T>,
    ) -> Result<T> {
        let source = ModelSource::open(&config.model.path)?;
        let modules = compose(&merged.loras(), &encoder::lora_targets(&source.spec))?;
        let host = |param: &Param| {
            let values = to_f32(&param.value)?;
            HostTensor::new(param.name.clone(), param.value.dims(), values)
        };
        let head: Vec<HostTensor> =
            model.params().iter().filter(|param| !param.bank).map(host).collect::<Result<_>>()?;
        let build = |tensors| {
            let weights = Weights::of_tensors(tensors).with_prefix(source.spec.family.prefix());
            run::model(&bare(config), ModelSource { spec: source.spec.clone(), weights, dir: None }, self.task)
        };
        let kind = BaseKind::Encoder(source.spec.family.prefix());
        let merged_weights = Merged::new(&source.weights, kind, &modules, &head)?;
        then(&Parts { merged: &merged_weights, spec: None, logits: self.logits(merged, None)?, build: &build })
    }

    fn layers(model: &Classifier) -> usize {
        model.encoder().layers().len()
    }

    fn mixed(exact: &Classifier, rounded: &Classifier, layer: Option<usize>) -> Result<Classifier> {
        match layer {
            Some(layer) => exact.with_trunk(|encoder| {
                encoder.layers_mut()[layer].clone_from(&rounded.encoder().layers()[layer]);
                Ok(())
            }),
            None => rounded.with_trunk(|encoder| {
                encoder.layers_mut().clone_from_slice(exact.encoder().layers());
                Ok(())
            }),
        }
    }
}

impl Whole for Written {
    fn whole<T>(
        &self,
        _: &CausalLm,
        merged: &CausalLm,
        config: &RunConfig,
        then: impl FnOnce(&Parts<'_, CausalLm>) -> Result<T>,
    ) -> Result<T> {
        let source = LmSource::open(Path::new(&config.model.path))?;
        let modules = compose(&merged.loras(), &lora_targets(merged.spec()))?;
        let (config, logits) = self.unrounded(merged, config, &modules)?;
        let build = |tensors| {
            let weights = Weights::of_tensors(tensors).with_prefix(source.spec.family.prefix());
            let source = LmSource { spec: source.spec.clone(), weights, dir: source.dir.clone() };
            run::language_model(&bare(&config), source)
        };
        let merged = Merged::new(&source.weights, BaseKind::Decoder(&source.spec), &modules, &[])?;
        then(&Parts { merged: &merged, spec: Some(&source.spec), logits, build: &build })
    }

    fn layers(model: &CausalLm) -> usize {
        model.decoder().layers().len()
    }

    fn mixed(exact: &CausalLm, rounded: &CausalLm, layer: Option<usize>) -> Result<CausalLm> {
        let (mut decoder, from) = match layer {
            Some(_) => (exact.decoder().clone(), rounded.decoder().layers()),
            None => (rounded.decoder().clone(), exact.decoder().layers()),
        };
        match layer {
            Some(layer) => decoder.layers_mut()[layer].clone_from(&from[layer]),
            None => decoder.layers_mut().clone_from_slice(from),
        }
        CausalLm::new(decoder, LmSetup { mixture: None, seed: SeedStream::new(0) })
    }
}
