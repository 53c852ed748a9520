//! Classifiers and regressors as exports see them.

use super::{ModelDescription, ModelProbe, OpenedBase, PROBE_ROWS, modules};
use crate::artifact::export::base::BaseKind;
use crate::artifact::export::modules::LoraAdapter;
use crate::config::RunConfig;
use crate::data::{Dataset, TaskData};
use crate::error::Result;
use crate::mixture::{Lora, LoraMixture, Route};
use crate::model::{Classifier, EncoderSpec, ModelSource, Network as _, encoder};
use crate::tensor::DType;
use crate::workflow::run;

/// The first evaluation rows of a task.
pub(crate) struct ClassifierProbe<'a> {
    pub task: &'a TaskData,
}

impl ModelProbe for ClassifierProbe<'_> {
    type Model = Classifier;
    type Spec = EncoderSpec;

    fn describe<'a>(&self, model: &'a Classifier) -> ModelDescription<'a> {
        let spec = &model.base.spec;
        ModelDescription {
            kind: BaseKind::Encoder(spec.family.prefix()),
            model_type: spec.family.prefix(),
            hidden_size: spec.hidden_size,
            layers: spec.num_layers,
            outputs: model.head.classes(),
            base_name: spec.name.clone(),
            labels: self.task.labels.clone(),
            chat: None,
            lora_targets: encoder::lora_targets(spec),
            exact: model.dtype() == DType::F32,
        }
    }
    fn rows(&self) -> &Dataset {
        &self.task.dev
    }
    fn train_rows(&self) -> &Dataset {
        &self.task.train
    }
    fn logits(&self, model: &Classifier, route: Option<&Route>) -> Result<Vec<f32>> {
        let rows: Vec<usize> = (0..self.task.dev.len().min(PROBE_ROWS)).collect();
        model.logits(&self.task.dev.batch(&rows), route)
    }
    fn open(path: &str) -> Result<OpenedBase<EncoderSpec>> {
        let ModelSource { spec, weights, dir: path } = ModelSource::open(path)?;
        Ok(OpenedBase { spec, weights, path })
    }
    fn build(&self, config: &RunConfig, base: OpenedBase<EncoderSpec>) -> Result<Classifier> {
        let OpenedBase { spec, weights, path: dir } = base;
        run::model(config, &ModelSource { spec, weights, dir }, self.task)
    }
    fn with_adapter(bare: &Classifier, adapter: &LoraAdapter) -> Result<Classifier> {
        modules::with_adapter(bare, adapter)
    }
    fn with_loras(
        model: &Classifier,
        merge: &mut dyn FnMut(usize, &LoraMixture) -> Result<Lora>,
    ) -> Result<Classifier> {
        model.with_loras(merge)
    }
    fn mixed(exact: &Classifier, rounded: &Classifier, layer: Option<usize>) -> Result<Classifier> {
        match layer {
            Some(layer) => exact.with_base(|encoder| {
                encoder.layers[layer].clone_from(&rounded.base.layers[layer]);
                Ok(())
            }),
            None => rounded.with_base(|encoder| {
                encoder.layers.clone_from_slice(&exact.base.layers);
                Ok(())
            }),
        }
    }
}
