//! `adamix inspect --worth` and its study: against merges made by hand, planted twins, and a trained run.

use super::causes::trained;
use super::{classifier, lora, near, writer};
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::config::RunConfig;
use adamix::error::ErrorKind;
use adamix::eval::Measured;
use adamix::eval::compare::EvalOptions;
use adamix::mixture::MergeWeights;
use adamix::protocol::{WorthPlan, WorthReport};
use adamix::train::ModelAndData;
use adamix::workflow::studies::worth::worth_subject;
use serde_json::Value;

fn study(subject: &ModelAndData, config: &RunConfig) -> WorthReport {
    worth_subject(subject, config, 5, &WorthPlan { probe_rows: 1 << 20 }, &|_| true).unwrap()
}

fn check<M: Measured>(model: &M, data: &M::Rows, options: &EvalOptions<'_>, report: &WorthReport) {
    let rows: Vec<usize> = (0..M::rows(data)).collect();
    let mean = |model: &M| {
        let losses = model.row_losses(data, &rows, None, options).unwrap();
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let loss = |weights: &[f64]| mean(&model.merged(&MergeWeights::global(weights).unwrap()).unwrap());
    let layers = model.layer_modules().len();
    let uniform = model.merged(&MergeWeights::uniform(3)).unwrap();
    let none = mean(&(0..layers).fold(uniform, |model, layer| model.without_layer(layer)));
    let all = loss(&[1.0; 3]);
    near("all experts", report.loss_all, all, 1e-12);
    near("no module", report.loss_none, none, 1e-12);
    // By hand, over the six orders of three experts.
    let of = |members: [u8; 3]| if members == [0; 3] { none } else { loss(&members.map(f64::from)) };
    let mut values = [0.0; 3];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut members = [0; 3];
        for expert in order {
            let before = of(members);
            members[expert] = 1;
            values[expert] += (before - of(members)) / 6.0;
        }
    }
    let shapley = report.shapley.as_ref().unwrap();
    for (found, want) in shapley.values.iter().zip(values) {
        near("a Shapley value", *found, want, 1e-9);
    }
    near("their sum", shapley.values.iter().sum(), none - all, 1e-9);
    for (expert, found) in report.leave_one_out.values.iter().enumerate() {
        let others: Vec<f64> = (0..3).map(|e| f64::from(u8::from(e != expert))).collect();
        near("without one", *found, loss(&others) - all, 1e-9);
    }
    let pair = report.pairs.iter().find(|pair| pair.experts == [0, 2]).unwrap();
    near("both as one", pair.as_one.value, loss(&[0.5, 1.0, 0.5]) - all, 1e-9);
    near("the first dropped", pair.drop_first.value, loss(&[0.0, 1.0, 1.0]) - all, 1e-9);
    assert_eq!((report.pairs.len(), report.forwards), (3, 8 + 3));
}

#[test]
fn worth_is_that_of_merges_made_by_hand() {
    for change in [Box::new(|_: &mut RunConfig| {}) as Box<dyn Fn(&mut RunConfig)>, Box::new(lora(false))] {
        let (_place, config, subject) = classifier(change);
        let ModelAndData::Classifier(model, task) = &subject else { panic!("a classifier") };
        let go_on = |_: f64| true;
        check(model, &task.dev, &subject.options(&config, &go_on), &study(&subject, &config));
    }
    let (_place, config, subject) = writer("llama-tiny", |config| {
        lora(true)(config);
        config.mixture.num_experts = 3;
    });
    let ModelAndData::Lm(model, data) = &subject else { panic!("a writer") };
    let go_on = |_: f64| true;
    check(model, &data.dev, &subject.options(&config, &go_on), &study(&subject, &config));
}

#[test]
fn a_planted_duplicate_is_the_closest_pair_and_costs_what_one_of_it_costs() {
    let (_place, config, subject) = classifier(lora(false));
    // Expert 2 becomes expert 1 in every bank.
    for param in subject.model().params().iter().filter(|param| param.bank && param.experts > 1) {
        let copy = param.value.get(1).unwrap().copy().unwrap();
        param.value.slice_set(&copy.unsqueeze(0).unwrap(), 0, 2).unwrap();
    }
    let report = study(&subject, &config);
    let (pair, beyond) = report.twins().unwrap();
    assert_eq!(pair.experts, [1, 2]);
    assert!((pair.cosine - 1.0).abs() < 1e-6 && pair.by_bank.len() > 4 && report.twin_limit < 0.9, "{report:?}");
    assert!(beyond, "the same pair in {} banks: p {}", pair.by_bank.len(), report.twin_p);
    near("dropping either is the same", pair.drop_first.value, pair.drop_second.value, 1e-6);
    near("and as making them one", pair.as_one.value, pair.drop_first.value, 1e-6);
    let shapley = report.shapley.as_ref().unwrap();
    near("equal experts are worth the same", shapley.values[1], shapley.values[2], 1e-6);
    for other in report.pairs.iter().filter(|other| other.experts != [1, 2]) {
        assert!(other.cosine.abs() < 0.5, "{other:?}");
    }
}

#[test]
fn what_cannot_be_measured_is_said_and_a_cancelled_study_says_so() {
    let (_place, config, subject) = classifier(|config| config.mixture.num_experts = 1);
    let plan = WorthPlan::default();
    let refused = worth_subject(&subject, &config, 0, &plan, &|_| true).unwrap_err().to_string();
    assert!(refused.contains("one expert"), "{refused}");
    let (_place, config, subject) = classifier(|_| {});
    let refused = worth_subject(&subject, &config, 0, &WorthPlan { probe_rows: 1 }, &|_| true).unwrap_err();
    assert!(refused.to_string().contains("two evaluation rows"));
    let cancelled = worth_subject(&subject, &config, 0, &plan, &|share| share < 0.5).unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    let (_place, config, subject) = classifier(|config| config.mixture.num_experts = 9);
    let many = worth_subject(&subject, &config, 0, &WorthPlan { probe_rows: 4 }, &|_| true).unwrap();
    assert!(many.shapley.is_none() && many.leave_one_out.values.len() == 9 && many.forwards == 11 + 36);
}

#[test]
fn the_command_measures_a_trained_run() {
    let place = Place::new();
    let dir = trained(&place, |_| {});
    let run = dir.path().to_str().unwrap();
    let ask = |more: &[&str]| adamix(&place.path(""), &[&["inspect", run, "--worth"], more].concat());
    let found: Value = ask(&["--probe-rows", "16", "--json"]).json().pop().unwrap();
    assert_eq!((&found["step"], &found["experts"], &found["forwards"]), (&24.into(), &4.into(), &22.into()));
    let values: Vec<f64> = found["shapley"]["values"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    let want = found["loss_none"].as_f64().unwrap() - found["loss_all"].as_f64().unwrap();
    near("the values' sum", values.iter().sum(), want, 1e-9);
    assert_eq!((found["pairs"].as_array().unwrap().len(), found["probe_rows"].as_u64()), (6, Some(16)));
    let printed = ask(&[]);
    for words in ["Shapley", "left out", "both as one", "closest:", "layers.0.ffn.down"] {
        assert!(printed.done().contains(words), "{words}: {}", printed.out);
    }
}
