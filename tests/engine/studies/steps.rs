//! One recorded step made again, and its batch under other routes: against the run itself.

use super::near;
use crate::support::cli::adamix;
use crate::support::place::Place;
use crate::support::texts::TextPlace;
use adamix::artifact::recorder::RecordedStep;
use adamix::artifact::{RunDir, checkpoint};
use adamix::config::{MixtureKind, RoutingPolicy, RunConfig};
use adamix::error::ErrorKind;
use adamix::protocol::{ReplayPlan, ReplayReport, RerollPlan, RerollReport, RouteShare};
use adamix::train::reroll::rolled_route;
use adamix::train::step::{draw_route, forward_backward};
use adamix::train::{Control, ModelAndData, NullObserver, Trainable as _};
use adamix::workflow::rebuild;
use adamix::workflow::run::{Run, prepare};
use adamix::workflow::studies::replay::replay;
use adamix::workflow::studies::reroll::reroll;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Trains twelve steps with a checkpoint after every fourth, all kept.
fn run_of(mut config: RunConfig, change: impl FnOnce(&mut RunConfig)) -> RunDir {
    (config.eval.eval_steps, config.eval.save_total_limit) = (4, 9);
    change(&mut config);
    let mut run = Run::start(prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    run.dir().clone()
}

fn again(dir: &RunDir, step: u64) -> ReplayReport {
    replay(dir, ReplayPlan { step }, &|_| true).unwrap()
}

/// Every file of a run with its contents.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

#[track_caller]
fn assert_every_step_comes_out_again(what: &str, dir: &RunDir) {
    let before = files(dir.path());
    for (step, from, made) in [(1, 0, 0), (3, 0, 2), (4, 0, 3), (5, 4, 0), (8, 4, 3), (11, 8, 2), (12, 8, 3)] {
        let report = again(dir, step);
        assert!(report.is_equal(), "{what}, step {step}: {}", report.verdict());
        assert_eq!((report.from, report.steps_before), (from, made), "{what}, step {step}");
        assert_eq!(report.routes_recorded, dir.config().train.gradient_accumulation_steps, "{what}");
        // The moments of the optimizer are sums of gradients: equal ones have equal gradients, bit for bit.
        let weights = report.weights.as_ref();
        assert_eq!(weights.is_some(), step % 4 == 0, "{what}, step {step}");
        assert!(weights.is_none_or(|weights| weights.tensors > 8), "{what}: nothing was compared");
    }
    assert!(files(dir.path()) == before, "{what}: a replay wrote something");
}

#[test]
fn every_step_comes_out_again_bit_for_bit() {
    let place = Place::new();
    let run = |name: &str, change: &dyn Fn(&mut RunConfig)| {
        run_of(place.config(12), |config| {
            name.clone_into(&mut config.name);
            change(config);
        })
    };
    assert_every_step_comes_out_again("adapters", &run("adapters", &|_| {}));
    let accumulated = |config: &mut RunConfig| {
        (config.train.gradient_accumulation_steps, config.mixture.routing) = (2, RoutingPolicy::PerToken);
    };
    assert_every_step_comes_out_again("accumulated, per token", &run("accumulated", &accumulated));
    let lora = |config: &mut RunConfig| {
        (config.mixture.kind, config.mixture.lora_rank, config.mixture.sharing_up) = (MixtureKind::Lora, 3, false);
    };
    assert_every_step_comes_out_again("LoRA", &run("lora", &lora));
    let texts = TextPlace::new("llama-tiny");
    assert_every_step_comes_out_again("a language model", &run_of(texts.config(12), |_| {}));
}

#[test]
fn another_seed_or_another_weight_is_not_equal_and_named() {
    let place = Place::new();
    let dir = run_of(place.config(12), |_| {});
    assert!(again(&dir, 6).is_equal());
    let settings = fs::read_to_string(dir.path().join("run.toml")).unwrap();
    let other = settings.replace("\nseed = 0", "\nseed = 1");
    assert_ne!(settings, other, "{settings}");
    fs::write(dir.path().join("run.toml"), &other).unwrap();
    let report = again(&RunDir::open(dir.path()).unwrap(), 6);
    assert!(!report.is_equal() && report.picks_differing > 0);
    let verdict = report.verdict();
    assert!(verdict.starts_with("not equal: loss; "), "{verdict}");
    assert!(verdict.contains("picks of the routes (micro-batch 0, pass"), "{verdict}");
    let home = place.path("");
    let ran = adamix(&home, &["replay", dir.path().to_str().unwrap(), "--step", "6"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("not equal: loss"), "{}", ran.err);
    fs::write(dir.path().join("run.toml"), settings).unwrap();

    // One value of one expert of the checkpoint that it begins with.
    let mut data = checkpoint::read(&dir, 4).unwrap();
    let at = data.tensors.iter().position(|tensor| tensor.name.ends_with("up.weight")).unwrap();
    data.tensors[at].data[0] += 0.5;
    fs::remove_dir_all(dir.path().join("checkpoint-4")).unwrap();
    checkpoint::write(&dir, 4, &data).unwrap();
    let report = again(&dir, 8);
    assert_eq!((report.picks_differing, report.from), (0, 4), "routes do not depend on weights");
    assert!(report.differs.iter().any(|what| what == "loss"), "{:?}", report.differs);
    let verdict = report.verdict();
    assert!(verdict.contains("tensors of checkpoint-8 ("), "{verdict}");
    // Damage is passed over: it begins earlier, and is equal again.
    fs::write(dir.path().join("checkpoint-4").join("manifest.json"), "{").unwrap();
    let report = again(&dir, 8);
    assert!(report.is_equal() && report.from == 0 && report.steps_before == 7, "{}", report.verdict());
    assert!(report.warnings[0].contains("checkpoint-4 cannot be used"), "{:?}", report.warnings);
}

#[test]
fn steps_that_are_not_there_are_refused() {
    let place = Place::new();
    let dir = run_of(place.config(12), |_| {});
    for step in [0, 13] {
        let err = replay(&dir, ReplayPlan { step }, &|_| true).unwrap_err();
        assert!(err.to_string().contains("choose 1 to 12"), "{err}");
    }
    let err = replay(&dir, ReplayPlan { step: 3 }, &|_| false).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Cancelled);
    let err = reroll(&dir, RerollPlan { step: 3, routes: 1 }, &|_| true).unwrap_err();
    assert!(err.to_string().contains("choose 2 to 1024"), "{err}");
    let bare = run_of(place.config(12), |config| {
        config.model.method = adamix::config::Method::HeadOnly;
        "bare".clone_into(&mut config.name);
    });
    let err = reroll(&bare, RerollPlan { step: 3, routes: 4 }, &|_| true).unwrap_err();
    assert!(err.to_string().contains("no experts"), "{err}");
    let report = again(&bare, 7);
    assert!(report.is_equal() && report.routes.is_empty() && report.routes_recorded == 0, "{}", report.verdict());
}

#[test]
fn the_command_replays_and_re_rolls() {
    let place = Place::new();
    let dir = run_of(place.config(12), |_| {});
    let (home, run) = (place.path(""), dir.path().to_str().unwrap().to_owned());
    let ran = adamix(&home, &["replay", &run, "--step", "8", "--json"]);
    assert!(ran.err.contains("the weights before step 8: 3 steps from checkpoint-4"), "{}", ran.err);
    let json = ran.json().pop().unwrap();
    assert_eq!((&json["equal"], &json["replay"]["law"]), (&true.into(), &"per-batch".into()));
    assert_eq!(json["replay"]["values"][0]["replayed"], json["replay"]["values"][0]["recorded"]);
    let words = adamix(&home, &["replay", &run, "--step", "8"]);
    for part in ["made again", "layers.1.ffn", "the routes are those of the record", "equal bit for bit: 7 numbers"] {
        assert!(words.done().contains(part), "{part}: {}", words.out);
    }
    let err = adamix(&home, &["replay", &run, "--step", "99"]);
    assert!(err.code == Some(1) && err.err.contains("choose 1 to 12"), "{}", err.err);

    let json = adamix(&home, &["reroll", &run, "--step", "6", "--routes", "5", "--json"]).json().pop().unwrap();
    let report = &json["reroll"];
    assert_eq!((report["rolls"].as_array().unwrap().len(), report["others"].as_array().unwrap().len()), (5, 5));
    assert_eq!(report["own"]["loss"], report["recorded_loss"]);
    let words = adamix(&home, &["reroll", &run, "--step", "6", "--routes", "5"]);
    for part in ["this batch, other routes: mean of 5", "of the variance; this step is", "by its route", "per-batch"] {
        assert!(words.done().contains(part), "{part}: {}", words.out);
    }
}

fn rolled(dir: &RunDir, step: u64, routes: usize) -> RerollReport {
    reroll(dir, RerollPlan { step, routes }, &|_| true).unwrap()
}

/// Each loss of a report is that of a forward of its own.
#[track_caller]
fn assert_rolls_are_fresh_forwards(dir: &RunDir, step: u64) {
    let report = rolled(dir, step, 6);
    let recorded = RecordedStep::read(dir, step).unwrap().record.unwrap();
    assert_eq!((report.own.loss, report.own.task_loss), (recorded.loss, recorded.task_loss), "the step as it was");
    assert_eq!((report.own.consistency_loss, report.recorded_loss), (recorded.consistency_loss, recorded.loss));
    let trainer = rebuild::after(dir, step - 1, &|_| true).unwrap().trainer;
    let config = trainer.config();
    let mut order = trainer.subject().order(config);
    let mut fresh = |index: u64, roll: Option<usize>| match trainer.subject() {
        ModelAndData::Classifier(model, data) => {
            let batch = data.train.batch(order.rows(index));
            let size = model.size(&batch);
            let route = match roll {
                Some(roll) => rolled_route(config, model, size, index, roll),
                None => draw_route(config, model, size, index),
            };
            forward_backward(config, model, &batch, route.as_ref(), index).unwrap().0.read().unwrap()
        }
        ModelAndData::Lm(model, data) => {
            let batch = data.train.batch(order.rows(index));
            let size = model.size(&batch);
            let route = match roll {
                Some(roll) => rolled_route(config, model, size, index, roll),
                None => draw_route(config, model, size, index),
            };
            forward_backward(config, model, &batch, route.as_ref(), index).unwrap().0.read().unwrap()
        }
    };
    for (roll, got) in report.rolls.iter().enumerate() {
        let want = fresh(step - 1, Some(roll));
        assert_eq!((got.loss, got.consistency_loss, got.of_step), (want.total, want.consistency, step), "roll {roll}");
    }
    for (later, got) in (1..).zip(&report.others) {
        let want = fresh(step - 1 + later, None);
        assert_eq!((got.loss, got.task_loss, got.of_step), (want.total, want.task, step + later), "batch {later}");
    }
    let distinct = |list: &[adamix::protocol::RolledLoss]| list.iter().any(|roll| roll.loss != list[0].loss);
    assert!(distinct(&report.rolls) && distinct(&report.others), "all losses are the same");
    let all = |list: &[adamix::protocol::RolledLoss]| list.iter().map(|roll| roll.loss).collect::<Vec<_>>();
    let want = RouteShare::of(report.own.loss, &all(&report.rolls), &all(&report.others)).unwrap();
    assert_eq!(report.loss, want);
    near("parts of the excess", want.of_batch + want.of_route, want.excess, 1e-12);
}

#[test]
fn re_rolls_are_fresh_forwards_of_the_same_batch() {
    let place = Place::new();
    assert_rolls_are_fresh_forwards(&run_of(place.config(12), |_| {}), 7);
    let per_example = run_of(place.config(12), |config| {
        (config.mixture.routing, config.mixture.kind) = (RoutingPolicy::PerExample, MixtureKind::Lora);
        "per-example".clone_into(&mut config.name);
    });
    assert_rolls_are_fresh_forwards(&per_example, 9);
    let texts = TextPlace::new("gpt2-tiny");
    assert_rolls_are_fresh_forwards(&run_of(texts.config(12), |_| {}), 5);
}

#[test]
fn where_nothing_is_left_to_chance_routes_are_rolled_for_the_batch() {
    let place = Place::new();
    let dir = run_of(place.config(12), |config| config.mixture.routing = RoutingPolicy::RoundRobin);
    let report = rolled(&dir, 6, 8);
    assert_eq!(report.law, "per-batch");
    assert!(report.rolls.iter().any(|roll| roll.loss != report.own.loss));
    // Micro-batches of a step are rolled together.
    let dir = run_of(place.config(12), |config| {
        config.train.gradient_accumulation_steps = 3;
        "three".clone_into(&mut config.name);
    });
    let report = rolled(&dir, 6, 3);
    assert_eq!(report.own.loss, report.recorded_loss);
}
