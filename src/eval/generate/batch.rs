//! Greedy and sampled generation: many texts side by side, a token at a time.

use crate::data::text::TextCodec;
use crate::error::{Error, Result};
use crate::eval::generate::cached_decoder::{CachedDecoder, Sequence, log_softmax};
use crate::eval::generate::stops::TextStream;
use crate::eval::generate::{Event, Finish, GenerateOptions, Generated, Hooks, Method, sample};
use crate::model::CausalLm;
use crate::rng::{Purpose, Stream};

/// First index of the random streams that texts are drawn from.
const DRAWS: u64 = 1 << 41;
/// Tokens of new prompts that are read in one step.
const PROMPT_TOKENS: usize = 2048;

/// A text that is being written.
struct ActiveText<'a> {
    number: usize,
    sequence: Sequence,
    /// Tokens not read yet: the prompt, then the last token.
    unread: Vec<u32>,
    written: Vec<u32>,
    log_probs: Vec<f32>,
    stream: TextStream<'a>,
    draws: Stream,
}

pub(crate) fn write(
    model: &CausalLm,
    prompts: &[Vec<u32>],
    codec: Option<&TextCodec>,
    options: &GenerateOptions,
    hooks: &mut Hooks<'_>,
) -> Result<Vec<Generated>> {
    let mut decoder = CachedDecoder::new(model, options.routes, options.seed)?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    decoder.reserve(
        (longest + options.max_new_tokens).min(model.base.spec.max_length()) * options.batch_size.min(prompts.len()),
    );
    let mut done: Vec<Option<Generated>> = prompts.iter().map(|_| None).collect();
    let (mut active, mut next): (Vec<ActiveText<'_>>, usize) = (Vec::new(), 0);
    while next < prompts.len() || !active.is_empty() {
        let mut tokens = 0;
        while next < prompts.len() && active.len() < options.batch_size && (tokens == 0 || tokens < PROMPT_TOKENS) {
            tokens += prompts[next].len();
            active.push(ActiveText {
                number: next,
                sequence: decoder.start(next),
                unread: prompts[next].clone(),
                written: Vec::new(),
                log_probs: Vec::new(),
                stream: TextStream::new(codec, &options.stop_strings),
                draws: options.seed.stream(Purpose::Sampling, DRAWS + next as u64),
            });
            next += 1;
        }
        let new: Vec<(&Sequence, &[u32])> =
            active.iter().map(|text| (&text.sequence, text.unread.as_slice())).collect();
        let scores = decoder.read(&new)?;
        for (text, scores) in active.iter_mut().zip(scores) {
            done[text.number] = text.advance(scores, &prompts[text.number], model, options, hooks)?;
        }
        for text in active.extract_if(.., |text| done[text.number].is_some()) {
            decoder.forget(&text.sequence);
        }
        let whole = done.iter().filter(|text| text.is_some()).count() as f64;
        let parts: f64 = active.iter().map(|text| text.written.len() as f64 / options.max_new_tokens as f64).sum();
        hooks.step((whole + parts) / prompts.len() as f64)?;
    }
    done.into_iter().map(|text| text.ok_or_else(|| Error::internal("a text was left out"))).collect()
}

impl ActiveText<'_> {
    /// Adds one token by its scores, of which log-probabilities are made; the result where the text ends with it.
    fn advance(
        &mut self,
        mut log_probs: Vec<f32>,
        prompt: &[u32],
        model: &CausalLm,
        options: &GenerateOptions,
        hooks: &mut Hooks<'_>,
    ) -> Result<Option<Generated>> {
        let mut ruled = log_probs.clone();
        options.rules.apply(&mut ruled, prompt, &self.written);
        let chosen = match options.method {
            Method::Sample(sampling) => sampling.draw(&ruled, self.draws.uniform()),
            _ => sample::best(&ruled),
        };
        let id = chosen.ok_or_else(|| {
            Error::config("every token is forbidden; raise no_repeat_ngram, or check the weights for NaN")
        })?;
        log_softmax(&mut log_probs);
        self.log_probs.push(log_probs[id as usize]);
        let stops = options.stop_ids.contains(&id);
        let piece = if stops { "" } else { self.stream.push(id)? };
        (hooks.tell)(Event::Token { text: self.number, id, log_probs: &log_probs, piece });
        if !stops {
            self.written.push(id);
        }
        self.unread = vec![id];
        let finish = if stops {
            Finish::Stop
        } else if self.stream.stopped() {
            Finish::StopString
        } else if self.written.len() >= options.max_new_tokens {
            Finish::Length
        } else if prompt.len() + self.written.len() > model.base.spec.max_length() {
            Finish::Context
        } else {
            return Ok(None);
        };
        let rest = self.stream.finish()?.to_owned();
        if !rest.is_empty() {
            (hooks.tell)(Event::Rest { text: self.number, piece: &rest });
        }
        Ok(Some(Generated {
            ids: std::mem::take(&mut self.written),
            end: stops.then_some(id),
            text: self.stream.text().to_owned(),
            score: self.log_probs.iter().map(|&v| f64::from(v)).sum(),
            log_probs: std::mem::take(&mut self.log_probs),
            finish,
        }))
    }
}
