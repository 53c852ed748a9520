//! Trajectories of AdamW with clipping, a schedule and experts that are not drawn, against `torch.optim.AdamW`.

use super::{golden_dir, off, read_json};
use adamix::config::{Schedule, TrainConfig};
use adamix::nn::{Grads, ParamId, Params};
use adamix::tensor::{Device, Tensor};
use adamix::train::optimizer::{AdamW, clip, global_norm};
use adamix::train::schedule::learning_rate;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    total_steps: u64,
    warmup_steps: u64,
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    runs: Vec<GoldenRun>,
}

#[derive(Deserialize)]
struct GoldenRun {
    update_unselected: bool,
    start: BTreeMap<String, Value>,
    steps: Vec<GoldenStep>,
}

#[derive(Deserialize)]
struct GoldenStep {
    step: u64,
    drawn: Vec<usize>,
    learning_rate: f64,
    grad_norm: f64,
    grads: BTreeMap<String, Value>,
    after: BTreeMap<String, Value>,
}

fn tensor(value: &Value) -> Tensor {
    let (mut shape, mut inner) = (Vec::new(), value);
    while let Some(list) = inner.as_array() {
        shape.push(list.len());
        inner = &list[0];
    }
    Tensor::from_vec(flat(value), shape, &Device::Cpu).unwrap()
}

fn flat(value: &Value) -> Vec<f32> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(flat).collect(),
        None => vec![value.as_f64().unwrap() as f32],
    }
}

fn config(golden: &Golden, update_unselected: bool) -> TrainConfig {
    TrainConfig {
        max_steps: golden.total_steps,
        learning_rate: golden.learning_rate,
        lr_scheduler: Schedule::Linear,
        warmup_ratio: golden.warmup_steps as f64 / golden.total_steps as f64,
        weight_decay: golden.weight_decay,
        adam_beta1: golden.beta1,
        adam_beta2: golden.beta2,
        adam_epsilon: golden.eps,
        max_grad_norm: golden.max_grad_norm,
        update_unselected,
        ..TrainConfig::default()
    }
}

/// Largest difference of any parameter after any step; `config` may differ from what the file was made with.
fn follow(run: &GoldenRun, config: &TrainConfig) -> f64 {
    let mut params = Params::default();
    for (name, value) in &run.start {
        if name.starts_with("layers.") {
            params.add_bank(name.clone(), &tensor(value)).unwrap();
        } else {
            params.add(name.clone(), &tensor(value));
        }
    }
    let mut optimizer = AdamW::new(&params).unwrap();
    let mut worst = 0.0f64;
    for step in &run.steps {
        let lr = learning_rate(config, step.step, config.max_steps);
        assert!((lr / step.learning_rate - 1.0).abs() < 1e-7, "rate {lr} should be {}", step.learning_rate);
        let mut grads = Grads::new(&params);
        for (at, param) in params.iter().enumerate() {
            let given = tensor(&step.grads[&param.name]);
            for expert in 0..param.experts {
                if !param.bank {
                    grads.add(ParamId(at), 0, given.clone()).unwrap();
                } else if step.drawn.contains(&expert) {
                    grads.add(ParamId(at), expert, given.get(expert).unwrap()).unwrap();
                }
            }
        }
        let norm = global_norm(&grads).unwrap();
        clip(&mut grads, norm, config.max_grad_norm).unwrap();
        assert!((norm / step.grad_norm - 1.0).abs() < 1e-6, "norm {norm} should be {}", step.grad_norm);
        optimizer.step(&params, &grads, lr, config).unwrap();
        for param in params.iter() {
            let now = param.value.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            worst = worst.max(off(&now, &flat(&step.after[&param.name])));
        }
    }
    worst
}

#[test]
fn adamw_follows_pytorch_step_by_step() {
    let golden: Golden = read_json(&golden_dir("adamw.json"));
    assert_eq!(golden.runs.len(), 2);
    for run in &golden.runs {
        let worst = follow(run, &config(&golden, run.update_unselected));
        assert!(worst <= 1e-6, "update_unselected {}: off by {worst:.1e}", run.update_unselected);
    }
}

#[test]
fn a_wrong_setting_would_be_noticed() {
    let golden: Golden = read_json(&golden_dir("adamw.json"));
    let run = &golden.runs[0];
    let right = config(&golden, false);
    let wrong = [
        TrainConfig { update_unselected: true, ..right.clone() },
        TrainConfig { weight_decay: 0.0, ..right.clone() },
        TrainConfig { max_grad_norm: 0.0, ..right.clone() },
        TrainConfig { adam_beta2: 0.99, ..right.clone() },
    ];
    for config in wrong {
        assert!(follow(run, &config) > 1e-5, "{config:?} passed");
    }
}

#[test]
fn the_state_can_be_saved_and_restored_at_any_step() {
    let golden: Golden = read_json(&golden_dir("adamw.json"));
    let (run, config) = (&golden.runs[0], config(&golden, false));
    let bank = tensor(&run.start["layers.0.ffn.down.weight"]);
    let mut params = Params::default();
    let id = params.add_bank("layers.0.ffn.down.weight", &bank).unwrap();
    let grads = |step: &GoldenStep| {
        let mut grads = Grads::new(&params);
        for &expert in &step.drawn {
            grads.add(id, expert, tensor(&step.grads["layers.0.ffn.down.weight"]).get(expert).unwrap()).unwrap();
        }
        grads
    };
    let values = || bank.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut optimizer = AdamW::new(&params).unwrap();
    for step in &run.steps[..3] {
        optimizer.step(&params, &grads(step), 0.01, &config).unwrap();
    }
    let steps: Vec<Vec<u64>> = optimizer.steps().map(<[u64]>::to_vec).collect();
    let (state, stored) = (optimizer.moments(&params).unwrap(), values());
    assert_eq!(steps[0], [2, 0, 2], "each expert counts its own updates");
    for step in &run.steps[3..] {
        optimizer.step(&params, &grads(step), 0.01, &config).unwrap();
    }
    let want = values();
    bank.slice_set(&Tensor::from_vec(stored, bank.shape(), &Device::Cpu).unwrap(), 0, 0).unwrap();
    let mut again = AdamW::new(&params).unwrap();
    again.restore(&params, &state, &steps).unwrap();
    for step in &run.steps[3..] {
        again.step(&params, &grads(step), 0.01, &config).unwrap();
    }
    assert_eq!(values(), want, "a restored optimizer gives the same bits");
    assert!(again.restore(&params, &[], &steps).is_err(), "state of another model");
}
