//! The whole model in f64 with dropout on: the derivative along a random direction of every trained tensor.

use super::{close, random, values, wide};
use crate::golden::golden_dir;
use adamix::config::{Method, MixtureConfig, MixtureKind, RoutingPolicy};
use adamix::data::{Batch, Labels};
use adamix::mixture::{Route, RouteShape};
use adamix::model::{Classifier, DropKeys, ForwardOptions, ModelSource, Network as _, Setup};
use adamix::nn::ParamId;
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, Tensor};

fn batch() -> Batch {
    let ids: Vec<u32> = (0..14).map(|i| 5 + i * 3 % 50).collect();
    Batch {
        type_ids: vec![0; 14],
        ids,
        offsets: vec![0, 3, 4, 14],
        labels: Labels::Classes(vec![0; 3]),
        rows: vec![0, 1, 2],
    }
}

/// One forward of both passes; the same `index` drops the same elements.
fn run<'a>(route: Option<&'a Route>, index: u64, keep: bool) -> ForwardOptions<'a> {
    let drop = Some(DropKeys::new(SeedStream::new(4), index));
    ForwardOptions { passes: 2, route, drop, lora_drop: drop, keep, ..ForwardOptions::eval() }
}

fn check(family: &str, method: Method, routing: RoutingPolicy) {
    let mixture = MixtureConfig {
        num_experts: 3,
        adapter_size: 5,
        init_std: 0.4,
        routing,
        sharing_up: false,
        ..MixtureConfig::default()
    };
    check_mixture(family, method, &mixture);
}

/// The same for LoRA on some of the linear layers, with B away from its zero start.
fn check_lora(family: &str, routing: RoutingPolicy, target: &[&str]) {
    let mixture = MixtureConfig {
        kind: MixtureKind::Lora,
        num_experts: 3,
        lora_rank: 2,
        lora_alpha: 3.0,
        lora_dropout: 0.2,
        lora_target: target.iter().map(|&name| name.to_owned()).collect(),
        routing,
        sharing_up: false,
        ..MixtureConfig::default()
    };
    check_mixture(family, Method::Adamix, &mixture);
}

fn check_mixture(family: &str, method: Method, mixture: &MixtureConfig) {
    let routing = mixture.routing;
    let source = ModelSource::open(golden_dir(family).to_str().unwrap()).unwrap();
    assert!(source.spec.hidden_dropout > 0.0 && source.spec.attention_dropout > 0.0, "dropout is on");
    let setup = Setup { method, mixture, outputs: 3, seed: SeedStream::new(1) };
    let model = Classifier::load(source.spec, &source.weights, &setup, DType::F64, &Device::Cpu).unwrap();
    let batch = batch();
    let sites = model.sites().len();
    for param in model.params().iter().filter(|param| param.name.ends_with("lora_b.weight")) {
        param.value.slice_set(&(wide(&random(param.value.shape(), 50)) * 0.4).unwrap(), 0, 0).unwrap();
    }
    let shape = RouteShape { passes: 2, sites, sequences: batch.rows.len(), tokens: batch.ids.len() };
    let route = Route::draw(mixture, SeedStream::new(2), Purpose::Routing, 7, shape);
    let route = (method == Method::Adamix).then_some(&route);
    let weight = wide(&random((6, 3), 1));
    let value = || {
        let (logits, _) = model.forward(&batch, run(route, 3, false)).unwrap();
        super::dot(&logits, &weight)
    };
    let (logits, trace) = model.forward(&batch, run(route, 3, true)).unwrap();
    let (other, _) = model.forward(&batch, run(route, 4, false)).unwrap();
    assert_ne!(values(&logits), values(&other), "another step drops other elements");
    let passes: Vec<Vec<f64>> = values(&logits).chunks(9).map(<[f64]>::to_vec).collect();
    assert_ne!(passes[0], passes[1], "the passes drop different elements");
    let grads = model.backward(trace.unwrap(), &weight).unwrap();
    // Small, because the derivatives along a whole tensor curve strongly.
    let h = 1e-6;
    for (at, param) in model.params().iter().enumerate() {
        let start = param.value.copy().unwrap();
        let direction = wide(&random(start.shape(), 100 + at as u64));
        let along = |step: f64| {
            param.value.slice_set(&(&start + (&direction * step).unwrap()).unwrap(), 0, 0).unwrap();
            value()
        };
        let numeric = (along(h) - along(-h)) / (2.0 * h);
        param.value.slice_set(&start, 0, 0).unwrap();
        let slope = |expert: usize| {
            let part = if param.bank { direction.get(expert).unwrap() } else { direction.clone() };
            grads.get(ParamId(at), expert).map_or(0.0, |grad| super::dot(grad, &part))
        };
        let analytic: f64 = (0..param.experts).map(slope).sum();
        let tensor = |v: f64| Tensor::new(&[v], &Device::Cpu).unwrap();
        close(&format!("{family} {method:?} {routing:?} {}", param.name), &tensor(analytic), &tensor(numeric), 2e-6);
    }
}

#[test]
fn mixtures_with_dropout() {
    for family in ["bert-tiny", "roberta-tiny"] {
        for routing in [RoutingPolicy::PerBatch, RoutingPolicy::PerExample, RoutingPolicy::PerToken] {
            check(family, Method::Adamix, routing);
        }
    }
}

#[test]
fn mixtures_of_lora_with_dropout() {
    for family in ["bert-tiny", "roberta-tiny"] {
        for routing in [RoutingPolicy::PerBatch, RoutingPolicy::PerExample, RoutingPolicy::PerToken] {
            check_lora(family, routing, &["all-linear"]);
        }
        check_lora(family, RoutingPolicy::PerBatch, &[]);
        // Each linear layer alone: the backward pass stops at another place.
        for target in ["query", "key", "attention.output.dense", "intermediate.dense", "output.dense"] {
            check_lora(family, RoutingPolicy::PerBatch, &[target]);
        }
    }
}

#[test]
fn every_weight_of_the_model_with_dropout() {
    for family in ["bert-tiny", "roberta-tiny"] {
        check(family, Method::Full, RoutingPolicy::PerBatch);
        check(family, Method::HeadOnly, RoutingPolicy::PerBatch);
    }
}
