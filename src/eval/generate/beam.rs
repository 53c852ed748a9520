//! Beam search: the best of several continuations.
//!
//! [`Search::Transformers`] is the search of the transformers library: of the best `2 beams` continuations (more with several
//! end tokens) those that end are results if they are among the best `beams`, the others go on; results are compared by
//! `sum of log p / length ^ penalty`. [`Search::Reference`] is the decoder of the paper's text experiments: of the best
//! `beams` continuations each that ends is a result and leaves its beam; what still runs at the last step is a result too.
//! Rules apply before the softmax there, after it in transformers.

use super::routes::Router;
use super::{Event, Generated, Hooks, Options};
use crate::data::text::TextCodec;
use crate::error::{Error, Result};
use crate::eval::generate::beam_state::{BeamState, SearchContext};
use crate::eval::generate::cached_decoder::{CachedDecoder, Sequence};
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

pub(super) fn write(
    model: &CausalLm,
    prompts: &[Vec<u32>],
    codec: Option<&TextCodec>,
    options: &Options,
    settings: Beams,
    hooks: &mut Hooks<'_>,
) -> Result<Vec<Generated>> {
    let context = SearchContext { settings, options, codec };
    let mut decoder = CachedDecoder::new(model, Router::new(model, options.routes, options.seed)?);
    let side = (options.batch_size / settings.beams).max(1);
    let mut done = Vec::with_capacity(prompts.len());
    for (group, prompts_here) in prompts.chunks(side).enumerate() {
        let states = prompts_here.iter().enumerate().map(|(i, prompt)| {
            let room = model.spec().max_length() - prompt.len();
            BeamState::new(group * side + i, prompt, room, &context)
        });
        let mut states: Vec<BeamState<'_>> = states.collect();
        let mut results: Vec<Option<Generated>> = states.iter().map(|_| None).collect();
        while results.iter().any(Option::is_none) {
            step(&mut decoder, &mut states, &mut results, &context, hooks)?;
            let parts = states.iter().zip(&results).map(|(state, result)| match result {
                Some(_) => 1.0,
                None => state.length as f64 / state.most as f64,
            });
            hooks.step((done.len() as f64 + parts.sum::<f64>()) / prompts.len() as f64)?;
        }
        done.extend(results.into_iter().flatten());
    }
    Ok(done)
}

/// Adds one token to every search that is not done.
fn step(
    decoder: &mut CachedDecoder<'_>,
    states: &mut [BeamState<'_>],
    results: &mut [Option<Generated>],
    context: &SearchContext<'_>,
    hooks: &mut Hooks<'_>,
) -> Result<()> {
    let mut unread = Vec::new();
    for (state, _) in states.iter_mut().zip(results.iter()).filter(|(_, result)| result.is_none()) {
        unread.extend(state.unread(decoder, context.settings.beams));
    }
    let new: Vec<(&Sequence, &[u32])> = unread.iter().map(|(sequence, ids)| (sequence, ids.as_slice())).collect();
    let scores = decoder.read(&new)?;
    let mut all_rows = (0..unread.len()).map(|row| scores.of(row));
    for (state, result) in states.iter_mut().zip(results).filter(|(_, result)| result.is_none()) {
        let rows: Vec<&[f32]> = all_rows.by_ref().take(state.rows()).collect();
        let over = match context.settings.search {
            Search::Transformers(early) => state.transformers(decoder, &rows, context, early)?,
            Search::Reference => state.reference(decoder, &rows, context)?,
        };
        if over {
            state.beams.drain(..).for_each(|beam| decoder.forget(&beam.sequence));
            let generated = state.result(context)?;
            (hooks.tell)(Event::Text { text: state.number, generated: &generated });
            *result = Some(generated);
        }
    }
    Ok(())
}
