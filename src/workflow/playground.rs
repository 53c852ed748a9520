//! The playground's answers: each pane writes in turn, and each of its tokens is compared with what the first pane
//! predicts at that place.

use crate::config::ModelConfig;
use crate::data::text::TextEncoder;
use crate::error::{Error, Result};
use crate::eval::compare::random_route;
use crate::eval::generate::cached_decoder::{CachedDecoder, Sequence, log_softmax};
use crate::eval::generate::routes::Routes;
use crate::eval::generate::{Event, Finish, GenerateOptions, Hooks, Method, Rules, Sampling, generate};
use crate::machine::device;
use crate::mixture::{Pick, Route, SIDES};
use crate::model::decoder::CausalLm;
use crate::model::{BaseModel as _, Network as _};
use crate::protocol::playground::{Pane, PaneAnswer, PlayEnd, PlayPlan, PlayReport, PlayToken, Sampler};
use crate::rng::SeedStream;
use crate::tensor::hash::hex;
use crate::tensor::{Tensor, to_f32};
use crate::train::ModelAndData;
use crate::workflow::generate::TextGenerator;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

/// Alternatives kept for each token.
const LIKELIEST: usize = 5;
/// Characters of a fingerprint.
const FINGERPRINT: usize = 8;

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
    let system = Some(plan.system.trim()).filter(|system| !system.is_empty());
    let prompt = generator.prompt(layout, (plan.chat, system), &plan.prompt)?;
    let options = options(generator, &plan.sampler);
    let seed = SeedStream::new(plan.sampler.seed);
    let panes: Vec<ReadyPane<'_>> =
        plan.panes.iter().map(|&pane| ReadyPane::new(&generator.model, pane, seed)).collect::<Result<_>>()?;
    let Some(first) = panes.first() else { return Err(Error::config("no pane is chosen; choose who answers")) };
    let mut texts = vec![String::new(); panes.len()];
    let mut answers: Vec<PaneAnswer> = Vec::new();
    for (number, pane) in panes.iter().enumerate() {
        let reference = if number == 0 { None } else { Some(Reader::new(first, &prompt, seed)?) };
        let share = |share: f64| (callbacks.go_on)((number as f64 + share) / panes.len() as f64);
        let mut written = Written { generator, reference, tokens: Vec::new(), failed: None };
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
            text: one.text,
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
        prompt_tokens: prompt.len(),
        prompt: generator.codec.decode(&prompt)?,
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
    fn new(model: &'a CausalLm, pane: Pane, seed: SeedStream) -> Result<Self> {
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
        let fingerprint = fingerprint(&model, routes, seed)?;
        Ok(Self { pane, model, routes, fingerprint })
    }
}

/// A hash of the weights that are added to the base model along these routes: equal hashes, equal answers. Modules that
/// add nothing (LoRA before its first step) count as not being there.
fn fingerprint(model: &CausalLm, routes: Routes, seed: SeedStream) -> Result<String> {
    let mut hash = Sha256::new();
    let sites = model.sites().len();
    let random = |mixture, index| random_route(mixture, sites, seed, index);
    let routes = match (routes, model.mixture()) {
        (Routes::Expert(expert), Some(mixture)) => vec![Route::fixed(mixture, sites, expert)],
        (Routes::Whole(index), Some(mixture)) => vec![random(mixture, index)],
        (Routes::Ensemble(routes), Some(mixture)) => (0..routes).map(|index| random(mixture, index)).collect(),
        _ => {
            hash_merged(model, &mut hash)?;
            Vec::new()
        }
    };
    routes.iter().try_for_each(|route| hash_route(model, route, &mut hash))?;
    Ok(hex(&hash.finalize()).chars().take(FINGERPRINT).collect())
}

fn hash_merged(model: &CausalLm, hash: &mut Sha256) -> Result<()> {
    for (site, adapter) in model.adapters().iter().enumerate() {
        let mut parts = Vec::new();
        for side in SIDES {
            let (weight, bias) = adapter.side(side)?;
            parts.extend([weight, bias]);
        }
        add(hash, site, &parts)?;
    }
    for (site, (_, placed)) in model.loras().into_iter().enumerate() {
        if let crate::model::loras::Module::Merged(lora) = &placed.module {
            add(hash, site, &[lora.side(SIDES[0])?, lora.side(SIDES[1])?])?;
        }
    }
    Ok(())
}

fn hash_route(model: &CausalLm, route: &Route, hash: &mut Sha256) -> Result<()> {
    for (number, site) in model.sites().iter().enumerate() {
        let mut parts = Vec::new();
        for side in SIDES {
            let bank = site.bank(side);
            let drawn = match route.pick(0, number, side) {
                Pick::One(expert) => usize::from(*expert),
                Pick::PerExample(list) | Pick::PerToken(list) => usize::from(list.first().copied().unwrap_or(0)),
            };
            let expert = drawn.min(bank.experts().saturating_sub(1));
            parts.push(bank.weight().get(expert)?);
            if let Some(bias) = bank.bias() {
                parts.push(bias.get(expert)?);
            }
        }
        add(hash, number, &parts)?;
    }
    Ok(())
}

/// Adds a module's values, unless its last matrix is zero: then it adds nothing to the base model.
fn add(hash: &mut Sha256, site: usize, parts: &[Tensor]) -> Result<()> {
    let values = parts.iter().map(to_f32).collect::<Result<Vec<_>>>()?;
    // Down and up, each perhaps with a bias: the second half is what comes out.
    let out = &values[values.len() / 2..];
    if out.iter().flatten().all(|&value| value == 0.0) {
        return Ok(());
    }
    hash.update((site as u64).to_le_bytes());
    values.iter().flatten().for_each(|value| hash.update(value.to_le_bytes()));
    Ok(())
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
        let named = |(id, log_prob): (u32, f32)| (self.generator.codec.piece(id), log_prob.exp());
        self.tokens.push(PlayToken {
            id,
            text: piece.to_owned(),
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
