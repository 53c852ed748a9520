//! The search for one prompt: one step of each kind, and what it found.

use crate::data::text::TextCodec;
use crate::error::{Error, Result};
use crate::eval::generate::beam_settings::{Beams, EarlyStop, Search};
use crate::eval::generate::cached_decoder::{CachedDecoder, Sequence, log_softmax};
use crate::eval::generate::stops::TextStream;
use crate::eval::generate::{Finish, GenerateOptions, Generated};

/// What is added to scores that must not win.
const NEVER: f32 = -1e9;

/// Tokens written so far.
#[derive(Clone, Debug, Default)]
struct Path {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
}

/// A continuation that is followed.
pub(crate) struct Beam {
    path: Path,
    score: f32,
    pub(crate) sequence: Sequence,
}

/// A possible continuation of a beam.
#[derive(Clone)]
struct Candidate {
    /// The beam it continues.
    beam: usize,
    path: Path,
    score: f32,
    ends: bool,
}

/// A result: finished, or a placeholder.
#[derive(Clone)]
struct Hypothesis {
    path: Path,
    score: f32,
    finished: bool,
}

/// The search for one prompt.
pub(crate) struct BeamState<'a> {
    pub(crate) number: usize,
    pub(crate) prompt: &'a [u32],
    pub(crate) beams: Vec<Beam>,
    /// Tokens written.
    pub(crate) length: usize,
    /// Longest text.
    pub(crate) most: usize,
    /// Whether that is the model's limit and not what was asked for.
    limited: bool,
    hypotheses: Vec<Hypothesis>,
    can_improve: bool,
}

/// Shared by the searches for all prompts.
pub(crate) struct SearchContext<'a> {
    pub(crate) settings: Beams,
    pub(crate) options: &'a GenerateOptions,
    pub(crate) codec: Option<&'a TextCodec>,
}

impl<'a> BeamState<'a> {
    /// For prompt number `number`, where the model can read `room` more tokens.
    pub(crate) fn new(number: usize, prompt: &'a [u32], room: usize, context: &SearchContext<'_>) -> Self {
        let (wanted, beams) = (context.options.max_new_tokens, context.settings.beams);
        let nothing = Hypothesis { path: Path::default(), score: NEVER, finished: false };
        // The token after the last one that can be read is known too.
        let (most, limited) = (wanted.min(room + 1), room + 1 < wanted);
        let hypotheses = vec![nothing; beams];
        Self { number, prompt, beams: Vec::new(), length: 0, most, limited, hypotheses, can_improve: true }
    }

    /// Rows of scores that the next step needs: at the start all beams are one and the same.
    pub(crate) fn rows(&self) -> usize {
        if self.length == 0 { 1 } else { self.beams.len() }
    }

    /// The sequences of these rows with their tokens that were not read yet.
    pub(crate) fn unread(&mut self, decoder: &mut CachedDecoder<'_>, beams: usize) -> Vec<(Sequence, Vec<u32>)> {
        if self.length > 0 {
            let last = |beam: &Beam| beam.path.ids.last().copied().into_iter().collect();
            return self.beams.iter().map(|beam| (beam.sequence.clone(), last(beam))).collect();
        }
        // All beams begin with the same prompt; only the first one counts in the first step.
        let sequence = decoder.start(self.number);
        let score = |i: usize| if i == 0 { 0.0 } else { NEVER };
        let beam = |i: usize| Beam { path: Path::default(), score: score(i), sequence: sequence.clone() };
        self.beams = (0..beams).map(beam).collect();
        vec![(sequence.clone(), self.prompt.to_vec())]
    }

    /// Log-probabilities of what follows each beam: before any rule, and as the search compares them. `rows` has one row
    /// for all beams at the start.
    fn log_probs(&self, rows: &[Vec<f32>], context: &SearchContext<'_>) -> Vec<(Vec<f32>, Vec<f32>)> {
        let one = |(row, beam): (&Vec<f32>, &Beam)| {
            let mut plain = row.clone();
            log_softmax(&mut plain);
            let reference = context.settings.search == Search::Reference;
            let mut ruled = if reference { row.clone() } else { plain.clone() };
            context.options.rules.apply(&mut ruled, self.prompt, &beam.path.ids);
            if reference {
                log_softmax(&mut ruled);
            }
            (plain, ruled)
        };
        rows.iter().zip(&self.beams).map(one).collect()
    }

    /// The best continuations of all beams, best first; of equal ones that of the earlier beam and token.
    fn best(
        &self,
        rows: &[Vec<f32>],
        context: &SearchContext<'_>,
        beams: usize,
        keep: usize,
    ) -> Result<Vec<Candidate>> {
        let log_probs = self.log_probs(rows, context);
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
                let mut path = self.beams[b as usize].path.clone();
                path.ids.push(id);
                path.log_probs.push(plain[id as usize]);
                let ends = context.options.stop_ids.contains(&id) || context.ends_with_string(&path.ids)?;
                Ok(Candidate { beam: b as usize, path, score, ends })
            })
            .collect()
    }

    /// Follows these continuations from now on.
    fn follow(&mut self, decoder: &mut CachedDecoder<'_>, chosen: Vec<Candidate>) -> Result<()> {
        let mut beams = Vec::with_capacity(chosen.len());
        for candidate in chosen {
            let sequence = decoder.fork(&self.beams[candidate.beam].sequence)?;
            beams.push(Beam { path: candidate.path, score: candidate.score, sequence });
        }
        let rows = self.rows();
        let old = std::mem::replace(&mut self.beams, beams);
        old.iter().take(rows).for_each(|beam| decoder.forget(&beam.sequence));
        self.length += 1;
        Ok(())
    }

    /// Whether there are as many results as beams, where that ends the search.
    fn is_full(&self, early: EarlyStop) -> bool {
        early == EarlyStop::FirstResults && self.hypotheses.iter().all(|hypothesis| hypothesis.finished)
    }

    /// One step of transformers' search; whether it is over.
    pub(crate) fn transformers(
        &mut self,
        decoder: &mut CachedDecoder<'_>,
        rows: &[Vec<f32>],
        context: &SearchContext<'_>,
        early: EarlyStop,
    ) -> Result<bool> {
        let (beams, settings) = (context.settings.beams, context.settings);
        let keep = beams * (1 + context.options.stop_ids.len()).max(2);
        let mut candidates = self.best(rows, context, beams, keep)?;
        let last = self.length + 1 >= self.most;
        candidates.iter_mut().for_each(|candidate| candidate.ends |= last);
        let mut running = candidates.clone();
        for candidate in running.iter_mut().filter(|candidate| candidate.ends) {
            candidate.score += NEVER;
        }
        running.sort_by(|a, b| b.score.total_cmp(&a.score));
        running.truncate(beams);
        let full = self.is_full(early);
        let penalty = settings.penalty(self.length + 1);
        for (i, candidate) in candidates.iter().enumerate() {
            let finished = candidate.ends && i < beams;
            let against = [full, !self.can_improve, !finished].into_iter().filter(|&bad| bad).count() as f32;
            let score = candidate.score / penalty + against * NEVER;
            self.hypotheses.push(Hypothesis { path: candidate.path.clone(), score, finished });
        }
        self.hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.hypotheses.truncate(beams);
        let over = candidates.iter().all(|candidate| candidate.ends);
        self.follow(decoder, running)?;
        let length = if early == EarlyStop::Never && settings.length_penalty > 0.0 { self.most } else { self.length };
        let possible = self.beams.first().map_or(NEVER, |beam| beam.score) / settings.penalty(length);
        let worst = self.hypotheses.last().map_or(NEVER, |hypothesis| hypothesis.score);
        let reached = |hypothesis: &Hypothesis| possible > if hypothesis.finished { worst } else { NEVER };
        self.can_improve &= self.hypotheses.iter().any(reached);
        Ok(over || self.is_full(early) || !self.can_improve)
    }

    /// One step of the paper's decoder; whether nothing later can change its answer.
    pub(crate) fn reference(
        &mut self,
        decoder: &mut CachedDecoder<'_>,
        rows: &[Vec<f32>],
        context: &SearchContext<'_>,
    ) -> Result<bool> {
        let (beams, settings) = (context.settings.beams, context.settings);
        let from = if self.length == 0 { 1 } else { beams };
        let candidates = self.best(rows, context, from, beams)?;
        let last = self.length + 1 >= self.most;
        let penalty = settings.penalty(self.length + 1);
        let mut running = Vec::new();
        let mut consider = |candidate: &Candidate| {
            let score = candidate.score / penalty;
            let best = &mut self.hypotheses[0];
            if candidate.score > f32::NEG_INFINITY && (!best.finished || best.score < score) {
                *best = Hypothesis { path: candidate.path.clone(), score, finished: true };
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
        self.follow(decoder, running)?;
        // Sums only fall; the largest penalty of the lengths to come gives the upper bound.
        let largest = settings.penalty(self.most).max(settings.penalty(self.length + 1));
        let possible = self.beams.first().map_or(f32::NEG_INFINITY, |beam| beam.score / largest);
        let best = &self.hypotheses[0];
        Ok(last || self.beams.is_empty() || (best.finished && possible <= best.score))
    }

    /// The best result as a text.
    pub(crate) fn result(&self, context: &SearchContext<'_>) -> Result<Generated> {
        let best = self.hypotheses.first().ok_or_else(|| Error::internal("a search without a result"))?;
        let Path { mut ids, log_probs } = best.path.clone();
        let end = ids.last().copied().filter(|id| context.options.stop_ids.contains(id));
        if end.is_some() {
            ids.pop();
        }
        let mut stream = TextStream::new(context.codec, &context.options.stop_strings);
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

impl SearchContext<'_> {
    fn ends_with_string(&self, ids: &[u32]) -> Result<bool> {
        let stops = &self.options.stop_strings;
        let Some(codec) = self.codec.filter(|_| !stops.is_empty()) else { return Ok(false) };
        let text = codec.decode_plain(ids)?;
        Ok(stops.iter().any(|stop| text.contains(stop.as_str())))
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
