//! Exports of a run: files are written, loaded afresh, and proven on the first evaluation rows.
//!
//! The merged modules and all experts under our own names are here, for every kind of model; what other programs load
//! is in `lora_exports` (classifiers) and `lm_exports` (language models).

pub(crate) mod bundled;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod merged_model;

use crate::artifact::RunDir;
use crate::artifact::certificate::{self, Certificate, Probe};
use crate::artifact::export::recipe::{Recipe, SiteWeights};
use crate::artifact::export::{self, ExportMeta};
use crate::config::{MixtureConfig, RunConfig};
use crate::data::TaskData;
use crate::error::{Context as _, Error, Result};
use crate::mixture::{MergeWeights, Route, SIDES};
use crate::model::loras::Module;
use crate::model::{Classifier, ModelSource, Network, network};
use crate::model_store;
use crate::protocol::{ExportPlan, ExportReport, ExportTarget};
use crate::tensor::{HostTensor, NumberFormat, to_f32};
use crate::train::Subject;
use crate::train::trainer::host_tensors;
use crate::workflow::run;
use crate::workflow::runs::export_report;
use crate::workflow::saved_run;
use candle_core::Tensor;
use std::path::Path;

/// Rows on which an export is proven.
pub(crate) const PROBE_ROWS: usize = 64;

/// What differs between the kinds of models.
pub(crate) trait Kind {
    /// The model.
    type Model: Network;
    /// Its type as `config.json` calls it, its width, and the base model's name where the files give one.
    fn about(&self, model: &Self::Model) -> (String, usize, Option<String>);
    /// Class names in order; none for regression and language models.
    fn labels(&self) -> Vec<String>;
    /// The experts merged with these weights.
    fn merged(&self, model: &Self::Model, weights: &MergeWeights) -> Result<Self::Model>;
    /// A model at step 0 of these settings, from the base model's files.
    fn fresh(&self, config: &RunConfig) -> Result<Self::Model>;
    /// Logits of the probe rows. `[rows, outputs]`
    fn logits(&self, model: &Self::Model, route: Option<&Route>) -> Result<Vec<f32>>;
    /// Logits of a row.
    fn outputs(&self, model: &Self::Model) -> usize;
    /// What stands in the way of an export that other programs load, as far as it shows before anything is written.
    fn check(&self, job: &Job<'_, Self::Model>) -> Result<()>;
    /// Writes and proves what other programs load.
    fn for_others(&self, job: &Job<'_, Self::Model>, place: &Path) -> Result<Certificate>;
}

/// One export of a plan.
pub(crate) struct Job<'a, M> {
    /// The mixture.
    pub mixture: &'a M,
    /// The same, merged.
    pub merged: &'a M,
    pub config: &'a RunConfig,
    pub meta: &'a ExportMeta,
    pub target: ExportTarget,
    /// How numbers are stored.
    pub dtype: NumberFormat,
}

/// Writes the exports of a plan and proves each from its files.
pub fn export_subject(
    subject: &Subject,
    config: &RunConfig,
    dir: &RunDir,
    plan: &ExportPlan,
) -> Result<Vec<ExportReport>> {
    match subject {
        Subject::Classifier(model, task) => export_all(&Labelled { task }, model, config, dir, plan),
        Subject::Lm(model, data) => {
            let experts = model.mixture().map_or(1, |mixture| mixture.num_experts);
            export_all(&decoder::Written::new(model, data, experts), model, config, dir, plan)
        }
    }
}

fn export_all<K: Kind>(
    kind: &K,
    model: &K::Model,
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
    for target in &plan.targets {
        let refusal = target.refusal(config.data.task, mixture.kind).or_else(|| target.refuses(plan.dtype));
        if let Some(why) = refusal {
            return Err(Error::config(format!("exporting {}: {why}", target.word())));
        }
    }
    let weights = saved_run::weights(model, &plan.merge)?;
    let merged = kind.merged(model, &weights)?;
    let meta = meta(kind, model, config, &weights, plan.dtype)?;
    // A target named twice is written once.
    let once = plan.targets.iter().enumerate().filter(|(i, target)| !plan.targets[..*i].contains(target));
    let jobs = once.map(|(_, &target)| {
        let job = Job { mixture: model, merged: &merged, config, meta: &meta, target, dtype: plan.dtype };
        let place = match &plan.dir {
            None => dir.new_export(target.word())?,
            Some(parent) => parent.join(target.word()),
        };
        Ok((job, place))
    });
    let jobs = jobs.collect::<Result<Vec<_>>>()?;
    let about = |job: &Job<'_, K::Model>| format!("exporting {}", job.target.word());
    // A plan is refused as a whole: its first exports are not left behind when its last cannot be.
    for (job, place) in &jobs {
        export::free(place).and_then(|()| kind.check(job)).with_context(|| about(job))?;
    }
    jobs.iter().map(|(job, place)| export_one(kind, job, place).with_context(|| about(job))).collect()
}

fn export_one<K: Kind>(kind: &K, job: &Job<'_, K::Model>, place: &Path) -> Result<ExportReport> {
    let certificate = match job.target {
        ExportTarget::Merged | ExportTarget::Experts | ExportTarget::AdapterHub => ours(kind, job, place)?,
        _ => kind.for_others(job, place)?,
    };
    Ok(ExportReport { target: job.target, dtype: job.dtype, ..export_report(certificate, place.to_owned()) })
}

/// The trained tensors under our stable names, or as AdapterHub's library has them.
fn ours<K: Kind>(kind: &K, job: &Job<'_, K::Model>, place: &Path) -> Result<Certificate> {
    let Job { mixture, merged, config, meta, target, .. } = *job;
    let (subject, tensors) = match target {
        ExportTarget::Experts => (mixture, host_tensors(mixture)?),
        _ => (merged, merged_tensors(mixture, merged)?),
    };
    match target {
        ExportTarget::Experts => export::experts(place, &tensors, meta)?,
        ExportTarget::AdapterHub => export::adapterhub::adapterhub(place, &tensors, meta, "adamix")?,
        _ => export::merged_adapter(place, &tensors, meta)?,
    }
    let logits = probe(kind, subject)?;
    let reload = |loaded: &[HostTensor]| probe(kind, &reloaded(kind, target, config, loaded)?);
    let outputs = kind.outputs(mixture);
    certificate::certify(place, &tensors, meta.dtype, Probe { logits: &logits, outputs }, reload)
}

/// The trained tensors of a merged model under their stable names: one module a site, as banks of one, and the head.
pub(crate) fn merged_tensors(mixture: &dyn Network, merged: &dyn Network) -> Result<Vec<HostTensor>> {
    let mut tensors = Vec::new();
    for (site, adapter) in mixture.site_names().iter().zip(merged.adapters()) {
        for (side, name) in SIDES.into_iter().zip(["down", "up"]) {
            let (weight, bias) = adapter.side(side)?;
            tensors.push(host(format!("{site}.{name}.weight"), &weight.unsqueeze(0)?)?);
            tensors.push(host(format!("{site}.{name}.bias"), &bias.unsqueeze(0)?)?);
        }
    }
    for (site, placed) in merged.loras() {
        let Module::Merged(lora) = &placed.module else { continue };
        for (side, name) in SIDES.into_iter().zip(["lora_a", "lora_b"]) {
            tensors.push(host(format!("{site}.{name}.weight"), &lora.side(side)?.unsqueeze(0)?)?);
        }
    }
    for param in mixture.params().iter().filter(|param| !param.bank) {
        tensors.push(host(param.name.clone(), &param.value)?);
    }
    Ok(tensors)
}

pub(crate) fn host(name: String, tensor: &Tensor) -> Result<HostTensor> {
    HostTensor::new(name, tensor.dims(), to_f32(tensor)?)
}

/// A model made from nothing but the base model's files and the export's: what another program would compute.
fn reloaded<K: Kind>(kind: &K, target: ExportTarget, config: &RunConfig, loaded: &[HostTensor]) -> Result<K::Model> {
    let fresh = if target == ExportTarget::Experts { kind.fresh(config)? } else { kind.fresh(&single(config))? };
    fill(&fresh, loaded)?;
    Ok(fresh)
}

/// The settings with a single expert: a merged adapter is a mixture of one.
pub(crate) fn single(config: &RunConfig) -> RunConfig {
    let mixture = MixtureConfig {
        num_experts: 1,
        sharing_down: false,
        sharing_up: false,
        merge_weights: Vec::new(),
        ..config.mixture.clone()
    };
    RunConfig { mixture, ..config.clone() }
}

/// Puts an export's tensors into a model of the same settings.
pub(crate) fn fill(fresh: &dyn Network, loaded: &[HostTensor]) -> Result<()> {
    let find = |name: &str| {
        let param = fresh.params().find(name)?;
        let tensor = loaded.iter().find(|tensor| tensor.name == name)?;
        // Files leave out the dimension of a bank of one.
        let fits = tensor.data.len() == param.value.elem_count();
        Some((if fits { param.value.dims() } else { tensor.shape.as_slice() }, tensor.data.as_slice()))
    };
    network::overwrite(fresh.params(), find)
}

/// Logits of the probe rows: of every expert where the model is a mixture, else of the model.
pub(crate) fn probe<K: Kind>(kind: &K, model: &K::Model) -> Result<Vec<f32>> {
    let Some(mixture) = model.mixture() else { return kind.logits(model, None) };
    let sites = model.sites().len();
    let mut all = Vec::new();
    for expert in 0..mixture.num_experts {
        all.extend(kind.logits(model, Some(&Route::fixed(mixture, sites, expert)))?);
    }
    Ok(all)
}

fn meta<K: Kind>(
    kind: &K,
    model: &K::Model,
    config: &RunConfig,
    weights: &MergeWeights,
    format: NumberFormat,
) -> Result<ExportMeta> {
    let mixture = model.mixture().cloned().unwrap_or_default();
    let recipe = if weights.is_uniform() {
        Recipe::uniform(mixture.num_experts)
    } else {
        let of = |list: &[f64], shared: bool| if shared { vec![1.0] } else { list.to_vec() };
        let sites = model.site_names().into_iter().enumerate().map(|(site, name)| {
            let list = weights.site(site)?;
            Ok((name, SiteWeights { down: of(list, mixture.sharing_down), up: of(list, mixture.sharing_up) }))
        });
        Recipe::weighted(mixture.num_experts, sites.collect::<Result<Vec<_>>>()?)
    };
    let (model_type, hidden_size, name) = kind.about(model);
    Ok(ExportMeta {
        base_model: name.unwrap_or_else(|| model_store::base_name(&config.model.path)),
        model_type,
        hidden_size,
        mixture,
        labels: kind.labels(),
        recipe,
        // The scales of a block of 8 bits have 16.
        dtype: if format == NumberFormat::Q8_0 { NumberFormat::F16 } else { format },
    })
}

/// Classifiers and regressors.
pub(crate) struct Labelled<'a> {
    pub task: &'a TaskData,
}

impl Labelled<'_> {
    pub fn rows(&self) -> Vec<usize> {
        (0..self.task.dev.len().min(PROBE_ROWS)).collect()
    }
}

impl Kind for Labelled<'_> {
    type Model = Classifier;

    fn about(&self, model: &Classifier) -> (String, usize, Option<String>) {
        let spec = model.encoder().spec();
        (spec.family.prefix().to_owned(), spec.hidden_size, spec.name.clone())
    }
    fn labels(&self) -> Vec<String> {
        self.task.labels.clone()
    }
    fn merged(&self, model: &Classifier, weights: &MergeWeights) -> Result<Classifier> {
        model.merged(weights)
    }
    fn fresh(&self, config: &RunConfig) -> Result<Classifier> {
        run::model(config, ModelSource::open(&config.model.path)?, self.task)
    }
    fn logits(&self, model: &Classifier, route: Option<&Route>) -> Result<Vec<f32>> {
        model.logits(&self.task.dev.batch(&self.rows()), route)
    }
    fn outputs(&self, model: &Classifier) -> usize {
        model.head().classes()
    }
    fn check(&self, _: &Job<'_, Classifier>) -> Result<()> {
        Ok(()) // the target's own refusals are all there is
    }
    fn for_others(&self, job: &Job<'_, Classifier>, place: &Path) -> Result<Certificate> {
        let rows = self.rows();
        let Job { mixture: model, merged, config, meta, target, .. } = *job;
        encoder::Job { model, merged, task: self.task, config, meta, rows: &rows }.export(target, place)
    }
}
