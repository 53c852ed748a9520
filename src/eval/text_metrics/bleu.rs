//! BLEU: how many n-grams of the output occur in a reference (Papineni et al. 2002). Range 0 to 1, more is better.
//!
//! ```text
//! BLEU = BP * (p1 p2 p3 p4)^(1/4)
//! pn   = matched n-grams of all outputs / n-grams of all outputs
//! BP   = 1 if c > r, else exp(1 - r / c)
//! ```
//!
//! An n-gram matches at most as often as it occurs in that reference of its segment that has most of it. c is the
//! number of words of all outputs; r adds up, segment by segment, the length of the reference that is closest to
//! the output's length (the shorter one of two that are equally close). All sums run over the whole corpus.
//!
//! Case, tokens and the treatment of an order without any match come from the protocol (see [`super`]): the E2E
//! scorer counts 1e-15 matches where there are none, so an output without matches scores almost 0; `multi-bleu` gives 0.

use crate::eval::text_metrics::Protocol;
use crate::eval::text_metrics::ngrams::{Counts, matches};

/// N-grams up to this length are counted.
pub(crate) const ORDERS: usize = 4;

/// The references of one segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    /// The largest count of each n-gram in any reference.
    pub(crate) most: Counts,
    /// Words of each reference.
    pub(crate) lengths: Vec<usize>,
}

impl Reference {
    pub(crate) fn of(references: &[Counts]) -> Self {
        let most = references.iter().fold(Counts::default(), |most, counts| most.larger(counts));
        Self { most, lengths: references.iter().map(|counts| counts.length).collect() }
    }

    fn closest(&self, length: usize) -> usize {
        self.lengths.iter().copied().min_by_key(|&own| (own.abs_diff(length), own)).unwrap_or(0)
    }
}

/// The counts behind BLEU, of one segment or many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// Matched n-grams for n = 1 to 4.
    hits: [u64; ORDERS],
    /// N-grams of the output for n = 1 to 4.
    totals: [usize; ORDERS],
    /// c.
    pub(crate) hypothesis_words: usize,
    /// r.
    pub(crate) reference_words: usize,
}

impl BleuCounts {
    pub(crate) fn of(output: &Counts, reference: &Reference) -> Self {
        let pairs = output.orders.iter().zip(&reference.most.orders);
        let mut hits = [0; ORDERS];
        hits.iter_mut().zip(pairs).for_each(|(hits, (own, most))| *hits = matches(own, most));
        Self {
            hits,
            totals: std::array::from_fn(|order| output.total(order)),
            hypothesis_words: output.length,
            reference_words: reference.closest(output.length),
        }
    }

    /// BLEU of these counts.
    pub(crate) fn score(&self, protocol: Protocol) -> f64 {
        if protocol == Protocol::WebNlg && self.hits.contains(&0) {
            return 0.0;
        }
        let pairs = self.hits.iter().zip(self.totals);
        let logs = pairs.map(|(&hit, total)| ((hit as f64).max(1e-15) / (total as f64).max(1e-9)).ln());
        self.brevity_penalty() * (logs.sum::<f64>() / ORDERS as f64).exp()
    }

    /// Shares of matched n-grams for n = 1 to 4.
    pub(crate) fn precisions(&self) -> [f64; ORDERS] {
        let share = |hits: u64, total: usize| if total == 0 { 0.0 } else { hits as f64 / total as f64 };
        std::array::from_fn(|order| share(self.hits[order], self.totals[order]))
    }

    /// BP.
    pub(crate) fn brevity_penalty(&self) -> f64 {
        match self.hypothesis_words {
            0 => 0.0,
            words if words <= self.reference_words => (1.0 - self.reference_words as f64 / words as f64).exp(),
            _ => 1.0,
        }
    }
}

impl<'a> std::iter::Sum<&'a Self> for BleuCounts {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum.hits.iter_mut().zip(one.hits).for_each(|(sum, hits)| *sum += hits);
            sum.totals.iter_mut().zip(one.totals).for_each(|(sum, total)| *sum += total);
            sum.hypothesis_words += one.hypothesis_words;
            sum.reference_words += one.reference_words;
            sum
        })
    }
}
