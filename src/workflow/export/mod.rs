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
use crate::artifact::export::{ChatFormat, ExportTarget, check_free};
use crate::config::{MixtureConfig, RunConfig};
use crate::error::{Context as _, Error, Result};
use crate::eval::Measured;
use crate::eval::compare::EvalOptions;
use crate::mixture::{Lora, LoraMixture, Route};
use crate::model::loras::Target;
use crate::model::{Network as _, Weights};
use crate::protocol::{ExportPlan, ExportReport, WeightsOf};
use crate::train::ModelAndData;
use crate::workflow::merging::{Learner, Mixture};
use std::path::PathBuf;

/// Rows on which an export is proven.
pub(crate) const PROBE_ROWS: usize = 64;

/// What exports must know of a model.
pub(crate) struct ModelDescription<'a> {
    /// Family and sizes.
    pub kind: BaseKind<'a>,
    /// As `config.json` calls it.
    pub model_type: &'static str,
    /// d.
    pub hidden_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Logits of a row.
    pub outputs: usize,
    /// The base model's name, where its files give one.
    pub base_name: Option<String>,
    /// Class names in order; none for regression and language models.
    pub labels: Vec<String>,
    /// How a language model was taught to be asked.
    pub chat: Option<ChatFormat>,
    /// The matrices that can have a LoRA.
    pub lora_targets: Vec<Target>,
    /// Whether it stores and computes in 32 bits.
    pub exact: bool,
}

/// A base model whose files were opened.
pub(crate) struct OpenedBase<S> {
    /// Shape and constants.
    pub spec: S,
    /// The tensors.
    pub weights: Weights,
    /// Directory or GGUF file; nothing for the bundled one.
    pub path: Option<PathBuf>,
}

/// A kind of model together with the rows on which exports are proven.
pub(crate) trait ModelProbe {
    /// The model.
    type Model: Learner;
    /// Shape and constants of a base model.
    type Spec: Clone;

    /// What exports must know.
    fn describe<'a>(&self, model: &'a Self::Model) -> ModelDescription<'a>;
    /// The evaluation rows.
    fn rows(&self) -> &<Self::Model as Measured>::Rows;
    /// The training rows.
    fn train_rows(&self) -> &<Self::Model as Measured>::Rows;
    /// Logits of the probe rows. `[rows, outputs]`
    fn logits(&self, model: &Self::Model, route: Option<&Route>) -> Result<Vec<f32>>;
    /// Opens a base model.
    fn open(path: &str) -> Result<OpenedBase<Self::Spec>>;
    /// A model at step 0 of these settings.
    fn build(&self, config: &RunConfig, base: OpenedBase<Self::Spec>) -> Result<Self::Model>;
    /// A model without a mixture, with a LoRA on it and the LoRA's head in place of its own.
    fn with_adapter(bare: &Self::Model, adapter: &LoraAdapter) -> Result<Self::Model>;
    /// The model with the experts of each module replaced by what `merge` makes of them (number of the module, experts).
    fn with_loras(
        model: &Self::Model,
        merge: &mut dyn FnMut(usize, &LoraMixture) -> Result<Lora>,
    ) -> Result<Self::Model>;
    /// `exact` with one layer of `rounded`; without a number, with all that is no layer. Both are whole models.
    fn mixed(exact: &Self::Model, rounded: &Self::Model, layer: Option<usize>) -> Result<Self::Model>;
}

/// A model at step 0 of these settings, from the base model's files.
pub(crate) fn fresh<P: ModelProbe>(probe: &P, config: &RunConfig) -> Result<P::Model> {
    probe.build(config, P::open(&config.model.path)?)
}

/// Logits of the probe rows: of every expert where the model is a mixture, else of the model.
pub(crate) fn all_logits<P: ModelProbe>(probe: &P, model: &P::Model) -> Result<Vec<f32>> {
    match model.mixture() {
        Some(mixture) => Ok(expert_logits(probe, model, mixture)?.concat()),
        None => probe.logits(model, None),
    }
}

/// Logits of the probe rows with every expert in turn on all sides. `[experts][rows, outputs]`
pub(crate) fn expert_logits<P: ModelProbe>(
    probe: &P,
    model: &P::Model,
    mixture: &MixtureConfig,
) -> Result<Vec<Vec<f32>>> {
    let modules = model.sites().len();
    let one = |expert| probe.logits(model, Some(&Route::fixed(mixture, modules, expert)));
    (0..mixture.num_experts).map(one).collect()
}

/// The run that a model in memory belongs to.
#[derive(Clone, Copy, Debug)]
pub struct ExportedRun<'a> {
    /// Its settings.
    pub config: &'a RunConfig,
    /// Its directory.
    pub dir: &'a RunDir,
    /// Which of its weights the model holds.
    pub weights: WeightsOf,
}

/// Writes the exports of a plan and proves each from its files.
pub fn export_subject(subject: &ModelAndData, run: ExportedRun<'_>, plan: &ExportPlan) -> Result<Vec<ExportReport>> {
    export_while(subject, run, plan, &|_| true)
}

/// The same; `go_on` gets the share done of what some ways of merging measure first, 0 to 1; false cancels. What is written
/// afterwards is written to the end.
pub fn export_while(
    subject: &ModelAndData,
    run: ExportedRun<'_>,
    plan: &ExportPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<Vec<ExportReport>> {
    let opts = &subject.options(run.config, go_on);
    match subject {
        ModelAndData::Classifier(model, task) => export_all(&ClassifierProbe { task }, model, (run, opts), plan),
        ModelAndData::Lm(model, data) => export_all(&LmProbe::new(model, data, 0), model, (run, opts), plan),
    }
}

fn export_all<P: ModelProbe>(
    probe: &P,
    model: &P::Model,
    (run, opts): (ExportedRun<'_>, &EvalOptions<'_>),
    plan: &ExportPlan,
) -> Result<Vec<ExportReport>> {
    let ExportedRun { config, dir, weights } = run;
    let Some(mixture) = model.mixture() else {
        return Err(Error::config(format!(
            "method {} has no experts to merge or export; its weights are in the run's checkpoints",
            crate::config::keys::get(config, "model.method")?
        )));
    };
    let about = |target: ExportTarget| format!("exporting {}", target.as_str());
    for target in &plan.targets {
        let refusal = target.refusal(config.data.task, mixture.kind);
        let refusal =
            refusal.map(|refusal| refusal.in_commands()).or_else(|| target.refuses(plan.dtype).map(str::to_owned));
        if let Some(why) = refusal {
            return Err(Error::config(format!("{}: {why}", about(*target))));
        }
    }
    let (train, dev) = (probe.train_rows(), probe.rows());
    let of = Mixture { model, train, dev, config, run: Some(dir), opts };
    let source = RunSource::new(probe, of, &plan.merge, plan.dtype, dir.path())?.made_of(weights);
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
