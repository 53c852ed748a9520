//! `adamix inspect --causes` and its study: against losses of models that were merged by hand, and on a trained run.

use super::{classifier, lora, near, writer};
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::artifact::RunDir;
use adamix::config::RunConfig;
use adamix::eval::Measured;
use adamix::eval::compare::{self, EvalOptions};
use adamix::mixture::MergeWeights;
use adamix::model::Network as _;
use adamix::protocol::{CausesPlan, CausesReport};
use adamix::train::{Control, ModelAndData, NullObserver};
use adamix::workflow::run::{Run, prepare};
use adamix::workflow::saved_run::Opened;
use adamix::workflow::studies::causes::{causes_subject, of_files};
use serde_json::Value;

/// A small trained run.
pub(super) fn trained(place: &Place, change: impl FnOnce(&mut RunConfig)) -> RunDir {
    let mut config = place.config(24);
    (config.eval.eval_steps, config.train.learning_rate) = (24, 5e-3);
    change(&mut config);
    let mut run = Run::start(prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    run.dir().clone()
}

fn all_rows<M: Measured>(model: &M, data: &M::Rows, options: &EvalOptions<'_>) -> f64 {
    let rows: Vec<usize> = (0..M::rows(data)).collect();
    let losses = model.row_losses(data, &rows, None, options).unwrap();
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Losses of rows average to the loss of all, and each effect is the difference of two models that are merged by hand.
fn check_pins(subject: &ModelAndData, config: &RunConfig, report: &CausesReport) {
    let go_on = |_: f64| true;
    let options = &subject.options(config, &go_on);
    match subject {
        ModelAndData::Classifier(model, task) => {
            let merged = model.merged_own().unwrap();
            let want = compare::evaluate(&merged, &task.dev, None, options).unwrap().loss;
            near("mean of the rows' losses", all_rows(&merged, &task.dev, options), want, 1e-9);
            check_model(model, &task.dev, options, report);
        }
        ModelAndData::Lm(model, data) => check_model(model, &data.dev, options, report),
    }
}

fn check_model<M: Measured>(model: &M, data: &M::Rows, options: &EvalOptions<'_>, report: &CausesReport) {
    let (mixture, sites) = (model.mixture().unwrap(), model.sites().len());
    let m = mixture.num_experts;
    let uniform = MergeWeights::uniform(m);
    let merged = all_rows(&model.merged(&uniform).unwrap(), data, options);
    assert_eq!(report.pin_effects.len(), 2, "a model of two layers");
    let in_layer = sites / report.pin_effects.len();
    for pins in &report.pin_effects {
        assert_eq!((pins.effects.len(), pins.standard_errors.len()), (m, m));
        for (expert, effect) in pins.effects.iter().enumerate() {
            let mut lists = vec![vec![1.0; m]; sites];
            for list in &mut lists[pins.layer * in_layer..(pins.layer + 1) * in_layer] {
                *list = (0..m).map(|e| f64::from(u8::from(e == expert))).collect();
            }
            let pinned = model.merged(&MergeWeights::per_site(&lists).unwrap()).unwrap();
            let want = all_rows(&pinned, data, options) - merged;
            assert!((effect - want).abs() < 1e-9, "layer {} expert {expert}: {effect}, {want}", pins.layer);
        }
        assert!(pins.effects.iter().any(|effect| effect.abs() > 1e-6), "experts differ: {pins:?}");
        let centre = pins.effects.iter().sum::<f64>() / m as f64;
        near("the band's centre", (pins.null_band[0] + pins.null_band[1]) / 2.0, centre, 1e-12);
        assert!(pins.adapter_off.abs() > 1e-6 && pins.adapter_off_standard_error > 0.0);
    }
}

/// A run directory beside a subject whose experts are random.
fn study(subject: &ModelAndData, config: &RunConfig) -> CausesReport {
    let run = Run::start(prepare(config).unwrap()).unwrap();
    let plan = CausesPlan::default();
    causes_subject(subject, config, (run.dir(), 0), &plan, &|_| true).unwrap()
}

#[test]
fn pinned_layers_are_models_merged_by_hand() {
    for change in [Box::new(|_: &mut RunConfig| {}) as Box<dyn Fn(&mut RunConfig)>, Box::new(lora(false))] {
        let (_place, config, subject) = classifier(change);
        check_pins(&subject, &config, &study(&subject, &config));
    }
    for family in ["gpt2-tiny", "llama-tiny"] {
        let (_place, config, subject) = writer(family, lora(true));
        check_pins(&subject, &config, &study(&subject, &config));
    }
}

#[test]
fn a_layer_without_its_modules_is_the_base_model_there() {
    let (_place, config, subject) = classifier(lora(false));
    let ModelAndData::Classifier(model, task) = &subject else { panic!("a classifier") };
    let go_on = |_: f64| true;
    let options = &subject.options(&config, &go_on);
    let merged = model.merged_own().unwrap();
    let off = merged.without_layer(0).without_layer(1);
    assert_eq!(all_rows(&off, &task.dev, options), all_rows(&model.bare(), &task.dev, options));
    assert_ne!(all_rows(&merged.without_layer(0), &task.dev, options), all_rows(&off, &task.dev, options));
    assert_eq!(all_rows(&merged.without_layer(9), &task.dev, options), all_rows(&merged, &task.dev, options));
}

#[test]
fn equal_experts_cause_nothing() {
    let (_place, config, subject) = classifier(|_| {});
    for param in subject.model().params().iter().filter(|param| param.bank) {
        let first = param.value.get(0).unwrap().copy().unwrap();
        for expert in 1..param.experts {
            param.value.slice_set(&first.unsqueeze(0).unwrap(), 0, expert).unwrap();
        }
    }
    let report = study(&subject, &config);
    for pins in &report.pin_effects {
        assert!(pins.effects.iter().all(|effect| effect.abs() < 1e-6), "{pins:?}");
        assert!(pins.adapter_off.abs() > 1e-4, "the adapter itself matters");
    }
    assert!(report.consensus.iter().all(|q| (q.unwrap() - 1.0).abs() < 1e-6), "{:?}", report.consensus);
}

#[test]
fn a_cancelled_study_says_so() {
    let (_place, config, subject) = classifier(|_| {});
    let run = Run::start(prepare(&config).unwrap()).unwrap();
    let plan = CausesPlan::default();
    let cancelled = causes_subject(&subject, &config, (run.dir(), 0), &plan, &|share| share < 0.5);
    assert_eq!(cancelled.unwrap_err().kind(), adamix::error::ErrorKind::Cancelled);
}

#[test]
fn the_command_prints_the_study_and_needs_no_model_for_what_the_files_say() {
    let place = Place::new();
    let dir = trained(&place, |_| {});
    let run = dir.path().to_str().unwrap();
    let json = |more: &[&str]| -> Value {
        adamix(&place.path(""), &[&["inspect", run, "--causes", "--json"], more].concat()).json().pop().unwrap()
    };
    let whole = json(&["--after", "2"]);
    for key in ["kl_slope", "kl_slope_z", "kl_intercept", "kl_intercept_z"] {
        assert!(whole[key].is_f64(), "{key}: {whole}");
    }
    assert_eq!(
        (&whole["step"], &whole["after"], &whole["until"], &whole["steps"]),
        (&24.into(), &2.into(), &24.into(), &22.into())
    );
    assert_eq!((&whole["probe_rows"], &whole["forwards"]), (&48.into(), &11.into()));
    for key in ["kl_slopes", "consensus", "pin_effects"] {
        assert_eq!(whole[key].as_array().unwrap().len(), 2, "{key}");
    }
    assert!(whole["consensus"][0].as_f64().unwrap() > 0.4);
    let pins = &whole["pin_effects"][1];
    assert_eq!((pins["effects"].as_array().unwrap().len(), pins["null_band"].as_array().unwrap().len()), (4, 2));
    assert!(pins["adapter_off"].is_f64());
    // The library's own answer, and the files alone.
    let opened = Opened::open(&dir, adamix::protocol::Checkpoint::Best).unwrap();
    let plan = CausesPlan { after: Some(2), ..CausesPlan::default() };
    let own = causes_subject(&opened.subject, &opened.config, (&dir, opened.weights.step), &plan, &|_| true).unwrap();
    assert_eq!(whole["kl_slope"].as_f64(), own.kl_slope);
    assert_eq!(pins["adapter_off"].as_f64(), Some(own.pin_effects[1].adapter_off));
    std::fs::remove_dir_all(place.path("model")).unwrap();
    let files = json(&["--after", "2", "--probe-rows", "0"]);
    assert_eq!((&files["kl_slope"], &files["consensus"]), (&whole["kl_slope"], &whole["consensus"]));
    assert!(files["pin_effects"].as_array().unwrap().is_empty());
    let plan = CausesPlan { after: None, probe_rows: 0 };
    assert_eq!(of_files(&dir, 24, &plan).unwrap().after, 6, "a quarter of all");
    let printed = adamix(&place.path(""), &["inspect", run, "--causes", "--probe-rows", "0"]);
    for words in ["where no layer differs", "for each layer that differs", "strangers"] {
        assert!(printed.done().contains(words), "{}", printed.out);
    }
}

#[test]
fn without_two_passes_or_a_mixture_it_is_said_what_is_missing() {
    let place = Place::new();
    let dir = trained(&place, |config| config.mixture.consistency = false);
    let run = dir.path().to_str().unwrap();
    let printed = adamix(&place.path(""), &["inspect", run, "--causes"]);
    assert!(printed.done().contains("it needs two passes") && printed.out.contains("without it"), "{}", printed.out);
    let place = Place::new();
    let dir = trained(&place, |config| config.model.method = adamix::config::Method::HeadOnly);
    let refused = adamix(&place.path(""), &["inspect", dir.path().to_str().unwrap(), "--causes"]);
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    assert!(refused.err.contains("no experts"), "{}", refused.err);
}
