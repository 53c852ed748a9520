//! A text is asked about again with every key: only the newest question is answered.

use super::Window;
use crate::support::place::Place;
use adamix::config::{ModelConfig, RunConfig};
use adamix::protocol::*;
use parking_lot::Mutex;
use std::sync::Arc;

fn ask(text: &str) -> Command {
    let input = TryInput::Text { text: text.to_owned(), pair: None };
    Command::Query { subject: Subject::Live, query: ModelQuery::Try(TryPlan { input, routes: 4, seed: 1 }) }
}

fn trained(window: &mut Window, config: &RunConfig) {
    let start = window.start(config);
    window.wait_for(start).unwrap();
}

#[test]
fn only_the_newest_question_is_answered() {
    let gate: Arc<Mutex<()>> = Arc::default();
    let waits = gate.clone();
    let (place, mut window) = (Place::new(), Window::open_with(move || drop(waits.lock())));
    trained(&mut window, &place.config(8));
    // The engine waits at its next message while the others arrive.
    let held = gate.lock();
    let model = ModelConfig { path: "/nowhere".to_owned(), ..ModelConfig::default() };
    let first = window.send(Command::PreviewModel(model));
    let old = window.send(ask("good"));
    let words = ModelQuery::TryWords(TryInput::Text { text: "good film".to_owned(), pair: None });
    let older = window.send(Command::Query { subject: Subject::Live, query: words });
    let newest = window.send(ask("good film"));
    drop(held);
    assert!(window.wait_for(first).is_err());
    for superseded in [old, older] {
        assert_eq!(window.wait_for(superseded).unwrap_err().kind, ErrorKind::Cancelled);
    }
    let Ok(Outcome::Tried(report)) = window.wait_for(newest) else { panic!("no answer") };
    assert_eq!((report.text.as_str(), report.step, report.routes.len()), ("good film", 8, 4));
    let words = ModelQuery::TryWords(report.plan.input.clone());
    let words = window.send(Command::Query { subject: Subject::Live, query: words });
    let Ok(Outcome::TriedWords(words)) = window.wait_for(words) else { panic!("no words") };
    assert_eq!(words.words.len(), 2);
    // The run on disk has the same weights.
    let saved = Subject::Saved { dir: window.dir(), checkpoint: Checkpoint::Step(8) };
    let saved = window.send(Command::Query { subject: saved, query: ModelQuery::Try(report.plan.clone()) });
    let Ok(Outcome::Tried(again)) = window.wait_for(saved) else { panic!("no answer of the saved run") };
    assert_eq!(again, report);
}

#[test]
fn a_run_in_training_answers_with_the_weights_of_the_moment() {
    let (place, mut window) = (Place::new(), Window::open());
    let start = window.start(&place.config(100_000));
    window.wait("training", |w| w.phase() == RunPhase::Training && !w.steps.is_empty());
    let early = window.send(ask("good film"));
    let Ok(Outcome::Tried(early)) = window.wait_for(early) else { panic!("no answer") };
    let seen = window.steps.len();
    window.wait("more steps", |w| w.steps.len() > seen + 1);
    let late = window.send(ask("good film"));
    let Ok(Outcome::Tried(late)) = window.wait_for(late) else { panic!("no answer") };
    assert!(late.step > early.step && late.merged != early.merged, "{} {}", late.step, early.step);
    window.engine.control(ControlRequest::Stop("done".to_owned()));
    window.wait_for(start).unwrap();
}
