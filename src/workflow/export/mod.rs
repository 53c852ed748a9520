//! Exports of a run: one path for classifiers and language models.
//!
//! [`export_subject`] checks the whole plan, then lets [`ExportTarget::export`] write and certify one target after the
//! other. `RunSource` gives it tensors and logits; what differs between the kinds of models is in `ModelProbe`.

mod base_model;
mod bundled;
mod decoder;
mod encoder;
pub mod modules;
pub(crate) mod source;

pub(crate) use decoder::LmProbe;
pub(crate) use encoder::ClassifierProbe;
pub(crate) use source::RunSource;

use crate::artifact::RunDir;
use crate::artifact::export::base::BaseKind;
use crate::artifact::export::modules::LoraAdapter;
use crate::artifact::export::{ExportTarget, check_free};
use crate::config::{MixtureConfig, RunConfig};
use crate::error::{Context as _, Error, Result};
use crate::eval::Measured;
use crate::mixture::{Lora, LoraMixture, Route};
use crate::model::loras::Target;
use crate::model::{Network as _, Weights};
use crate::protocol::{ExportPlan, ExportReport};
use crate::train::Subject;
use bundled::BundledFiles;
use std::path::{Path, PathBuf};

/// Rows on which an export is proven.
pub(crate) const PROBE_ROWS: usize = 64;

/// What a reader of an export must know of the model.
pub(crate) struct ModelDescription {
    /// As `config.json` calls it.
    pub model_type: String,
    /// d.
    pub hidden_size: usize,
    /// The base model's name, where its files give one.
    pub base_name: Option<String>,
    /// Class names in order; none for regression and language models.
    pub labels: Vec<String>,
}

/// A kind of model together with the rows on which exports are proven.
pub(crate) trait ModelProbe {
    /// The model.
    type Model: Measured;
    /// A base model whose files were opened.
    type Base;

    /// What a reader of an export must know.
    fn describe(&self, model: &Self::Model) -> ModelDescription;
    /// The evaluation rows.
    fn rows(&self) -> &<Self::Model as Measured>::Rows;
    /// Logits of the probe rows. `[rows, outputs]`
    fn logits(&self, model: &Self::Model, route: Option<&Route>) -> Result<Vec<f32>>;
    /// Logits of a row.
    fn outputs(&self, model: &Self::Model) -> usize;

    /// Opens a base model.
    fn open(&self, path: &str) -> Result<Self::Base>;
    /// A model at step 0 of these settings.
    fn build(&self, config: &RunConfig, base: Self::Base) -> Result<Self::Model>;
    /// A model without a mixture, with a LoRA on it and the LoRA's head in place of its own.
    fn with_adapter(&self, bare: &Self::Model, adapter: &LoraAdapter) -> Result<Self::Model>;
    /// The model with the experts of each module replaced by what `merge` makes of them (number of the module, experts).
    fn with_loras(
        model: &Self::Model,
        merge: &mut dyn FnMut(usize, &LoraMixture) -> Result<Lora>,
    ) -> Result<Self::Model>;
    /// The matrices that can have a LoRA.
    fn lora_targets(model: &Self::Model) -> Vec<Target>;
    /// Whether it stores and computes in 32 bits.
    fn is_exact(model: &Self::Model) -> bool;
    /// Number of layers.
    fn layers(model: &Self::Model) -> usize;
    /// `exact` with one layer of `rounded`; without a number, with all that is no layer. Both are whole models.
    fn mixed(exact: &Self::Model, rounded: &Self::Model, layer: Option<usize>) -> Result<Self::Model>;

    /// Family and sizes of the model.
    fn kind(model: &Self::Model) -> BaseKind<'_>;
    /// The base model's tensors.
    fn weights(base: &Self::Base) -> &Weights;
    /// The same base model with other tensors.
    fn with_weights(base: &Self::Base, weights: Weights) -> Self::Base;
    /// Directory or GGUF file of the base model; nothing for the bundled one.
    fn base_path(base: &Self::Base) -> Option<&Path>;
    /// The files of the bundled model, written to a new directory `dir`.
    fn bundled(dir: &Path) -> Result<BundledFiles>;

    /// A model at step 0 of these settings, from the base model's files.
    fn fresh(&self, config: &RunConfig) -> Result<Self::Model> {
        self.build(config, self.open(&config.model.path)?)
    }

    /// Logits of the probe rows: of every expert where the model is a mixture, else of the model.
    fn all_logits(&self, model: &Self::Model) -> Result<Vec<f32>> {
        match model.mixture() {
            Some(mixture) => Ok(self.expert_logits(model, mixture)?.concat()),
            None => self.logits(model, None),
        }
    }

    /// Logits of the probe rows with every expert in turn on all sides. `[experts][rows, outputs]`
    fn expert_logits(&self, model: &Self::Model, mixture: &MixtureConfig) -> Result<Vec<Vec<f32>>> {
        let sites = model.sites().len();
        let one = |expert| self.logits(model, Some(&Route::fixed(mixture, sites, expert)));
        (0..mixture.num_experts).map(one).collect()
    }
}

/// Writes the exports of a plan and proves each from its files.
pub fn export_subject(
    subject: &Subject,
    config: &RunConfig,
    dir: &RunDir,
    plan: &ExportPlan,
) -> Result<Vec<ExportReport>> {
    match subject {
        Subject::Classifier(model, task) => export_all(&ClassifierProbe { task }, model, config, dir, plan),
        Subject::Lm(model, data) => export_all(&LmProbe::new(model, data, 0), model, config, dir, plan),
    }
}

fn export_all<P: ModelProbe>(
    probe: &P,
    model: &P::Model,
    config: &RunConfig,
    dir: &RunDir,
    plan: &ExportPlan,
) -> Result<Vec<ExportReport>> {
    let Some(mixture) = model.mixture() else {
        return Err(Error::config(format!(
            "method {} has no experts to merge or export; its weights are in the run's checkpoints",
            crate::config::keys::get(config, "model.method")?
        )));
    };
    let about = |target: ExportTarget| format!("exporting {}", target.as_str());
    for target in &plan.targets {
        let refusal = target.refusal(config.data.task, mixture.kind).or_else(|| target.refuses(plan.dtype));
        if let Some(why) = refusal {
            return Err(Error::config(format!("{}: {why}", about(*target))));
        }
    }
    let source = RunSource::new(probe, model, config, &plan.merge, plan.dtype, dir.path())?;
    // A target named twice is written once.
    let once = plan.targets.iter().enumerate().filter(|(i, target)| !plan.targets[..*i].contains(target));
    let places = once.map(|(_, &target)| match &plan.dir {
        None => Ok((target, dir.new_export(target.as_str())?)),
        Some(parent) => Ok((target, parent.join(target.as_str()))),
    });
    let places = places.collect::<Result<Vec<(ExportTarget, PathBuf)>>>()?;
    // A plan is refused as a whole: its first exports are not left behind when its last cannot be made.
    for (target, place) in &places {
        check_free(place).and_then(|()| target.check(&source)).with_context(|| about(*target))?;
    }
    let export = |(target, dir): (ExportTarget, PathBuf)| {
        let certificate = target.export(&dir, &source).with_context(|| about(target))?;
        Ok(ExportReport { target, dtype: plan.dtype, dir, certificate })
    };
    places.into_iter().map(export).collect()
}
