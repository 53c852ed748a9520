//! The decoder families: logits of every setting, and AdaMix steps with LoRA and adapters.

use super::{Tensors, golden_dir, off, read_json, read_tensors, under, variant};
use adamix::config::{Activation, MixtureConfig, MixtureKind};
use adamix::mixture::{MergeWeights, Pick, Route};
use adamix::model::{CausalLm, DecoderSpec, ForwardOptions, LmSetup, Network as _, Packed, Weights, network};
use adamix::nn::kernels::vocab_loss::{MAX_LOGITS, Objective};
use adamix::nn::{Grads, ParamId};
use adamix::rng::SeedStream;
use adamix::tensor::{DType, Device};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const FAMILIES: [&str; 5] = ["gpt2-tiny", "llama-tiny", "mistral-tiny", "qwen2-tiny", "qwen3-tiny"];

#[derive(Deserialize)]
struct Golden {
    rank: usize,
    sequences: Vec<Vec<u32>>,
    wanted: Vec<bool>,
    logits: Vec<LogitsCase>,
    training: Vec<Case>,
}

#[derive(Deserialize)]
struct LogitsCase {
    name: String,
    config: Map<String, Value>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: MixtureKind,
    target: String,
    share_b: bool,
    scale: f64,
    consistency_weight: f64,
    label_smoothing: f64,
    detach: bool,
    ce_both_passes: bool,
    route: Vec<u8>,
    total: f64,
    task: f64,
    consistency: f64,
    drawn: BTreeMap<String, Vec<bool>>,
}

impl Golden {
    fn read(family: &str) -> (Self, Tensors) {
        let dir = golden_dir(family);
        (read_json(&dir.join("golden.json")), read_tensors(&dir.join("golden.safetensors")))
    }

    fn ids(&self) -> (Vec<u32>, Vec<usize>) {
        let mut offsets = vec![0];
        for ids in &self.sequences {
            offsets.push(offsets[offsets.len() - 1] + ids.len());
        }
        (self.sequences.concat(), offsets)
    }
}

impl Case {
    fn mixture(&self, rank: usize) -> MixtureConfig {
        let target = match self.target.as_str() {
            "default" => Vec::new(),
            names => names.split(',').map(str::to_owned).collect(),
        };
        MixtureConfig {
            kind: self.kind,
            num_experts: 3,
            adapter_size: rank,
            activation: Activation::GeluTanh,
            sharing_up: self.share_b,
            lora_rank: rank,
            lora_alpha: self.scale * rank as f64,
            lora_dropout: 0.0,
            lora_target: target,
            ..MixtureConfig::default()
        }
    }

    fn objective(&self) -> Objective {
        Objective {
            passes: 2,
            smoothing: self.label_smoothing,
            weight: self.consistency_weight,
            detach: self.detach,
            both: self.ce_both_passes,
            gradient: true,
            max_logits: MAX_LOGITS,
            overflows: 0,
        }
    }
}

/// Reads a directory as a language model in f32.
fn load(dir: &Path, mixture: Option<&MixtureConfig>) -> CausalLm {
    load_as(dir, mixture, DType::F32)
}

fn load_as(dir: &Path, mixture: Option<&MixtureConfig>, dtype: DType) -> CausalLm {
    let spec = DecoderSpec::from_json(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let weights = Weights::open(dir).unwrap().with_prefix(spec.family.prefix());
    let setup = LmSetup { mixture, seed: SeedStream::new(1) };
    CausalLm::load(spec, &weights, setup, dtype, &Device::Cpu).unwrap()
}

fn logits(model: &CausalLm, golden: &Golden, route: Option<&Route>) -> Vec<f32> {
    let (ids, offsets) = golden.ids();
    let logits = model.logits(Packed { ids: &ids, offsets: &offsets }, None, route).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn logits_of_every_family_and_setting_equal_transformers() {
    let mut cases = 0;
    for family in FAMILIES {
        let (golden, tensors) = Golden::read(family);
        for case in &golden.logits {
            let extra = under(&tensors, &format!("extra/{}/", case.name));
            let copy = variant(&golden_dir(family), &case.config, &extra);
            let got = logits(&load(copy.path(), None), &golden, None);
            let apart = off(&got, &tensors[&format!("logits/{}", case.name)].1);
            println!("{family} {}: logits off by {apart:.1e}", case.name);
            assert!(apart <= 1e-4, "{family} {}: logits off by {apart:.1e}", case.name);
            cases += 1;
        }
    }
    assert_eq!(cases, 10, "cases compared");
}

#[test]
fn another_setting_gives_other_logits() {
    for (family, change) in [
        ("gpt2-tiny", json!({"activation_function": "gelu"})),
        ("llama-tiny", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}})),
        ("llama-tiny", json!({"num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-3})),
        ("mistral-tiny", json!({"rope_theta": 5000.0, "rope_parameters": null})),
        ("qwen3-tiny", json!({"hidden_act": "gelu"})),
    ] {
        let (golden, tensors) = Golden::read(family);
        let copy = variant(&golden_dir(family), change.as_object().unwrap(), &Tensors::new());
        let apart = off(&logits(&load(copy.path(), None), &golden, None), &tensors["logits/plain"].1);
        assert!(apart > 1e-3, "{family} {change}: off by {apart:.1e}");
    }
}

struct Step {
    model: CausalLm,
    loss: adamix::nn::kernels::loss_rows::LossParts,
    grads: Grads,
}

fn step(family: &str, golden: &Golden, case: &Case, tensors: &Tensors, change: impl Fn(&mut Objective)) -> Step {
    step_as(family, golden, case, tensors, (DType::F32, &change))
}

fn step_as(
    family: &str,
    golden: &Golden,
    case: &Case,
    tensors: &Tensors,
    (dtype, change): (DType, &dyn Fn(&mut Objective)),
) -> Step {
    let model = load_as(&golden_dir(family), Some(&case.mixture(golden.rank)), dtype);
    let experts = under(tensors, &format!("experts/{}/", case.name));
    let find = |name: &str| experts.get(name).map(|(shape, data)| (shape.as_slice(), data.as_slice()));
    network::overwrite(model.params(), find).unwrap();
    assert_eq!(model.params().iter().len(), experts.len(), "{family} {}: trained tensors", case.name);
    let (ids, offsets) = golden.ids();
    let batch = Packed { ids: &ids, offsets: &offsets };
    let (rows, targets) = batch.targets(&golden.wanted);
    let sites = model.sites().len();
    let picks = case.route.iter().map(|&e| Pick::One(e)).collect();
    let route = Route { passes: 2, sites, picks };
    let run = ForwardOptions { passes: 2, route: Some(&route), keep: true, ..ForwardOptions::eval() };
    let (hidden, trace) = model.forward(batch, Some(&rows), run).unwrap();
    let mut objective = case.objective();
    change(&mut objective);
    let loss = model.loss(&hidden, &targets, objective).unwrap();
    let grads = model.backward(trace.unwrap(), loss.grad.as_ref().unwrap()).unwrap();
    Step { model, loss: loss.rows.read().unwrap(), grads }
}

/// The worst expert's distance: the norm of the difference over the norm of what is wanted, or over a twentieth of the
/// case's largest, if that is more: where a softmax is nearly certain, what comes through it is a small difference of
/// large numbers.
fn compare(what: &str, step: &Step, golden: &Tensors, drawn: &BTreeMap<String, Vec<bool>>) -> f64 {
    let mut worst = 0.0f64;
    let square = |v: f32| f64::from(v) * f64::from(v);
    let length = |values: &[f32]| values.iter().map(|&v| square(v)).sum::<f64>().sqrt();
    let largest = golden.values().map(|(_, values)| length(values)).fold(0.0, f64::max);
    for (at, param) in step.model.params().iter().enumerate() {
        let want = &golden[&param.name].1;
        for (expert, want) in want.chunks(want.len() / param.experts).enumerate() {
            let got = step.grads.get(ParamId(at), expert);
            let ran = drawn[&param.name][expert];
            assert_eq!(got.is_some(), ran, "{what} {} expert {expert}: a gradient exactly where it ran", param.name);
            let Some(got) = got else { continue };
            let got: Vec<f32> = got.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let norm = length(want).max(0.05 * largest);
            let apart = got.iter().zip(want).map(|(&g, &w)| square(g - w)).sum::<f64>().sqrt();
            if apart > 1e-4 * norm {
                println!("{what} {} expert {expert}: off by {:.1e} of its norm {norm:.1e}", param.name, apart / norm);
            }
            worst = worst.max(apart / norm);
        }
    }
    worst
}

fn each_case(mut check: impl FnMut(&str, &str, &Golden, &Case, &Tensors)) {
    for family in FAMILIES {
        let (golden, tensors) = Golden::read(family);
        for case in &golden.training {
            check(&format!("{family} {}", case.name), family, &golden, case, &tensors);
        }
    }
}

#[test]
fn losses_and_every_expert_gradient_equal_pytorch() {
    let (mut cases, mut failures) = (0, Vec::new());
    each_case(|what, family, golden, case, tensors| {
        let step = step(family, golden, case, tensors, |_| {});
        let near = |name: &str, got: f64, want: f64| {
            assert!((got - want).abs() <= 2e-5 * (1.0 + want.abs()), "{what}: {name} is {got} but should be {want}");
        };
        near("task loss", step.loss.task, case.task);
        near("consistency", step.loss.consistency, case.consistency);
        near("total", step.loss.total, case.total);
        let worst = compare(what, &step, &under(tensors, &format!("grads/{}/", case.name)), &case.drawn);
        println!("{what}: gradients off by at most {worst:.1e} of a norm");
        if worst > 1e-4 {
            failures.push(what.to_owned());
        }
        // The plain path in f64: what is left is the rounding of stored numbers, and of the rotary angles' f32 cosines.
        let exact = step_as(family, golden, case, tensors, (DType::F64, &|_| {}));
        let worst = compare(what, &exact, &under(tensors, &format!("grads/{}/", case.name)), &case.drawn);
        let tolerance = if family.starts_with("gpt2") { 2e-6 } else { 5e-5 };
        assert!(worst <= tolerance, "{what}: gradients in f64 off by {worst:.1e}");
        cases += 1;
    });
    assert!(failures.is_empty(), "gradients differ in {failures:?}");
    assert_eq!(cases, 13, "cases compared");
}

#[test]
fn a_wrong_objective_would_be_noticed() {
    each_case(|what, family, golden, case, tensors| {
        let wrong: &dyn Fn(&mut Objective) = match case.name.as_str() {
            "default" => &|o| o.smoothing = 0.09,
            "all" => &|o| o.weight *= 1.01,
            "adapter" => &|o| o.detach = true,
            "upper" | "apart" => &|o| o.both = false,
            _ => return,
        };
        let step = step(family, golden, case, tensors, wrong);
        let what = format!("(wrong on purpose) {what}");
        let worst = compare(&what, &step, &under(tensors, &format!("grads/{}/", case.name)), &case.drawn);
        assert!(worst > 1e-4, "{what}: passed ({worst:.1e})");
    });
}

#[test]
fn merged_models_equal_the_fixed_route_of_equal_experts_and_differ_otherwise() {
    each_case(|what, family, golden, case, tensors| {
        let step = step(family, golden, case, tensors, |_| {});
        let model = &step.model;
        let (sites, mixture) = (model.sites().len(), model.mixture().unwrap().clone());
        let merged = model.merged_own().unwrap();
        assert!(merged.params().iter().next().is_none() && merged.mixture().is_none() && merged.sites().is_empty());
        let first = Route::fixed(&mixture, sites, 0);
        let apart = off(&logits(&merged, golden, None), &logits(model, golden, Some(&first)));
        assert!(apart > 1e-3, "{what}: the mean of different experts is not the first one ({apart:.1e})");
        // One expert with all the weight is that expert.
        let only = MergeWeights::global(&[0.0, 1.0, 0.0]).unwrap();
        let second = logits(model, golden, Some(&Route::fixed(&mixture, sites, 1)));
        let apart = off(&logits(&model.merged(&only).unwrap(), golden, None), &second);
        assert!(apart <= 1e-4, "{what}: merged with all weight on one expert is off by {apart:.1e}");
        assert!(model.merged(&MergeWeights::uniform(4)).is_err(), "{what}: weights of another number of experts");
    });
}
