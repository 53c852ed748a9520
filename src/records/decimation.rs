//! Curves of any length in bounded memory: neighbouring buckets of steps are merged when there are too many.

use super::StepBucket;

/// One or more neighbouring steps of a curve.
pub trait Bucket {
    /// Steps in the bucket.
    fn steps(&self) -> u32;
    /// Adds the steps of the next bucket.
    fn merge(&mut self, later: &Self);
}

impl Bucket for StepBucket {
    fn steps(&self) -> u32 {
        self.n
    }
    fn merge(&mut self, later: &Self) {
        Self::merge(self, later);
    }
}

/// Buckets in order, at most `capacity` of them. Full buckets have the same number of steps, a power of two.
#[derive(Clone, Debug, PartialEq)]
pub struct Decimated<B> {
    buckets: Vec<B>,
    capacity: usize,
    /// Steps of a full bucket.
    stride: u32,
}

impl<B: Bucket> Decimated<B> {
    /// No buckets yet; `capacity`: at least 2.
    pub fn new(capacity: usize) -> Self {
        Self { buckets: Vec::new(), capacity: capacity.max(2), stride: 1 }
    }

    /// Appends the next bucket; beyond the capacity the stride doubles and neighbours are merged.
    pub fn push(&mut self, bucket: B) {
        self.append(bucket);
        if self.buckets.len() > self.capacity {
            self.stride = self.stride.saturating_mul(2);
            for bucket in std::mem::take(&mut self.buckets) {
                self.append(bucket);
            }
        }
    }

    fn append(&mut self, bucket: B) {
        match self.buckets.last_mut() {
            Some(last) if last.steps().saturating_add(bucket.steps()) <= self.stride => last.merge(&bucket),
            _ => self.buckets.push(bucket),
        }
    }

    /// All buckets, oldest first.
    pub fn buckets(&self) -> &[B] {
        &self.buckets
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Most steps of a bucket so far.
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// What [`Decimated::buckets`] and [`Decimated::stride`] said of a curve of this capacity; more can be appended. `None`:
    /// these are not the buckets of such a curve.
    pub fn restored(capacity: usize, stride: u32, buckets: Vec<B>) -> Option<Self> {
        let fits = stride.is_power_of_two() && buckets.len() <= capacity;
        let whole = buckets.iter().all(|bucket| (1..=stride).contains(&bucket.steps()));
        (fits && whole).then_some(Self { buckets, capacity: capacity.max(2), stride })
    }

    /// Removes and returns all buckets, oldest first; the stride is 1 again.
    pub fn take(&mut self) -> Vec<B> {
        self.stride = 1;
        std::mem::take(&mut self.buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::StepSample;

    fn sample(step: u64) -> StepSample {
        // One outlier, which must be kept at any resolution.
        let loss = if step == 77 { 1000.0 } else { step as f32 };
        StepSample { step, loss, tokens: 3, seconds: 0.5, ..StepSample::default() }
    }

    #[test]
    fn without_room_neighbours_merge_and_nothing_that_happened_is_hidden() {
        for steps in [9u64, 16, 17, 100, 1000, 4321] {
            let mut buckets = Decimated::new(8);
            (1..=steps).for_each(|step| buckets.push(StepBucket::of(sample(step))));
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
        let mut buckets = Decimated::new(4);
        (1..=40).for_each(|step| buckets.push(StepBucket::of(sample(step))));
        assert!(buckets.take()[0].n > 1);
        (41..=43).for_each(|step| buckets.push(StepBucket::of(sample(step))));
        assert!(buckets.take().iter().all(|bucket| bucket.n == 1));
    }
}
