//! What a beam search is asked for.

use crate::error::{Error, Result};

/// When transformers' search ends before the longest text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStop {
    /// When the best running beam, divided by the penalty of its present length, is no better than the worst result.
    #[default]
    Heuristic,
    /// As soon as there are as many results as beams.
    FirstResults,
    /// Only when no running beam can become better than the worst result.
    Never,
}

/// Which search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// As transformers.
    Transformers(EarlyStop),
    /// As the paper's decoder.
    Reference,
}

/// Settings of a beam search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beams {
    /// At least 1.
    pub beams: usize,
    /// Sums of log-probabilities are divided by `length ^ length_penalty`: above 0 prefers longer texts.
    pub length_penalty: f64,
    /// Which search.
    pub search: Search,
}

impl Beams {
    pub(super) fn check(&self) -> Result<()> {
        if self.beams == 0 || !self.length_penalty.is_finite() {
            return Err(Error::config(format!(
                "num_beams is {} and length_penalty {}; choose at least one beam and a finite penalty",
                self.beams, self.length_penalty
            )));
        }
        Ok(())
    }

    /// What the sum of a text of this length is divided by.
    pub(super) fn penalty(&self, length: usize) -> f32 {
        (length as f64).powf(self.length_penalty) as f32
    }
}
