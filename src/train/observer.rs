//! What the training loop reports while it runs. The loop knows no screen, no file and no channel.

use super::trainer::Trainer;
use crate::config::LawChange;
use crate::nn::profile::Profile;
use crate::records::{CheckpointData, EndRecord, EvalRecord, SampleRecord, StartRecord, StepRecord, TensorHealth};

/// How far an evaluation has come.
#[derive(Clone, Copy, Debug)]
pub struct Evaluating {
    /// Whether it is the comparison at the end.
    pub comparison: bool,
    /// Rows in all; where several variants are compared, each of them counts all rows.
    pub rows: usize,
    /// Share done, 0 to 1.
    pub share: f64,
}

/// Whoever watches a run: the run directory's recorder, a progress bar, the window.
pub trait Observer {
    /// Before the first step.
    fn on_start(&mut self, _start: &StartRecord) {}
    /// Before the first step that is drawn by another law than the step before it.
    fn on_law(&mut self, _change: &LawChange) {}
    /// After each optimizer step.
    fn on_step(&mut self, _step: &StepRecord) {}
    /// Whether somebody wants to know where the time of the steps goes; asked once, before the first step.
    fn profiles(&self) -> bool {
        false
    }
    /// After each optimizer step, where it is wanted: all of its time, by phase.
    fn on_profile(&mut self, _step: u64, _profile: &Profile) {}
    /// During each evaluation and during the comparison at the end, after each batch.
    fn on_evaluating(&mut self, _trainer: &Trainer, _progress: Evaluating) {}
    /// After each evaluation.
    fn on_eval(&mut self, _eval: &EvalRecord) {}
    /// Before each token of the samples; again and again while the run is `paused` there.
    fn on_writing(&mut self, _trainer: &Trainer, _paused: bool) {}
    /// After samples were written.
    fn on_samples(&mut self, _samples: &SampleRecord) {}
    /// After steps 1, 3 and 10: the verdict on each trained tensor.
    fn on_gradient_health(&mut self, _health: &[TensorHealth]) {}
    /// A checkpoint to keep; whether it was written. Training goes on either way.
    fn on_checkpoint(&mut self, _data: &CheckpointData, _step: u64, _best: bool) -> bool {
        true
    }
    /// Between steps, and again and again while the run is `paused` there: the moment to look at the model.
    fn on_boundary(&mut self, _trainer: &Trainer, _paused: bool) {}
    /// Something about the run cannot be written down, or can again; training goes on.
    fn on_problem(&mut self, _text: &str) {}
    /// After the last step.
    fn on_end(&mut self, _end: &EndRecord) {}
}

/// Watches nothing.
pub struct NullObserver;

impl Observer for NullObserver {}
