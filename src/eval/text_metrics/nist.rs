//! NIST: matched n-grams weighted by their information (Doddington 2002). Range 0 to about 15, more is better.
//!
//! ```text
//! info(w1..wn) = log2(count(w1..wn-1) / count(w1..wn))      counts over all references of the corpus;
//!                                                            count of no words = words of all references
//! NIST    = penalty * sum over n = 1..5 of (sum of info of the matched n-grams) / (n-grams of all outputs)
//! penalty = exp(-b ln(x)^2) for x < 1, else 1;  b = ln(2) / ln(1.5)^2;  x = output words / mean reference words
//! ```
//!
//! An n-gram matches at most as often as it occurs in that reference of its segment that has most of it. The mean
//! reference length is that of the NIST script: all reference words over the mean number of references of a segment.

use crate::eval::text_metrics::bleu::Reference;
use crate::eval::text_metrics::ngrams::{Counts, Grams, shared};

/// N-grams up to this length are counted.
pub(crate) const ORDERS: usize = 5;

/// Information of each n-gram of the references, in bits, by its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Information {
    bits: Vec<f64>,
    words: usize,
    references: usize,
}

impl Information {
    pub(crate) fn of(grams: &Grams, references: &[Vec<Counts>]) -> Self {
        let mut counts = vec![0u64; grams.len()];
        let (mut words, mut number) = (0, 0);
        for reference in references.iter().flatten() {
            words += reference.length;
            number += 1;
            for (&gram, &count) in reference.orders.iter().flatten() {
                counts[gram as usize] += u64::from(count);
            }
        }
        let bits = counts.iter().enumerate().map(|(gram, &count)| {
            let parent = grams.parent(gram as u32);
            let whole = if Grams::is_root(parent) { words as u64 } else { counts[parent as usize] };
            if count == 0 { 0.0 } else { (whole as f64 / count as f64).log2() }
        });
        Self { bits: bits.collect(), words, references: number }
    }
}

/// NIST of the outputs' counts against their references.
pub(crate) fn corpus(outputs: &[Counts], references: &[Reference], information: &Information) -> f64 {
    let mut gained = [0.0f64; ORDERS];
    let mut totals = [0usize; ORDERS];
    for (output, reference) in outputs.iter().zip(references) {
        for (order, (own, most)) in output.orders.iter().zip(&reference.most.orders).enumerate().take(ORDERS) {
            for (gram, count, limit) in shared(own, most) {
                gained[order] += f64::from(count.min(limit)) * information.bits[gram as usize];
            }
        }
        for (order, total) in totals.iter_mut().enumerate() {
            *total += output.total(order);
        }
    }
    let score: f64 =
        gained.iter().zip(totals).map(|(&bits, total)| if total == 0 { 0.0 } else { bits / total as f64 }).sum();
    let mean_references = information.references as f64 / references.len().max(1) as f64;
    score * penalty(totals[0] as f64 / (information.words as f64 / mean_references))
}

fn penalty(ratio: f64) -> f64 {
    if ratio >= 1.0 {
        1.0
    } else if ratio > 0.0 {
        let beta = 2f64.ln() / 1.5f64.ln().powi(2);
        (-beta * ratio.ln().powi(2)).exp()
    } else {
        0.0
    }
}
