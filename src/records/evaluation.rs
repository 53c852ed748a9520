//! The results of an evaluation, as plain data.

use super::paired::{Costs, PairedReport};
use serde::{Deserialize, Serialize};

/// What one way of running the model scores on a data set. Absent: the metric does not apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Mean cross-entropy in nats, or mean squared error.
    #[serde(deserialize_with = "super::nan_of_null")]
    pub loss: f64,
    /// Share of right predictions, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// F1 of label 1 (two classes), macro-averaged (more), 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Matthews correlation, -1 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matthews: Option<f64>,
    /// Pearson correlation, -1 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pearson: Option<f64>,
    /// Spearman rank correlation, -1 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spearman: Option<f64>,
    /// exp of the loss: of how many tokens the model is undecided at each step, at least 1 (language models).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Share of the tokens to be learned that the model finds likeliest, 0 to 1 (language models).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_accuracy: Option<f64>,
    /// The deciding metric's value (see [`EvalReport::metric`]).
    #[serde(deserialize_with = "super::nan_of_null")]
    pub primary: f64,
}

impl Scores {
    /// All scores by name; absent: the metric does not apply.
    pub fn named(&self) -> [(&'static str, Option<f64>); 8] {
        [
            ("accuracy", self.accuracy),
            ("f1", self.f1),
            ("matthews", self.matthews),
            ("pearson", self.pearson),
            ("spearman", self.spearman),
            ("loss", Some(self.loss)),
            ("perplexity", self.perplexity),
            ("token_accuracy", self.token_accuracy),
        ]
    }
}

/// How the experts of a merged model were weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergedWith {
    /// All the same: the paper.
    UniformWeights,
    /// By the scores that the experts were imported with.
    ImportedScores,
}

/// Merged against unmerged: the table of *Merge & compare*.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Name of the deciding metric: `accuracy`, `f1`, `matthews`, `pearson`, `spearman` or `loss`.
    pub metric: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Rows (of texts: sequences) evaluated.
    pub rows: usize,
    /// The experts merged into one, as [`EvalReport::merged_with`] says.
    pub merged: Scores,
    /// How the experts were weighed; absent without a mixture, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_with: Option<MergedWith>,
    /// Each of R whole random routes.
    pub random: Vec<Scores>,
    /// Every side of every layer on expert j, for each j. Empty without a mixture.
    pub fixed: Vec<Scores>,
    /// Mean of the probabilities of the R random routes.
    pub ensemble: Scores,
    /// What a model reaches that has learned nothing: always answering the most frequent class of this data set
    /// (classification) or its mean value (regression); the deciding metric of [`EvalReport::base`] (language models).
    #[serde(deserialize_with = "super::nan_of_null")]
    pub majority: f64,
    /// The base model as it came, without a mixture (language models).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Box<Scores>>,
    /// The differences from the merged model with their intervals; absent without a mixture, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<Box<PairedReport>>,
    /// What the variants cost; absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Box<Costs>>,
    /// Rows of the merged model by class: `[class][answer]`; empty for other tasks than classification, for more than 20
    /// classes, and in older records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<u64>>,
}

/// Mean, smallest and largest of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Band {
    /// Of the given values; NaN for none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let n = values.len() as f64;
        Self {
            mean: values.iter().sum::<f64>() / n,
            min: values.iter().copied().fold(f64::NAN, f64::min),
            max: values.iter().copied().fold(f64::NAN, f64::max),
        }
    }
}

impl EvalReport {
    /// Name of the merged model in tables.
    pub fn merged_name(&self) -> &'static str {
        match self.merged_with {
            Some(MergedWith::UniformWeights) => "Merged, uniform",
            Some(MergedWith::ImportedScores) => "Merged, imported scores",
            None => "Merged",
        }
    }

    /// The band of the random routes in the deciding metric.
    pub fn random_band(&self) -> Band {
        Band::of(self.random.iter().map(|scores| scores.primary))
    }
}
