//! The training loop on a tiny task: it learns, it can be interrupted anywhere without a trace, it ends cleanly for
//! every reason, and every step can be replayed from its log.

use crate::support::tiny;
use adamix::config::{Method, Problem, RoutingPolicy, RunConfig};
use adamix::data::Target;
use adamix::data::order::Order;
use adamix::model::{Family, Network};
use adamix::nn::Grads;
use adamix::records::CheckpointData;
use adamix::records::{EndReason, EndRecord, EvalRecord, HealthState, StepRecord, TensorHealth};
use adamix::rng::SeedStream;
use adamix::tensor::HostTensor;
use adamix::train::gradient_health::GradientHealth;
use adamix::train::trainer::host_tensors;
use adamix::train::{Control, Observer, Trainer, step};
use std::collections::BTreeMap;

/// What a test does at a boundary.
type Look = Box<dyn FnMut(&Trainer)>;

/// Remembers everything.
#[derive(Default)]
struct Witness {
    steps: Vec<StepRecord>,
    evals: Vec<EvalRecord>,
    gradient_health: Vec<Vec<TensorHealth>>,
    checkpoints: BTreeMap<u64, CheckpointData>,
    best: Option<u64>,
    /// Boundaries seen at each number of steps done.
    boundaries: BTreeMap<u64, usize>,
    /// Called at every boundary.
    at_boundary: Option<Look>,
}

impl Observer for Witness {
    fn on_step(&mut self, step: &StepRecord) {
        self.steps.push(step.clone());
    }
    fn on_eval(&mut self, eval: &EvalRecord) {
        self.evals.push(eval.clone());
    }
    fn on_gradient_health(&mut self, gradient_health: &[TensorHealth]) {
        self.gradient_health.push(gradient_health.to_vec());
    }
    fn on_checkpoint(&mut self, data: &CheckpointData, step: u64, best: bool) -> bool {
        self.checkpoints.insert(step, data.clone());
        self.best = if best { Some(step) } else { self.best };
        true
    }
    fn on_boundary(&mut self, trainer: &Trainer, _paused: bool) {
        *self.boundaries.entry(trainer.steps_done()).or_default() += 1;
        if let Some(look) = &mut self.at_boundary {
            look(trainer);
        }
    }
}

fn trainer(config: &RunConfig, problem: Problem) -> Trainer {
    let outputs = if problem == Problem::Classification { 2 } else { 1 };
    let model = tiny::classifier(config, Family::Roberta, outputs);
    Trainer::new(config.clone(), (model, tiny::task(96, problem))).unwrap()
}

/// A trainer whose rows say their answer in the first token: a task that a random trunk can carry to the head.
fn easy(config: &RunConfig, problem: Problem) -> Trainer {
    let mut task = tiny::task(96, problem);
    for data in [&mut task.train, &mut task.dev] {
        for (row, encoded) in data.rows.iter().zip(&mut data.encoded) {
            let yes =
                matches!(row.target, Target::Class(1)) || matches!(row.target, Target::Value(value) if value > 0.5);
            encoded.ids[0] = if yes { 7 } else { 8 };
        }
    }
    let outputs = if problem == Problem::Classification { 2 } else { 1 };
    Trainer::new(config.clone(), (tiny::classifier(config, Family::Roberta, outputs), task)).unwrap()
}

/// Trains from start to end.
fn train(config: &RunConfig) -> (Trainer, Witness, EndRecord) {
    let (mut trainer, mut witness) = (trainer(config, Problem::Classification), Witness::default());
    let end = trainer.run(&mut witness, &Control::default()).unwrap();
    (trainer, witness, end)
}

/// Every bit of every trained value.
fn bits(model: &dyn Network) -> Vec<Vec<u32>> {
    bits_of(&host_tensors(model).unwrap())
}

fn bits_of(tensors: &[HostTensor]) -> Vec<Vec<u32>> {
    tensors.iter().map(|tensor| tensor.data.iter().map(|value| value.to_bits()).collect()).collect()
}

/// A step without the clock.
fn timeless(step: &StepRecord) -> StepRecord {
    StepRecord { seconds: 0.0, ..step.clone() }
}

fn learning(steps: u64) -> RunConfig {
    let mut config = tiny::config(3);
    config.train.max_steps = steps;
    config.train.learning_rate = 2e-2;
    config.eval.eval_steps = steps / 4;
    config
}

#[test]
fn it_learns() {
    let (mut trainer, mut witness) = (easy(&learning(160), Problem::Classification), Witness::default());
    let end = trainer.run(&mut witness, &Control::default()).unwrap();
    let mean = |steps: &[StepRecord]| steps.iter().map(|s| s.task_loss).sum::<f64>() / steps.len() as f64;
    let (first, last) = (mean(&witness.steps[..20]), mean(&witness.steps[140..]));
    assert!(last < 0.7 * first, "the loss goes from {first} to {last}");
    let report = end.report.unwrap();
    assert!(report.merged.primary > 0.85, "merged {:?}, majority {}", report.merged, report.majority);
    assert!(report.merged.primary > report.majority + 0.2);
    assert_eq!((end.reason, end.step, witness.steps.len()), (EndReason::Finished, 160, 160));
    assert!(witness.evals.last().unwrap().merged.primary > witness.evals[0].merged.primary - 1e-9);
    assert!(end.tokens_per_s > 0.0 && witness.steps.iter().all(|s| s.tokens % 2 == 0 && s.tokens > 0));
}

#[test]
fn the_report_is_of_the_best_weights_and_the_model_holds_them() {
    let mut config = learning(40);
    // A rate that overshoots makes the last evaluation worse than an earlier one.
    config.train.learning_rate = 0.3;
    config.eval.eval_steps = 2;
    let (trainer, witness, end) = train(&config);
    let (best, value) = end.best.unwrap();
    let of_best = witness.evals.iter().find(|eval| eval.step == best).unwrap();
    assert_eq!(of_best.merged.primary, value);
    assert!(witness.evals.iter().all(|eval| eval.merged.primary <= value));
    assert_eq!(end.report.unwrap().merged, of_best.merged);
    assert!(best < 40, "this test needs a run whose last evaluation is not its best");
    assert_eq!(bits(trainer.model()), bits_of(&witness.checkpoints[&best].tensors));
    assert_eq!(witness.best, Some(best));
}

/// Variations of the settings that all must resume exactly.
fn variations() -> Vec<(&'static str, RunConfig)> {
    let vary = |change: &dyn Fn(&mut RunConfig)| {
        let mut config = tiny::config(8);
        config.train.learning_rate = 2e-2;
        change(&mut config);
        config
    };
    vec![
        ("plain", vary(&|_| {})),
        ("accumulation", vary(&|c| c.train.gradient_accumulation_steps = 3)),
        ("per example", vary(&|c| c.mixture.routing = RoutingPolicy::PerExample)),
        ("per token, nothing shared", {
            vary(&|c| (c.mixture.routing, c.mixture.sharing_up) = (RoutingPolicy::PerToken, false))
        }),
        ("round robin", vary(&|c| c.mixture.routing = RoutingPolicy::RoundRobin)),
        ("no trunk dropout", vary(&|c| c.model.trunk_dropout = false)),
        ("unselected move too", vary(&|c| c.train.update_unselected = true)),
        ("early stopping", vary(&|c| (c.train.early_stopping_patience, c.eval.eval_steps) = (2, 1))),
        ("saved between evaluations", vary(&|c| (c.eval.eval_steps, c.eval.save_steps) = (5, 2))),
        ("both losses", vary(&|c| c.mixture.ce_both_passes = true)),
        ("full", vary(&|c| c.model.method = Method::Full)),
        ("head only", vary(&|c| c.model.method = Method::HeadOnly)),
    ]
}

#[test]
fn a_resumed_run_makes_the_same_bits_as_one_that_was_never_interrupted() {
    for (name, config) in variations() {
        let (whole, witness, end) = train(&config);
        for at in [1, 2, 4, 7, 11].into_iter().filter(|&at| at < end.step) {
            // Interrupted at a boundary, and everything forgotten but the checkpoint.
            let control = Control::default();
            let stop = control.clone();
            let mut first = Witness {
                at_boundary: Some(Box::new(move |t| {
                    if t.steps_done() == at {
                        stop.stop("enough");
                    }
                })),
                ..Witness::default()
            };
            let mut trainer_a = trainer(&config, Problem::Classification);
            let stopped = trainer_a.run(&mut first, &control).unwrap();
            assert_eq!(stopped.reason, EndReason::Stopped("enough".to_owned()), "{name} at {at}");
            assert_eq!((stopped.step, stopped.report), (at, None));
            let data = &first.checkpoints[&at];
            // Through text and back, as on disk.
            let state = serde_json::from_str(&data.state.to_string()).unwrap();
            let data = CheckpointData { state, ..data.clone() };
            let best = first.best.map(|step| first.checkpoints[&step].tensors.clone());

            let (mut trainer_b, mut second) = (trainer(&config, Problem::Classification), Witness::default());
            trainer_b.restore(&data, best).unwrap();
            let resumed = trainer_b.run(&mut second, &Control::default()).unwrap();

            assert_eq!(bits(trainer_b.model()), bits(whole.model()), "{name} resumed at {at}: weights");
            let steps: Vec<_> = first.steps.iter().chain(&second.steps).map(timeless).collect();
            assert_eq!(steps, witness.steps.iter().map(timeless).collect::<Vec<_>>(), "{name} resumed at {at}: steps");
            let evals: Vec<_> = first.evals.iter().chain(&second.evals).map(|e| (e.step, &e.merged, e.best)).collect();
            let wanted: Vec<_> = witness.evals.iter().map(|e| (e.step, &e.merged, e.best)).collect();
            assert_eq!(evals, wanted, "{name} resumed at {at}: evaluations");
            let gradient_health: Vec<_> =
                first.gradient_health.iter().chain(&second.gradient_health).flatten().collect();
            let kept = |health: &&TensorHealth| {
                (health.tensor.clone(), health.expert, health.step, health.max_abs_grad.to_bits())
            };
            assert_eq!(
                gradient_health.iter().map(kept).collect::<Vec<_>>(),
                witness.gradient_health.iter().flatten().collect::<Vec<_>>().iter().map(kept).collect::<Vec<_>>(),
                "{name} resumed at {at}: lamps"
            );
            assert_eq!((resumed.reason, resumed.step, resumed.best), (end.reason.clone(), end.step, end.best));
            assert_eq!(resumed.report, end.report, "{name} resumed at {at}: report");
            let last = *witness.checkpoints.keys().last().unwrap();
            assert_eq!(second.checkpoints[&last], witness.checkpoints[&last], "{name} resumed at {at}: checkpoint");
        }
    }
}

#[test]
fn the_seed_decides_every_bit() {
    let config = tiny::config(5);
    let ((a, wa, _), (b, wb, _)) = (train(&config), train(&config));
    assert_eq!(bits(a.model()), bits(b.model()));
    assert_eq!(wa.steps.iter().map(timeless).collect::<Vec<_>>(), wb.steps.iter().map(timeless).collect::<Vec<_>>());
    let (c, ..) = train(&tiny::config(6));
    assert_ne!(bits(a.model()), bits(c.model()), "the seed has no effect");
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let (_, witness, _) = train(&tiny::config(5));
    let data = witness.checkpoints.values().last().unwrap();
    let mut other = tiny::config(5);
    other.mixture.adapter_size = 5;
    let text = trainer(&other, Problem::Classification).restore(data, None).unwrap_err().to_string();
    assert!(text.contains("other settings"), "{text}");
    let full = tiny::with_method(tiny::config(5), Method::Full);
    let text = trainer(&full, Problem::Classification).restore(data, None).unwrap_err().to_string();
    assert!(text.contains("other settings"), "{text}");
    let mut shorter = tiny::config(5);
    shorter.train.max_steps = 3;
    assert!(trainer(&shorter, Problem::Classification).restore(data, None).is_err(), "more steps than there are");
}

/// Overwrites one value of a trained tensor.
fn plant(model: &dyn Network, tensor: &str, value: f32) {
    let param = model.params().find(tensor).unwrap();
    let mut values: Vec<f32> = param.value.flatten_all().unwrap().to_vec1().unwrap();
    values[0] = value;
    let new = candle_core::Tensor::from_vec(values, param.value.shape(), param.value.device()).unwrap();
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
    target: candle_core::Tensor,
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

#[test]
fn it_stops_early_when_the_metric_no_longer_improves() {
    let mut config = tiny::config(5);
    // Nothing changes at this rate, so no evaluation beats the first one.
    (config.train.learning_rate, config.train.max_steps) = (1e-12, 50);
    (config.train.early_stopping_patience, config.eval.eval_steps) = (3, 2);
    let (_, witness, end) = train(&config);
    assert_eq!((end.reason, end.step), (EndReason::EarlyStopped, 8));
    assert_eq!(witness.evals.iter().map(|e| e.best).collect::<Vec<_>>(), [true, false, false, false]);
    assert!(end.report.is_some() && end.best.unwrap().0 == 2);
}

#[test]
fn pause_step_and_stop_are_obeyed_between_steps() {
    let config = tiny::config(5);
    let control = Control::default();
    control.pause();
    let hand = control.clone();
    let mut looks = 0;
    let mut witness = Witness {
        at_boundary: Some(Box::new(move |t| {
            // Twice a step is asked for and made; then the run goes on; then it is stopped.
            match (t.steps_done(), looks) {
                (0, 2) | (1, 5) => hand.step(),
                (2, 9) => hand.resume(),
                (6, _) => hand.stop("seen enough"),
                _ => {}
            }
            looks += 1;
        })),
        ..Witness::default()
    };
    let mut trainer = trainer(&config, Problem::Classification);
    let end = trainer.run(&mut witness, &control).unwrap();
    assert_eq!((end.reason, end.step), (EndReason::Stopped("seen enough".to_owned()), 6));
    assert!([0, 1, 2].iter().all(|step| witness.boundaries[step] > 1), "held: {:?}", witness.boundaries);
    assert!([3, 4, 5].iter().all(|step| witness.boundaries[step] == 1), "not held: {:?}", witness.boundaries);
    assert!(witness.checkpoints.contains_key(&6), "stopping writes a checkpoint");
    let (_, undisturbed, _) = train(&config);
    let same = witness.steps.iter().zip(&undisturbed.steps).all(|(a, b)| timeless(a) == timeless(b));
    assert!(same, "holding a run changes what it computes");
}

#[test]
fn lamps_of_a_healthy_run_are_on() {
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
    grads.add(adamix::nn::ParamId(id), 0, param.ones_like().unwrap()).unwrap();
    gradient_health.see(&grads).unwrap();
    optimizer.step(model.params(), &grads, 10.0, &config.train).unwrap();
    let read = gradient_health.read(1, model.params(), &optimizer, model.mixture()).unwrap();
    let of = |name: &str| read.iter().find(|l| l.tensor == name).unwrap().state;
    assert_eq!((of("classifier.weight"), of("classifier.bias")), (HealthState::Exploding, HealthState::NotDrawn));
}

#[test]
fn replaying_a_logged_route_gives_the_logged_loss_bit_for_bit() {
    for routing in [RoutingPolicy::PerBatch, RoutingPolicy::PerExample, RoutingPolicy::PerToken] {
        let mut config = tiny::config(8);
        (config.mixture.routing, config.train.gradient_accumulation_steps) = (routing, 2);
        let (_, witness, _) = train(&config);
        let mut trainer = trainer(&config, Problem::Classification);
        let record = &witness.steps[8];
        trainer.restore(&witness.checkpoints[&8], None).unwrap();
        let micro = |number: u64, route: adamix::mixture::Route| {
            let index = 16 + number;
            let (model, task) = trainer.subject().classifier().unwrap();
            let data = &task.train;
            let rows = Order::new(SeedStream::new(config.train.seed), data.len(), config.train.batch_size)
                .rows(index)
                .to_vec();
            step::forward_backward(&config, model, &data.batch(&rows), Some(&route), index).unwrap().0.read().unwrap()
        };
        let (a, b) = (micro(0, record.routes[0].clone()), micro(1, record.routes[1].clone()));
        assert_eq!((a.total / 2.0 + b.total / 2.0).to_bits(), record.loss.to_bits(), "{routing:?}");
        let sum = a.consistency / 2.0 + b.consistency / 2.0;
        assert_eq!(sum.to_bits(), record.consistency_loss.to_bits(), "{routing:?}");
        // Negative control: another step's route gives another loss.
        let other = micro(0, witness.steps[3].routes[0].clone()).total;
        if routing == RoutingPolicy::PerBatch {
            assert_ne!(other.to_bits(), a.total.to_bits());
        }
    }
}

#[test]
fn the_baselines_train() {
    for method in [Method::HeadOnly, Method::Full] {
        let mut config = tiny::with_method(learning(80), method);
        config.train.learning_rate = if method == Method::Full { 3e-3 } else { 2e-2 };
        let (trainer, witness, end) = train(&config);
        let mean = |steps: &[StepRecord]| steps.iter().map(|s| s.loss).sum::<f64>() / steps.len() as f64;
        let (first, last) = (mean(&witness.steps[..10]), mean(&witness.steps[70..]));
        assert!(last < 0.98 * first, "{method:?}: the loss goes from {first} to {last}");
        assert!(witness.steps.iter().all(|s| s.routes.is_empty() && s.consistency_loss == 0.0));
        let report = end.report.unwrap();
        assert!(report.fixed.is_empty() && report.random.len() == 1);
        let banks = trainer.model().params().iter().filter(|p| p.bank).count();
        assert_eq!(banks, 0, "{method:?}");
        let names: Vec<&str> = trainer.model().params().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.iter().any(|n| n.starts_with("encoder.layer.0")), method == Method::Full);
    }
}

#[test]
fn one_expert_is_a_plain_adapter() {
    let mut config = learning(40);
    (config.mixture.num_experts, config.mixture.consistency) = (1, false);
    let (trainer, witness, end) = train(&config);
    let report = end.report.unwrap();
    assert_eq!((report.fixed.len(), report.merged.clone()), (1, report.fixed[0].clone()));
    assert!(report.random.iter().all(|scores| *scores == report.merged));
    assert!(witness.steps.iter().all(|s| s.routes[0].passes == 1 && s.consistency_loss == 0.0));
    let (model, task) = trainer.subject().classifier().unwrap();
    let batch = task.dev.batch(&[0, 1, 2]);
    let merged = model.merged_uniform().unwrap().logits(&batch, None).unwrap();
    let only = adamix::mixture::Route::fixed(&config.mixture, 3, 0);
    assert_eq!(merged, model.logits(&batch, Some(&only)).unwrap());
}

#[test]
fn a_regression_learns_with_a_consistency_term_that_is_not_zero() {
    let mut config = learning(160);
    config.train.learning_rate = 1e-2;
    let (mut trainer, mut witness) = (easy(&config, Problem::Regression), Witness::default());
    let end = trainer.run(&mut witness, &Control::default()).unwrap();
    let report = end.report.unwrap();
    assert_eq!(report.metric, "pearson");
    assert!(report.merged.primary > 0.6, "{:?}", report.merged);
    assert!(witness.steps.iter().filter(|s| s.consistency_loss > 0.0).count() > 120);
}
