//! The pre-training loop: warm-up, constant rate, linear decay; reports and checkpoints.

use crate::windows::Windows;
use adamix::config::RunConfig;
use adamix::data::text::TextBatch;
use adamix::error::{Error, Result};
use adamix::model::decoder::Decoder;
use adamix::model::{CausalLm, DecoderSpec, ForwardOptions, LmSetup, Network as _, Packed, Weights};
use adamix::nn::kernels::vocab_loss::{MAX_LOGITS, Objective};
use adamix::nn::{Grads, Params};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device};
use adamix::train::AdamW;
use adamix::train::loss::PendingLoss;
use adamix::train::optimizer;
use adamix::train::step::forward_backward;
use adamix::train::trainable::Trainable as _;
use std::path::Path;
use std::time::Instant;

/// Settings of a run; with a plan in steps they fix, together with the corpora, every bit of the result on one kind of
/// machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of everything random.
    pub seed: u64,
    /// Windows in a batch.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Steps of the linear warm-up.
    pub warmup: u64,
    /// How long it goes on.
    pub plan: Plan,
    /// Time between reports and checkpoints.
    pub report_seconds: f64,
}

/// How long training goes on.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Until the clock says so: the decay begins after two thirds of the time, and takes half as many steps again.
    Minutes(f64),
    /// So many steps, the last ones with a falling rate.
    Steps {
        /// All.
        steps: u64,
        /// Those of the decay.
        decay: u64,
    },
}

/// Parts of a batch, computed on one thread each and added up: with matrices this small that gains more than dividing
/// every product, and the result does not depend on the number of cores.
const SHARDS: usize = 2;
/// Matrices start at N(0, 0.05) instead of N(0, 0.02): right for a width of 160.
const SCALE: f64 = 2.5;
/// Windows of the held-out loss.
const HELD_OUT: usize = 400;

/// A model in pre-training.
pub struct Pretraining {
    model: CausalLm,
    config: RunConfig,
    optimizer: AdamW,
    pools: Vec<rayon::ThreadPool>,
    settings: Settings,
    step: u64,
    tokens: u64,
}

/// Some windows as one batch.
fn pack(data: &Windows, rows: &[usize]) -> TextBatch {
    let mut batch = TextBatch { offsets: vec![0], rows: rows.to_vec(), ..TextBatch::default() };
    for &row in rows {
        let window = data.get(row);
        batch.ids.extend(window.iter().map(|&id| u32::from(id)));
        batch.learn.extend((0..window.len()).map(|i| i >= data.first(row)));
        batch.offsets.push(batch.ids.len());
    }
    batch
}

impl Pretraining {
    /// Random weights, or those of a directory; all trained.
    pub fn new(spec: DecoderSpec, settings: Settings, from: Option<&Path>) -> Result<Self> {
        let seed = SeedStream::new(settings.seed);
        let decoder = match from {
            Some(dir) => {
                let weights = Weights::open(dir)?.with_prefix(spec.family.prefix());
                Decoder::load(spec, &weights, DType::F32, &Device::Cpu)?
            }
            None => Decoder::random(spec, seed, &Device::Cpu)?,
        };
        let mut model = CausalLm::new(decoder, LmSetup { mixture: None, seed })?;
        model.train_base()?;
        let matrix = |name: &str| from.is_none() && name != "embed_tokens.weight";
        for param in model.params().iter().filter(|param| param.decay && matrix(&param.name)) {
            param.value.slice_set(&(&param.value * SCALE)?, 0, 0)?;
        }
        let mut config = RunConfig::default();
        config.mixture.consistency = false;
        config.train.seed = settings.seed;
        config.train.adam_beta2 = 0.95;
        config.train.weight_decay = 0.1;
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pools = (0..SHARDS).map(pool).collect::<std::result::Result<_, _>>();
        let pools = pools.map_err(|err| Error::internal(format!("no threads: {err}")))?;
        let optimizer = AdamW::new(model.params())?;
        Ok(Self { model, config, optimizer, pools, settings, step: 0, tokens: 0 })
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.model.params().count()
    }

    fn rate(&self) -> f64 {
        let warm = ((self.step + 1) as f64 / self.settings.warmup.max(1) as f64).min(1.0);
        let decay = match self.settings.plan {
            Plan::Minutes(_) => 1.0,
            Plan::Steps { steps, decay } => (steps.saturating_sub(self.step) as f64 / decay.max(1) as f64).min(1.0),
        };
        self.settings.rate * warm * decay
    }

    /// One step on some windows. -> nats a token
    fn train(&mut self, data: &Windows, rows: &[usize]) -> Result<f64> {
        let shards: Vec<TextBatch> = rows.chunks(rows.len().div_ceil(SHARDS)).map(|rows| pack(data, rows)).collect();
        let (model, config, step) = (&self.model, &self.config, self.step);
        let work = |shard: &TextBatch| forward_backward(config, model, shard, None, step);
        let results: Vec<Result<(PendingLoss, Grads)>> = std::thread::scope(|scope| {
            let running: Vec<_> = shards
                .iter()
                .zip(&self.pools)
                .map(|(shard, pool)| scope.spawn(|| pool.install(|| work(shard))))
                .collect();
            let lost = |_| Err(Error::internal("a worker stopped"));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
        });
        let (mut sum, mut targets, mut grads) = (0.0, 0.0, Grads::new(self.model.params()));
        for (result, shard) in results.into_iter().zip(&shards) {
            let (loss, mut part) = result?;
            let size = self.model.size(shard);
            part.scale(size.weight)?;
            grads.merge(part)?;
            sum += loss.read()?.task * size.weight;
            targets += size.weight;
            self.tokens += size.tokens as u64;
        }
        grads.scale(1.0 / targets)?;
        let norm = optimizer::global_norm(&grads)?;
        optimizer::clip(&mut grads, norm, 1.0)?;
        self.optimizer.step(self.model.params(), &grads, self.rate(), &self.config.train)?;
        self.step += 1;
        let loss = sum / targets;
        if loss.is_finite() {
            return Ok(loss);
        }
        Err(Error::internal(format!("the loss is not finite at step {}; lower the rate", self.step)))
    }

    /// Mean loss on windows that are never trained on; always the same ones. -> nats a token
    fn held_out(&self, data: &Windows) -> Result<f64> {
        let mut rows: Vec<usize> = (0..data.len()).collect();
        SeedStream::new(self.settings.seed).stream(Purpose::Sampling, 1 << 32).shuffle(&mut rows);
        rows.truncate(HELD_OUT);
        let (mut sum, mut count) = (0.0, 0.0);
        let (smoothing, weight, max_logits) = (0.0, 0.0, MAX_LOGITS);
        let objective = Objective {
            passes: 1,
            smoothing,
            weight,
            detach: true,
            both: false,
            gradient: false,
            max_logits,
            overflows: 0,
        };
        for rows in rows.chunks(50) {
            let batch = pack(data, rows);
            let packed = Packed::from(&batch);
            let (at, targets) = packed.targets(&batch.learn);
            let (hidden, _) = self.model.forward(packed, Some(&at), ForwardOptions::eval())?;
            sum += self.model.loss(&hidden, &targets, objective)?.rows.read()?.task * targets.len() as f64;
            count += targets.len() as f64;
        }
        Ok(sum / count)
    }

    /// Trains to the end of the plan; `save` is called at every report.
    pub fn run(
        &mut self,
        data: &Windows,
        held_out: &Windows,
        mut save: impl FnMut(&Params) -> Result<()>,
    ) -> Result<()> {
        let (start, mut last) = (Instant::now(), Instant::now());
        let (mut sum, mut count) = (0.0, 0.0);
        for epoch in 0.. {
            let mut order: Vec<usize> = (0..data.len()).collect();
            SeedStream::new(self.settings.seed).stream(Purpose::Shuffle, epoch).shuffle(&mut order);
            for rows in order.chunks_exact(self.settings.batch) {
                sum += self.train(data, rows)?;
                count += 1.0;
                let seconds = start.elapsed().as_secs_f64();
                self.plan_by_clock(seconds);
                let done = matches!(self.settings.plan, Plan::Steps { steps, .. } if self.step >= steps);
                let early = self.step.is_power_of_two() && (32..1024).contains(&self.step);
                if done || early || last.elapsed().as_secs_f64() >= self.settings.report_seconds {
                    last = Instant::now();
                    println!(
                        "step {} ({:?}), {} tokens, {seconds:.0} s, {:.0} tokens/s, rate {:.2e}: loss {:.4}, held out {:.4}",
                        self.step,
                        self.settings.plan,
                        self.tokens,
                        self.tokens as f64 / seconds,
                        self.rate(),
                        sum / count,
                        self.held_out(held_out)?
                    );
                    (sum, count) = (0.0, 0.0);
                    save(self.model.params())?;
                }
                if done {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Fixes the number of steps once the decay has to begin.
    fn plan_by_clock(&mut self, seconds: f64) {
        if let Plan::Minutes(minutes) = self.settings.plan
            && seconds >= minutes * 40.0
        {
            let decay = self.step / 2;
            self.settings.plan = Plan::Steps { steps: self.step + decay, decay };
        }
    }
}
