//! Makes training steps of a classifier or a language model and times them, phase by phase.

use crate::bench::figures::{Measured, PhaseTime, Spread};
use crate::bench::products::product_rates;
use crate::bench::work::Work;
use crate::bench::{Lengths, Shape};
use crate::config::{DeviceChoice, DtypeChoice, MixtureConfig, MixtureKind, ModelConfig, Recompute, RunConfig};
use crate::data::text::TextBatch;
use crate::data::{Batch, Labels};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Counters;
use crate::machine::device::{self, Chosen};
use crate::machine::estimate::{ActivationFormat, Load, Mixtures, StepConditions, decoder_step_bytes, step_bytes};
use crate::machine::{facts, memory};
use crate::model::decoder::{Decoder, LmSetup};
use crate::model::{BaseModel as _, CausalLm, Classifier, Counts, Encoder, Network as _, Setup};
use crate::nn::profile::{PHASES, Phase, Profile, Recording};
use crate::rng::{Purpose, SeedStream};
use crate::tensor::{DType, Device, NumberFormat};
use crate::train::Trainable;
use crate::train::optimizer::AdamW;
use crate::train::step::{StepIndex, passes, step};
use std::time::Instant;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes of the model.
    pub shape: Shape,
    /// Of the sequences.
    pub lengths: Lengths,
    /// In sequences.
    pub batch_size: usize,
    /// M.
    pub num_experts: usize,
    /// r.
    pub adapter_size: usize,
    /// Times each batch goes through: 2 with the consistency term, 1 without.
    pub passes: usize,
    /// Steps before the first timed one.
    pub warm_up: usize,
    /// Steps that are timed.
    pub steps: usize,
    /// Run layers again in the backward pass instead of keeping their activations.
    pub recompute: bool,
    /// An error where it cannot be used.
    pub device: DeviceChoice,
    /// Number format of the base model.
    pub dtype: DtypeChoice,
    /// Quantise a language model's matrices in this format, as in a GGUF file; `dtype` is then that of activations.
    pub weights: Option<NumberFormat>,
    /// Record the phases of a step.
    pub phases: bool,
}

impl Plan {
    /// Whether it can be measured.
    pub fn check(&self) -> Result<()> {
        let longest = self.shape.max_length()?;
        if let Lengths::Dense(length) = self.lengths
            && (length < 2 || length > longest)
        {
            return Err(Error::config(format!("length is {length}; choose 2 to {longest}")));
        }
        if self.steps == 0 {
            return Err(Error::config("no step would be timed; choose at least 1"));
        }
        if self.weights.is_some() && !self.shape.is_decoder() {
            return Err(Error::config("only a language model's weights can be quantised; choose such a shape"));
        }
        self.config().validate()
    }

    /// The settings of a run like this.
    pub fn config(&self) -> RunConfig {
        let mixture = MixtureConfig {
            num_experts: self.num_experts,
            adapter_size: self.adapter_size,
            lora_rank: self.adapter_size,
            kind: if self.shape.is_decoder() { MixtureKind::Lora } else { MixtureKind::Adapter },
            consistency: self.passes == 2,
            ..MixtureConfig::default()
        };
        let mut config = RunConfig { mixture, ..RunConfig::default() };
        config.train.batch_size = self.batch_size;
        config.train.recompute = if self.recompute { Recompute::On } else { Recompute::Off };
        config
    }

    /// All batches: warm-up first.
    fn batches(&self) -> Result<Vec<Batch>> {
        let longest = self.shape.max_length()?;
        let mut stream = SeedStream::new(0).stream(Purpose::Sampling, 0);
        let mut lengths = self.lengths.list()?.into_iter().cycle();
        let mut batch = || {
            let (mut ids, mut offsets, mut classes) = (Vec::new(), vec![0], Vec::new());
            for length in lengths.by_ref().take(self.batch_size) {
                ids.extend((0..length.min(longest)).map(|_| stream.below(self.shape.vocabulary) as u32));
                offsets.push(ids.len());
                classes.push(stream.below(2) as u32);
            }
            let (type_ids, labels) = (vec![0; ids.len()], Labels::Classes(classes));
            Batch { ids, type_ids, offsets, labels, rows: (0..self.batch_size).collect() }
        };
        Ok((0..self.warm_up + self.steps).map(|_| batch()).collect())
    }
}

/// One timed step.
pub(crate) struct TimedStep {
    pub(crate) seconds: f64,
    pub(crate) tokens: usize,
    /// Tokens with a loss, of a language model.
    targets: usize,
    profile: Profile,
    allocations: Option<StepAllocations>,
    /// What a GPU of our own was asked, the wait at the end of the measurement aside.
    pub(crate) asked: Option<Counters>,
}

#[derive(Clone, Copy)]
struct StepAllocations {
    count: u64,
    bytes: u64,
    /// Most bytes in use beyond those before the step.
    peak: u64,
}

/// The model that is trained, in numbers.
#[derive(Clone, Copy)]
struct ModelFacts {
    counts: Counts,
    weight_bytes: usize,
    mixtures: Mixtures,
    format: ActivationFormat,
}

/// A series of steps.
pub struct Series {
    pub(crate) steps: Vec<TimedStep>,
    /// Bytes of the process after the warm-up.
    steady: u64,
    model: ModelFacts,
    device: String,
    device_memory: Option<u64>,
    /// Of the last step.
    pub loss: f64,
}

/// Device and format; an error where they are not those asked for.
fn place(plan: &Plan) -> Result<Chosen> {
    let chosen = device::choose(&ModelConfig { device: plan.device, dtype: plan.dtype, ..ModelConfig::default() });
    match chosen.warning {
        Some(warning) => Err(Error::new(ErrorKind::Device, warning)),
        None => Ok(chosen),
    }
}

/// Makes the plan's steps, on random weights.
pub fn series(plan: &Plan) -> Result<Series> {
    plan.check()?;
    let Chosen { device, dtype, .. } = place(plan)?;
    series_on(plan, dtype, &device)
}

/// The same on a device that is open.
pub(crate) fn series_on(plan: &Plan, dtype: DType, device: &Device) -> Result<Series> {
    plan.check()?;
    if plan.shape.is_decoder() { decoder_series(plan, dtype, device) } else { encoder_series(plan, dtype, device) }
}

fn encoder_series(plan: &Plan, dtype: DType, device: &Device) -> Result<Series> {
    let (config, seed) = (plan.config(), SeedStream::new(0));
    let encoder = Encoder::random(plan.shape.spec()?, seed, device)?.stored(dtype)?;
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs: 2, seed };
    let model = Classifier::new(encoder, None, &setup, dtype)?;
    let facts = ModelFacts {
        counts: model.counts(),
        weight_bytes: dtype.size_in_bytes() * model.counts().base,
        mixtures: Mixtures::new(&config, model.base.spec.hidden_size, None),
        format: ActivationFormat::of_encoder(&model.base),
    };
    timed_series(plan, &model, facts, Batch::clone)
}

/// A mixture of LoRA on queries and values; every token has a loss.
fn decoder_series(plan: &Plan, dtype: DType, device: &Device) -> Result<Series> {
    let (config, seed) = (plan.config(), SeedStream::new(0));
    let random = Decoder::random(plan.shape.decoder_spec()?, seed, device)?;
    let decoder = match plan.weights {
        Some(format) => random.quantised(format)?.computing_in(dtype),
        None => random.stored_as(dtype)?,
    };
    let weight_bytes = decoder.weight_bytes();
    let model = CausalLm::new(decoder, LmSetup { mixture: Some(&config.mixture), seed })?;
    let layer = model.base.modules().next();
    let facts = ModelFacts {
        counts: model.counts(),
        weight_bytes,
        mixtures: Mixtures::new(&config, model.base.spec.hidden_size, layer),
        format: ActivationFormat::of_decoder(&model.base),
    };
    timed_series(plan, &model, facts, |batch| {
        let Batch { ids, offsets, rows, .. } = batch.clone();
        TextBatch { learn: vec![true; ids.len()], ids, offsets, rows }
    })
}

fn timed_series<M: Trainable>(
    plan: &Plan,
    model: &M,
    of_model: ModelFacts,
    batch_of: impl Fn(&Batch) -> M::Batch,
) -> Result<Series> {
    let (config, device) = (plan.config(), model.device());
    let mut optimizer = AdamW::new(model.params())?;
    let batches = plan.batches()?;
    let recording = plan.phases.then(Recording::start);
    let take = || recording.as_ref().map_or_else(Profile::default, Recording::take);
    let (mut steps, mut steady, mut loss) = (Vec::new(), 0, 0.0);
    let total = batches.len() as u64;
    for (index, batch) in batches.iter().enumerate() {
        if index == plan.warm_up {
            steady = facts::resident_memory();
        }
        memory::reset_peak();
        let (before, clock) = (memory::allocated(), Instant::now());
        take();
        let at = StepIndex::new(index as u64, total);
        let counters = counters(device);
        let made = step(&config, model, &mut optimizer, at, |_| Ok(batch_of(batch)))?;
        let asked = self::counters(device).zip(counters).map(|(after, before)| after.since(before));
        device.synchronize()?;
        let profile = take();
        let (seconds, after) = (clock.elapsed().as_secs_f64(), memory::allocated());
        loss = made.loss.total;
        if index >= plan.warm_up {
            let allocations = before.zip(after).map(|(before, after)| StepAllocations {
                count: after.allocations - before.allocations,
                bytes: after.bytes - before.bytes,
                peak: after.peak.saturating_sub(before.live),
            });
            let targets = plan.passes * made.targets;
            steps.push(TimedStep { seconds, tokens: made.tokens, targets, profile, allocations, asked });
        }
    }
    let device_memory = device::memory(device).map(|(free, all)| all.saturating_sub(free));
    let device = device::name(device);
    Ok(Series { steps, steady, model: of_model, device, device_memory, loss })
}

fn counters(device: &Device) -> Option<Counters> {
    if let Device::Gpu(gpu) = device { Some(gpu.counters()) } else { None }
}

impl Series {
    /// Most bytes a step had in use beyond those in use before it; where allocations are counted.
    pub fn step_bytes(&self) -> Option<u64> {
        self.steps.iter().map(|step| step.allocations.map(|counted| counted.peak)).max().flatten()
    }

    /// The bytes that the estimate expects of the largest step of this plan.
    pub fn expected_bytes(&self, plan: &Plan) -> Result<f64> {
        let (steps, config) = (&self.steps, plan.config());
        let longest = plan.lengths.list().ok().and_then(|list| list.into_iter().max()).unwrap_or(1);
        let load = Load {
            tokens: steps.iter().map(|step| step.tokens).max().unwrap_or(0) as f64,
            sequences: (plan.batch_size * passes(&config)) as f64,
            longest: longest as f64,
        };
        let step = StepConditions {
            mixtures: self.model.mixtures,
            format: self.model.format,
            load,
            threads: rayon::current_num_threads(),
            recompute: plan.recompute,
        };
        if plan.shape.is_decoder() {
            let learned = steps.iter().map(|step| step.targets).max().unwrap_or(0) as f64;
            return Ok(decoder_step_bytes(&plan.shape.decoder_spec()?, &step, learned));
        }
        Ok(step_bytes(&plan.shape.spec()?, &config, &step))
    }
}

fn phases(steps: &[TimedStep]) -> Vec<PhaseTime> {
    let mut sum = Profile::default();
    steps.iter().for_each(|step| sum.add(&step.profile));
    let all = sum.total().as_secs_f64().max(1e-12);
    let time = |phase: Phase| PhaseTime {
        phase: phase.name(),
        ms: Spread::of(steps.iter().map(|step| 1e3 * step.profile.time(phase).as_secs_f64())),
        share: sum.time(phase).as_secs_f64() / all,
    };
    PHASES.into_iter().filter(|&phase| !sum.time(phase).is_zero()).map(time).collect()
}

/// The products of all steps.
fn work(plan: &Plan, steps: &[TimedStep]) -> Result<Work> {
    let tokens = steps.iter().map(|step| step.tokens).sum();
    if plan.shape.is_decoder() {
        let targets = steps.iter().map(|step| step.targets).sum();
        return Ok(Work::of_decoder(&plan.shape.decoder_spec()?, tokens, targets));
    }
    Ok(Work::of(&plan.shape.spec()?, tokens, plan.batch_size * plan.passes * steps.len()))
}

fn mb(bytes: f64) -> f64 {
    (bytes / 1e5).round() / 10.0
}

/// Makes training steps on random weights and times them.
pub fn bench(plan: &Plan) -> Result<Measured> {
    plan.check()?; // before anything is measured
    let place = place(plan)?;
    let on_cpu = place.device.is_cpu();
    let rate = || if on_cpu { facts::gemm_rate(place.dtype, 0.5) } else { device::gemm_rate(&place, 0.5) };
    let before = rate()?;
    let series = series(plan)?;
    let peak = facts::peak_memory() as f64;
    // Measured before and after, because other programs may disturb one of them.
    let gemm = before.max(rate()?) / 1e9;
    let steps = &series.steps;
    let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
    let tokens: usize = steps.iter().map(|step| step.tokens).sum();
    let time = Spread::of(steps.iter().map(|step| step.seconds));
    let rate = Spread::of(steps.iter().map(|step| step.tokens as f64 / step.seconds));
    let per_token = work(plan, steps)?;
    let (nominal, made) = (per_token.nominal / tokens as f64, per_token.made / tokens as f64);
    let phases = phases(steps);
    // A language model's head is a matrix product too.
    let product = |p: &&PhaseTime| p.phase.starts_with("trunk_") || (plan.shape.is_decoder() && p.phase == "head");
    let in_products: f64 = phases.iter().filter(product).map(|p| p.share).sum();
    let weights = (series.model.weight_bytes + 4 * series.model.counts.trained) as f64;
    let mean = |part: fn(StepAllocations) -> u64| -> Option<f64> {
        let sum: Option<u64> = steps.iter().map(|step| step.allocations.map(part)).sum();
        sum.map(|sum| sum as f64 / steps.len() as f64)
    };
    Ok(Measured {
        tool: "adamix",
        version: env!("CARGO_PKG_VERSION"),
        shape: plan.shape.name,
        data: plan.lengths.describe(),
        dtype: place.dtype.as_str(),
        weights: plan.weights.map_or(place.dtype.as_str(), NumberFormat::name),
        device: series.device.clone(),
        device_memory_mb: series.device_memory.map(|bytes| mb(bytes as f64)),
        threads: rayon::current_num_threads(),
        batch_size: plan.batch_size,
        num_experts: plan.num_experts,
        adapter_size: plan.adapter_size,
        passes: plan.passes,
        recompute: plan.recompute,
        steps: steps.len(),
        tokens_per_step: tokens as f64 / steps.len() as f64,
        trunk_parameters: series.model.counts.base,
        step_seconds: time.median,
        step_seconds_min: time.min,
        step_seconds_max: time.max,
        tokens_per_s: rate.median,
        tokens_per_s_min: rate.min,
        tokens_per_s_max: rate.max,
        sequences_per_s: plan.batch_size as f64 / time.median,
        gflops: nominal * rate.median / 1e9,
        gflops_made: made * rate.median / 1e9,
        // Without phases nothing is known of the products alone.
        gflops_in_products: made * tokens as f64
            / if in_products > 0.0 { in_products * seconds } else { seconds }
            / 1e9,
        gemm_gflops: gemm,
        gemm_share: nominal * rate.median / 1e9 / gemm,
        gemm_share_made: made * rate.median / 1e9 / gemm,
        f32_products: if on_cpu { product_rates(&plan.shape)? } else { Vec::new() },
        phases,
        peak_rss_mb: mb(peak),
        steady_rss_mb: mb(series.steady as f64),
        weights_mb: mb(weights),
        peak_above_weights_mb: mb(peak - weights),
        step_mb: series.step_bytes().map(|bytes| mb(bytes as f64)),
        step_estimate_mb: mb(series.expected_bytes(plan)?),
        allocations_per_step: mean(|counted| counted.count),
        allocated_mb_per_step: mean(|counted| counted.bytes).map(mb),
        asked: steps.last().and_then(|step| step.asked),
        loss: series.loss,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_both_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([]), Spread::default());
    }

    fn plan(lengths: Lengths) -> Plan {
        Plan {
            shape: Shape {
                layers: 2,
                hidden: 16,
                heads: 2,
                inner: 32,
                vocabulary: 50,
                ..Shape::by_name("lab").unwrap()
            },
            lengths,
            batch_size: 4,
            num_experts: 2,
            adapter_size: 4,
            passes: 2,
            warm_up: 1,
            steps: 3,
            recompute: false,
            device: DeviceChoice::Cpu,
            dtype: DtypeChoice::F32,
            weights: None,
            phases: true,
        }
    }

    #[test]
    fn phases_are_the_whole_step_and_rates_fit_together() {
        for lengths in [Lengths::Dense(6), Lengths::Real] {
            let measured = bench(&plan(lengths.clone())).unwrap();
            assert!(measured.loss.is_finite());
            let shares: f64 = measured.phases.iter().map(|phase| phase.share).sum();
            assert!((shares - 1.0).abs() < 1e-9, "{shares}");
            assert!(measured.step_seconds_min <= measured.step_seconds && measured.gemm_share > 0.0);
            assert!(measured.gflops_in_products >= measured.gflops_made && measured.gflops_made < measured.gflops);
            match lengths {
                Lengths::Dense(_) => assert_eq!(measured.tokens_per_step, 48.0),
                // 2 passes of sequences 4 to 15 of the list.
                _ => {
                    let sum = 1.5 * measured.tokens_per_step;
                    assert!((sum - sum.round()).abs() < 1e-9 && sum > 36.0, "{sum}");
                }
            }
        }
    }

    #[test]
    fn language_models_are_measured_in_one_pass_or_two() {
        let small = Shape {
            layers: 2,
            hidden: 16,
            heads: 2,
            kv_heads: 1,
            inner: 32,
            vocabulary: 50,
            ..Shape::by_name("smollm2-135m").unwrap()
        };
        for passes in [1, 2] {
            for dtype in [DtypeChoice::F32, DtypeChoice::Bf16] {
                let measured = bench(&Plan { shape: small, passes, dtype, ..plan(Lengths::Dense(6)) }).unwrap();
                assert!(measured.loss.is_finite() && measured.loss > 1.0, "{}", measured.loss);
                assert_eq!((measured.tokens_per_step, measured.passes), (24.0 * passes as f64, passes));
                assert!(measured.gflops_made < measured.gflops);
                let plan = Plan { shape: small, passes, dtype, ..plan(Lengths::Dense(6)) };
                let expected = series(&plan).unwrap().expected_bytes(&plan).unwrap();
                assert!(expected > 1e3, "{expected}");
            }
        }
        // Rows of whole blocks, and enough of them to be seen in megabytes.
        let small = Shape { hidden: 64, inner: 128, vocabulary: 4000, ..small };
        let one = Plan { steps: 1, phases: false, ..plan(Lengths::Dense(6)) };
        let quantised = Plan { shape: small, weights: Some(NumberFormat::Q4_0), ..one };
        let measured = bench(&quantised).unwrap();
        assert_eq!((measured.weights, measured.phases.len()), ("Q4_0", 0));
        let whole = bench(&Plan { weights: None, ..quantised.clone() }).unwrap();
        assert!(measured.weights_mb < whole.weights_mb, "{} {}", measured.weights_mb, whole.weights_mb);
        let (in_products, made) = (measured.gflops_in_products, measured.gflops_made);
        assert!((in_products / made - 1.0).abs() < 1e-6, "{in_products} {made}: nothing is told apart without phases");
        assert!(Plan { shape: Shape::by_name("lab").unwrap(), ..quantised }.check().is_err());
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        assert!(plan(Lengths::Dense(600)).check().unwrap_err().to_string().contains("length"));
        assert!(Plan { steps: 0, ..plan(Lengths::Real) }.check().is_err());
        assert!(Plan { batch_size: 0, ..plan(Lengths::Real) }.check().is_err());
    }
}
