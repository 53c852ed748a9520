//! Before the first step: whether a run can start, and what it will cost.

use crate::artifact::RunDir;
use crate::config::{Recompute, RunConfig, Task};
use crate::data::order::BatchRule;
use crate::error::Result;
use crate::format;
use crate::machine::estimate::{self, Need};
use crate::machine::{device, facts};
use crate::protocol::PreflightReport;
use crate::records::{CheckpointData, StartRecord, StepRecord};
use crate::train::control::Control;
use crate::train::observer::Observer;
use crate::train::step;
use crate::train::trainer::Trainer;
use crate::workflow::advice;
use crate::workflow::run::{self, Prepared};
use std::path::PathBuf;

/// Steps made to measure, at least; the first one warms up and does not count.
const DRY_STEPS: usize = 4;
/// Steps made to measure, at most.
const MOST_DRY_STEPS: usize = 25;
/// Between the two, steps are made for so long.
const DRY_SECONDS: f64 = 0.5;
const DIVERGED: &str = "the first training step gives a loss or a gradient that is not finite, so that its time was not \
                        measured: check the model's weights and the data, or choose another number format";
/// Forward only, against forward and backward of a frozen base model.
const EVALUATION_SHARE: f64 = 0.5;

/// Checks a run and estimates its cost. With `measured`, a few steps are made (in memory only) to tell the time.
pub fn preflight(config: &RunConfig, measured: bool) -> Result<PreflightReport> {
    let machine = facts::machine();
    let mut report = PreflightReport {
        problems: config.problems(),
        memory_available: machine.memory_free.or(machine.memory).unwrap_or(0),
        run_dir: run_dir(config),
        gpus: device::adapter_names(),
        ..PreflightReport::default()
    };
    if !report.problems.is_empty() {
        return Ok(report);
    }
    let prepared = match run::prepare(config) {
        Ok(prepared) => prepared,
        Err(err) => {
            report.problems.push(err.to_string());
            return Ok(report);
        }
    };
    report.warnings = warnings(&prepared);
    let Prepared { mut config, subject, .. } = prepared;
    let tokens = Tokens { train: subject.train().tokens as f64, dev: subject.dev().tokens as f64 };
    let settled = estimate::settle(&config, &subject, facts::machine().memory_free);
    config.train.recompute = settled.recompute;
    report.recompute = settled.recompute == Recompute::On;
    report.warnings.extend(settled.note);
    report.memory_bytes = Need::of(&config, &subject, report.recompute).total();
    let mut trainer = Trainer::new(quiet(&config), subject)?;
    report.warnings.extend(advice::warnings(&trainer));
    let start = trainer.start_record();
    report.tokens_per_step = tokens.train / start.steps_per_epoch.max(1e-9) * step::passes(&config) as f64;
    if measured {
        let counts = facts::reset_peak_memory();
        match dry_steps(&mut trainer)? {
            Some(per_token) => {
                let per_step = report.tokens_per_step;
                report.seconds = Some(total_seconds(&config, &start, &tokens, per_step, per_token));
            }
            None => report.warnings.push(DIVERGED.to_owned()),
        }
        // What was really used is a better guess than the formula, once it has been used.
        if counts {
            report.memory_bytes = report.memory_bytes.max(facts::peak_memory());
        }
    }
    report.start = start;
    if report.memory_available > 0 && report.memory_bytes > report.memory_available {
        let (needed, free) = (format::bytes(report.memory_bytes), format::bytes(report.memory_available));
        report.warnings.push(format!(
            "about {needed} of memory are needed and {free} are free; use a smaller batch_size with more gradient_accumulation_steps"
        ));
    }
    Ok(report)
}

/// Where the run would be written; a run without a name gets one when it starts.
fn run_dir(config: &RunConfig) -> PathBuf {
    let root = RunDir::root(config).unwrap_or_default();
    if config.name.is_empty() { root } else { root.join(&config.name) }
}

/// Tokens of all training rows, and of all evaluation rows.
struct Tokens {
    train: f64,
    dev: f64,
}

fn warnings(prepared: &Prepared) -> Vec<String> {
    let Prepared { config, subject, .. } = prepared;
    let (mut warnings, train) = (prepared.warnings.clone(), subject.train());
    if !subject.skipped().is_empty() {
        warnings.push(format!("{} left out as unusable", format::counted(subject.skipped().len(), "row")));
    }
    if matches!(BatchRule::of(config), BatchRule::Examples(batch) if batch > train.rows) {
        warnings.push(format!("a batch of {} is more than the {} training rows", config.train.batch_size, train.rows));
    }
    warnings
}

/// The same run without evaluations and samples in between.
fn quiet(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    config.eval.eval_steps = u64::MAX >> 2;
    config.eval.save_steps = u64::MAX >> 2;
    config.eval.samples = 0;
    config
}

/// Seconds per token of a training step; nothing where the first one already gave no finite numbers.
fn dry_steps(trainer: &mut Trainer) -> Result<Option<f64>> {
    let control = Control::default();
    let mut clock = Clock { control: control.clone(), steps: Vec::new() };
    trainer.run(&mut clock, &control)?;
    Ok(middle(&clock.steps))
}

/// The middle one of the times per token, since something else may hold up any step; of two the shorter. The first step
/// warms up and does not count where there are others. steps: tokens and seconds of each
fn middle(steps: &[(usize, f64)]) -> Option<f64> {
    let counted = if steps.len() > 1 { &steps[1..] } else { steps };
    let mut per_token: Vec<f64> =
        counted.iter().map(|(tokens, seconds)| seconds / f64::max(*tokens as f64, 1.0)).collect();
    per_token.sort_by(f64::total_cmp);
    per_token.get(per_token.len().saturating_sub(1) / 2).copied()
}

/// Stops after a few steps, more of them where they are short, and remembers what they took.
struct Clock {
    control: Control,
    steps: Vec<(usize, f64)>,
}

impl Observer for Clock {
    fn on_step(&mut self, record: &StepRecord) {
        self.steps.push((record.tokens, record.seconds));
        let spent: f64 = self.steps.iter().map(|(_, seconds)| seconds).sum();
        if self.steps.len() >= DRY_STEPS && (spent > DRY_SECONDS || self.steps.len() >= MOST_DRY_STEPS) {
            self.control.stop("measured");
        }
    }

    fn on_checkpoint(&mut self, _data: &CheckpointData, _step: u64, _best: bool) -> bool {
        true // nothing is written in a dry run
    }
}

/// Steps, evaluations on the way, and the comparison at the end.
fn total_seconds(config: &RunConfig, start: &StartRecord, tokens: &Tokens, per_step: f64, per_token: f64) -> f64 {
    let steps = start.total_steps as f64;
    let every = match config.eval.eval_steps {
        0 => start.steps_per_epoch.max(1.0),
        n => n as f64,
    };
    let compared = if start.experts == [0, 0] { 1 } else { 1 + config.eval.random_routes + config.mixture.num_experts };
    // A language model is also measured without its mixture.
    let base = usize::from(config.data.task == Task::Text);
    let evaluations = (steps / every).ceil() + (compared + base) as f64;
    per_token * (steps * per_step + evaluations * tokens.dev * EVALUATION_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_that_was_held_up_does_not_count() {
        assert_eq!(middle(&[]), None);
        assert_eq!(middle(&[(100, 3.0)]), Some(0.03));
        assert_eq!(middle(&[(100, 3.0), (100, 1.0), (100, 10.0)]), Some(0.01));
        assert_eq!(middle(&[(100, 30.0), (200, 2.0), (100, 10.0), (100, 2.0)]), Some(0.02));
    }
}
