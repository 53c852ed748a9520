//! Decoders that train their own weights: every gradient against PyTorch's (files of `trunk.py`), and against slopes.

use super::{Tensors, golden_dir, off, read_json, read_tensors};
use adamix::config::{MixtureConfig, MixtureKind};
use adamix::mixture::Route;
use adamix::model::{BaseModel as _, CausalLm, DecoderSpec, ForwardOptions, LmSetup, Network as _, Packed, Weights};
use adamix::nn::kernels::vocab_loss::Objective;
use adamix::nn::{Grads, ParamId};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Texts {
    sequences: Vec<Vec<u32>>,
    wanted: Vec<bool>,
}

fn model(family: &str, mixture: Option<&MixtureConfig>, dtype: DType) -> CausalLm {
    let dir = golden_dir(family);
    let spec = DecoderSpec::from_json(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let weights = Weights::open(&dir).unwrap().with_prefix(spec.family.prefix());
    CausalLm::load(spec, &weights, LmSetup { mixture, seed: SeedStream::new(1) }, dtype, &Device::Cpu).unwrap()
}

/// Loss and gradients on the golden texts; logits in slices of two targets.
fn gradients(model: &CausalLm, family: &str, route: Option<&Route>, recompute: bool) -> (f64, Grads) {
    let texts: Texts = read_json(&golden_dir(family).join("golden.json"));
    let mut offsets = vec![0];
    texts.sequences.iter().for_each(|ids| offsets.push(offsets[offsets.len() - 1] + ids.len()));
    let ids = texts.sequences.concat();
    let batch = Packed { ids: &ids, offsets: &offsets };
    let (rows, targets) = batch.targets(&texts.wanted);
    let run = ForwardOptions { route, keep: true, recompute, ..ForwardOptions::eval() };
    let (hidden, trace) = model.forward(batch, Some(&rows), run).unwrap();
    let max_logits = 2 * model.base.spec.vocab_size;
    let loss = model.loss(&hidden, &targets, Objective { gradient: true, max_logits, ..crate::plain_loss() }).unwrap();
    let mut grads = model.backward(trace.unwrap(), &loss.grad.unwrap()).unwrap();
    model.add_head_grad(loss.head, &mut grads).unwrap();
    (loss.rows.read().unwrap().total, grads)
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The golden gradient of one of our tensors: parts below each other, GPT-2's matrices turned over.
fn golden(tensors: &Tensors, name: &str) -> Vec<f32> {
    let get = |name: &str| tensors.get(name).unwrap_or_else(|| panic!("{name}")).clone();
    if tensors.contains_key("transformer.wte.weight") {
        let (shape, data) = get(&format!("transformer.{name}"));
        if shape.len() < 2 || name.starts_with('w') {
            return data;
        }
        return (0..data.len()).map(|i| data[i % shape[0] * shape[1] + i / shape[0]]).collect();
    }
    let parts = |before: &str, parts: &[&str]| -> Vec<f32> {
        parts.iter().flat_map(|part| get(&format!("model.{before}{part}_proj.weight")).1).collect()
    };
    match (name.strip_suffix("qkv_proj.weight"), name.strip_suffix("gate_up_proj.weight")) {
        (Some(before), _) => parts(before, &["q", "k", "v"]),
        (_, Some(before)) => parts(before, &["gate", "up"]),
        _ => get(&format!("model.{name}")).1,
    }
}

#[test]
fn gradients_of_whole_decoders_are_pytorchs() {
    for family in ["gpt2-tiny", "llama-tiny", "qwen3-tiny"] {
        let tensors = read_tensors(&golden_dir(family).join("trunk.safetensors"));
        for (dtype, tolerance) in [(DType::F64, 1e-6), (DType::F32, 2e-5)] {
            let mut model = model(family, None, dtype);
            model.train_base().unwrap();
            let (loss, grads) = gradients(&model, family, None, false);
            assert!((loss - f64::from(tensors["loss"].1[0])).abs() < 1e-5, "{family}: loss {loss}");
            let counted: usize = model.params().iter().map(|param| param.value.elem_count()).sum();
            let known = tensors.values().map(|(_, data)| data.len()).sum::<usize>() - 1;
            assert_eq!((counted, counted), (known, model.base.parameter_count()), "{family}: every weight is trained");
            for (i, param) in model.params().iter().enumerate() {
                let want = golden(&tensors, &param.name);
                let got = values(grads.get(ParamId(i), 0).unwrap_or_else(|| panic!("{family} {}", param.name)));
                let scale = want.iter().fold(0.1f32, |m, v| m.max(v.abs()));
                let apart = off(&got, &want) / f64::from(scale);
                assert!(apart < tolerance, "{family} {dtype:?} {}: off by {apart}", param.name);
            }
            let again = gradients(&model, family, None, true).1;
            for (id, _, grad) in grads.iter() {
                assert_eq!(values(again.get(id, 0).unwrap()), values(grad), "{family}: recomputed");
            }
        }
    }
}

#[test]
fn gradients_of_whole_decoders_are_slopes() {
    for family in ["gpt2-tiny", "llama-tiny", "qwen3-tiny"] {
        let mut model = model(family, None, DType::F64);
        model.train_base().unwrap();
        let (_, grads) = gradients(&model, family, None, false);
        for (i, param) in model.params().iter().enumerate() {
            // Along the gradient itself: the slope is its norm. The loss is summed from single-precision parts.
            let grad = grads.get(ParamId(i), 0).unwrap();
            let norm = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
            let along = (grad / norm).unwrap();
            let base = param.value.copy().unwrap();
            let loss = |step: f64| {
                param.value.slice_set(&(&base + (&along * step).unwrap()).unwrap(), 0, 0).unwrap();
                gradients(&model, family, None, false).0
            };
            let h = 1e-3;
            let slope = (loss(h) - loss(-h)) / (2.0 * h);
            loss(0.0);
            assert!((slope - norm).abs() < 2e-3 * (norm + 0.1), "{family} {}: {norm}, slope {slope}", param.name);
        }
    }
}

#[test]
fn a_trained_trunk_leaves_its_mixture_alone_and_a_frozen_one_has_no_gradients() {
    let mixture = MixtureConfig { kind: MixtureKind::Lora, lora_dropout: 0.0, ..MixtureConfig::default() };
    let frozen = model("llama-tiny", Some(&mixture), DType::F32);
    let mut trained = model("llama-tiny", Some(&mixture), DType::F32);
    trained.train_base().unwrap();
    let route = Route::fixed(&mixture, frozen.sites().len(), 2);
    let (loss, few) = gradients(&frozen, "llama-tiny", Some(&route), false);
    let (same, all) = gradients(&trained, "llama-tiny", Some(&route), false);
    assert_eq!(loss, same);
    let loras = frozen.params().iter().len();
    assert!(few.iter().count() > 0 && few.iter().all(|(id, _, _)| id.0 < loras));
    for (id, expert, grad) in few.iter() {
        assert_eq!(
            values(all.get(id, expert).unwrap()),
            values(grad),
            "{}",
            frozen.params().iter().nth(id.0).unwrap().name
        );
    }
    assert!((loras..trained.params().iter().len()).all(|id| all.get(ParamId(id), 0).is_some()));
    let mut half = model("llama-tiny", None, DType::BF16);
    assert!(half.train_base().unwrap_err().to_string().contains("single precision"));
}
