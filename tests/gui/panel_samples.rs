//! The card of the Train view with what a language model writes while it learns.

use crate::fake_engine::{data, texts};
use crate::harness::{panel, ready_session, run_started, steps};
use crate::panel_support::{World, opened, trained};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::{RunConfig, Task};
use adamix::protocol::*;
use egui::Key;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::Path;

type Panel = Harness<'static, World>;

fn writing() -> RunConfig {
    let mut config = data::config();
    config.data.task = Task::Text;
    config
}

/// A run of a language model in training, nothing written yet.
fn started(config: RunConfig) -> (Session, RunId) {
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    let Event::RunStarted { dir, start, .. } = run_started(run, 240) else { panic!("no start") };
    let (config, history, evals) = (Box::new(config), Vec::new(), Vec::new());
    session.apply(Incoming::Event(Event::RunStarted { run, dir, config, start, history, evals }));
    session.apply(Incoming::Event(Event::PhaseChanged(run, RunPhase::Training)));
    session.apply(steps(run, 1, 10));
    (session, run)
}

fn says(harness: &Panel, words: &str) -> bool {
    harness.query_all_by_label_contains(words).next().is_some()
}

/// What was written at these steps, as the demonstration engine writes it.
fn tell(session: &mut Session, run: RunId, steps: &[u64]) {
    for &step in steps {
        session.apply(Incoming::Event(Event::Sampled(run, texts::samples(step, 240))));
    }
}

#[test]
fn a_model_that_does_not_write_has_no_card() {
    let (session, run) = started(data::config());
    let mut harness = panel(View::Train, session);
    tell(&mut harness.state_mut().session, run, &[0]);
    harness.run();
    assert!(!says(&harness, "What it writes"));
}

#[test]
fn before_there_is_anything_it_says_what_will_come() {
    let (session, _) = started(writing());
    assert!(says(&panel(View::Train, session), "before the first step"));
    let mut off = writing();
    off.eval.samples = 0;
    assert!(says(&panel(View::Train, started(off).0), "switched off"));
    let session = opened(|detail| detail.config.data.task = Task::Text);
    assert!(says(&panel(View::Train, session), "No texts were generated"));
}

#[test]
fn the_newest_answers_are_shown_and_earlier_ones_can_be_looked_at() {
    let (mut session, run) = started(writing());
    tell(&mut session, run, &[0, 60, 120]);
    let mut harness = panel(View::Train, session);
    assert!(says(&harness, "120 of 240") && says(&harness, "Zizzi is a French place by the river."));
    assert!(says(&harness, "name : Zizzi") && says(&harness, "Zizzi serves French food by the river."));
    for who in ["prompt", "merged", "random route", "reference"] {
        harness.get_by_label(who);
    }
    // A late message of another run changes nothing; the next answers are followed.
    tell(&mut harness.state_mut().session, RunId(run.0 + 1), &[180]);
    harness.run();
    assert!(says(&harness, "120 of 240"));
    tell(&mut harness.state_mut().session, run, &[180]);
    harness.run();
    assert!(says(&harness, "180 of 240") && says(&harness, "riverside area"));

    harness.get_by_label("◀").click();
    harness.run();
    assert!(says(&harness, "120 of 240") && !says(&harness, "riverside area"));
    // Whoever looks at an earlier step stays there.
    tell(&mut harness.state_mut().session, run, &[240]);
    harness.run();
    assert!(says(&harness, "120 of 240"));
    for _ in 0..2 {
        harness.get_by_label("◀").click();
        harness.run();
    }
    assert!(says(&harness, "before step 1") && says(&harness, "The the and of the name"));
    assert!(says(&harness, "The the and and the of"), "the random route beside it");
    // The slider, by keyboard, up to the newest; from there on the newest are followed again.
    harness.get_by_label("At step").focus();
    harness.run();
    harness.key_press(Key::ArrowRight);
    harness.run();
    assert!(says(&harness, "60 of 240"));
    for _ in 0..3 {
        harness.get_by_label("▶").click();
        harness.run();
    }
    assert!(says(&harness, "240 of 240"));
    tell(&mut harness.state_mut().session, run, &[300]);
    harness.run();
    assert!(says(&harness, "300 of 300"));
    // Another input.
    harness.get_by_label("2").click();
    harness.run();
    assert!(says(&harness, "The Vaults is a pub with prices over £30.") && !says(&harness, "Zizzi"));
    assert_eq!(harness.state().actions, Vec::<Action>::new());
}

#[test]
fn an_empty_answer_and_one_without_a_route_are_said_so() {
    let (mut session, run) = started(writing());
    let mut record = texts::samples(240, 240);
    record.samples.truncate(1);
    record.samples[0].merged = String::new();
    record.samples[0].random = None;
    session.apply(Incoming::Event(Event::Sampled(run, record)));
    let mut harness = panel(View::Train, session);
    assert!(says(&harness, "nothing: the first token ends the answer"));
    assert!(harness.query_by_label("random route").is_none() && harness.query_by_label("2").is_none());
    for theme in [egui::Theme::Dark, egui::Theme::Light] {
        harness.ctx.set_theme(theme);
        harness.run();
        harness.get_by_label("merged");
    }
}

#[test]
fn many_inputs_stay_inside_the_pane() {
    let (mut session, run) = started(writing());
    let mut record = texts::samples(60, 240);
    let one = record.samples[0].clone();
    record.samples = (0..16).map(|_| one.clone()).collect();
    record.samples[15].merged = "the last one".to_owned();
    session.apply(Incoming::Event(Event::Sampled(run, record)));
    let mut harness = panel(View::Train, session);
    let last = harness.get_by_label("16");
    assert!(last.rect().right() < 760.0, "{:?}", last.rect());
    last.click();
    harness.run();
    assert!(says(&harness, "the last one"));
}

#[test]
fn a_run_from_disk_shows_what_it_wrote() {
    let detail = data::run_detail(Path::new("runs/writer-demo"));
    assert_eq!(detail.samples.len(), 7);
    let harness = panel(View::Train, opened(|shown| *shown = detail));
    assert!(says(&harness, "240 of 240") && says(&harness, "Zizzi serves French food in the riverside area."));
}

#[test]
fn the_demonstration_writes_while_it_trains_and_a_long_history_is_thinned() {
    let (session, ..) = trained(writing(), 12, (0, Side::Down));
    let run = session.live.as_ref().expect("a run");
    let at = |run: &adamix::app::run_view::RunView| run.samples.iter().map(|record| record.step).collect::<Vec<_>>();
    assert_eq!(at(run), [0, 40, 80, 120, 160, 200, 240]);
    let (mut session, id) = started(writing());
    tell(&mut session, id, &(0..2000).collect::<Vec<_>>());
    tell(&mut session, id, &[1999]);
    let kept = at(session.live.as_ref().expect("a run"));
    assert!(kept.len() <= 512 && kept.first() == Some(&0) && kept.last() == Some(&1999), "{}", kept.len());
    assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "no step twice");
}

#[test]
fn a_language_model_without_classes_is_no_regression() {
    let without_classes = |task| {
        opened(move |detail| {
            detail.config.data.task = task;
            detail.start.labels.clear();
        })
    };
    assert!(says(&panel(View::Train, without_classes(Task::Text)), "Loss (nats)"));
    assert!(says(&panel(View::Train, without_classes(Task::Custom)), "Loss (squared error)"));
}

#[test]
fn setup_says_how_many_and_how_often() {
    let mut session = ready_session();
    assert!(!says(&panel(View::Setup, ready_session()), "Samples every (steps)"), "a classifier writes nothing");
    let mut form = session.form.clone();
    form.data.task = Task::Text;
    session.edit_form(form, 1.0);
    let harness = panel(View::Setup, session);
    for label in ["Samples", "Samples every (steps)", "Longest sample (tokens)"] {
        assert!(says(&harness, label), "{label}");
    }
}

#[test]
fn one_record_has_no_slider() {
    let mut session = crate::panel_support::opened(|detail| {
        detail.config.data.task = adamix::config::Task::Text;
        detail.samples = vec![crate::fake_engine::texts::samples(0, 240)];
    });
    let mut harness = crate::harness::panel(View::Train, std::mem::take(&mut session));
    harness.run();
    harness.get_by_label("before step 1");
    assert!(harness.query_by_label("◀").is_none() && harness.query_by_label("▶").is_none());
}
