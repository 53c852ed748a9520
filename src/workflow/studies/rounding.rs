//! What each number format of an export costs, before anything is written.
//!
//! The weights are rounded in memory exactly as the export would store them, and the model made of them answers the
//! probe rows of the certificate and all evaluation rows. Three kinds of files hold different numbers: the merged module
//! with the head (adapter, AdapterHub, PEFT, GGUF adapter), and the whole model in either layout: transformers' rounds every
//! tensor, GGUF's keeps vectors in 32 bits.

use crate::analysis::rounding::{self, Budget, Moved, Tally};
use crate::artifact::RunDir;
use crate::artifact::certificate::tolerance;
use crate::artifact::export::base::{DecoderArchitecture, MergedWeights};
use crate::artifact::export::gguf_model::{gguf_name, stored_as};
use crate::artifact::export::{Expected, ExportSource as _};
use crate::config::{RunConfig, choice_name};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::compare::{self, EvalOptions};
use crate::eval::{Measured as _, Scores, metrics};
use crate::mixture::Route;
use crate::model::Network as _;
use crate::protocol::studies::{FilesBudget, FormatBudget, RoundingCause, RoundingPlan, RoundingReport, WeightChange};
use crate::protocol::{ExportTarget, NumberFormat};
use crate::tensor::gguf::layout;
use crate::tensor::{Device, HostTensor, Tensor};
use crate::train::ModelAndData;
use crate::workflow::export::source::fill;
use crate::workflow::export::{ClassifierProbe, LmProbe, ModelProbe, RunSource, all_logits, fresh};
use crate::workflow::merging::Mixture;
use crate::workflow::progress::Progress;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Work of one pass over the evaluation rows, in passes over the probe rows.
const PASS: f64 = 4.0;
/// The part of a model that is no layer.
const REST: &str = "embeddings, final norm, head";

/// What number formats cost. `go_on` gets the share done, 0 to 1; false cancels.
pub fn rounding_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    plan: &RoundingPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<RoundingReport> {
    rounding_of_run(subject, (config, None), plan, go_on)
}

/// The same of a run's model: with the run's directory also for merges that need the start of its experts.
pub fn rounding_of_run(
    subject: &ModelAndData,
    (config, run): (&RunConfig, Option<&RunDir>),
    plan: &RoundingPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<RoundingReport> {
    let opts = &subject.options(config, go_on);
    match subject {
        ModelAndData::Classifier(model, data) => {
            let of = Mixture { model, train: &data.train, dev: &data.dev, config, run, opts };
            report(&ClassifierProbe { task: data }, of, plan)
        }
        ModelAndData::Lm(model, data) => {
            let of = Mixture { model, train: &data.train, dev: &data.dev, config, run, opts };
            report(&LmProbe::new(model, data, 0), of, plan)
        }
    }
}

fn report<P: ModelProbe>(probe: &P, of: Mixture<'_, P::Model>, plan: &RoundingPlan) -> Result<RoundingReport> {
    let clock = Instant::now();
    let Mixture { model, config, opts, .. } = of;
    let Some(mixture) = model.mixture() else {
        return Err(Error::config("this run has no experts to merge and export; only method adamix has"));
    };
    let mut targets: Vec<ExportTarget> = Vec::new();
    for target in &plan.targets {
        if let Some(refusal) = target.refusal(config.data.task, mixture.kind) {
            let why = refusal.in_commands();
            return Err(Error::config(format!("rounding for {}: {why}", target.as_str())));
        }
        if !targets.contains(&target.rounds_as()) {
            targets.push(target.rounds_as());
        }
    }
    if targets.is_empty() {
        return Err(Error::config("choose at least one export whose rounding is measured"));
    }
    targets.sort_unstable();
    let about = probe.describe(model);
    let parts = if plan.causes { about.layers + 1 } else { 0 };
    let each = |target: &ExportTarget| target.dtypes().len() as f64 * (1.0 + PASS + parts as f64);
    let progress = Progress::new(PASS + targets.iter().map(each).sum::<f64>(), opts.go_on);
    // Nothing is written, so that no place for files is needed.
    let source = RunSource::new(probe, of, &plan.merge, NumberFormat::F32, Path::new(""))?;
    let study = RoundingStudy { probe, source, causes: plan.causes, opts, progress: &progress };
    let exact = study.scores(&study.source.merged, None)?;
    let mut files = Vec::new();
    for target in targets {
        let formats = if target.is_whole() { study.whole(target)? } else { study.modules()? };
        files.push(FilesBudget { target, formats });
    }
    Ok(RoundingReport {
        merge: plan.merge.clone(),
        metric: choice_name(opts.metric),
        higher_is_better: metrics::higher_is_better(opts.metric),
        rows: P::Model::rows(probe.rows()),
        probe_rows: study.source.expected(Expected::Merged)?.len() / about.outputs.max(1),
        exact,
        files,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

struct RoundingStudy<'a, P: ModelProbe> {
    probe: &'a P,
    source: RunSource<'a, P>,
    /// Whether each layer is rounded alone too.
    causes: bool,
    opts: &'a EvalOptions<'a>,
    progress: &'a Progress<'a>,
}

impl<P: ModelProbe> RoundingStudy<'_, P> {
    /// On all evaluation rows.
    fn scores(&self, model: &P::Model, route: Option<&Route>) -> Result<Scores> {
        let within = self.progress.within(PASS);
        let scores = compare::evaluate(model, self.probe.rows(), route, &EvalOptions { go_on: &within, ..*self.opts })?;
        self.progress.step(PASS)?;
        Ok(scores)
    }

    /// Files that hold the merged modules and the head.
    fn modules(&self) -> Result<Vec<FormatBudget>> {
        let tensors = self.source.tensors(false)?;
        let (logits, outputs) = (self.source.expected(Expected::Merged)?, self.source.outputs());
        let fresh = fresh(self.probe, &self.source.single())?;
        let route = fresh.mixture().map(|mixture| Route::fixed(mixture, fresh.sites().len(), 0));
        let mut formats = Vec::new();
        for dtype in ExportTarget::Merged.dtypes() {
            let mut run = |tensors: &[HostTensor]| {
                fill(&fresh, tensors)?;
                self.progress.step(1.0)?;
                all_logits(self.probe, &fresh)
            };
            let budget = rounding::budget(&tensors, dtype, self.causes, (&logits, outputs), &mut run);
            let found = budget.and_then(|budget| {
                let rounded = |tensor: &HostTensor| Ok(HostTensor { data: tensor.rounded(dtype)?, ..tensor.clone() });
                fill(&fresh, &tensors.iter().map(rounded).collect::<Result<Vec<_>>>()?)?;
                Ok((budget, self.scores(&fresh, route.as_ref())?))
            });
            let bytes = tensors.iter().map(|tensor| dtype.bytes(tensor.data.len() as u64)).sum();
            formats.push(format_budget(dtype, bytes, &logits, found)?);
        }
        Ok(formats)
    }

    /// Files that hold the whole model.
    fn whole(&self, target: ExportTarget) -> Result<Vec<FormatBudget>> {
        let (weights, logits) = (self.source.merged_weights()?, self.source.expected(Expected::Whole)?);
        let gguf = if target == ExportTarget::Gguf { Some(self.source.kind().decoder()?) } else { None };
        let exact = match self.causes {
            true => Some(self.source.build(Rounded::all(&weights, None)?.tensors)?),
            false => None,
        };
        let mut formats = Vec::new();
        for dtype in target.dtypes() {
            let rounding = Rounding { format: dtype, gguf };
            let mut bytes = 0;
            let found = Rounded::all(&weights, Some(rounding)).and_then(|rounded| {
                bytes = rounded.bytes;
                let made = self.source.build(rounded.tensors)?;
                let moved = Moved::of((&logits, self.source.outputs()), &self.probe.logits(&made, None)?);
                self.progress.step(1.0)?;
                let causes = match &exact {
                    Some(exact) if rounded.change.largest > 0.0 => self.causes(exact, &made)?,
                    _ => Vec::new(),
                };
                Ok((Budget::new(rounded.change, moved, causes), self.scores(&made, None)?))
            });
            formats.push(format_budget(dtype, bytes, &logits, found)?);
        }
        Ok(formats)
    }

    /// What each layer alone does, against the model that is not rounded.
    fn causes(&self, exact: &P::Model, rounded: &P::Model) -> Result<Vec<RoundingCause>> {
        let layers = self.probe.describe(exact).layers;
        let names: Vec<String> = (0..layers).map(|layer| format!("layers.{layer}")).chain([REST.to_owned()]).collect();
        let base = self.probe.logits(exact, None)?;
        let mut numbers = (0..layers).map(Some).chain([None]);
        rounding::alone(&names, &base, &mut |_| {
            self.progress.step(1.0)?;
            self.probe.logits(&P::mixed(exact, rounded, numbers.next().flatten())?, None)
        })
    }
}

/// The verdict on one format. A value that does not fit into it is no failure of the study.
fn format_budget(
    dtype: NumberFormat,
    bytes: u64,
    logits: &[f32],
    found: Result<(Budget, Scores)>,
) -> Result<FormatBudget> {
    let largest = logits.iter().fold(1.0f64, |largest, logit| largest.max(f64::from(*logit).abs()));
    let allowed = tolerance(dtype) * largest;
    let (budget, scores, problem) = match found {
        Ok((budget, scores)) => (budget, Some(scores), None),
        Err(err) if err.kind() == ErrorKind::Numerics => {
            let moved = Moved { largest: f64::INFINITY, flipped: 0 };
            let nothing = Budget { weights: WeightChange::default(), predicted: None, moved, causes: Vec::new() };
            (nothing, None, Some(err.to_string()))
        }
        Err(err) => return Err(err),
    };
    let Budget { weights, predicted, moved, causes } = budget;
    Ok(FormatBudget {
        dtype,
        bytes,
        weights,
        predicted,
        measured: moved.largest,
        allowed,
        flipped: moved.flipped,
        kept: problem.is_none() && moved.largest <= allowed,
        problem,
        scores,
        causes,
    })
}

/// How the tensors of a whole model are rounded.
#[derive(Clone, Copy)]
struct Rounding<'a> {
    format: NumberFormat,
    /// In GGUF's layout, of this shape.
    gguf: Option<&'a dyn DecoderArchitecture>,
}

/// All tensors of a whole model.
struct Rounded {
    tensors: BTreeMap<String, Tensor>,
    change: WeightChange,
    bytes: u64,
}

impl Rounded {
    /// As the files would hold them; without a rounding as they are.
    fn all(weights: &MergedWeights<'_>, rounding: Option<Rounding<'_>>) -> Result<Self> {
        let (mut tensors, mut tally, mut bytes) = (BTreeMap::new(), Tally::default(), 0);
        for name in weights.names() {
            let exact = weights.read(&name)?;
            let values = match rounding {
                None => exact.data,
                Some(Rounding { format, gguf }) => {
                    let transpose = gguf.is_some_and(|spec| spec.naming().input_major(&name));
                    let exact = if transpose { transposed(&exact) } else { exact };
                    let format = match gguf {
                        Some(spec) => stored_as(format, &gguf_name(spec, &name)?, &exact.shape),
                        None => format,
                    };
                    let rounded = HostTensor { data: exact.rounded(format)?, ..exact.clone() };
                    tally.add(&exact, &rounded.data, format);
                    bytes += format.bytes(rounded.data.len() as u64);
                    if transpose { transposed(&rounded).data } else { rounded.data }
                }
            };
            let shape = weights.shape(&name)?;
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Self { tensors, change: tally.done(), bytes })
    }
}

/// A matrix with rows and columns exchanged.
fn transposed(tensor: &HostTensor) -> HostTensor {
    let [rows, columns] = tensor.shape[..] else { return tensor.clone() };
    let data = layout::transposed(&tensor.data, rows, columns);
    HostTensor { name: tensor.name.clone(), shape: vec![columns, rows], data }
}
