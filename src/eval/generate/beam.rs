//! Beam search: the best of several continuations.
//!
//! [`Search::Transformers`] is the search of the transformers library, token for token: of the best `2 beams` continuations
//! (more with several end tokens) those that end are kept as results if they are among the best `beams`, the others go
//! on; results are compared by `sum of log p / length ^ penalty`. [`Search::Reference`] is the decoder of the paper's text
//! experiments: the best `beams` continuations; each that ends is a candidate for the answer and leaves its beam; the
//! search goes to the last step, and what still runs then is a candidate too. Rules come before the probabilities there,
//! after them in transformers.

use super::routes::Router;
use super::rules::Rules;
use super::stops::TextStream;
use super::voice::{Thread, Voice, log_softmax};
use super::{Event, Finish, Generated, Hooks, Options};
use crate::data::text::TextCodec;
use crate::error::{Error, Result};
use crate::model::CausalLm;
use std::rc::Rc;

/// What is added to scores that must not win.
const NEVER: f32 = -1e9;

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

    fn penalty(&self, length: usize) -> f32 {
        (length as f64).powf(self.length_penalty) as f32
    }
}

/// Tokens written so far. Continuations share their beginnings.
#[derive(Clone, Debug)]
struct Path(Option<Rc<(Self, u32, f32)>>);

impl Path {
    fn with(&self, id: u32, log_prob: f32) -> Self {
        Self(Some(Rc::new((self.clone(), id, log_prob))))
    }
    /// Ids and log-probabilities, first to last.
    fn tokens(&self) -> (Vec<u32>, Vec<f32>) {
        let (mut ids, mut log_probs, mut at) = (Vec::new(), Vec::new(), &self.0);
        while let Some(node) = at {
            ids.push(node.1);
            log_probs.push(node.2);
            at = &node.0.0;
        }
        ids.reverse();
        log_probs.reverse();
        (ids, log_probs)
    }
}

/// A continuation that is followed.
struct Beam {
    path: Path,
    score: f32,
    thread: Thread,
}

/// A continuation that was looked at in a step.
#[derive(Clone)]
struct Candidate {
    /// The beam it continues.
    beam: usize,
    path: Path,
    score: f32,
    ends: bool,
}

/// A result: whole, or (before there are enough) a place for one.
#[derive(Clone)]
struct Outcome {
    path: Path,
    score: f32,
    whole: bool,
}

/// The search for one prompt.
struct Hunt<'a> {
    number: usize,
    prompt: &'a [u32],
    beams: Vec<Beam>,
    /// Tokens written.
    length: usize,
    /// Longest text.
    most: usize,
    outcomes: Vec<Outcome>,
    improvable: bool,
}

/// What all hunts share.
struct Rule<'a> {
    settings: Beams,
    rules: Rules,
    stop_ids: &'a [u32],
    stop_strings: &'a [String],
    codec: Option<&'a TextCodec>,
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
            let most = options.max_new_tokens.min(model.spec().max_length() + 1 - prompt.len());
            hunts.push(Hunt::new(group * side + i, prompt, most, settings.beams));
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
            last.extend(hunt.beams.iter().map(|beam| beam.path.0.iter().map(|node| node.1).collect::<Vec<u32>>()));
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

impl<'a> Hunt<'a> {
    fn new(number: usize, prompt: &'a [u32], most: usize, beams: usize) -> Self {
        let nothing = Outcome { path: Path(None), score: NEVER, whole: false };
        Self { number, prompt, beams: Vec::new(), length: 0, most, outcomes: vec![nothing; beams], improvable: true }
    }

    /// All beams begin with the same prompt; only the first one counts in the first step.
    fn start(&mut self, voice: &mut Voice<'_>, beams: usize) {
        let thread = voice.start(self.number);
        let beam =
            |i: usize| Beam { path: Path(None), score: if i == 0 { 0.0 } else { NEVER }, thread: thread.clone() };
        self.beams = (0..beams).map(beam).collect();
    }

    /// Log-probabilities of what follows each beam: before any rule, and as the search compares them. `rows` has one row
    /// for all beams at the start.
    fn log_probs(&self, rows: &[&[f32]], rule: &Rule<'_>) -> Vec<(Vec<f32>, Vec<f32>)> {
        let one = |(row, beam): (&&[f32], &Beam)| {
            let (mut plain, written) = (row.to_vec(), beam.path.tokens().0);
            log_softmax(&mut plain);
            let ruled = if rule.settings.search == Search::Reference {
                let mut ruled = row.to_vec();
                rule.rules.apply(&mut ruled, self.prompt, &written);
                log_softmax(&mut ruled);
                ruled
            } else {
                let mut ruled = plain.clone();
                rule.rules.apply(&mut ruled, self.prompt, &written);
                ruled
            };
            (plain, ruled)
        };
        rows.iter().zip(&self.beams).map(one).collect()
    }

    /// The best continuations of all beams, best first; of equal ones that of the earlier beam and token.
    fn best(&self, rows: &[&[f32]], rule: &Rule<'_>, beams: usize, keep: usize) -> Result<Vec<Candidate>> {
        let log_probs = self.log_probs(rows, rule);
        let mut all: Vec<(f32, u32, u32)> = Vec::new();
        for (b, beam) in self.beams.iter().take(beams).enumerate() {
            let (_, ruled) = &log_probs[b.min(log_probs.len() - 1)];
            // More than `keep` of one beam are never needed.
            let mut own: Vec<(f32, u32, u32)> =
                ruled.iter().enumerate().map(|(id, v)| (v + beam.score, b as u32, id as u32)).collect();
            top(&mut own, keep);
            all.extend(own);
        }
        top(&mut all, keep);
        if all.first().is_none_or(|best| best.0.is_nan()) {
            return Err(Error::config("beam search found no continuation; check the weights for NaN"));
        }
        all.into_iter()
            .map(|(score, b, id)| {
                let (plain, _) = &log_probs[(b as usize).min(log_probs.len() - 1)];
                let path = self.beams[b as usize].path.with(id, plain[id as usize]);
                let ends = rule.stop_ids.contains(&id) || rule.ends_with_string(&path)?;
                Ok(Candidate { beam: b as usize, path, score, ends })
            })
            .collect()
    }

    /// Follows these continuations from now on.
    fn follow(&mut self, voice: &mut Voice<'_>, chosen: Vec<Candidate>) -> Result<()> {
        let mut beams = Vec::with_capacity(chosen.len());
        for candidate in chosen {
            let thread = voice.fork(&self.beams[candidate.beam].thread)?;
            beams.push(Beam { path: candidate.path, score: candidate.score, thread });
        }
        let old = std::mem::replace(&mut self.beams, beams);
        // At the start all of them are one thread.
        let shared = self.length == 0;
        old.iter().take(if shared { 1 } else { usize::MAX }).for_each(|beam| voice.forget(&beam.thread));
        self.length += 1;
        Ok(())
    }

    /// One step of transformers' search; whether it is over.
    fn transformers(
        &mut self,
        voice: &mut Voice<'_>,
        rows: &[&[f32]],
        rule: &Rule<'_>,
        early: EarlyStop,
    ) -> Result<bool> {
        let (beams, settings) = (rule.settings.beams, rule.settings);
        let keep = beams * (1 + rule.stop_ids.len()).max(2);
        let mut candidates = self.best(rows, rule, beams, keep)?;
        let last = self.length + 1 >= self.most;
        candidates.iter_mut().for_each(|candidate| candidate.ends |= last);
        let mut running = candidates.clone();
        for candidate in running.iter_mut().filter(|candidate| candidate.ends) {
            candidate.score += NEVER;
        }
        running.sort_by(|a, b| b.score.total_cmp(&a.score));
        running.truncate(beams);
        let full = early == EarlyStop::FirstResults && self.outcomes.iter().all(|outcome| outcome.whole);
        let penalty = settings.penalty(self.length + 1);
        for (i, candidate) in candidates.iter().enumerate() {
            let whole = candidate.ends && i < beams;
            let against = [full, !self.improvable, !whole].into_iter().filter(|&bad| bad).count() as f32;
            let score = candidate.score / penalty + against * NEVER;
            self.outcomes.push(Outcome { path: candidate.path.clone(), score, whole });
        }
        self.outcomes.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.outcomes.truncate(beams);
        let over = candidates.iter().all(|candidate| candidate.ends);
        self.follow(voice, running)?;
        let length = if early == EarlyStop::Never && settings.length_penalty > 0.0 { self.most } else { self.length };
        let possible = self.beams.first().map_or(NEVER, |beam| beam.score) / settings.penalty(length);
        let worst = self.outcomes.last().map_or(NEVER, |outcome| outcome.score);
        let reached = |outcome: &Outcome| possible > if outcome.whole { worst } else { NEVER };
        self.improvable &= self.outcomes.iter().any(reached);
        let full = early == EarlyStop::FirstResults && self.outcomes.iter().all(|outcome| outcome.whole);
        Ok(over || full || !self.improvable)
    }

    /// One step of the paper's decoder; whether nothing later can change its answer.
    fn reference(&mut self, voice: &mut Voice<'_>, rows: &[&[f32]], rule: &Rule<'_>) -> Result<bool> {
        let (beams, settings) = (rule.settings.beams, rule.settings);
        let from = if self.length == 0 { 1 } else { beams };
        let candidates = self.best(rows, rule, from, beams)?;
        let last = self.length + 1 >= self.most;
        let penalty = settings.penalty(self.length + 1);
        let mut running = Vec::new();
        let mut consider = |candidate: &Candidate| {
            let score = candidate.score / penalty;
            let best = &mut self.outcomes[0];
            if candidate.score > f32::NEG_INFINITY && (!best.whole || best.score < score) {
                *best = Outcome { path: candidate.path.clone(), score, whole: true };
            }
        };
        for candidate in candidates {
            if candidate.ends {
                consider(&candidate);
            } else if candidate.score > f32::NEG_INFINITY {
                running.push(candidate);
            }
        }
        if last {
            running.iter().for_each(consider);
        }
        self.follow(voice, running)?;
        // Sums only fall; the penalty of one of the lengths to come is the kindest.
        let kindest = settings.penalty(self.most).max(settings.penalty(self.length + 1));
        let possible = self.beams.first().map_or(f32::NEG_INFINITY, |beam| beam.score / kindest);
        let best = &self.outcomes[0];
        Ok(last || self.beams.is_empty() || (best.whole && possible <= best.score))
    }

    /// The best result as a text.
    fn result(&self, rule: &Rule<'_>) -> Result<Generated> {
        let best = self.outcomes.first().ok_or_else(|| Error::internal("a search without a result"))?;
        let (mut ids, log_probs) = best.path.tokens();
        let end = ids.last().copied().filter(|id| rule.stop_ids.contains(id));
        if end.is_some() {
            ids.pop();
        }
        let mut stream = TextStream::new(rule.codec, rule.stop_strings);
        for &id in &ids {
            stream.push(id)?;
        }
        stream.finish()?;
        let finish = match end {
            Some(_) => Finish::Stop,
            None if stream.stopped() => Finish::StopString,
            None => Finish::Length,
        };
        let text = stream.text().to_owned();
        Ok(Generated { ids, end, text, log_probs, score: f64::from(best.score), finish })
    }
}

impl Rule<'_> {
    fn ends_with_string(&self, path: &Path) -> Result<bool> {
        let Some(codec) = self.codec.filter(|_| !self.stop_strings.is_empty()) else { return Ok(false) };
        let text = codec.decode_plain(&path.tokens().0)?;
        Ok(self.stop_strings.iter().any(|stop| text.contains(stop.as_str())))
    }
}

/// Keeps the best of (score, beam, token), best first; of equal ones the first.
fn top(list: &mut Vec<(f32, u32, u32)>, keep: usize) {
    let better = |a: &(f32, u32, u32), b: &(f32, u32, u32)| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2)));
    if keep > 0 && keep < list.len() {
        list.select_nth_unstable_by(keep - 1, better);
        list.truncate(keep);
    }
    list.sort_unstable_by(better);
}
