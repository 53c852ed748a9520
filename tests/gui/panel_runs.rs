//! The Runs view.

use crate::fake_engine::data;
use crate::harness::{panel, ready_session, training_session};
use adamix::app::actions::{Action, ActionQueue};
use adamix::app::panel_ctx::PanelCtx;
use adamix::app::panels::Panels;
use adamix::app::run_view::RunView;
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::theme::{Theme, install};
use adamix::app::view::View;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;

fn with_runs(runs: Vec<RunSummary>) -> Session {
    let mut session = ready_session();
    let req = session.next_request();
    session.runs.begin(req);
    session.apply(Incoming::Event(Event::Done(req, Outcome::Runs(runs))));
    session
}

#[test]
fn no_runs_yet() {
    let mut harness = panel(View::Runs, with_runs(Vec::new()));
    harness.run();
    harness.get_by_label("No runs yet");
}

#[test]
fn a_list_that_cannot_be_read_says_why() {
    let mut session = ready_session();
    let req = session.next_request();
    session.runs.begin(req);
    let failure = Failure { kind: ErrorKind::Io, message: "permission denied: /runs".to_owned() };
    session.apply(Incoming::Event(Event::Failed(Some(req), failure)));
    let mut harness = panel(View::Runs, session);
    harness.run();
    harness.get_by_label("permission denied: /runs");
}

#[test]
fn a_stopped_run_can_be_opened_resumed_and_deleted() {
    let mut harness = panel(View::Runs, with_runs(data::runs()));
    harness.run();
    let dir = PathBuf::from("runs/lab-round-robin");
    harness.get_by_label("lab-round-robin").click();
    harness.run();
    for button in ["Open", "Resume", "Delete…"] {
        harness.get_by_label(button).click();
        harness.run();
    }
    let wishes = [Action::OpenRun(dir.clone()), Action::ResumeRun(dir.clone()), Action::AskDeleteRun(dir)];
    assert_eq!(harness.state().actions, wishes);
}

#[test]
fn a_finished_run_cannot_be_resumed() {
    let mut harness = panel(View::Runs, with_runs(data::runs()));
    harness.run();
    harness.get_by_label("lab-demo").click();
    harness.run();
    harness.get_by_label("Resume").click();
    harness.run();
    assert!(harness.state().actions.is_empty());
}

#[test]
fn overlaid_runs_share_a_plot() {
    let mut session = with_runs(data::runs());
    for run in data::runs() {
        let req = session.next_request();
        session.overlays.entry(run.dir.clone()).or_default().begin(req);
        let detail = Box::new(data::run_detail(&run.dir));
        session.apply(Incoming::Event(Event::Done(req, Outcome::Opened(detail))));
    }
    assert!(session.opened.is_none(), "overlaying does not open");
    assert!(session.overlays.values().all(|query| query.value.is_some()));
    let mut harness = panel(View::Runs, session);
    harness.run();
    harness.get_by_label("overlay plot");
    harness.get_by_label("Overlay lab-demo").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::ToggleOverlay(PathBuf::from("runs/lab-demo"))]);
}

#[test]
fn a_broken_run_directory_is_listed_with_its_problem() {
    let mut runs = data::runs();
    runs[1].problem = Some("run.toml cannot be read: missing field".to_owned());
    let mut harness = panel(View::Runs, with_runs(runs));
    harness.run();
    harness.get_by_label("lab-round-robin").click();
    harness.run();
    assert!(harness.query_all_by_label_contains("run.toml cannot be read").next().is_some());
}

#[test]
fn a_run_from_disk_becomes_a_view() {
    let view = RunView::opened(data::run_detail(std::path::Path::new("runs/lab-round-robin")));
    assert_eq!(view.name(), "lab-round-robin");
    assert_eq!(view.step(), 120);
    assert_eq!(view.best_eval().map(|eval| eval.step), Some(120));
}

#[test]
fn a_row_can_be_chosen_anywhere_and_a_double_click_opens_it() {
    let mut harness = panel(View::Runs, with_runs(data::runs()));
    let name = harness.get_by_label("lab-round-robin").rect();
    let at = egui::pos2(name.right() + 90.0, name.center().y);
    let click = |harness: &mut egui_kittest::Harness<'_, _>| {
        for pressed in [true, false] {
            let button = egui::PointerButton::Primary;
            harness.event(egui::Event::PointerButton { pos: at, button, pressed, modifiers: egui::Modifiers::NONE });
            harness.run_steps(1);
        }
    };
    harness.event(egui::Event::PointerMoved(at));
    click(&mut harness);
    harness.run();
    harness.get_by_label("Delete…");
    assert!(harness.state().actions.is_empty());
}

#[test]
fn the_run_in_training_is_listed_as_it_is_now() {
    let (live, _) = training_session();
    let dir = live.live.as_ref().expect("a run is in training").dir.clone();
    let mut old = data::runs().remove(1);
    (old.dir, old.name, old.step, old.status) = (dir, "test-run".to_owned(), 3, RunStatus::Interrupted);
    old.resumable = true;
    let mut session = live;
    let req = session.next_request();
    session.runs.begin(req);
    session.apply(Incoming::Event(Event::Done(req, Outcome::Runs(vec![old]))));
    let mut harness = panel(View::Runs, session);
    assert!(harness.query_by_label("running").is_some());
    assert!(harness.query_all_by_label_contains("100/").next().is_some(), "the newest step");
    harness.get_by_label("test-run").click();
    harness.run();
    harness.get_by_label("Resume").click();
    harness.run();
    assert!(harness.state().actions.is_empty(), "a run in training cannot be resumed");
}

#[test]
fn settings_are_used_without_opening_the_run() {
    let mut harness = panel(View::Runs, with_runs(data::runs()));
    harness.get_by_label("lab-lr5e-3").click();
    harness.run();
    harness.get_by_label("Use its settings").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::UseSettingsOf(PathBuf::from("runs/lab-lr5e-3"))]);
}

#[test]
fn runs_with_different_metrics_say_which() {
    let harness = panel(View::Runs, with_runs(data::runs()));
    harness.get_by_label("0.7640");
    let mut runs = data::runs();
    (runs[1].metric, runs[1].best) = ("loss".to_owned(), Some(1.295));
    let harness = panel(View::Runs, with_runs(runs));
    for best in ["0.7640 accuracy", "1.2950 loss"] {
        harness.get_by_label(best);
    }
}

#[test]
fn a_long_name_is_not_cut() {
    let mut runs = data::runs();
    let name = "chat-writer-lab-20261130-235959";
    runs[0].name = name.to_owned();
    let mut session = with_runs(runs);
    let mut harness = Harness::builder().with_size([512.0, 700.0]).with_context_setup(install).build_ui_state(
        |ui, session: &mut Session| {
            let theme = Theme::new(false);
            let (settings, actions) = (Settings::default(), ActionQueue::default());
            let ctx = PanelCtx { session, settings: &settings, actions: &actions, theme: &theme };
            Panels::default().ui(View::Runs, &ctx, ui);
        },
        std::mem::take(&mut session),
    );
    harness.run_steps(4);
    // About seven points a letter.
    let width = harness.get_by_label(name).rect().width();
    assert!(width > 6.0 * name.len() as f32, "{width} points for {name}");
}
