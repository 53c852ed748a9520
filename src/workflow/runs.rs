//! Runs on disk as the window shows them: the list, everything about one, and deleting.
//!
//! A run that another process is writing is read up to its last whole line. Nothing here changes a run but [`delete`].

use crate::artifact::certificate::{self, Certificate};
use crate::artifact::recorder::{Line, RouteFile, read_lines, read_samples};
use crate::artifact::{RunDir, checkpoint, run_dir, run_list};
use crate::config::RunConfig;
use crate::engine::mailbox::Buckets;
use crate::error::{Error, Result};
use crate::protocol::snapshots::{DistanceSample, RoutingSnapshot, RunDetail, RunStatus, RunSummary, StepBucket};
use crate::protocol::{ExportReport, ExportTarget};
use crate::tensor::NumberFormat;
use crate::train::observer::{EndRecord, EvalRecord, Lamp, SampleRecord, StartRecord};
use crate::workflow::snapshot;
use crate::workflow::snapshot::{Banks, Tally};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Most buckets of a curve read from disk.
const CURVE: usize = 4096;
/// Most steps whose samples are read from disk.
const SAMPLES: usize = 512;
/// Last lines of the log that are shown.
const LOG_LINES: usize = 400;

/// What `metrics.jsonl` tells.
#[derive(Default)]
pub(crate) struct Story {
    start: StartRecord,
    /// The curves.
    pub(crate) history: Vec<StepBucket>,
    /// The evaluations.
    pub(crate) evals: Vec<EvalRecord>,
    /// The newest check of every trained tensor.
    pub(crate) lamps: Vec<Lamp>,
    end: Option<EndRecord>,
}

impl Story {
    /// Reads the record of a run; an absent file is an empty story.
    pub(crate) fn read(run: &RunDir) -> Result<Self> {
        let mut story = Self::default();
        let mut curve = Buckets::new(CURVE);
        for line in read_lines(&run.metrics())?.lines {
            match line {
                Line::Start(_, record) => {
                    story.start = record;
                    // A resumed run has not ended yet.
                    story.end = None;
                }
                Line::Step(record) => curve.push((&record).into()),
                Line::Eval(record) => story.evals.push(record),
                Line::Lamp(lamp) => {
                    // Each check replaces the one before.
                    story.lamps.retain(|old| old.step == lamp.step);
                    story.lamps.push(lamp);
                }
                Line::Checkpoint(_) => {}
                Line::End(_, record) => story.end = Some(*record),
            }
        }
        story.history = curve.take();
        Ok(story)
    }
}

/// All runs in a directory, the newest first; an empty name means the default directory. No directory, no runs.
pub fn list(runs_dir: &str) -> Result<Vec<RunSummary>> {
    let root = RunDir::root(&RunConfig { runs_dir: runs_dir.to_owned(), ..RunConfig::default() })?;
    Ok(run_list::list(&root)?.into_iter().map(from_list).collect())
}

/// One run as the list shows it. A run that cannot be read says why.
pub fn summary(dir: &Path) -> RunSummary {
    from_list(run_list::summary(dir))
}

fn from_list(run: run_list::RunSummary) -> RunSummary {
    let status = match run.status {
        run_list::RunStatus::Running => RunStatus::Running,
        run_list::RunStatus::Finished => RunStatus::Finished,
        run_list::RunStatus::Stopped => RunStatus::Stopped,
        run_list::RunStatus::Crashed => RunStatus::Interrupted,
        run_list::RunStatus::Diverged | run_list::RunStatus::Damaged => RunStatus::Failed,
    };
    let opened = RunDir::open(&run.path).ok();
    let method = opened.as_ref().and_then(|dir| word(dir.config().model.method));
    let checkpoints = opened.as_ref().and_then(|dir| checkpoint::list(dir).ok()).unwrap_or_default();
    let unfinished = matches!(status, RunStatus::Interrupted | RunStatus::Stopped);
    RunSummary {
        name: run.name,
        status,
        model: run.model,
        task: run.task,
        method: method.unwrap_or_default(),
        created: seconds_since_1970(&run.started).unwrap_or(0),
        step: run.steps,
        total_steps: run.total_steps,
        metric: run.metric,
        best: run.best,
        seconds: opened.map_or(0.0, |dir| training_seconds(&dir.metrics())),
        bytes: run.bytes,
        resumable: unfinished && !checkpoints.is_empty() && run.steps < run.total_steps,
        problem: run.problem,
        dir: run.path,
    }
}

/// A choice as settings files spell it.
fn word(choice: impl Serialize) -> Option<String> {
    serde_json::to_value(choice).ok()?.as_str().map(str::to_owned)
}

/// Seconds of all steps and evaluations, picked out of the lines without reading them whole: lists must be quick.
fn training_seconds(metrics: &Path) -> f64 {
    let text = fs::read_to_string(metrics).unwrap_or_default();
    let counted = |line: &&str| line.starts_with("{\"event\":\"step\"") || line.starts_with("{\"event\":\"eval\"");
    let seconds = |line: &str| {
        let (_, rest) = line.rsplit_once("\"seconds\":")?;
        rest.split([',', '}']).next()?.parse::<f64>().ok()
    };
    text.lines().filter(counted).filter_map(seconds).sum()
}

/// Everything a run directory tells.
pub fn detail(dir: &Path) -> Result<RunDetail> {
    let mut summary = summary(dir);
    let run = RunDir::open(dir)?;
    let story = Story::read(&run)?;
    let sites = story.start.sites.clone();
    let routing = routing(&run, sites).unwrap_or_else(|err| {
        summary.problem.get_or_insert_with(|| err.to_string());
        None
    });
    let checkpoints = checkpoint::list(&run)?;
    Ok(RunDetail {
        summary,
        config: run.config().clone(),
        distances: distances(&run, &checkpoints),
        checkpoints,
        log: log_lines(&run.events()),
        exports: exports(&run),
        routing,
        start: story.start,
        history: story.history,
        evals: story.evals,
        samples: samples(&run)?,
        lamps: story.lamps,
        end: story.end,
    })
}

/// What a run's language model wrote on the way; thinned where it wrote very often.
pub(crate) fn samples(run: &RunDir) -> Result<Vec<SampleRecord>> {
    read_samples(&run.samples(), SAMPLES)
}

/// All routes of the run's log; nothing without a mixture, or before the first step.
pub(crate) fn tally(run: &RunDir, sites: Vec<String>, until: u64) -> Result<Tally> {
    let mut tally = Tally::new(&run.config().mixture, sites);
    if run.routes().is_file() {
        for record in RouteFile::open(&run.routes())? {
            let record = record?;
            if record.step > until {
                break;
            }
            tally.add(record.step, &record.route);
        }
    }
    Ok(tally)
}

fn routing(run: &RunDir, sites: Vec<String>) -> Result<Option<RoutingSnapshot>> {
    let routing = tally(run, sites, u64::MAX)?.snapshot();
    Ok((routing.step > 0).then_some(routing))
}

/// How far apart the experts were at each checkpoint. One that cannot be read (it may be going away right now) is left out.
pub(crate) fn distances(run: &RunDir, checkpoints: &[u64]) -> Vec<DistanceSample> {
    let sample = |&step: &u64| {
        let data = checkpoint::read(run, step).ok()?;
        let now = Banks::of_tensors(&data.tensors).ok().filter(|banks| !banks.is_empty())?;
        let start = now.at_start(run.config());
        Some((snapshot::distances(&start, &start, 0), snapshot::distances(&now, &start, step)))
    };
    let mut all = Vec::new();
    for (start, now) in checkpoints.iter().filter_map(sample) {
        if all.is_empty() {
            all.push(start);
        }
        all.push(now);
    }
    all
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

/// Reads a time such as `2026-03-01T07:04:09Z`.
fn seconds_since_1970(stamp: &str) -> Option<u64> {
    let mut numbers = stamp.strip_suffix('Z')?.split(['-', 'T', ':']).map(|part| part.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years counted from March, so that the leap day is a year's last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::utc;

    #[test]
    fn times_are_read_as_they_are_written() {
        for seconds in [0u64, 951_782_399, 951_782_400, 1_709_164_800, 1_772_348_649, 4_107_542_399] {
            assert_eq!(seconds_since_1970(&utc::stamp(seconds as f64)), Some(seconds));
        }
        for wrong in ["", "2026-03-01", "2026-13-01T00:00:00Z", "1960-01-01T00:00:00Z", "x"] {
            assert_eq!(seconds_since_1970(wrong), None, "{wrong:?}");
        }
    }
}
