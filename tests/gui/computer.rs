//! What the window shows of the computer, and the end of a run behind other windows.

use crate::fake_engine::FakeHandle;
use crate::harness::{ScriptedPicker, run_started, steps, window};
use crate::panel_support::ready;
use adamix::app::WorkbenchApp;
use adamix::app::actions::Action;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::protocol::*;
use egui::ViewportCommand;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use parking_lot::Mutex;
use std::sync::Arc;

fn training() -> (Harness<'static, WorkbenchApp>, FakeHandle, RunId) {
    let (window, engine, run, _) = training_beside_a_desktop();
    (window, engine, run)
}

/// The titles and texts of the notices that a desktop showed.
type Notices = Arc<Mutex<Vec<String>>>;

fn training_beside_a_desktop() -> (Harness<'static, WorkbenchApp>, FakeHandle, RunId, Notices) {
    let picker = ScriptedPicker::default();
    let notices = picker.notices.clone();
    let (mut window, engine) = window(Settings::default(), picker);
    engine.event(ready());
    window.run_steps(4);
    engine.answer_form();
    window.run_steps(2);
    window.state().actions.push(Action::StartRun);
    window.run_steps(3);
    let run = engine.commands().iter().find_map(|command| match command {
        Command::StartRun { run, .. } => Some(*run),
        _ => None,
    });
    let run = run.expect("a run");
    engine.event(run_started(run, 240));
    engine.event(Event::PhaseChanged(run, RunPhase::Training));
    engine.push(steps(run, 1, 20));
    window.run_steps(3);
    (window, engine, run, notices)
}

#[test]
fn the_computer_is_sampled_only_while_it_is_seen() {
    let (mut window, engine, _) = training();
    assert!(!engine.watch().machine, "not unless it is asked for");
    window.state().actions.push(Action::SetMonitor(true));
    window.run_steps(3);
    assert!(engine.watch().machine);
    let sample = MachineSample {
        processor: Some(0.5),
        memory: None,
        memory_total: None,
        own_memory: Some(2_000_000),
        own_gpu_memory: Some(3_000_000),
    };
    engine.push(Incoming::Machine(sample));
    engine.push(Incoming::Machine(sample));
    window.run_steps(3);
    assert_eq!(window.state().session.machine.len(), 2);
    assert!(window.query_all_by_label_contains("not known here").next().is_some(), "what the system does not tell");
    window.get_by_label_contains("3.0 MB");
    window.state().actions.push(Action::Show(View::Routing));
    window.run_steps(3);
    assert!(!engine.watch().machine, "nobody sees it");
}

/// The commands to the desktop of the last frames.
fn commands(window: &mut Harness<'static, WorkbenchApp>) -> Vec<ViewportCommand> {
    let mut found = Vec::new();
    for _ in 0..3 {
        window.step();
        found.extend(window.output().viewport_output.values().flat_map(|output| output.commands.clone()));
    }
    found
}

fn asks(commands: &[ViewportCommand]) -> bool {
    commands.iter().any(|command| matches!(command, ViewportCommand::RequestUserAttention(_)))
}

#[test]
fn the_end_of_a_run_asks_for_attention_behind_other_windows_only() {
    for (focused, notify) in [(false, true), (true, true), (false, false)] {
        let (mut window, engine, run, notices) = training_beside_a_desktop();
        window.state_mut().settings.notify = notify;
        let viewport = window.input_mut().viewports.entry(egui::ViewportId::ROOT).or_default();
        viewport.focused = Some(focused);
        window.step();
        engine.event(Event::PhaseChanged(run, RunPhase::Finished));
        let sent = commands(&mut window);
        assert_eq!(asks(&sent), !focused && notify, "focused {focused}, wanted {notify}: {sent:?}");
        let told = notices.lock().clone();
        assert_eq!(told.len(), usize::from(!focused && notify), "{told:?}");
        assert!(
            told.iter().all(|text| text.starts_with("Finished: ") && text.ends_with("; 20 of 240 steps")),
            "{told:?}"
        );
    }
}
