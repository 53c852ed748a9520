//! Texts that a language model generated for the inputs of its evaluation texts, with their scores.

use crate::eval::text_metrics::{BleuDifference, TextScores};
use crate::format;
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
    /// Inputs that were asked for; 0: all.
    pub asked: usize,
    /// Different inputs of the evaluation texts.
    pub available: usize,
    /// Evaluation texts.
    pub texts: usize,
    /// Of these, different ones.
    pub different_texts: usize,
    /// One per variant.
    pub ways: Vec<WrittenBy>,
    /// The first inputs.
    pub samples: Vec<WrittenSample>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl WriteReport {
    /// How many inputs were answered, and why not as many as were asked for.
    pub fn describe_inputs(&self) -> String {
        let n = |number: usize, one: &str| format::counted(number, one);
        let &Self { inputs, asked, available, texts, different_texts, .. } = self;
        let mut words = n(inputs, "input");
        if asked > inputs {
            let have = n(available, "different input");
            words.push_str(&format!(
                " ({} were asked for; the {} have {have})",
                format::count(asked),
                n(texts, "evaluation text")
            ));
        }
        if texts > 1 && different_texts == 1 {
            let times = format::count(texts);
            words.push_str(&format!(
                ". The evaluation texts are one text {times} times, so the scores say nothing about others"
            ));
        } else if different_texts < texts {
            let (texts, different) = (format::count(texts), format::count(different_texts));
            words.push_str(&format!(". Of {texts} evaluation texts only {different} are different"));
        }
        words
    }
}
