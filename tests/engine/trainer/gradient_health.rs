//! What is said about the gradient and the change of each tensor.

use super::{Witness, train, trainer};
use crate::support::tiny;
use adamix::config::{Problem, RoutingPolicy};
use adamix::model::{Family, Network as _};
use adamix::nn::Grads;
use adamix::records::{HealthState, TensorHealth};
use adamix::train::Control;
use adamix::train::gradient_health::GradientHealth;

#[test]
fn every_tensor_of_a_healthy_run_learns() {
    for init in [adamix::config::AdapterInit::Normal, adamix::config::AdapterInit::Identity] {
        let mut config = tiny::config(5);
        (config.train.learning_rate, config.mixture.init) = (2e-3, init);
        let (trainer, witness, _) = train(&config);
        assert_eq!(witness.gradient_health.iter().map(|l| l[0].step).collect::<Vec<_>>(), [1, 3, 10]);
        for gradient_health in &witness.gradient_health {
            let entries: usize = trainer.model().params().iter().map(|p| p.experts).sum();
            assert_eq!(gradient_health.len(), entries);
            let bad = |l: &&TensorHealth| !matches!(l.state, HealthState::Learning | HealthState::NotDrawn);
            assert_eq!(gradient_health.iter().find(bad), None, "{init:?}");
        }
        assert!(
            witness.gradient_health[0].iter().any(|l| l.state == HealthState::NotDrawn),
            "one step draws two of four experts"
        );
        let learning = witness.gradient_health[2].iter().filter(|l| l.state == HealthState::Learning).count();
        assert!(
            learning * 10 > witness.gradient_health[2].len() * 9,
            "{learning} of {}",
            witness.gradient_health[2].len()
        );
    }
}

#[test]
fn a_tensor_without_a_gradient_is_named() {
    let mut config = tiny::config(5);
    (config.mixture.activation, config.mixture.routing) = (adamix::config::Activation::Relu, RoutingPolicy::RoundRobin);
    let mut trainer = trainer(&config, Problem::Classification);
    // Biases far below zero close every gate of layer 1: nothing flows through its down-projection.
    let param = trainer.model().params().find("layers.1.ffn.down.bias").unwrap();
    let closed = param.value.affine(0.0, -1e4).unwrap();
    param.value.slice_set(&closed, 0, 0).unwrap();
    let mut witness = Witness::default();
    trainer.run(&mut witness, &Control::default()).unwrap();
    let last = witness.gradient_health.last().unwrap();
    let dead: Vec<&str> = last.iter().filter(|l| l.state == HealthState::Dead).map(|l| l.tensor.as_str()).collect();
    assert!(dead.contains(&"layers.1.ffn.down.weight"), "{dead:?}");
    let other = |name: &&str| !name.starts_with("layers.1.ffn.down") && *name != "layers.1.ffn.up.weight";
    assert_eq!(dead.iter().copied().find(other), None, "healthy tensors are accused");
}

#[test]
fn a_tensor_that_explodes_is_named() {
    let config = tiny::config(5);
    let model = tiny::classifier(&config, Family::Bert, 2);
    let mut optimizer = adamix::train::AdamW::new(model.params()).unwrap();
    let mut gradient_health = GradientHealth::new(model.params()).unwrap();
    let mut grads = Grads::new(model.params());
    let id = model.params().iter().position(|p| p.name == "classifier.weight").unwrap();
    let param = &model.params().iter().nth(id).unwrap().value;
    let ones = adamix::tensor::Tensor::ones(param.shape(), param.dtype(), param.device()).unwrap();
    grads.add(adamix::nn::ParamId(id), 0, ones).unwrap();
    gradient_health.see(&grads).unwrap();
    optimizer.step(model.params(), &grads, 10.0, &config.train).unwrap();
    let read = gradient_health.read(1, model.params(), &optimizer, model.mixture()).unwrap();
    let of = |name: &str| read.iter().find(|l| l.tensor == name).unwrap().state;
    assert_eq!((of("classifier.weight"), of("classifier.bias")), (HealthState::Exploding, HealthState::NotDrawn));
}
