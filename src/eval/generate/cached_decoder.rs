//! The model with its memory: it reads tokens of several texts and says how likely each next token is.

use crate::error::Result;
use crate::eval::generate::routes::{Router, Strand};
use crate::model::decoder::cache::Extension;
use crate::model::{CachedId, CausalLm, KvCache};
use crate::nn::kernels::simd;
use crate::tensor::to_f32;
use rayon::prelude::*;

/// One text as far as it was read, along each of its routes.
#[derive(Clone, Debug)]
pub struct Thread {
    text: usize,
    lanes: Vec<CachedId>,
}

/// Scores of the next token of some threads. `[threads, vocab]`
#[derive(Clone, Debug)]
pub struct Scores {
    values: Vec<f32>,
    vocab: usize,
}

impl Scores {
    /// Of one thread: logits, or log-probabilities where several routes were averaged.
    pub fn of(&self, thread: usize) -> &[f32] {
        &self.values[thread * self.vocab..(thread + 1) * self.vocab]
    }
    /// Size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }
}

/// A model that reads and says what may follow.
#[derive(Debug)]
pub struct Voice<'a> {
    model: &'a CausalLm,
    cache: KvCache,
    router: Router,
}

impl<'a> Voice<'a> {
    /// With nothing read so far.
    pub fn new(model: &'a CausalLm, router: Router) -> Self {
        Self { model, cache: KvCache::beside(model.decoder()), router }
    }

    /// Takes the memory of so many tokens of texts at once.
    pub fn reserve(&mut self, tokens: usize) {
        self.cache.reserve(tokens * self.router.lanes());
    }

    /// A text of which nothing was read.
    pub fn start(&mut self, text: usize) -> Thread {
        Thread { text, lanes: (0..self.router.lanes()).map(|_| self.cache.start()).collect() }
    }

    /// A text that was read as far as this one.
    pub fn fork(&mut self, thread: &Thread) -> Result<Thread> {
        let lanes = thread.lanes.iter().map(|&lane| self.cache.fork(lane)).collect::<Result<_>>()?;
        Ok(Thread { text: thread.text, lanes })
    }

    /// Forgets what was read of a text.
    pub fn forget(&mut self, thread: &Thread) {
        thread.lanes.iter().for_each(|&lane| self.cache.forget(lane));
    }

    /// Rows of memory in use, and all there are.
    pub fn occupancy(&self) -> (usize, usize) {
        self.cache.occupancy()
    }

    /// Reads new tokens of some texts, each at least one, and scores what may follow.
    pub fn read(&mut self, new: &[(&Thread, &[u32])]) -> Result<Scores> {
        let (mut strands, mut extensions) = (Vec::new(), Vec::new());
        for (thread, ids) in new {
            for (lane, &sequence) in thread.lanes.iter().enumerate() {
                let first = self.cache.tokens(sequence)?;
                strands.push(Strand { text: thread.text, lane, first, new: ids.len() });
                extensions.push(Extension { sequence, ids });
            }
        }
        let route = self.router.route(&strands);
        let logits = self.model.extend(&mut self.cache, &extensions, route.as_ref())?;
        let (_, vocab) = logits.dims2()?;
        let logits = to_f32(&logits)?;
        let lanes = self.router.lanes();
        let values = if lanes == 1 { logits } else { averaged(&logits, lanes, vocab) };
        Ok(Scores { values, vocab })
    }
}

/// The logarithm of the mean of the probabilities along several routes. `[threads * lanes, vocab] -> [threads, vocab]`
fn averaged(logits: &[f32], lanes: usize, vocab: usize) -> Vec<f32> {
    let mut out = vec![0.0; logits.len() / lanes];
    let threads = out.par_chunks_exact_mut(vocab).zip(logits.par_chunks_exact(lanes * vocab));
    threads.for_each(|(out, logits)| {
        for lane in logits.chunks_exact(vocab) {
            let norm = log_sum(lane);
            simd::vectorized(|| out.iter_mut().zip(lane).for_each(|(sum, z)| *sum += simd::exp(z - norm)));
        }
        // Not the approximation: probabilities of 0 must stay -inf, and there is one logarithm a token.
        out.iter_mut().for_each(|p| *p = (*p / lanes as f32).ln());
    });
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
