//! The order of micro-batches of texts: seeded, and restartable at any of them.
//!
//! The sequences of micro-batch number `index` depend on nothing but the seed, the sequences' lengths and the rule by
//! which batches are filled, so a resumed run asks for the next number and goes on exactly where it was.

use crate::config::RunConfig;
use crate::data::order;
use crate::rng::SeedStream;

/// How a micro-batch is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchRule {
    /// So many sequences.
    Examples(usize),
    /// As many sequences, in the shuffled order, as fit into so many tokens; at least one.
    Tokens(usize),
}

impl BatchRule {
    /// What the settings say.
    pub fn of(config: &RunConfig) -> Self {
        match config.text.max_tokens_per_batch {
            0 => Self::Examples(config.train.batch_size),
            tokens => Self::Tokens(tokens),
        }
    }
}

/// One pass over the data.
#[derive(Clone, Debug)]
struct Pass {
    number: u64,
    /// Number of its first micro-batch, counted over all passes.
    first: u64,
    rows: Vec<usize>,
    /// Where each micro-batch starts in `rows`, and the end of the last one.
    starts: Vec<usize>,
}

impl Pass {
    fn batches(&self) -> u64 {
        self.starts.len() as u64 - 1
    }
}

/// Micro-batches by their number; the current pass is kept in memory.
#[derive(Clone, Debug)]
pub struct TextOrder {
    seed: SeedStream,
    lengths: Vec<usize>,
    rule: BatchRule,
    current: Option<Pass>,
}

impl TextOrder {
    /// Nothing is shuffled before the first question. `lengths`: tokens of each sequence.
    pub fn new(seed: SeedStream, lengths: Vec<usize>, rule: BatchRule) -> Self {
        Self { seed, lengths, rule, current: None }
    }

    /// The sequences of micro-batch number `index` (from 0, counted over all passes); empty when there are none at all.
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
        if self.lengths.is_empty() { 0 } else { self.pass(epoch, 0).batches() }
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

    fn pass(&self, number: u64, first: u64) -> Pass {
        let rows = order::epoch(self.seed, self.lengths.len(), number);
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
        Pass { number, first, rows, starts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths() -> Vec<usize> {
        (0..203).map(|i| 5 + (i * 37) % 60).collect()
    }

    #[test]
    fn counted_batches_are_those_of_the_classifier() {
        let seed = SeedStream::new(4);
        let mut order = TextOrder::new(seed, lengths(), BatchRule::Examples(8));
        for index in [0, 5, 25, 26, 70, 3] {
            assert_eq!(order.rows(index), order::rows(seed, 203, 8, index));
        }
        assert_eq!(order.batches_in(3), order::batches_per_epoch(203, 8));
    }

    #[test]
    fn a_token_budget_is_kept_and_used() {
        let lengths = lengths();
        let mut order = TextOrder::new(SeedStream::new(1), lengths.clone(), BatchRule::Tokens(100));
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
    fn any_batch_can_be_asked_for_without_history() {
        let fresh = |index| TextOrder::new(SeedStream::new(9), lengths(), BatchRule::Tokens(130)).rows(index).to_vec();
        let mut order = TextOrder::new(SeedStream::new(9), lengths(), BatchRule::Tokens(130));
        for index in [0, 1, 300, 299, 7, 150, 0] {
            assert_eq!(order.rows(index), fresh(index));
        }
        let other = TextOrder::new(SeedStream::new(10), lengths(), BatchRule::Tokens(130)).rows(0).to_vec();
        assert_ne!(other, fresh(0), "the seed has no effect");
        assert!(TextOrder::new(SeedStream::new(1), Vec::new(), BatchRule::Tokens(9)).rows(3).is_empty());
    }

    #[test]
    fn a_sequence_longer_than_the_budget_is_a_batch_of_its_own() {
        let mut order = TextOrder::new(SeedStream::new(2), vec![50, 3, 50, 3], BatchRule::Tokens(10));
        let mut sizes: Vec<usize> = (0..order.batches_in(0)).map(|index| order.rows(index).len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes.iter().sum::<usize>(), 4);
        assert!(sizes.len() >= 3);
    }

    #[test]
    fn passes_and_parts_of_passes_are_counted() {
        let order = TextOrder::new(SeedStream::new(2), lengths(), BatchRule::Tokens(100));
        let (first, second) = (order.batches_in(0), order.batches_in(1));
        assert_eq!(order.batches_until(2.0), first + second);
        assert_eq!(order.batches_until(1.5), first + second.div_ceil(2));
        let counted = TextOrder::new(SeedStream::new(2), lengths(), BatchRule::Examples(8));
        assert_eq!(counted.batches_until(3.0), 3 * 26);
    }
}
