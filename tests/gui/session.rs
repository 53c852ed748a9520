//! The session: what messages change, and which of them are dropped.

use crate::fake_engine::data;
use crate::harness::{ready_session, run_started, steps, training_session};
use adamix::app::history::CAPACITY;
use adamix::app::session::Session;
use adamix::config::RunConfig;
use adamix::protocol::*;
use std::path::PathBuf;
use std::sync::Arc;

fn event(session: &mut Session, event: Event) {
    session.apply(Incoming::Event(event));
}

#[test]
fn late_messages_of_an_older_run_are_dropped() {
    let (mut session, old) = training_session();
    let (req, new) = (session.next_request(), session.next_run());
    assert!(new > old);
    session.begin_run(req, new);
    session.apply(steps(old, 101, 140));
    event(&mut session, run_started(old, 999));
    event(&mut session, Event::PhaseChanged(old, RunPhase::Finished));
    event(&mut session, Event::Evaluated(old, data::eval(120, 240)));
    let end = Box::new(data::end_record(EndReason::Finished, 240));
    event(&mut session, Event::RunEnded(old, end));
    assert!(session.live.is_none(), "nothing of the old run may revive it");
    assert_eq!(session.phase, RunPhase::Preparing);
    event(&mut session, run_started(new, 240));
    session.apply(steps(old, 141, 150));
    let snapshot = Arc::new(data::routing(&RunConfig::default().mixture, 5));
    session.apply(Incoming::Routing(old, snapshot.clone()));
    let live = session.live.as_ref().unwrap();
    assert_eq!(live.step(), 0);
    assert!(live.routing.is_none());
    // The same messages of the new run are taken.
    session.apply(steps(new, 1, 3));
    session.apply(Incoming::Routing(new, snapshot));
    let live = session.live.as_ref().unwrap();
    assert_eq!(live.step(), 3);
    assert!(live.routing.is_some());
}

#[test]
fn an_answer_to_a_forgotten_question_is_dropped() {
    let mut session = ready_session();
    let (first, second) = (session.next_request(), session.next_request());
    session.data.begin(first);
    session.data.begin(second);
    let mut preview = data::data_preview(&RunConfig::default());
    preview.name = "late".to_owned();
    event(&mut session, Event::Done(first, Outcome::Data(Box::new(preview.clone()))));
    assert!(session.data.value.is_none());
    preview.name = "in time".to_owned();
    event(&mut session, Event::Done(second, Outcome::Data(Box::new(preview))));
    assert_eq!(session.data.value.as_ref().unwrap().name, "in time");
}

#[test]
fn many_evaluations_stay_bounded_with_the_best_and_both_ends() {
    let (mut session, run) = training_session();
    for step in 101..=10_100 {
        let mut eval = data::eval(step, 240);
        eval.merged.primary = if step == 4_444 { 0.99 } else { 0.5 };
        event(&mut session, Event::Evaluated(run, eval));
        let live = session.live.as_ref().unwrap();
        assert!(live.evals.len() <= 2048 && live.evals.last().is_some_and(|last| last.step == step));
    }
    let live = session.live.as_ref().unwrap();
    assert_eq!((live.evals[0].step, live.best_eval().map(|best| best.step)), (40, Some(4_444)));
}

#[test]
fn a_hundred_thousand_samples_stay_bounded_and_none_is_lost() {
    let (mut session, run) = training_session();
    let mut spike = data::step(50_000, 240);
    spike.loss = 77.0;
    for first in (101..=100_100u64).step_by(4096) {
        let last = (first + 4095).min(100_100);
        session.apply(steps(run, first, last));
        if (first..=last).contains(&50_000) {
            session.apply(Incoming::Steps(run, vec![StepBucket::of(spike)]));
        }
    }
    let history = &session.live.as_ref().unwrap().history;
    assert!(history.loss.buckets().len() <= CAPACITY);
    let counted: u64 = history.loss.buckets().iter().map(|bucket| u64::from(bucket.n)).sum();
    assert_eq!(counted, 100_101);
    assert_eq!(
        history.loss.buckets().iter().map(|bucket| bucket.max).fold(0.0, f32::max),
        77.0,
        "the spike of a single step is still there"
    );
}

#[test]
fn a_failed_start_says_why_and_allows_another() {
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    assert!(!session.start_problems().is_empty(), "two runs at once");
    let failure = Failure { kind: ErrorKind::Data, message: "train.tsv line 7: unknown label".to_owned() };
    event(&mut session, Event::Failed(Some(req), failure));
    assert_eq!(session.phase, RunPhase::Failed);
    assert_eq!(session.start_error.as_deref(), Some("train.tsv line 7: unknown label"));
    assert_eq!(session.start_problems(), Vec::<String>::new());
}

#[test]
fn a_tensor_that_does_not_learn_is_named() {
    let (mut session, run) = training_session();
    let mut gradient_health = data::gradient_health(10);
    let noticed = session.notices.len();
    event(&mut session, Event::GradientHealth(run, gradient_health.clone()));
    assert_eq!(session.notices.len(), noticed, "a healthy run makes no noise");
    gradient_health[5].state = HealthState::Dead;
    let name = gradient_health[5].tensor.clone();
    event(&mut session, Event::GradientHealth(run, gradient_health));
    assert!(session.last_notice.as_ref().unwrap().text.contains(&name));
}

#[test]
fn a_diverged_run_names_step_and_checkpoint() {
    let (mut session, run) = training_session();
    let reason = EndReason::Diverged { step: 123, last_checkpoint: Some("checkpoint-80".to_owned()) };
    let end = Box::new(data::end_record(reason, 123));
    event(&mut session, Event::RunEnded(run, end));
    let failure = session.live.as_ref().unwrap().failure.clone().unwrap();
    assert!(failure.contains("123") && failure.contains("checkpoint-80"), "{failure}");
}

#[test]
fn opening_and_deleting_runs() {
    let (mut session, _) = training_session();
    let dir = PathBuf::from("runs/lab-round-robin");
    let req = session.next_request();
    session.opening.begin(req);
    let detail = Box::new(data::run_detail(&dir));
    event(&mut session, Event::Done(req, Outcome::Opened(detail)));
    assert_eq!(session.shown().unwrap().dir, dir);
    assert!(!session.shows_live());
    let subject = Subject::Saved { dir: dir.clone(), checkpoint: Checkpoint::Best };
    assert_eq!(session.subject(), Some(subject));
    let req = session.next_request();
    session.deleting.begin(req);
    event(&mut session, Event::Done(req, Outcome::Deleted(dir)));
    assert!(session.shows_live(), "the deleted run is no longer shown");
}

#[test]
fn the_form_can_be_undone() {
    let mut session = ready_session();
    let first = session.form.clone();
    let mut form = first.clone();
    form.train.seed = 1;
    session.edit_form(form.clone(), 10.0);
    form.train.seed = 12;
    session.edit_form(form.clone(), 10.3);
    session.undo_form();
    assert_eq!(session.form, first, "changes in quick succession are one");
    session.redo_form();
    assert_eq!(session.form, form);
    form.train.seed = 5;
    session.edit_form(form.clone(), 20.0);
    assert!(!session.undo.has_redo(&session.form));
    let version = session.form_version;
    session.edit_form(form, 30.0);
    assert_eq!(session.form_version, version, "no change is no change");
}
