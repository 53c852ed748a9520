//! What is measured, computed once more in the simplest way.

use crate::support::fill;
use crate::support::texts::TextPlace;
use adamix::config::RunConfig;
use adamix::data::text::{TextData, TextDataset};
use adamix::error::ErrorKind;
use adamix::eval::Scores;
use adamix::eval::compare::{self, EvalOptions, random_route};
use adamix::mixture::Route;
use adamix::model::{CausalLm, Network as _, Packed};
use adamix::rng::SeedStream;
use adamix::train::ModelAndData;
use adamix::workflow::run;
use std::cell::Cell;

fn opened(config: &RunConfig) -> (CausalLm, TextData) {
    let ModelAndData::Lm(model, texts) = run::prepare(config).unwrap().subject else { panic!("not a language model") };
    // Experts that say something.
    fill(model.params(), 0.5);
    (model, texts)
}

/// Probabilities before every learned token and the token, one text at a time.
fn probabilities(model: &CausalLm, data: &TextDataset, route: Option<&Route>) -> Vec<(Vec<f64>, usize)> {
    let mut all = Vec::new();
    for text in &data.encoded {
        let batch = Packed { ids: &text.ids, offsets: &[0, text.ids.len()] };
        let logits: Vec<Vec<f32>> = model.logits(batch, None, route).unwrap().to_vec2().unwrap();
        for at in (1..text.ids.len()).filter(|&at| text.learn[at]) {
            let exps: Vec<f64> = logits[at - 1].iter().map(|&z| f64::from(z).exp()).collect();
            let sum: f64 = exps.iter().sum();
            all.push((exps.iter().map(|e| e / sum).collect(), text.ids[at] as usize));
        }
    }
    all
}

fn by_hand(rows: &[(Vec<f64>, usize)]) -> [f64; 3] {
    let n = rows.len() as f64;
    let loss = rows.iter().map(|(p, target)| -p[*target].ln()).sum::<f64>() / n;
    let best = |p: &[f64]| (0..p.len()).fold(0, |best, v| if p[v] > p[best] { v } else { best });
    let right = rows.iter().filter(|(p, target)| best(p) == *target).count() as f64;
    [loss, loss.exp(), right / n]
}

#[track_caller]
fn near(what: &str, scores: &Scores, want: [f64; 3]) {
    let got = [scores.loss, scores.perplexity.unwrap(), scores.token_accuracy.unwrap()];
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-4 * want.max(1.0), "{what}: {got} instead of {want}");
    }
    assert_eq!(scores.primary, scores.loss);
    assert!(scores.accuracy.is_none());
}

#[test]
fn losses_perplexities_and_the_ensemble_are_what_one_computes_by_hand() {
    for family in ["gpt2-tiny", "llama-tiny"] {
        let place = TextPlace::new(family);
        let config = place.config(4);
        let (model, texts) = opened(&config);
        let (dev, seed) = (&texts.dev, SeedStream::new(config.train.seed));
        let options = |batch_size, go_on| EvalOptions {
            metric: adamix::config::Metric::Loss,
            batch_size,
            random_routes: 4,
            seed,
            go_on,
        };
        let report = compare::compare(&model, dev, &options(7, &|_| true)).unwrap();
        near("merged", &report.merged, by_hand(&probabilities(&model.merged_own().unwrap(), dev, None)));
        near("base", report.base.as_ref().unwrap(), by_hand(&probabilities(&model.bare(), dev, None)));
        for (expert, scores) in report.fixed.iter().enumerate() {
            let route = Route::fixed(&config.mixture, model.sites().len(), expert);
            near(&format!("expert {expert}"), scores, by_hand(&probabilities(&model, dev, Some(&route))));
        }
        let routes: Vec<Route> =
            (0..4).map(|index| random_route(&config.mixture, model.sites().len(), seed, index)).collect();
        let each: Vec<_> = routes.iter().map(|route| probabilities(&model, dev, Some(route))).collect();
        for (scores, rows) in report.random.iter().zip(&each) {
            near("a random route", scores, by_hand(rows));
        }
        let mean = (0..each[0].len()).map(|i| {
            let p = (0..each[0][i].0.len()).map(|v| each.iter().map(|way| way[i].0[v]).sum::<f64>() / 4.0);
            (p.collect(), each[0][i].1)
        });
        near("ensemble", &report.ensemble, by_hand(&mean.collect::<Vec<_>>()));
        assert_ne!(report.random[0], report.random[1]);
        let one_by_one = compare::compare(&model, dev, &options(1, &|_| true)).unwrap();
        assert!((one_by_one.ensemble.loss - report.ensemble.loss).abs() < 1e-5, "batches change nothing");
    }
}

#[test]
fn measuring_says_how_far_it_is_and_can_be_cancelled() {
    let place = TextPlace::new("gpt2-tiny");
    let (model, texts) = opened(&place.config(4));
    let shares = Cell::new(Vec::new());
    let heard = |share: f64| {
        let mut list = shares.take();
        list.push(share);
        shares.set(list);
        true
    };
    let options = |go_on| EvalOptions {
        metric: adamix::config::Metric::Loss,
        batch_size: 8,
        random_routes: 2,
        seed: SeedStream::new(1),
        go_on,
    };
    compare::compare(&model, &texts.dev, &options(&heard)).unwrap();
    let heard = shares.take();
    assert!(heard.windows(2).all(|w| w[0] <= w[1]) && heard[0] > 0.0, "{heard:?}");
    assert!((heard[heard.len() - 1] - 1.0).abs() < 1e-9, "{heard:?}");
    let err = compare::compare(&model, &texts.dev, &options(&|share| share < 0.5)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Cancelled);
}

#[test]
fn one_expert_is_a_plain_lora() {
    let place = TextPlace::new("llama-tiny");
    let mut config = place.config(4);
    (config.mixture.num_experts, config.mixture.consistency) = (1, false);
    let (model, texts) = opened(&config);
    let batch = texts.dev.batch(&[0, 1, 2]);
    let packed = Packed { ids: &batch.ids, offsets: &batch.offsets };
    let route = Route::fixed(&config.mixture, model.sites().len(), 0);
    let values = |model: &CausalLm, route: Option<&Route>| -> Vec<f32> {
        model.logits(packed, None, route).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(values(&model.merged_own().unwrap(), None), values(&model, Some(&route)));
    assert_ne!(values(&model.bare(), None), values(&model, Some(&route)));
}
