//! Language models on a GPU: they learn, write and are measured as on the processor.

use super::training::gpu;
use crate::golden::{golden_dir, off};
use crate::support::texts::TextPlace;
use crate::support::{assert_close, fill};
use adamix::config::{MixtureConfig, MixtureKind, RoutingPolicy, RunConfig};
use adamix::data::text::TextBatch;
use adamix::eval::generate::{GenerateOptions, Generated, Hooks, Routes, generate};
use adamix::mixture::{Route, RouteShape};
use adamix::model::decoder::cache::Extension;
use adamix::model::{CausalLm, ForwardOptions, KvCache, LmSetup, LmSource, Network as _, Packed};
use adamix::records::{EvalReport, Scores};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, Tensor, to_f32};
use adamix::train::checkpoint::{host_tensors, set_tensors};
use adamix::train::step::{StepIndex, step};
use adamix::train::{AdamW, ModelAndData};
use adamix::workflow::run::prepare;

const STEPS: u64 = 4;

fn load(family: &str, mixture: Option<&MixtureConfig>, dtype: DType, device: &Device) -> CausalLm {
    let source = LmSource::open(&golden_dir(family)).unwrap();
    let setup = LmSetup { mixture, seed: SeedStream::new(1) };
    CausalLm::load(source.spec, &source.weights, setup, dtype, device).unwrap()
}

/// The same experts, none of them zero, on the processor and on the GPU.
fn filled(family: &str, mixture: &MixtureConfig, dtype: DType, gpu: &Device) -> [CausalLm; 2] {
    let cpu = load(family, Some(mixture), DType::F32, &Device::Cpu);
    fill(cpu.params(), 0.3);
    let other = load(family, Some(mixture), dtype, gpu);
    set_tensors(&other, &host_tensors(&cpu).unwrap()).unwrap();
    [cpu, other]
}

fn mixture(kind: MixtureKind, target: &[&str]) -> MixtureConfig {
    MixtureConfig {
        kind,
        num_experts: 3,
        adapter_size: 4,
        lora_rank: 2,
        lora_alpha: 3.0,
        lora_dropout: 0.1,
        lora_target: target.iter().map(|&name| name.to_owned()).collect(),
        ..MixtureConfig::default()
    }
}

fn run_config(mixture: MixtureConfig) -> RunConfig {
    let mut config = RunConfig { mixture, ..RunConfig::default() };
    (config.train.learning_rate, config.train.label_smoothing) = (5e-3, 0.1);
    config.model.trunk_dropout = true;
    config
}

/// Three sequences, of which the first tokens are only read.
fn batch(index: u64) -> TextBatch {
    let mut stream = SeedStream::new(12).stream(Purpose::Sampling, index);
    let ids = (0..19).map(|_| 3 + stream.below(29) as u32).collect();
    let learn = (0..19).map(|at| ![0, 1, 6, 14].contains(&at)).collect();
    TextBatch { ids, offsets: vec![0, 6, 14, 19], learn, rows: vec![0, 1, 2] }
}

fn train(config: &RunConfig, model: &CausalLm) -> (Vec<f64>, Vec<Vec<Route>>) {
    let mut optimizer = AdamW::new(model.params()).unwrap();
    let mut one = |index| {
        let at = StepIndex::new(index, STEPS);
        let done = step(config, model, &mut optimizer, at, |index| Ok(batch(index))).unwrap();
        (done.loss.total, done.routes)
    };
    (0..STEPS).map(&mut one).unzip()
}

/// Losses and routes of a few steps are those of the processor.
#[track_caller]
fn learns_alike(what: &str, family: &str, config: &RunConfig, gpu: &Device, dtypes: &[(DType, f64)]) {
    let [cpu, _] = filled(family, &config.mixture, DType::F32, &Device::Cpu);
    let (wanted, routes) = train(config, &cpu);
    for &(dtype, allowed) in dtypes {
        let [_, model] = filled(family, &config.mixture, dtype, gpu);
        let (losses, same) = train(config, &model);
        assert_eq!(routes, same, "{what}: routes");
        for (step, (got, want)) in losses.iter().zip(&wanted).enumerate() {
            let apart = (got - want).abs() / want.abs().max(0.1);
            assert!(apart < allowed, "{what}, step {step}, {dtype:?}: loss {got} on the GPU, {want} on the CPU");
        }
    }
}

/// Formats of the device, and how far a loss may be off in each.
fn formats(gpu: &Device) -> Vec<(DType, f64)> {
    let mut all = vec![(DType::F32, 1e-4)];
    if let Device::Gpu(gpu) = gpu
        && gpu.backend().facts().f16
    {
        all.push((DType::F16, 2e-2));
    }
    all
}

#[test]
fn every_family_learns_as_on_the_processor() {
    let Some(gpu) = gpu() else { return };
    for family in ["gpt2-tiny", "llama-tiny", "qwen3-tiny"] {
        for (kind, target) in
            [(MixtureKind::Lora, &[][..]), (MixtureKind::Lora, &["all-linear"]), (MixtureKind::Adapter, &[])]
        {
            let config = run_config(mixture(kind, target));
            learns_alike(&format!("{family}, {kind:?} {target:?}"), family, &config, &gpu, &formats(&gpu));
        }
    }
}

#[test]
fn every_policy_routes_as_on_the_processor() {
    let Some(gpu) = gpu() else { return };
    for routing in RoutingPolicy::ALL {
        let config = run_config(MixtureConfig { routing, ..mixture(MixtureKind::Lora, &["all-linear"]) });
        learns_alike(&format!("{routing:?}"), "llama-tiny", &config, &gpu, &formats(&gpu)[..1]);
    }
    // Nothing shared, the other scale, both passes in the task loss, activations computed again.
    let mut config = run_config(MixtureConfig {
        sharing_up: false,
        use_rslora: true,
        ce_both_passes: true,
        ..mixture(MixtureKind::Lora, &["all-linear"])
    });
    config.train.recompute = adamix::config::Recompute::On;
    config.train.gradient_accumulation_steps = 2;
    learns_alike("other settings", "qwen3-tiny", &config, &gpu, &formats(&gpu)[..1]);
}

#[test]
fn a_comparison_that_must_fail_fails() {
    let Some(gpu) = gpu() else { return };
    let config = run_config(mixture(MixtureKind::Lora, &["all-linear"]));
    let [cpu, model] = filled("llama-tiny", &config.mixture, DType::F32, &gpu);
    let mut other = host_tensors(&cpu).unwrap();
    other[0].data.iter_mut().for_each(|value| *value *= 1.5);
    set_tensors(&model, &other).unwrap();
    let (wanted, losses) = (train(&config, &cpu).0, train(&config, &model).0);
    assert!(wanted.iter().zip(&losses).any(|(a, b)| (a - b).abs() > 1e-3 * a), "{wanted:?} {losses:?}");
}

fn write(model: &CausalLm, prompts: &[Vec<u32>], routes: Routes) -> Vec<Generated> {
    let options = GenerateOptions { routes, ..GenerateOptions::greedy(10, &[2]) };
    generate(model, prompts, None, &options, &mut Hooks { go_on: &|_| true, tell: &mut |_| {} }).unwrap()
}

#[test]
fn it_writes_what_the_processor_writes() {
    let Some(gpu) = gpu() else { return };
    let prompts = [vec![1, 9, 4], vec![5], vec![20, 11, 11, 7, 30]];
    let same = |what: &str, [cpu, gpu]: [&CausalLm; 2], routes: Routes| {
        let (wanted, found) = (write(cpu, &prompts, routes), write(gpu, &prompts, routes));
        for (want, got) in wanted.iter().zip(&found) {
            assert_eq!((&got.ids, got.end), (&want.ids, want.end), "{what} {routes:?}");
            assert_close(what, &got.log_probs, &want.log_probs, 1e-4, 1e-4);
        }
        assert!(wanted.iter().any(|text| text.ids.len() > 3), "{what}: texts of a few tokens");
    };
    for (family, kind) in
        [("gpt2-tiny", MixtureKind::Lora), ("llama-tiny", MixtureKind::Adapter), ("qwen3-tiny", MixtureKind::Lora)]
    {
        let settings = mixture(kind, &[]);
        let [cpu, model] = filled(family, &settings, DType::F32, &gpu);
        same(family, [&cpu.bare(), &model.bare()], Routes::Plain);
        same(family, [&cpu.merged_own().unwrap(), &model.merged_own().unwrap()], Routes::Plain);
        let routes = [Routes::Expert(1), Routes::PerText, Routes::PerToken, Routes::Ensemble(2)];
        routes.into_iter().for_each(|routes| same(family, [&cpu, &model], routes));
    }
}

#[test]
fn reading_token_by_token_is_reading_at_once() {
    let Some(gpu) = gpu() else { return };
    let ids: Vec<u32> = (0..14).map(|i| 3 + i * 7 % 29).collect();
    for family in ["gpt2-tiny", "llama-tiny", "qwen3-tiny"] {
        for (dtype, allowed) in [(DType::F32, 1e-5), (DType::F16, 5e-3)] {
            if !formats(&gpu).iter().any(|(takes, _)| *takes == dtype) {
                continue;
            }
            let settings = mixture(MixtureKind::Lora, &["all-linear"]);
            let [cpu, model] = filled(family, &settings, dtype, &gpu);
            let shape = RouteShape { passes: 1, sites: model.sites().len(), sequences: 1, tokens: ids.len() };
            let route = Route::draw(&settings, SeedStream::new(4), Purpose::Routing, 0, shape);
            let packed = Packed { ids: &ids, offsets: &[0, ids.len()] };
            let logits = |model: &CausalLm| to_f32(&model.logits(packed, None, Some(&route)).unwrap()).unwrap();
            let at_once = logits(&model);
            let mut cache = KvCache::new(&model.base);
            let sequence = cache.start();
            let mut extend = |part: &[u32]| {
                to_f32(&model.extend(&mut cache, &[Extension { sequence, ids: part }], Some(&route)).unwrap()).unwrap()
            };
            let vocab = model.base.spec.vocab_size;
            let row = |at: usize| &at_once[at * vocab..(at + 1) * vocab];
            let largest = at_once.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            // Some tokens at once, then one by one.
            let near = |what: &str, got: &[f32], want: &[f32], allowed: f64| {
                let apart = off(got, want) / f64::from(largest);
                assert!(apart < allowed, "{family} {dtype:?} {what}: off by {apart:.1e} of the largest");
            };
            near("the first tokens", &extend(&ids[..5]), row(4), allowed);
            for at in 5..ids.len() {
                near("one by one", &extend(&ids[at..=at]), row(at), allowed);
            }
            near("as the processor", &at_once, &logits(&cpu), if dtype == DType::F32 { 1e-5 } else { 2e-2 });
        }
    }
}

#[track_caller]
fn same_scores(what: &str, got: &Scores, want: &Scores) {
    assert!((got.loss - want.loss).abs() < 1e-4 * want.loss, "{what}: {} {}", got.loss, want.loss);
    let right = |scores: &Scores| scores.token_accuracy.unwrap();
    assert!((right(got) - right(want)).abs() < 0.02, "{what}: {} {}", right(got), right(want));
}

#[test]
fn merged_random_and_ensemble_scores_agree() {
    let Some(gpu) = gpu() else { return };
    for (family, kind) in [("llama-tiny", MixtureKind::Lora), ("gpt2-tiny", MixtureKind::Adapter)] {
        let place = TextPlace::new(family);
        let mut config = place.config(4);
        (config.mixture.kind, config.mixture.sharing_up) = (kind, false);
        config.mixture.adapter_size = 4;
        let report = |device: &Device| -> EvalReport {
            let prepared = prepare(&config).unwrap();
            let ModelAndData::Lm(cpu, data) = prepared.subject else { panic!("no language model") };
            fill(cpu.params(), 0.3);
            let source = LmSource::open(&place.path("model")).unwrap();
            let setup = LmSetup { mixture: Some(&prepared.config.mixture), seed: SeedStream::new(0) };
            let model = CausalLm::load(source.spec, &source.weights, setup, DType::F32, device).unwrap();
            set_tensors(&model, &host_tensors(&cpu).unwrap()).unwrap();
            let subject = ModelAndData::Lm(model, data);
            subject.compare(&subject.options(&config, &|_| true)).unwrap()
        };
        let (want, got) = (report(&Device::Cpu), report(&gpu));
        assert_eq!((want.random.len(), want.fixed.len()), (3, 3));
        same_scores("merged", &got.merged, &want.merged);
        same_scores("ensemble", &got.ensemble, &want.ensemble);
        for (got, want) in got.random.iter().chain(&got.fixed).zip(want.random.iter().chain(&want.fixed)) {
            same_scores("a route", got, want);
        }
        same_scores("base", &got.base.unwrap(), &want.base.unwrap());
        let apart = (want.merged.loss - want.random[0].loss).abs();
        assert!(apart > 1e-3 * want.merged.loss, "the ways of running it differ");
    }
}

#[test]
fn hidden_states_of_both_passes_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let settings = mixture(MixtureKind::Lora, &["all-linear"]);
    let [cpu, model] = filled("qwen3-tiny", &settings, DType::F32, &gpu);
    let (batch, sites) = (batch(0), cpu.sites().len());
    let packed = Packed { ids: &batch.ids, offsets: &batch.offsets };
    let law = MixtureConfig { routing: RoutingPolicy::PerToken, ..settings };
    let shape = RouteShape { passes: 2, sites, sequences: 3, tokens: batch.ids.len() };
    let route = Route::draw(&law, SeedStream::new(4), Purpose::Routing, 0, shape);
    let rows: Vec<u32> = vec![0, 3, 5, 6, 13, 18];
    let hidden = |model: &CausalLm| -> Tensor {
        let options = ForwardOptions { passes: 2, route: Some(&route), ..ForwardOptions::eval() };
        model.forward(packed, Some(&rows), options).unwrap().0
    };
    let (want, got) = (hidden(&cpu), hidden(&model));
    assert_eq!((want.dims(), want.dims()[0]), (got.dims(), 12));
    assert_close("hidden states", &to_f32(&got).unwrap(), &to_f32(&want).unwrap(), 1e-4, 1e-4);
}
