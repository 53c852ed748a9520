//! How long commands are followed: a bar on a terminal, plain lines in a pipe, events with `--json`.

use super::out;
use crate::config::LawChange;
use crate::format;
use crate::records::{CheckpointData, EvalRecord, HealthState, SampleRecord, StartRecord, StepRecord, TensorHealth};
use crate::train::observer::{Evaluating, Observer};
use crate::train::trainer::Trainer;
use indicatif::ProgressBar;
use serde_json::json;
use std::path::PathBuf;

/// Most characters of a sample on the terminal.
const SAMPLE: usize = 160;

/// Where the events of a long command go.
pub enum Sink {
    /// One JSON object a line on stdout.
    Events,
    /// A bar on stderr.
    Bar(ProgressBar),
    /// A few lines on stderr.
    Lines,
    /// Nowhere.
    Silent,
}

impl Sink {
    /// A bar has this template.
    pub fn new(json: bool, quiet: bool, template: &str) -> Self {
        match (json, quiet, out::is_watched()) {
            (true, _, _) => Self::Events,
            (_, true, _) => Self::Silent,
            (_, _, true) => Self::Bar(out::bar(template)),
            _ => Self::Lines,
        }
    }

    /// A line for people, above the bar.
    pub fn say(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| out::note(text)),
            Self::Lines => out::note(text),
            Self::Events | Self::Silent => {}
        }
    }

    /// An event for programs. A full disk behind stdout must not end the work, so failures are left to the last line.
    pub fn event(&self, name: &str, value: &impl serde::Serialize) {
        if matches!(self, Self::Events) {
            out::event(name, value).ok();
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Reports the progress of a training.
pub struct Progress {
    pub sink: Sink,
    /// What was known at the start.
    pub start: StartRecord,
    run_dir: PathBuf,
    /// Seconds and steps since the start, for the estimate of the time left.
    seconds: f64,
    done: u64,
}

impl Progress {
    /// For a run in this directory.
    pub fn new(json: bool, quiet: bool, run_dir: PathBuf) -> Self {
        let sink = Sink::new(json, quiet, "{bar:30} {pos}/{len} {wide_msg}");
        Self { sink, start: StartRecord::default(), run_dir, seconds: 0.0, done: 0 }
    }
}

impl Observer for Progress {
    fn on_start(&mut self, record: &StartRecord) {
        self.start = record.clone();
        if let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(record) {
            fields.insert("run_dir".to_owned(), self.run_dir.display().to_string().into());
            self.sink.event("start", &fields);
        }
        if let Sink::Bar(bar) = &self.sink {
            bar.set_length(record.total_steps);
            bar.set_position(record.first_step);
        }
        self.sink.say(&format!(
            "{} steps on {} rows, {} parameters, {} with {} threads",
            format::count(record.total_steps - record.first_step),
            format::count(record.train_rows),
            format::count(record.trained_parameters),
            record.device,
            record.threads
        ));
    }

    fn on_law(&mut self, change: &LawChange) {
        self.sink.event("law", change);
        self.sink.say(&format!("step {}: routes are drawn {} from here on", change.step, change.law));
    }

    fn on_evaluating(&mut self, _trainer: &Trainer, progress: Evaluating) {
        if let Sink::Bar(bar) = &self.sink {
            let what = if progress.comparison { "comparing merged and unmerged" } else { "evaluating" };
            bar.set_message(format!("{what}: {:.0} %", 100.0 * progress.share));
        }
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.sink.event("step", record);
        self.seconds += record.seconds;
        self.done += 1;
        let left = self.start.total_steps.saturating_sub(record.step);
        let eta = format::duration(self.seconds / self.done as f64 * left as f64);
        let speed = format::count((record.tokens as f64 / record.seconds.max(1e-9)) as u64);
        let text = format!("loss {:.4}  {speed} tokens/s  {eta} left", record.loss);
        match &self.sink {
            Sink::Bar(bar) => {
                bar.set_position(record.step);
                bar.set_message(text);
            }
            Sink::Lines if record.step.is_multiple_of((self.start.total_steps / 20).max(1)) => {
                self.sink.say(&format!("step {}/{}  {text}", record.step, self.start.total_steps));
            }
            _ => {}
        }
    }

    fn on_eval(&mut self, record: &EvalRecord) {
        self.sink.event("eval", record);
        let best = if record.best { ", the best so far" } else { "" };
        let (metric, value) = (&self.start.metric, record.merged.primary);
        self.sink
            .say(&format!("step {}: merged {metric} {value:.4}, loss {:.4}{best}", record.step, record.merged.loss));
    }

    /// On the terminal the first input only; all of them are in the run directory.
    fn on_samples(&mut self, record: &SampleRecord) {
        self.sink.event("samples", record);
        let Some(sample) = record.samples.first() else { return };
        let text = |text: &str| match out::one_line(text, SAMPLE) {
            text if text.is_empty() => "(nothing)".to_owned(),
            text => text,
        };
        self.sink.say(&format!("step {}: asked {}", record.step, text(&sample.prompt)));
        self.sink.say(&format!("    merged     {}", text(&sample.merged)));
        if let Some(random) = &sample.random {
            self.sink.say(&format!("    one route  {}", text(random)));
        }
        self.sink.say(&format!("    reference  {}", text(&sample.reference)));
    }

    fn on_gradient_health(&mut self, gradient_health: &[TensorHealth]) {
        for health in gradient_health {
            self.sink.event("lamp", health);
        }
        for health in
            gradient_health.iter().filter(|health| matches!(health.state, HealthState::Dead | HealthState::Exploding))
        {
            let what = if health.state == HealthState::Dead { "does not learn" } else { "changes too fast" };
            let expert = health.expert.map(|expert| format!(" of expert {expert}")).unwrap_or_default();
            self.sink.say(&format!(
                "warning: {}{expert} {what} (largest gradient {:.1e}, change {:.1e} of its size after step {})",
                health.tensor, health.max_abs_grad, health.update_ratio, health.step
            ));
        }
    }

    fn on_checkpoint(&mut self, _data: &CheckpointData, step: u64, best: bool) -> bool {
        self.sink.event("checkpoint", &json!({ "step": step, "best": best }));
        if step == self.start.total_steps {
            self.sink.say("comparing merged, random routes, single experts and their ensemble");
        }
        true
    }

    /// People read it in the log, which goes to stderr too.
    fn on_problem(&mut self, text: &str) {
        self.sink.event("problem", &json!({ "problem": text }));
    }
}
