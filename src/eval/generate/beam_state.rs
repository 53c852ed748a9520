//! The search for one prompt: one step of each kind, and what it found.

use crate::data::text::TextCodec;
use crate::error::{Error, Result};
use crate::eval::generate::beam::{Beams, EarlyStop, Search};
use crate::eval::generate::cached_decoder::{Thread, Voice, log_softmax};
use crate::eval::generate::logits_processors::Rules;
use crate::eval::generate::stops::TextStream;
use crate::eval::generate::{Finish, Generated};
use std::rc::Rc;

/// What is added to scores that must not win.
const NEVER: f32 = -1e9;

/// Tokens written so far. Continuations share their beginnings.
#[derive(Clone, Debug)]
pub(crate) struct Path(Option<Rc<(Self, u32, f32)>>);

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
pub(crate) struct Beam {
    path: Path,
    score: f32,
    pub(crate) thread: Thread,
}

impl Beam {
    /// Its last token, which was not read yet.
    pub(crate) fn last(&self) -> Vec<u32> {
        self.path.0.iter().map(|node| node.1).collect()
    }
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
pub(crate) struct Hunt<'a> {
    pub(crate) number: usize,
    pub(crate) prompt: &'a [u32],
    pub(crate) beams: Vec<Beam>,
    /// Tokens written.
    pub(crate) length: usize,
    /// Longest text.
    pub(crate) most: usize,
    /// Whether that is the model's limit and not what was asked for.
    limited: bool,
    outcomes: Vec<Outcome>,
    improvable: bool,
}

/// What all hunts share.
pub(crate) struct Rule<'a> {
    pub(crate) settings: Beams,
    pub(crate) rules: Rules,
    pub(crate) stop_ids: &'a [u32],
    pub(crate) stop_strings: &'a [String],
    pub(crate) codec: Option<&'a TextCodec>,
}

impl<'a> Hunt<'a> {
    /// For a text of at most `wanted` tokens, where the model can read `room` more.
    pub(crate) fn new((number, prompt): (usize, &'a [u32]), wanted: usize, room: usize, beams: usize) -> Self {
        let nothing = Outcome { path: Path(None), score: NEVER, whole: false };
        // The token after the last one that can be read is known too.
        let (most, limited) = (wanted.min(room + 1), room + 1 < wanted);
        let outcomes = vec![nothing; beams];
        Self { number, prompt, beams: Vec::new(), length: 0, most, limited, outcomes, improvable: true }
    }

    /// All beams begin with the same prompt; only the first one counts in the first step.
    pub(crate) fn start(&mut self, voice: &mut Voice<'_>, beams: usize) {
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
    pub(crate) fn transformers(
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
    pub(crate) fn reference(&mut self, voice: &mut Voice<'_>, rows: &[&[f32]], rule: &Rule<'_>) -> Result<bool> {
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
    pub(crate) fn result(&self, rule: &Rule<'_>) -> Result<Generated> {
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
            None if self.limited => Finish::Context,
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
