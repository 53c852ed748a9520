//! Beam search: the best of several continuations.
//!
//! [`Search::Transformers`] is the search of the transformers library: of the best `2 beams` continuations (more with several
//! end tokens) those that end are results if they are among the best `beams`, the others go on; results are compared by
//! `sum of log p / length ^ penalty`. [`Search::Reference`] is the decoder of the paper's text experiments: of the best
//! `beams` continuations each that ends is a result and leaves its beam; what still runs at the last step is a result too.
//! Rules apply before the softmax there, after it in transformers.

use super::{GenerateOptions, Generated, Hooks};
use crate::data::text::TextCodec;
use crate::error::Result;
use crate::eval::generate::beam_settings::{Beams, Search};
use crate::eval::generate::beam_state::{BeamState, SearchContext};
use crate::eval::generate::cached_decoder::{CachedDecoder, Sequence};
use crate::model::CausalLm;

pub(super) fn write(
    model: &CausalLm,
    prompts: &[Vec<u32>],
    codec: Option<&TextCodec>,
    options: &GenerateOptions,
    settings: Beams,
    hooks: &Hooks<'_>,
) -> Result<Vec<Generated>> {
    let context = SearchContext { settings, options, codec };
    let mut decoder = CachedDecoder::new(model, options.routes, options.seed)?;
    let side = (options.batch_size / settings.beams).max(1);
    let mut done = Vec::with_capacity(prompts.len());
    for (group, prompts_here) in prompts.chunks(side).enumerate() {
        let states = prompts_here.iter().enumerate().map(|(i, prompt)| {
            let room = model.base.spec.max_length() - prompt.len();
            BeamState::new(group * side + i, prompt, room, &context)
        });
        let mut states: Vec<BeamState<'_>> = states.collect();
        let mut results: Vec<Option<Generated>> = states.iter().map(|_| None).collect();
        while results.iter().any(Option::is_none) {
            step(&mut decoder, &mut states, &mut results, &context)?;
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
) -> Result<()> {
    let mut unread = Vec::new();
    for (state, _) in states.iter_mut().zip(results.iter()).filter(|(_, result)| result.is_none()) {
        unread.extend(state.unread(decoder, context.settings.beams));
    }
    let new: Vec<(&Sequence, &[u32])> = unread.iter().map(|(sequence, ids)| (sequence, ids.as_slice())).collect();
    let mut scores = decoder.read(&new)?.into_iter();
    for (state, result) in states.iter_mut().zip(results).filter(|(_, result)| result.is_none()) {
        let rows: Vec<Vec<f32>> = scores.by_ref().take(state.rows()).collect();
        let over = match context.settings.search {
            Search::Transformers(early) => state.transformers(decoder, &rows, context, early)?,
            Search::Reference => state.reference(decoder, &rows, context)?,
        };
        if over {
            state.beams.drain(..).for_each(|beam| decoder.forget(&beam.sequence));
            *result = Some(state.result(context)?);
        }
    }
    Ok(())
}
