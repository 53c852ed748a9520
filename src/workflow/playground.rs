//! The playground's answers: each pane writes in turn, and each of its tokens is compared with what the first pane
//! predicts at that place.

use crate::config::ModelConfig;
use crate::data::text::TextEncoder;
use crate::error::{Error, Result};
use crate::eval::generate::cached_decoder::{CachedDecoder, Sequence, log_softmax};
use crate::eval::generate::routes::Routes;
use crate::eval::generate::{Event, Finish, GenerateOptions, Hooks, Method, Rules, Sampling, generate};
use crate::machine::device;
use crate::model::decoder::CausalLm;
use crate::model::{BaseModel as _, Network as _};
use crate::protocol::playground::{LikelyToken, Pane, PaneAnswer, PlayEnd, PlayPlan, PlayReport, PlayToken, Sampler};
use crate::rng::SeedStream;
use crate::train::ModelAndData;
use crate::workflow::fingerprint::Fingerprints;
use crate::workflow::generate::TextGenerator;
use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

/// Alternatives kept for each token.
const LIKELIEST: usize = 5;

/// Called while answers are written.
pub(crate) struct PlayCallbacks<'a> {
    /// Called after each token with the share done, 0 to 1; false ends it at once.
    pub go_on: &'a dyn Fn(f64) -> bool,
    /// The answers as far as they are written.
    pub show: &'a dyn Fn(Vec<String>),
}

/// A language model without a mixture answers.
pub(crate) fn of_model(path: &str, plan: &PlayPlan, callbacks: &PlayCallbacks<'_>) -> Result<PlayReport> {
    let generator = TextGenerator::open(Path::new(path), &ModelConfig::default())?;
    play(&generator, None, plan, callbacks)
}

/// A run's model answers.
pub(crate) fn of_run(subject: &ModelAndData, plan: &PlayPlan, callbacks: &PlayCallbacks<'_>) -> Result<PlayReport> {
    let Some((model, data)) = subject.language_model() else {
        return Err(Error::config("this run's model gives classes and does not write; open a run of a language model"));
    };
    let device = device::name(model.base.device());
    let generator = TextGenerator::new(model.clone(), data.encoder.codec.clone(), device)?;
    play(&generator, Some(&data.encoder), plan, callbacks)
}

/// Lets every pane of the plan answer. `layout`: how the model was trained to be asked, where it was.
fn play(
    generator: &TextGenerator,
    layout: Option<&TextEncoder>,
    plan: &PlayPlan,
    callbacks: &PlayCallbacks<'_>,
) -> Result<PlayReport> {
    let asked = generator.conversation_prompt(layout, plan)?;
    let prompt: Vec<u32> = asked.iter().chain(&plan.prefix).copied().collect();
    let known = generator.model.base.spec.vocab_size;
    if let Some(id) = plan.prefix.iter().find(|&&id| id as usize >= known) {
        return Err(Error::config(format!("the answer begins with token {id}, but the model knows {known}")));
    }
    let prefix = generator.codec.decode_plain(&plan.prefix)?;
    let options = options(generator, &plan.sampler);
    let seed = SeedStream::new(plan.sampler.seed);
    let fingerprints = Fingerprints::of(&generator.model, seed)?;
    let panes = plan.panes.iter().map(|&pane| ReadyPane::new(&generator.model, pane, &fingerprints));
    let panes: Vec<ReadyPane<'_>> = panes.collect::<Result<_>>()?;
    let Some(first) = panes.first() else { return Err(Error::config("no pane is chosen; choose who answers")) };
    let mut texts = vec![String::new(); panes.len()];
    let mut answers: Vec<PaneAnswer> = Vec::new();
    for (number, pane) in panes.iter().enumerate() {
        let reference = if number == 0 { None } else { Some(Reader::new(first, &prompt, seed)?) };
        let share = |share: f64| (callbacks.go_on)((number as f64 + share) / panes.len() as f64);
        let mut written =
            Written { generator, reference, prefix: (&plan.prefix, &prefix), tokens: Vec::new(), failed: None };
        let mut tell = |event: Event<'_>| {
            written.on_event(event);
            texts[number] = written.text();
            (callbacks.show)(texts.clone());
        };
        let started = Instant::now();
        let options = GenerateOptions { routes: pane.routes, ..options.clone() };
        let hooks = &mut Hooks { go_on: &share, tell: &mut tell };
        let prompts = std::slice::from_ref(&prompt);
        let one = generate(&pane.model, prompts, Some(&generator.codec), &options, hooks)?;
        let seconds = started.elapsed().as_secs_f64();
        let Written { tokens, failed, .. } = written;
        if let Some(err) = failed {
            return Err(err);
        }
        let Some(one) = one.into_iter().next() else { return Err(Error::internal("a prompt without an answer")) };
        let ids = |tokens: &[PlayToken]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
        let diverges_at = answers.first().and_then(|first| parts_at(&ids(&first.tokens), &ids(&tokens)));
        answers.push(PaneAnswer {
            pane: pane.pane,
            fingerprint: pane.fingerprint.clone(),
            // After a prefix the first word may need a space that it has not alone.
            text: if plan.prefix.is_empty() { one.text } else { tokens.iter().map(|t| t.text.as_str()).collect() },
            tokens,
            diverges_at,
            end: match one.finish {
                Finish::Stop | Finish::StopString => PlayEnd::Stop,
                Finish::Length | Finish::Context => PlayEnd::Length,
            },
            seconds,
        });
    }
    Ok(PlayReport {
        plan: plan.clone(),
        prompt_tokens: asked.len(),
        prompt: generator.codec.decode(&asked)?,
        prefix,
        answers,
    })
}

/// The first place where two answers differ; an answer that is the beginning of the other differs where it ends.
fn parts_at(first: &[u32], other: &[u32]) -> Option<usize> {
    let same = first.iter().zip(other).take_while(|(a, b)| a == b).count();
    (same < first.len().max(other.len())).then_some(same)
}

fn options(generator: &TextGenerator, sampler: &Sampler) -> GenerateOptions {
    let Sampler { max_new_tokens, temperature, top_k, top_p, repetition_penalty, seed } = *sampler;
    let method = match temperature > 0.0 {
        true => Method::Sample(Sampling { temperature, top_k, top_p }),
        false => Method::Greedy,
    };
    GenerateOptions {
        method,
        rules: Rules { repetition_penalty, ..Rules::default() },
        seed: SeedStream::new(seed),
        batch_size: 1,
        ..GenerateOptions::greedy(max_new_tokens, &generator.stops())
    }
}

/// A pane ready to write.
struct ReadyPane<'a> {
    pane: Pane,
    model: Cow<'a, CausalLm>,
    routes: Routes,
    fingerprint: String,
}

impl<'a> ReadyPane<'a> {
    fn new(model: &'a CausalLm, pane: Pane, fingerprints: &Fingerprints) -> Result<Self> {
        let mixed = model.mixture().is_some();
        let (model, routes) = match pane {
            Pane::Base => (Cow::Owned(model.bare()), Routes::Plain),
            Pane::Merged if mixed => (Cow::Owned(model.merged_own()?), Routes::Plain),
            Pane::Expert(expert) if mixed => (Cow::Borrowed(model), Routes::Expert(expert)),
            Pane::Route(number) if mixed => (Cow::Borrowed(model), Routes::Whole(number as usize)),
            Pane::Ensemble(routes) if mixed => (Cow::Borrowed(model), Routes::Ensemble(routes)),
            _ => {
                let title = pane.title();
                return Err(Error::config(format!(
                    "{title} needs a mixture; this model has none, only its base model"
                )));
            }
        };
        let fingerprint = fingerprints.along(&model, routes)?;
        Ok(Self { pane, model, routes, fingerprint })
    }
}

/// The first pane's predictions along the text that another one writes.
struct Reader<'a> {
    decoder: CachedDecoder<'a>,
    sequence: Sequence,
    /// ln p of what may stand next, as this pane predicts it. `[vocab]`
    log_probs: Vec<f32>,
}

impl<'a> Reader<'a> {
    fn new(pane: &'a ReadyPane<'_>, prompt: &[u32], seed: SeedStream) -> Result<Self> {
        let mut decoder = CachedDecoder::new(&pane.model, pane.routes, seed)?;
        let sequence = decoder.start(0);
        let mut reader = Self { decoder, sequence, log_probs: Vec::new() };
        reader.read(prompt)?;
        Ok(reader)
    }

    fn read(&mut self, ids: &[u32]) -> Result<()> {
        self.log_probs = self.decoder.read(&[(&self.sequence, ids)])?.remove(0);
        log_softmax(&mut self.log_probs);
        Ok(())
    }
}

/// An answer while it is written.
struct Written<'a> {
    generator: &'a TextGenerator,
    reference: Option<Reader<'a>>,
    /// What the answer begins with, as tokens and as text.
    prefix: (&'a [u32], &'a str),
    tokens: Vec<PlayToken>,
    failed: Option<Error>,
}

impl Written<'_> {
    fn text(&self) -> String {
        self.tokens.iter().map(|token| token.text.as_str()).collect()
    }

    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Token { id, log_probs, piece, .. } => self.token(id, log_probs, piece),
            Event::Rest { piece, .. } => {
                if let Some(last) = self.tokens.last_mut() {
                    last.text.push_str(piece);
                }
            }
        }
    }

    fn token(&mut self, id: u32, log_probs: &[f32], piece: &str) {
        // The token that ends the answer is no part of it.
        if self.generator.stops().contains(&id) {
            return;
        }
        let mut divergence = 0.0;
        if let Some(reader) = &mut self.reference {
            divergence = kl(log_probs, &reader.log_probs);
            if let Err(err) = reader.read(&[id]) {
                self.failed = self.failed.take().or(Some(err));
                self.reference = None;
            }
        }
        let named =
            |(id, log_prob): (u32, f32)| LikelyToken { id, text: self.generator.codec.piece(id), p: log_prob.exp() };
        let (prefix, before) = self.prefix;
        let mut text = piece.to_owned();
        if self.tokens.is_empty() && !prefix.is_empty() {
            let with: Vec<u32> = prefix.iter().copied().chain([id]).collect();
            if let Ok(Some(added)) =
                self.generator.codec.decode_plain(&with).map(|all| all.strip_prefix(before).map(str::to_owned))
            {
                text = added;
            }
        }
        self.tokens.push(PlayToken {
            id,
            text,
            log_prob: log_probs.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY),
            divergence,
            likeliest: likeliest(log_probs).into_iter().map(named).collect(),
        });
    }
}

/// KL(p ‖ q) in nats of two lists of log-probabilities; never below 0.
fn kl(p: &[f32], q: &[f32]) -> f32 {
    let term =
        |(&p, &q): (&f32, &f32)| if p == f32::NEG_INFINITY { 0.0 } else { f64::from(p).exp() * f64::from(p - q) };
    p.iter().zip(q).map(term).sum::<f64>().max(0.0) as f32
}

/// The likeliest tokens, best first.
fn likeliest(log_probs: &[f32]) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(LIKELIEST + 1);
    for (id, &log_prob) in (0u32..).zip(log_probs) {
        if best.len() < LIKELIEST || best.last().is_some_and(|&(_, worst)| log_prob > worst) {
            let at = best.partition_point(|&(_, other)| other >= log_prob);
            best.insert(at, (id, log_prob));
            best.truncate(LIKELIEST);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_found_in_order() {
        let found = likeliest(&[-3.0, -1.0, -2.0, -0.5, -9.0, -1.5, -4.0]);
        assert_eq!(found.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [3, 1, 5, 2, 0]);
        assert_eq!(likeliest(&[-1.0]), [(0, -1.0)]);
    }

    #[test]
    fn divergence_is_that_of_the_definition() {
        let (p, q) = ([0.5f32, 0.25, 0.25, 0.0], [0.25f32, 0.5, 0.125, 0.125]);
        let logs = |values: &[f32]| values.iter().map(|v| v.ln()).collect::<Vec<_>>();
        let expected = 0.5 * 2f32.ln() - 0.25 * 2f32.ln() + 0.25 * 2f32.ln();
        assert!((kl(&logs(&p), &logs(&q)) - expected).abs() < 1e-6);
        assert_eq!(kl(&logs(&q), &logs(&q)), 0.0);
    }

    #[test]
    fn answers_part_at_the_first_difference() {
        assert_eq!(parts_at(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(parts_at(&[1, 2, 3], &[1, 4, 3]), Some(1));
        assert_eq!(parts_at(&[1, 2, 3], &[1, 2]), Some(2));
        assert_eq!(parts_at(&[], &[]), None);
    }
}
