//! Classifiers and regressors as exports see them.

use super::bundled::BundledFiles;
use super::{ModelDescription, ModelProbe, PROBE_ROWS, modules};
use crate::artifact::export::base::BaseKind;
use crate::artifact::export::modules::LoraAdapter;
use crate::config::RunConfig;
use crate::data::{Dataset, TaskData};
use crate::error::Result;
use crate::mixture::{Lora, LoraMixture, Route};
use crate::model::loras::Target;
use crate::model::{Classifier, ModelSource, Weights, encoder};
use crate::workflow::run;
use candle_core::DType;
use std::path::Path;

/// The first evaluation rows of a task.
pub(crate) struct ClassifierProbe<'a> {
    pub task: &'a TaskData,
}

impl ModelProbe for ClassifierProbe<'_> {
    type Model = Classifier;
    type Base = ModelSource;

    fn describe(&self, model: &Classifier) -> ModelDescription {
        let spec = model.encoder().spec();
        ModelDescription {
            model_type: spec.family.prefix().to_owned(),
            hidden_size: spec.hidden_size,
            base_name: spec.name.clone(),
            labels: self.task.labels.clone(),
        }
    }
    fn rows(&self) -> &Dataset {
        &self.task.dev
    }
    fn logits(&self, model: &Classifier, route: Option<&Route>) -> Result<Vec<f32>> {
        let rows: Vec<usize> = (0..self.task.dev.len().min(PROBE_ROWS)).collect();
        model.logits(&self.task.dev.batch(&rows), route)
    }
    fn outputs(&self, model: &Classifier) -> usize {
        model.head().classes()
    }

    fn open(&self, path: &str) -> Result<ModelSource> {
        ModelSource::open(path)
    }
    fn build(&self, config: &RunConfig, base: ModelSource) -> Result<Classifier> {
        run::model(config, base, self.task)
    }
    fn with_adapter(&self, bare: &Classifier, adapter: &LoraAdapter) -> Result<Classifier> {
        modules::with_adapter(bare, adapter)
    }
    fn with_loras(
        model: &Classifier,
        merge: &mut dyn FnMut(usize, &LoraMixture) -> Result<Lora>,
    ) -> Result<Classifier> {
        model.with_loras(merge)
    }
    fn lora_targets(model: &Classifier) -> Vec<Target> {
        encoder::lora_targets(model.encoder().spec())
    }
    fn is_exact(model: &Classifier) -> bool {
        model.encoder().dtype() == DType::F32
    }
    fn layers(model: &Classifier) -> usize {
        model.encoder().layers().len()
    }
    fn mixed(exact: &Classifier, rounded: &Classifier, layer: Option<usize>) -> Result<Classifier> {
        match layer {
            Some(layer) => exact.with_base(|encoder| {
                encoder.layers_mut()[layer].clone_from(&rounded.encoder().layers()[layer]);
                Ok(())
            }),
            None => rounded.with_base(|encoder| {
                encoder.layers_mut().clone_from_slice(exact.encoder().layers());
                Ok(())
            }),
        }
    }

    fn kind(model: &Classifier) -> BaseKind<'_> {
        BaseKind::Encoder(model.encoder().spec().family.prefix())
    }
    fn weights(base: &ModelSource) -> &Weights {
        &base.weights
    }
    fn with_weights(base: &ModelSource, weights: Weights) -> ModelSource {
        let weights = weights.with_prefix(base.spec.family.prefix());
        ModelSource { spec: base.spec.clone(), weights, dir: None }
    }
    fn base_path(base: &ModelSource) -> Option<&Path> {
        base.dir.as_deref()
    }
    fn bundled(dir: &Path) -> Result<BundledFiles> {
        BundledFiles::lab(dir)
    }
}
