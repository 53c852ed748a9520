//! Training steps of a curve: one, and several in one.

use super::StepRecord;
use serde::{Deserialize, Serialize};

/// One training step, 40 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSample {
    /// Steps done, from 1.
    pub step: u64,
    /// Epochs done.
    pub epoch: f32,
    /// Total loss.
    pub loss: f32,
    /// Cross-entropy or squared error.
    pub task_loss: f32,
    /// Symmetric KL or squared difference, before λ.
    pub consistency_loss: f32,
    /// Learning rate used.
    pub learning_rate: f32,
    /// Global gradient norm before clipping.
    pub grad_norm: f32,
    /// Tokens through the model, both passes counted.
    pub tokens: u32,
    /// Wall-clock seconds of the step.
    pub seconds: f32,
}

impl From<&StepRecord> for StepSample {
    fn from(record: &StepRecord) -> Self {
        Self {
            step: record.step,
            epoch: record.epoch as f32,
            loss: record.loss as f32,
            task_loss: record.task_loss as f32,
            consistency_loss: record.consistency_loss as f32,
            learning_rate: record.learning_rate as f32,
            grad_norm: record.grad_norm as f32,
            tokens: u32::try_from(record.tokens).unwrap_or(u32::MAX),
            seconds: record.seconds as f32,
        }
    }
}

/// One or more consecutive steps with minimum, maximum and mean of every value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepBucket {
    /// Steps in this bucket.
    pub n: u32,
    /// Field by field the smallest (`step`: the first; NaN if any was NaN). `tokens` and `seconds` included.
    pub min: StepSample,
    /// Field by field the largest (`step`: the last; NaN if any was NaN).
    pub max: StepSample,
    /// Field by field the sum in `tokens` and `seconds`, the mean in all others; `step` is the last.
    pub mean: StepSample,
}

/// `f32::min` that lets NaN through.
fn low(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) }
}

/// `f32::max` that lets NaN through.
fn high(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

fn fold(a: &StepSample, b: &StepSample, step: u64, tokens: u32, f: impl Fn(f32, f32) -> f32) -> StepSample {
    StepSample {
        step,
        epoch: f(a.epoch, b.epoch),
        loss: f(a.loss, b.loss),
        task_loss: f(a.task_loss, b.task_loss),
        consistency_loss: f(a.consistency_loss, b.consistency_loss),
        learning_rate: f(a.learning_rate, b.learning_rate),
        grad_norm: f(a.grad_norm, b.grad_norm),
        tokens,
        seconds: f(a.seconds, b.seconds),
    }
}

impl StepBucket {
    /// A bucket of one step.
    pub fn of(sample: StepSample) -> Self {
        Self { n: 1, min: sample, max: sample, mean: sample }
    }

    /// Adds the steps of the next bucket.
    pub fn merge(&mut self, later: &Self) {
        if self.n == 0 {
            *self = *later;
            return;
        }
        if later.n == 0 {
            return;
        }
        let (n, m) = (self.n as f32, later.n as f32);
        let tokens = self.mean.tokens.saturating_add(later.mean.tokens);
        let seconds = self.mean.seconds + later.mean.seconds;
        self.mean = fold(&self.mean, &later.mean, later.mean.step, tokens, |a, b| (a * n + b * m) / (n + m));
        self.mean.seconds = seconds;
        let (first, last) = (self.min.step, later.max.step);
        self.min = fold(&self.min, &later.min, first, self.min.tokens.min(later.min.tokens), low);
        self.max = fold(&self.max, &later.max, last, self.max.tokens.max(later.max.tokens), high);
        self.n += later.n;
    }
}
