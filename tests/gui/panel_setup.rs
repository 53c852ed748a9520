//! The Setup view: what is asked for by clicks, and what blocks a start.

use crate::fake_engine::data;
use crate::harness::{panel, ready_session};
use crate::panel_support::{check_plan, done};
use adamix::app::actions::Action;
use adamix::app::files::Purpose;
use adamix::app::session::Session;
use adamix::app::view::View;
use adamix::config::{BadRows, RunConfig, Task};
use adamix::protocol::*;
use egui::accesskit::Role;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

#[test]
fn the_first_form_is_ready_to_start() {
    let mut harness = panel(View::Setup, ready_session());
    harness.run();
    harness.get_by_label("Ready to start");
    harness.get_by_label("Start").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::StartRun]);
}

#[test]
fn impossible_settings_block_the_start_with_their_reason() {
    type Change = fn(&mut RunConfig);
    let bad: [(Change, &str); 8] = [
        (|c| c.train.learning_rate = 0.0, "“Learning rate” is 0"),
        (|c| c.mixture.num_experts = 0, "“Experts (M)” is 0"),
        (|c| c.mixture.sharing_down = true, "all experts are one"),
        (|c| c.model.path.clear(), "no model chosen"),
        (|c| c.data.task = Task::Custom, "no training file chosen"),
        (|c| c.data.task = Task::Sst2, "no data directory chosen"),
        (|c| c.train.batch_size = 0, "“Batch” is 0"),
        (|c| c.name = "a/b".to_owned(), "cannot be a directory name"),
    ];
    for (change, words) in bad {
        let mut session = ready_session();
        let mut form = session.form.clone();
        change(&mut form);
        session.edit_form(form, 1.0);
        let mut harness = panel(View::Setup, session);
        harness.run();
        harness.get_by_label("Cannot start yet");
        assert!(harness.query_all_by_label_contains(words).next().is_some(), "{words} is not said");
        harness.get_by_label("Start").click();
        harness.run();
        assert!(harness.state().actions.is_empty(), "{words}: Start must not work");
    }
}

#[test]
fn the_engine_s_own_objections_block_too_until_the_form_changes() {
    let mut session = ready_session();
    let req = session.next_request();
    session.preflight.begin(req);
    session.preflight_version = session.form_version;
    let mut report = data::preflight(&session.form);
    report.problems = vec!["not enough memory: 40 GiB needed, 8 GiB free; choose a smaller batch".to_owned()];
    session.apply(Incoming::Event(Event::Done(req, Outcome::Preflight(Box::new(report)))));
    assert!(session.start_problems()[0].contains("not enough memory"));
    let mut form = session.form.clone();
    form.train.batch_size = 4;
    session.edit_form(form, 1.0);
    assert_eq!(session.start_problems(), ["the plan is being checked"], "the old objection was about other settings");
    check_plan(&mut session);
    assert!(session.start_problems().is_empty());
}

#[test]
fn a_checkbox_changes_the_form_and_nothing_else() {
    let session = ready_session();
    let mut expected = session.form.clone();
    expected.mixture.consistency = false;
    let mut harness = panel(View::Setup, session);
    harness.run();
    harness.get_by_label("Consistency between two passes").click();
    harness.run_steps(2);
    assert_eq!(harness.state().actions.first(), Some(&Action::EditForm(Box::new(expected))));
}

#[test]
fn own_files_are_chosen_by_dialog() {
    let mut session = ready_session();
    let mut form = session.form.clone();
    form.data.task = Task::Custom;
    session.edit_form(form, 1.0);
    let mut harness = panel(View::Setup, session);
    harness.run();
    harness.get_by_label("Browse for training file").click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::Pick(Purpose::TrainFile)]);
}

#[test]
fn data_are_shown_in_all_four_states() {
    let mut session = ready_session();
    let mut harness = panel(View::Setup, ready_session());
    harness.run();
    assert!(harness.query_all_by_label_contains("to see a preview").next().is_some(), "empty");

    let req = session.next_request();
    session.data.begin(req);
    let mut harness = panel(View::Setup, session);
    harness.run();
    assert!(harness.query_all_by_label_contains("Reading and tokenizing").next().is_some(), "loading");

    let failure = Failure { kind: ErrorKind::Data, message: "train.tsv line 3 has 1 column".to_owned() };
    harness.state_mut().session.apply(Incoming::Event(Event::Failed(Some(req), failure)));
    harness.run();
    assert!(harness.query_all_by_label_contains("train.tsv line 3").next().is_some(), "error");

    let session = &mut harness.state_mut().session;
    let req = session.next_request();
    session.data.begin(req);
    let preview = Box::new(data::data_preview(&session.form));
    session.apply(Incoming::Event(Event::Done(req, Outcome::Data(preview))));
    harness.run();
    assert!(harness.query_all_by_label_contains("2,560").next().is_some(), "data");
    assert!(
        harness.query_all_by_label_contains("evaluation rows are also training rows").next().is_some(),
        "leaks are said"
    );
}

#[test]
fn the_command_says_the_same_as_the_form() {
    let mut session = ready_session();
    let mut form = session.form.clone();
    form.train.seed = 41;
    session.edit_form(form, 1.0);
    let mut harness = panel(View::Setup, session);
    harness.run();
    harness.get_by_label("The same as a command").click();
    harness.run();
    harness.get_by_label("Copy command").click();
    harness.run();
    let Some(Action::Copy(command)) = harness.state().actions.first() else { panic!("nothing was copied") };
    assert!(command.starts_with("adamix train ") && command.contains("--seed 41"), "{command}");
}

fn preview(session: &mut Session, change: impl FnOnce(&mut DataPreview)) {
    let mut preview = data::data_preview(&session.form);
    change(&mut preview);
    let req = session.next_request();
    session.data.begin(req);
    session.apply(done(req, Outcome::Data(Box::new(preview))));
}

#[test]
fn rows_that_cannot_be_used_can_be_left_out_by_a_click() {
    let mut session = ready_session();
    preview(&mut session, |preview| {
        let reason = "1 column where 2 were expected".to_owned();
        preview.skipped = vec![SkippedRow { file: "mine.tsv".to_owned(), line: 301, reason }];
    });
    let mut harness = panel(View::Setup, session);
    assert!(harness.query_all_by_label_contains("1 row cannot be used").next().is_some());
    harness.get_by_label("Leave these rows out").click();
    harness.run();
    let Some(Action::EditForm(form)) = harness.state().actions.first().cloned() else { panic!("nothing was changed") };
    assert_eq!(form.data.bad_rows, BadRows::Skip);
    harness.state_mut().session.edit_form(*form, 1.0);
    harness.run();
    assert!(harness.query_by_label("Leave these rows out").is_none());
    assert!(harness.query_all_by_label_contains("1 row is left out").next().is_some());
}

#[test]
fn a_plan_that_failed_early_shows_its_reason_and_no_figures() {
    let mut session = ready_session();
    let req = session.next_request();
    session.preflight.begin(req);
    session.preflight_version = session.form_version;
    let problems = vec!["no config.json: /models/empty".to_owned()];
    let report = PreflightReport { problems, ..PreflightReport::default() };
    session.apply(done(req, Outcome::Preflight(Box::new(report))));
    let harness = panel(View::Setup, session);
    assert!(harness.query_all_by_label_contains("no config.json").next().is_some());
    assert!(harness.query_all_by_label_contains("After merging").next().is_none(), "zeros are no plan");
}

#[test]
fn what_zero_means_is_said_and_epochs_are_off_while_steps_are_set() {
    let mut session = ready_session();
    assert!(session.form.train.max_steps > 0, "the lab goes by steps");
    let harness = panel(View::Setup, session);
    assert!(harness.get_by_role_and_label(Role::SpinButton, "Epochs").accesskit_node().is_disabled());
    assert!(harness.query_by_value("no early stopping").is_some());
    session = ready_session();
    let mut form = session.form.clone();
    form.train.max_steps = 0;
    session.edit_form(form, 1.0);
    let harness = panel(View::Setup, session);
    assert!(!harness.get_by_role_and_label(Role::SpinButton, "Epochs").accesskit_node().is_disabled());
    assert!(harness.query_by_value("by epochs").is_some());
}
