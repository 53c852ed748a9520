//! Where the time of the last training steps went, as plain host data.

use crate::nn::profile::{PHASES, Phase, Profile};
use std::time::{Duration, Instant};

/// Profiles come at most so often.
const EVERY: Duration = Duration::from_millis(300);

/// The mean over some training steps: every moment belongs to exactly one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepProfile {
    /// The last of these steps.
    pub step: u64,
    /// How many.
    pub steps: u32,
    /// Seconds a step, in the order of [`PHASES`].
    pub seconds: [f32; PHASES.len()],
}

impl StepProfile {
    /// Seconds of one phase, a step.
    pub fn of(&self, phase: Phase) -> f32 {
        self.seconds[phase as usize]
    }
    /// Seconds of a step.
    pub fn total(&self) -> f32 {
        self.seconds.iter().sum()
    }
}

/// Collects steps until somebody should see them.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    sum: Profile,
    steps: u32,
    last: Option<Instant>,
}

impl Gather {
    /// Takes in one step's profile; gives the mean of those that came since the last one given, now and then.
    pub(crate) fn add(&mut self, step: u64, profile: &Profile) -> Option<StepProfile> {
        self.sum.add(profile);
        self.steps += 1;
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return None;
        }
        self.last = Some(Instant::now());
        let (sum, steps) = (std::mem::take(&mut self.sum), std::mem::take(&mut self.steps));
        let seconds = PHASES.map(|phase| sum.time(phase).as_secs_f32() / steps as f32);
        Some(StepProfile { step, steps, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::profile::{Recording, timed};

    #[test]
    fn steps_between_two_looks_are_averaged_and_none_is_lost() {
        let recording = Recording::start();
        let mut gather = Gather::default();
        timed(Phase::Head, || std::hint::black_box(1));
        let first = recording.take();
        let seen = gather.add(1, &first).unwrap();
        assert_eq!((seen.step, seen.steps), (1, 1));
        assert!((seen.total() - first.total().as_secs_f32()).abs() < 1e-6);
        // Soon after: kept back, and part of what is seen next.
        let (mut given, mut added, mut step) = (0, 1, 1);
        gather.last = Some(Instant::now() + EVERY);
        while added < 5 {
            step += 1;
            added += 1;
            given += u32::from(gather.add(step, &first).is_some());
        }
        assert_eq!(given, 0, "the last look is not long ago");
        gather.last = Instant::now().checked_sub(2 * EVERY);
        let mean = gather.add(6, &first).unwrap();
        assert_eq!((mean.step, mean.steps), (6, 5));
        assert!((mean.total() - first.total().as_secs_f32()).abs() < 1e-6, "the mean of equals");
    }
}
