//! Whole models on a GPU against the same on the processor.

use super::support::device;
use crate::support::tiny;
use adamix::config::{DeviceChoice, ModelConfig, Problem, RoutingPolicy, RunConfig};
use adamix::machine::device;
use adamix::machine::selftest::selftest;
use adamix::mixture::Route;
use adamix::model::{Classifier, Encoder, Family, Network as _, Setup};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device};
use adamix::train::AdamW;
use adamix::train::step::{StepIndex, step};

/// The device of the tests as models take it.
pub fn gpu() -> Option<Device> {
    device()?;
    let number = std::env::var("ADAMIX_TEST_GPU").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let chosen = device::choose(&ModelConfig { device: DeviceChoice::Gpu(number), ..ModelConfig::default() });
    assert!(chosen.device.is_gpu(), "{:?}", chosen.warning);
    Some(chosen.device)
}

#[test]
fn every_kernel_of_the_engine_computes_right() {
    let Some(Device::Gpu(gpu)) = gpu() else { return };
    let mut config = RunConfig::default();
    config.model.device = DeviceChoice::Gpu(gpu.index());
    let report = selftest(&config).unwrap();
    let wrong: Vec<_> = report.checks.iter().filter(|check| !check.passed).collect();
    assert!(wrong.is_empty() && report.warning.is_none() && report.checks.len() > 20, "{wrong:#?}");
}

/// Losses and routes of so many steps on a device.
fn train(config: &RunConfig, device: &Device, problem: Problem) -> (Vec<f64>, Vec<Vec<Route>>) {
    let seed = SeedStream::new(config.train.seed);
    let encoder = Encoder::random(tiny::spec(Family::Roberta), seed, device).unwrap();
    let outputs = if problem == Problem::Classification { 2 } else { 1 };
    let setup = Setup { method: config.model.method, mixture: &config.mixture, outputs, seed };
    let model = Classifier::new(encoder, None, &setup, DType::F32).unwrap();
    let task = tiny::task(40, problem);
    let mut optimizer = AdamW::new(model.params()).unwrap();
    let steps = 6;
    let one = |index: u64| {
        let rows: Vec<usize> = (0..8).map(|i| (index as usize * 8 + i) % task.train.len()).collect();
        let at = StepIndex::new(index, steps);
        let result = step(config, &model, &mut optimizer, at, |_| Ok(task.train.batch(&rows))).unwrap();
        (result.loss.total, result.routes)
    };
    (0..steps).map(one).unzip()
}

#[test]
fn an_encoder_trains_as_on_the_processor() {
    let Some(gpu) = gpu() else { return };
    for routing in RoutingPolicy::ALL {
        for problem in [Problem::Classification, Problem::Regression] {
            let mut config = tiny::config(5);
            config.mixture.routing = routing;
            config.model.trunk_dropout = true;
            let (wanted, routes) = train(&config, &Device::Cpu, problem);
            let (losses, same) = train(&config, &gpu, problem);
            assert_eq!(routes, same, "routes under {routing:?}");
            for (step, (got, want)) in losses.iter().zip(&wanted).enumerate() {
                let apart = (got - want).abs() / want.abs().max(0.1);
                assert!(
                    apart < 1e-4,
                    "{routing:?}, {problem:?}, step {step}: loss {got} on the GPU, {want} on the CPU"
                );
            }
        }
    }
}
