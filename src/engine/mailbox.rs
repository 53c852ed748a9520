//! The channel of training steps to the window. It is bounded and the sender never blocks: neighbouring steps are merged when
//! it is full.

use crate::protocol::decimation::Decimated;
use crate::protocol::{RunId, StepBucket, StepSample};
use parking_lot::Mutex;

/// Capacity of the channel of training steps, in buckets.
const CAPACITY: usize = 4096;

/// The channel of training steps. The first step of a new run empties it.
#[derive(Debug)]
pub struct StepMailbox {
    held: Mutex<(RunId, Decimated<StepBucket>)>,
}

impl StepMailbox {
    /// A channel of this capacity, in buckets.
    pub fn new(capacity: usize) -> Self {
        Self { held: Mutex::new((RunId::default(), Decimated::new(capacity))) }
    }

    /// Adds a step of a run.
    pub fn push(&self, run: RunId, sample: StepSample) {
        let mut held = self.held.lock();
        if held.0 != run {
            held.0 = run;
            held.1.take();
        }
        held.1.push(StepBucket::of(sample));
    }

    /// All waiting steps of this run, oldest first; `None` where there are none.
    pub fn take(&self, run: RunId) -> Option<Vec<StepBucket>> {
        let mut held = self.held.lock();
        if held.0 != run || held.1.is_empty() { None } else { Some(held.1.take()) }
    }
}

impl Default for StepMailbox {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(step: u64) -> StepSample {
        StepSample { step, ..StepSample::default() }
    }

    #[test]
    fn with_room_every_step_is_its_own_bucket() {
        let mailbox = StepMailbox::new(8);
        assert!(mailbox.take(RunId(1)).is_none());
        (1..=8).for_each(|step| mailbox.push(RunId(1), sample(step)));
        assert!(mailbox.take(RunId(2)).is_none(), "steps of another run");
        let buckets = mailbox.take(RunId(1)).unwrap_or_default();
        assert_eq!(buckets.len(), 8);
        assert!(buckets.iter().zip(1..).all(|(bucket, step)| *bucket == StepBucket::of(sample(step))));
        assert!(mailbox.take(RunId(1)).is_none(), "taken is taken");
    }

    #[test]
    fn a_new_run_empties_the_lane() {
        let mailbox = StepMailbox::default();
        mailbox.push(RunId(1), sample(5));
        mailbox.push(RunId(2), sample(1));
        assert!(mailbox.take(RunId(1)).is_none());
        let buckets = mailbox.take(RunId(2)).unwrap_or_default();
        assert_eq!((buckets.len(), buckets[0].min.step), (1, 1));
    }
}
