//! What a run tells, in which order, and that nothing is lost however seldom the window looks.

use super::{FOREVER, Window};
use crate::support::place::Place;
use adamix::config::Method;
use adamix::protocol::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_run_tells_its_whole_story_in_order() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(40));
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    assert!(matches!(&window.events[0], Event::Ready { device, threads } if device == "CPU" && *threads >= 1));
    let kind = |event: &Event| match event {
        Event::PhaseChanged(_, phase) => format!("{phase:?}"),
        Event::RunStarted { .. } => "started".to_owned(),
        Event::Evaluated(_, record) => format!("eval {}", record.step),
        Event::CheckpointWritten { step, .. } => format!("checkpoint {step}"),
        Event::Checkpoints(..) => "listed".to_owned(),
        Event::RunEnded { .. } => "ended".to_owned(),
        Event::GradientHealth(_, gradient_health) => format!("lamps {}", gradient_health[0].step),
        Event::Distances(_, sample) => format!("distances {}", sample.step),
        Event::Done { .. } => "done".to_owned(),
        other => format!("{other:?}"),
    };
    // How often an evaluation says how far it is depends on the time it takes.
    let told = window.events[1..].iter().filter(|event| !matches!(event, Event::Evaluating(..)));
    let (logs, events): (Vec<&Event>, Vec<&Event>) = told.partition(|event| matches!(event, Event::Log(_)));
    let few = |event: &&Event| matches!(event, Event::Log(line) if line.text.contains("only 48 evaluation rows"));
    assert!(logs.iter().any(few), "{logs:?}");
    let measuring: Vec<&Event> = window.events.iter().filter(|event| matches!(event, Event::Evaluating(..))).collect();
    assert!(measuring.len() >= 5, "every evaluation and the comparison tell how far they are: {measuring:?}");
    for event in measuring {
        let Event::Evaluating(_, progress) = event else { unreachable!() };
        assert!(progress.done <= progress.rows && progress.rows >= 48, "{progress:?}");
        assert!(progress.seconds_left.is_none_or(|left| left < 60.0), "{progress:?}");
    }
    let story: Vec<String> = events.into_iter().map(kind).collect();
    let mut wanted = vec!["Preparing", "started", "Training", "distances 0", "lamps 1", "lamps 3", "Evaluating"];
    wanted.extend(["lamps 10", "eval 10", "Training", "checkpoint 10", "listed", "Evaluating", "eval 20", "Training"]);
    wanted.extend([
        "checkpoint 20",
        "listed",
        "distances 25",
        "Evaluating",
        "eval 30",
        "Training",
        "checkpoint 30",
        "listed",
    ]);
    wanted.extend(["Evaluating", "eval 40", "Training", "checkpoint 40", "listed", "distances 40", "Evaluating"]);
    wanted.extend(["ended", "Finished", "done"]);
    let without_lamps = |list: &[String]| list.iter().filter(|k| !k.starts_with("lamps")).cloned().collect::<Vec<_>>();
    let wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
    assert_eq!(without_lamps(&story), without_lamps(&wanted));
    assert_eq!(story.iter().filter(|k| k.starts_with("lamps")).count(), 3);
    assert_eq!(window.steps.iter().map(|b| u64::from(b.n)).sum::<u64>(), 40, "a step is missing on the screen");
    let end = window.end().unwrap();
    assert_eq!((end.reason, end.step), (EndReason::Finished, 40));
    let report = end.report.unwrap();
    assert_eq!((report.rows, report.random.len(), report.fixed.len()), (48, 3, 4));
}

#[test]
fn a_window_that_never_looks_costs_nothing_and_gets_everything_later() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(5000);
    // Many more events than the lane has room for, and more steps than the mailbox.
    (config.model.method, config.train.batch_size) = (Method::HeadOnly, 1);
    (config.data.max_eval_rows, config.eval.eval_steps, config.eval.save_steps) = (1, 10, 5000);
    let start = window.start(&config);
    // Nobody drains; the engine rings once and trains on. The lock of the run directory tells when it has ended.
    let dir = place.path("runs").join("test");
    let over = || dir.join("metrics.jsonl").exists() && !adamix::artifact::run_lock::is_locked(&dir);
    let patience = std::time::Instant::now();
    while !over() {
        assert!(patience.elapsed() < FOREVER, "training waits for the window");
        std::thread::yield_now();
    }
    assert_eq!(adamix::workflow::runs::summary(&dir).status, RunStatus::Finished);
    assert_eq!(*window.bell.0.lock(), 1, "a window that does not look is woken once");
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    let evals: Vec<u64> = window
        .events
        .iter()
        .filter_map(|event| if let Event::Evaluated(_, record) = event { Some(record.step) } else { None })
        .collect();
    assert_eq!(evals, (1..=500).map(|i| i * 10).collect::<Vec<_>>(), "events are lost or out of order");
    assert!(window.events.len() > 1024, "this test needs more events than the lane holds");
    assert!(window.steps.len() <= 4096, "{} buckets", window.steps.len());
    assert_eq!(window.steps.iter().map(|b| u64::from(b.n)).sum::<u64>(), 5000);
    assert!(window.steps.windows(2).all(|w| w[0].max.step < w[1].min.step));
}

#[test]
fn the_window_is_woken_once_for_many_messages() {
    let place = Place::new();
    let rings = Arc::new(AtomicUsize::new(0));
    let counted = rings.clone();
    let mut window = Window::open_with(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let start = window.start(&place.config(60));
    window.wait_for(start).unwrap();
    let drains = window.events.len() + window.steps.len() + window.profiles.len();
    assert!(rings.load(Ordering::SeqCst) <= drains, "{} rings for {drains} messages", rings.load(Ordering::SeqCst));
    assert!(rings.load(Ordering::SeqCst) >= 2);
}

#[test]
fn snapshots_come_while_watched_and_only_then() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(12));
    window.wait_for(start).unwrap();
    assert!(window.routing.is_empty() && window.experts.is_empty(), "nobody was looking");
    // After training the model is still there to be looked at.
    window.engine.watch(Watch { routing: true, experts: Some((1, Side::Up)), ..Watch::default() });
    window.wait("snapshots", |w| !w.routing.is_empty() && !w.experts.is_empty());
    let (run, routing) = &window.routing[0];
    assert_eq!((*run, routing.step, routing.draws[0], routing.recent.len()), (RunId(start.0), 12, 24, 12));
    let (_, experts) = &window.experts[0];
    assert_eq!((experts.focus, experts.heat_maps.len()), ((1, Some(Side::Up)), 1));
    // While training too.
    let start = window.start(&place.config(100_000));
    window.wait("live snapshots", |w| {
        w.routing.last().is_some_and(|(run, snapshot)| *run == RunId(start.0) && snapshot.step > 0)
            && w.experts.last().is_some_and(|(run, _)| *run == RunId(start.0))
    });
    window.engine.control(ControlRequest::Stop("seen".to_owned()));
    window.wait_for(start).unwrap();
}

#[test]
fn a_full_command_lane_refuses_at_once() {
    let place = Place::new();
    let mut window = Window::open();
    let mut config = place.config(4);
    (config.eval.eval_batch_size, config.eval.random_routes) = (1, 1000);
    // The thread is inside the long comparison at the end, where it takes no command.
    let start = window.start(&config);
    window.wait("the comparison", |w| w.events.iter().any(|e| matches!(e, Event::CheckpointWritten { step: 4, .. })));
    let mut taken = Vec::new();
    let refused = loop {
        let req = window.req();
        match window.engine.try_send(req, Command::ListRuns(place.path("runs").display().to_string())) {
            Ok(()) => taken.push(req),
            Err(busy) => break busy,
        }
        assert!(taken.len() < 10_000, "the lane has no end");
    };
    assert_eq!(refused, Busy::Full);
    window.engine.control(ControlRequest::Stop("go on".to_owned()));
    window.wait_for(start).unwrap();
    for req in taken {
        assert!(matches!(window.wait_for(req), Ok(Outcome::Runs(_))), "a taken command was forgotten");
    }
}

#[test]
fn where_the_time_goes_is_told_now_and_then() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(40));
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    let told = &window.profiles;
    assert!(!told.is_empty() && told.iter().all(|(run, _)| *run == RunId(start.0)));
    assert!(told.windows(2).all(|pair| pair[0].1.step < pair[1].1.step), "older ones come later");
    for (_, profile) in told {
        assert!(profile.steps >= 1 && profile.step <= 40 && u64::from(profile.steps) <= profile.step);
        for phase in PHASES {
            assert_eq!(profile.of(phase) > 0.0, phase != Phase::Recompute, "{phase:?} in {profile:?}");
        }
    }
    // Every moment counts once: all phases together are not more than the steps took.
    let (_, first) = told[0];
    let took: f32 = window.steps.iter().filter(|b| b.max.step <= first.step).map(|b| b.mean.seconds).sum();
    assert!(first.total() * first.steps as f32 <= took * 1.001, "{first:?} of {took} s");
}
