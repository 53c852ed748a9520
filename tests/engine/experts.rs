//! What is shown of experts and routes: against numbers worked out by hand and against a real model's start.

use crate::support::tiny;
use adamix::analysis::expert_stats::{CosineOf, HostBank};
use adamix::analysis::routing_stats::RouteCounts;
use adamix::config::{AdapterInit, Method, MixtureConfig, RoutingPolicy, RunConfig};
use adamix::mixture::{Pick, Route, RouteShape, Side};
use adamix::model::{Classifier, Family};
use adamix::protocol::snapshots::{DistanceSample, HeatMap, MapOf};
use adamix::rng::{Purpose, SeedStream};
use adamix::train::checkpoint::host_tensors;
use adamix::workflow::snapshot::{Banks, distances, experts};

fn bank(experts: usize, rows: usize, cols: usize, weight: Vec<f32>) -> HostBank {
    HostBank { experts, rows, cols, weight, bias: vec![0.0; experts * rows] }
}

fn one_site(down: HostBank, up: HostBank) -> Banks {
    Banks { sites: vec!["layers.0.ffn".to_owned()], sides: vec![down, up] }
}

fn values(map: &HeatMap, of: MapOf) -> Vec<f32> {
    map.cells(of).iter().map(|cell| cell.value(of)).collect()
}

#[test]
fn numbers_of_experts_by_hand() {
    // Two experts of one 1 x 2 matrix: [3, 4] and [0, 2]; they started at [0, 4] and [0, 0].
    let mut down = bank(2, 1, 2, vec![3.0, 4.0, 0.0, 2.0]);
    down.bias = vec![-6.0, 0.0];
    let start = one_site(bank(2, 1, 2, vec![0.0, 4.0, 0.0, 0.0]), bank(1, 2, 1, vec![1.0, 1.0]));
    let now = one_site(down, bank(1, 2, 1, vec![1.0, 1.0]));
    let snapshot = experts(&now, &start, 7, (0, Some(Side::Down)));
    assert_eq!((snapshot.step, snapshot.sides.len(), snapshot.heat_maps.len()), (7, 2, 2));
    let side = &snapshot.sides[0];
    assert_eq!((side.rows, side.cols, side.range), (1, 2, [0.0, 4.0]));
    let first = &side.experts[0];
    assert_eq!((first.norm, first.bias_norm, first.mean, first.std), (5.0, 6.0, 3.5, 0.5));
    assert_eq!((first.max_abs, first.from_start, side.experts[1].from_start), (4.0, 3.0, 2.0));
    assert_eq!(first.histogram.iter().sum::<u32>(), 2);
    assert_eq!((first.histogram[48], first.histogram[63]), (1, 1), "3 of 0 to 4 is bin 48, the largest the last");
    // Changes [3, 0] and [0, 2] are orthogonal, though the weights themselves are not.
    assert_eq!((side.cosine_of, &side.cosine[..]), (CosineOf::Change, &[1.0, 0.0, 0.0, 1.0][..]));
    assert_eq!(side.distance, [0.0, 13f32.sqrt(), 13f32.sqrt(), 0.0]);
    assert_eq!(values(&snapshot.heat_maps[1], MapOf::Weights), [0.0, 2.0]);
    // The mean is [1.5, 3]: experts lie at [1.5, 1] and [-1.5, -1] from it.
    assert_eq!(values(&snapshot.heat_maps[1], MapOf::FromMean), [-1.5, -1.0]);
    assert_eq!(values(&snapshot.heat_maps[0], MapOf::FromStart), [3.0, 0.0]);
    assert_eq!((first.from_mean, side.experts[1].from_mean), (3.25f32.sqrt(), 3.25f32.sqrt()));
    // |[1.5, 3]| / sqrt((25 + 4) / 2)
    let q = (11.25f64 / 14.5).sqrt();
    assert!((side.consensus.unwrap() - q).abs() < 1e-12 && snapshot.sides[1].consensus.is_none());
    let directions = snapshot.directions.as_ref().unwrap();
    assert_eq!(directions.experts[0].as_ref().unwrap().singular_values, [5.0]);
    // Each expert spans a line; their cosine is 8 / (5 * 2).
    assert!((directions.overlap[1].unwrap() - 0.64).abs() < 1e-12);
    let sample = distances(&now, &start, 7);
    let consensus = vec![side.consensus, None];
    let pairwise = vec![13f32.sqrt(), 0.0];
    assert_eq!(sample, DistanceSample { step: 7, pairwise, from_start: vec![2.5, 0.0], consensus });
}

#[test]
fn at_the_start_cosines_are_those_of_the_weights() {
    let start = one_site(bank(2, 1, 2, vec![1.0, 0.0, 1.0, 1.0]), bank(1, 2, 1, vec![1.0, 1.0]));
    let snapshot = experts(&start, &start, 0, (0, None));
    assert_eq!(snapshot.sides[0].cosine_of, CosineOf::Weights);
    assert!((snapshot.sides[0].cosine[1] - 0.5f32.sqrt()).abs() < 1e-6);
    assert!(snapshot.heat_maps.is_empty(), "nobody asked for a heat map");
}

#[test]
fn an_expert_that_never_moved_has_no_direction_and_a_poisoned_one_does_no_harm() {
    let start = one_site(bank(2, 1, 2, vec![1.0, 0.0, 1.0, 1.0]), bank(1, 2, 1, vec![0.0, 0.0]));
    let now = one_site(bank(2, 1, 2, vec![1.0, 0.0, 1.0, 3.0]), bank(1, 2, 1, vec![f32::NAN, f32::NAN]));
    let snapshot = experts(&now, &start, 1, (0, Some(Side::Up)));
    assert_eq!(snapshot.sides[0].cosine, [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(snapshot.sides[1].range, [0.0, 0.0]);
    assert_eq!(snapshot.sides[1].experts[0].histogram.iter().sum::<u32>(), 0);
    assert!(values(&snapshot.heat_maps[0], MapOf::Weights).iter().all(|value| value.is_nan()), "NaN must be seen");
}

fn model(config: &RunConfig) -> Classifier {
    tiny::classifier(config, Family::Bert, 2)
}

#[test]
fn the_start_is_known_without_the_model() {
    let mut config = tiny::config(11);
    for init in [AdapterInit::Normal, AdapterInit::Identity] {
        config.mixture.init = init;
        let model = model(&config);
        let banks = Banks::of(&model).unwrap();
        assert_eq!(banks.sides.iter().map(|bank| bank.experts).collect::<Vec<_>>(), [4, 1, 4, 1, 4, 1]);
        assert_eq!(banks.at_start(&config), banks, "{init:?}");
        let tensors = host_tensors(&model).unwrap();
        assert_eq!(Banks::of_tensors(&tensors).unwrap(), banks);
    }
    let banks = Banks::of(&model(&tiny::config(11))).unwrap();
    assert_ne!(banks.at_start(&tiny::config(12)), banks, "the seed has no effect");
}

#[test]
fn a_model_without_a_mixture_has_no_banks() {
    let model = model(&tiny::with_method(tiny::config(0), Method::Full));
    assert!(Banks::of(&model).unwrap().is_empty());
    assert!(Banks::of_tensors(&host_tensors(&model).unwrap()).unwrap().is_empty());
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("layers.{i}.ffn")).collect()
}

#[test]
fn routes_are_counted_over_passes_and_micro_batches() {
    let mixture = MixtureConfig { num_experts: 3, ..MixtureConfig::default() };
    let mut tally = RouteCounts::new(&mixture, names(1));
    let route = |a: u8, b: u8| Route {
        passes: 2,
        sites: 1,
        picks: vec![Pick::One(a), Pick::One(0), Pick::One(b), Pick::One(0)],
    };
    tally.add(1, &route(2, 0));
    tally.add(1, &route(2, 1));
    tally.add(2, &route(2, 2));
    let snapshot = tally.snapshot();
    assert_eq!(snapshot.counts, [vec![1, 1, 4], vec![6]]);
    assert_eq!(snapshot.draws, [6, 6]);
    assert_eq!(snapshot.current, [vec![0.0, 0.0, 1.0], vec![1.0], vec![0.0, 0.0, 1.0], vec![1.0]]);
    let recent: Vec<_> = snapshot.recent.iter().map(|r| (r.step, r.experts.clone())).collect();
    assert_eq!(recent, [(1, vec![2, 0, 1, 0]), (2, vec![2, 0, 2, 0])]);
    let z = snapshot.z_scores();
    let deviation = (6.0f64 / 3.0 * (2.0 / 3.0)).sqrt();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(z[0].as_ref().is_some_and(|z| close(z[2], 2.0 / deviation) && close(z[0], -1.0 / deviation)));
    assert_eq!(z[1], None, "a shared side is not drawn");
    tally.add(3, &Route { passes: 1, sites: 2, picks: vec![Pick::One(0); 4] });
    assert_eq!(tally.snapshot(), snapshot, "a route of another model");
}

#[test]
fn draws_by_example_and_token_give_shares() {
    let mixture = MixtureConfig { num_experts: 2, sharing_up: false, consistency: false, ..MixtureConfig::default() };
    let mut tally = RouteCounts::new(&mixture, names(1));
    let picks = vec![Pick::PerExample(vec![0, 1, 1, 1]), Pick::PerToken(vec![0; 5])];
    tally.add(9, &Route { passes: 1, sites: 1, picks });
    let snapshot = tally.snapshot();
    assert_eq!(snapshot.current, [vec![0.25, 0.75], vec![1.0, 0.0]]);
    assert_eq!(snapshot.counts, [vec![1, 3], vec![5, 0]]);
    assert_eq!(snapshot.recent[0].experts, [1, 0]);
}

#[test]
fn real_draws_are_where_chance_puts_them_and_a_biased_draw_is_not() {
    let mixture = MixtureConfig::default();
    let (mut fair, mut biased) = (RouteCounts::new(&mixture, names(3)), RouteCounts::new(&mixture, names(3)));
    let shape = RouteShape { passes: 2, sites: 3, sequences: 8, tokens: 50 };
    for index in 0..500 {
        let mut route = Route::draw(&mixture, SeedStream::new(4), Purpose::Routing, index, shape);
        fair.add(index + 1, &route);
        if index % 5 == 0 {
            route.picks[2] = Pick::One(0);
        }
        biased.add(index + 1, &route);
    }
    let largest = |tally: &RouteCounts, cell: usize| {
        tally.snapshot().z_scores()[cell].iter().flatten().fold(0.0f64, |most, z| most.max(z.abs()))
    };
    assert!([0, 2, 4].iter().all(|&cell| largest(&fair, cell) < 3.9));
    assert!(largest(&biased, 2) > 3.9, "{}", largest(&biased, 2));
    assert_eq!(fair.snapshot().recent.len(), 64);
    assert_eq!(fair.snapshot().recent[0].step, 500 - 64 + 1);
    let fixed = MixtureConfig { routing: RoutingPolicy::Fixed, ..mixture };
    let mut tally = RouteCounts::new(&fixed, names(3));
    tally.add(1, &Route::draw(&fixed, SeedStream::new(4), Purpose::Routing, 0, shape));
    assert!(tally.snapshot().z_scores().iter().all(Option::is_none), "nothing is left to chance");
}
