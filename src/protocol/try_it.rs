//! Trying a classifier or regressor: one text, read by every way of running the model, and what each word does.

use crate::eval::MergedWith;
use serde::{Deserialize, Serialize};

/// Rows a run has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The rows it learns from.
    Training,
    /// The rows it is measured on.
    #[default]
    Evaluation,
}

/// What the model reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TryInput {
    /// A text, or the two texts of a pair.
    Text {
        /// The (first) text.
        text: String,
        /// The second text, where the task is about pairs.
        pair: Option<String>,
    },
    /// A row of the run's data.
    Row {
        /// Of which rows.
        split: Split,
        /// Its number, from 0.
        row: usize,
    },
}

impl Default for TryInput {
    fn default() -> Self {
        Self::Text { text: String::new(), pair: None }
    }
}

/// A text and the random routes it is read along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryPlan {
    /// What is read.
    pub input: TryInput,
    /// Number of random routes, at most [`MOST_ROUTES`].
    pub routes: usize,
    /// Seed of the random routes. With the run's own seed they are those of the comparison at its end.
    pub seed: u64,
}

/// Largest number of random routes.
pub const MOST_ROUTES: usize = 64;

/// The known answer of a row: a class by its number, or a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownAnswer {
    /// A class.
    Class(usize),
    /// A value.
    Value(f64),
}

/// What every way of running the model makes of one text. Each list holds a probability for each class, in the order of
/// [`TryReport::labels`]; of regression one value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TryReport {
    /// What was asked.
    pub plan: TryPlan,
    /// Training steps of the weights.
    pub step: u64,
    /// The text as read, and the second one of a pair.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// Tokens of it, special ones counted.
    pub tokens: usize,
    /// Whether it was cut at the run's longest input.
    pub truncated: bool,
    /// The known answer, where it is a row of the data.
    pub known: Option<KnownAnswer>,
    /// Class names in order; empty for regression.
    pub labels: Vec<String>,
    /// Smallest and largest value of the run's data (regression).
    pub range: Option<[f64; 2]>,
    /// Training and evaluation rows there are.
    pub rows: [usize; 2],
    /// The experts merged into one; without a mixture the model itself.
    pub merged: Vec<f64>,
    /// How the experts were weighed; absent without a mixture.
    pub merged_with: Option<MergedWith>,
    /// Every side of every layer on expert j, for each j. Empty without a mixture.
    pub experts: Vec<Vec<f64>>,
    /// Each random route. Empty without a mixture.
    pub routes: Vec<Vec<f64>>,
    /// The mean of the random routes.
    pub ensemble: Option<Vec<f64>>,
    /// The base model without adapters under the trained head; absent without a mixture.
    pub base: Option<Vec<f64>>,
}

impl TryReport {
    /// The likeliest class of the merged model; nothing for regression.
    pub fn predicted(&self) -> Option<usize> {
        (!self.labels.is_empty()).then(|| likeliest(&self.merged))
    }

    /// Name of a class.
    pub fn label(&self, class: usize) -> String {
        self.labels.get(class).cloned().unwrap_or_else(|| class.to_string())
    }
}

/// The first of the largest values, as numpy's argmax.
pub fn likeliest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
}

/// What leaving out one word changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WordEffect {
    /// The word.
    pub word: String,
    /// Where it stands in its text, in bytes.
    pub at: usize,
    /// Whether it stands in the second text of a pair.
    pub in_pair: bool,
    /// The predicted class's probability without this word; of regression the value.
    pub without: f64,
    /// With the word minus without it: of the class's log-odds ln p/(1-p) in nats; of regression of the value.
    pub effect: f64,
}

/// Every word left out once, alone, before the merged model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WordsReport {
    /// What was read.
    pub input: TryInput,
    /// Training steps of the weights.
    pub step: u64,
    /// The class with the largest probability on the whole text; absent for regression.
    pub class: Option<usize>,
    /// Its probability on the whole text; of regression the value.
    pub whole: f64,
    /// The words in order, those of the second text last.
    pub words: Vec<WordEffect>,
    /// Words after these, which were not measured.
    pub left: usize,
}

/// Words that are measured at most.
pub const MOST_WORDS: usize = 400;
