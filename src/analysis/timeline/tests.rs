use super::ages::{expected_share, oldest_expected};
use super::layout::Layer;
use super::*;
use crate::analysis::causes::least_squares::Estimate;
use crate::config::{MixtureConfig, RoutingPolicy};
use crate::records::{Pick, Route, SIDES, StepRecord};
use crate::rng::{Purpose, SeedStream};

fn mixture(policy: RoutingPolicy, passes: usize) -> MixtureConfig {
    MixtureConfig {
        routing: policy,
        consistency: passes == 2,
        sharing_up: true,
        num_experts: 4,
        ..MixtureConfig::default()
    }
}

fn layout(policy: RoutingPolicy, passes: usize, sites: usize) -> Layout {
    let sites = (0..sites).map(|n| format!("layers.{n}.ffn")).collect();
    Layout::of(&mixture(policy, passes), sites, 1)
}

/// A step whose down sides take these experts, pass by pass; up is shared.
fn step(number: u64, passes: usize, picks: &[Pick], term: f64) -> StepRecord {
    let sites = picks.len() / passes;
    let picks = picks.iter().flat_map(|pick| [pick.clone(), Pick::One(0)]).collect();
    StepRecord {
        step: number,
        epoch: 0.0,
        loss: 0.5,
        task_loss: 0.5,
        consistency_loss: term,
        learning_rate: 0.0,
        grad_norm: 0.0,
        tokens: 0,
        seconds: 0.0,
        routes: vec![Route { passes, sites, picks }],
    }
}

fn one(number: u64, passes: usize, experts: &[u8]) -> StepRecord {
    step(number, passes, &experts.iter().map(|&e| Pick::One(e)).collect::<Vec<_>>(), 0.01)
}

fn timeline(layout: Layout, steps: &[StepRecord]) -> RouteTimeline {
    let mut rows = StepRows::default();
    for step in steps {
        assert!(rows.push(&layout, step).unwrap());
    }
    let mut timeline = RouteTimeline::new(layout);
    timeline.append(&rows).unwrap();
    timeline
}

#[test]
fn picks_distances_and_ages_are_those_of_the_record() {
    // Two layers, two passes: A takes 0 and 1, B takes 0 and 2, and so on.
    let steps = [one(1, 2, &[0, 1, 0, 2]), one(2, 2, &[3, 1, 2, 1]), one(3, 2, &[3, 3, 3, 3])];
    let timeline = timeline(layout(RoutingPolicy::PerBatch, 2, 2), &steps);
    let row = timeline.row(1).unwrap();
    assert_eq!(
        [row.pick(0, 1, Side::Down), row.pick(1, 1, Side::Down), row.pick(0, 1, Side::Up)],
        [Some(1), Some(2), None]
    );
    assert_eq!((row.differs(0), row.differs(1), row.differs(2)), (Some(0.0), Some(1.0), None));
    let distances: Vec<f64> = (1..=3).map(|s| timeline.row(s).unwrap().distance().unwrap()).collect();
    assert_eq!(distances, [1.0, 1.0, 0.0]);
    assert_eq!(row.shares(1, 1, Side::Down), [0.0, 0.0, 1.0, 0.0]);
    let ages = timeline.ages(3);
    let of = |site, expert| timeline.age(&ages, site, Side::Down, expert);
    assert_eq!([of(0, 0), of(0, 1), of(0, 2), of(0, 3)], [Some(2), None, Some(1), Some(0)]);
    assert_eq!([of(1, 1), of(1, 2), timeline.age(&ages, 0, Side::Up, 0)], [Some(1), Some(2), None]);
    assert_eq!(timeline.age(&timeline.ages(1), 0, Side::Down, 3), None, "it had not learned yet");
    let mut sums = [0; 2];
    assert_eq!((timeline.differing(1..=3, &mut sums), sums), (3, [1, 1]));
    let mut sums = [0; 2];
    assert_eq!((timeline.differing(2..=99, &mut sums), sums), (2, [1, 0]));
    assert_eq!((timeline.first(), timeline.last(), timeline.steps(), timeline.nearest(77)), (1, 3, 3, Some(3)));
}

#[test]
fn with_one_pass_a_step_is_compared_with_the_one_before() {
    let steps = [one(1, 1, &[0, 1]), one(2, 1, &[0, 2]), one(3, 1, &[1, 2])];
    let timeline = timeline(layout(RoutingPolicy::PerBatch, 1, 2), &steps);
    assert_eq!(timeline.row(1).unwrap().distance(), None, "there is none before");
    assert_eq!((timeline.row(2).unwrap().differs(1), timeline.row(3).unwrap().differs(1)), (Some(1.0), Some(0.0)));
    assert_eq!(timeline.row(2).unwrap().consistency(), None);
    let mut sums = [0; 2];
    assert_eq!((timeline.differing(1..=3, &mut sums), sums), (2, [1, 1]));
    assert_eq!(timeline.fit(0, &|| true).unwrap().found.slope, None);
}

#[test]
fn a_gap_and_a_start_in_the_middle_stay_in_their_places() {
    let steps = [one(600, 2, &[0, 1]), one(603, 2, &[1, 1]), one(1400, 2, &[2, 2])];
    let timeline = timeline(layout(RoutingPolicy::PerBatch, 2, 1), &steps);
    assert_eq!((timeline.first(), timeline.last(), timeline.steps()), (600, 1400, 3));
    assert!(timeline.row(599).is_none() && timeline.row(601).is_none() && timeline.row(1401).is_none());
    assert_eq!(timeline.row(603).unwrap().pick(1, 0, Side::Down), Some(1));
    assert_eq!(timeline.gaps(), [601..=602, 604..=1399]);
    assert_eq!((timeline.nearest(602), timeline.nearest(610), timeline.nearest(1)), (Some(603), Some(603), Some(600)));
    let mut sums = [0];
    assert_eq!((timeline.differing(1..=2000, &mut sums), sums), (3, [1]));
    let ages = timeline.ages(1400);
    assert_eq!(timeline.age(&ages, 0, Side::Down, 0), Some(800));
    let mut rows = StepRows::default();
    rows.push(timeline.layout(), &one(9_000_000, 2, &[0, 1])).unwrap();
    assert!(timeline.clone().append(&rows).unwrap_err().to_string().contains("jumps from step 1400"));
    let mut more = timeline.clone();
    more.append(&StepRows::default()).unwrap();
    assert_eq!((more.last(), more.bytes()), (timeline.last(), timeline.bytes()));
    assert!(StepRows::default().push(timeline.layout(), &one(1, 2, &[0, 1, 0, 1])).is_err(), "two modules");
}

#[test]
fn draws_for_each_token_are_shares_and_differ_in_part() {
    let layout = layout(RoutingPolicy::PerToken, 2, 1);
    let tokens = |experts: &[u8]| Pick::PerToken(experts.to_vec());
    let steps = [step(1, 2, &[tokens(&[0, 1, 2, 2]), tokens(&[0, 1, 3, 3])], 0.02)];
    let timeline = timeline(layout, &steps);
    let row = timeline.row(1).unwrap();
    assert_eq!(row.pick(0, 0, Side::Down), Some(2));
    let shares = row.shares(0, 0, Side::Down);
    assert!((shares[2] - 0.5).abs() < 0.01 && (shares[1] - 0.25).abs() < 0.01 && shares[3] == 0.0, "{shares:?}");
    assert_eq!(row.differs(0), Some(0.5));
    let ages = timeline.ages(1);
    assert!((0..4).all(|e| timeline.age(&ages, 0, Side::Down, e) == Some(0)), "all ran in one pass or the other");
}

#[test]
fn several_micro_batches_are_counted_together() {
    let mut layout = layout(RoutingPolicy::PerBatch, 2, 1);
    layout.micro_batches = 2;
    let mut both = one(1, 2, &[0, 1]);
    both.routes.extend(one(1, 2, &[2, 2]).routes);
    let timeline = timeline(layout, &[both]);
    let row = timeline.row(1).unwrap();
    assert_eq!((row.pick(0, 0, Side::Down), row.differs(0)), (Some(2), Some(0.5)));
    let ages = timeline.ages(1);
    let learned: Vec<bool> = (0..4).map(|e| timeline.age(&ages, 0, Side::Down, e).is_some()).collect();
    assert_eq!(learned, [true, true, true, false]);
}

/// Uniform draws of four experts in some layers, and a term planted on where they differ.
fn drawn(steps: u64, layers: usize) -> RouteTimeline {
    let layout = layout(RoutingPolicy::PerBatch, 2, layers);
    let record = |number: u64| {
        let mut draws = SeedStream::new(3).stream(Purpose::Sampling, number);
        let picks: Vec<u8> = (0..2 * layers).map(|_| draws.below(4) as u8).collect();
        let h = (0..layers).filter(|&l| picks[l] != picks[layers + l]).count();
        let picks: Vec<Pick> = picks.into_iter().map(Pick::One).collect();
        step(number, 2, &picks, (0.007 + 0.003 * h as f64) * (0.8 + 0.4 * draws.uniform()))
    };
    timeline(layout, &(1..=steps).map(record).collect::<Vec<_>>())
}

#[test]
fn a_planted_line_is_found_and_split_into_dropout_and_routing() {
    let timeline = drawn(2000, 4);
    let fit = timeline.fit(500, &|| true).unwrap();
    assert_eq!((fit.after, fit.until, fit.found.steps, fit.found.at.len()), (500, 2000, 1500, 5));
    let [slope, intercept] = [fit.found.slope.unwrap(), fit.found.intercept.unwrap()];
    assert!((slope.value - 0.003).abs() < 4.0 * slope.se && slope.z() > 10.0, "{slope:?}");
    assert!((intercept.value - 0.007).abs() < 4.0 * intercept.se, "{intercept:?}");
    assert!(fit.found.layers.iter().all(|layer| (layer.unwrap().value - 0.003).abs() < 4.0 * layer.unwrap().se));
    assert!((fit.mean_distance - 3.0).abs() < 0.1, "4 (1 - 1/4) layers differ on average");
    let split = fit.split().unwrap();
    // 0.007 of 0.007 + 3 x 0.003.
    assert!((split.dropout_share.unwrap() - 7.0 / 16.0).abs() < 0.05, "{split:?}");
    assert!((split.dropout.value + split.routing.value - fit.mean_term).abs() < 1e-9, "a line goes through the means");
    assert!(timeline.fit(500, &|| false).is_err(), "it can be cancelled");
}

#[test]
fn the_module_that_causes_it_is_found_among_those_of_its_layer() {
    let mut layout = layout(RoutingPolicy::PerBatch, 2, 4);
    layout.layers = [[0, 1], [2, 3]].map(|sites| Layer { number: None, sites: sites.to_vec() }).to_vec();
    let record = |number: u64| {
        let mut draws = SeedStream::new(5).stream(Purpose::Sampling, number);
        let picks: Vec<u8> = (0..8).map(|_| draws.below(4) as u8).collect();
        let term = 0.002 + if picks[1] == picks[5] { 0.0 } else { 0.004 };
        let picks: Vec<Pick> = picks.into_iter().map(Pick::One).collect();
        step(number, 2, &picks, term * (0.8 + 0.4 * draws.uniform()))
    };
    let records: Vec<StepRecord> = (1..=1500).map(record).collect();
    let fit = timeline(layout.clone(), &records).fit(0, &|| true).unwrap();
    let sites: Vec<Estimate> = fit.sites.iter().map(|slope| slope.unwrap()).collect();
    assert!((sites[1].value - 0.004).abs() < 4.0 * sites[1].se && sites[1].z() > 10.0, "{sites:?}");
    for other in [0, 2, 3] {
        assert!(sites[other].z().abs() < 4.0, "{sites:?}");
    }
    // A layer of which half differs has half of the effect: its own slope is that of all its modules together.
    assert!((fit.found.layers[0].unwrap().value - 0.004).abs() < 0.0008, "{:?}", fit.found.layers);
    // Draws of several micro-batches have no single difference of a module; layers of one module need no second line.
    layout.micro_batches = 2;
    assert!(timeline(layout, &records).fit(0, &|| true).unwrap().sites.is_empty());
    assert!(drawn(300, 4).fit(0, &|| true).unwrap().sites.is_empty());
}

#[test]
fn staleness_of_uniform_draws_is_as_expected() {
    let timeline = drawn(3000, 6);
    let mut shares = [0.0; 3];
    let ks = [1, 3, 5];
    let looks: Vec<u64> = (100..=3000).step_by(10).collect();
    for &at in &looks {
        let ages = timeline.ages(at);
        shares.iter_mut().zip(ks).for_each(|(s, k)| *s += ages.share_at_least(k).unwrap() / looks.len() as f64);
    }
    for (share, k) in shares.into_iter().zip(ks) {
        assert!((share - expected_share(k, 4, 2)).abs() < 0.02, "{k}: {share}");
    }
    assert!(oldest_expected(24, 4, 2) <= 6);
}

#[test]
fn copies_are_not_changed_by_what_is_appended() {
    let mut timeline = drawn(700, 2);
    let copy = timeline.clone();
    let mut rows = StepRows::default();
    (701..=1100).for_each(|n| rows.push(timeline.layout(), &one(n, 2, &[0, 1, 2, 3])).map(|_| ()).unwrap());
    timeline.append(&rows).unwrap();
    assert_eq!((copy.last(), timeline.last()), (700, 1100));
    assert_eq!(copy.ages(700), timeline.ages(700));
    assert_eq!(timeline.ages(1100).step, 1100);
    // Two passes, two layers, and each layer's difference; step, losses and flag.
    assert_eq!(timeline.bytes() / 1100, 4 + 2 + 16 + 1);
    assert_eq!(SIDES.len(), 2);
}
