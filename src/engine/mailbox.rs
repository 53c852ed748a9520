//! Lanes that forget on purpose: training never waits for the window, and the window never gets more than it can take.
//!
//! [`Mailbox`] keeps every step as long as there is room; when it is full, neighbours are merged in pairs, so that
//! extremes survive and only resolution is lost. [`Latest`] keeps the newest of something. Both hold their lock for a
//! moment only: pushing is a few instructions, taking is a swap.

use crate::protocol::RunId;
use crate::protocol::snapshots::{StepBucket, StepSample};
use parking_lot::Mutex;

/// Most buckets that wait.
pub const CAPACITY: usize = 4096;

/// Steps in order, in a bounded number of buckets of equal width.
#[derive(Clone, Debug)]
pub struct Buckets {
    list: Vec<StepBucket>,
    capacity: usize,
    /// Steps in a full bucket.
    stride: u32,
}

impl Buckets {
    /// Room for so many buckets, an even number of at least 2.
    pub fn new(capacity: usize) -> Self {
        Self { list: Vec::new(), capacity: capacity.max(2).next_multiple_of(2), stride: 1 }
    }

    /// Adds the next step.
    pub fn push(&mut self, sample: StepSample) {
        let bucket = StepBucket::of(sample);
        if let Some(last) = self.list.last_mut()
            && last.n < self.stride
        {
            return last.merge(&bucket);
        }
        if self.list.len() >= self.capacity {
            self.halve();
        }
        self.list.push(bucket);
    }

    /// Every two neighbours become one.
    fn halve(&mut self) {
        let merged = self.list.chunks(2).map(|pair| match pair {
            [first, second] => {
                let mut both = *first;
                both.merge(second);
                both
            }
            _ => pair[0],
        });
        self.list = merged.collect();
        self.stride = self.stride.saturating_mul(2);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All buckets, oldest first; whoever takes them is up to date, so the next ones are single steps again.
    pub fn take(&mut self) -> Vec<StepBucket> {
        self.stride = 1;
        std::mem::take(&mut self.list)
    }
}

/// The lane of training steps. A new run empties it: nobody looks at the old one's steps any more.
#[derive(Debug)]
pub struct Mailbox {
    held: Mutex<(RunId, Buckets)>,
}

impl Mailbox {
    /// Room for so many buckets.
    pub fn new(capacity: usize) -> Self {
        Self { held: Mutex::new((RunId::default(), Buckets::new(capacity))) }
    }

    /// Adds a step of a run.
    pub fn push(&self, run: RunId, sample: StepSample) {
        let mut held = self.held.lock();
        if held.0 != run {
            held.0 = run;
            held.1.take();
        }
        held.1.push(sample);
    }

    /// Everything of this run that waits, oldest first; nothing when there is nothing.
    pub fn take(&self, run: RunId) -> Option<Vec<StepBucket>> {
        let mut held = self.held.lock();
        if held.0 != run || held.1.is_empty() { None } else { Some(held.1.take()) }
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

/// The newest of something; an older one that nobody took is gone.
#[derive(Debug)]
pub struct Latest<T> {
    held: Mutex<Option<T>>,
}

impl<T> Latest<T> {
    /// Replaces what waits.
    pub fn put(&self, value: T) {
        // The old value is dropped after the lock is released: it may be large.
        let old = self.held.lock().replace(value);
        drop(old);
    }

    /// The newest, if nobody took it yet.
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
        // One outlier, which must be seen at any resolution.
        let loss = if step == 77 { 1000.0 } else { step as f32 };
        StepSample { step, loss, tokens: 3, seconds: 0.5, ..StepSample::default() }
    }

    #[test]
    fn with_room_every_step_is_its_own_bucket() {
        let mailbox = Mailbox::new(8);
        assert!(mailbox.take(RunId(1)).is_none());
        (1..=8).for_each(|step| mailbox.push(RunId(1), sample(step)));
        assert!(mailbox.take(RunId(2)).is_none(), "steps of another run");
        let buckets = mailbox.take(RunId(1)).unwrap_or_default();
        assert_eq!(buckets.len(), 8);
        assert!(buckets.iter().zip(1..).all(|(bucket, step)| *bucket == StepBucket::of(sample(step))));
        assert!(mailbox.take(RunId(1)).is_none(), "taken is taken");
    }

    #[test]
    fn without_room_neighbours_merge_and_nothing_that_happened_is_hidden() {
        for steps in [9u64, 16, 17, 100, 1000, 4321] {
            let mut buckets = Buckets::new(8);
            (1..=steps).for_each(|step| buckets.push(sample(step)));
            let list = buckets.take();
            assert!(list.len() <= 8 && list.len() >= 4, "{} buckets for {steps} steps", list.len());
            assert_eq!(list.iter().map(|b| u64::from(b.n)).sum::<u64>(), steps, "steps are lost or counted twice");
            assert_eq!((list[0].min.step, list[list.len() - 1].max.step), (1, steps));
            assert!(list.windows(2).all(|w| w[0].max.step + 1 == w[1].min.step), "not in order");
            let widest = list[0].n;
            assert!(widest.is_power_of_two() && list[..list.len() - 1].iter().all(|b| b.n == widest));
            let tokens: u32 = list.iter().map(|b| b.mean.tokens).sum();
            assert_eq!(u64::from(tokens), 3 * steps, "tokens are sums");
            let peak = list.iter().map(|b| b.max.loss).fold(0.0, f32::max);
            assert_eq!(peak, if steps >= 77 { (steps as f32).max(1000.0) } else { steps as f32 });
        }
    }

    #[test]
    fn after_taking_the_next_steps_are_single_again() {
        let mut buckets = Buckets::new(4);
        (1..=40).for_each(|step| buckets.push(sample(step)));
        assert!(buckets.take()[0].n > 1);
        (41..=43).for_each(|step| buckets.push(sample(step)));
        assert!(buckets.take().iter().all(|bucket| bucket.n == 1));
    }

    #[test]
    fn a_new_run_empties_the_lane() {
        let mailbox = Mailbox::default();
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
