//! The pre-training loop: warm-up, constant rate, linear decay; AdamW; reports and checkpoints.

use crate::head::{Heads, Targets, add_to};
use crate::masking::{HELD_OUT, masked_batch};
use crate::sequences::{self, Sequences};
use crate::spectral;
use adamix::data::Batch;
use adamix::error::{Error, Result};
use adamix::model::{Encoder, EncoderSpec, ForwardOptions};
use adamix::nn::kernels::{HostRef, adamw, host};
use adamix::nn::{Grads, ParamId, Params};
use adamix::rng::SeedStream;
use adamix::tensor::{Device, Tensor};
use std::time::{Duration, Instant};

/// Settings of a run; together with the corpora they fix every bit of the result on one kind of machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of everything random.
    pub seed: u64,
    /// Sequences in a batch.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Steps of the linear warm-up.
    pub warmup: u64,
    /// All steps, and the steps of the decay at their end; `None`: decided by the clock.
    pub plan: Option<(u64, u64)>,
    /// Time the run should take when there is no plan.
    pub minutes: f64,
}

/// Share of the time after which the decay begins when the clock decides.
const DECAY_FROM: f64 = 0.68;
/// Sequences of the held-out loss.
const HELD_OUT_BATCHES: u64 = 12;

/// Parts of a batch that are computed on one thread each and added up: small matrices gain more from this than from
/// dividing every product, and the result does not depend on the number of cores.
const SHARDS: usize = 2;

/// The encoder's matrices start at N(0, 0.05) instead of N(0, 0.02): right for a width of 128.
const TRUNK_SCALE: f32 = 2.5;

/// A model in pre-training.
pub struct Pretraining {
    /// The encoder.
    pub encoder: Encoder,
    /// What it learns to predict.
    pub heads: Heads,
    /// Everything trained.
    pub params: Params,
    /// Steps done.
    pub step: u64,
    /// Tokens read, `[CLS]` and `[SEP]` included.
    pub tokens: u64,
    /// First and second moments of each parameter.
    moments: Vec<(Tensor, Tensor)>,
    /// One thread for each shard of a batch.
    pools: Vec<rayon::ThreadPool>,
    settings: Settings,
    seed: SeedStream,
}

impl Pretraining {
    /// A new model.
    pub fn new(spec: EncoderSpec, settings: Settings) -> Result<Self> {
        let seed = SeedStream::new(settings.seed);
        let eps = spec.layer_norm_eps;
        let mut encoder = Encoder::random(spec, seed, &Device::Cpu)?;
        let mut params = Params::default();
        encoder.train_base(&mut params);
        let word = params.iter().position(|param| param.name.ends_with("word_embeddings.weight")).map(ParamId);
        let id = word.ok_or_else(|| Error::internal("the word table is not trained"))?;
        let heads = Heads::new(encoder.embeddings.word(), id, eps, seed, &mut params)?;
        let moments =
            params.iter().map(|p| Ok((p.value.zeros_like()?, p.value.zeros_like()?))).collect::<Result<_>>()?;
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pools = (0..SHARDS)
            .map(pool)
            .collect::<std::result::Result<_, _>>()
            .map_err(|err| Error::internal(format!("no threads: {err}")))?;
        Ok(Self { encoder, heads, params, step: 0, tokens: 0, moments, pools, settings, seed })
    }

    /// Starting values learned from counts: word vectors from neighbours, biases from frequencies.
    pub fn warm_start(&self, data: &Sequences) -> Result<()> {
        let table = self.encoder.embeddings.word();
        spectral::fill(table, data, self.seed)?;
        self.heads.start_at(&spectral::frequencies(data, table.dim(0)?))?;
        for param in self.params.iter().filter(|p| p.name.starts_with("encoder.") && p.decay) {
            host::change_shared(&param.value, |values: &mut [f32]| values.iter_mut().for_each(|v| *v *= TRUNK_SCALE))?;
        }
        Ok(())
    }

    /// The plan as it stands: all steps and decay steps, once known.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn rate(&self) -> f64 {
        let s = &self.settings;
        let warm = ((self.step + 1) as f64 / s.warmup.max(1) as f64).min(1.0);
        let decay =
            s.plan.map_or(1.0, |(all, decay)| (all.saturating_sub(self.step) as f64 / decay.max(1) as f64).min(1.0));
        s.rate * warm * decay
    }

    /// One step on the sequences of `rows`.
    fn train(&mut self, data: &Sequences, rows: &[u32]) -> Result<f64> {
        let vocabulary = self.encoder.spec.vocab_size;
        let shards: Vec<_> = (0u64..)
            .zip(rows.chunks(rows.len().div_ceil(SHARDS)))
            .map(|(i, rows)| masked_batch(data, rows, vocabulary, self.seed, self.step * SHARDS as u64 + i))
            .collect();
        let (encoder, heads, params) = (&self.encoder, &self.heads, &self.params);
        let work = |shard: &(Batch, Targets)| gradients(encoder, heads, params, &shard.0, &shard.1);
        let results: Vec<Result<(f64, Grads)>> = std::thread::scope(|scope| {
            let running: Vec<_> = shards
                .iter()
                .zip(&self.pools)
                .map(|(shard, pool)| scope.spawn(|| pool.install(|| work(shard))))
                .collect();
            let lost = |_| Err(Error::internal("a worker stopped"));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
        });
        let mut sum = 0.0;
        let mut parts = Vec::new();
        for result in results {
            let (loss, grads) = result?;
            sum += loss / shards.len() as f64;
            parts.push(grads);
        }
        self.update(&parts)?;
        self.step += 1;
        self.tokens += shards.iter().map(|(batch, _)| batch.ids.len() as u64).sum::<u64>();
        if sum.is_finite() {
            Ok(sum)
        } else {
            Err(Error::internal(format!("the loss is not finite at step {}; lower the rate", self.step)))
        }
    }

    /// AdamW on the mean of the shards' gradients, clipped to a global norm of 1.
    fn update(&self, parts: &[Grads]) -> Result<()> {
        let Some((first, others)) = parts.split_first() else { return Ok(()) };
        let mut square = 0.0;
        for (id, expert, grad) in first.iter() {
            for other in others.iter().filter_map(|part| part.get(id, expert)) {
                add_to(grad, other, 1.0)?;
            }
            square += HostRef::of(grad)?.iter().map(|g| g * g).sum::<f32>();
        }
        let share = 1.0 / parts.len() as f64;
        let scale = share / (f64::from(square).sqrt() * share).max(1.0);
        let rate = self.rate();
        for (id, _, grad) in first.iter() {
            let (Some(param), Some((m, v))) = (self.params.iter().nth(id.0), self.moments.get(id.0)) else { continue };
            host::change_shared(grad, |grad: &mut [f32]| grad.iter_mut().for_each(|g| *g *= scale as f32))?;
            let update = adamw::Update {
                lr: rate,
                betas: (0.9, 0.98),
                eps: 1e-6,
                weight_decay: if param.decay { 0.01 } else { 0.0 },
                t: self.step + 1,
            };
            adamw::update(&param.value, m, v, grad, update)?;
        }
        Ok(())
    }

    /// Mean loss on sequences that are never trained on; always the same ones, masked in the same way.
    pub fn held_out(&self, data: &Sequences) -> Result<f64> {
        let mut sum = 0.0;
        let rows: Vec<u32> = {
            let mut rows: Vec<u32> = (0..data.len() as u32).collect();
            self.seed.stream(adamix::rng::Purpose::Sampling, HELD_OUT).shuffle(&mut rows);
            rows
        };
        let batches = rows.chunks_exact(64).take(HELD_OUT_BATCHES as usize);
        let count = batches.len().max(1) as f64;
        for (i, rows) in (0u64..).zip(batches) {
            let vocabulary = self.encoder.spec.vocab_size;
            let (batch, targets) = masked_batch(data, rows, vocabulary, self.seed, HELD_OUT + i);
            let (x, _) = self.encoder.forward(&batch, ForwardOptions { all_tokens: true, ..ForwardOptions::eval() })?;
            sum += self.heads.run(&x, &targets, None)?.0 / count;
        }
        Ok(sum)
    }

    /// Trains to the end of the plan; `report` is called every `every` minutes and at the end.
    pub fn run(
        &mut self,
        data: &Sequences,
        every: Duration,
        mut report: impl FnMut(&Self, &Progress) -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut last = start;
        let mut progress = Progress::default();
        for epoch in 0.. {
            let order = sequences::epoch(data, self.seed, epoch);
            for rows in order.chunks_exact(self.settings.batch) {
                let loss = self.train(data, rows)?;
                progress.add(loss);
                progress.elapsed = start.elapsed();
                self.plan_by_clock(progress.elapsed);
                let done = self.settings.plan.is_some_and(|(all, _)| self.step >= all);
                let early = self.step.is_power_of_two() && (32..2048).contains(&self.step);
                if done || early || last.elapsed() >= every {
                    progress.save = done || !early;
                    progress.rate = self.rate();
                    report(self, &progress)?;
                    progress = Progress::default();
                    if !early {
                        last = Instant::now();
                    }
                }
                if done {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Fixes the number of steps once the decay has to begin.
    fn plan_by_clock(&mut self, elapsed: Duration) {
        let s = &mut self.settings;
        if s.plan.is_none() && elapsed.as_secs_f64() >= s.minutes * 60.0 * DECAY_FROM {
            let decay = (self.step as f64 * (1.0 - DECAY_FROM) / DECAY_FROM) as u64;
            s.plan = Some((self.step + decay, decay));
        }
    }
}

/// Loss and gradients of one packed batch.
fn gradients(
    encoder: &Encoder,
    heads: &Heads,
    params: &Params,
    batch: &Batch,
    targets: &Targets,
) -> Result<(f64, Grads)> {
    let run = ForwardOptions { all_tokens: true, keep: true, ..ForwardOptions::eval() };
    let (x, trace) = encoder.forward(batch, run)?;
    let mut grads = Grads::new(params);
    let (loss, dx) = heads.run(&x, targets, Some(&mut grads))?;
    let (Some(trace), Some(dx)) = (trace, dx) else { return Err(Error::internal("nothing kept for backward")) };
    encoder.backward(trace, dx, &mut grads)?;
    Ok((loss, grads))
}

/// What happened since the last report.
#[derive(Default)]
pub struct Progress {
    sum: f64,
    count: u64,
    /// Since the start of the run.
    pub elapsed: Duration,
    /// Learning rate now.
    pub rate: f64,
    /// Whether a checkpoint is due.
    pub save: bool,
}

impl Progress {
    fn add(&mut self, loss: f64) {
        self.sum += loss;
        self.count += 1;
    }
    /// Mean training loss since the last report.
    pub fn loss(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}
