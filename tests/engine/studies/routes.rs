//! The loss along every route, and where routes part on one example: against one forward for each.

use super::{classifier, lora, near, writer};
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::config::{MixtureKind, RunConfig};
use adamix::data::text::TextBatch;
use adamix::error::ErrorKind;
use adamix::eval::Measured;
use adamix::eval::compare::{EvalOptions, random_route};
use adamix::mixture::{MergeWeights, Pick, Route};
use adamix::model::{Network, Packed};
use adamix::protocol::*;
use adamix::rng::SeedStream;
use adamix::tensor::{Device, Tensor, log_softmax, to_f32};
use adamix::train::{Control, ModelAndData, NullObserver};
use adamix::workflow::run::{Run, prepare};
use adamix::workflow::studies::fan::fan_subject;
use adamix::workflow::studies::grid::grid_subject;
use adamix::workflow::studies::routes::{RoutesWork, routes_subject};

/// A route from the experts of what is drawn; one side is shared.
fn route_of(model: &dyn Network, report: &RoutesReport, experts: &[u8]) -> Route {
    let (sites, names) = (model.sites().len(), model.site_names());
    let mut picks = vec![Pick::One(0); sites * 2];
    for (factor, &expert) in report.factors.iter().zip(experts) {
        let site = names.iter().position(|name| *name == factor.module).unwrap();
        picks[site * 2 + factor.side as usize] = Pick::One(expert);
    }
    Route { passes: 1, sites, picks }
}

fn one_by_one<M: Measured>(model: &M, data: &M::Rows, options: &EvalOptions<'_>, report: &RoutesReport) {
    let rows: Vec<usize> = (0..M::rows(data)).collect();
    let mean = |model: &M, route: Option<&Route>| {
        let losses = model.row_losses(data, &rows, route, options).unwrap();
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let mut spread = 0.0f64;
    for measured in &report.routes {
        let want = mean(model, Some(&route_of(model, report, &measured.experts)));
        assert!((measured.loss - want).abs() < 1e-6, "{:?}: {} {want}", measured.experts, measured.loss);
        spread = spread.max((measured.loss - report.routes[0].loss).abs());
    }
    assert!(spread > 1e-4, "all routes are the same, so the comparison could not fail");
    let merged = model.merged(&MergeWeights::own(model.mixture()).unwrap()).unwrap();
    near("merged", report.merged, mean(&merged, None), 1e-9);
    let losses: Vec<f64> = report.routes.iter().map(|route| route.loss).collect();
    near("mean", report.mean, losses.iter().sum::<f64>() / losses.len() as f64, 1e-12);
    assert_eq!(report.below_merged, losses.iter().filter(|loss| **loss < report.merged).count());
}

/// All routes of a subject on all rows, compared with one evaluation for each.
fn check(subject: &ModelAndData, config: &RunConfig, passes: (usize, usize)) -> RoutesReport {
    let report = routes_subject(subject, config, &RoutesPlan { routes: None, probe_rows: 1000 }, &|_| true).unwrap();
    assert!(report.all && report.possible == Some(report.routes.len() as u64));
    assert_eq!((report.layer_passes, report.without_sharing), passes);
    let mut experts: Vec<&Vec<u8>> = report.routes.iter().map(|route| &route.experts).collect();
    experts.sort_unstable();
    experts.dedup();
    assert_eq!(experts.len(), report.routes.len(), "each route once");
    let go_on = |_: f64| true;
    let options = subject.options(config, &go_on);
    match subject {
        ModelAndData::Classifier(model, task) => {
            one_by_one(model, &task.dev, &options, &report);
            let routes: Vec<Route> =
                report.routes.iter().map(|route| route_of(model, &report, &route.experts)).collect();
            let (_, mean) = model.measure(&task.dev, &routes.iter().map(Some).collect::<Vec<_>>(), &options).unwrap();
            near("ensemble", report.ensemble, mean.loss, 1e-6);
        }
        ModelAndData::Lm(model, data) => one_by_one(model, &data.dev, &options, &report),
    }
    let shares: f64 = report.factors.iter().filter_map(|factor| factor.share).sum();
    assert!((shares - 1.0).abs() < 1e-9 && report.explained.is_some_and(|share| (0.0..=1.0).contains(&share)));
    report
}

#[test]
fn sharing_layers_gives_what_one_route_at_a_time_gives() {
    // Two layers of three experts, the up side shared: 1 + 3 layers instead of 18.
    let (_place, config, subject) = classifier(|_| {});
    check(&subject, &config, (4, 18));
    // Nothing shared: 81 routes, each layer has nine ways.
    let (_place, config, subject) = classifier(|config| config.mixture.sharing_up = false);
    check(&subject, &config, (1 + 9, 162));
    // A LoRA is part of its layer: every way of a layer is a pass. Queries and values: nine ways a layer.
    let (_place, config, subject) = classifier(lora(true));
    check(&subject, &config, (9 + 81, 162));
    for family in ["gpt2-tiny", "llama-tiny"] {
        let (_place, config, subject) = writer(family, |config| {
            (config.mixture.kind, config.mixture.adapter_size) = (MixtureKind::Adapter, 4);
            config.mixture.lora_target.clear();
        });
        check(&subject, &config, (4, 18));
    }
}

#[test]
fn equal_experts_have_no_spread_and_a_larger_mixture_is_sampled() {
    let (_place, config, subject) = classifier(|_| {});
    for param in subject.model().params().iter().filter(|param| param.experts > 1) {
        let first = param.value.narrow(0, 0, 1).unwrap();
        let values: Vec<f32> = first.flatten_all().unwrap().to_vec1().unwrap();
        let first = Tensor::from_vec(values, first.dims(), &Device::Cpu).unwrap();
        for expert in 1..param.experts {
            param.value.slice_set(&first, 0, expert).unwrap();
        }
    }
    let report = routes_subject(&subject, &config, &RoutesPlan::default(), &|_| true).unwrap();
    assert_eq!((report.sd, report.range[0], report.explained), (0.0, report.range[1], None));
    near("merged equal experts", report.merged, report.mean, 1e-6);
    near("their ensemble", report.ensemble, report.mean, 1e-6);

    // 8 experts on both sides of two layers: 4096 routes, the most that are all measured; one more expert is too many.
    let work = |experts: usize, routes: Option<usize>| {
        let (_place, config, subject) = classifier(|config| {
            (config.mixture.num_experts, config.mixture.sharing_up) = (experts, false);
        });
        RoutesWork::of(&subject, &config, &RoutesPlan { routes, probe_rows: 8 }).unwrap()
    };
    let all = work(8, None);
    assert_eq!((all.routes.len(), all.all, all.layer_passes), (4096, true, 1 + 64));
    let many = work(9, None);
    assert_eq!((many.routes.len(), many.all, many.possible), (64, false, Some(6561)));
    let asked = work(8, Some(40));
    assert_eq!((asked.routes.len(), asked.all), (40, false));

    let (_place, config, subject) = classifier(|_| {});
    let sampled =
        routes_subject(&subject, &config, &RoutesPlan { routes: Some(30), probe_rows: 12 }, &|_| true).unwrap();
    assert!(!sampled.all && sampled.routes.len() == 30 && sampled.probe_rows == 12);
    assert!(sampled.explained.is_some() && sampled.factors.iter().all(|factor| factor.share.is_none()));
    let cancelled = routes_subject(&subject, &config, &RoutesPlan::default(), &|_| false).unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
}

fn dev(row: usize) -> TryInput {
    TryInput::Row { split: Split::Evaluation, row }
}

fn fan(subject: &ModelAndData, config: &RunConfig, input: TryInput) -> FanReport {
    let plan = FanPlan { input, routes: 5, seed: config.train.seed };
    fan_subject(subject, config, (&plan, 3), &|_| true).unwrap()
}

/// Ends and increments of a fan. `of`: the answer of a model along a route.
#[track_caller]
fn check_ends<M: Network>(model: &M, report: &FanReport, seed: u64, of: &dyn Fn(&M, Option<&Route>) -> f64) {
    let (mixture, sites) = (model.mixture().unwrap(), model.sites().len());
    let merged = of(&model.merged(&MergeWeights::own(Some(mixture)).unwrap()).unwrap(), None);
    assert_eq!((report.lines.len(), report.layers), (5, 2));
    for (number, line) in report.lines.iter().enumerate() {
        let route = random_route(mixture, sites, SeedStream::new(seed), number);
        assert!((line.at[0] - merged).abs() < 1e-5, "{number}: begins at {}, merged is {merged}", line.at[0]);
        let whole = of(model, Some(&route));
        assert!((line.at[2] - whole).abs() < 1e-5, "{number}: ends at {}, the route gives {whole}", line.at[2]);
        let sum: f64 = line.increments().iter().sum();
        assert!((sum - (line.at[2] - line.at[0])).abs() < 1e-12, "increments add up");
        let experts: Vec<Pick> = line.experts.iter().map(|&expert| Pick::One(expert)).collect();
        assert_eq!(experts, route.picks);
        // In the middle: the lower layer's modules are one expert, the upper ones merged.
        let m = mixture.num_experts;
        let lists: Vec<Vec<f64>> = (0..sites)
            .map(|site| match (site < sites / 2, &route.picks[site * 2]) {
                (true, Pick::One(expert)) => (0..m).map(|e| f64::from(u8::from(e == usize::from(*expert)))).collect(),
                _ => vec![1.0; m],
            })
            .collect();
        let half = of(&model.merged(&MergeWeights::per_site(&lists).unwrap()).unwrap(), None);
        assert!((line.at[1] - half).abs() < 1e-5, "{number}: {} in the middle instead of {half}", line.at[1]);
    }
    let moved = report.lines.iter().map(|line| line.increments()[0].powi(2)).sum::<f64>() / 5.0;
    near("moved by the lowest layer", report.layer_moves[0], moved.sqrt(), 1e-12);
    assert!(report.lines.iter().any(|line| (line.at[2] - line.at[0]).abs() > 1e-4), "no route parts");
}

#[test]
fn a_fan_goes_from_the_merged_answer_to_each_routes_own() {
    for change in [Box::new(|_: &mut RunConfig| {}) as Box<dyn Fn(&mut RunConfig)>, Box::new(lora(true))] {
        let (_place, config, subject) = classifier(change);
        let report = fan(&subject, &config, dev(3));
        let ModelAndData::Classifier(model, task) = &subject else { panic!("no classifier") };
        let FanScale::LogOdds { class } = &report.scale else { panic!("{:?}", report.scale) };
        let class = task.labels.iter().position(|label| label == class).unwrap();
        check_ends(model, &report, config.train.seed, &|model, route| {
            let logits = model.logits(&task.dev.batch(&[3]), route).unwrap();
            let p: Vec<f64> = log_softmax(&logits.iter().map(|&z| f64::from(z)).collect::<Vec<_>>());
            (p[class].exp() / (1.0 - p[class].exp())).ln()
        });
        // Two layers: 2 on the route, 2 + 1 merged, of five routes.
        assert_eq!((report.layer_passes, report.weights_step), (5 * (2 + 3), 3));
        let typed = fan(&subject, &config, TryInput::Text { text: report.text.clone(), pair: None });
        assert_eq!(typed.lines, report.lines, "the same words give the same");
        let err = fan_subject(&subject, &config, (&FanPlan { input: dev(99), routes: 2, seed: 0 }, 0), &|_| true);
        assert!(err.unwrap_err().to_string().contains("choose 1 to 48"));
    }
}

#[test]
fn a_language_model_is_followed_on_a_row_and_on_a_beginning() {
    let (_place, config, subject) = writer("llama-tiny", lora(true));
    let ModelAndData::Lm(model, data) = &subject else { panic!("no language model") };
    let go_on = |_: f64| true;
    let options = subject.options(&config, &go_on);
    let row = fan(&subject, &config, dev(2));
    assert_eq!(row.scale, FanScale::LearnedTokens { tokens: data.dev.encoded[2].learned() });
    check_ends(model, &row, config.train.seed, &|model, route| {
        -model.row_losses(&data.dev, &[2], route, &options).unwrap()[0]
    });

    let text = "red and the".to_owned();
    let begun = fan(&subject, &config, TryInput::Text { text: text.clone(), pair: None });
    let FanScale::NextToken { token } = &begun.scale else { panic!("{:?}", begun.scale) };
    let codec = &data.encoder.codec;
    let ids = codec.encode(&text).unwrap();
    let batch = TextBatch { offsets: vec![0, ids.len()], learn: vec![false; ids.len()], rows: vec![0], ids };
    let merged = model.merged_own().unwrap();
    let log_p = |model: &adamix::model::CausalLm, route: Option<&Route>| {
        let logits = model.logits(Packed::from(&batch), Some(&[batch.ids.len() as u32 - 1]), route).unwrap();
        log_softmax(&to_f32(&logits).unwrap().iter().map(|&z| f64::from(z)).collect::<Vec<_>>())
    };
    let best = likeliest(&log_p(&merged, None));
    assert_eq!(*token, codec.piece(best as u32));
    check_ends(model, &begun, config.train.seed, &|model, route| log_p(model, route)[best]);
    let empty = FanPlan { input: TryInput::default(), routes: 1, seed: 0 };
    assert!(fan_subject(&subject, &config, (&empty, 0), &|_| true).unwrap_err().to_string().contains("empty"));
}

#[test]
fn a_pinned_module_is_a_model_of_those_experts_only() {
    let (_place, config, subject) = classifier(|_| {});
    let ModelAndData::Classifier(model, task) = &subject else { panic!("no classifier") };
    let plan = |module: usize, route: usize| GridPlan { input: dev(5), module, route, seed: 7 };
    let grid = |plan: &GridPlan| grid_subject(&subject, &config, (plan, 3), &|_| true).unwrap();
    for (module, number) in [(0, 0), (1, 0), (1, 6)] {
        let report = grid(&plan(module, number));
        assert_eq!((report.experts, report.cells.len(), report.weights_step), ([3, 1], 3, 3));
        let route = random_route(model.mixture().unwrap(), 2, SeedStream::new(7), number);
        assert_eq!(Pick::One(report.drawn[0]), route.picks[module * 2]);
        let mut spread = 0.0f64;
        for (expert, cell) in report.cells.iter().enumerate() {
            // A model in which only these experts are left: merged with all weight on them.
            let lists: Vec<Vec<f64>> = (0..2)
                .map(|site| {
                    let Pick::One(other) = route.picks[site * 2] else { panic!("not for the batch") };
                    let own = if site == module { expert } else { usize::from(other) };
                    (0..3).map(|e| f64::from(u8::from(e == own))).collect()
                })
                .collect();
            let alone = model.merged(&MergeWeights::per_site(&lists).unwrap()).unwrap();
            let logits = alone.logits(&task.dev.batch(&[5]), None).unwrap();
            let want = log_softmax(&logits.iter().map(|&z| f64::from(z)).collect::<Vec<_>>());
            for (got, want) in cell.iter().zip(&want) {
                assert!((got - want.exp()).abs() < 1e-5, "module {module}, expert {expert}: {got} {}", want.exp());
            }
            spread = spread.max((cell[0] - report.cells[0][0]).abs());
        }
        assert!(spread > 1e-4, "all experts are the same");
        assert_eq!(report.shown(1, 0), Some(report.cells[1][likeliest(&report.merged)]));
    }
    let (one, other) = (grid(&plan(0, 0)), grid(&plan(0, 6)));
    assert!(one.merged == other.merged && one.cells != other.cells, "the dice roll the other modules");
    let err = grid_subject(&subject, &config, (&plan(2, 0), 0), &|_| true).unwrap_err();
    assert!(err.to_string().contains("choose 0 to 1"), "{err}");

    // Nothing shared: a language model on a row, every pair of experts.
    let (_place, config, subject) = writer("gpt2-tiny", lora(false));
    let ModelAndData::Lm(model, data) = &subject else { panic!("no language model") };
    let report = grid_subject(&subject, &config, (&plan(1, 2), 0), &|_| true).unwrap();
    assert_eq!((report.experts, report.cells.len(), report.labels.len()), ([3, 3], 9, 0));
    let go_on = |_: f64| true;
    let options = subject.options(&config, &go_on);
    let route = random_route(model.mixture().unwrap(), model.sites().len(), SeedStream::new(7), 2);
    for (cell, got) in report.cells.iter().enumerate() {
        let mut pinned = route.clone();
        (pinned.picks[2], pinned.picks[3]) = (Pick::One((cell / 3) as u8), Pick::One((cell % 3) as u8));
        let want = -model.row_losses(&data.dev, &[5], Some(&pinned), &options).unwrap()[0];
        assert!((got[0] - want).abs() < 1e-5, "cell {cell}: {} {want}", got[0]);
    }
}

#[test]
fn the_commands_measure_routes_and_follow_them() {
    let place = Place::new();
    let mut config = place.config(8);
    config.mixture.num_experts = 3;
    let mut run = Run::start(prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let (home, dir) = (place.path(""), run.dir().path().to_str().unwrap().to_owned());
    let ran = adamix(&home, &["inspect", &dir, "--routes", "--probe-rows", "20", "--json"]);
    assert!(ran.err.contains("9 routes: 4 layer passes over at most 20 rows, 18 without sharing"), "{}", ran.err);
    let json = ran.json().pop().unwrap();
    assert_eq!((&json["all"], &json["probe_rows"], &json["possible"]), (&true.into(), &20.into(), &9.into()));
    assert!(json["step"].as_u64().unwrap() > 0 && json["routes"].as_array().unwrap().len() == 9);
    let words = adamix(&home, &["inspect", &dir, "--routes"]);
    for part in ["all 9 routes, loss in nats", "of 9 routes are below", "layers.0.ffn.down", "share of the variance"] {
        assert!(words.done().contains(part), "{part}: {}", words.out);
    }
    let words = adamix(&home, &["inspect", &dir, "--routes=5"]);
    assert!(words.done().contains("5 random routes of 9"), "{}", words.out);
    let both = adamix(&home, &["inspect", &dir, "--routes", "--averages"]);
    assert_eq!(both.code, Some(2), "{}", both.err);

    let json = adamix(&home, &["try", &dir, "--row", "4", "--fan", "--random-routes", "3", "--json"]).json().pop();
    let json = json.unwrap();
    assert_eq!(json["fan"]["lines"].as_array().unwrap().len(), 3);
    assert_eq!(json["fan"]["lines"][0]["at"].as_array().unwrap().len(), 3);
    let words = adamix(&home, &["try", &dir, "--text=good film", "--fan"]);
    for part in ["log-odds of", "+ layer 1", "random route 15", "moved by the layer"] {
        assert!(words.done().contains(part), "{part}: {}", words.out);
    }
    let words = adamix(&home, &["try", &dir, "--row", "4", "--pin", "1", "--route", "2"]);
    for part in ["with layers.1.ffn on each pair", "random route 2", "up (shared)", "* 0.", "down 2"] {
        assert!(words.done().contains(part), "{part}: {}", words.out);
    }
}
