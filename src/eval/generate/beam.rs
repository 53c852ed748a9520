//! Beam search: the best of several continuations.
//!
//! [`Search::Transformers`] is the search of the transformers library, token for token: of the best `2 beams` continuations
//! (more with several end tokens) those that end are kept as results if they are among the best `beams`, the others go
//! on; results are compared by `sum of log p / length ^ penalty`. [`Search::Reference`] is the decoder of the paper's text
//! experiments: the best `beams` continuations; each that ends is a candidate for the answer and leaves its beam; the
//! search goes to the last step, and what still runs then is a candidate too. Rules come before the probabilities there,
//! after them in transformers.

use super::routes::Router;
use super::{Event, Generated, Hooks, Options};
use crate::data::text::TextCodec;
use crate::error::{Error, Result};
use crate::eval::generate::beam_state::{Hunt, Rule};
use crate::eval::generate::cached_decoder::{Thread, Voice};
use crate::model::CausalLm;

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
    /// Continuations that are followed, at least 1.
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

pub(super) fn write(
    model: &CausalLm,
    prompts: &[Vec<u32>],
    codec: Option<&TextCodec>,
    options: &Options,
    settings: Beams,
    hooks: &mut Hooks<'_>,
) -> Result<Vec<Generated>> {
    let rule = Rule {
        settings,
        rules: options.rules,
        stop_ids: &options.stop_ids,
        stop_strings: &options.stop_strings,
        codec,
    };
    let mut voice = Voice::new(model, Router::new(model, options.routes, options.seed)?);
    let side = (options.batch_size / settings.beams).max(1);
    let mut done = Vec::with_capacity(prompts.len());
    for (group, prompts_here) in prompts.chunks(side).enumerate() {
        let mut hunts = Vec::new();
        for (i, prompt) in prompts_here.iter().enumerate() {
            let room = model.spec().max_length() - prompt.len();
            hunts.push(Hunt::new((group * side + i, prompt), options.max_new_tokens, room, settings.beams));
        }
        let mut results: Vec<Option<Generated>> = hunts.iter().map(|_| None).collect();
        while results.iter().any(Option::is_none) {
            step(&mut voice, &mut hunts, &mut results, &rule, hooks)?;
            let parts = hunts.iter().zip(&results).map(|(hunt, result)| match result {
                Some(_) => 1.0,
                None => hunt.length as f64 / hunt.most as f64,
            });
            hooks.step((done.len() as f64 + parts.sum::<f64>()) / prompts.len() as f64)?;
        }
        done.extend(results.into_iter().flatten());
    }
    Ok(done)
}

/// One token on for every hunt that is not done.
fn step(
    voice: &mut Voice<'_>,
    hunts: &mut [Hunt<'_>],
    results: &mut [Option<Generated>],
    rule: &Rule<'_>,
    hooks: &mut Hooks<'_>,
) -> Result<()> {
    let mut last = Vec::new();
    for hunt in hunts.iter_mut().zip(results.iter()).filter(|(_, result)| result.is_none()).map(|(hunt, _)| hunt) {
        if hunt.length == 0 {
            hunt.start(voice, rule.settings.beams);
            last.push(hunt.prompt.to_vec());
        } else {
            last.extend(hunt.beams.iter().map(|beam| beam.last()));
        }
    }
    let threads = hunts.iter().zip(results.iter()).filter(|(_, result)| result.is_none());
    // At the start all beams of a hunt are one and the same.
    let threads = threads.flat_map(|(hunt, _)| hunt.beams.iter().take(if hunt.length == 0 { 1 } else { usize::MAX }));
    let threads: Vec<Thread> = threads.map(|beam| beam.thread.clone()).collect();
    let new: Vec<(&Thread, &[u32])> = threads.iter().zip(&last).map(|(thread, ids)| (thread, ids.as_slice())).collect();
    let scores = voice.read(&new)?;
    let mut at = 0;
    for (hunt, result) in hunts.iter_mut().zip(results).filter(|(_, result)| result.is_none()) {
        let count = if hunt.length == 0 { 1 } else { hunt.beams.len() };
        let rows: Vec<&[f32]> = (at..at + count).map(|row| scores.of(row)).collect();
        at += count;
        let over = match rule.settings.search {
            Search::Transformers(early) => hunt.transformers(voice, &rows, rule, early)?,
            Search::Reference => hunt.reference(voice, &rows, rule)?,
        };
        if over {
            hunt.beams.drain(..).for_each(|beam| voice.forget(&beam.thread));
            let generated = hunt.result(rule)?;
            (hooks.tell)(Event::Text { text: hunt.number, generated: &generated });
            *result = Some(generated);
        }
    }
    Ok(())
}
