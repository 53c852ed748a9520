//! Several runs in the Runs view: ticked, grouped, sorted, searched, named.

use crate::fake_engine::data;
use crate::harness::{ScriptedPicker, panel, ready_session, run_started, window};
use crate::panel_support::ready;
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::protocol::*;
use egui_kittest::kittest::Queryable as _;
use std::path::{Path, PathBuf};

fn listed(runs: Vec<RunSummary>) -> Session {
    let mut session = ready_session();
    let req = session.next_request();
    session.runs.begin(req);
    session.apply(Incoming::Event(Event::Done(req, Outcome::Runs(runs))));
    session
}

fn tick(session: &mut Session, dir: &str, change: impl FnOnce(&mut RunDetail)) {
    let req = session.next_request();
    session.overlays.entry(PathBuf::from(dir)).or_default().begin(req);
    let mut detail = data::run_detail(Path::new(dir));
    change(&mut detail);
    session.apply(Incoming::Event(Event::Done(req, Outcome::Opened(Box::new(detail)))));
}

#[test]
fn runs_that_differ_only_in_the_seed_are_one_line() {
    let mut session = listed(data::runs());
    let seeds = [("runs/a", 1), ("runs/b", 2), ("runs/c", 3)];
    for (dir, seed) in seeds {
        tick(&mut session, dir, |detail| detail.config.train.seed = seed);
    }
    tick(&mut session, "runs/other", |detail| detail.config.train.learning_rate = 0.0123);
    let mut harness = panel(View::Runs, session);
    harness.run();
    assert!(harness.query_all_by_label_contains("a (3 runs)").next().is_some());
    harness.get_by_label("Merged scores of the ticked runs");
    // What differs stands with its name and its values.
    harness.get_by_label("Learning rate");
    harness.get_by_label("Seed");
    assert!(harness.query_all_by_label("0.0123").next().is_some());
    assert!(harness.query_by_label("Batch").is_none(), "what is the same is left out");
    harness.get_by_label("One curve for runs that differ only in the seed").click();
    harness.run();
    assert!(harness.query_all_by_label_contains("(3 runs)").next().is_none());
}

#[test]
fn the_list_is_searched_and_sorted() {
    let mut runs = data::runs();
    runs[1].label.tags = vec!["paper".to_owned()];
    let (first, second) = (runs[0].name.clone(), runs[1].name.clone());
    let mut harness = panel(View::Runs, listed(runs));
    harness.get_by_label("Search").focus();
    harness.run();
    harness.get_by_label("Search").type_text("PAPER");
    harness.run();
    assert!(harness.query_by_label(&second).is_some() && harness.query_by_label(&first).is_none());
    let mut harness = panel(View::Runs, listed(data::runs()));
    let above = |harness: &egui_kittest::Harness<'_, _>| {
        harness.get_by_label(&first).rect().top() < harness.get_by_label(&second).rect().top()
    };
    harness.get_by_label("Sort by Run").click();
    harness.run();
    assert_eq!(above(&harness), first < second);
    harness.get_by_label("Sort by Run").click();
    harness.run();
    assert_eq!(above(&harness), first > second);
}

#[test]
fn a_run_gets_a_name_and_keeps_its_directory() {
    let mut harness = panel(View::Runs, listed(data::runs()));
    harness.get_by_label("lab-round-robin").click();
    harness.run();
    harness.get_by_label("Name, tags, notes").click();
    harness.run();
    harness.get_by_label("Name").focus();
    harness.run();
    harness.get_by_label("Name").type_text("The control");
    harness.run();
    harness.get_by_label("Tags").focus();
    harness.run();
    let expected = RunLabel { title: "The control".to_owned(), ..RunLabel::default() };
    let dir = PathBuf::from("runs/lab-round-robin");
    assert_eq!(harness.state().actions, [Action::LabelRun(dir, Box::new(expected))]);
}

#[test]
fn a_label_changes_the_list_at_once() {
    let mut session = listed(data::runs());
    let dir = data::runs()[0].dir.clone();
    let req = session.next_request();
    session.labelling.begin(req);
    let label = RunLabel { title: "Renamed".to_owned(), ..RunLabel::default() };
    session.apply(Incoming::Event(Event::Done(req, Outcome::Labelled(dir, Box::new(label)))));
    let harness = panel(View::Runs, session);
    harness.get_by_label("Renamed");
}

#[test]
fn a_run_started_with_the_settings_of_another_names_its_parent() {
    [true, false].into_iter().for_each(settings_of_a_run_are_used);
}

/// With the run on screen, or from the list.
fn settings_of_a_run_are_used(opened: bool) {
    let (mut window, engine) = window(Settings::default(), ScriptedPicker::default());
    engine.event(ready());
    window.run_steps(4);
    let use_them = Action::UseSettingsOf("runs/lab-demo".into());
    let first = if opened { Action::OpenRun("runs/lab-demo".into()) } else { use_them.clone() };
    window.state().actions.push(first);
    window.run_steps(3);
    let req = engine.requests().pop().expect("a request").0;
    let detail = Box::new(data::run_detail(Path::new("runs/lab-demo")));
    engine.event(Event::Done(req, Outcome::Opened(detail)));
    window.run_steps(3);
    if opened {
        window.state().actions.push(use_them);
        window.run_steps(3);
    }
    // The plan of these settings is asked for after a pause in typing.
    window.run_steps(60);
    engine.answer_form();
    window.run_steps(4);
    window.state().actions.push(Action::StartRun);
    window.run_steps(3);
    let run = engine.commands().iter().find_map(|command| match command {
        Command::StartRun { run, .. } => Some(*run),
        _ => None,
    });
    engine.event(run_started(run.expect("a run"), 240));
    window.run_steps(3);
    let label = RunLabel { parent: "lab-demo".to_owned(), ..RunLabel::default() };
    let asked = Command::LabelRun { dir: "runs/test-run".into(), label: Box::new(label) };
    assert!(engine.commands().contains(&asked), "{:?}", engine.commands());
}

#[test]
fn a_run_goes_on_from_another_one_with_other_settings() {
    let (mut window, engine) = window(Settings::default(), ScriptedPicker::default());
    engine.event(ready());
    window.run_steps(4);
    window.state().actions.push(Action::BranchRun("runs/lab-demo".into()));
    window.run_steps(3);
    let req = engine.requests().pop().expect("a request").0;
    engine.event(Event::Done(req, Outcome::Opened(Box::new(data::run_detail(Path::new("runs/lab-demo"))))));
    window.run_steps(60);
    engine.answer_form();
    window.run_steps(4);
    window.get_by_label("The next run begins with the weights of lab-demo");
    window.get_by_label_contains("Nothing is changed yet");
    // What shapes the experts stays as it is.
    let mut form = window.state().session.form.clone();
    form.mixture.num_experts += 1;
    window.state().actions.push(Action::EditForm(Box::new(form.clone())));
    window.run_steps(3);
    let problems = window.state().session.form_problems();
    assert!(problems.iter().any(|text| text.contains("“Experts (M)” (there 4, here 5)")), "{problems:?}");
    form.mixture.num_experts -= 1;
    form.train.learning_rate = 0.125;
    window.state().actions.push(Action::EditForm(Box::new(form)));
    window.run_steps(60);
    engine.answer_form();
    window.run_steps(4);
    assert!(window.query_all_by_label_contains("-> 0.125").next().is_some(), "what was changed");
    window.state().actions.push(Action::StartRun);
    window.run_steps(3);
    let started = engine.commands().into_iter().find_map(|command| match command {
        Command::BranchRun { parent, checkpoint, config, .. } => {
            Some((parent, checkpoint, config.train.learning_rate, config.name))
        }
        _ => None,
    });
    assert_eq!(started.expect("a branch"), ("runs/lab-demo".into(), Checkpoint::Last, 0.125, String::new()));
    assert!(window.state().session.branches_from().is_none(), "the next start begins anew");
}
