//! METEOR 1.5 for English with exact, stem and synonym matches, without its paraphrase table (Denkowski and Lavie
//! 2014). Range 0 to 1, more is better.
//!
//! ```text
//! P, R    = weighted matches / weighted words, of the output and of the reference
//! weight  = delta for content words, 1 - delta for function words; of a match also: 1 exact, 0.6 stem, 0.8 synonym
//! Fmean   = 1 / ((1 - alpha) / P + alpha / R)
//! penalty = gamma * (chunks / matches)^beta;  0 if every word is matched in one chunk
//! METEOR  = Fmean * (1 - penalty);  alpha 0.85, beta 0.20, gamma 0.60, delta 0.75
//! ```
//!
//! Of several references the one with the best segment score is used (the first of equals). The corpus score is
//! computed from the sums of the chosen references' statistics; it is not the mean of the segment scores.
//!
//! The official program also matches phrases by a table of paraphrases (62 MB). Without it scores are 0.001 to 0.004 lower
//! on E2E and WebNLG, so the two kinds must not be compared: hence the name [`LABEL`]. METEOR's word lists are not part of
//! this program; they are read from a directory that the user names.

mod align;
mod normalize;
mod words;

pub use words::{NamedText, WordLists};

use align::{Alignment, Match, Module};
use rust_stemmers::{Algorithm, Stemmer};
use words::Lexicon;

/// The name of this score wherever it is shown.
pub const LABEL: &str = "METEOR (exact, stem, synonym; no paraphrase table)";

const ALPHA: f64 = 0.85;
const BETA: f64 = 0.20;
const GAMMA: f64 = 0.60;
const DELTA: f64 = 0.75;
/// Weights of exact, stem and synonym matches.
const MODULES: [f64; 3] = [1.0, 0.6, 0.8];

/// The stem of an English word in lower case, by which METEOR matches words: Snowball's English stemmer ("Porter2").
pub fn stem(word: &str) -> String {
    Stemmer::create(Algorithm::English).stem(word).into_owned()
}

/// The references of a corpus, ready for METEOR.
#[derive(Clone, Debug)]
pub(crate) struct Meteor {
    lexicon: Lexicon,
    references: Vec<Vec<Vec<u32>>>,
}

impl Meteor {
    pub(crate) fn new(lists: WordLists, references: &[Vec<String>]) -> Self {
        let mut lexicon = Lexicon::new(lists);
        let mut prepare = |text: &String| numbers(&mut lexicon, text);
        let references = references.iter().map(|segment| segment.iter().map(&mut prepare).collect()).collect();
        Self { lexicon, references }
    }

    /// The corpus score and the score of each segment.
    pub(crate) fn score(&mut self, outputs: &[String]) -> (f64, Vec<f64>) {
        let mut sum = Statistics::default();
        let mut segments = Vec::with_capacity(self.references.len());
        for (output, references) in outputs.iter().zip(&self.references) {
            let output = numbers(&mut self.lexicon, output);
            let mut best: Option<(f64, Statistics)> = None;
            for reference in references {
                let statistics = Statistics::of(&output, reference, &self.lexicon);
                let score = statistics.score();
                if best.as_ref().is_none_or(|(other, _)| score > *other) {
                    best = Some((score, statistics));
                }
            }
            let (score, statistics) = best.unwrap_or_default();
            segments.push(score);
            sum.add(&statistics);
        }
        (sum.score(), segments)
    }
}

fn numbers(lexicon: &mut Lexicon, text: &str) -> Vec<u32> {
    normalize::words(text).iter().map(|word| lexicon.number(word)).collect()
}

/// One side of an alignment, for content words and function words.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    words: [usize; 2],
    /// By module.
    matches: [[usize; 3]; 2],
}

impl Side {
    fn of(words: &[u32], lexicon: &Lexicon) -> Self {
        let mut side = Self::default();
        words.iter().for_each(|&word| side.words[usize::from(lexicon.is_function_word(word))] += 1);
        side
    }

    fn count(&mut self, word: u32, module: Module, lexicon: &Lexicon) {
        self.matches[usize::from(lexicon.is_function_word(word))][module as usize] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.words.iter_mut().zip(other.words).for_each(|(sum, words)| *sum += words);
        let matches = self.matches.iter_mut().flatten().zip(other.matches.iter().flatten());
        matches.for_each(|(sum, matches)| *sum += matches);
    }

    fn matches(&self) -> usize {
        self.matches.iter().flatten().sum()
    }

    /// Weighted matches over weighted words; NaN without words.
    fn share(&self) -> f64 {
        let weigh = |[content, function]: [f64; 2]| DELTA * content + (1.0 - DELTA) * function;
        let sum =
            |list: [usize; 3]| list.iter().zip(MODULES).map(|(&count, weight)| count as f64 * weight).sum::<f64>();
        weigh(self.matches.map(sum)) / weigh(self.words.map(|words| words as f64))
    }
}

/// What a score is computed from; adds up over segments.
#[derive(Clone, Copy, Debug, Default)]
struct Statistics {
    output: Side,
    reference: Side,
    chunks: usize,
}

impl Statistics {
    fn of(output: &[u32], reference: &[u32], lexicon: &Lexicon) -> Self {
        let Alignment { matches, chunks, .. } = align::align(output, reference, lexicon);
        let mut sides = [Side::of(output, lexicon), Side::of(reference, lexicon)];
        for (&word, matched) in reference.iter().zip(&matches) {
            if let Some(Match { output: position, module }) = *matched {
                sides[0].count(output[position], module, lexicon);
                sides[1].count(word, module, lexicon);
            }
        }
        let [output, reference] = sides;
        Self { output, reference, chunks }
    }

    /// Every word matched, in the same order.
    fn is_perfect(&self) -> bool {
        let whole = |side: &Side| side.matches() == side.words.iter().sum::<usize>();
        whole(&self.output) && whole(&self.reference) && self.chunks == 1
    }

    fn add(&mut self, other: &Self) {
        self.output.add(&other.output);
        self.reference.add(&other.reference);
        if !other.is_perfect() {
            self.chunks += other.chunks;
        }
    }

    fn score(&self) -> f64 {
        let (precision, recall) = (self.output.share(), self.reference.share());
        let mean = 1.0 / ((1.0 - ALPHA) / precision + ALPHA / recall);
        let matches = (self.output.matches() + self.reference.matches()) as f64 / 2.0;
        let fragmentation = if self.is_perfect() { 0.0 } else { self.chunks as f64 / matches };
        let score = mean * (1.0 - GAMMA * fragmentation.powf(BETA));
        // Without words or matches there are divisions by zero on the way.
        if score.is_nan() { 0.0 } else { score.max(0.0) }
    }
}
