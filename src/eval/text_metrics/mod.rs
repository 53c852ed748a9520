//! Scores of generated text against reference texts, as the scorers of the E2E and WebNLG challenges compute them.
//!
//! | score | range | better | what it looks at |
//! |---|---|---|---|
//! | `bleu` | 0 to 1 | more | n-grams of the output that are in a reference |
//! | `nist` | 0 to about 15 | more | the same, weighted by information |
//! | [`meteor`] | 0 to 1 | more | aligned words: exact, by stem, by synonym |
//! | `rouge` | 0 to 1 | more | longest common subsequence |
//! | `cider` | 0 to 10 | more | cosine of n-gram vectors, weighted by rarity |
//! | `ter` | 0 up | less | edits and moves that turn the output into a reference |
//! | `chrf` | 0 to 1 | more | n-grams of characters |
//!
//! # Protocols
//!
//! A score is only comparable under the same rules for case and words, so the rules come in two sets.
//!
//! | | [`Protocol::E2e`] | [`Protocol::WebNlg`] |
//! |---|---|---|
//! | scorer | e2e-metrics | the WebNLG 2017 scripts (also used for DART) |
//! | BLEU | words by NIST's rules (`tokens`), tiny counts where nothing matches | lower-cased words at white space, 0 where nothing matches |
//! | NIST | words by NIST's rules | - |
//! | METEOR | Treebank words without punctuation (`ptb`), then METEOR's own rules | METEOR's own rules |
//! | ROUGE-L, CIDEr | Treebank words without punctuation | - |
//! | TER | - | lower-cased words at white space |
//! | chrF, chrF++ | as written | as written |
//!
//! WebNLG's texts must be prepared by the caller ([`prepare::webnlg`]). Missing references are empty texts there: BLEU
//! takes an empty reference for one of length 0 when it looks for the closest length, as `multi-bleu`; every other score
//! leaves it out.
//!
//! # Empty texts
//!
//! An empty output scores 0 (TER: its reference's words). A segment without any reference text is an error. Nothing here
//! returns NaN.

mod bleu;
mod bootstrap;
mod chrf;
mod cider;
pub mod meteor;
mod ngrams;
mod nist;
pub mod prepare;
mod ptb;
mod rouge;
mod scorer;
mod ter;
mod tokens;

pub use bleu::BleuCounts;
pub use bootstrap::BleuDifference;
pub use meteor::WordLists;
pub use scorer::Scorer;

use serde::{Deserialize, Serialize};

/// Whose rules are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The scorer of the E2E challenge.
    E2e,
    /// The scorers of WebNLG 2017 and DART.
    WebNlg,
}

/// A score that these references do not define.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndefinedScore {
    /// Its name as in [`TextScores::named`].
    pub name: String,
    /// Why.
    pub reason: String,
}

/// All scores of one set of outputs. Absent: the protocol does not have it, METEOR's word lists were not given, or it is
/// in [`TextScores::undefined`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextScores {
    /// Whose rules were followed.
    pub protocol: Protocol,
    /// Segments scored.
    pub segments: usize,
    /// Reference texts, empty ones not counted.
    pub references: usize,
    /// Outputs without any text; they score 0.
    pub empty_outputs: usize,
    /// BLEU, 0 to 1.
    pub bleu: f64,
    /// NIST, 0 to about 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nist: Option<f64>,
    /// METEOR without its paraphrase table, 0 to 1; shown as [`meteor::LABEL`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meteor_exact_stem_synonym: Option<f64>,
    /// ROUGE-L, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rouge_l: Option<f64>,
    /// CIDEr, 0 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cider: Option<f64>,
    /// TER, 0 up, less is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ter: Option<f64>,
    /// chrF, 0 to 1.
    pub chrf: f64,
    /// chrF++, 0 to 1.
    pub chrf_plus_plus: f64,
    /// Shares of matched n-grams behind BLEU, for n = 1 to 4.
    pub bleu_precisions: [f64; bleu::ORDERS],
    /// BLEU's penalty for short outputs, 0 to 1.
    pub brevity_penalty: f64,
    /// Words of the outputs, as BLEU counts them.
    pub hypothesis_words: usize,
    /// Words of the references of closest length, as BLEU counts them.
    pub reference_words: usize,
    /// Edits behind TER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ter_edits: Option<usize>,
    /// Reference words behind TER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ter_reference_words: Option<f64>,
    /// Scores of the protocol that these references do not define.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undefined: Vec<UndefinedScore>,
}

impl TextScores {
    /// Name and value of each score that is there, in the order in which the challenges list them.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let scores = [
            ("BLEU", Some(self.bleu)),
            ("NIST", self.nist),
            (meteor::LABEL, self.meteor_exact_stem_synonym),
            ("ROUGE-L", self.rouge_l),
            ("CIDEr", self.cider),
            ("TER", self.ter),
            ("chrF", Some(self.chrf)),
            ("chrF++", Some(self.chrf_plus_plus)),
        ];
        scores.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Scores of single segments; empty where the protocol does not have the metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentScores {
    /// What BLEU counts in each segment.
    pub bleu: Vec<BleuCounts>,
    /// METEOR; empty without word lists.
    pub meteor: Vec<f64>,
    /// ROUGE-L.
    pub rouge_l: Vec<f64>,
    /// CIDEr.
    pub cider: Vec<f64>,
    /// Edits against the best reference (TER).
    pub ter_edits: Vec<usize>,
}
