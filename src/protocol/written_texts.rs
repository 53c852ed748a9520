//! Texts that a language model generated for the inputs of its evaluation texts, with their scores.

use crate::eval::text_metrics::{BleuDifference, TextScores};
use serde::Serialize;

/// One variant of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WrittenBy {
    /// `base`, `merged` or `random`.
    pub way: &'static str,
    /// Corpus scores of its texts.
    pub scores: TextScores,
    /// Its BLEU minus the merged model's; absent for the merged model, and where one input was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bleu_minus_merged: Option<BleuDifference>,
}

/// One input with a text of each variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WrittenSample {
    /// The end of what the model was given, as text.
    pub prompt: String,
    /// Reference texts.
    pub references: Vec<String>,
    /// One per variant, in their order.
    pub texts: Vec<String>,
}

/// Texts and scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WriteReport {
    /// Inputs answered.
    pub inputs: usize,
    /// One per variant.
    pub ways: Vec<WrittenBy>,
    /// The first inputs.
    pub samples: Vec<WrittenSample>,
    /// Wall-clock seconds.
    pub seconds: f64,
}
