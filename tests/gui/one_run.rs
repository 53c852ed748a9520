//! One run is on screen and named once; messages belong to it and grow old.

use crate::fake_engine::data;
use crate::harness::{ScriptedPicker, run_started, steps, window};
use crate::panel_support::ready;
use adamix::app::WorkbenchApp;
use adamix::app::actions::Action;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::{Path, PathBuf};

type Window = Harness<'static, WorkbenchApp>;

/// A window with a run that was started here and ended so.
fn ended(reason: EndReason, step: u64) -> (Window, crate::fake_engine::FakeHandle, RunId) {
    let (mut window, engine) = window(Settings::default(), ScriptedPicker::default());
    engine.event(ready());
    window.run_steps(4);
    engine.answer_form();
    window.run_steps(2);
    window.state().actions.push(Action::StartRun);
    window.run_steps(3);
    let run = RunId(1);
    engine.event(run_started(run, 240));
    engine.event(Event::PhaseChanged(run, RunPhase::Training));
    engine.push(steps(run, 1, step));
    engine.event(Event::RunEnded(run, Box::new(data::end_record(reason, step))));
    engine.event(Event::PhaseChanged(run, RunPhase::Finished));
    let start = engine.requests().into_iter().find(|(_, command)| matches!(command, Command::StartRun { .. }));
    engine.event(Event::Done(start.expect("a run was started").0, Outcome::RunEnded(run)));
    window.run_steps(4);
    (window, engine, run)
}

fn open(window: &mut Window, engine: &crate::fake_engine::FakeHandle, dir: &str) {
    window.state().actions.push(Action::OpenRun(PathBuf::from(dir)));
    window.run_steps(3);
    let asked = engine.requests().into_iter().rev().find(|(_, command)| matches!(command, Command::OpenRun(_)));
    let detail = Box::new(data::run_detail(Path::new(dir)));
    engine.event(Event::Done(asked.expect("the run is read").0, Outcome::Opened(detail)));
    window.run_steps(4);
}

#[test]
fn the_toolbar_names_the_run_that_the_views_show() {
    let (mut window, engine, _) = ended(EndReason::Finished, 240);
    assert_eq!(window.query_all_by_label("test-run").count(), 1);
    window.get_by_label("Finished");
    window.get_by_label("240 / 240");
    open(&mut window, &engine, "runs/lab-round-robin");
    assert_eq!(window.query_all_by_label("lab-round-robin").count(), 1, "named once");
    assert_eq!(window.query_all_by_label("test-run").count(), 0, "the other run is not named as if it were shown");
    window.get_by_label("Stopped at step 120");
    window.get_by_label("120 / 240");
    for view in [View::Export, View::Compare, View::Routing] {
        window.state().actions.push(Action::Show(view));
        window.run_steps(4);
        assert_eq!(window.query_all_by_label("lab-round-robin").count(), 1, "{view:?}");
        assert!(window.query_by_label_contains("live run").is_none(), "no run is in training");
    }
    window.get_by_label("Back to test-run").click();
    window.run_steps(4);
    assert!(window.state().session.shows_live());
    assert_eq!(window.query_all_by_label("test-run").count(), 1);
}

#[test]
fn a_stopped_run_says_so_and_start_begins_another() {
    let (mut window, engine, _) = ended(EndReason::Stopped("the user asked".to_owned()), 60);
    window.get_by_label("Stopped at step 60");
    assert!(window.query_by_label("Finished").is_none());
    assert!(Action::StartRun.tooltip().contains("Begins a new run"));
    let resume = window.query_all_by_label("Resume").next().expect("Resume is in the toolbar");
    assert!(resume.rect().top() < 40.0);
    resume.click();
    window.run_steps(3);
    assert!(matches!(engine.commands().last(), Some(Command::ResumeRun { dir, .. }) if dir.ends_with("test-run")));
}

#[test]
fn an_evaluation_has_its_progress_in_the_toolbar() {
    let (mut window, engine, run) = ended(EndReason::Finished, 60);
    engine.event(Event::PhaseChanged(run, RunPhase::Evaluating));
    let progress = EvalProgress { step: 60, comparison: false, done: 312, rows: 640, seconds_left: Some(12.0) };
    engine.event(Event::Evaluating(run, progress));
    window.run_steps(3);
    window.get_by_label_contains("Evaluating 312 / 640 rows   12 s left");
    engine.event(Event::Evaluating(run, EvalProgress { comparison: true, rows: 5_760, ..progress }));
    window.run_steps(3);
    window.get_by_label_contains("Comparing 312 / 5,760 rows");
    engine.event(Event::PhaseChanged(run, RunPhase::Training));
    window.run_steps(3);
    assert!(window.query_by_label_contains("312 / ").is_none(), "it is over");
}

#[test]
fn messages_grow_old_and_belong_to_the_run_on_screen() {
    let (mut window, engine, _) = ended(EndReason::Stopped("the user asked".to_owned()), 60);
    let said =
        |window: &Window, text: &str| window.state().session.notice().is_some_and(|(n, _)| n.text.contains(text));
    assert!(said(&window, "stopped at step 60"));
    open(&mut window, &engine, "runs/lab-round-robin");
    assert!(!said(&window, "stopped at step 60"), "another run is on screen");
    window.state().actions.push(Action::ShowLive);
    window.run_steps(3);
    assert!(said(&window, "stopped at step 60"));
    window.state_mut().session.now += 30.0;
    assert!(window.state().session.notice().is_none(), "half a minute later");
    // A warning stays longer, and goes too.
    window.state_mut().session.log(LogLevel::Warning, "no file dialog can open here");
    window.state_mut().session.now += 30.0;
    assert!(said(&window, "no file dialog"));
    window.state_mut().session.now += 60.0;
    assert!(window.state().session.notice().is_none());
    // The next run begins without what was said of the last one.
    window.state_mut().session.notify(LogLevel::Info, "finished after 800 steps");
    let session = &mut window.state_mut().session;
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    assert!(session.notice().is_none());
}

#[test]
fn settings_of_a_run_that_is_not_open_are_read_and_used() {
    let (mut window, engine, _) = ended(EndReason::Finished, 240);
    let dir = PathBuf::from("runs/lab-lr5e-3");
    window.state().actions.push(Action::UseSettingsOf(dir.clone()));
    window.run_steps(3);
    let asked = engine.requests().into_iter().rev().find(|(_, command)| *command == Command::OpenRun(dir.clone()));
    let asked = asked.expect("the run is read");
    let mut detail = data::run_detail(&dir);
    detail.config.train.seed = 77;
    engine.event(Event::Done(asked.0, Outcome::Opened(Box::new(detail))));
    window.run_steps(4);
    let session = &window.state().session;
    assert_eq!((session.form.train.seed, session.form.name.as_str()), (77, ""));
    assert!(session.opened.is_none(), "the run on screen stays");
    assert!(window.state().layout.is_visible(View::Setup));
}

#[test]
fn the_palette_stays_where_it_is_while_somebody_types() {
    let (mut window, _engine) = window(Settings::default(), ScriptedPicker::default());
    window.run_steps(3);
    window.state().actions.push(Action::TogglePalette);
    window.run_steps(6);
    let before = window.get_by_label("Find an action").rect();
    window.get_by_label("Find an action").type_text("show rou");
    window.run_steps(6);
    let after = window.get_by_label("Find an action").rect();
    assert!((before.top() - after.top()).abs() < 0.5, "{before:?} became {after:?}");
}

#[test]
fn several_tensors_do_not_learn_and_one_does_not() {
    let (mut window, engine, run) = ended(EndReason::Finished, 60);
    let mut health = data::gradient_health(10);
    health[0].state = HealthState::Dead;
    engine.event(Event::GradientHealth(run, health.clone()));
    window.run_steps(3);
    let text =
        |window: &Window| window.state().session.last_notice.as_ref().map(|n| n.text.clone()).unwrap_or_default();
    assert!(text(&window).contains("(expert 0) does not learn"), "{}", text(&window));
    health[1].state = HealthState::Dead;
    engine.event(Event::GradientHealth(run, health));
    window.run_steps(3);
    assert!(text(&window).contains("(expert 0) and 1 more do not learn"), "{}", text(&window));
}
