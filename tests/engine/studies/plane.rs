//! `adamix inspect --plane` and its study: against losses of models that were merged by hand, and on a trained run.

use super::causes::trained;
use super::{classifier, lora, near, writer};
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::config::RunConfig;
use adamix::error::ErrorKind;
use adamix::eval::Measured;
use adamix::eval::compare::{self, EvalOptions};
use adamix::mixture::{MergeWeights, Route};
use adamix::model::Network as _;
use adamix::protocol::{PlanePlan, PlanePoint, PlaneReport};
use adamix::train::ModelAndData;
use adamix::workflow::run::{Run, prepare};
use adamix::workflow::studies::plane::plane_subject;
use serde_json::Value;

const ALL: usize = 1 << 20;

/// A study of random experts beside a run directory.
fn study(subject: &ModelAndData, config: &RunConfig, plan: &PlanePlan) -> adamix::error::Result<PlaneReport> {
    let run = Run::start(prepare(config).unwrap()).unwrap();
    plane_subject(subject, config, (run.dir(), 0), plan, &|_| true)
}

fn check<M: Measured>(model: &M, data: &M::Rows, options: &EvalOptions<'_>, report: &PlaneReport) {
    let (mixture, sites) = (model.mixture().unwrap().clone(), model.sites().len());
    let loss = |weights: &[f64]| {
        let merged = model.merged(&MergeWeights::global(weights).unwrap()).unwrap();
        let rows: Vec<usize> = (0..M::rows(data)).collect();
        let losses = merged.row_losses(data, &rows, None, options).unwrap();
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let m = mixture.num_experts;
    for expert in 0..m {
        let alone: Vec<f64> = (0..m).map(|e| f64::from(u8::from(e == expert))).collect();
        let mark = report.mark(PlanePoint::Expert(expert)).unwrap();
        assert_eq!(mark.loss, loss(&alone), "the very weights of expert {expert}");
        let routed = compare::evaluate(model, data, Some(&Route::fixed(&mixture, sites, expert)), options).unwrap();
        // A text's own mean is not the mean over all tokens.
        if routed.perplexity.is_none() {
            near("an expert as a route", mark.loss, routed.loss, 1e-5);
            assert_eq!(mark.accuracy, routed.accuracy, "the same answers");
        }
    }
    let merged = report.mark(PlanePoint::Merged).unwrap();
    assert_eq!(merged.loss, loss(&vec![1.0; m]));
    // Along the line from expert 0 to expert 1.
    let line = &report.lines[0];
    assert_eq!((line.from, line.to), (PlanePoint::Expert(0), PlanePoint::Expert(1)));
    for (i, found) in line.losses.iter().enumerate() {
        let share = i as f64 / (line.losses.len() - 1) as f64;
        let weights: Vec<f64> = (0..m).map(|e| [1.0 - share, share].get(e).copied().unwrap_or(0.0)).collect();
        near("on the line", *found, loss(&weights), 1e-6);
    }
    let straight = |i: usize| {
        let share = i as f64 / (line.losses.len() - 1) as f64;
        line.losses[i] - ((1.0 - share) * line.losses[0] + share * line.losses[line.losses.len() - 1])
    };
    let highest = (0..line.losses.len()).map(straight).fold(0.0, f64::max);
    near("the barrier", line.barrier.height, highest, 1e-9);
}

#[test]
fn corners_and_lines_are_models_merged_by_hand() {
    let plan = PlanePlan { grid: 3, probe_rows: ALL, ..PlanePlan::of(3) };
    for change in [Box::new(|_: &mut RunConfig| {}) as Box<dyn Fn(&mut RunConfig)>, Box::new(lora(false))] {
        let (_place, config, subject) = classifier(change);
        let ModelAndData::Classifier(model, task) = &subject else { panic!("a classifier") };
        let report = study(&subject, &config, &plan).unwrap();
        let go_on = |_: f64| true;
        check(model, &task.dev, &subject.options(&config, &go_on), &report);
        assert_eq!((report.losses.len(), report.accuracy.as_ref().map(Vec::len)), (9, Some(9)));
        assert_eq!((report.marks.len(), report.forwards), (5, 9 + 5 + 27));
        // The three points lie on their plane, the merge of three experts with two of them does too, the start does not.
        for mark in &report.marks {
            let on = mark.point != PlanePoint::Start;
            assert_eq!(mark.place.off < 1e-3 * mark.place.x.abs().max(1.0), on, "{mark:?}");
        }
        assert!(report.losses.iter().all(|loss| loss.is_finite()));
    }
    let (_place, config, subject) = writer("gpt2-tiny", lora(true));
    let ModelAndData::Lm(model, data) = &subject else { panic!("a writer") };
    let report = study(&subject, &config, &plan).unwrap();
    let go_on = |_: f64| true;
    check(model, &data.dev, &subject.options(&config, &go_on), &report);
}

#[test]
fn a_place_of_the_field_is_the_weighted_sum_of_the_points() {
    let (_place, config, subject) = classifier(|_| {});
    let ModelAndData::Classifier(model, task) = &subject else { panic!("a classifier") };
    let experts = [0, 1, 2].map(PlanePoint::Expert);
    let plan = PlanePlan { points: experts, grid: 4, probe_rows: ALL };
    let report = study(&subject, &config, &plan).unwrap();
    let go_on = |_: f64| true;
    let options = &subject.options(&config, &go_on);
    let corner = |point| report.mark(point).unwrap().place;
    let [a, b, c] = experts.map(corner);
    assert!(a.x.abs() < 1e-9 && a.y.abs() < 1e-9 && b.y.abs() < 1e-4 && c.y > 0.0);
    for (k, found) in report.losses.iter().enumerate() {
        let part = |ends: [f64; 2], i: usize| ends[0] + (ends[1] - ends[0]) * i as f64 / 3.0;
        let (x, y) = (part(report.x, k % 4), part(report.y, k / 4));
        let third = y / c.y;
        let second = (x - third * c.x) / b.x;
        let weights = [1.0 - second - third, second, third];
        let merged = model.merged(&MergeWeights::global(&weights).unwrap()).unwrap();
        let rows: Vec<usize> = (0..task.dev.len()).collect();
        let losses = merged.row_losses(&task.dev, &rows, None, options).unwrap();
        near("a place of the field", *found, losses.iter().sum::<f64>() / losses.len() as f64, 1e-4);
    }
    assert_eq!(report.lines.len(), 6, "and through the merged model");
}

#[test]
fn equal_experts_span_no_plane_and_have_no_barrier() {
    let (_place, config, subject) = classifier(|_| {});
    for param in subject.model().params().iter().filter(|param| param.bank) {
        let first = param.value.get(0).unwrap().copy().unwrap();
        for expert in 1..param.experts {
            param.value.slice_set(&first.unsqueeze(0).unwrap(), 0, expert).unwrap();
        }
    }
    let flat = study(&subject, &config, &PlanePlan { grid: 3, probe_rows: ALL, ..PlanePlan::of(3) });
    assert!(flat.unwrap_err().to_string().contains("span no plane"));
}

#[test]
fn wrong_plans_are_refused_and_a_cancelled_one_says_so() {
    let (_place, config, subject) = classifier(|_| {});
    let plan = PlanePlan { grid: 3, ..PlanePlan::of(3) };
    for (wrong, words) in [
        (PlanePlan { grid: 2, ..plan }, "choose 3 to 61"),
        (PlanePlan { probe_rows: 1, ..plan }, "two evaluation rows"),
        (PlanePlan { points: [PlanePoint::Expert(7), PlanePoint::Merged, PlanePoint::Start], ..plan }, "no expert 7"),
    ] {
        let refused = study(&subject, &config, &wrong).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let run = Run::start(prepare(&config).unwrap()).unwrap();
    let cancelled = plane_subject(&subject, &config, (run.dir(), 0), &plan, &|share| share < 0.5);
    assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn the_command_measures_a_trained_run_with_its_paths() {
    let place = Place::new();
    let dir = trained(&place, |config| {
        config.eval.eval_steps = 8;
        config.eval.save_total_limit = 5;
    });
    let run = dir.path().to_str().unwrap();
    let ask = |more: &[&str]| adamix(&place.path(""), &[&["inspect", run, "--checkpoint", "last"], more].concat());
    let found: Value = ask(&["--plane=0,2,start", "--grid", "3", "--probe-rows", "16", "--json"]).json().pop().unwrap();
    assert_eq!((&found["step"], &found["grid"], &found["probe_rows"]), (&24.into(), &3.into(), &16.into()));
    assert_eq!(found["points"], serde_json::json!(["0", "2", "start"]));
    assert_eq!((found["losses"].as_array().unwrap().len(), found["marks"].as_array().unwrap().len()), (9, 6));
    let paths = found["paths"].as_array().unwrap();
    let steps: Vec<u64> = paths[0]["steps"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert!(paths.len() == 4 && steps.first() == Some(&0) && steps.last() == Some(&24), "{steps:?}");
    assert!(steps.len() > 2, "checkpoints on the way: {steps:?}");
    // Expert 0 ends where it is marked: at the origin.
    let last = paths[0]["places"].as_array().unwrap().last().unwrap();
    assert!(last["x"].as_f64().unwrap().abs() < 1e-6 && last["off"].as_f64().unwrap() < 1e-4, "{last}");
    let printed = ask(&["--plane", "--grid", "3"]);
    for words in ["expert 0, expert 1, merged", "barrier", "off the plane"] {
        assert!(printed.done().contains(words), "{}", printed.out);
    }
    assert!(printed.err.contains("passes over at most 128 rows"), "{}", printed.err);
    for (arguments, code, words) in [
        (&["--plane=0,1"][..], 2, "not 2"),
        (&["--plane=0,1,9"], 1, "no expert 9"),
        (&["--plane", "--worth"], 2, "cannot be used with"),
        (&["--grid", "5"], 2, "--plane"),
    ] {
        let refused = ask(arguments);
        assert_eq!(refused.code, Some(code), "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(words), "{arguments:?}: {}", refused.err);
    }
}
