//! CIDEr: cosine of n-gram vectors that are weighted by rarity (Vedantam et al. 2015). Range 0 to 10, more is better.
//!
//! ```text
//! weight(g) = count(g) * (ln(segments) - ln(max(1, segments whose references have g)))
//! sim_n     = sum over the output's n-grams g of min(weight, weight_ref) * weight_ref / (|output| |reference|)
//!             * exp(-d^2 / (2 * 6^2)),  d = difference of the numbers of bigrams
//! CIDEr     = 10 * mean over n = 1..4, over the references, over the segments, of sim_n
//! ```
//!
//! This is CIDEr-D (clipped weights, penalty for length). Rarity comes from the references of the same corpus, so scores
//! are only comparable on the same references. Where every n-gram of the references is in all segments (one segment, or the
//! same references again and again) all weights are 0 and the score is not defined; scorers print 0 for it.

use crate::eval::text_metrics::ngrams::{Counts, GramCounts, shared};

/// N-grams up to this length are counted.
pub(crate) const ORDERS: usize = 4;
/// Standard deviation of the penalty for length, in words.
const SIGMA: f64 = 6.0;

/// How rare each n-gram is, by its number; n-grams with higher numbers are in no reference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rarity {
    weights: Vec<f64>,
    unseen: f64,
    /// Every n-gram of the references is in all segments.
    flat: bool,
}

impl Rarity {
    pub(crate) fn of(grams: usize, references: &[Vec<Counts>]) -> Self {
        // The last segment in which an n-gram was seen, so that it is counted once a segment.
        let (mut segments, mut last) = (vec![0u32; grams], vec![usize::MAX; grams]);
        for (segment, counts) in references.iter().enumerate() {
            for &gram in counts.iter().flat_map(|counts| &counts.orders).flat_map(GramCounts::keys) {
                let gram = gram as usize;
                segments[gram] += u32::from(last[gram] != segment);
                last[gram] = segment;
            }
        }
        let unseen = (references.len().max(1) as f64).ln();
        // Numbers are also given to the beginnings of n-grams, which are none themselves.
        let flat = segments.iter().filter(|&&count| count > 0).all(|&count| count as usize == references.len());
        Self { weights: segments.iter().map(|&count| unseen - f64::from(count.max(1)).ln()).collect(), unseen, flat }
    }

    /// Whether no n-gram of the references is rarer than another: then the score is not defined.
    pub(crate) fn is_flat(&self) -> bool {
        self.flat
    }

    fn weight(&self, gram: u32) -> f64 {
        self.weights.get(gram as usize).copied().unwrap_or(self.unseen)
    }

    /// Length of the vector of each order.
    pub(crate) fn norms(&self, counts: &Counts) -> [f64; ORDERS] {
        std::array::from_fn(|order| {
            let counts = counts.orders.get(order).into_iter().flatten();
            counts.map(|(&gram, &count)| (f64::from(count) * self.weight(gram)).powi(2)).sum::<f64>().sqrt()
        })
    }
}

/// A reference and the lengths of its vectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    counts: Counts,
    norms: [f64; ORDERS],
}

impl Reference {
    pub(crate) fn of(counts: Counts, rarity: &Rarity) -> Self {
        Self { norms: rarity.norms(&counts), counts }
    }
}

/// The score of one output.
pub(crate) fn segment(output: &Counts, references: &[Reference], rarity: &Rarity) -> f64 {
    let norms = rarity.norms(output);
    let sum: f64 = references.iter().map(|reference| similarity(output, norms, reference, rarity)).sum();
    10.0 * sum / (references.len().max(1) * ORDERS) as f64
}

/// Sum over n of the similarity to one reference.
fn similarity(output: &Counts, norms: [f64; ORDERS], reference: &Reference, rarity: &Rarity) -> f64 {
    let apart = output.total(1) as f64 - reference.counts.total(1) as f64;
    let closeness = (-apart * apart / (2.0 * SIGMA * SIGMA)).exp();
    let mut sum = 0.0;
    for (order, (own, theirs)) in output.orders.iter().zip(&reference.counts.orders).enumerate() {
        let scale = norms[order] * reference.norms[order];
        if scale == 0.0 {
            continue;
        }
        let mut common = 0.0;
        for (gram, count, other) in shared(own, theirs) {
            let weight = rarity.weight(gram);
            common += f64::from(count.min(other)) * weight * f64::from(other) * weight;
        }
        sum += common / scale;
    }
    sum * closeness
}
