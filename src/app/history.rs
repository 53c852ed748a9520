//! The curves of a run in bounded memory.
//!
//! A [`ValueHistory`] keeps at most [`CAPACITY`] buckets of neighbouring steps, each with the smallest, the largest and
//! the mean value of its steps, so that the value of a single step stays visible. Smoothing runs over the whole curve,
//! never over the visible part: the smoothed value at a step is the same at every zoom.

use super::clock::Clock;
use crate::protocol::decimation::{Bucket, Decimated};
use crate::protocol::{StepBucket, StepSample};

/// Capacity of a curve, in buckets.
pub const CAPACITY: usize = 2048;

/// A value over neighbouring steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueBucket {
    /// First step.
    pub first: u64,
    /// Last step.
    pub last: u64,
    /// Steps with a finite value.
    pub n: u32,
    /// Steps whose value was NaN or infinite.
    pub bad: u32,
    /// Smallest finite value.
    pub min: f32,
    /// Largest finite value.
    pub max: f32,
    /// Mean of the finite values.
    pub mean: f32,
}

impl ValueBucket {
    /// Position on the x-axis: the middle of its steps.
    pub fn x(&self) -> f64 {
        0.5 * (self.first as f64 + self.last as f64)
    }
}

impl Bucket for ValueBucket {
    fn steps(&self) -> u32 {
        self.n + self.bad
    }

    fn merge(&mut self, later: &Self) {
        self.last = later.last;
        self.bad += later.bad;
        if later.n > 0 {
            if self.n == 0 {
                (self.min, self.max, self.mean) = (later.min, later.max, later.mean);
            } else {
                let (n, m) = (self.n as f32, later.n as f32);
                self.mean = (self.mean * n + later.mean * m) / (n + m);
                self.min = self.min.min(later.min);
                self.max = self.max.max(later.max);
            }
            self.n += later.n;
        }
    }
}

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueHistory {
    decimated: Decimated<ValueBucket>,
}

impl Default for ValueHistory {
    fn default() -> Self {
        Self { decimated: Decimated::new(CAPACITY) }
    }
}

impl ValueHistory {
    /// Adds the next steps.
    pub fn push(&mut self, bucket: ValueBucket) {
        self.decimated.push(bucket);
    }

    /// All buckets, oldest first.
    pub fn buckets(&self) -> &[ValueBucket] {
        self.decimated.buckets()
    }

    /// Buckets with a finite value.
    pub fn finite(&self) -> impl Iterator<Item = &ValueBucket> {
        self.buckets().iter().filter(|bucket| bucket.n > 0)
    }

    /// Exponentially smoothed curve, `[step, value]`: a step's weight halves every `half_life` steps; 0: the means as they are.
    pub fn smoothed(&self, half_life: f64) -> Vec<[f64; 2]> {
        let (mut sum, mut weight) = (0.0f64, 0.0f64);
        // Nearly all buckets have as many steps as the one before.
        let (mut steps, mut keep) = (0, 0.0f64);
        self.finite()
            .map(|bucket| {
                if half_life > 0.0 && bucket.n != steps {
                    steps = bucket.n;
                    keep = (-f64::from(steps) / half_life).exp2();
                }
                sum = sum * keep + f64::from(bucket.mean) * (1.0 - keep);
                weight = weight * keep + (1.0 - keep);
                [bucket.x(), sum / weight]
            })
            .collect()
    }

    /// Steps (bucket middles) at which a value was NaN or infinite.
    pub fn bad_steps(&self) -> Vec<f64> {
        self.buckets().iter().filter(|bucket| bucket.bad > 0).map(ValueBucket::x).collect()
    }
}

/// The curves of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Total loss.
    pub loss: ValueHistory,
    /// Cross-entropy or squared error.
    pub task_loss: ValueHistory,
    /// Symmetric KL or squared difference, before λ.
    pub consistency: ValueHistory,
    /// Learning rate.
    pub learning_rate: ValueHistory,
    /// Gradient norm before clipping.
    pub grad_norm: ValueHistory,
    /// Tokens a second, both passes counted.
    pub tokens_per_s: ValueHistory,
    /// Epochs, tokens and time at every step.
    pub clock: Clock,
    /// The newest step.
    pub last: Option<StepSample>,
    /// Wall-clock seconds of all steps.
    pub seconds: f64,
    recent_seconds: f64,
    recent_steps: f64,
    recent_tokens: f64,
}

impl History {
    /// Adds one bucket of steps.
    pub fn push(&mut self, bucket: &StepBucket) {
        if bucket.n == 0 {
            return;
        }
        let part = |f: fn(&StepSample) -> f32| {
            let (min, max, mean) = (f(&bucket.min), f(&bucket.max), f(&bucket.mean));
            let finite = min.is_finite() && max.is_finite() && mean.is_finite();
            let (n, bad) = if finite { (bucket.n, 0) } else { (0, bucket.n) };
            ValueBucket { first: bucket.min.step, last: bucket.max.step, n, bad, min, max, mean }
        };
        self.clock.push(bucket);
        self.loss.push(part(|s| s.loss));
        self.task_loss.push(part(|s| s.task_loss));
        self.consistency.push(part(|s| s.consistency_loss));
        self.learning_rate.push(part(|s| s.learning_rate));
        self.grad_norm.push(part(|s| s.grad_norm));
        let seconds = f64::from(bucket.mean.seconds);
        if seconds > 0.0 {
            let rate = (f64::from(bucket.mean.tokens) / seconds) as f32;
            self.tokens_per_s.push(ValueBucket { min: rate, max: rate, mean: rate, ..part(|s| s.seconds) });
            self.seconds += seconds;
            let keep = (-f64::from(bucket.n) / 20.0).exp2();
            self.recent_seconds = self.recent_seconds * keep + seconds;
            self.recent_steps = self.recent_steps * keep + f64::from(bucket.n);
            self.recent_tokens = self.recent_tokens * keep + f64::from(bucket.mean.tokens);
        }
        self.last = Some(bucket.mean);
    }

    /// Tokens per second over about the last 20 steps, both passes counted; absent before the first step.
    pub fn speed(&self) -> Option<f64> {
        (self.recent_seconds > 0.0).then(|| self.recent_tokens / self.recent_seconds)
    }

    /// Seconds per step over about the last 20 steps; absent before the first step.
    pub fn seconds_per_step(&self) -> Option<f64> {
        (self.recent_steps > 0.0).then(|| self.recent_seconds / self.recent_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(history: &mut ValueHistory, step: u64, value: f32) {
        let (n, bad) = if value.is_finite() { (1, 0) } else { (0, 1) };
        history.push(ValueBucket { first: step, last: step, n, bad, min: value, max: value, mean: value });
    }

    #[test]
    fn a_single_spike_in_a_million_steps_stays() {
        let mut series = ValueHistory::default();
        for step in 1..=1_000_000u64 {
            push(&mut series, step, if step == 654_321 { 99.0 } else { 1.0 });
        }
        assert!(series.buckets().len() <= CAPACITY);
        let hit = series.buckets().iter().find(|b| b.max == 99.0).expect("the spike is kept");
        assert!((hit.first..=hit.last).contains(&654_321));
        assert!(hit.last - hit.first < 2048);
        assert!(series.buckets().iter().all(|b| b.min == 1.0));
        let steps: u32 = series.buckets().iter().map(|b| b.n).sum();
        assert_eq!(steps, 1_000_000, "no step is lost");
        assert_eq!(series.buckets().last().map(|b| b.last), Some(1_000_000));
    }

    #[test]
    fn smoothing_forgets_by_steps_not_by_points() {
        let mut series = ValueHistory::default();
        (1..=100).for_each(|step| push(&mut series, step, if step <= 50 { 0.0 } else { 1.0 }));
        let smooth = series.smoothed(10.0);
        assert_eq!(smooth.len(), 100);
        assert_eq!(smooth[49][1], 0.0);
        let after_ten = smooth[59][1];
        assert!((0.45..0.6).contains(&after_ten), "half of the step is seen after one half-life: {after_ten}");
        assert_eq!(series.smoothed(0.0)[59][1], 1.0);
    }

    #[test]
    fn not_a_number_is_marked_and_poisons_nothing() {
        let mut series = ValueHistory::default();
        push(&mut series, 1, 1.0);
        push(&mut series, 2, f32::NAN);
        push(&mut series, 3, 3.0);
        assert_eq!(series.bad_steps(), [2.0]);
        let finite: Vec<f32> = series.finite().flat_map(|b| [b.min, b.max]).collect();
        assert_eq!(finite, [1.0, 1.0, 3.0, 3.0]);
        assert!(series.smoothed(5.0).iter().all(|p| p[1].is_finite()));
    }

    #[test]
    fn history_counts_time_and_speed() {
        let mut history = History::default();
        for step in 1..=40 {
            let sample = StepSample { step, loss: 1.0, tokens: 100, seconds: 0.5, ..StepSample::default() };
            history.push(&StepBucket::of(sample));
        }
        assert!((history.seconds - 20.0).abs() < 1e-6);
        assert!((history.seconds_per_step().expect("steps were made") - 0.5).abs() < 1e-6);
        assert_eq!(history.tokens_per_s.buckets().last().map(|bucket| bucket.mean), Some(200.0));
        assert!((history.speed().expect("steps were made") - 200.0).abs() < 1e-6);
    }
}
