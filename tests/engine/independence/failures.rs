//! What goes wrong becomes an answer, and the engine lives on.

use super::{FOREVER, Window};
use crate::support::place::Place;
use adamix::protocol::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn wrong_settings_fail_with_their_reason_and_leave_nothing_behind() {
    let (place, mut window) = (Place::new(), Window::open());
    let mut config = place.config(4);
    config.model.path = place.path("nowhere").display().to_string();
    let start = window.start(&config);
    let failure = window.wait_for(start).unwrap_err();
    assert!(failure.message.contains("nowhere"), "{}", failure.message);
    assert_eq!(window.phase(), RunPhase::Failed);
    assert!(!place.path("runs").exists(), "a run directory was made");
    let live = window.send(Command::Query { subject: Subject::Live, query: ModelQuery::Merge(MergePlan::Uniform) });
    assert!(window.wait_for(live).unwrap_err().message.contains("no model in memory"));
    let preflight = window.send(Command::Preflight(Box::new(config)));
    let Ok(Outcome::Preflight(report)) = window.wait_for(preflight) else { panic!("no report") };
    assert!(report.problems[0].contains("nowhere"), "{:?}", report.problems);
    let model = window.send(Command::PreviewModel(place.config(4).model));
    let Ok(Outcome::Model(info)) = window.wait_for(model) else { panic!("no model") };
    assert_eq!((info.family.as_str(), info.layers, info.hidden_size, info.heads), ("BERT", 2, 20, 4));
    assert!(info.parameters > 5000 && info.file_bytes > 4 * info.parameters as u64);
    let preflight = window.send(Command::Preflight(Box::new(place.config(4))));
    let Ok(Outcome::Preflight(report)) = window.wait_for(preflight) else { panic!("no report") };
    assert_eq!((report.problems.len(), report.start.total_steps), (0, 4), "{:?}", report.problems);
    assert!(report.seconds.is_some() && report.start.trained_parameters > 0);
}

#[test]
fn a_panic_in_the_engine_becomes_an_answer_and_the_engine_lives_on() {
    let place = Place::new();
    let armed = Arc::new(AtomicBool::new(false));
    let trap = armed.clone();
    // The only code of ours that runs on the training thread: a waker with a bug.
    let mut window = Window::open_with(move || assert!(!trap.swap(false, Ordering::SeqCst), "planted"));
    let start = window.start(&place.config(100_000));
    window.wait("training", |w| !w.steps.is_empty());
    armed.store(true, Ordering::SeqCst);
    let failure = window.wait_for(start).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Internal);
    assert!(failure.message.contains("planted"), "{}", failure.message);
    assert_eq!(window.phase(), RunPhase::Failed);
    let again = window.start(&place.config(4));
    assert!(window.wait_for(again).is_ok(), "the engine is dead");
}

#[test]
fn an_engine_that_cannot_start_says_so_and_refuses_what_comes_later() {
    let first = AtomicBool::new(true);
    let mut window = Window::open_with(move || assert!(!first.swap(false, Ordering::SeqCst), "planted"));
    let failed = |w: &Window| {
        w.events.iter().any(|e| matches!(e, Event::Failed(None, failure) if failure.message.contains("planted")))
    };
    window.wait("the failure", |w| failed(w));
    // The thread is gone at some moment from now on; until then a command may still be taken, but not for ever.
    let patience = std::time::Instant::now();
    while window.engine.try_send(RequestId(1), Command::ListRuns(String::new())) != Err(Busy::Gone) {
        assert!(patience.elapsed() < FOREVER, "a dead engine still takes commands");
        std::thread::yield_now();
    }
}

#[test]
fn a_disk_that_refuses_is_told_and_training_goes_on() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(12));
    window.engine.control(ControlRequest::Pause);
    window.wait("a pause", |w| w.phase() == RunPhase::Paused);
    let dir = window.dir();
    // Gone under the engine's feet: no checkpoint can be written any more.
    std::fs::rename(&dir, place.path("elsewhere")).unwrap();
    window.engine.control(ControlRequest::Resume);
    assert_eq!(window.wait_for(start), Ok(Outcome::RunEnded(RunId(start.0))));
    assert_eq!(window.end().unwrap().reason, EndReason::Finished);
    let told = |event: &Event| match event {
        Event::Log(line) => line.level == LogLevel::Warning && line.text.contains("checkpoint"),
        _ => false,
    };
    assert!(window.events.iter().any(told), "{:#?}", window.events);
    assert!(!window.events.iter().any(|event| matches!(event, Event::CheckpointWritten { .. })));
}
