//! One text before a classifier or regressor: merged, along each expert, along random routes, without adapters; and what
//! each word does to the merged model's answer.

use crate::config::RunConfig;
use crate::data::{Dataset, Encoded, Labels, Row, Target, TaskData, TextTokenizer};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::MergedWith;
use crate::eval::compare::random_route;
use crate::mixture::{MergeWeights, Pick, Route};
use crate::model::{Classifier, ModelSource, Network as _};
use crate::protocol::{
    KnownAnswer, MOST_ROUTES, MOST_WORDS, Split, TryInput, TryPlan, TryReport, WordEffect, WordsReport, likeliest,
};
use crate::rng::SeedStream;
use crate::tensor::log_softmax;
use crate::train::ModelAndData;
use crate::workflow::prepare;

/// Tokens that go through the model in one batch, unless one text is longer.
pub(super) const BATCH_TOKENS: usize = 2048;

/// A classifier with its rows, and the tokenizer of its model.
pub struct Subject<'a> {
    model: &'a Classifier,
    data: &'a TaskData,
    config: &'a RunConfig,
    tokenizer: &'a TextTokenizer,
    /// Training steps of the weights.
    step: u64,
}

/// The tokenizer of the model used last: reading it takes longer than an answer.
#[derive(Debug, Default)]
pub struct TokenizerCache(Option<(String, TextTokenizer)>);

impl TokenizerCache {
    /// The tokenizer of the model these settings name.
    pub fn of(&mut self, config: &RunConfig) -> Result<&TextTokenizer> {
        let path = &config.model.path;
        let known = self.0.take().filter(|(known, _)| known == path);
        let entry = match known {
            Some(entry) => entry,
            None => (path.clone(), prepare::tokenizer(&ModelSource::open(path)?)?),
        };
        Ok(&self.0.insert(entry).1)
    }
}

/// A text that is ready to be read.
pub(super) struct Question {
    pub(super) row: Row,
    pub(super) encoded: Encoded,
    known: Option<KnownAnswer>,
}

impl<'a> Subject<'a> {
    /// The classifier of a run; an error where it is a language model.
    pub fn new(
        subject: &'a ModelAndData,
        config: &'a RunConfig,
        tokenizer: &'a TextTokenizer,
        step: u64,
    ) -> Result<Self> {
        match subject {
            ModelAndData::Classifier(model, data) => Ok(Self { model, data, config, tokenizer, step }),
            ModelAndData::Lm(..) => Err(Error::config(
                "this run's model writes texts and gives no classes; ask it in the Playground, or with adamix generate",
            )),
        }
    }

    /// What every way of running the model makes of the plan's text. `go_on` gets the share done; false cancels.
    pub fn answer(&self, plan: &TryPlan, go_on: &dyn Fn(f64) -> bool) -> Result<TryReport> {
        let Question { row, encoded, known } = self.question(&plan.input)?;
        let model = self.model;
        let own = MergeWeights::own(model.mixture())?;
        let merged = self.outputs(&model.merged(&own)?, &[&encoded], None, &|share| go_on(0.1 * share))?.remove(0);
        let mut report = TryReport {
            plan: plan.clone(),
            step: self.step,
            text: row.text,
            pair: row.pair,
            tokens: encoded.ids.len(),
            truncated: encoded.truncated,
            known,
            labels: self.data.labels.clone(),
            range: self.range(),
            rows: [self.data.train.len(), self.data.dev.len()],
            merged,
            ..TryReport::default()
        };
        let Some(mixture) = model.mixture() else { return Ok(report) };
        let (sites, seed) = (model.sites().len(), SeedStream::new(plan.seed));
        let count = plan.routes.min(MOST_ROUTES);
        let fixed = (0..mixture.num_experts).map(|expert| Route::fixed(mixture, sites, expert));
        let drawn = (0..count).map(|index| random_route(mixture, sites, seed, index));
        let routes: Vec<Route> = fixed.chain(drawn).collect();
        let same = vec![&encoded; routes.len()];
        let mut each = self.outputs(model, &same, Some(&routes), &|share| go_on(0.1 + 0.8 * share))?;
        report.routes = each.split_off(mixture.num_experts);
        report.experts = each;
        report.ensemble = mean(&report.routes);
        report.base =
            Some(self.outputs(&model.bare(), &[&encoded], None, &|share| go_on(0.9 + 0.1 * share))?.remove(0));
        report.merged_with =
            Some(if own.is_uniform() { MergedWith::UniformWeights } else { MergedWith::ImportedScores });
        Ok(report)
    }

    /// What leaving out each word, alone, changes for the merged model.
    pub fn words(&self, input: &TryInput, go_on: &dyn Fn(f64) -> bool) -> Result<WordsReport> {
        let Question { row, encoded, .. } = self.question(input)?;
        let model = self.model.merged_own()?;
        let of = |text: &str, in_pair: bool| spans(text).map(move |(at, word)| (at, word, in_pair)).collect::<Vec<_>>();
        let mut words = of(&row.text, false);
        words.extend(row.pair.iter().flat_map(|pair| of(pair, true)));
        let left = words.len().saturating_sub(MOST_WORDS);
        words.truncate(MOST_WORDS);
        let shortened = words.iter().map(|&(at, ref word, in_pair)| {
            let text = if in_pair { row.text.clone() } else { without(&row.text, at, word.len()) };
            let pair = row.pair.as_ref().map(|pair| if in_pair { without(pair, at, word.len()) } else { pair.clone() });
            (text, pair)
        });
        let shortened: Vec<(String, Option<String>)> = shortened.collect();
        let texts: Vec<_> = shortened.iter().map(|(text, pair)| (text.as_str(), pair.as_deref())).collect();
        let mut all = vec![encoded];
        all.extend(self.tokenizer.encode_all(&texts, self.config.data.max_length)?);
        let logits = self.logits(&model, &all.iter().collect::<Vec<_>>(), None, go_on)?;
        let outputs = self.data.labels.len();
        let class = (outputs > 0).then(|| likeliest(&logits[0]));
        let scored: Vec<(f64, f64)> = logits.iter().map(|row| score(row, class)).collect();
        let (whole, score_of_whole) = scored[0];
        let effects = words.into_iter().zip(&scored[1..]).map(|((at, word, in_pair), &(without, score))| WordEffect {
            word,
            at,
            in_pair,
            without,
            effect: score_of_whole - score,
        });
        Ok(WordsReport { input: input.clone(), step: self.step, class, whole, words: effects.collect(), left })
    }

    /// Class names in order; empty for regression.
    pub(super) fn labels(&self) -> &[String] {
        &self.data.labels
    }

    pub(super) fn question(&self, input: &TryInput) -> Result<Question> {
        match input {
            TryInput::Text { text, pair } => {
                let encoded = self.tokenizer.encode(text, pair.as_deref(), self.config.data.max_length)?;
                // Its answer is not known; it is never looked at.
                let row = Row { text: text.clone(), pair: pair.clone(), target: Target::Class(0) };
                Ok(Question { row, encoded, known: None })
            }
            TryInput::Row { split, row } => {
                let (rows, name) = self.split(*split);
                let found = rows.rows.get(*row).zip(rows.encoded.get(*row));
                let (found, encoded) = found.ok_or_else(|| {
                    Error::config(format!("there is no {name} row {}; choose 1 to {}", row + 1, rows.len()))
                })?;
                let known = match found.target {
                    Target::Class(class) => KnownAnswer::Class(class as usize),
                    Target::Value(value) => KnownAnswer::Value(f64::from(value)),
                };
                Ok(Question { row: found.clone(), encoded: encoded.clone(), known: Some(known) })
            }
        }
    }

    fn split(&self, split: Split) -> (&Dataset, &'static str) {
        match split {
            Split::Training => (&self.data.train, "training"),
            Split::Evaluation => (&self.data.dev, "evaluation"),
        }
    }

    /// Smallest and largest value to be predicted.
    fn range(&self) -> Option<[f64; 2]> {
        let values = [&self.data.train, &self.data.dev].into_iter().flat_map(|split| &split.rows);
        let mut values = values.filter_map(|row| row.target.value()).map(f64::from);
        let first = values.next()?;
        Some(values.fold([first, first], |[low, high], value| [low.min(value), high.max(value)]))
    }

    /// Probabilities of each text, or its value, along its own route.
    pub(super) fn outputs(
        &self,
        model: &Classifier,
        texts: &[&Encoded],
        routes: Option<&[Route]>,
        go_on: &dyn Fn(f64) -> bool,
    ) -> Result<Vec<Vec<f64>>> {
        let logits = self.logits(model, texts, routes, go_on)?;
        let classes = !self.data.labels.is_empty();
        Ok(logits.into_iter().map(|row| if classes { probabilities(&row) } else { row }).collect())
    }

    /// Logits of each text along its own route; without routes the model must be merged.
    fn logits(
        &self,
        model: &Classifier,
        texts: &[&Encoded],
        routes: Option<&[Route]>,
        go_on: &dyn Fn(f64) -> bool,
    ) -> Result<Vec<Vec<f64>>> {
        let mut found = Vec::with_capacity(texts.len());
        let outputs = model.head.classes().max(1);
        while found.len() < texts.len() {
            if !go_on(found.len() as f64 / texts.len() as f64) {
                return Err(Error::cancelled());
            }
            let start = found.len();
            let mut end = start + 1;
            let mut tokens = texts[start].ids.len();
            while end < texts.len() && tokens + texts[end].ids.len() <= BATCH_TOKENS {
                tokens += texts[end].ids.len();
                end += 1;
            }
            let route = routes.map(|routes| side_by_side(&routes[start..end]));
            let values = model.logits(&batch(&texts[start..end]), route.as_ref())?;
            found.extend(values.chunks_exact(outputs).map(|row| row.iter().map(|&z| f64::from(z)).collect::<Vec<_>>()));
        }
        if let Some(value) = found.iter().flatten().find(|value| !value.is_finite()) {
            let text =
                format!("an output of the model is {value}: these weights cannot be used; take another checkpoint");
            return Err(Error::new(ErrorKind::Numerics, text));
        }
        Ok(found)
    }
}

/// These texts as one packed batch.
pub(super) fn batch(texts: &[&Encoded]) -> crate::data::Batch {
    let mut batch = crate::data::Batch {
        ids: Vec::new(),
        type_ids: Vec::new(),
        offsets: vec![0],
        labels: Labels::Classes(Vec::new()),
        rows: (0..texts.len()).collect(),
    };
    for text in texts {
        batch.ids.extend(&text.ids);
        batch.type_ids.extend(&text.type_ids);
        batch.offsets.push(batch.ids.len());
    }
    batch
}

/// One route for a batch in which sequence i takes `routes[i]`; each of them has one pass and one expert a side.
pub(super) fn side_by_side(routes: &[Route]) -> Route {
    let sites = routes.first().map_or(0, |route| route.sites);
    let one = |pick: &Pick| match pick {
        Pick::One(expert) => *expert,
        Pick::PerExample(list) | Pick::PerToken(list) => list.first().copied().unwrap_or(0),
    };
    let picks = (0..2 * sites).map(|at| {
        let drawn: Vec<u8> = routes.iter().map(|route| one(&route.picks[at])).collect();
        let first = drawn.first().copied().unwrap_or(0);
        if drawn.iter().all(|&expert| expert == first) { Pick::One(first) } else { Pick::PerExample(drawn) }
    });
    Route { passes: 1, sites, picks: picks.collect() }
}

fn probabilities(logits: &[f64]) -> Vec<f64> {
    log_softmax(logits).into_iter().map(f64::exp).collect()
}

/// A class's probability and its log-odds ln p/(1-p) in nats; of regression twice the value.
pub(super) fn score(logits: &[f64], class: Option<usize>) -> (f64, f64) {
    let Some(class) = class else { return (logits[0], logits[0]) };
    let others: Vec<f64> = logits.iter().enumerate().filter(|(at, _)| *at != class).map(|(_, &z)| z).collect();
    let largest = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = others.iter().map(|z| (z - largest).exp()).sum::<f64>().ln() + largest;
    (probabilities(logits)[class], logits[class] - sum)
}

/// The mean of some lists.
fn mean(lists: &[Vec<f64>]) -> Option<Vec<f64>> {
    let first = lists.first()?;
    let of = |at: usize| lists.iter().map(|list| list[at]).sum::<f64>() / lists.len() as f64;
    Some((0..first.len()).map(of).collect())
}

/// The words of a text with the bytes where they start.
fn spans(text: &str) -> impl Iterator<Item = (usize, String)> {
    let start = text.as_ptr() as usize;
    text.split_whitespace().map(move |word| (word.as_ptr() as usize - start, word.to_owned()))
}

/// A text without the word of `length` bytes at `at`, and without the space behind it.
fn without(text: &str, at: usize, length: usize) -> String {
    let (before, rest) = (&text[..at], &text[at + length..]);
    let space = rest.chars().next().map_or(0, |first| if first.is_whitespace() { first.len_utf8() } else { 0 });
    let joined = format!("{before}{}", &rest[space..]);
    // The last word leaves the space before it.
    if rest.trim().is_empty() { joined.trim_end().to_owned() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_left_out_with_one_space() {
        let text = " So  ärgerlich, gut\nhier ";
        let left: Vec<(String, String)> =
            spans(text).map(|(at, word)| (word.clone(), without(text, at, word.len()))).collect();
        let expected = [
            ("So", "  ärgerlich, gut\nhier "),
            ("ärgerlich,", " So  gut\nhier "),
            ("gut", " So  ärgerlich, hier "),
            ("hier", " So  ärgerlich, gut"),
        ];
        assert_eq!(left, expected.map(|(word, rest)| (word.to_owned(), rest.to_owned())));
        assert_eq!(without("alone", 0, 5), "");
    }

    #[test]
    fn log_odds_are_those_of_the_probability() {
        let logits = [0.3, -1.2, 2.0];
        let (p, odds) = score(&logits, Some(2));
        assert!((odds - (p / (1.0 - p)).ln()).abs() < 1e-12);
        // Where the probability rounds to 1 the odds still say how sure the model is.
        assert!((score(&[60.0, 0.0], Some(0)).1 - 60.0).abs() < 1e-9);
        assert_eq!(score(&[0.75], None), (0.75, 0.75));
    }

    #[test]
    fn routes_side_by_side_keep_their_experts() {
        let route = |picks: [u8; 4]| Route { passes: 1, sites: 2, picks: picks.map(Pick::One).to_vec() };
        let joined = side_by_side(&[route([0, 1, 0, 3]), route([2, 1, 0, 1])]);
        let expected = [Pick::PerExample(vec![0, 2]), Pick::One(1), Pick::One(0), Pick::PerExample(vec![3, 1])];
        assert_eq!((joined.sites, joined.picks), (2, expected.to_vec()));
    }
}
