//! The list of runs: what each is, how far it came, how it ended.
//!
//! A run that another process is writing right now is read up to its last whole line. A damaged run is listed with
//! the reason; it never keeps the others from being listed.

use super::recorder::Line;
use super::recorder::lines::read_outline;
use super::run_dir::{RUN_FILE, RunDir};
use super::run_lock::is_locked;
use crate::error::{Error, Result};
use crate::model_store;
use crate::records::EndReason;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Some process is writing into it.
    Running,
    /// All steps done, or stopped early because the metric no longer improved.
    Finished,
    /// Somebody stopped it; it can go on.
    Stopped,
    /// The loss was no longer finite.
    Diverged,
    /// It ended without saying why: killed, or the machine went down. It can go on from its last checkpoint.
    Crashed,
    /// Its files cannot be understood; see [`RunSummary::problem`].
    Damaged,
}

/// A run in the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Directory name.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
    /// How it stands.
    pub status: RunStatus,
    /// What is wrong with it, in words.
    pub problem: Option<String>,
    /// The model, as in the settings.
    pub model: String,
    /// The task, as in the settings: `sst2`, `custom`...
    pub task: String,
    /// Steps done.
    pub steps: u64,
    /// Steps it was going to make; 0 when not known yet.
    pub total_steps: u64,
    /// Name of the deciding metric; empty when not known yet.
    pub metric: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Its best value so far.
    pub best: Option<f64>,
    /// When it was started, UTC; empty when not known yet.
    pub started: String,
    /// Size of all its files.
    pub bytes: u64,
}

/// All runs in `root`, the newest first. No directory, no runs.
pub fn list(root: &Path) -> Result<Vec<RunSummary>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(Error::io("reading a directory", root, err)),
    };
    let visible = |path: &PathBuf| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let paths = entries.flatten().map(|entry| entry.path()).filter(visible);
    let mut runs: Vec<RunSummary> =
        paths.filter(|path| path.join(RUN_FILE).exists()).map(|path| summary(&path)).collect();
    runs.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.name.cmp(&b.name)));
    Ok(runs)
}

/// One run as the list shows it.
pub fn summary(path: &Path) -> RunSummary {
    let mut summary = RunSummary {
        name: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        path: path.to_owned(),
        status: RunStatus::Crashed,
        problem: None,
        model: String::new(),
        task: String::new(),
        steps: 0,
        total_steps: 0,
        metric: String::new(),
        higher_is_better: true,
        best: None,
        started: String::new(),
        bytes: size(path),
    };
    // Asked before the files are read: a run that ends in between is shown as running for a moment, not as crashed.
    let running = is_locked(path);
    if let Err(err) = fill(&mut summary, path) {
        summary.status = RunStatus::Damaged;
        summary.problem = Some(err.to_string());
    } else if running {
        summary.status = RunStatus::Running;
    }
    summary
}

fn fill(summary: &mut RunSummary, path: &Path) -> Result<()> {
    let run = RunDir::open(path)?;
    summary.model = model_store::base_name(&run.config().model.path);
    if let Ok(serde_json::Value::String(task)) = serde_json::to_value(run.config().data.task) {
        summary.task = task;
    }
    let news = read_outline(&run.metrics())?;
    if news.damaged > 0 {
        summary.problem = Some(format!("{} lines of metrics.jsonl cannot be understood", news.damaged));
    }
    for line in news.lines {
        match line {
            Line::Start(time, record) => {
                if summary.started.is_empty() {
                    summary.started = time;
                }
                summary.total_steps = record.total_steps;
                summary.metric = record.metric;
                summary.higher_is_better = record.higher_is_better;
                summary.status = RunStatus::Crashed;
            }
            Line::Step(record) => summary.steps = summary.steps.max(record.step),
            Line::Eval(record) if record.best => summary.best = Some(record.merged.primary),
            Line::End(_, record) => {
                summary.steps = summary.steps.max(record.step);
                summary.status = match record.reason {
                    EndReason::Finished | EndReason::EarlyStopped => RunStatus::Finished,
                    EndReason::Stopped(_) => RunStatus::Stopped,
                    EndReason::Diverged { .. } => RunStatus::Diverged,
                };
            }
            Line::Eval(_) | Line::Lamp(_) | Line::Checkpoint(_) => {}
        }
    }
    Ok(())
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
