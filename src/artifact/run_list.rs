//! The list of runs: what each is, how far it came, how it ended.
//!
//! A run that another process is writing is read up to its last complete line. A damaged run is listed with the reason and
//! does not keep the others from being listed. A [`RunList`] remembers what it has read: after the first listing only the
//! lines that were appended to a run's record are read.

use super::checkpoint;
use super::recorder::{Line, Tail};
use super::run_dir::{METRICS_FILE, RUN_FILE, RunDir};
use super::run_lock::is_locked;
use super::utc;
use crate::config::{choice_name, model_id};
use crate::error::{Error, Result};
use crate::records::EndReason;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunStatus {
    /// Some process is writing into it.
    Running,
    /// All steps done, or stopped early because the metric no longer improved.
    Finished,
    /// The user stopped it; it can be resumed.
    Stopped,
    /// The loss was no longer finite.
    Diverged,
    /// Its record has no end: killed, or the machine went down. It can be resumed from its last checkpoint.
    #[default]
    Interrupted,
    /// Its files cannot be read; see [`RunSummary::problem`].
    Damaged,
}

/// A run in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunSummary {
    /// The run directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub status: RunStatus,
    /// The model, as in the settings, without the directories of a path.
    pub model: String,
    /// The task, as in the settings: `sst2`, `custom`...
    pub task: String,
    /// The method, as in the settings: `adamix`...
    pub method: String,
    /// When it was started, seconds since 1970; 0 when not known yet.
    pub created: u64,
    /// Steps done.
    pub step: u64,
    /// Steps planned; 0 when not known yet.
    pub total_steps: u64,
    /// Name of the deciding metric; empty when not known yet.
    pub metric: String,
    /// Best value of the deciding metric.
    pub best: Option<f64>,
    /// Seconds of all steps and evaluations.
    pub seconds: f64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Whether it has a checkpoint to go on from and steps left.
    pub resumable: bool,
    /// Why its files cannot be read, or not completely.
    pub problem: Option<String>,
}

impl RunSummary {
    /// Of an opened run; `running`: whether a process was writing it before its record was read.
    pub fn new(run: &RunDir, progress: &RunProgress, running: bool) -> Self {
        let RunProgress { created, step, total_steps, best, seconds, damaged, .. } = *progress;
        let status = if running { RunStatus::Running } else { progress.ended.unwrap_or_default() };
        let unfinished = matches!(status, RunStatus::Interrupted | RunStatus::Stopped) && step < total_steps;
        let config = run.config();
        Self {
            status,
            model: model_id::base_name(&config.model.path),
            task: choice_name(config.data.task),
            method: choice_name(config.model.method),
            created,
            step,
            total_steps,
            metric: progress.metric.clone(),
            best,
            seconds,
            resumable: unfinished && checkpoint::list(run).is_ok_and(|steps| !steps.is_empty()),
            problem: (damaged > 0).then(|| format!("{damaged} lines of metrics.jsonl cannot be read")),
            ..Self::of_dir(run.path())
        }
    }

    fn of_dir(dir: &Path) -> Self {
        let name = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self { dir: dir.to_owned(), name, bytes: size(dir), ..Self::default() }
    }
}

/// How far a run came, taken from its record line by line.
#[derive(Clone, Debug, Default)]
pub struct RunProgress {
    created: u64,
    step: u64,
    total_steps: u64,
    metric: String,
    best: Option<f64>,
    seconds: f64,
    ended: Option<RunStatus>,
    damaged: usize,
}

/// The fields of a step that the list needs; the others are skipped without being read.
#[derive(Deserialize)]
struct StepOutline<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    step: u64,
    seconds: f64,
}

impl RunProgress {
    /// Takes the next line of the record.
    pub fn add(&mut self, line: &Line) {
        match line {
            Line::Start { time, record } => {
                if self.created == 0 {
                    self.created = utc::parse(time).unwrap_or(0);
                }
                self.total_steps = record.total_steps;
                self.metric.clone_from(&record.metric);
                // A resumed run has not ended yet.
                self.ended = None;
            }
            Line::Step(record) => self.add_step(record.step, record.seconds),
            Line::Eval(record) => {
                self.seconds += record.seconds;
                if record.best {
                    self.best = Some(record.merged.primary);
                }
            }
            Line::End { record, .. } => {
                self.step = self.step.max(record.step);
                self.ended = Some(match record.reason {
                    EndReason::Finished | EndReason::EarlyStopped => RunStatus::Finished,
                    EndReason::Stopped(_) => RunStatus::Stopped,
                    EndReason::Diverged { .. } => RunStatus::Diverged,
                });
            }
            Line::TensorHealth(_) | Line::Checkpoint { .. } | Line::Unknown => {}
        }
    }

    /// Counts complete lines that cannot be read.
    pub fn add_damaged(&mut self, lines: usize) {
        self.damaged += lines;
    }

    fn add_step(&mut self, step: u64, seconds: f64) {
        self.step = self.step.max(step);
        self.seconds += seconds;
    }

    fn add_text(&mut self, line: &[u8]) {
        match serde_json::from_slice::<StepOutline<'_>>(line) {
            Ok(outline) if outline.event == "step" => self.add_step(outline.step, outline.seconds),
            _ => match Line::parse(line) {
                Ok(line) => self.add(&line),
                Err(_) => self.damaged += 1,
            },
        }
    }
}

/// What was read of a run.
#[derive(Debug)]
struct KnownRun {
    /// Length and time of the settings file that [`KnownRun::run`] was read from.
    read_from: Option<(u64, SystemTime)>,
    run: std::result::Result<RunDir, String>,
    tail: Tail,
    progress: RunProgress,
}

impl KnownRun {
    fn summary(&mut self, dir: &Path, bytes_read: &mut u64) -> RunSummary {
        // Asked before the files are read: a run that ends in between is shown as running for a moment, not as interrupted.
        let running = is_locked(dir);
        let stamp = fs::metadata(dir.join(RUN_FILE)).ok().and_then(|meta| Some((meta.len(), meta.modified().ok()?)));
        if stamp.is_none() || stamp != self.read_from {
            self.run = RunDir::open(dir).map_err(|err| err.to_string());
            self.read_from = stamp;
        }
        let read = self.run.as_ref().map_err(String::clone).and_then(|run| {
            let new = self.tail.appended().map_err(|err| err.to_string())?;
            if new.restarted {
                self.progress = RunProgress::default();
            }
            *bytes_read += new.bytes.len() as u64;
            new.lines().for_each(|line| self.progress.add_text(line));
            Ok(RunSummary::new(run, &self.progress, running))
        });
        read.unwrap_or_else(|problem| RunSummary {
            status: RunStatus::Damaged,
            problem: Some(problem),
            ..RunSummary::of_dir(dir)
        })
    }
}

/// The runs of a directory, and what was read of them so far.
#[derive(Debug, Default)]
pub struct RunList {
    known: BTreeMap<PathBuf, KnownRun>,
    bytes_read: u64,
}

impl RunList {
    /// All runs in `root`, the newest first. No directory, no runs.
    pub fn list(&mut self, root: &Path) -> Result<Vec<RunSummary>> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(Error::io("reading a directory", root, err)),
        };
        let visible = |path: &PathBuf| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let paths = entries.flatten().map(|entry| entry.path()).filter(visible);
        let paths: Vec<PathBuf> = paths.filter(|path| path.join(RUN_FILE).exists()).collect();
        self.known.retain(|path, _| paths.contains(path));
        let mut runs: Vec<RunSummary> = paths.iter().map(|path| self.summary(path)).collect();
        runs.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
        Ok(runs)
    }

    /// One run as the list shows it. A run that cannot be read says why.
    pub fn summary(&mut self, dir: &Path) -> RunSummary {
        let known = self.known.entry(dir.to_owned()).or_insert_with(|| KnownRun {
            read_from: None,
            run: Err(String::new()),
            tail: Tail::new(dir.join(METRICS_FILE)),
            progress: RunProgress::default(),
        });
        known.summary(dir, &mut self.bytes_read)
    }

    /// Bytes of run records read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

/// One run as the list shows it, read once.
pub fn summary(dir: &Path) -> RunSummary {
    RunList::default().summary(dir)
}

/// Bytes of all files below `dir`; what cannot be read counts nothing, links are not followed.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    });
    sizes.sum()
}
