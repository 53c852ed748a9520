//! Plots and tables leave the window: the menu in their corner.

use crate::fake_engine::FakeHandle;
use crate::harness::{ScriptedPicker, run_started, steps, window};
use crate::panel_support::ready;
use adamix::app::WorkbenchApp;
use adamix::app::settings::Settings;
use adamix::figure::{Cell, Table};
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

type Saved = Rc<RefCell<BTreeMap<PathBuf, Vec<u8>>>>;

/// A window in which a run is in training, and the files it writes.
fn training(picker: ScriptedPicker) -> (Harness<'static, WorkbenchApp>, FakeHandle, Saved) {
    let saved = picker.saved.clone();
    let (mut window, engine) = window(Settings::default(), picker);
    engine.event(ready());
    window.run_steps(4);
    engine.answer_form();
    window.run_steps(2);
    window.get_all_by_label("Start").next().expect("Start").click();
    window.run_steps(3);
    let run = engine.commands().iter().find_map(|command| match command {
        Command::StartRun { run, .. } => Some(*run),
        _ => None,
    });
    let run = run.expect("Start sends a run");
    engine.event(run_started(run, 240));
    engine.event(Event::PhaseChanged(run, RunPhase::Training));
    engine.push(steps(run, 1, 60));
    window.run_steps(3);
    (window, engine, saved)
}

fn choose(window: &mut Harness<'static, WorkbenchApp>, plot: &str, what: &str) {
    window.get_by_label(&format!("Save {plot}")).click();
    window.run_steps(4);
    window.get_by_label(what).click();
    window.run_steps(4);
}

fn picks(path: &str) -> ScriptedPicker {
    let mut picker = ScriptedPicker::default();
    picker.picks.push_back(PathBuf::from(path));
    picker
}

#[test]
fn a_plot_is_saved_as_svg_and_as_png() {
    let (mut window, _, saved) = training(picks("/p/loss.svg"));
    choose(&mut window, "loss plot", "Save as SVG…");
    let svg = String::from_utf8(saved.borrow()[Path::new("/p/loss.svg")].clone()).unwrap();
    assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"));
    for words in ["test-run: Loss (nats)", ">step<", ">loss<", ">task loss<"] {
        assert!(svg.contains(words), "{words}");
    }
    let (mut window, _, saved) = training(picks("/p/loss"));
    choose(&mut window, "loss plot", "Save as PNG…");
    assert!(saved.borrow()[Path::new("/p/loss.png")].starts_with(b"\x89PNG"), "the ending is added");
}

#[test]
fn values_come_from_the_record_with_every_digit() {
    let (mut window, engine, saved) = training(picks("/p/norm.csv"));
    choose(&mut window, "gradient norm plot", "Save as CSV…");
    let (req, plan) = engine
        .requests()
        .into_iter()
        .find_map(|(req, command)| if let Command::ReadRecord(plan) = command { Some((req, plan)) } else { None })
        .expect("the record is asked for");
    assert_eq!(plan, RecordPlan { runs: vec!["runs/test-run".into()], quantities: vec![Quantity::GradNorm] });
    assert!(saved.borrow().is_empty(), "nothing is written before the values are there");
    let mut table = Table::new(["step", "grad_norm"]);
    table.push([1u64.into(), Cell::Number(0.1 + 0.2)]);
    engine.event(Event::Done(req, Outcome::Record(table)));
    window.run_steps(4);
    assert_eq!(saved.borrow()[Path::new("/p/norm.csv")], b"step,grad_norm\n1,0.30000000000000004\n");
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_and_no_file() {
    let (mut window, engine, saved) = training(picks("/p/norm.csv"));
    choose(&mut window, "gradient norm plot", "Save as CSV…");
    let (req, _) = engine.requests().pop().expect("a request");
    let failure = Failure { kind: ErrorKind::Io, message: "metrics.jsonl is gone".to_owned() };
    engine.event(Event::Failed(Some(req), failure));
    window.run_steps(4);
    assert!(saved.borrow().is_empty());
    assert!(window.state().session.log.iter().any(|line| line.text.contains("metrics.jsonl is gone")));
}

#[test]
fn a_plot_can_be_logarithmic_and_its_picture_is_too() {
    let (mut window, _, saved) = training(picks("/p/norm.svg"));
    window.get_by_label("Save gradient norm plot").click();
    window.run_steps(4);
    window.get_by_label("Logarithmic values").click();
    window.run_steps(4);
    window.key_press(egui::Key::Escape);
    window.run_steps(4);
    choose(&mut window, "gradient norm plot", "Save as SVG…");
    let svg = String::from_utf8(saved.borrow()[Path::new("/p/norm.svg")].clone()).unwrap();
    assert!(svg.contains("Gradient norm (logarithmic)"));
}

#[test]
fn a_hidden_curve_is_in_no_picture() {
    let (mut window, _, saved) = training(picks("/p/loss.svg"));
    window.get_by_label("Curve task loss").click();
    window.run_steps(4);
    choose(&mut window, "loss plot", "Save as SVG…");
    let svg = String::from_utf8(saved.borrow()[Path::new("/p/loss.svg")].clone()).unwrap();
    assert!(svg.contains(">loss<") && !svg.contains(">task loss<"));
}

#[test]
fn the_x_axis_counts_what_is_chosen() {
    let (mut window, _, saved) = training(picks("/p/loss.svg"));
    window.state_mut().settings.x_axis = serde_json::from_str("\"tokens\"").unwrap();
    window.run_steps(2);
    choose(&mut window, "loss plot", "Save as SVG…");
    let svg = String::from_utf8(saved.borrow()[Path::new("/p/loss.svg")].clone()).unwrap();
    assert!(svg.contains(">tokens<") && !svg.contains(">step<"));
}

#[test]
fn a_report_goes_where_it_is_chosen_and_its_ending_is_added() {
    let (mut window, engine, _) = training(picks("/p/my report"));
    window.state().actions.push(adamix::app::actions::Action::ReportRun("runs/test-run".into()));
    window.run_steps(4);
    let asked = Command::Report { dir: "runs/test-run".into(), to: "/p/my report.html".into() };
    assert!(engine.commands().contains(&asked), "{:?}", engine.commands());
}

#[test]
fn without_a_dialog_figure_and_report_go_where_the_chooser_proposes() {
    let dir = tempfile::tempdir().unwrap();
    let mut picker = ScriptedPicker::default();
    picker.no_dialogs = true;
    let (mut window, engine, saved) = training(picker);
    if let Some(live) = &mut window.state_mut().session.live {
        live.dir = dir.path().to_owned();
    }
    window.run_steps(2);
    choose(&mut window, "loss plot", "Save as SVG…");
    assert!(saved.borrow().is_empty(), "nothing is written unasked");
    window.get_by_label("Save").click();
    window.run_steps(4);
    assert!(saved.borrow().contains_key(&dir.path().join("loss-plot.svg")), "{:?}", saved.borrow().keys());
    // A file that is there is replaced only after a question.
    std::fs::write(dir.path().join("report.html"), "").unwrap();
    window.state().actions.push(adamix::app::actions::Action::ReportRun(dir.path().to_owned()));
    window.run_steps(6);
    window.get_by_label("Save").click();
    window.run_steps(4);
    assert!(!engine.commands().iter().any(|command| matches!(command, Command::Report { .. })));
    window.get_by_label("Replace").click();
    window.run_steps(4);
    let asked = Command::Report { dir: dir.path().to_owned(), to: dir.path().join("report.html") };
    assert!(engine.commands().contains(&asked), "{:?}", engine.commands());
}
