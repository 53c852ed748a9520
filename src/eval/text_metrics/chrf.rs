//! chrF and chrF++: F-score of character n-grams (Popović 2015, 2017). Range 0 to 1, more is better.
//!
//! ```text
//! chrF   = (1 + b^2) P R / (b^2 P + R),  b = 2
//! P      = mean over the orders of matched n-grams / n-grams of the outputs
//! R      = mean over the orders of matched n-grams / n-grams of the references
//! orders = character n-grams of length 1 to 6; chrF++ adds word n-grams of length 1 and 2
//! ```
//!
//! As sacrebleu computes it by default (its number is this one times 100): case counts, white space does not, the
//! counts are summed over the corpus before P and R are taken, an order that one side is too short for is left out of
//! the means, and of several references the one with the best segment score is used (the first of equals). For the
//! word n-grams one sign of ASCII punctuation is split off each word, at its end or else at its beginning.

use crate::eval::text_metrics::ngrams::{Counts, Grams, Words, matches};

const CHARACTERS: usize = 6;
const WORDS: usize = 2;
/// Recall weighs this many times as much as precision.
const BETA: f64 = 2.0;

/// Character and word n-grams of one text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    characters: Counts,
    words: Counts,
}

/// Numbers for the n-grams of all texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    characters: Grams,
    words: Grams,
    numbers: Words,
}

impl Counter {
    pub(crate) fn count(&mut self, text: &str) -> Text {
        let characters: Vec<u32> = text.chars().filter(|char| !char.is_whitespace()).map(u32::from).collect();
        let words = self.numbers.numbers(text.split_whitespace().flat_map(split_punctuation));
        Text { characters: self.characters.count(&characters, CHARACTERS), words: self.words.count(&words, WORDS) }
    }
}

/// chrF and chrF++ of a corpus.
pub(crate) fn corpus(outputs: &[Text], references: &[Vec<Text>]) -> (f64, f64) {
    let mut sums = [Statistics::default(), Statistics::default()];
    for (output, references) in outputs.iter().zip(references) {
        let all: Vec<Statistics> = references.iter().map(|reference| Statistics::of(output, reference)).collect();
        for (sum, words) in sums.iter_mut().zip([0, WORDS]) {
            let better = |best: &Statistics, other: &Statistics| other.score(words) > best.score(words);
            let best = all.iter().reduce(|best, other| if better(best, other) { other } else { best });
            best.into_iter().for_each(|best| sum.add(best));
        }
    }
    (sums[0].score(0), sums[1].score(WORDS))
}

/// For each order, characters first: n-grams of the output, of the reference, and matches.
#[derive(Clone, Debug, Default)]
struct Statistics([[u64; 3]; CHARACTERS + WORDS]);

impl Statistics {
    fn of(output: &Text, reference: &Text) -> Self {
        let mut rows = Self::default();
        let characters = (0..CHARACTERS).map(|order| (order, &output.characters, &reference.characters));
        let words = (0..WORDS).map(|order| (order, &output.words, &reference.words));
        for (row, (order, own, theirs)) in rows.0.iter_mut().zip(characters.chain(words)) {
            let total = theirs.total(order) as u64;
            // An output's n-grams count only where the reference has some of that length.
            let outputs = if total == 0 { 0 } else { own.total(order) as u64 };
            *row = [outputs, total, matches(&own.orders[order], &theirs.orders[order])];
        }
        rows
    }

    fn add(&mut self, other: &Self) {
        for (sum, value) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *sum += value;
        }
    }

    fn score(&self, words: usize) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0u32);
        for &[outputs, references, matched] in self.0.iter().take(CHARACTERS + words) {
            if outputs > 0 && references > 0 {
                precision += matched as f64 / outputs as f64;
                recall += matched as f64 / references as f64;
                orders += 1;
            }
        }
        if orders == 0 || precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / f64::from(orders), recall / f64::from(orders));
        (1.0 + BETA * BETA) * precision * recall / (BETA * BETA * precision + recall)
    }
}

/// A word without one sign of punctuation, and that sign.
fn split_punctuation(word: &str) -> impl Iterator<Item = &str> {
    let sign = |char: char| char.is_ascii_punctuation();
    let at = if word.chars().nth(1).is_none() {
        0
    } else if word.ends_with(sign) {
        word.len() - 1
    } else {
        usize::from(word.starts_with(sign))
    };
    let (left, right) = word.split_at(at);
    [left, right].into_iter().filter(|part| !part.is_empty())
}
