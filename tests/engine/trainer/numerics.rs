//! Values that are not finite end a run and leave finite weights behind.

use super::{Witness, bits_of, train, trainer};
use crate::support::tiny;
use adamix::config::{Problem, RunConfig};
use adamix::model::Network;
use adamix::records::{CheckpointData, EndReason, EndRecord, EvalRecord, StepRecord};
use adamix::tensor::HostTensor;
use adamix::train::checkpoint::host_tensors;
use adamix::train::{Control, Observer};

/// Overwrites one value of a trained tensor.
fn plant(model: &dyn Network, tensor: &str, value: f32) {
    let param = model.params().find(tensor).unwrap();
    let mut values: Vec<f32> = param.value.flatten_all().unwrap().to_vec1().unwrap();
    values[0] = value;
    let new = adamix::tensor::Tensor::from_vec(values, param.value.shape(), param.value.device()).unwrap();
    param.value.slice_set(&new, 0, 0).unwrap();
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_changes_nothing() {
    let config = tiny::config(5);
    let mut trainer = trainer(&config, Problem::Classification);
    // A poisoned value in the shared up-projection reaches the loss of every step; planted after step 6.
    let mut witness = Witness {
        at_boundary: Some(Box::new(|t| {
            if t.steps_done() == 6 {
                plant(t.model(), "layers.1.ffn.up.bias", f32::NAN);
            }
        })),
        ..Witness::default()
    };
    let end = trainer.run(&mut witness, &Control::default()).unwrap();
    let reason = EndReason::Diverged { step: 7, last_checkpoint: Some("checkpoint-4".to_owned()) };
    assert_eq!((end.reason, end.step, end.report), (reason, 6, None));
    assert!(!witness.checkpoints.contains_key(&6), "a poisoned checkpoint was written");
    assert!(bits_of(&witness.checkpoints[&4].tensors).iter().flatten().all(|&b| f32::from_bits(b).is_finite()));
    let wrong: Vec<_> = host_tensors(trainer.model()).unwrap();
    let wrong: Vec<_> = wrong.iter().flat_map(|t| t.data.iter().filter(|v| !v.is_finite())).collect();
    assert_eq!(wrong.len(), 1, "the poison has spread into the weights");
}

/// What a trainer's observer reports, with one trained value made NaN after a step: what an update that overflows does.
struct Overflow {
    witness: Witness,
    after: u64,
    target: adamix::tensor::Tensor,
    ends: Vec<EndRecord>,
}

impl Observer for Overflow {
    fn on_step(&mut self, step: &StepRecord) {
        self.witness.on_step(step);
        if step.step == self.after {
            let poison = self.target.affine(0.0, f64::NAN).unwrap();
            self.target.slice_set(&poison, 0, 0).unwrap();
        }
    }
    fn on_eval(&mut self, eval: &EvalRecord) {
        self.witness.on_eval(eval);
    }
    fn on_checkpoint(&mut self, data: &CheckpointData, step: u64, best: bool) -> bool {
        self.witness.on_checkpoint(data, step, best)
    }
    fn on_end(&mut self, end: &EndRecord) {
        self.ends.push(end.clone());
    }
}

/// A run whose weights are NaN after this step.
fn overflowed(config: &RunConfig, after: u64) -> (Overflow, EndRecord) {
    let mut trainer = trainer(config, Problem::Classification);
    let target = trainer.model().params().find("layers.1.ffn.up.bias").unwrap().value.clone();
    let mut overflow = Overflow { witness: Witness::default(), after, target, ends: Vec::new() };
    let end = trainer.run(&mut overflow, &Control::default()).unwrap();
    (overflow, end)
}

#[test]
fn an_evaluation_that_is_not_finite_ends_the_run_as_diverged() {
    let mut config = tiny::config(5);
    config.eval.eval_steps = 4;
    for after in [4, 8] {
        let (overflow, end) = overflowed(&config, after);
        let last = (after > 4).then(|| "checkpoint-4".to_owned());
        let reason = EndReason::Diverged { step: after, last_checkpoint: last };
        assert_eq!((&end.reason, end.step, &end.report), (&reason, after, &None));
        assert_eq!(overflow.ends, [end], "its end is reported once");
        assert!(!overflow.witness.checkpoints.contains_key(&after), "a checkpoint of values that are not finite");
    }
}

#[test]
fn weights_that_are_not_finite_make_no_checkpoint() {
    let mut config = tiny::config(5);
    (config.eval.eval_steps, config.eval.save_steps) = (100, 2);
    let (overflow, end) = overflowed(&config, 6);
    let reason = EndReason::Diverged { step: 6, last_checkpoint: Some("checkpoint-4".to_owned()) };
    assert_eq!((end.reason, end.step), (reason, 6));
    assert_eq!(overflow.witness.checkpoints.keys().copied().collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn a_final_comparison_that_is_not_finite_ends_the_run_as_diverged() {
    let config = tiny::config(5);
    let mut seen = 0;
    let mut trainer = trainer(&config, Problem::Classification);
    let total = trainer.total_steps();
    let mut witness = Witness {
        at_boundary: Some(Box::new(move |t| {
            // The second time at the last step, the best weights are in place and are about to be compared.
            seen += u64::from(t.steps_done() == t.total_steps());
            if seen == 2 {
                plant(t.model(), "layers.1.ffn.up.bias", f32::NAN);
            }
        })),
        ..Witness::default()
    };
    let end = trainer.run(&mut witness, &Control::default()).unwrap();
    let reason = EndReason::Diverged { step: total, last_checkpoint: Some(format!("checkpoint-{total}")) };
    assert_eq!((end.reason, end.step, end.report), (reason, total, None));
}

#[test]
fn a_huge_learning_rate_leaves_finite_weights_behind() {
    let mut config = tiny::config(5);
    (config.train.learning_rate, config.train.warmup_ratio, config.train.max_steps) = (10.0, 0.0, 400);
    (config.train.adam_epsilon, config.train.max_grad_norm) = (1e-30, 0.0);
    config.eval.eval_steps = 1000;
    config.eval.save_steps = 1;
    let (trainer, witness, end) = train(&config);
    let finite = |data: &[HostTensor]| data.iter().flat_map(|t| &t.data).all(|v| v.is_finite());
    assert!(finite(&host_tensors(trainer.model()).unwrap()), "{:?}", end.reason);
    assert!(witness.steps.iter().all(|s| s.loss.is_finite() && s.grad_norm.is_finite()));
    if let EndReason::Diverged { step, last_checkpoint } = &end.reason {
        assert_eq!(*last_checkpoint, (end.step > 0).then(|| format!("checkpoint-{}", step - 1)));
    }
}
