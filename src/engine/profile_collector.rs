//! Step profiles for the window, a few per second.

use crate::nn::profile::{PHASES, Profile};
use crate::protocol::StepProfile;
use std::time::{Duration, Instant};

/// Shortest time between two reports.
const INTERVAL: Duration = Duration::from_millis(300);

/// Averages the profiles of the steps since the last report.
#[derive(Debug, Default)]
pub(crate) struct ProfileCollector {
    sum: Profile,
    steps: u32,
    last: Option<Instant>,
}

impl ProfileCollector {
    /// Adds one step's profile; returns the mean since the last returned one when a report is due.
    pub(crate) fn add(&mut self, step: u64, profile: &Profile) -> Option<StepProfile> {
        self.sum.add(profile);
        self.steps += 1;
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
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
    use crate::nn::profile::{Phase, Recording, timed};

    #[test]
    fn steps_between_two_reports_are_averaged_and_none_is_lost() {
        let recording = Recording::start();
        let mut collector = ProfileCollector::default();
        timed(Phase::Head, || std::hint::black_box(1));
        let first = recording.take();
        let seen = collector.add(1, &first).unwrap();
        assert_eq!((seen.step, seen.steps), (1, 1));
        assert!((seen.total() - first.total().as_secs_f32()).abs() < 1e-6);
        // Before the next report is due, steps are collected.
        let (mut given, mut added, mut step) = (0, 1, 1);
        collector.last = Some(Instant::now() + INTERVAL);
        while added < 5 {
            step += 1;
            added += 1;
            given += u32::from(collector.add(step, &first).is_some());
        }
        assert_eq!(given, 0, "no report is due yet");
        collector.last = Instant::now().checked_sub(2 * INTERVAL);
        let mean = collector.add(6, &first).unwrap();
        assert_eq!((mean.step, mean.steps), (6, 5));
        assert!((mean.total() - first.total().as_secs_f32()).abs() < 1e-6, "the mean of equals");
    }
}
