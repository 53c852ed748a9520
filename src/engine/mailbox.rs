//! Bounded lanes from the training thread to the window; the sender never blocks.
//!
//! [`StepMailbox`] merges neighbouring steps when it is full; [`Latest`] keeps only the newest value.

use crate::protocol::decimation::Decimated;
use crate::protocol::{RunId, StepBucket, StepSample};
use parking_lot::Mutex;

/// Capacity of the lane of training steps, in buckets.
const CAPACITY: usize = 4096;

/// The lane of training steps. The first step of a new run empties it.
#[derive(Debug)]
pub struct StepMailbox {
    held: Mutex<(RunId, Decimated<StepBucket>)>,
}

impl StepMailbox {
    /// A lane of this capacity, in buckets.
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

/// The newest value; an older one that was not taken is dropped.
#[derive(Debug)]
pub struct Latest<T> {
    held: Mutex<Option<T>>,
}

impl<T> Latest<T> {
    /// Replaces the waiting value.
    pub fn put(&self, value: T) {
        // The old value is dropped after the lock is released: it may be large.
        let old = self.held.lock().replace(value);
        drop(old);
    }

    /// The newest value, if it was not taken yet.
    pub fn take(&self) -> Option<T> {
        self.held.lock().take()
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { held: Mutex::new(None) }
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

    #[test]
    fn the_newest_wins() {
        let latest = Latest::default();
        assert_eq!(latest.take(), None);
        latest.put(1);
        latest.put(2);
        assert_eq!((latest.take(), latest.take()), (Some(2), None));
    }
}
