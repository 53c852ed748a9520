//! What each number format of an export costs, before anything is written.
//!
//! The weights are rounded in memory exactly as the export would store them, and the model made of them answers the
//! probe rows of the certificate and all evaluation rows. Three kinds of files hold different numbers: the merged module
//! with the head (adapter, AdapterHub, PEFT, GGUF adapter), and the whole model in either layout: transformers' rounds every
//! tensor, GGUF's keeps vectors in 32 bits.

use crate::analysis::rounding::{self, Budget, Change, Moved, Tally};
use crate::artifact::certificate::tolerance;
use crate::artifact::export::gguf_model::{gguf_name, stored_as};
use crate::config::RunConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::compare::{self, Options};
use crate::eval::{Measured, Scores, metrics};
use crate::mixture::Route;
use crate::model::Network as _;
use crate::model::decoder::DecoderSpec;
use crate::protocol::studies::{FilesBudget, FormatBudget, RoundingCause, RoundingPlan, RoundingReport, WeightChange};
use crate::protocol::{ExportTarget, NumberFormat};
use crate::tensor::HostTensor;
use crate::tensor::gguf::layout;
use crate::train::Subject;
use crate::workflow::export::decoder::Written;
use crate::workflow::export::merged_model::{Parts, Whole};
use crate::workflow::export::{Kind, Labelled, fill, merged_tensors, probe, single};
use crate::workflow::progress::Progress;
use crate::workflow::saved_run;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::time::Instant;

/// Work of one pass over the evaluation rows, in passes over the probe rows.
const PASS: f64 = 4.0;
/// The part of a model that is no layer.
const REST: &str = "embeddings, final norm, head";

/// What number formats cost. `go_on` hears the share done, 0 to 1; false cancels.
pub fn rounding_subject(
    subject: &Subject,
    config: &RunConfig,
    plan: &RoundingPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<RoundingReport> {
    let opts = subject.options(config, go_on);
    match subject {
        Subject::Classifier(model, task) => {
            Job { kind: &Labelled { task }, model, rows: &task.dev, config, plan, opts: &opts }.report()
        }
        Subject::Lm(model, data) => {
            let experts = model.mixture().map_or(1, |mixture| mixture.num_experts);
            let kind = Written::new(model, data, experts);
            Job { kind: &kind, model, rows: &data.dev, config, plan, opts: &opts }.report()
        }
    }
}

struct Job<'a, K: Kind>
where
    K::Model: Measured,
{
    kind: &'a K,
    model: &'a K::Model,
    rows: &'a <K::Model as Measured>::Rows,
    config: &'a RunConfig,
    plan: &'a RoundingPlan,
    opts: &'a Options<'a>,
}

impl<K: Whole> Job<'_, K>
where
    K::Model: Measured,
{
    fn report(&self) -> Result<RoundingReport> {
        let clock = Instant::now();
        let Some(mixture) = self.model.mixture() else {
            return Err(Error::config("this run has no experts to merge and export; only method adamix has"));
        };
        let mut targets: Vec<ExportTarget> = Vec::new();
        for target in &self.plan.targets {
            if let Some(why) = target.refusal(self.config.data.task, mixture.kind) {
                return Err(Error::config(format!("rounding for {}: {why}", target.word())));
            }
            if !targets.contains(&target.rounds_as()) {
                targets.push(target.rounds_as());
            }
        }
        if targets.is_empty() {
            return Err(Error::config("choose at least one export whose rounding is measured"));
        }
        targets.sort_unstable();
        let each = |target: &ExportTarget| {
            let parts = if self.plan.causes { self.layers() + 1 } else { 0 };
            target.dtypes().len() as f64 * (1.0 + PASS + parts as f64)
        };
        let meter = Progress::new(PASS + targets.iter().map(each).sum::<f64>(), self.opts.go_on);
        let merged = self.kind.merged(self.model, &saved_run::weights(self.model, &self.plan.merge)?)?;
        let exact = self.scores(&meter, &merged, None)?;
        let mut files = Vec::new();
        for target in targets {
            let formats = match target {
                ExportTarget::Hf | ExportTarget::Gguf => {
                    let then = |parts: &Parts<'_, K::Model>| self.whole(&meter, target, parts);
                    self.kind.whole(self.model, &merged, self.config, then)?
                }
                _ => self.module(&meter, &merged)?,
            };
            files.push(FilesBudget { target, formats });
        }
        Ok(RoundingReport {
            merge: self.plan.merge.clone(),
            metric: metrics::metric_name(self.opts.metric).to_owned(),
            higher_is_better: metrics::higher_is_better(self.opts.metric),
            rows: K::Model::rows(self.rows),
            probe_rows: self.kind.logits(&merged, None)?.len() / self.kind.outputs(self.model).max(1),
            exact,
            files,
            seconds: clock.elapsed().as_secs_f64(),
        })
    }

    fn layers(&self) -> usize {
        K::layers(self.model)
    }

    /// On all evaluation rows.
    fn scores(&self, meter: &Progress<'_>, model: &K::Model, route: Option<&Route>) -> Result<Scores> {
        let within = meter.within(PASS);
        let scores = compare::evaluate(model, self.rows, route, &Options { go_on: &within, ..*self.opts })?;
        meter.step(PASS)?;
        Ok(scores)
    }

    /// Files that hold the merged module and the head.
    fn module(&self, meter: &Progress<'_>, merged: &K::Model) -> Result<Vec<FormatBudget>> {
        let tensors = merged_tensors(self.model, merged)?;
        let (logits, outputs) = (self.kind.logits(merged, None)?, self.kind.outputs(self.model));
        let fresh = self.kind.fresh(&single(self.config))?;
        let route = fresh.mixture().map(|mixture| Route::fixed(mixture, fresh.sites().len(), 0));
        let mut formats = Vec::new();
        for dtype in ExportTarget::Merged.dtypes() {
            let mut run = |tensors: &[HostTensor]| {
                fill(&fresh, tensors)?;
                meter.step(1.0)?;
                probe(self.kind, &fresh)
            };
            let budget = rounding::budget(&tensors, dtype, self.plan.causes, (&logits, outputs), &mut run);
            let bytes = tensors.iter().map(|tensor| dtype.bytes(tensor.data.len() as u64)).sum();
            formats.push(self.format(dtype, bytes, &logits, budget, || {
                let rounded = |tensor: &HostTensor| Ok(HostTensor { data: tensor.rounded(dtype)?, ..tensor.clone() });
                fill(&fresh, &tensors.iter().map(rounded).collect::<Result<Vec<_>>>()?)?;
                self.scores(meter, &fresh, route.as_ref())
            })?);
        }
        Ok(formats)
    }

    /// Files that hold the whole model.
    fn whole(
        &self,
        meter: &Progress<'_>,
        target: ExportTarget,
        parts: &Parts<'_, K::Model>,
    ) -> Result<Vec<FormatBudget>> {
        let outputs = self.kind.outputs(self.model);
        let exact = match self.plan.causes {
            true => Some((parts.build)(Rounded::all(parts, None)?.tensors)?),
            false => None,
        };
        let mut formats = Vec::new();
        for dtype in target.dtypes() {
            let rounding = Rounding { format: dtype, gguf: parts.spec.filter(|_| target == ExportTarget::Gguf) };
            let mut model = None;
            let mut bytes = 0;
            let budget = Rounded::all(parts, Some(rounding)).and_then(|rounded| {
                bytes = rounded.bytes;
                let made = (parts.build)(rounded.tensors)?;
                let moved = Moved::of((&parts.logits, outputs), &self.kind.logits(&made, None)?);
                meter.step(1.0)?;
                let causes = match &exact {
                    Some(exact) if rounded.change.largest > 0.0 => self.causes(meter, exact, &made)?,
                    _ => Vec::new(),
                };
                model = Some(made);
                Ok(Budget::new(rounded.change, moved, causes))
            });
            formats.push(self.format(dtype, bytes, &parts.logits, budget, || match &model {
                Some(model) => self.scores(meter, model, None),
                None => Err(Error::internal("a rounded model was lost")),
            })?);
        }
        Ok(formats)
    }

    /// What each layer alone does, against the model that is not rounded.
    fn causes(&self, meter: &Progress<'_>, exact: &K::Model, rounded: &K::Model) -> Result<Vec<(String, f64)>> {
        let layers = self.layers();
        let names: Vec<String> = (0..layers).map(|layer| format!("layers.{layer}")).chain([REST.to_owned()]).collect();
        let base = self.kind.logits(exact, None)?;
        let mut numbers = (0..layers).map(Some).chain([None]);
        rounding::alone(&names, &base, &mut |_| {
            meter.step(1.0)?;
            self.kind.logits(&K::mixed(exact, rounded, numbers.next().flatten())?, None)
        })
    }

    /// The verdict on one format. A value that does not fit into it is no failure of the study.
    fn format(
        &self,
        dtype: NumberFormat,
        bytes: u64,
        logits: &[f32],
        budget: Result<Budget>,
        scores: impl FnOnce() -> Result<Scores>,
    ) -> Result<FormatBudget> {
        let largest = logits.iter().fold(1.0f64, |largest, logit| largest.max(f64::from(*logit).abs()));
        let allowed = tolerance(dtype) * largest;
        let found = budget.and_then(|budget| Ok((budget, scores()?)));
        match found {
            Ok((Budget { weights, predicted, moved, causes }, scores)) => Ok(FormatBudget {
                dtype,
                bytes,
                weights: plain(weights),
                predicted,
                measured: moved.largest,
                allowed,
                flipped: moved.flipped,
                kept: moved.largest <= allowed,
                problem: None,
                scores: Some(scores),
                causes: causes.into_iter().map(|(part, change)| RoundingCause { part, change }).collect(),
            }),
            Err(err) if err.kind() == ErrorKind::Numerics => Ok(FormatBudget {
                dtype,
                bytes,
                weights: WeightChange::default(),
                predicted: None,
                measured: f64::INFINITY,
                allowed,
                flipped: 0,
                kept: false,
                problem: Some(err.to_string()),
                scores: None,
                causes: Vec::new(),
            }),
            Err(err) => Err(err),
        }
    }
}

fn plain(change: Change) -> WeightChange {
    let Change { values, largest, tensor, relative, ulps, norm, zeroed } = change;
    WeightChange { values, largest, tensor, relative, ulps, norm, zeroed }
}

/// How the tensors of a whole model are rounded.
#[derive(Clone, Copy)]
struct Rounding<'a> {
    format: NumberFormat,
    /// In GGUF's layout, of this shape.
    gguf: Option<&'a DecoderSpec>,
}

/// All tensors of a whole model.
struct Rounded {
    tensors: BTreeMap<String, Tensor>,
    change: Change,
    bytes: u64,
}

impl Rounded {
    /// As the files would hold them; without a rounding as they are.
    fn all<M>(parts: &Parts<'_, M>, rounding: Option<Rounding<'_>>) -> Result<Self> {
        let (mut tensors, mut tally, mut bytes) = (BTreeMap::new(), Tally::default(), 0);
        for name in parts.merged.names() {
            let exact = parts.merged.read(&name)?;
            let values = match rounding {
                None => exact.data,
                Some(Rounding { format, gguf }) => {
                    let transpose = gguf.is_some_and(|spec| spec.family.naming().input_major(&name));
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
            let shape = parts.merged.shape(&name)?;
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
