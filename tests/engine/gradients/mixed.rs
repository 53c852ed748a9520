//! A trunk in 16 bits with experts and head in f32: on the CPU by plain operations, against the same model in f32.

use super::{mixture, norm, values};
use crate::golden::golden_dir;
use adamix::config::{Method, MixtureConfig, RoutingPolicy};
use adamix::data::{Batch, Labels};
use adamix::mixture::{Route, RouteShape};
use adamix::model::{Classifier, DropKeys, Encoder, ForwardOptions, ModelSource, Network as _, Setup};
use adamix::nn::Grads;
use adamix::nn::kernels::gemm;
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, Tensor};
use adamix::train::loss::gradient_scale;

/// The formats and the share of the largest value (of the norm, for gradients) that rounding explains.
const FORMATS: [(DType, f64); 2] = [(DType::BF16, 4e-2), (DType::F16, 6e-3)];
/// A single expert sees a few rows, whose shares partly cancel.
const SINGLE: f64 = 4.0;

fn batch() -> Batch {
    Batch {
        ids: (0..14).map(|i| 5 + i * 3 % 50).collect(),
        type_ids: vec![0; 14],
        offsets: vec![0, 3, 4, 14],
        labels: Labels::Classes(vec![0, 2, 1]),
        rows: vec![0, 1, 2],
    }
}

/// The golden model with what flows through it in `flow`.
fn model(family: &str, mixture: &MixtureConfig, flow: DType) -> Classifier {
    let source = ModelSource::open(golden_dir(family).to_str().unwrap()).unwrap();
    let setup = Setup { method: Method::Adamix, mixture, outputs: 3, seed: SeedStream::new(1) };
    let encoder = Encoder::load(source.spec, &source.weights, DType::F32, &Device::Cpu).unwrap().cast(flow).unwrap();
    Classifier::new(encoder, Some(&source.weights), &setup, flow).unwrap()
}

/// Logits of both passes and gradients of all trained tensors, for a gradient of `scale` times the logits' own sign.
fn run(model: &Classifier, route: &Route, scale: f64) -> (Tensor, Grads) {
    let drop = Some(DropKeys::new(SeedStream::new(4), 3));
    let run = ForwardOptions { passes: 2, route: Some(route), drop, keep: true, ..ForwardOptions::eval() };
    let (logits, trace) = model.forward(&batch(), run).unwrap();
    let direction: Vec<f32> = (0..18).map(|i| (f64::from(i % 5 - 2) * scale) as f32).collect();
    let dlogits = Tensor::from_vec(direction, (6, 3), &Device::Cpu).unwrap();
    let grads = model.backward(trace.unwrap(), &dlogits).unwrap();
    (logits, grads)
}

#[test]
fn a_narrow_trunk_gives_the_same_logits_and_gradients_up_to_rounding() {
    for family in ["bert-tiny", "roberta-tiny"] {
        for routing in [RoutingPolicy::PerBatch, RoutingPolicy::PerExample, RoutingPolicy::PerToken] {
            let mixture = mixture(routing);
            let shape = RouteShape { passes: 2, sites: 2, sequences: 3, tokens: 14 };
            let route = Route::draw(&mixture, SeedStream::new(2), Purpose::Routing, 7, shape);
            let (want, want_grads) = run(&model(family, &mixture, DType::F32), &route, 1.0);
            for (dtype, tolerance) in FORMATS {
                let narrow = model(family, &mixture, dtype);
                assert_eq!((narrow.dtype(), narrow.base.activation_dtype()), (dtype, dtype));
                assert!(narrow.params().iter().all(|param| param.value.dtype() == DType::F32));
                let (got, got_grads) = run(&narrow, &route, 1.0);
                assert_eq!(got.dtype(), DType::F32, "the head is f32");
                let (got, want) = (values(&got), values(&want));
                let largest = want.iter().fold(0.1f64, |m, w| m.max(w.abs()));
                let off = got.iter().zip(&want).fold(0.0f64, |m, (g, w)| m.max((g - w).abs()));
                assert!(off > 0.0, "nothing was rounded");
                assert!(off <= tolerance * largest, "{family} {routing:?} {dtype:?}: logits off by {off} of {largest}");
                let (mut compared, mut all_off, mut all) = (0, Vec::new(), Vec::new());
                for (id, expert, want) in want_grads.iter() {
                    let got = got_grads.get(id, expert).expect("the same experts ran");
                    assert_eq!(got.dtype(), DType::F32);
                    let want = values(want);
                    let off: Vec<f64> = values(got).iter().zip(&want).map(|(g, w)| g - w).collect();
                    let (off, size) = (norm(&off), norm(&want));
                    let name = &narrow.params().iter().nth(id.0).unwrap().name;
                    let what = format!("{family} {routing:?} {dtype:?} {name}");
                    assert!(off <= SINGLE * tolerance * size, "{what}: off by {off} of {size}");
                    (compared, all_off, all) =
                        (compared + 1, [all_off, vec![off]].concat(), [all, vec![size]].concat());
                }
                let (off, size) = (norm(&all_off), norm(&all));
                assert!(off <= tolerance * size, "{family} {routing:?} {dtype:?}: gradients off by {off} of {size}");
                assert!(compared >= 8, "only {compared} gradients");
            }
        }
    }
}

#[test]
fn small_gradients_survive_a_trunk_in_f16_when_they_are_scaled() {
    let mixture = mixture(RoutingPolicy::PerBatch);
    let shape = RouteShape { passes: 2, sites: 2, sequences: 3, tokens: 14 };
    let route = Route::draw(&mixture, SeedStream::new(2), Purpose::Routing, 7, shape);
    let tiny = 1e-7;
    let narrow = model("roberta-tiny", &mixture, DType::F16);
    let (_, want) = run(&model("roberta-tiny", &mixture, DType::F32), &route, tiny);
    let (_, lost) = run(&narrow, &route, tiny);
    let scale = gradient_scale(DType::F16, &[2e-7]);
    let (_, kept) = run(&narrow, &route, tiny * f64::from(scale));
    let distance = |grads: &Grads, factor: f64| {
        let mut parts = Vec::new();
        for (id, expert, want) in want.iter().filter(|(id, ..)| narrow.params().iter().nth(id.0).unwrap().bank) {
            let got = values(grads.get(id, expert).unwrap());
            parts.extend(got.iter().zip(values(want)).map(|(g, w)| g / factor - w));
        }
        norm(&parts)
    };
    let size = distance(&Grads::clone(&want), 2.0) * 2.0;
    assert!(distance(&kept, f64::from(scale)) < 6e-3 * size, "scaled gradients are right");
    assert!(distance(&lost, 1.0) > 0.02 * size, "without scaling they are lost: the scale matters");
}

#[test]
fn on_the_cpu_a_narrow_model_computes_in_bf16_where_the_processor_does_else_in_f32() {
    let mixture = mixture(RoutingPolicy::PerBatch);
    let source = ModelSource::open(golden_dir("roberta-tiny").to_str().unwrap()).unwrap();
    let setup = Setup { method: Method::Adamix, mixture: &mixture, outputs: 3, seed: SeedStream::new(1) };
    let shape = RouteShape { passes: 2, sites: 2, sequences: 3, tokens: 14 };
    let route = Route::draw(&mixture, SeedStream::new(2), Purpose::Routing, 7, shape);
    let (want, _) = run(&model("roberta-tiny", &mixture, DType::F32), &route, 1.0);
    for (dtype, tolerance) in FORMATS {
        let narrow = Classifier::load(source.spec.clone(), &source.weights, &setup, dtype, &Device::Cpu).unwrap();
        let flow = if dtype == DType::BF16 && gemm::multiplies_bf16() { DType::BF16 } else { DType::F32 };
        assert_eq!((narrow.dtype(), narrow.base.activation_dtype()), (dtype, flow));
        let (got, _) = run(&narrow, &route, 1.0);
        let off = values(&got).iter().zip(values(&want)).fold(0.0f64, |m, (g, w)| m.max((g - w).abs()));
        assert!(off > 0.0 && off < tolerance, "{dtype:?}: off by {off}");
    }
}
