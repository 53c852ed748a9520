//! One training step of every kind: logits of each pass, losses, and the gradient of every trained tensor.

use super::{FAMILIES, Input, Tensors, golden_dir, load, off, pack, read_json, read_tensors, under, variant};
use adamix::config::{Activation, Method, MixtureConfig, Problem, RoutingPolicy};
use adamix::data::Labels;
use adamix::mixture::{Pick, Route};
use adamix::model::{Classifier, ForwardOptions, Network as _, network};
use adamix::nn::{Grads, ParamId};
use adamix::train::loss::{HostLoss, host_loss};
use adamix::train::optimizer::global_norm;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
struct Golden {
    adapter_size: usize,
    inputs: Vec<Input>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    method: Method,
    problem: Problem,
    head: Option<String>,
    experts: Option<String>,
    activation: Activation,
    passes: usize,
    granularity: RoutingPolicy,
    consistency_weight: f64,
    detach: bool,
    ce_both_passes: bool,
    labels: Vec<f32>,
    route: Option<Vec<Value>>,
    total: f64,
    task: f64,
    consistency: f64,
    grad_norm: f64,
    logits: Vec<Vec<Vec<f32>>>,
    drawn: BTreeMap<String, Vec<bool>>,
}

impl Case {
    fn mixture(&self, adapter_size: usize, experts: &Tensors) -> MixtureConfig {
        let count = |side: &str| experts.get(&format!("layers.0.ffn.{side}.bias")).map_or(1, |(shape, _)| shape[0]);
        MixtureConfig {
            num_experts: count("down").max(count("up")),
            adapter_size,
            sharing_down: false,
            sharing_up: count("up") == 1,
            activation: self.activation,
            routing: self.granularity,
            consistency: self.passes == 2,
            consistency_weight: self.consistency_weight,
            consistency_detach: self.detach,
            ce_both_passes: self.ce_both_passes,
            ..MixtureConfig::default()
        }
    }

    fn route(&self, sites: usize) -> Option<Route> {
        let list = |value: &Value| value.as_array().unwrap().iter().map(|e| e.as_u64().unwrap() as u8).collect();
        let pick = |value: &Value| match (value.as_u64(), self.granularity) {
            (Some(expert), _) => Pick::One(expert as u8),
            (None, RoutingPolicy::PerExample) => Pick::PerExample(list(value)),
            (None, _) => Pick::PerToken(list(value)),
        };
        let picks = self.route.as_ref()?.iter().map(pick).collect();
        Some(Route { passes: self.passes, sites, picks })
    }

    fn labels(&self) -> Labels {
        match self.problem {
            Problem::Classification => Labels::Classes(self.labels.iter().map(|&l| l as u32).collect()),
            Problem::Regression => Labels::Values(self.labels.clone()),
        }
    }
}

/// What one of our steps gives.
struct Step {
    model: Classifier,
    logits: Vec<f32>,
    loss: HostLoss,
    grads: Grads,
}

fn step(dir: &Path, golden: &Golden, case: &Case, tensors: &Tensors, change: impl Fn(&mut MixtureConfig)) -> Step {
    let experts = case.experts.as_ref().map(|set| under(tensors, &format!("experts/{set}/"))).unwrap_or_default();
    let mut mixture = case.mixture(golden.adapter_size, &experts);
    change(&mut mixture);
    let outputs = case.logits[0][0].len();
    let head = case.head.as_ref().map(|head| under(tensors, &format!("heads/{head}/"))).unwrap_or_default();
    let overrides = json!({"num_labels": outputs});
    let copy = variant(dir, overrides.as_object().unwrap(), &head);
    let model = load(copy.path(), case.method, &mixture, outputs);
    let own = |name: &str| model.params().find(name).map(|p| p.value.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let current: Tensors = model
        .params()
        .iter()
        .map(|p| (p.name.clone(), (p.value.dims().to_vec(), own(&p.name).unwrap())))
        .chain(experts)
        .collect();
    let find = |name: &str| current.get(name).map(|(shape, values)| (shape.as_slice(), values.as_slice()));
    network::overwrite(model.params(), find).unwrap();
    let batch = pack(&golden.inputs, case.labels());
    let route = case.route(model.base.layers.len());
    let run = ForwardOptions { passes: case.passes, route: route.as_ref(), keep: true, ..ForwardOptions::eval() };
    let (logits, trace) = model.forward(&batch, run).unwrap();
    let shape = logits.shape().clone();
    let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let loss = host_loss(&logits, &batch.labels, outputs, case.passes, &mixture).unwrap();
    let dlogits = adamix::tensor::Tensor::from_slice(&loss.gradient, shape, &adamix::tensor::Device::Cpu).unwrap();
    let grads = model.backward(trace.unwrap(), &dlogits).unwrap();
    Step { model, logits, loss, grads }
}

/// The golden gradient of one of our tensors: where we keep q, k and v as one matrix, theirs are put together.
fn wanted(golden: &Tensors, name: &str) -> Vec<f32> {
    let find = |name: &str| {
        let candidates = [name.to_owned(), format!("bert.{name}"), format!("roberta.{name}")];
        let found = candidates.iter().find_map(|candidate| golden.get(candidate));
        found.unwrap_or_else(|| panic!("no golden gradient for {name}")).1.clone()
    };
    if name.contains(".self.qkv.") {
        return ["query", "key", "value"].iter().flat_map(|part| find(&name.replace("qkv", part))).collect();
    }
    find(name)
}

/// The worst tensor's distance: the norm of the difference over the norm, and the largest element's difference over
/// the largest element.
fn compare(what: &str, step: &Step, golden: &Tensors, drawn: &BTreeMap<String, Vec<bool>>) -> (f64, f64) {
    let (mut worst, mut values) = ((0.0f64, 0.0f64), 0);
    for (at, param) in step.model.params().iter().enumerate() {
        let want = wanted(golden, &param.name);
        values += want.len();
        let size = want.len() / param.experts;
        for (expert, want) in want.chunks(size).enumerate() {
            let ran = drawn.get(&param.name).is_none_or(|list| list[expert]);
            let got = step.grads.get(ParamId(at), expert);
            assert_eq!(got.is_some(), ran, "{what} {} expert {expert}: a gradient exactly where it ran", param.name);
            let Some(got) = got else { continue };
            let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(got.len(), want.len(), "{what} {}", param.name);
            let square = |v: f32| f64::from(v) * f64::from(v);
            let norm = want.iter().map(|&v| square(v)).sum::<f64>().sqrt();
            let apart = got.iter().zip(want).map(|(&g, &w)| square(g - w)).sum::<f64>().sqrt();
            let largest = want.iter().fold(0.0f64, |m, &v| m.max(f64::from(v).abs()));
            // A key's bias does not change a softmax: its gradient is rounding noise around zero on both sides.
            let floor = 1e-3 * step.loss.gradient.iter().fold(0.0f64, |m, &v| m.max(f64::from(v).abs()));
            let (by_norm, by_element) = (apart / norm.max(floor), off(&got, want) / largest.max(floor));
            if by_norm > 1e-4 || by_element > 1e-4 {
                println!(
                    "{what} {} expert {expert}: off by {by_norm:.1e} of its norm, {by_element:.1e} of its largest",
                    param.name
                );
            }
            worst = (worst.0.max(by_norm), worst.1.max(by_element));
        }
    }
    let given: usize = golden.values().map(|(_, data)| data.len()).sum();
    assert_eq!(values, given, "{what}: not the same number of trained values");
    worst
}

fn each_case(mut check: impl FnMut(&str, &Path, &Golden, &Case, &Tensors)) {
    for family in FAMILIES {
        let dir = golden_dir(family);
        let golden: Golden = read_json(&dir.join("adamix.json"));
        let tensors = read_tensors(&dir.join("adamix.safetensors"));
        for case in &golden.cases {
            check(&format!("{family} {}", case.name), &dir, &golden, case, &tensors);
        }
    }
}

#[test]
fn losses_logits_and_every_gradient_equal_pytorch() {
    let mut cases = 0;
    let mut failures = Vec::new();
    each_case(|what, dir, golden, case, tensors| {
        let step = step(dir, golden, case, tensors, |_| {});
        let near = |name: &str, got: f64, want: f64| {
            assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{what}: {name} is {got} but should be {want}");
        };
        let logits = off(&step.logits, &case.logits.concat().concat());
        assert!(logits <= 3e-5, "{what}: logits off by {logits:.1e}");
        near("task loss", step.loss.values.task, case.task);
        near("consistency", step.loss.values.consistency, case.consistency);
        near("total", step.loss.values.total, case.total);
        let worst = compare(what, &step, &under(tensors, &format!("grads/{}/", case.name)), &case.drawn);
        if worst.0 > 1e-4 || worst.1 > 1e-4 {
            failures.push(what.to_owned());
        }
        let norm = global_norm(&step.grads).unwrap();
        assert!((norm / case.grad_norm - 1.0).abs() <= 1e-5, "{what}: norm {norm} should be {}", case.grad_norm);
        println!("{what}: gradients off by at most {:.1e} of a norm, {:.1e} of a largest element", worst.0, worst.1);
        cases += 1;
    });
    assert!(failures.is_empty(), "gradients differ in {failures:?}");
    assert_eq!(cases, 20, "cases compared");
}

#[test]
fn a_wrong_setting_would_be_noticed() {
    each_case(|what, dir, golden, case, tensors| {
        let wrong: &dyn Fn(&mut MixtureConfig) = match case.name.as_str() {
            "shared" => &|m| m.consistency_weight *= 1.01,
            "unshared" => &|m| m.ce_both_passes = true,
            "regression" => &|m| m.consistency_detach = false,
            "undetached" => &|m| m.consistency_detach = true,
            "activation-gelu-tanh" => &|m| m.activation = Activation::Gelu,
            "activation-relu" => &|m| m.activation = Activation::Swish,
            _ => return,
        };
        let step = step(dir, golden, case, tensors, wrong);
        let worst = compare(
            &format!("(wrong on purpose) {what}"),
            &step,
            &under(tensors, &format!("grads/{}/", case.name)),
            &case.drawn,
        );
        assert!(worst.0 > 1e-4, "{what}: a wrong setting passed ({:.1e})", worst.0);
    });
}
