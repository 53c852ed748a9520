//! Presenter mode, arrangements, the queue, capsules, and how exports are loaded.

use crate::fake_engine::{FakeEngine, data};
use crate::harness::{ScriptedPicker, ready_session, run_started, window, window_over};
use crate::panel_support::{done, opened, panel};
use adamix::app::actions::Action;
use adamix::app::files::Purpose;
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::view::{Page, View};
use adamix::app::{WorkbenchApp, first_form};
use adamix::protocol::*;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;

fn ready(window: &mut Harness<'_, WorkbenchApp>) {
    window.state_mut().session.apply(Incoming::Event(Event::Ready { device: "CPU".to_owned(), threads: 1 }));
    window.run_steps(3);
}

#[test]
fn presenter_mode_shows_one_view_large_and_escape_leaves() {
    let (mut window, handle) = window(Settings::default(), ScriptedPicker::default());
    ready(&mut window);
    window.key_press_modifiers(Modifiers::COMMAND | Modifiers::SHIFT, Key::P);
    window.run_steps(4);
    assert!((window.ctx.zoom_factor() - 1.6).abs() < 1e-3, "{}", window.ctx.zoom_factor());
    assert!((window.state().settings.zoom - 1.0).abs() < 1e-3, "the window's own size is kept");
    assert!(window.query_by_label("Menu").is_none() && window.query_by_label("Setup").is_none());
    window.get_by_label("Esc");
    window.key_press_modifiers(Modifiers::COMMAND, Key::Num3);
    window.run_steps(3);
    window.get_by_label("Routing");
    window.get_by_label("2 steps a second").click();
    window.run_steps(3);
    assert!(handle.controls().contains(&ControlRequest::Pace(2)));
    window.key_press(Key::Escape);
    window.run_steps(4);
    assert!((window.ctx.zoom_factor() - 1.0).abs() < 1e-3);
    window.get_by_label("Menu");
    assert_eq!(handle.controls().last(), Some(&ControlRequest::Pace(0)), "the training is as fast as before");
}

#[test]
fn what_is_presented_is_fed_whatever_stands_behind_it() {
    let (engine, _handle) = FakeEngine::demo(30, None);
    let mut window = window_over(engine, Settings::default(), ScriptedPicker::default());
    window.run_steps(6);
    for action in [Action::TogglePresenter, Action::Show(View::Routing), Action::StartRun] {
        window.state().actions.push(action);
        window.run_steps(4);
    }
    window.run_steps(40);
    assert!(!window.state().layout.is_visible(View::Routing), "the tab behind is another one");
    assert!(window.state().session.routes.timeline.last() > 0, "the draws are read");
    assert!(window.query_all_by_label_contains("layer 3 down: pass A").next().is_some(), "and drawn");
}

#[test]
fn escape_closes_the_dialog_then_presenter_mode_then_the_page() {
    let (mut window, _handle) = window(Settings::default(), ScriptedPicker::default());
    ready(&mut window);
    for action in [Action::ShowPage(Page::Start), Action::TogglePresenter, Action::ToggleAbout] {
        window.state().actions.push(action);
        window.run_steps(3);
    }
    let large = |window: &Harness<'_, WorkbenchApp>| window.ctx.zoom_factor() > 1.5;
    let mut seen = Vec::new();
    for _ in 0..3 {
        window.key_press(Key::Escape);
        window.run_steps(4);
        seen.push((large(&window), window.state().layout.page().is_some()));
    }
    assert_eq!(seen, [(true, true), (false, true), (false, false)]);
    // A page is seen: presenter mode makes way for it.
    for action in [Action::TogglePresenter, Action::ShowPage(Page::Help)] {
        window.state().actions.push(action);
        window.run_steps(3);
    }
    assert!(!large(&window));
    window.get_by_label("Find a view or a word");
}

#[test]
fn arrangements_are_kept_taken_and_deleted() {
    let (mut window, _handle) = window(Settings::default(), ScriptedPicker::default());
    ready(&mut window);
    window.state_mut().layout.show(View::Routing);
    window.state().actions.push(Action::ToggleLayouts);
    window.run_steps(3);
    window.get_by_label("Name").focus();
    window.run_steps(2);
    window.get_by_label("Name").type_text("lecture");
    window.run_steps(3);
    window.get_by_label("Keep this arrangement").click();
    window.run_steps(3);
    assert_eq!(window.state().settings.layouts.len(), 1);
    window.state_mut().layout.show(View::Train);
    window.run_steps(2);
    assert!(!window.state().layout.is_visible(View::Routing));
    window.get_by_label("Take lecture").click();
    window.run_steps(3);
    assert!(window.state().layout.is_visible(View::Routing));
    // It is stored with the window's settings.
    let stored = Settings::from_json(&window.state().settings.to_json().unwrap());
    assert!(stored.layouts.contains_key("lecture"));
    window.state().actions.push(Action::ToggleLayouts);
    window.run_steps(3);
    window.get_by_label("Delete lecture").click();
    window.run_steps(3);
    assert!(window.state().settings.layouts.is_empty());
    // One that cannot be read is said.
    window.state_mut().settings.layouts.insert("old".to_owned(), "{}".to_owned());
    window.state().actions.push(Action::UseLayout("old".to_owned()));
    window.run_steps(3);
    assert!(window.state().session.last_notice.as_ref().unwrap().text.contains("another version"));
}

fn entry(id: u64, name: &str, failed: Option<&str>) -> QueueEntry {
    let mut config = first_form();
    config.name = name.to_owned();
    QueueEntry { id, added: 1_800_000_000, config, failed: failed.map(str::to_owned), starting: false }
}

fn queued(entries: Vec<QueueEntry>, notes: &[&str]) -> Session {
    let mut session = ready_session();
    let runs = session.next_request();
    session.runs.begin(runs);
    session.apply(done(runs, Outcome::Runs(data::runs())));
    let req = session.next_request();
    session.queue.begin(req);
    let notes = notes.iter().map(|&note| note.to_owned()).collect();
    session.apply(done(req, Outcome::Queue(QueueState { entries, notes })));
    session
}

#[test]
fn the_queue_is_shown_and_changed() {
    let entries = vec![entry(3, "first", None), entry(5, "second", Some("no such model: /m")), entry(6, "third", None)];
    let mut harness = panel(View::Runs, queued(entries, &["the old list is kept as queue-damaged.json"]));
    harness.run();
    harness.get_by_label("Queue: 2 waiting");
    harness.get_by_label("the old list is kept as queue-damaged.json");
    harness.get_by_label("Could not start: no such model: /m");
    for button in ["Down first", "Up third", "Remove second", "Try again second", "Run the queue"] {
        harness.get_by_label(button).click();
        harness.run();
    }
    harness.get_by_label("Start the next one when a run ends").click();
    harness.run();
    let asked = [
        Action::ChangeQueue(QueueAsk::Move(3, 1)),
        Action::ChangeQueue(QueueAsk::Move(6, 1)),
        Action::ChangeQueue(QueueAsk::Remove(5)),
        Action::ChangeQueue(QueueAsk::Retry(5)),
        Action::RunQueue,
        Action::SetQueueOn(true),
    ];
    assert_eq!(harness.state().actions, asked);
    // An empty queue takes no room.
    let mut harness = panel(View::Runs, queued(Vec::new(), &[]));
    harness.run();
    assert!(harness.query_by_label("Run the queue").is_none());
}

fn asks(handle: &crate::fake_engine::FakeHandle) -> Vec<Command> {
    handle.commands()
}

#[test]
fn the_next_run_follows_when_one_ends_or_fails() {
    let (mut window, handle) = window(Settings::default(), ScriptedPicker::default());
    ready(&mut window);
    handle.answer_form();
    window.run_steps(2);
    window.state().actions.push(Action::StartRun);
    window.run_steps(3);
    let (start, run) = handle
        .requests()
        .iter()
        .find_map(|(req, command)| match command {
            Command::StartRun { run, .. } => Some((*req, *run)),
            _ => None,
        })
        .expect("the run was started");
    for event in [run_started(run, 10), Event::PhaseChanged(run, RunPhase::Training)] {
        handle.event(event);
    }
    window.run_steps(3);
    window.state().actions.push(Action::AddToQueue);
    window.run_steps(3);
    let answer = |window: &mut Harness<'_, WorkbenchApp>, entries: Vec<QueueEntry>| {
        let asked = handle.requests().into_iter().rev().find(|(_, c)| matches!(c, Command::Queue(_))).unwrap();
        handle.event(Event::Done(asked.0, Outcome::Queue(QueueState { entries, notes: Vec::new() })));
        window.run_steps(4);
    };
    answer(&mut window, vec![entry(1, "next", None)]);
    assert!(window.state().session.last_notice.as_ref().unwrap().text.contains("1 run waits"));
    assert!(!asks(&handle).iter().any(|c| matches!(c, Command::StartQueued { .. })), "a run is in training");
    // It fails: that is said, and the next one follows.
    handle.event(Event::PhaseChanged(run, RunPhase::Failed));
    let failure = Failure { kind: ErrorKind::Device, message: "the GPU is lost".to_owned() };
    handle.event(Event::Failed(Some(start), failure));
    window.run_steps(4);
    answer(&mut window, vec![entry(1, "next", None)]);
    assert!(asks(&handle).iter().any(|c| matches!(c, Command::StartQueued { .. })), "{:#?}", asks(&handle));
    let log: Vec<&str> = window.state().session.log.iter().map(|line| line.text.as_str()).collect();
    assert!(log.contains(&"the run failed: the GPU is lost"), "{log:#?}");
    assert!(log.iter().any(|text| text.contains("the next run of the queue follows")), "{log:#?}");
}

#[test]
fn a_capsule_is_called_one_and_is_not_written_into() {
    let capsule = || Some(Box::new(Capsule { tool: "adamix 0.1.0".to_owned(), ..Capsule::default() }));
    let mut harness = panel(View::Export, opened(|detail| detail.capsule = capsule()));
    harness.run();
    harness.get_by_label_contains("stays as it is: choose a Destination");
    let (mut window, _engine) = window(Settings::default(), ScriptedPicker::default());
    ready(&mut window);
    for (is_capsule, badges) in [(true, 1), (false, 0)] {
        let session = opened(|detail| detail.capsule = capsule().filter(|_| is_capsule));
        window.state_mut().session.show_opened(session.opened);
        window.run_steps(3);
        assert_eq!(window.query_all_by_label("capsule, read only").count(), badges);
    }
}

#[test]
fn a_capsule_is_opened_by_dropping_and_written_from_the_list() {
    let (mut window, handle) = window(Settings::default(), ScriptedPicker::default());
    ready(&mut window);
    let file = PathBuf::from("/tmp/handed-in.capsule");
    window.state().actions.push(Action::Dropped(file.clone()));
    window.state().actions.push(Action::SaveCapsule("runs/mine".into()));
    window.run_steps(3);
    assert!(asks(&handle).contains(&Command::OpenRun(file)));
    assert!(asks(&handle).contains(&Command::SaveCapsule { dir: "runs/mine".into(), file: None }));
}

#[test]
fn the_windows_own_chooser_offers_capsules() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("handed-in.capsule");
    for name in ["handed-in.capsule", "table.tsv"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let mut settings = Settings::default();
    settings.remember(Purpose::Capsule, dir.path().to_owned());
    let mut picker = ScriptedPicker::default();
    picker.no_dialogs = true;
    let (mut window, handle) = window(settings, picker);
    ready(&mut window);
    window.state().actions.push(Action::Pick(Purpose::Capsule));
    window.run_steps(6);
    window.get_by_label("handed-in.capsule");
    assert!(window.query_by_label("table.tsv").is_none());
    window.get_by_label("Path").focus();
    window.run_steps(2);
    window.key_press_modifiers(Modifiers::COMMAND, Key::A);
    window.get_by_label("Path").type_text(&file.to_string_lossy());
    window.run_steps(2);
    window.key_press(Key::Enter);
    window.run_steps(5);
    assert!(asks(&handle).contains(&Command::OpenRun(file)));
}

#[test]
fn an_export_says_how_it_is_loaded_and_opens_its_folder() {
    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let reports = data::exports(&plan);
    let dir = reports[0].dir.clone();
    let mut harness = panel(View::Export, opened(|detail| detail.exports = reports));
    harness.run();
    harness.get_by_label("How to load it").click();
    harness.run();
    harness.get_by_label_contains("safe_open(");
    harness.get_by_label("Copy the lines for safetensors").click();
    harness.run();
    harness.get_by_label("Open folder").click();
    harness.run();
    let actions = &harness.state().actions;
    assert!(matches!(&actions[0], Action::Copy(text) if text.contains("adapter.safetensors")), "{actions:?}");
    assert_eq!(actions[1], Action::OpenFolder(dir));

    let picker = ScriptedPicker::default();
    let revealed = picker.revealed.clone();
    let (mut window, _handle) = window(Settings::default(), picker);
    window.state().actions.push(Action::OpenFolder("runs/mine".into()));
    window.run_steps(3);
    assert_eq!(*revealed.lock(), [PathBuf::from("runs/mine")]);
}
