//! This sitting as a script: the real engine behind the window, then the real program without one.

use crate::harness::ScriptedPicker;
use crate::place::Place;
use adamix::app::actions::Action;
use adamix::app::files::Purpose;
use adamix::app::session::{EngineState, Session};
use adamix::app::settings::Settings;
use adamix::app::{WindowOptions, WorkbenchApp, first_form};
use adamix::engine::EngineHandle;
use adamix::protocol::*;
use egui_kittest::Harness;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn step_until(what: &str, window: &mut Harness<'_, WorkbenchApp>, done: impl Fn(&Session) -> bool) {
    let end = Instant::now() + Duration::from_secs(300);
    while !done(&window.state().session) {
        window.run_steps(1);
        let log: Vec<&str> = window.state().session.log.iter().map(|line| line.text.as_str()).collect();
        assert!(Instant::now() < end, "{what} did not happen; the log says {log:#?}");
        // Leaves the processor to the engine; nothing depends on how long this takes.
        std::thread::sleep(Duration::from_millis(2));
    }
    window.run_steps(2);
}

/// Name and hash of every file that certificates below a directory list, by the directory of the export.
fn hashes(exports: &Path) -> BTreeMap<String, Vec<(String, String)>> {
    let entries = std::fs::read_dir(exports).unwrap().flatten();
    let read = |dir: std::fs::DirEntry| {
        let text = std::fs::read_to_string(dir.path().join("certificate.json")).unwrap();
        let certificate: Certificate = serde_json::from_str(&text).unwrap();
        let files = certificate.files.into_iter().map(|file| (file.name, file.sha256)).collect();
        (dir.file_name().to_string_lossy().into_owned(), files)
    };
    entries.map(read).collect()
}

#[test]
fn the_script_of_a_sitting_makes_the_same_files() {
    let place = Place::new();
    let mut form = first_form();
    form.runs_dir = place.path("runs").display().to_string();
    form.name = "my sitting".to_owned();
    (form.model.threads, form.train.batch_size, form.train.max_steps) = (1, 2, 4);
    (form.eval.eval_steps, form.eval.random_routes) = (2, 1);
    (form.data.max_train_rows, form.data.max_eval_rows) = (16, 8);
    let script_file = place.path("again.sh");
    let mut picker = ScriptedPicker::default();
    picker.picks.push_back(script_file.clone());
    let engine = EngineHandle::spawn(Arc::new(|| {})).unwrap();
    let mut window = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        let options = WindowOptions { form: Some(form), ..WindowOptions::default() };
        WorkbenchApp::new(&cc.egui_ctx, Ok(Box::new(engine) as _), Box::new(picker), Settings::default(), options)
    });
    step_until("the engine", &mut window, |s| matches!(s.engine, EngineState::Ready { .. }));
    step_until("a checked plan", &mut window, |s| s.preflight.value.is_some());
    window.state().actions.push(Action::StartRun);
    window.run_steps(2);
    step_until("the end of the run", &mut window, |s| matches!(s.phase, RunPhase::Finished | RunPhase::Failed));
    let subject = window.state().session.subject().unwrap();
    let dir = window.state().session.live.as_ref().unwrap().dir.clone();
    let weights = MergePlan::Global(vec![0.5, 0.25, 0.125, 0.125]);
    let ask = |query: ModelQuery| Action::Query(subject.clone(), query);
    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged, ExportTarget::Experts],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    window.state().actions.push(ask(ModelQuery::Merge(MergePlan::Global(vec![1.0, 0.0, 0.0, 0.0]))));
    window.state().actions.push(ask(ModelQuery::Export(plan.clone())));
    window.run_steps(2);
    step_until("the exports", &mut window, |s| !s.export.is_pending() && !s.merge.is_pending());
    window.state().actions.push(ask(ModelQuery::Export(ExportPlan {
        targets: vec![ExportTarget::Merged],
        dtype: NumberFormat::Bf16,
        merge: weights,
        dir: None,
    })));
    window.run_steps(2);
    step_until("another export", &mut window, |s| !s.export.is_pending());
    // A query that fails is no part of the sitting.
    window.state().actions.push(ask(ModelQuery::Merge(MergePlan::Global(vec![1.0]))));
    window.run_steps(2);
    step_until("a refusal", &mut window, |s| s.merge.error.is_some());

    window.state().actions.push(Action::Pick(Purpose::SaveScript));
    window.run_steps(3);
    let script = window.state().session.sitting.script(0);
    assert_eq!(script.lines().filter(|line| line.starts_with("adamix ")).count(), 4, "{script}");
    assert!(window.state().session.log.iter().any(|line| line.text.contains("again.sh")), "it was not saved");
    std::fs::write(&script_file, &script).unwrap();

    let program = Path::new(env!("CARGO_BIN_EXE_adamix")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let again = || {
        let mut shell = Process::new("sh");
        shell.arg(&script_file).arg(place.path("again")).env("PATH", &path).env("HOME", place.path(""));
        shell.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").current_dir(place.path("")).output().unwrap()
    };
    let ran = again();
    assert!(ran.status.success(), "{script}\n{}", String::from_utf8_lossy(&ran.stderr));
    let (mine, theirs) = (hashes(&dir.join("exports")), hashes(&place.path("again/my sitting/exports")));
    assert_eq!(mine.keys().collect::<Vec<_>>(), ["experts", "merged", "merged-2"]);
    assert_eq!(mine, theirs, "{script}");
    assert_ne!(mine["merged"], mine["merged-2"], "hashes that cannot differ prove nothing");
    let second = again();
    assert!(!second.status.success(), "an existing directory was written into");
}
