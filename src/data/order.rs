//! The order of the training rows: seeded, and restartable at any micro-batch.
//!
//! The rows of micro-batch number `index` depend on nothing but the seed, the number of rows and the batch
//! size, so a resumed run asks for the next number and goes on exactly where it was.

use crate::rng::{Purpose, SeedStream};

/// Micro-batches in one pass over `n_rows` rows; the last one may be short.
pub fn batches_per_epoch(n_rows: usize, batch_size: usize) -> u64 {
    n_rows.div_ceil(batch_size.max(1)) as u64
}

/// All rows in the order of pass number `epoch` (from 0). `[n_rows]`
pub fn epoch(seed: SeedStream, n_rows: usize, epoch: u64) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..n_rows).collect();
    seed.stream(Purpose::Shuffle, epoch).shuffle(&mut rows);
    rows
}

/// The rows of micro-batch number `index` (from 0, counted over all passes). `[<= batch_size]`
pub fn rows(seed: SeedStream, n_rows: usize, batch_size: usize, index: u64) -> Vec<usize> {
    Order::new(seed, n_rows, batch_size).rows(index).to_vec()
}

/// [`rows`] with the current pass kept in memory: the way to ask for many micro-batches.
#[derive(Clone, Debug)]
pub struct Order {
    seed: SeedStream,
    n_rows: usize,
    batch_size: usize,
    current: Option<(u64, Vec<usize>)>,
}

impl Order {
    /// Nothing is shuffled before the first question.
    pub fn new(seed: SeedStream, n_rows: usize, batch_size: usize) -> Self {
        Self { seed, n_rows, batch_size: batch_size.max(1), current: None }
    }

    /// As [`rows`]; empty when there are no rows.
    pub fn rows(&mut self, index: u64) -> &[usize] {
        let per_epoch = batches_per_epoch(self.n_rows, self.batch_size).max(1);
        let number = index / per_epoch;
        if self.current.as_ref().is_none_or(|(current, _)| *current != number) {
            self.current = Some((number, epoch(self.seed, self.n_rows, number)));
        }
        let order = self.current.as_ref().map_or(&[][..], |(_, order)| order);
        let start = (index % per_epoch) as usize * self.batch_size;
        &order[start..(start + self.batch_size).min(order.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_row_once_in_another_order() {
        let seed = SeedStream::new(3);
        let per_epoch = batches_per_epoch(103, 10);
        assert_eq!(per_epoch, 11);
        let pass = |epoch: u64| -> Vec<usize> {
            (0..per_epoch).flat_map(|batch| rows(seed, 103, 10, epoch * per_epoch + batch)).collect()
        };
        let (first, second) = (pass(0), pass(1));
        assert_ne!(first, second);
        for order in [first, second] {
            assert_ne!(order, (0..103).collect::<Vec<_>>(), "not shuffled");
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, (0..103).collect::<Vec<_>>());
        }
        assert_eq!(rows(seed, 103, 10, 10).len(), 3, "the last batch of an epoch is short");
    }

    #[test]
    fn any_batch_can_be_asked_for_without_history() {
        let seed = SeedStream::new(9);
        let mut order = Order::new(seed, 50, 8);
        for index in [0, 1, 6, 7, 30, 7, 0] {
            assert_eq!(order.rows(index), rows(seed, 50, 8, index));
        }
        assert_ne!(rows(SeedStream::new(10), 50, 8, 0), rows(seed, 50, 8, 0), "the seed has no effect");
        assert!(rows(seed, 0, 8, 5).is_empty());
    }
}
