//! The training loop on a tiny task: it learns, it can be interrupted anywhere without a trace, it ends cleanly for
//! every reason, and every step can be replayed from its log.

mod gradient_health;
mod law;
mod numerics;
mod resume;

use crate::support::tiny;
use adamix::config::{LawChange, Method, Problem, RoutingPolicy, RunConfig};
use adamix::data::Target;
use adamix::data::order::Order;
use adamix::model::{Family, Network};
use adamix::records::{CheckpointData, EndReason, EndRecord, EvalRecord, StepRecord, TensorHealth};
use adamix::rng::SeedStream;
use adamix::tensor::HostTensor;
use adamix::train::checkpoint::host_tensors;
use adamix::train::{Control, ModelAndData, Observer, Trainer, step};
use std::collections::BTreeMap;

/// What a test does at a boundary.
type Look = Box<dyn FnMut(&Trainer)>;

/// Remembers everything.
#[derive(Default)]
struct Witness {
    steps: Vec<StepRecord>,
    laws: Vec<LawChange>,
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
    fn on_law(&mut self, change: &LawChange) {
        self.laws.push(*change);
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
    Trainer::new(config.clone(), ModelAndData::Classifier(model, tiny::task(96, problem))).unwrap()
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
    Trainer::new(config.clone(), ModelAndData::Classifier(tiny::classifier(config, Family::Roberta, outputs), task))
        .unwrap()
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
            let ModelAndData::Classifier(model, task) = trainer.subject() else { panic!("no classifier") };
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
    let ModelAndData::Classifier(model, task) = trainer.subject() else { panic!("no classifier") };
    let batch = task.dev.batch(&[0, 1, 2]);
    let merged = model.merged_own().unwrap().logits(&batch, None).unwrap();
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
