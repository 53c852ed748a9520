//! Runs on disk as the window shows them: the list, everything about one, and deleting.
//!
//! A run that another process is writing is read up to its last complete line. Nothing here changes a run but [`delete`].

use crate::analysis::routing_stats::RouteCounts;
use crate::artifact::certificate::{self, Certificate};
use crate::artifact::recorder::{Line, RouteFile, read_lines, read_samples};
pub use crate::artifact::run_list::summary;
use crate::artifact::run_list::{RunList, RunProgress};
use crate::artifact::run_lock::is_locked;
use crate::artifact::{RunDir, checkpoint, run_dir};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::protocol::decimation::Decimated;
use crate::protocol::snapshots::{DistanceSample, RoutingSnapshot, RunDetail, RunSummary, StepBucket};
use crate::protocol::{Checkpoints, ExportReport, ExportTarget};
use crate::records::{EndRecord, EvalRecord, SampleRecord, StartRecord, TensorHealth};
use crate::tensor::NumberFormat;
use crate::workflow::snapshot::{self, Banks};
use std::fs;
use std::path::{Path, PathBuf};

/// Most buckets of a curve read from disk.
const CURVE: usize = 4096;
/// Most steps whose samples are read from disk.
const SAMPLES: usize = 512;
/// Last lines of the log that are shown.
const LOG_LINES: usize = 400;

/// What `metrics.jsonl` holds.
#[derive(Default)]
pub(crate) struct RecordedMetrics {
    pub(crate) progress: RunProgress,
    pub(crate) start: StartRecord,
    /// The steps after which the run was resumed, oldest first.
    pub(crate) resumed: Vec<u64>,
    /// The curves.
    pub(crate) history: Vec<StepBucket>,
    /// The evaluations.
    pub(crate) evals: Vec<EvalRecord>,
    /// The newest check of every trained tensor.
    pub(crate) gradient_health: Vec<TensorHealth>,
    pub(crate) end: Option<EndRecord>,
}

impl RecordedMetrics {
    /// Reads the record of a run; an absent file is empty.
    pub(crate) fn read(run: &RunDir) -> Result<Self> {
        let mut recorded = Self::default();
        let mut curve = Decimated::new(CURVE);
        let record = read_lines(&run.metrics())?;
        recorded.progress.add_damaged(record.damaged);
        for line in record.lines {
            recorded.progress.add(&line);
            match line {
                Line::Start { record, .. } => {
                    if record.first_step > 0 {
                        recorded.resumed.push(record.first_step);
                    }
                    recorded.start = record;
                    // A resumed run has not ended yet.
                    recorded.end = None;
                }
                Line::Step(record) => curve.push(StepBucket::of((&record).into())),
                Line::Eval(record) => recorded.evals.push(record),
                Line::TensorHealth(health) => {
                    // Each check replaces the one before.
                    recorded.gradient_health.retain(|old| old.step == health.step);
                    recorded.gradient_health.push(health);
                }
                Line::Checkpoint { .. } | Line::Unknown => {}
                Line::End { record, .. } => recorded.end = Some(*record),
            }
        }
        recorded.history = curve.take();
        Ok(recorded)
    }
}

/// All runs in a directory, the newest first; an empty name means the default directory. No directory, no runs.
pub fn list(known: &mut RunList, runs_dir: &str) -> Result<Vec<RunSummary>> {
    known.list(&RunDir::root(&RunConfig { runs_dir: runs_dir.to_owned(), ..RunConfig::default() })?)
}

/// Everything a run directory tells.
pub fn detail(dir: &Path) -> Result<RunDetail> {
    let running = is_locked(dir);
    let run = RunDir::open(dir)?;
    let recorded = RecordedMetrics::read(&run)?;
    let mut summary = RunSummary::new(&run, &recorded.progress, running);
    let sites = recorded.start.sites.clone();
    let routing = routing(&run, sites).unwrap_or_else(|err| {
        summary.problem.get_or_insert_with(|| err.to_string());
        None
    });
    // Where every one is damaged, none is best.
    let checkpoints = Checkpoints::of(&run)
        .or_else(|_| Ok::<_, Error>(Checkpoints { steps: checkpoint::list(&run)?, best: None }))?;
    Ok(RunDetail {
        summary,
        config: run.config().clone(),
        distances: distances(&run, &checkpoints.steps),
        checkpoints,
        log: log_lines(&run.events()),
        exports: exports(&run),
        routing,
        start: recorded.start,
        resumed: recorded.resumed,
        history: recorded.history,
        evals: recorded.evals,
        samples: samples(&run)?,
        gradient_health: recorded.gradient_health,
        end: recorded.end,
    })
}

/// The evaluations of a run, oldest first.
pub fn evaluations(dir: &Path) -> Result<Vec<EvalRecord>> {
    Ok(RecordedMetrics::read(&RunDir::open(dir)?)?.evals)
}

/// What a run's language model wrote on the way; thinned where it wrote very often.
pub(crate) fn samples(run: &RunDir) -> Result<Vec<SampleRecord>> {
    read_samples(&run.samples(), SAMPLES)
}

/// All routes of the run's log; nothing without a mixture, or before the first step.
pub(crate) fn route_counts(run: &RunDir, sites: Vec<String>, until: u64) -> Result<RouteCounts> {
    let mut counts = RouteCounts::new(&run.config().mixture, sites);
    if run.routes().is_file() {
        for record in RouteFile::open(&run.routes())? {
            let record = record?;
            if record.step > until {
                break;
            }
            counts.add(record.step, &record.route);
        }
    }
    Ok(counts)
}

fn routing(run: &RunDir, sites: Vec<String>) -> Result<Option<RoutingSnapshot>> {
    let routing = route_counts(run, sites, u64::MAX)?.snapshot();
    Ok((routing.step > 0).then_some(routing))
}

/// How far apart the experts were at each checkpoint. One that cannot be read (it may be going away right now) is left out.
pub(crate) fn distances(run: &RunDir, checkpoints: &[u64]) -> Vec<DistanceSample> {
    let banks = |&step: &u64| {
        let data = checkpoint::read(run, step).ok()?;
        Some((step, Banks::of_tensors(&data.tensors).ok().filter(|banks| !banks.is_empty())?))
    };
    let mut found = checkpoints.iter().filter_map(banks).peekable();
    let Some(start) = found.peek().and_then(|(_, banks)| banks.at_start_of(run).ok()) else { return Vec::new() };
    let later = found.filter(|(step, _)| *step > 0).map(|(step, now)| snapshot::distances(&now, &start, step));
    std::iter::once(snapshot::distances(&start, &start, 0)).chain(later).collect()
}

fn log_lines(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|&line| line.to_owned()).collect()
}

/// The exports in the run directory that have a certificate, by name.
fn exports(run: &RunDir) -> Vec<ExportReport> {
    let entries = fs::read_dir(run.exports()).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    dirs.sort();
    dirs.into_iter().filter_map(|dir| Some(export_report(certificate::read(&dir).ok()?, dir))).collect()
}

/// An export as its certificate in `dir` tells it.
fn export_report(certificate: Certificate, dir: PathBuf) -> ExportReport {
    let stored_as = certificate.stored_as.as_deref().and_then(NumberFormat::by_name);
    let dtype = stored_as.unwrap_or(certificate.dtype);
    ExportReport { target: certificate.target.unwrap_or(ExportTarget::Merged), dtype, dir, certificate }
}

/// Deletes a run with all its files, for good.
pub fn delete(dir: &Path) -> Result<()> {
    let (Some(root), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(Error::config(format!("not a run directory, so nothing was deleted: {}", dir.display())));
    };
    run_dir::delete(root, &name.to_string_lossy())
}
