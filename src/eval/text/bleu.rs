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
//! scorer counts 1e-15 matches where there are none, so a hopeless output scores almost 0; `multi-bleu` gives 0.

use super::ngrams::{Counts, matches};

/// N-grams up to this length are counted.
pub(super) const ORDERS: usize = 4;

/// BLEU of a corpus with what it was computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bleu {
    /// The score, 0 to 1.
    pub score: f64,
    /// Share of matched n-grams for n = 1 to 4, 0 to 1.
    pub precisions: [f64; ORDERS],
    /// The penalty for outputs that are shorter than the references, 0 to 1.
    pub brevity_penalty: f64,
    /// Words of all outputs.
    pub hypothesis_words: usize,
    /// Words of the references that are closest in length.
    pub reference_words: usize,
}

/// What an order without any match counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmatched {
    /// 1e-15 matches: the score is tiny, but not 0.
    Tiny,
    /// The score is 0.
    Zero,
}

/// The references of one segment, as BLEU needs them.
#[derive(Clone, Debug, Default)]
pub(super) struct Reference {
    /// The largest count of each n-gram in any reference.
    pub(super) most: Counts,
    /// Words of each reference.
    pub(super) lengths: Vec<usize>,
}

impl Reference {
    pub(super) fn of(references: &[Counts]) -> Self {
        let most = references.iter().fold(Counts::default(), |most, counts| most.larger(counts));
        Self { most, lengths: references.iter().map(|counts| counts.length).collect() }
    }

    fn closest(&self, length: usize) -> usize {
        self.lengths.iter().copied().min_by_key(|&own| (own.abs_diff(length), own)).unwrap_or(0)
    }
}

/// BLEU of the outputs' counts against their references.
pub(super) fn corpus(outputs: &[Counts], references: &[Reference], unmatched: Unmatched) -> Bleu {
    let (mut hits, mut totals) = ([0u64; ORDERS], [0usize; ORDERS]);
    let (mut hypothesis_words, mut reference_words) = (0, 0);
    for (output, reference) in outputs.iter().zip(references) {
        hypothesis_words += output.length;
        reference_words += reference.closest(output.length);
        for (order, (own, most)) in output.orders.iter().zip(&reference.most.orders).enumerate().take(ORDERS) {
            hits[order] += matches(own, most);
        }
        for (order, total) in totals.iter_mut().enumerate() {
            *total += output.total(order);
        }
    }
    let precision = |order: usize| if totals[order] == 0 { 0.0 } else { hits[order] as f64 / totals[order] as f64 };
    let precisions = std::array::from_fn(precision);
    let brevity_penalty = match hypothesis_words {
        0 => 0.0,
        words if words <= reference_words => (1.0 - reference_words as f64 / words as f64).exp(),
        _ => 1.0,
    };
    let any_order_empty = hits.contains(&0);
    let logs = hits.iter().zip(totals).map(|(&hit, total)| ((hit as f64).max(1e-15) / (total as f64).max(1e-9)).ln());
    let score = match unmatched {
        Unmatched::Zero if any_order_empty => 0.0,
        _ => brevity_penalty * (logs.sum::<f64>() / ORDERS as f64).exp(),
    };
    Bleu { score, precisions, brevity_penalty, hypothesis_words, reference_words }
}
