//! Pause, step, stop, cancel, close: heard at any time, and a stopped run goes on as if it had not been.

use super::{FOREVER, Window};
use crate::support::place::Place;
use adamix::protocol::*;
use std::path::PathBuf;

#[test]
fn stop_is_heard_during_an_evaluation() {
    let place = Place::new();
    let mut window = Window::open();
    let mut config = place.config(4);
    // One row a batch: the evaluation after step 1 has 48 batches, the comparison at the end many times more.
    (config.eval.eval_batch_size, config.eval.random_routes) = (1, 1000);
    let start = window.start(&config);
    window.wait("the comparison at the end", |w| {
        w.phases().ends_with(&[RunPhase::Training, RunPhase::Evaluating]) && {
            w.events.iter().any(|e| matches!(e, Event::CheckpointWritten { step: 4, .. }))
        }
    });
    window.engine.control(ControlRequest::Stop("enough".to_owned()));
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    let end = window.end().unwrap();
    assert_eq!(end.report, None, "1000 routes were measured to the end although somebody said stop");
    let summary = adamix::workflow::runs::summary(&window.dir());
    assert_eq!(summary.step, 4);
}

#[test]
fn pause_step_resume_and_stop_do_what_they_say() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(100_000);
    config.eval.eval_steps = 1000;
    let start = window.start(&config);
    // Before the run is even loaded: the level counts.
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause", |w| w.phase() == RunPhase::Paused);
    let steps = |w: &Window| w.steps.iter().map(|b| u64::from(b.n)).sum::<u64>();
    let held = steps(&window);
    for more in 1..=3 {
        let pauses = |w: &Window| w.phases().iter().filter(|p| **p == RunPhase::Paused).count();
        let before = pauses(&window);
        window.engine.control(ControlRequest::Step);
        window.wait("one step", |w| steps(w) == held + more && pauses(w) == before + 1);
    }
    // Questions are answered while the run is held.
    let inspect = window
        .send(Command::Query { subject: Subject::Live, query: ModelQuery::Inspect { site: 1, side: Side::Down } });
    let Ok(Outcome::Experts(experts)) = window.wait_for(inspect) else { panic!("no experts") };
    assert_eq!((experts.step, experts.sites.len(), experts.heat_maps.len()), (held + 3, 2, 4));
    assert!(experts.sides[2].experts.iter().any(|e| e.from_start > 0.0));
    window.engine.control(ControlRequest::Resume);
    window.wait("training", |w| w.phase() == RunPhase::Training && steps(w) > held + 10);
    window.engine.control(ControlRequest::Stop("seen enough".to_owned()));
    window.wait_for(start).unwrap();
    let end = window.end().unwrap();
    assert_eq!(end.reason, EndReason::Stopped("seen enough".to_owned()));
    assert!(window.phases().ends_with(&[RunPhase::Stopping, RunPhase::Finished]));
    let summary = adamix::workflow::runs::summary(&window.dir());
    assert_eq!((summary.status, summary.step, summary.resumable), (RunStatus::Stopped, end.step, true));
    // The levels are forgotten: another run neither stops nor pauses.
    let again = window.start(&place.config(8));
    window.wait_for(again).unwrap();
    assert_eq!(window.end().unwrap().reason, EndReason::Finished);
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_never_stopped() {
    let place = Place::new();
    let mut window = Window::open();
    let whole = window.start(&place.config(24));
    window.wait_for(whole).unwrap();
    let (whole, reference) = (window.end().unwrap(), window.dir());

    let start = window.start(&place.config(24));
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause", |w| w.phase() == RunPhase::Paused);
    for _ in 0..9 {
        window.engine.control(ControlRequest::Step);
    }
    window.wait("nine steps", |w| w.steps.iter().map(|b| u64::from(b.n)).sum::<u64>() == 24 + 9);
    window.engine.control(ControlRequest::Stop("later".to_owned()));
    window.wait_for(start).unwrap();
    let dir = window.dir();
    // Another process of this program, so to say.
    let mut other = Window::open();
    let run = RunId(77);
    let resume = other.send(Command::ResumeRun { run, dir: dir.clone() });
    assert_eq!(other.wait_for(resume), Ok(Outcome::RunEnded(run)));
    let started = other.events.iter().find_map(|event| match event {
        Event::RunStarted { history, evals, start, .. } => Some((history.len(), evals.len(), start.first_step)),
        _ => None,
    });
    assert_eq!(started, Some((9, 1, 9)), "the curves so far");
    let gradient_health =
        |event: &Event| matches!(event, Event::GradientHealth(_, gradient_health) if gradient_health[0].step == 3);
    assert!(other.events.iter().any(gradient_health), "the lamps of the first part are lost");
    assert_eq!(other.steps.len(), 15);
    let end = other.end().unwrap();
    assert_eq!((end.best, &end.report), (whole.best, &whole.report));
    let last = |dir: &PathBuf| std::fs::read(dir.join("checkpoint-24/experts.safetensors")).unwrap();
    assert_eq!(last(&dir), last(&reference), "the weights differ");
    let routes = |dir: &PathBuf| std::fs::read(dir.join("routes.bin")).unwrap();
    assert_eq!(routes(&dir), routes(&reference));
}

#[test]
fn cancelling_gives_up_the_question_and_nothing_else() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(4);
    config.eval.eval_batch_size = 1;
    let start = window.start(&config);
    window.wait_for(start).unwrap();
    let long =
        window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Compare { random_routes: 1000 } });
    window.wait("the question to be taken up", |w| {
        w.events.iter().any(|e| matches!(e, Event::Progress { req, .. } if *req == long))
    });
    window.engine.control(ControlRequest::CancelJob);
    assert_eq!(window.wait_for(long).unwrap_err().kind, ErrorKind::Cancelled);
    let short = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Compare { random_routes: 1 } });
    assert!(window.wait_for(short).is_ok(), "a later question is cancelled too");
}

#[test]
fn closing_the_window_in_training_leaves_a_run_that_can_go_on() {
    let place = Place::new();
    let mut window = Window::open();
    let start = window.start(&place.config(100_000));
    window.wait("training", |w| w.steps.len() > 5);
    let dir = window.dir();
    drop(window);
    // Closing waits for a short while only; the thread may need longer to let go of the directory.
    let patience = std::time::Instant::now();
    while adamix::artifact::run_lock::is_locked(&dir) {
        assert!(patience.elapsed() < FOREVER, "the run goes on although the window is gone");
        std::thread::yield_now();
    }
    let summary = adamix::workflow::runs::summary(&dir);
    assert_eq!((summary.status, summary.resumable), (RunStatus::Stopped, true), "run {start:?}: {summary:?}");
    assert!(dir.join(format!("checkpoint-{}", summary.step)).is_dir());
}
