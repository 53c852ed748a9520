//! What the x-axis of a curve over time counts: steps, epochs, tokens or time.

use crate::protocol::StepBucket;
use crate::protocol::decimation::{Bucket, Decimated};
use serde::{Deserialize, Serialize};

/// Known places, at most; between them a place is in proportion.
const CAPACITY: usize = 2048;

/// What the x-axis counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XAxis {
    /// Optimizer steps.
    #[default]
    Step,
    /// Passes over the training rows.
    Epoch,
    /// Tokens through the model, both passes counted.
    Tokens,
    /// Seconds of all steps, evaluations not counted.
    Time,
}

impl XAxis {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Step, "steps"), (Self::Epoch, "epochs"), (Self::Tokens, "tokens"), (Self::Time, "training time")];
}

/// Where a run was after some steps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tick {
    steps: u32,
    last: u64,
    epoch: f64,
    tokens: f64,
    seconds: f64,
}

impl Bucket for Tick {
    fn steps(&self) -> u32 {
        self.steps
    }

    fn merge(&mut self, later: &Self) {
        *self = Self { steps: self.steps + later.steps, ..*later };
    }
}

/// Epochs, tokens and seconds of a run at every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Clock {
    ticks: Decimated<Tick>,
    tokens: f64,
    seconds: f64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { ticks: Decimated::new(CAPACITY), tokens: 0.0, seconds: 0.0 }
    }
}

impl Clock {
    /// Adds the next steps.
    pub fn push(&mut self, bucket: &StepBucket) {
        self.tokens += f64::from(bucket.mean.tokens);
        self.seconds += if bucket.mean.seconds.is_finite() { f64::from(bucket.mean.seconds) } else { 0.0 };
        let (tokens, seconds) = (self.tokens, self.seconds);
        let (last, epoch) = (bucket.max.step, f64::from(bucket.max.epoch));
        self.ticks.push(Tick { steps: bucket.n, last, epoch, tokens, seconds });
    }

    /// Seconds of all steps.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// What `axis` counts when `step` steps are done; between two known steps in proportion, beyond the last one as there.
    pub fn at(&self, step: f64, axis: XAxis) -> f64 {
        let value = |tick: &Tick| match axis {
            XAxis::Step => tick.last as f64,
            XAxis::Epoch => tick.epoch,
            XAxis::Tokens => tick.tokens,
            XAxis::Time => tick.seconds,
        };
        if axis == XAxis::Step {
            return step;
        }
        let ticks = self.ticks.buckets();
        let next = ticks.partition_point(|tick| (tick.last as f64) < step);
        let (from, at) = match next.checked_sub(1).and_then(|i| ticks.get(i)) {
            Some(before) => (before.last as f64, value(before)),
            None => (0.0, 0.0),
        };
        match ticks.get(next) {
            Some(after) if after.last as f64 > from => {
                at + (value(after) - at) * (step - from).max(0.0) / (after.last as f64 - from)
            }
            _ => at,
        }
    }
}

/// An axis with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XScale {
    /// What it counts.
    pub axis: XAxis,
    /// Name and unit.
    pub name: &'static str,
    unit: f64,
}

impl XScale {
    /// Seconds of anything.
    pub const SECONDS: Self = Self { axis: XAxis::Time, name: "time (s)", unit: 1.0 };

    /// For runs of which the longest took `seconds`.
    pub fn new(axis: XAxis, seconds: f64) -> Self {
        let (name, unit) = match axis {
            XAxis::Step => ("step", 1.0),
            XAxis::Epoch => ("epoch", 1.0),
            XAxis::Tokens => ("tokens", 1.0),
            XAxis::Time if seconds > 3.0 * 3600.0 => ("training time (h)", 3600.0),
            XAxis::Time if seconds > 300.0 => ("training time (min)", 60.0),
            XAxis::Time => ("training time (s)", 1.0),
        };
        Self { axis, name, unit }
    }

    /// Where a step lies.
    pub fn at(&self, clock: &Clock, step: f64) -> f64 {
        clock.at(step, self.axis) / self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::StepSample;

    #[test]
    fn a_step_lies_where_its_epoch_tokens_and_time_are() {
        let mut clock = Clock::default();
        for step in 1..=10u64 {
            let sample =
                StepSample { step, epoch: step as f32 / 5.0, tokens: 100, seconds: 60.0, ..StepSample::default() };
            clock.push(&StepBucket::of(sample));
        }
        assert_eq!(clock.at(4.0, XAxis::Step), 4.0);
        assert_eq!(clock.at(4.0, XAxis::Tokens), 400.0);
        assert_eq!(clock.at(4.5, XAxis::Tokens), 450.0);
        assert!((clock.at(5.0, XAxis::Epoch) - 1.0).abs() < 1e-6);
        assert_eq!((clock.at(0.0, XAxis::Time), clock.at(99.0, XAxis::Time)), (0.0, 600.0));
        let minutes = XScale::new(XAxis::Time, clock.seconds());
        assert_eq!((minutes.at(&clock, 10.0), minutes.name), (10.0, "training time (min)"));
    }

    #[test]
    fn a_long_run_keeps_its_ends_and_its_order() {
        let mut clock = Clock::default();
        for step in 1..=10_000u64 {
            let sample = StepSample { step, tokens: 3, seconds: 0.5, ..StepSample::default() };
            clock.push(&StepBucket::of(sample));
        }
        assert_eq!(clock.at(10_000.0, XAxis::Tokens), 30_000.0);
        assert!((clock.at(5_000.0, XAxis::Time) - 2500.0).abs() < 1.0, "steps of equal length are in proportion");
    }
}
