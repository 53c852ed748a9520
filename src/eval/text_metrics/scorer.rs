//! All metrics of a protocol on one set of references.

use crate::error::{Error, Result};
use crate::eval::text_metrics::bleu::{self, BleuCounts};
use crate::eval::text_metrics::meteor::{Meteor, WordLists};
use crate::eval::text_metrics::ngrams::{Counts, Grams, Words};
use crate::eval::text_metrics::{
    Protocol, SegmentScores, TextScores, UndefinedScore, chrf, cider, nist, ptb, rouge, ter, tokens,
};

/// References, prepared once for any number of systems.
#[derive(Clone, Debug)]
pub struct Scorer {
    protocol: Protocol,
    segments: usize,
    references: usize,
    numbers: Words,
    grams: Grams,
    bleu: Vec<bleu::Reference>,
    information: nist::Information,
    treebank: Option<Treebank>,
    /// Words of the references, for TER.
    edits: Option<Vec<Vec<Vec<u32>>>>,
    characters: chrf::Counter,
    chrf: Vec<Vec<chrf::Text>>,
    meteor: Option<Meteor>,
}

/// References as words of the Treebank.
#[derive(Clone, Debug)]
struct Treebank {
    numbers: Words,
    grams: Grams,
    words: Vec<Vec<Vec<u32>>>,
    rarity: cider::Rarity,
    cider: Vec<Vec<cider::Reference>>,
}

impl Scorer {
    /// Prepares the references: for each segment one or more texts, of which some may be empty, but not all.
    pub fn new(references: &[Vec<String>], protocol: Protocol, word_lists: Option<WordLists>) -> Result<Self> {
        if references.is_empty() {
            return Err(Error::data("there are no references to score against"));
        }
        let has_words = |text: &&str| !text.trim().is_empty();
        let present: Vec<Vec<&str>> =
            references.iter().map(|texts| texts.iter().map(String::as_str).filter(has_words).collect()).collect();
        if let Some(segment) = present.iter().position(Vec::is_empty) {
            return Err(Error::data(format!("segment {} has no reference text; every segment needs one", segment + 1)));
        }
        let (mut numbers, mut grams) = (Words::default(), Grams::default());
        let mut counts = Vec::with_capacity(references.len());
        for texts in references {
            let kept = texts.iter().filter(|text| protocol == Protocol::WebNlg || !text.trim().is_empty());
            let count = |text: &String| grams.count(&numbers.numbers(cut(text, protocol)), nist::ORDERS);
            counts.push(kept.map(count).collect::<Vec<Counts>>());
        }
        let bleu = counts.iter().map(|counts| bleu::Reference::of(counts)).collect();
        let information = match protocol {
            Protocol::E2e => nist::Information::of(&grams, &counts),
            Protocol::WebNlg => nist::Information::default(),
        };
        let treebank = (protocol == Protocol::E2e).then(|| Treebank::new(&present));
        let edits =
            (protocol == Protocol::WebNlg).then(|| each(&present, |text| numbers.numbers(tokens::lower_words(text))));
        let mut characters = chrf::Counter::default();
        let chrf = each(&present, |text| characters.count(text));
        let meteor_text = |text: &str| match protocol {
            Protocol::E2e => ptb::words(text).join(" "),
            Protocol::WebNlg => text.to_owned(),
        };
        let meteor = word_lists.map(|lists| Meteor::new(lists, &each(&present, meteor_text)));
        Ok(Self {
            protocol,
            segments: references.len(),
            references: present.iter().map(Vec::len).sum(),
            numbers,
            grams,
            bleu,
            information,
            treebank,
            edits,
            characters,
            chrf,
            meteor,
        })
    }

    /// Scores one output for each segment. New words get numbers; the scores do not depend on earlier calls.
    pub fn score(&mut self, outputs: &[String]) -> Result<TextScores> {
        self.score_segments(outputs).map(|(scores, _)| scores)
    }

    /// As [`Scorer::score`], with the scores of the single segments.
    pub fn score_segments(&mut self, outputs: &[String]) -> Result<(TextScores, SegmentScores)> {
        if outputs.len() != self.segments {
            return Err(Error::data(format!(
                "there are {} outputs for {} segments with references; they must be as many",
                outputs.len(),
                self.segments
            )));
        }
        let mut segments = SegmentScores::default();
        let counts: Vec<Counts> = outputs
            .iter()
            .map(|text| self.grams.count(&self.numbers.numbers(cut(text, self.protocol)), nist::ORDERS))
            .collect();
        segments.bleu = counts.iter().zip(&self.bleu).map(|(own, theirs)| BleuCounts::of(own, theirs)).collect();
        let bleu: BleuCounts = segments.bleu.iter().sum();
        let nist = (self.protocol == Protocol::E2e).then(|| nist::corpus(&counts, &self.bleu, &self.information));
        let ter = self.edits.as_ref().map(|references| {
            let words: Vec<Vec<u32>> =
                outputs.iter().map(|text| self.numbers.numbers(tokens::lower_words(text))).collect();
            ter::corpus(&words, references)
        });
        let (ter, edits) = ter.unzip();
        segments.ter_edits = edits.unwrap_or_default();
        let texts: Vec<chrf::Text> = outputs.iter().map(|text| self.characters.count(text)).collect();
        let (chrf, chrf_plus_plus) = chrf::corpus(&texts, &self.chrf);
        let mut meteor_inputs: Vec<String> = Vec::new();
        if let Some(treebank) = &mut self.treebank {
            let words: Vec<Vec<String>> = outputs.iter().map(|text| ptb::words(text)).collect();
            (segments.rouge_l, segments.cider) = treebank.score(&words);
            meteor_inputs = words.iter().map(|words| words.join(" ")).collect();
        }
        let inputs = if meteor_inputs.is_empty() { outputs } else { &meteor_inputs };
        let meteor = self.meteor.as_mut().map(|meteor| meteor.score(inputs));
        let (meteor, by_segment) = meteor.unzip();
        segments.meteor = by_segment.unwrap_or_default();
        let flat = self.treebank.as_ref().is_some_and(|treebank| treebank.rarity.is_flat());
        let undefined = if flat { vec![no_cider(self.segments)] } else { Vec::new() };
        let scores = TextScores {
            protocol: self.protocol,
            segments: self.segments,
            references: self.references,
            empty_outputs: outputs.iter().filter(|text| text.trim().is_empty()).count(),
            bleu: bleu.score(self.protocol),
            nist,
            meteor_exact_stem_synonym: meteor,
            rouge_l: mean(&segments.rouge_l),
            cider: mean(&segments.cider).filter(|_| !flat),
            ter: ter.map(|ter| ter.score),
            chrf,
            chrf_plus_plus,
            bleu_precisions: bleu.precisions(),
            brevity_penalty: bleu.brevity_penalty(),
            hypothesis_words: bleu.hypothesis_words,
            reference_words: bleu.reference_words,
            ter_edits: ter.map(|ter| ter.edits),
            ter_reference_words: ter.map(|ter| ter.reference_words),
            undefined,
        };
        Ok((scores, segments))
    }
}

impl Treebank {
    fn new(references: &[Vec<&str>]) -> Self {
        let (mut numbers, mut grams) = (Words::default(), Grams::default());
        let words = each(references, |text| numbers.numbers(ptb::words(text)));
        let mut count = |words: &Vec<u32>| grams.count(words, cider::ORDERS);
        let counts: Vec<Vec<Counts>> = words.iter().map(|texts| texts.iter().map(&mut count).collect()).collect();
        let rarity = cider::Rarity::of(grams.len(), &counts);
        let prepare = |counts: Vec<Counts>| {
            counts.into_iter().map(|counts| cider::Reference::of(counts, &rarity)).collect::<Vec<_>>()
        };
        let cider = counts.into_iter().map(prepare).collect();
        Self { numbers, grams, words, rarity, cider }
    }

    /// ROUGE-L and CIDEr of each segment.
    fn score(&mut self, outputs: &[Vec<String>]) -> (Vec<f64>, Vec<f64>) {
        let (mut rouge_l, mut cider) = (Vec::with_capacity(outputs.len()), Vec::with_capacity(outputs.len()));
        for (output, (words, references)) in outputs.iter().zip(self.words.iter().zip(&self.cider)) {
            let output = self.numbers.numbers(output);
            rouge_l.push(rouge::segment(&output, words));
            cider.push(cider::segment(&self.grams.count(&output, cider::ORDERS), references, &self.rarity));
        }
        (rouge_l, cider)
    }
}

/// The words of a text for BLEU and NIST.
fn cut(text: &str, protocol: Protocol) -> Vec<String> {
    match protocol {
        Protocol::E2e => tokens::mteval(text),
        Protocol::WebNlg => tokens::lower_words(text),
    }
}

/// Something of each text of each segment.
fn each<T>(segments: &[Vec<&str>], mut of: impl FnMut(&str) -> T) -> Vec<Vec<T>> {
    segments.iter().map(|texts| texts.iter().map(|text| of(text)).collect()).collect()
}

fn no_cider(segments: usize) -> UndefinedScore {
    let why = if segments == 1 { "there is only one input" } else { "all inputs have the same references" };
    let reason = format!("{why}, and it weighs words by how few inputs' references have them");
    UndefinedScore { name: "CIDEr".to_owned(), reason }
}

/// The mean of segment scores; nothing for none.
fn mean(scores: &[f64]) -> Option<f64> {
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}
