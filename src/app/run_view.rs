//! The data of one run, live or opened from disk.

use super::history::History;
use crate::config::{LawChange, RunConfig, Task};
use crate::protocol::*;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

/// Distance samples kept; beyond it every second one is dropped.
const DISTANCES: usize = 512;
/// Steps whose samples are kept; beyond it every second one is dropped.
const SAMPLES: usize = 512;

/// Evaluations kept; beyond it every second one is dropped, but for the best and the last.
const EVALUATIONS: usize = 2048;

/// The data of one run.
#[expect(missing_docs, reason = "the names say what is not explained")]
#[derive(Clone, Debug, Default)]
pub struct RunView {
    pub dir: PathBuf,
    /// All settings, resolved.
    pub config: RunConfig,
    /// What was known at the start.
    pub start: StartRecord,
    pub history: History,
    pub evals: Vec<EvalRecord>,
    /// Texts that a language model generated during training, by step.
    pub samples: Vec<SampleRecord>,
    /// The newest gradient-health check.
    pub gradient_health: Vec<TensorHealth>,
    /// Distances between the experts over time.
    pub distances: Vec<DistanceSample>,
    /// Which expert runs where.
    pub routing: Option<Arc<RoutingSnapshot>>,
    pub experts: Option<Arc<ExpertSnapshot>>,
    /// Where the time of the last steps went (live runs).
    pub profile: Option<StepProfile>,
    /// How far the evaluation in progress is (live runs).
    pub evaluating: Option<EvalProgress>,
    /// The steps after which it was resumed, oldest first.
    pub resumed: Vec<u64>,
    /// Changes of the routing law, by step.
    pub laws: Vec<LawChange>,
    /// Whether its directory has a checkpoint to go on from and steps left (opened runs).
    pub resumable: bool,
    pub end: Option<EndRecord>,
    pub failure: Option<String>,
    /// The checkpoints it has.
    pub checkpoints: Checkpoints,
    /// Exports found in the run directory when it was opened.
    pub exports: Vec<ExportReport>,
    /// Merges that were given a name.
    pub merges: Vec<NamedMerge>,
    /// Lines of its log (opened runs).
    pub log: Vec<String>,
    /// Status of its directory (opened runs).
    pub status: Option<RunStatus>,
    /// The capsule that it was opened from; nothing can be written into it.
    pub capsule: Option<Box<Capsule>>,
}

impl RunView {
    /// A run read from its directory.
    pub fn opened(detail: RunDetail) -> Self {
        let mut view = Self {
            dir: detail.summary.dir,
            config: detail.config,
            start: detail.start,
            evals: detail.evals,
            samples: detail.samples,
            gradient_health: detail.gradient_health,
            distances: detail.distances,
            routing: detail.routing.map(Arc::new),
            end: detail.end,
            exports: detail.exports,
            merges: detail.merges,
            checkpoints: detail.checkpoints,
            log: detail.log,
            status: Some(detail.summary.status),
            resumed: detail.resumed,
            laws: detail.laws,
            resumable: detail.summary.resumable,
            capsule: detail.capsule,
            ..Self::default()
        };
        detail.history.iter().for_each(|bucket| view.history.push(bucket));
        view
    }

    /// Name of the run: its directory's.
    pub fn name(&self) -> String {
        self.dir.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.history.last.map_or(self.start.first_step, |sample| sample.step)
    }

    /// Share of the steps done, 0 to 1.
    pub fn progress(&self) -> f32 {
        if self.start.total_steps == 0 { 0.0 } else { self.step() as f32 / self.start.total_steps as f32 }
    }

    /// Expected remaining seconds of training at the current speed.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.start.total_steps.saturating_sub(self.step());
        self.history.seconds_per_step().map(|seconds| seconds * left as f64)
    }

    /// Name of the deciding metric.
    pub fn metric(&self) -> &str {
        if self.start.metric.is_empty() { "metric" } else { &self.start.metric }
    }

    /// The best evaluation so far, the first of equals: the one whose weights the run keeps.
    pub fn best_eval(&self) -> Option<&EvalRecord> {
        EvalRecord::best_of(&self.evals, self.start.higher_is_better)
    }

    /// The comparison made at the end.
    pub fn report(&self) -> Option<&EvalReport> {
        self.end.as_ref().and_then(|end| end.report.as_ref())
    }

    /// Whether its model is a language model.
    pub fn writes(&self) -> bool {
        self.config.data.task == Task::Text
    }

    /// Adds the samples of a step, replacing older ones of the same step. Beyond the limit every second one is dropped; the first is kept.
    pub fn push_samples(&mut self, record: SampleRecord) {
        self.samples.retain(|old| old.step != record.step);
        self.samples.push(record);
        thin(&mut self.samples, SAMPLES, true);
    }

    /// Adds an evaluation. Beyond the limit every second one is dropped, but for the best and the last.
    pub fn push_evaluation(&mut self, record: EvalRecord) {
        self.evals.push(record);
        if self.evals.len() > EVALUATIONS {
            let (best, last) = (self.best_eval().map(|eval| eval.step), self.evals.len());
            let mut n = 0;
            self.evals.retain(|eval| {
                n += 1;
                n % 2 == 1 || n == last || Some(eval.step) == best
            });
        }
    }

    /// Adds a distance sample. Beyond the limit every second one is dropped.
    pub fn push_distance(&mut self, sample: DistanceSample) {
        self.distances.push(sample);
        thin(&mut self.distances, DISTANCES, false);
    }
}

/// The events of a run that its plots mark, with their steps: the best evaluation, every resume, every change of the law.
pub fn marks(run: &RunView) -> Vec<(Cow<'static, str>, u64)> {
    let best = run.best_eval().map(|best| ("best evaluation".into(), best.step));
    let resumed = run.resumed.iter().map(|&step| ("resumed".into(), step));
    let laws = run.laws.iter().map(|change| (format!("law {}", change.law).into(), change.step));
    best.into_iter().chain(resumed).chain(laws).collect()
}

/// Drops every second entry of a list longer than `most`; the first stays, and with `keep_last` the last too.
fn thin<T>(list: &mut Vec<T>, most: usize, keep_last: bool) {
    let (mut index, last) = (0, list.len());
    if last > most {
        list.retain(|_| {
            index += 1;
            index % 2 == 1 || keep_last && index == last
        });
    }
}
