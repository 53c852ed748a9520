//! Experts moved from their mean.

use super::{classifier, lora, near, writer};
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::config::{Method, RunConfig};
use adamix::error::ErrorKind;
use adamix::eval::compare::{self, random_route};
use adamix::mixture::{MergeWeights, SIDES};
use adamix::model::Network as _;
use adamix::protocol::{SpreadPlan, SpreadReport};
use adamix::rng::SeedStream;
use adamix::tensor::to_f32;
use adamix::train::{Control, ModelAndData, NullObserver};
use adamix::workflow::run::{self, Run};
use adamix::workflow::studies::spread::spread_subject;

fn measure(subject: &ModelAndData, config: &RunConfig, plan: &SpreadPlan) -> SpreadReport {
    spread_subject(subject, config, plan, &|_| true).unwrap()
}

fn plan(alphas: &[f64], routes: usize) -> SpreadPlan {
    SpreadPlan { alphas: alphas.to_vec(), routes }
}

#[test]
fn without_spread_all_routes_are_the_merged_model_and_with_it_they_are_what_they_were() {
    let shared = |config: &mut RunConfig| config.mixture.sharing_up = true;
    let cases = [
        {
            let (_place, config, subject) = classifier(shared);
            (config, subject)
        },
        {
            let (_place, config, subject) = classifier(lora(false));
            (config, subject)
        },
        {
            let (_place, config, subject) = writer("llama-tiny", lora(false));
            (config, subject)
        },
    ];
    for (config, subject) in cases {
        let report = measure(&subject, &config, &plan(&[0.0, 1.0], 4));
        let [none, own] = &report.points[..] else { panic!("{report:?}") };
        assert!(none.jensen.abs() < 1e-6 && none.merging.abs() < 1e-6, "{none:?}");
        assert!(own.jensen > 1e-6, "{report:?}");
        assert_eq!((report.forwards, report.routes, report.rows), (9, 4, subject.dev().rows));
        // At 1 the routes are those of the comparison.
        let compared =
            subject.compare(&compare::EvalOptions { random_routes: 4, ..subject.options(&config, &|_| true) });
        let compared = compared.unwrap();
        near("merged", report.merged, compared.merged.loss, 1e-12);
        near("ensemble", own.ensemble, compared.ensemble.loss, 1e-5);
        let losses: Vec<f64> = compared.random.iter().map(|scores| scores.loss).collect();
        let mean = losses.iter().sum::<f64>() / 4.0;
        near("routes", own.routes, mean, 1e-5);
        let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / 3.0;
        near("standard error", own.routes_standard_error, (variance / 4.0).sqrt(), 1e-3);
        near("J", own.jensen, mean - compared.ensemble.loss, 1e-4);
        near("G", own.merging, mean - compared.merged.loss, 1e-4);
    }
}

#[test]
fn jensens_gap_grows_with_the_square_of_a_small_spread() {
    let (_place, config, subject) = classifier(|_| {});
    let report = measure(&subject, &config, &plan(&[0.1, 0.2], 8));
    let ratio = report.points[1].jensen / report.points[0].jensen;
    assert!((3.0..5.0).contains(&ratio), "{ratio}: {report:?}");
}

#[test]
fn the_merged_model_stays_while_the_experts_move() {
    let (_place, config, subject) = classifier(|_| {});
    let ModelAndData::Classifier(model, task) = &subject else { panic!("no classifier") };
    let rows: Vec<usize> = (0..8).collect();
    let batch = task.dev.batch(&rows);
    let uniform = MergeWeights::uniform(3);
    let logits = |alpha: f64| model.spread(alpha).unwrap().merged(&uniform).unwrap().logits(&batch, None).unwrap();
    let own = model.merged(&uniform).unwrap().logits(&batch, None).unwrap();
    for alpha in [0.0, 0.5, 2.0] {
        let moved = logits(alpha);
        assert!(moved.iter().zip(&own).all(|(a, b)| (a - b).abs() < 1e-5), "alpha {alpha}");
    }
    // Each weight: mean + alpha (weight - mean); a shared side stays.
    let far = model.spread(2.0).unwrap();
    for (site, moved) in model.sites().into_iter().zip(far.sites()) {
        for side in SIDES {
            let [before, after] = [site, moved].map(|site| to_f32(site.bank(side).weight()).unwrap());
            let n = before.len() / site.bank(side).experts();
            if n == before.len() {
                assert_eq!(before, after);
                continue;
            }
            for i in 0..n {
                let mean = (0..3).map(|e| f64::from(before[e * n + i])).sum::<f64>() / 3.0;
                for e in 0..3 {
                    near("weight", f64::from(after[e * n + i]), 2.0 * f64::from(before[e * n + i]) - mean, 1e-6);
                }
            }
        }
    }
    // The control: a route is not what it was.
    let route = random_route(&config.mixture, model.sites().len(), SeedStream::new(0), 0);
    let [near_by, moved] = [model, &far].map(|model| model.logits(&batch, Some(&route)).unwrap());
    assert!(near_by.iter().zip(&moved).any(|(a, b)| (a - b).abs() > 1e-3));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let (_place, config, subject) = classifier(|_| {});
    let refused = |plan: &SpreadPlan| spread_subject(&subject, &config, plan, &|_| true).unwrap_err().to_string();
    for wrong in [plan(&[], 2), plan(&[1.0], 0), plan(&[-1.0], 2), plan(&[f64::NAN], 2)] {
        assert!(refused(&wrong).contains("give factors of at least 0 and one route or more"), "{wrong:?}");
    }
    let stopped = spread_subject(&subject, &config, &SpreadPlan::of(3, 2), &|share| share < 0.5).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
    let (_place, config, subject) = classifier(|config| config.model.method = Method::HeadOnly);
    let err = spread_subject(&subject, &config, &SpreadPlan::default(), &|_| true).unwrap_err().to_string();
    assert!(err.contains("no experts to move apart"), "{err}");
}

#[test]
fn the_command_prints_both_curves() {
    let place = Place::new();
    let mut run = Run::start(run::prepare(&place.config(4)).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().path().to_str().unwrap().to_owned();
    let found = adamix(&place.path(""), &["inspect", &dir, "--spread=3", "--random-routes", "2", "--json"])
        .json()
        .pop()
        .unwrap();
    let points = found["points"].as_array().unwrap();
    let alphas: Vec<f64> = points.iter().map(|point| point["alpha"].as_f64().unwrap()).collect();
    assert_eq!(alphas, [0.0, 1.0, 2.0]);
    assert!(points[0]["jensen"].as_f64().unwrap().abs() < 1e-6 && found["forwards"] == 7);
    let text = adamix(&place.path(""), &["inspect", &dir, "--spread"]);
    for words in ["alpha", "2.00", "merged: loss", "of 8 routes"] {
        assert!(text.done().contains(words), "{words}: {}", text.out);
    }
}
