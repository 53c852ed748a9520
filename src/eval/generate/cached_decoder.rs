//! A language model with its key-value cache: scores of the next token of several texts.

use crate::error::Result;
use crate::eval::generate::routes::{Router, Routes, TokenSpan};
use crate::model::decoder::cache::Extension;
use crate::model::{CachedId, CausalLm, KvCache};
use crate::nn::kernels::simd;
use crate::rng::SeedStream;
use crate::tensor::to_f32;
use rayon::prelude::*;

/// The tokens of one text that are in the cache, along each of its routes.
#[derive(Clone, Debug)]
pub struct Sequence {
    text: usize,
    lanes: Vec<CachedId>,
}

/// A model with its key-value cache.
#[derive(Debug)]
pub struct CachedDecoder<'a> {
    model: &'a CausalLm,
    cache: KvCache,
    router: Router,
}

impl<'a> CachedDecoder<'a> {
    /// With an empty cache; an error where the model does not have these routes.
    pub fn new(model: &'a CausalLm, routes: Routes, seed: SeedStream) -> Result<Self> {
        let router = Router::new(model, routes, seed)?;
        Ok(Self { model, cache: KvCache::new(&model.base), router })
    }

    /// Allocates memory for so many tokens of texts.
    pub fn reserve(&mut self, tokens: usize) {
        self.cache.reserve(tokens * self.router.routes.lanes());
    }

    /// A new sequence.
    pub fn start(&mut self, text: usize) -> Sequence {
        Sequence { text, lanes: (0..self.router.routes.lanes()).map(|_| self.cache.start()).collect() }
    }

    /// A copy of a sequence.
    pub fn fork(&mut self, sequence: &Sequence) -> Result<Sequence> {
        let lanes = sequence.lanes.iter().map(|&lane| self.cache.fork(lane)).collect::<Result<_>>()?;
        Ok(Sequence { text: sequence.text, lanes })
    }

    /// Frees the cache of a sequence.
    pub fn forget(&mut self, sequence: &Sequence) {
        sequence.lanes.iter().for_each(|&lane| self.cache.forget(lane));
    }

    /// Reads new tokens of some sequences, each at least one, and scores the next token of each: logits `[vocab]`, or
    /// log-probabilities where several routes are averaged.
    pub fn read(&mut self, new: &[(&Sequence, &[u32])]) -> Result<Vec<Vec<f32>>> {
        let (mut spans, mut extensions) = (Vec::new(), Vec::new());
        for (sequence, ids) in new {
            for (lane, &cached) in sequence.lanes.iter().enumerate() {
                let first = self.cache.tokens(cached)?;
                spans.push(TokenSpan { text: sequence.text, lane, first, new: ids.len() });
                extensions.push(Extension { sequence: cached, ids });
            }
        }
        let route = self.router.route(&spans);
        let logits = self.model.extend(&mut self.cache, &extensions, route.as_ref())?;
        let (_, vocab) = logits.dims2()?;
        let logits = to_f32(&logits)?;
        Ok(match self.router.routes.lanes() {
            1 => logits.chunks_exact(vocab).map(<[f32]>::to_vec).collect(),
            lanes => logits.par_chunks_exact(lanes * vocab).map(|logits| averaged(logits, vocab)).collect(),
        })
    }
}

/// The logarithm of the mean of the probabilities along several routes. `[lanes, vocab] -> [vocab]`
fn averaged(logits: &[f32], vocab: usize) -> Vec<f32> {
    let (mut out, lanes) = (vec![0.0; vocab], logits.len() / vocab);
    for lane in logits.chunks_exact(vocab) {
        let norm = log_sum(lane);
        simd::vectorized(|| out.iter_mut().zip(lane).for_each(|(sum, z)| *sum += simd::exp(z - norm)));
    }
    // Not the approximation: probabilities of 0 must stay -inf, and there is one logarithm a token.
    out.iter_mut().for_each(|p| *p = (*p / lanes as f32).ln());
    out
}

/// log Σ e^z.
fn log_sum(z: &[f32]) -> f32 {
    simd::vectorized(|| {
        let max = simd::max(z);
        max + simd::sum_map(z, |v| simd::exp(v - max)).ln()
    })
}

/// Scores as log-probabilities, in place; -inf stays.
pub fn log_softmax(scores: &mut [f32]) {
    let norm = log_sum(scores);
    scores.iter_mut().for_each(|z| *z -= norm);
}
