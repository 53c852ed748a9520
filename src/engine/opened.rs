//! From a run directory back to a model: measure it, merge it, export it with proof.

use super::lora_exports;
use super::protocol::{Checkpoint, ExportDtype, ExportPlan, ExportReport, ExportTarget, MergePlan, MergeReport};
use super::run::{self, Prepared};
use super::runs::export_report;
use crate::artifact::certificate::{self, Probe};
use crate::artifact::export::recipe::{Recipe, SiteWeights};
use crate::artifact::export::{self, ExportMeta};
use crate::artifact::{Dtype, HostTensor, RunDir, checkpoint};
use crate::config::{MixtureConfig, RunConfig, Task};
use crate::data::{self, TaskData, text};
use crate::error::{Context as _, Error, Result};
use crate::eval::{EvalReport, compare};
use crate::mixture::{MergeWeights, Route, SIDES};
use crate::model::loras::Module;
use crate::model::{Classifier, ModelSource, Network, store};
use crate::train::Subject;
use crate::train::trainer::{host_tensors, set_tensors};
use candle_core::{DType, Tensor};
use std::path::Path;
use std::time::Instant;

/// Rows on which an export is proven.
const PROBE_ROWS: usize = 64;

/// A trained model with its rows.
pub struct Opened {
    /// The run directory.
    pub dir: RunDir,
    /// Steps done at the checkpoint.
    pub step: u64,
    /// The settings.
    pub config: RunConfig,
    /// The model with the checkpoint's weights, and the rows or texts, encoded.
    pub subject: Subject,
}

/// The step of a checkpoint of a run.
pub fn checkpoint_step(dir: &RunDir, which: Checkpoint) -> Result<u64> {
    let steps = checkpoint::list(dir)?;
    let none = || Error::config(format!("the run has no checkpoint yet: {}", dir.path().display()));
    let last = steps.last().copied().ok_or_else(none)?;
    match which {
        Checkpoint::Last => Ok(last),
        Checkpoint::Best => {
            let data = checkpoint::latest_valid(dir)?.ok_or_else(none)?;
            let best = run::best_step(&data.data).filter(|best| steps.contains(best));
            Ok(best.unwrap_or(data.step))
        }
        Checkpoint::Step(step) if steps.contains(&step) => Ok(step),
        Checkpoint::Step(step) => {
            let have: Vec<String> = steps.iter().map(u64::to_string).collect();
            Err(Error::config(format!("there is no checkpoint of step {step}; there are {}", have.join(", "))))
        }
    }
}

impl Opened {
    /// Reads model, data and the checkpoint's weights.
    pub fn open(dir: &RunDir, which: Checkpoint) -> Result<Self> {
        let step = checkpoint_step(dir, which)?;
        let Prepared { config, subject, warnings } = run::prepare(dir.config())?;
        for warning in warnings {
            log::warn!("{warning}");
        }
        let data = checkpoint::read(dir, step)?;
        set_tensors(subject.model(), &data.tensors).with_context(|| format!("reading checkpoint-{step}"))?;
        Ok(Self { dir: dir.clone(), step, config, subject })
    }

    /// Measures on the rows of another file from now on, laid out as the run's data.
    pub fn measure_on(&mut self, file: &Path) -> Result<()> {
        if self.config.data.task == Task::Lab {
            return Err(Error::config("the lab brings its own rows; other rows need a run of task custom"));
        }
        let mut config = self.config.data.clone();
        config.dev_file = file.display().to_string();
        match &mut self.subject {
            Subject::Classifier(_, task) => {
                // The classes and their order are those the head was trained for.
                if config.task == Task::Custom {
                    config.labels.clone_from(&task.labels);
                }
                let tokenizer = run::tokenizer(&ModelSource::open(&self.config.model.path)?)?;
                task.dev = data::load(&config, &tokenizer)?.dev;
            }
            Subject::Lm(_, texts) => {
                let loaded = text::load(&config, &self.config.text, texts.encoder.codec())?;
                (texts.dev, texts.inputs) = (loaded.dev, loaded.inputs);
            }
        }
        Ok(())
    }

    /// Merged against `random_routes` random routes, fixed experts and their ensemble, on the evaluation rows.
    pub fn compare(&self, random_routes: usize) -> Result<EvalReport> {
        compare_subject(&self.subject, &self.config, random_routes, &|_| true)
    }

    /// The model merged with these weights, measured on the evaluation rows.
    pub fn merge(&self, plan: &MergePlan) -> Result<MergeReport> {
        merge_subject(&self.subject, &self.config, plan, &|_| true)
    }

    /// Writes the exports into the run directory, or where the plan says, and proves them.
    pub fn export(&self, plan: &ExportPlan) -> Result<Vec<ExportReport>> {
        export_subject(&self.subject, &self.config, &self.dir, plan)
    }
}

/// Merged against unmerged on the evaluation rows. `go_on` hears the share done, 0 to 1; false cancels.
pub fn compare_subject(
    subject: &Subject,
    config: &RunConfig,
    random_routes: usize,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<EvalReport> {
    subject.compare(&compare::Options { random_routes, ..subject.options(config, go_on) })
}

/// Measures the model merged with these weights on the evaluation rows.
pub fn merge_subject(
    subject: &Subject,
    config: &RunConfig,
    plan: &MergePlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<MergeReport> {
    let clock = Instant::now();
    Ok(MergeReport {
        plan: plan.clone(),
        metric: crate::eval::metrics::metric_name(subject.metric()).to_owned(),
        scores: subject.evaluate(&weights(subject.model(), plan)?, &subject.options(config, go_on))?,
        rows: subject.dev().rows,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// The plan's weights in the form the merge takes.
pub fn weights(model: &dyn Network, plan: &MergePlan) -> Result<MergeWeights> {
    let wide = |list: &[f32]| list.iter().map(|&weight| f64::from(weight)).collect::<Vec<f64>>();
    let weights = match plan {
        MergePlan::Uniform => MergeWeights::uniform(model.mixture().map_or(1, |mixture| mixture.num_experts)),
        MergePlan::Global(list) => MergeWeights::global(&wide(list))?,
        MergePlan::PerSite(lists) => MergeWeights::per_site(&lists.iter().map(|list| wide(list)).collect::<Vec<_>>())?,
    };
    if let Some(mixture) = model.mixture() {
        weights.check(model.sites().len(), mixture.num_experts)?;
    }
    Ok(weights)
}

/// Writes the exports of a plan and proves each from its files.
pub fn export_subject(
    subject: &Subject,
    config: &RunConfig,
    dir: &RunDir,
    plan: &ExportPlan,
) -> Result<Vec<ExportReport>> {
    match subject {
        Subject::Classifier(model, task) => export_model(model, task, config, dir, plan),
        Subject::Lm(..) => Err(Error::config(
            "these exports hold a classifier's adapters; the experts of a language model are in the run's checkpoints",
        )),
    }
}

/// Writes the exports of a classifier and proves each from its files.
pub fn export_model(
    model: &Classifier,
    task: &TaskData,
    config: &RunConfig,
    dir: &RunDir,
    plan: &ExportPlan,
) -> Result<Vec<ExportReport>> {
    if model.mixture().is_none() {
        return Err(Error::config(format!(
            "method {} has no experts to merge or export; its weights are in the run's checkpoints",
            crate::config::keys::get(config, "model.method")?
        )));
    }
    let weights = weights(model, &plan.merge)?;
    let merged = model.merged(&weights)?;
    plan.targets
        .iter()
        .map(|&target| {
            let subject = if target == ExportTarget::Experts { model } else { &merged };
            let meta = meta(model, task, config, &weights, plan.dtype)?;
            export_one(Job { model, subject, task, config, target, meta: &meta, dir, plan })
                .with_context(|| format!("exporting {}", target_name(target)))
        })
        .collect()
}

fn target_name(target: ExportTarget) -> &'static str {
    match target {
        ExportTarget::Merged => "merged",
        ExportTarget::Experts => "experts",
        ExportTarget::AdapterHub => "adapterhub",
        ExportTarget::Peft => "peft",
        ExportTarget::PeftExperts => "peft-experts",
        ExportTarget::Hf => "hf",
    }
}

fn dtype(dtype: ExportDtype) -> Dtype {
    match dtype {
        ExportDtype::F32 => Dtype::F32,
        ExportDtype::F16 => Dtype::F16,
        ExportDtype::Bf16 => Dtype::Bf16,
    }
}

fn meta(
    model: &Classifier,
    task: &TaskData,
    config: &RunConfig,
    weights: &MergeWeights,
    format: ExportDtype,
) -> Result<ExportMeta> {
    let mixture = model.mixture().cloned().unwrap_or_default();
    let spec = model.encoder().spec();
    let recipe = if weights.is_uniform() {
        Recipe::uniform(mixture.num_experts)
    } else {
        let sites = model.site_names().into_iter().enumerate().map(|(site, name)| {
            let list = weights.site(site)?;
            Ok((
                name,
                SiteWeights {
                    down: side_weights(list, mixture.sharing_down),
                    up: side_weights(list, mixture.sharing_up),
                },
            ))
        });
        Recipe::weighted(mixture.num_experts, sites.collect::<Result<Vec<_>>>()?)
    };
    Ok(ExportMeta {
        base_model: spec.name.clone().unwrap_or_else(|| store::base_name(&config.model.path)),
        model_type: spec.family.prefix().to_owned(),
        hidden_size: spec.hidden_size,
        mixture,
        labels: task.labels.clone(),
        recipe,
        dtype: dtype(format),
    })
}

fn side_weights(list: &[f64], shared: bool) -> Vec<f64> {
    if shared { vec![1.0] } else { list.to_vec() }
}

/// One export of a plan.
#[derive(Clone, Copy)]
struct Job<'a> {
    /// The mixture.
    model: &'a Classifier,
    /// What is exported: the mixture itself, or merged.
    subject: &'a Classifier,
    task: &'a TaskData,
    config: &'a RunConfig,
    target: ExportTarget,
    meta: &'a ExportMeta,
    dir: &'a RunDir,
    plan: &'a ExportPlan,
}

fn export_one(job: Job<'_>) -> Result<ExportReport> {
    let Job { model, subject, task, config, target, meta, dir, plan } = job;
    let name = target_name(target);
    let place = match &plan.dir {
        None => dir.new_export(name)?,
        Some(parent) => {
            std::fs::create_dir_all(parent).map_err(|err| Error::io("creating a directory", parent, err))?;
            parent.join(name)
        }
    };
    if matches!(target, ExportTarget::Peft | ExportTarget::PeftExperts | ExportTarget::Hf) {
        let rows: Vec<usize> = (0..task.dev.len().min(PROBE_ROWS)).collect();
        let job = lora_exports::Job { model, merged: subject, task, config, meta, rows: &rows };
        let certificate = job.export(target, &place)?;
        return Ok(ExportReport { target, dtype: plan.dtype, ..export_report(certificate, place) });
    }
    let tensors = match target {
        ExportTarget::Experts => host_tensors(model)?,
        _ => merged_tensors(model, subject)?,
    };
    match target {
        ExportTarget::Experts => export::experts(&place, &tensors, meta)?,
        ExportTarget::AdapterHub => export::adapterhub::adapterhub(&place, &tensors, meta, "adamix")?,
        _ => export::merged_adapter(&place, &tensors, meta)?,
    }
    let rows: Vec<usize> = (0..task.dev.len().min(PROBE_ROWS)).collect();
    let probe = probe_logits(model, subject, task, &rows)?;
    let reload = |loaded: &[HostTensor]| {
        let fresh = fresh_model(target, task, config, loaded)?;
        probe_logits(&fresh, &fresh, task, &rows)
    };
    let outputs = model.head().classes();
    let certificate = certificate::certify(&place, &tensors, meta.dtype, Probe { logits: &probe, outputs }, reload)?;
    Ok(ExportReport { target, dtype: plan.dtype, ..export_report(certificate, place) })
}

/// The trained tensors of a merged model under their stable names: one module a site, as banks of one, and the head.
fn merged_tensors(mixture: &Classifier, merged: &Classifier) -> Result<Vec<HostTensor>> {
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

fn host(name: String, tensor: &Tensor) -> Result<HostTensor> {
    HostTensor::new(name, tensor.dims(), tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// A model made from nothing but the base model's files and the export's: what another program would compute.
fn fresh_model(target: ExportTarget, task: &TaskData, config: &RunConfig, loaded: &[HostTensor]) -> Result<Classifier> {
    let mut config = config.clone();
    if target != ExportTarget::Experts {
        // A merged adapter is a mixture of one.
        config.mixture = MixtureConfig { num_experts: 1, sharing_down: false, sharing_up: false, ..config.mixture };
    }
    let fresh = run::model(&config, ModelSource::open(&config.model.path)?, task)?;
    let find = |name: &str| {
        let param = fresh.params().find(name)?;
        let tensor = loaded.iter().find(|tensor| tensor.name == name)?;
        // Files leave out the dimension of a bank of one.
        let fits = tensor.data.len() == param.value.elem_count();
        Some((if fits { param.value.dims() } else { tensor.shape.as_slice() }, tensor.data.as_slice()))
    };
    fresh.set_params(find)?;
    Ok(fresh)
}

/// Logits of the probe rows: of every expert where all are exported, else of the merged model.
fn probe_logits(mixture: &Classifier, subject: &Classifier, task: &TaskData, rows: &[usize]) -> Result<Vec<f32>> {
    let batch = task.dev.batch(rows);
    match subject.mixture() {
        None => subject.logits(&batch, None),
        Some(settings) => {
            let sites = mixture.sites().len();
            let mut all = Vec::new();
            for expert in 0..settings.num_experts {
                all.extend(subject.logits(&batch, Some(&Route::fixed(settings, sites, expert)))?);
            }
            Ok(all)
        }
    }
}
