//! Checkpoints of the training loop: a resumed run has the same bits.

use super::{Witness, bits, timeless, train, trainer};
use crate::support::tiny;
use adamix::config::{Method, Problem, RoutingPolicy, RunConfig};
use adamix::records::{CheckpointData, EndReason, TensorHealth};
use adamix::train::Control;

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
                "{name} resumed at {at}: gradient health"
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
