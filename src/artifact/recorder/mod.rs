//! The record of a run: what training tells the world, on disk, as it happens.
//!
//! A [`Recorder`] appends to `metrics.jsonl` ([`lines`]), `routes.bin` ([`routes`]), `samples.jsonl` ([`samples`],
//! language models only), `events.log` (for people: a UTC time and a sentence) and a TensorBoard event file ([`tensorboard`]). It never stops training: what cannot
//! be written waits in memory and is tried again, and [`Recorder::take_problems`] says so once.
//!
//! To go on from a checkpoint at step N, [`Recorder::resume`] first cuts everything after N from `metrics.jsonl`,
//! `samples.jsonl` and `routes.bin`, so that the finished files equal those of a run that was never interrupted, but for times and
//! durations. For that to hold at N itself, tell the recorder of a checkpoint *before* it is written: then a
//! checkpoint that exists has its line.

mod crc32c;
pub mod lines;
pub mod one_step;
pub mod routes;
pub mod samples;
mod sink;
mod step_line;
pub mod tensorboard;

pub use crc32c::{crc32c, masked};
pub(super) use lines::for_each_line;
pub use lines::{Line, News, Tail, read_lines};
pub use one_step::RecordedStep;
pub use routes::{RouteFile, RouteRecord};
pub use samples::read_samples;

use super::{RunDir, utc};
use crate::atomic::write_file_with;
use crate::config::LawChange;
use crate::error::{Context as _, Error, ErrorKind, Result};
use crate::records::{
    EndReason, EndRecord, EvalRecord, HealthState, SampleRecord, StartRecord, StepRecord, TensorHealth,
};
use sink::Sink;
use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

/// Appends what happens to the files of a run. One at a time per run: hold its [`super::run_lock::RunLock`].
#[derive(Debug)]
pub struct Recorder {
    metrics: Sink,
    routes: Sink,
    samples: Sink,
    log: Sink,
    board: Sink,
    problems: Vec<String>,
    metric: String,
    /// The start line already in the file, when this is a resumed run.
    started: Option<StartRecord>,
    /// The step of the last samples in the file.
    sampled: Option<u64>,
}

impl Recorder {
    /// Starts the record of a run that has none yet.
    pub fn create(run: &RunDir) -> Result<Self> {
        Self::resume(run, 0)
    }

    /// Goes on after `step` steps: cuts what came later and appends from there.
    pub fn resume(run: &RunDir, step: u64) -> Result<Self> {
        truncate_after(run, step)?;
        let mut recorder = Self {
            metrics: Sink::new(run.metrics()),
            routes: Sink::new(run.routes()),
            samples: Sink::new(run.samples()),
            log: Sink::new(run.events()),
            board: Sink::new(new_board(run.path())),
            problems: Vec::new(),
            metric: String::new(),
            started: last_start(&run.metrics())?,
            sampled: read_samples(&run.samples(), usize::MAX)?.last().map(|record| record.step),
        };
        if !run.routes().is_file() {
            recorder.send_route(&routes::MAGIC);
        }
        let goes_on = last_board(run.path()).is_some();
        recorder.send_board(&tensorboard::first(utc::now()));
        if goes_on {
            recorder.send_board(&tensorboard::restart(utc::now(), step + 1));
        }
        if step > 0 {
            recorder.note(&format!("{GOES_ON}{step}"));
        }
        Ok(recorder)
    }

    /// Training begins. A resumed run that repeats what its file says already adds nothing to it.
    pub fn start(&mut self, record: &StartRecord) {
        record.metric.clone_into(&mut self.metric);
        let same = StartRecord { first_step: 0, device: String::new(), threads: 0, ..record.clone() };
        let known =
            self.started.take().map(|old| StartRecord { first_step: 0, device: String::new(), threads: 0, ..old });
        if known != Some(same) {
            self.line(&Line::Start { time: utc::stamp(utc::now()), record: record.clone() });
        }
        let StartRecord { first_step, total_steps, train_rows, trained_parameters, device, threads, .. } = record;
        self.note(&format!(
            "training from step {first_step} to {total_steps} on {train_rows} rows, {trained_parameters} trained parameters, {device}, {threads} threads"
        ));
    }

    /// From this step on routes are drawn by another law.
    pub fn law(&mut self, change: &LawChange) {
        self.line(&Line::Law(*change));
        self.note(&format!("step {}: routes are drawn {} from here on", change.step, change.law));
    }

    /// A step is done.
    pub fn step(&mut self, record: &StepRecord) {
        for (micro_batch, route) in record.routes.iter().enumerate() {
            self.send_route(&routes::encode(record.step, micro_batch as u32, route));
        }
        self.line(&Line::Step(record.clone()));
        let scalars = [
            ("train/loss", record.loss),
            ("train/task_loss", record.task_loss),
            ("train/consistency", record.consistency_loss),
            ("train/learning_rate", record.learning_rate),
            ("train/grad_norm", record.grad_norm),
            ("train/epoch", record.epoch),
        ];
        self.send_board(&tensorboard::scalars(utc::now(), record.step, &scalars));
    }

    /// An evaluation is done.
    pub fn eval(&mut self, record: &EvalRecord) {
        self.line(&Line::Eval(record.clone()));
        let scores = &record.merged;
        let named = scores.named().into_iter().filter_map(|(name, value)| Some((format!("eval/{name}"), value?)));
        let tags: Vec<(String, f64)> = named.collect();
        let scalars: Vec<(&str, f64)> = tags.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.send_board(&tensorboard::scalars(utc::now(), record.step, &scalars));
        let best = if record.best { ", the best so far" } else { "" };
        let name = if self.metric.is_empty() { "score" } else { self.metric.as_str() };
        self.note(&format!("step {}: {name} {:.4}, loss {:.4}{best}", record.step, scores.primary, scores.loss));
    }

    /// Samples were written. Those that the file has already (a resumed run writes them again) add nothing to it.
    pub fn samples(&mut self, record: &SampleRecord) {
        if self.sampled.is_some_and(|step| step >= record.step) {
            return;
        }
        self.sampled = Some(record.step);
        self.problems.extend(match samples::to_json(record) {
            Ok(json) => self.samples.send(format!("{json}\n").as_bytes()),
            Err(err) => Some(err.to_string()),
        });
    }

    /// Tensors were checked.
    pub fn gradient_health(&mut self, gradient_health: &[TensorHealth]) {
        for health in gradient_health {
            self.line(&Line::TensorHealth(health.clone()));
            if matches!(health.state, HealthState::Dead | HealthState::Exploding) {
                let what = if health.state == HealthState::Dead { "does not learn" } else { "changes too fast" };
                let expert = health.expert.map_or_else(String::new, |expert| format!(", expert {expert}"));
                self.note(&format!("step {}: {}{expert} {what}", health.step, health.tensor));
            }
        }
    }

    /// A checkpoint is about to be written.
    pub fn checkpoint(&mut self, step: u64, best: bool) {
        self.line(&Line::Checkpoint { step, best });
        self.note(&format!("step {step}: checkpoint{}", if best { ", the best so far" } else { "" }));
        self.sync();
    }

    /// Training is over.
    pub fn end(&mut self, record: &EndRecord) {
        self.line(&Line::End { time: utc::stamp(utc::now()), record: Box::new(record.clone()) });
        let why = match &record.reason {
            EndReason::Finished => "finished".to_owned(),
            EndReason::EarlyStopped => "stopped early, the metric no longer improves".to_owned(),
            EndReason::Stopped(reason) => format!("stopped: {reason}"),
            EndReason::Diverged { step, last_checkpoint } => {
                let last = last_checkpoint.as_deref().unwrap_or("none was written");
                format!("the loss was not finite at step {step}; last good checkpoint: {last}")
            }
        };
        self.note(&format!("step {}: {why}", record.step));
        self.sync();
    }

    /// A sentence for people, into `events.log`.
    pub fn note(&mut self, text: &str) {
        let line = format!("{} {}\n", utc::stamp(utc::now()), text.replace(['\n', '\r'], " "));
        self.problems.extend(self.log.send(line.as_bytes()));
    }

    /// Brings everything to the disk itself, not only to the system.
    pub fn sync(&mut self) {
        for sink in [&mut self.metrics, &mut self.routes, &mut self.samples, &mut self.log, &mut self.board] {
            self.problems.extend(sink.sync());
        }
    }

    /// What went wrong with writing, or right again, since the last call; each once, in words.
    pub fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    fn line(&mut self, line: &Line) {
        self.problems.extend(match line.to_json() {
            Ok(json) => self.metrics.send(format!("{json}\n").as_bytes()),
            Err(err) => Some(err.to_string()),
        });
    }

    fn send_route(&mut self, record: &[u8]) {
        self.problems.extend(self.routes.send(record));
    }

    fn send_board(&mut self, record: &[u8]) {
        self.problems.extend(self.board.send(record));
    }
}

/// Begins the sentence in the log for people that a resumed run writes; the step follows.
const GOES_ON: &str = "goes on from step ";

/// The steps after which a run was resumed, ascending, as its log tells; each step once. `metrics.jsonl` does not tell: it
/// is the same as if the run had never been interrupted.
pub fn resumed_steps(run: &RunDir) -> Vec<u64> {
    let log = fs::read(run.events()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    // After a time and a space; a note may say anything, so the sentence must be whole.
    let step = |line: &str| line.split_once(' ')?.1.strip_prefix(GOES_ON)?.parse().ok();
    let mut steps: Vec<u64> = log.lines().filter_map(step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Cuts from `metrics.jsonl`, `samples.jsonl` and `routes.bin` what came after `step` steps, an incomplete tail, and the
/// end of an earlier attempt. Files that do not exist, or that are something else than files, are left alone.
pub fn truncate_after(run: &RunDir, step: u64) -> Result<()> {
    let doing = || format!("cutting the record back to step {step}");
    if run.metrics().is_file() {
        let keep = |line: &[u8]| {
            let until = match Line::parse(line) {
                Ok(Line::Start { .. }) => 0,
                Ok(Line::Law(change)) => change.step,
                Ok(Line::Step(record)) => record.step,
                Ok(Line::Eval(record)) => record.step,
                Ok(Line::TensorHealth(record)) => record.step,
                Ok(Line::Checkpoint { step, .. }) => step,
                Ok(Line::End { .. } | Line::Unknown) | Err(_) => return false,
            };
            until <= step && line.ends_with(b"\n")
        };
        truncate_lines(&run.metrics(), &keep).with_context(doing)?;
    }
    if run.samples().is_file() {
        let keep = |line: &[u8]| samples::step_of(line).is_some_and(|of| of <= step);
        truncate_lines(&run.samples(), &keep).with_context(doing)?;
    }
    if run.routes().is_file() {
        truncate_routes(&run.routes(), step).with_context(doing)?;
    }
    Ok(())
}

fn truncate_lines(path: &Path, keep: &dyn Fn(&[u8]) -> bool) -> Result<()> {
    let failed = |err| Error::io("reading", path, err);
    let mut file = File::open(path).map_err(failed)?;
    let mut complete = true;
    let all = |line: &[u8]| {
        complete = complete && keep(line);
        Ok(())
    };
    for_each_line(&mut file, all, failed)?;
    if complete {
        return Ok(());
    }
    file.rewind().map_err(failed)?;
    write_file_with(path, |out| {
        let put = |line: &[u8]| {
            let kept = if keep(line) { out.write_all(line) } else { Ok(()) };
            kept.map_err(|err| Error::io("writing", path, err))
        };
        for_each_line(&mut file, put, failed)
    })
}

/// The last start in a record.
fn last_start(path: &Path) -> Result<Option<StartRecord>> {
    let failed = |err| Error::io("reading", path, err);
    let mut file = match File::open(path) {
        Ok(file) if file.metadata().map_err(failed)?.is_file() => file,
        Ok(_) => return Ok(None),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(failed(err)),
    };
    let mut last = None;
    let take = |line: &[u8]| {
        if line.ends_with(b"\n")
            && let Ok(Line::Start { record, .. }) = Line::parse(line)
        {
            last = Some(record);
        }
        Ok(())
    };
    for_each_line(&mut file, take, failed)?;
    Ok(last)
}

fn truncate_routes(path: &Path, step: u64) -> Result<()> {
    let failed = |err| Error::io("cutting", path, err);
    let length = fs::metadata(path).map_err(failed)?.len();
    if length < routes::MAGIC.len() as u64 {
        return fs::remove_file(path).map_err(failed); // killed in its first instant
    }
    let kept = match RouteFile::open(path) {
        Ok(file) => file.length_until(step)?,
        Err(err) if err.kind() == ErrorKind::Format => {
            // Routes can be drawn again from the seed; a damaged file must not keep anybody from going on.
            log::warn!("{err}; it is kept as routes.damaged.bin and a new one is begun");
            return fs::rename(path, path.with_file_name("routes.damaged.bin")).map_err(failed);
        }
        Err(err) => return Err(err),
    };
    if kept < length {
        let file = File::options().write(true).open(path).map_err(failed)?;
        file.set_len(kept).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(())
}

const BOARD_PREFIX: &str = "events.out.tfevents.";

/// A name for a new event file that sorts after those already there: TensorBoard reads them in that order.
fn new_board(dir: &Path) -> PathBuf {
    let secs = (utc::now() as u64).max(last_board(dir).map_or(0, |last| last + 1));
    dir.join(format!("{BOARD_PREFIX}{secs:010}.{}.{}.0", host_name(), std::process::id()))
}

/// The time in the name of the newest event file.
fn last_board(dir: &Path) -> Option<u64> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let time = |name: String| name.strip_prefix(BOARD_PREFIX)?.split('.').next()?.parse().ok();
    names.filter_map(|entry| entry.file_name().into_string().ok().and_then(time)).max()
}

fn host_name() -> String {
    let name = fs::read_to_string("/etc/hostname").ok().or_else(|| std::env::var("COMPUTERNAME").ok());
    let plain: String =
        name.unwrap_or_default().trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if plain.is_empty() { "localhost".to_owned() } else { plain }
}
