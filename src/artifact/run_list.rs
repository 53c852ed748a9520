//! The list of runs: what each is, how far it came, how it ended.
//!
//! A run that another process is writing is read up to its last complete line. A damaged run is listed with the reason and
//! does not keep the others from being listed. A [`RunList`] remembers what it has read: after the first listing only the
//! lines that were appended to a run's record are read, and of a long record the first listing reads its index.

use super::recorder::Tail;
use super::run_dir::{RUN_FILE, RunDir};
use super::run_label::RunLabel;
use super::run_lock::is_locked;
pub use super::run_progress::{RunProgress, RunStatus};
use super::{checkpoint, recorded};
use crate::config::{choice_name, model_id};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A run in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunSummary {
    /// The run directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// What people call it and wrote about it.
    pub label: RunLabel,
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

    /// What people call it: its own name unless they gave it another one.
    pub fn title(&self) -> &str {
        if self.label.title.is_empty() { &self.name } else { &self.label.title }
    }

    fn of_dir(dir: &Path) -> Self {
        let name = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self { dir: dir.to_owned(), name, label: RunLabel::read(dir), bytes: size(dir), ..Self::default() }
    }
}

/// What was read of a run.
#[derive(Debug)]
struct KnownRun {
    /// Length and time of the settings file that [`KnownRun::run`] was read from.
    read_from: Option<(u64, SystemTime)>,
    run: std::result::Result<RunDir, String>,
    /// The record as far as it was read; absent: not at all.
    record: Option<(Tail, RunProgress)>,
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
            let progress = update(&mut self.record, &run.metrics(), bytes_read).map_err(|err| err.to_string())?;
            Ok(RunSummary::new(run, progress, running))
        });
        read.unwrap_or_else(|problem| RunSummary {
            status: RunStatus::Damaged,
            problem: Some(problem),
            ..RunSummary::of_dir(dir)
        })
    }
}

/// Reads what is new in the record at `path`.
fn update<'a>(
    record: &'a mut Option<(Tail, RunProgress)>,
    path: &Path,
    bytes_read: &mut u64,
) -> Result<&'a RunProgress> {
    let known = match record.take() {
        Some((mut tail, mut progress)) => {
            let new = tail.appended()?;
            *bytes_read += new.bytes.len() as u64;
            new.lines().for_each(|line| progress.add_text(line));
            (!new.restarted).then_some((tail, progress))
        }
        None => None,
    };
    let known = match known {
        Some(known) => known,
        None => {
            let read = recorded::read(path)?;
            *bytes_read += read.bytes_read;
            (read.tail, read.metrics.progress)
        }
    };
    Ok(&record.insert(known).1)
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
            record: None,
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
