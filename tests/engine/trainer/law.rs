//! The law of routing changes while a run trains: planned, by hand, across an interruption, and in the record.

use super::{Witness, bits, learning, timeless, trainer};
use crate::support::cli::adamix;
use crate::support::place::Place;
use adamix::artifact::recorder::{Line, RouteFile, read_lines};
use adamix::artifact::{RunDir, checkpoint};
use adamix::config::{LawChange, Problem, RoutingLaw, RoutingPolicy, RunConfig};
use adamix::mixture::{Pick, Route};
use adamix::protocol::ReplayPlan;
use adamix::records::{CheckpointData, StepRecord};
use adamix::train::{Control, NullObserver, Observer, Trainer};
use adamix::workflow::run::{Run, prepare};
use adamix::workflow::runs;
use adamix::workflow::studies::replay::replay;
use std::path::Path;

fn law(text: &str) -> RoutingLaw {
    text.parse().unwrap()
}

fn at(step: u64, text: &str) -> LawChange {
    LawChange { step, law: law(text) }
}

/// Trains to the end; `ask`: a law that is asked for after so many steps.
fn trained(config: &RunConfig, ask: &[(u64, &str)]) -> (Trainer, Witness) {
    let (mut trainer, control) = (trainer(config, Problem::Classification), Control::default());
    let (asked, ask) = (control.clone(), ask.iter().map(|(step, text)| (*step, law(text))).collect::<Vec<_>>());
    let look = move |trainer: &Trainer| {
        ask.iter().filter(|(step, _)| *step == trainer.steps_done()).for_each(|(_, law)| asked.set_law(*law));
    };
    let mut witness = Witness { at_boundary: Some(Box::new(look)), ..Witness::default() };
    trainer.run(&mut witness, &control).unwrap();
    (trainer, witness)
}

fn planned(config: &RunConfig, changes: &[&str]) -> RunConfig {
    let mut config = config.clone();
    config.mixture.law_at = changes.iter().map(|&text| text.to_owned()).collect();
    config
}

#[test]
fn a_planned_change_makes_the_same_bits_as_one_by_hand() {
    let config = learning(16);
    let (by_hand, seen) = trained(&config, &[(4, "per-token"), (9, "fixed:2"), (12, "round-robin")]);
    let (plan, planned_seen) = trained(&planned(&config, &["5=per-token", "13=round-robin", "10=fixed:2"]), &[]);
    let steps = |witness: &Witness| witness.steps.iter().map(timeless).collect::<Vec<_>>();
    assert_eq!(steps(&seen), steps(&planned_seen));
    assert_eq!(bits(by_hand.model()), bits(plan.model()));
    let told = [at(5, "per-token"), at(10, "fixed:2"), at(13, "round-robin")];
    assert_eq!((seen.laws.as_slice(), planned_seen.laws.as_slice()), (&told[..], &told[..]));
    // A law that stays as it is changes nothing.
    let (same, quiet) = trained(&config, &[(3, "per-batch")]);
    let (plain, untouched) = trained(&config, &[]);
    assert_eq!((steps(&quiet), quiet.laws.len()), (steps(&untouched), 0));
    assert_eq!(bits(same.model()), bits(plain.model()));
    assert_ne!(bits(plain.model()), bits(plan.model()), "other laws train other weights");
}

#[test]
fn a_law_that_does_not_fit_stays_out() {
    #[derive(Default)]
    struct Problems(Vec<String>, Vec<LawChange>);
    impl Observer for Problems {
        fn on_problem(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
        fn on_law(&mut self, change: &LawChange) {
            self.1.push(*change);
        }
    }
    let mut config = learning(4);
    let control = Control::default();
    control.set_law(law("fixed:4"));
    let mut problems = Problems::default();
    trainer(&config, Problem::Classification).run(&mut problems, &control).unwrap();
    assert!(problems.0[0].contains("names expert 4 but there are 4") && problems.1.is_empty(), "{:?}", problems.0);
    assert_eq!(control.take_law(), None);
    for (text, wrong) in [("5=fixed:4", "expert 4"), ("0=per-token", "0=per-token"), ("3:fixed", "3:fixed")] {
        config = planned(&config, &[text]);
        let err = config.validate().unwrap_err().to_string();
        assert!(err.contains("law_at") && err.contains(wrong), "{err}");
    }
    let err = planned(&config, &["5=per-token", "5=per-batch"]).validate().unwrap_err().to_string();
    assert!(err.contains("two laws for step 5"), "{err}");
}

/// The experts drawn on the down side in these steps, all passes and modules.
fn drawn(steps: &[StepRecord]) -> Vec<u8> {
    let of = |pick: &Pick| match pick {
        Pick::One(expert) => vec![*expert],
        Pick::PerExample(list) | Pick::PerToken(list) => list.clone(),
    };
    let routes = steps.iter().flat_map(|step| &step.routes);
    routes.flat_map(|route: &Route| route.picks.iter().step_by(2).flat_map(of)).collect()
}

#[test]
fn the_choices_of_each_stretch_are_those_of_its_law() {
    let config = planned(&learning(300), &["61=per-example", "121=per-token", "181=fixed:3", "241=round-robin"]);
    let (_, seen) = trained(&config, &[]);
    for (stretch, least) in [(0, 360), (1, 2000), (2, 10_000)] {
        let drawn = drawn(&seen.steps[stretch * 60..(stretch + 1) * 60]);
        assert!(drawn.len() >= least, "{} draws", drawn.len());
        let mean = drawn.len() as f64 / 4.0;
        let count = |expert: u8| drawn.iter().filter(|drawn| **drawn == expert).count() as f64;
        let chi_squared: f64 = (0..4).map(|expert| (count(expert) - mean).powi(2) / mean).sum();
        assert!(chi_squared < 16.27, "stretch {stretch}: chi-squared {chi_squared} with 3 degrees, p = 0.001");
    }
    assert!(drawn(&seen.steps[180..240]).iter().all(|expert| *expert == 3));
    for step in &seen.steps[240..] {
        let route = &step.routes[0];
        for (cell, pick) in route.picks.iter().step_by(2).enumerate() {
            let (pass, site) = (cell / route.sites, cell % route.sites);
            let want = (step.step as usize - 1 + site + pass) % 4;
            assert_eq!(*pick, Pick::One(want as u8), "step {}, pass {pass}, module {site}", step.step);
        }
    }
}

/// Stops after so many steps, once asked for a law after some others.
struct Stops<'a> {
    control: &'a Control,
    ask: Option<(u64, RoutingLaw)>,
    stop: u64,
}

impl Observer for Stops<'_> {
    fn on_boundary(&mut self, trainer: &Trainer, _paused: bool) {
        if let Some((step, law)) = self.ask.filter(|(step, _)| *step == trainer.steps_done()) {
            self.control.set_law(law);
            self.ask = self.ask.filter(|(own, _)| *own != step);
        }
        if trainer.steps_done() == self.stop {
            self.control.stop("the test");
        }
    }
}

fn config(place: &Place, name: &str, law_at: &[&str]) -> RunConfig {
    let mut config = place.config(12);
    (config.eval.eval_steps, config.eval.save_total_limit) = (4, 9);
    name.clone_into(&mut config.name);
    planned(&config, law_at)
}

/// Everything that a record says of the training, without the clock.
fn record(dir: &RunDir) -> (Vec<Line>, Vec<Route>) {
    let lines = read_lines(&dir.metrics()).unwrap().lines.into_iter().filter_map(|line| match line {
        Line::Step(step) => Some(Line::Step(timeless(&step))),
        Line::Law(change) => Some(Line::Law(change)),
        _ => None,
    });
    (lines.collect(), RouteFile::open(&dir.routes()).unwrap().map(|route| route.unwrap().route).collect())
}

fn last(dir: &RunDir) -> CheckpointData {
    checkpoint::read(dir, 12).unwrap()
}

fn go_on(dir: &Path) -> RunDir {
    let mut run = Run::resume(dir, None).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    run.dir().clone()
}

#[test]
fn a_resumed_run_goes_through_its_changes_as_if_it_had_never_stopped() {
    let place = Place::new();
    let whole = |name: &str, law_at: &[&str]| {
        let mut run = Run::start(prepare(&config(&place, name, law_at)).unwrap()).unwrap();
        run.go(&mut NullObserver, &Control::default()).unwrap();
        run.dir().clone()
    };
    let want = whole("whole", &["6=per-token", "10=fixed:1"]);
    assert_eq!(record(&want).0.iter().filter(|line| matches!(line, Line::Law(_))).count(), 2);

    // By hand and by plan; stopped after a change and before the next one; killed after a change that no checkpoint knows.
    for (name, stop, kill) in [("stopped", 8, false), ("at-the-change", 5, false), ("killed", 7, true)] {
        let mut run = Run::start(prepare(&config(&place, name, &["10=fixed:1"])).unwrap()).unwrap();
        let control = Control::default();
        let ask = Some((5, law("per-token"))).filter(|_| stop > 5);
        run.go(&mut Stops { control: &control, ask, stop }, &control).unwrap();
        let dir = run.dir().clone();
        drop(run);
        if kill {
            std::fs::remove_dir_all(dir.path().join("checkpoint-7")).unwrap();
        }
        let dir = match ask {
            Some(_) => go_on(dir.path()),
            // Asked for in the resumed part instead.
            None => {
                let mut run = Run::resume(dir.path(), None).unwrap();
                let control = Control::default();
                control.set_law(law("per-token"));
                run.go(&mut NullObserver, &control).unwrap();
                run.dir().clone()
            }
        };
        assert_eq!(record(&dir), record(&want), "{name}");
        let (got, wanted) = (last(&dir), last(&want));
        assert!(got.tensors == wanted.tensors && got.optimizer == wanted.optimizer, "{name}: other bits");
        // Every step can be made again under the law it was drawn by.
        for (step, drawn) in [(5, "per-batch"), (6, "per-token"), (8, "per-token"), (9, "per-token"), (11, "fixed:1")] {
            let report = replay(&dir, ReplayPlan { step }, &|_| true).unwrap();
            assert!(report.is_equal() && report.law == drawn, "{name}, step {step}: {}", report.verdict());
        }
    }
    let plain = whole("plain", &[]);
    assert_ne!(record(&plain), record(&want));
}

#[test]
fn the_changes_are_in_what_is_shown_of_a_run() {
    let place = Place::new();
    let (home, path) = (place.path(""), place.path("shown.toml"));
    std::fs::write(&path, config(&place, "shown", &[]).to_toml().unwrap()).unwrap();
    let arguments =
        ["train", "-c", path.to_str().unwrap(), "--law-at", "4=per-example", "--law-at", "7=fixed:2", "--json"];
    let ran = adamix(&home, &arguments);
    let told: Vec<String> = ran
        .json()
        .iter()
        .filter(|line| line["event"] == "law")
        .map(|line| format!("{} {}", line["step"], line["law"]))
        .collect();
    assert_eq!(told, ["4 \"per-example\"", "7 \"fixed:2\""]);
    let dir = RunDir::open(&place.path("runs").join("shown")).unwrap();
    assert_eq!(dir.config().mixture.law_at, ["4=per-example", "7=fixed:2"]);
    let detail = runs::detail(dir.path()).unwrap();
    assert_eq!(detail.laws, [at(4, "per-example"), at(7, "fixed:2")]);
    let routing = detail.routing.unwrap();
    assert_eq!((routing.policy, routing.fixed_expert, routing.counted_from), (RoutingPolicy::Fixed, 2, 7));
    // Six steps of two passes, all on the fixed expert.
    assert_eq!(routing.counts[0], [0, 0, 12, 0]);
    assert!(detail.log.iter().any(|line| line.ends_with("step 7: routes are drawn fixed:2 from here on")));
    let err = adamix(&home, &["train", "--lab", "--law-at", "4=sticky"]);
    assert!(err.code == Some(2) && err.err.contains("is no law of routing"), "{}", err.err);
}
