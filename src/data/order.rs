//! The order of micro-batches: a function of the seed, the rows and the rule by which batches are filled, so that a
//! resumed run continues at any micro-batch.

use crate::config::{RunConfig, Task};
use crate::rng::{Purpose, SeedStream};

/// How a micro-batch is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchRule {
    /// So many rows.
    Examples(usize),
    /// As many rows, in the shuffled order, as fit into so many tokens; at least one.
    Tokens(usize),
}

impl BatchRule {
    /// What the settings say.
    pub fn of(config: &RunConfig) -> Self {
        match config.text.max_tokens_per_batch {
            tokens if tokens > 0 && config.data.task == Task::Text => Self::Tokens(tokens),
            _ => Self::Examples(config.train.batch_size),
        }
    }
}

/// One pass over the data.
#[derive(Clone, Debug)]
struct EpochPass {
    number: u64,
    /// Number of its first micro-batch, counted over all passes.
    first: u64,
    rows: Vec<usize>,
    /// Where each micro-batch starts in `rows`, and the end of the last one.
    starts: Vec<usize>,
}

impl EpochPass {
    fn batches(&self) -> u64 {
        self.starts.len() as u64 - 1
    }
}

/// Micro-batches by their number; the current pass is kept in memory.
#[derive(Clone, Debug)]
pub struct Order {
    seed: SeedStream,
    lengths: Vec<usize>,
    rule: BatchRule,
    current: Option<EpochPass>,
}

impl Order {
    /// Of so many rows in each micro-batch. Nothing is shuffled before the first question.
    pub fn new(seed: SeedStream, n_rows: usize, batch_size: usize) -> Self {
        Self::of_lengths(seed, vec![1; n_rows], BatchRule::Examples(batch_size))
    }

    /// Of rows of these lengths in tokens.
    pub fn of_lengths(seed: SeedStream, lengths: Vec<usize>, rule: BatchRule) -> Self {
        Self { seed, lengths, rule, current: None }
    }

    /// How micro-batches are filled.
    pub fn rule(&self) -> BatchRule {
        self.rule
    }

    /// The rows of micro-batch number `index` (from 0, counted over all passes); empty when there are none at all.
    pub fn rows(&mut self, index: u64) -> &[usize] {
        if self.lengths.is_empty() {
            return &[];
        }
        // Batches of a token budget are not equally many in each pass: passes are counted from the last known one.
        let mut pass = match self.current.take() {
            Some(pass) if pass.first <= index => pass,
            _ => self.pass(0, 0),
        };
        while index >= pass.first + pass.batches() {
            pass = self.pass(pass.number + 1, pass.first + pass.batches());
        }
        let at = (index - pass.first) as usize;
        let range = pass.starts[at]..pass.starts[at + 1];
        &self.current.insert(pass).rows[range]
    }

    /// Micro-batches in pass number `epoch` (from 0).
    pub fn batches_in(&self, epoch: u64) -> u64 {
        match self.rule {
            BatchRule::Examples(most) => self.lengths.len().div_ceil(most.max(1)) as u64,
            BatchRule::Tokens(_) if self.lengths.is_empty() => 0,
            BatchRule::Tokens(_) => self.pass(epoch, 0).batches(),
        }
    }

    /// Micro-batches in the first `epochs` passes, a part of a pass counted as its part of the batches, rounded up.
    pub fn batches_until(&self, epochs: f64) -> u64 {
        let whole = epochs.max(0.0).floor();
        let full: u64 = match self.rule {
            BatchRule::Examples(_) => self.batches_in(0) * whole as u64,
            BatchRule::Tokens(_) => (0..whole as u64).map(|epoch| self.batches_in(epoch)).sum(),
        };
        let part = epochs.max(0.0) - whole;
        full + if part > 0.0 { (self.batches_in(whole as u64) as f64 * part).ceil() as u64 } else { 0 }
    }

    fn pass(&self, number: u64, first: u64) -> EpochPass {
        let mut rows: Vec<usize> = (0..self.lengths.len()).collect();
        self.seed.stream(Purpose::Shuffle, number).shuffle(&mut rows);
        let mut starts = vec![0];
        let mut tokens = 0;
        for (at, &row) in rows.iter().enumerate() {
            let begun = starts.last().copied().unwrap_or(0);
            let full = match self.rule {
                BatchRule::Examples(most) => at - begun >= most.max(1),
                BatchRule::Tokens(most) => at > begun && tokens + self.lengths[row] > most,
            };
            if full {
                starts.push(at);
                tokens = 0;
            }
            tokens += self.lengths[row];
        }
        starts.push(rows.len());
        EpochPass { number, first, rows, starts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of micro-batch number `index`.
    fn rows(seed: SeedStream, n_rows: usize, batch_size: usize, index: u64) -> Vec<usize> {
        Order::new(seed, n_rows, batch_size).rows(index).to_vec()
    }

    #[test]
    fn every_epoch_visits_every_row_once_in_another_order() {
        let seed = SeedStream::new(3);
        let per_epoch = Order::new(seed, 103, 10).batches_in(0);
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

    fn lengths() -> Vec<usize> {
        (0..203).map(|i| 5 + (i * 37) % 60).collect()
    }

    #[test]
    fn lengths_do_not_matter_where_rows_are_counted() {
        let seed = SeedStream::new(4);
        let mut order = Order::of_lengths(seed, lengths(), BatchRule::Examples(8));
        for index in [0, 5, 25, 26, 70, 3] {
            assert_eq!(order.rows(index), rows(seed, 203, 8, index));
        }
        assert_eq!(order.batches_in(3), 203_u64.div_ceil(8));
    }

    #[test]
    fn a_token_budget_is_kept_and_used() {
        let lengths = lengths();
        let mut order = Order::of_lengths(SeedStream::new(1), lengths.clone(), BatchRule::Tokens(100));
        let (first, second) = (order.batches_in(0), order.batches_in(1));
        for (from, to) in [(0, first), (first, first + second)] {
            let batches: Vec<Vec<usize>> = (from..to).map(|index| order.rows(index).to_vec()).collect();
            let tokens: Vec<usize> = batches.iter().map(|batch| batch.iter().map(|&row| lengths[row]).sum()).collect();
            assert!(tokens.iter().all(|&tokens| tokens <= 100));
            for (at, pair) in batches.windows(2).enumerate() {
                assert!(tokens[at] + lengths[pair[1][0]] > 100, "batch {at} could have held one more");
            }
            let mut all = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..203).collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_batch_of_a_token_budget_can_be_asked_for_without_history() {
        let fresh =
            |index| Order::of_lengths(SeedStream::new(9), lengths(), BatchRule::Tokens(130)).rows(index).to_vec();
        let mut order = Order::of_lengths(SeedStream::new(9), lengths(), BatchRule::Tokens(130));
        for index in [0, 1, 300, 299, 7, 150, 0] {
            assert_eq!(order.rows(index), fresh(index));
        }
        let other = Order::of_lengths(SeedStream::new(10), lengths(), BatchRule::Tokens(130)).rows(0).to_vec();
        assert_ne!(other, fresh(0), "the seed has no effect");
        assert!(Order::of_lengths(SeedStream::new(1), Vec::new(), BatchRule::Tokens(9)).rows(3).is_empty());
    }

    #[test]
    fn a_sequence_longer_than_the_budget_is_a_batch_of_its_own() {
        let mut order = Order::of_lengths(SeedStream::new(2), vec![50, 3, 50, 3], BatchRule::Tokens(10));
        let mut sizes: Vec<usize> = (0..order.batches_in(0)).map(|index| order.rows(index).len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes.iter().sum::<usize>(), 4);
        assert!(sizes.len() >= 3);
    }

    #[test]
    fn passes_and_parts_of_passes_are_counted() {
        let order = Order::of_lengths(SeedStream::new(2), lengths(), BatchRule::Tokens(100));
        let (first, second) = (order.batches_in(0), order.batches_in(1));
        assert_eq!(order.batches_until(2.0), first + second);
        assert_eq!(order.batches_until(1.5), first + second.div_ceil(2));
        let counted = Order::of_lengths(SeedStream::new(2), lengths(), BatchRule::Examples(8));
        assert_eq!(counted.batches_until(3.0), 3 * 26);
    }
}
