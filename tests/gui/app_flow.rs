//! The whole window over a fake engine: what it asks, what it does when things go wrong.

use crate::fake_engine::data;
use crate::fake_engine::{FakeEngine, FakeHandle};
use crate::harness::{ScriptedPicker, run_started, steps, window, window_over};
use crate::panel_support::ready;
use adamix::app::WorkbenchApp;
use adamix::app::actions::Action;
use adamix::app::files::Purpose;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::app::{WindowOptions, first_form};
use adamix::config::{FileFormat, Task};
use adamix::protocol::*;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use std::path::PathBuf;

type Window = Harness<'static, WorkbenchApp>;

fn click(window: &mut Window, label: &str) {
    window.get_all_by_label(label).next().expect(label).click();
    window.run_steps(3);
}

fn opened() -> (Window, FakeHandle) {
    let (mut window, engine) = window(Settings::default(), ScriptedPicker::default());
    engine.event(ready());
    window.run_steps(4);
    engine.answer_form();
    window.run_steps(2);
    (window, engine)
}

/// A window in which a run is in training.
fn training() -> (Window, FakeHandle, RunId) {
    let (mut window, engine) = opened();
    click(&mut window, "Start");
    let run = engine
        .commands()
        .iter()
        .find_map(|command| match command {
            Command::StartRun { run, .. } => Some(*run),
            _ => None,
        })
        .expect("Start sends a run");
    engine.event(run_started(run, 240));
    engine.event(Event::PhaseChanged(run, RunPhase::Training));
    engine.push(steps(run, 1, 30));
    window.run_steps(3);
    (window, engine, run)
}

#[test]
fn it_opens_ready_and_start_sends_the_lab() {
    let (mut window, engine) = opened();
    let asked = engine.commands();
    assert!(asked.iter().any(|c| matches!(c, Command::ListRuns { .. })));
    assert!(asked.iter().any(|c| matches!(c, Command::PreviewModel { .. })));
    assert!(asked.iter().any(|c| matches!(c, Command::PreviewData { .. })));
    assert!(asked.iter().any(|c| matches!(c, Command::Preflight { .. })));
    click(&mut window, "Start");
    let commands = engine.commands();
    let Some(Command::StartRun { config, .. }) = commands.last() else { panic!("{:?}", commands.last()) };
    assert_eq!(**config, first_form());
    assert_eq!(config.data.task, Task::Lab);
    assert_eq!(window.state().session.phase, RunPhase::Preparing);
    let sent = commands.len();
    click(&mut window, "Start");
    assert_eq!(engine.commands().len(), sent, "a second click starts nothing");
}

#[test]
fn before_the_engine_is_ready_nothing_is_asked() {
    let (mut window, engine) = window(Settings::default(), ScriptedPicker::default());
    window.run_steps(4);
    assert!(engine.commands().is_empty());
    click(&mut window, "Start");
    assert!(engine.commands().is_empty());
}

#[test]
fn a_busy_engine_is_said_and_nothing_changes() {
    let (mut window, engine) = opened();
    let before = engine.commands().len();
    engine.set_busy(Some(Busy::Full));
    click(&mut window, "Start");
    assert_eq!(engine.commands().len(), before);
    assert_eq!(window.state().session.phase, RunPhase::Idle);
    let notice = window.state().session.last_notice.clone().expect("it is said");
    assert!(notice.text.contains("busy"), "{notice:?}");
    engine.set_busy(None);
    click(&mut window, "Start");
    assert!(matches!(engine.commands().last(), Some(Command::StartRun { .. })));
}

#[test]
fn pause_step_continue_stop() {
    let (mut window, engine, run) = training();
    click(&mut window, "Pause");
    assert_eq!(engine.controls(), [ControlRequest::Pause]);
    assert_eq!(window.state().session.phase, RunPhase::Training, "the window shows what was reported, not asked");
    click(&mut window, "Pause");
    assert_eq!(engine.controls().len(), 1, "asked once until the engine answers");
    engine.event(Event::PhaseChanged(run, RunPhase::Paused));
    window.run_steps(3);
    click(&mut window, "Step");
    click(&mut window, "Continue");
    engine.event(Event::PhaseChanged(run, RunPhase::Training));
    window.run_steps(3);
    click(&mut window, "Stop");
    let controls = engine.controls();
    assert_eq!(controls[1..3], [ControlRequest::Step, ControlRequest::Resume]);
    assert!(matches!(controls[3], ControlRequest::Stop(_)));
}

#[test]
fn the_keyboard_does_what_the_buttons_do() {
    let (mut window, engine, run) = training();
    window.key_press(Key::Space);
    window.run_steps(3);
    assert_eq!(engine.controls(), [ControlRequest::Pause]);
    engine.event(Event::PhaseChanged(run, RunPhase::Paused));
    window.run_steps(3);
    window.key_press(Key::Space);
    window.run_steps(3);
    assert_eq!(engine.controls(), [ControlRequest::Pause, ControlRequest::Resume]);
    window.key_press_modifiers(Modifiers::COMMAND, View::Runs.digit());
    window.run_steps(3);
    assert!(window.state().layout.is_visible(View::Runs));
    window.key_press(Key::F1);
    window.run_steps(3);
    assert!(window.get_all_by_label("Keyboard shortcuts").next().is_some());
    assert!(window.state().dialog.is_some());
    window.key_press(Key::Escape);
    window.run_steps(3);
    assert!(window.state().dialog.is_none());
}

#[test]
fn the_palette_finds_an_action_by_a_part_of_its_name() {
    let (mut window, _engine) = opened();
    window.key_press_modifiers(Modifiers::COMMAND, Key::K);
    window.run_steps(3);
    window.get_by_label("Find an action").type_text("show rou");
    window.run_steps(3);
    assert!(!window.state().layout.is_visible(View::Routing));
    window.key_press(Key::Enter);
    window.run_steps(3);
    assert!(window.state().layout.is_visible(View::Routing));
    assert!(window.state().dialog.is_none());
}

#[test]
fn only_what_can_be_seen_is_watched() {
    let (mut window, engine, _run) = training();
    assert_eq!(engine.watch(), Watch::default());
    window.state().actions.push(Action::Show(View::Routing));
    window.run_steps(3);
    assert_eq!(engine.watch(), Watch { routing: true, ..Watch::default() });
    window.state().actions.push(Action::Show(View::Experts));
    window.state().actions.push(Action::FocusExperts(2, Side::Up));
    window.run_steps(3);
    assert_eq!(engine.watch(), Watch { experts: Some((2, Side::Up)), ..Watch::default() });
}

#[test]
fn a_flood_between_two_frames_is_taken_in_bounded_memory() {
    let (mut window, engine, run) = training();
    for first in (31..=100_030u64).step_by(2000) {
        engine.push(steps(run, first, (first + 1999).min(100_030)));
    }
    for _ in 0..200 {
        window.run_steps(1);
        if engine.waiting() == 0 {
            break;
        }
    }
    window.run_steps(1);
    assert_eq!(engine.waiting(), 0);
    let history = &window.state().session.live.as_ref().unwrap().history;
    assert!(history.loss.buckets().len() <= adamix::app::history::CAPACITY);
    assert_eq!(history.last.map(|sample| sample.step), Some(100_030));
}

fn ask_to_close(window: &mut Window) {
    let viewport = window.input_mut().viewports.entry(egui::ViewportId::ROOT).or_default();
    viewport.events.push(egui::ViewportEvent::Close);
    window.run_steps(1);
    let viewport = window.input_mut().viewports.entry(egui::ViewportId::ROOT).or_default();
    viewport.events.clear();
    window.run_steps(2);
}

#[test]
fn closing_during_training_asks_and_can_checkpoint_first() {
    let (mut window, engine, run) = training();
    ask_to_close(&mut window);
    window.get_by_label("Training is still running");
    click(&mut window, "Keep training");
    assert!(window.state().dialog.is_none());
    assert!(engine.controls().is_empty(), "nothing was stopped");
    ask_to_close(&mut window);
    click(&mut window, "Checkpoint and quit");
    assert!(matches!(engine.controls().last(), Some(ControlRequest::Stop(_))));
    engine.event(Event::PhaseChanged(run, RunPhase::Finished));
    window.step();
    let commands: Vec<_> = window.output().viewport_output.values().flat_map(|v| &v.commands).collect();
    assert!(commands.iter().any(|c| matches!(c, egui::ViewportCommand::Close)), "{commands:?}");
}

#[test]
fn closing_an_idle_window_asks_nothing() {
    let (mut window, _engine) = opened();
    ask_to_close(&mut window);
    assert!(window.state().dialog.is_none());
}

#[test]
fn an_engine_that_cannot_start_leaves_a_window_that_says_so() {
    let error = adamix::error::Error::internal("no processor found");
    let mut window: Window = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        let (engine, picker) = (Err(error), Box::new(ScriptedPicker::default()));
        WorkbenchApp::new(&cc.egui_ctx, engine, picker, Settings::default(), WindowOptions::default())
    });
    window.run_steps(3);
    window.get_by_label("Engine failed");
    assert!(window.query_all_by_label_contains("no processor found").next().is_some());
}

#[test]
fn a_dropped_table_is_read_for_its_columns_by_the_engine_before_its_rows() {
    let (mut window, engine) = opened();
    let path = PathBuf::from("/data/mine.csv");
    window.state().actions.push(Action::Dropped(path.clone()));
    window.run_steps(60);
    let is_data = |command: &Command| matches!(command, Command::PreviewData(config) if config.data.train_file == "/data/mine.csv");
    let asked = engine.commands();
    let columns = Command::ReadColumns { path, format: FileFormat::Auto, header: None };
    assert!(asked.contains(&columns), "{asked:?}");
    assert!(!asked.iter().any(is_data), "rows of the wrong column are no preview");
    let start = window.get_all_by_label("Start").next().unwrap().accesskit_node().is_disabled();
    assert!(start, "the columns are still being read");
    engine.answer_form();
    window.run_steps(60);
    let data = &window.state().session.form.data;
    assert_eq!(data.task, Task::Custom);
    assert_eq!((data.text_column.as_str(), data.label_column.as_str()), ("review text", "sentiment"));
    let Some(Command::PreviewData(config)) = engine.commands().into_iter().find(is_data) else { panic!("no preview") };
    assert_eq!(config.data.text_column, "review text");
    // A second file, while the first one is still being read, is the one that counts.
    window.state().actions.push(Action::Dropped("/data/second.csv".into()));
    window.run_steps(60);
    window.state().actions.push(Action::Dropped("/data/third.csv".into()));
    window.run_steps(60);
    engine.answer_form();
    window.run_steps(3);
    assert_eq!(window.state().session.columns.value.as_ref().unwrap().file, "/data/third.csv");
}

#[test]
fn a_run_file_fills_the_form_and_a_broken_one_changes_nothing() {
    let (good, bad) = (PathBuf::from("/x/good.toml"), PathBuf::from("/x/bad.toml"));
    let mut picker = ScriptedPicker::default();
    picker.texts.insert(good.clone(), "[train]\nseed = 17\n".to_owned());
    picker.texts.insert(bad.clone(), "[train]\nsede = 17\n".to_owned());
    picker.picks.extend([bad, good]);
    let (mut window, engine) = window(Settings::default(), picker);
    engine.event(ready());
    window.run_steps(3);
    window.state().actions.push(Action::Pick(Purpose::OpenSettings));
    window.run_steps(4);
    let session = &window.state().session;
    assert_eq!(session.form, first_form());
    assert!(session.last_notice.as_ref().unwrap().text.contains("sede"), "the wrong key is named");
    window.state().actions.push(Action::Pick(Purpose::OpenSettings));
    window.run_steps(4);
    assert_eq!(window.state().session.form.train.seed, 17);
}

#[test]
fn a_run_is_deleted_only_after_the_question() {
    let (mut window, engine) = opened();
    let dir = PathBuf::from("runs/lab-demo");
    window.state().actions.push(Action::AskDeleteRun(dir.clone()));
    window.run_steps(3);
    let deletes =
        |engine: &FakeHandle| engine.commands().iter().filter(|c| matches!(c, Command::DeleteRun { .. })).count();
    assert_eq!(deletes(&engine), 0);
    click(&mut window, "Keep it");
    assert_eq!(deletes(&engine), 0);
    window.state().actions.push(Action::AskDeleteRun(dir));
    window.run_steps(3);
    click(&mut window, "Delete");
    assert_eq!(deletes(&engine), 1);
}

#[test]
fn a_whole_run_of_the_demonstration_in_every_view() {
    let (engine, _handle) = FakeEngine::demo(10, None);
    let mut window = window_over(engine, Settings::default(), ScriptedPicker::default());
    window.run_steps(4);
    click(&mut window, "Start");
    for view in View::ALL {
        window.state().actions.push(Action::Show(view));
        window.run_steps(5);
        assert_eq!(window.unnamed_widgets(), Vec::<String>::new(), "{view:?} has inputs without a name");
    }
    for _ in 0..100 {
        window.run_steps(1);
        if window.state().session.phase == RunPhase::Finished {
            break;
        }
    }
    let session = &window.state().session;
    assert_eq!(session.phase, RunPhase::Finished);
    let live = session.live.as_ref().unwrap();
    assert_eq!(live.step(), live.start.total_steps);
    assert!(live.report().is_some());
    assert!(session.start_problems().is_empty(), "the next run can start");
    for view in View::ALL {
        window.state().actions.push(Action::Show(view));
        window.run_steps(3);
    }
    assert_eq!(window.state().session.live.as_ref().unwrap().metric(), data::eval_report(1).metric);
}

#[test]
fn the_list_of_runs_is_read_again_when_it_is_seen_and_while_another_process_trains() {
    let (mut window, engine) = opened();
    let lists =
        |engine: &FakeHandle| engine.commands().iter().filter(|c| matches!(c, Command::ListRuns { .. })).count();
    let answer = |engine: &FakeHandle, runs: Vec<RunSummary>| {
        let commands = engine.requests();
        let asked =
            commands.iter().rev().find(|(_, c)| matches!(c, Command::ListRuns(_))).expect("a list was asked for");
        engine.event(Event::Done(asked.0, Outcome::Runs(runs)));
    };
    answer(&engine, data::runs());
    window.run_steps(3);
    assert_eq!(lists(&engine), 1);
    window.state().actions.push(Action::Show(View::Runs));
    window.run_steps(3);
    assert_eq!(lists(&engine), 2, "it came into sight");
    let mut runs = data::runs();
    runs[0].status = RunStatus::Finished;
    answer(&engine, runs.clone());
    window.run_steps(200);
    assert_eq!(lists(&engine), 2, "nothing changes, nothing is read");
    runs[0].status = RunStatus::Running;
    window.state().actions.push(Action::RefreshRuns);
    window.run_steps(2);
    answer(&engine, runs);
    window.run_steps(200);
    assert!(lists(&engine) > 3, "a run of another process is followed");
}
