//! From setup to a proven export with the real engine: the bundled model, a few steps.

use crate::harness::{ScriptedPicker, ready_session};
use adamix::app::actions::Action;
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::app::{WindowOptions, WorkbenchApp, first_form};
use adamix::engine::handle::EngineHandle;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Draws until `done`; says what the window shows if that never comes.
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

#[test]
fn setup_train_look_export_delete() {
    let dir = tempfile::tempdir().unwrap();
    let mut form = first_form();
    form.runs_dir = dir.path().to_string_lossy().into_owned();
    form.name = "flow".to_owned();
    form.model.threads = 1;
    form.train.max_steps = 6;
    form.train.batch_size = 8;
    form.eval.eval_steps = 3;
    form.eval.random_routes = 2;
    form.data.max_train_rows = 64;
    form.data.max_eval_rows = 32;
    let settings = Settings { form: Some(form), ..Settings::default() };
    let engine = EngineHandle::spawn(Arc::new(|| {})).unwrap();
    let mut window = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        let (engine, picker) = (Ok(Box::new(engine) as _), Box::new(ScriptedPicker::default()));
        WorkbenchApp::new(&cc.egui_ctx, engine, picker, settings, WindowOptions::default())
    });
    step_until("a checked plan", &mut window, |s| s.preflight.value.is_some() && s.data.value.is_some());
    let session = &window.state().session;
    assert_eq!(session.start_problems(), Vec::<String>::new());
    assert_eq!(session.data.value.as_ref().unwrap().train.rows, 64);
    assert_eq!(session.preflight.value.as_ref().unwrap().start.total_steps, 6);

    window.get_all_by_label("Start").next().unwrap().click();
    window.run_steps(2);
    window.state().actions.push(Action::Show(View::Routing));
    step_until("the end of the run", &mut window, |s| matches!(s.phase, RunPhase::Finished | RunPhase::Failed));
    let session = &window.state().session;
    assert_eq!(session.phase, RunPhase::Finished, "{:?} {:?}", session.start_error, session.last_notice);
    let live = session.live.as_ref().unwrap();
    assert_eq!(live.step(), 6);
    assert_eq!(live.evals.len(), 2);
    assert!(live.report().is_some());
    assert!(!live.gradient_health.is_empty());
    let run_dir = live.dir.clone();
    assert!(run_dir.starts_with(dir.path()) && run_dir.join("metrics.jsonl").is_file());

    let plan = ExportPlan {
        targets: vec![ExportTarget::Merged],
        dtype: NumberFormat::F32,
        merge: MergePlan::Uniform,
        dir: None,
    };
    let subject = window.state().session.subject().unwrap();
    window.state().actions.push(Action::Query(subject, ModelQuery::Export(plan)));
    window.run_steps(2);
    step_until("an export", &mut window, |s| !s.export.is_pending());
    let session = &window.state().session;
    let reports = session.export.value.as_ref().unwrap_or_else(|| panic!("{:?}", session.export.error));
    assert!(reports[0].certificate.passed, "{:?}", reports[0].certificate);
    assert!(reports[0].certificate.files.iter().all(|file| reports[0].dir.join(&file.name).is_file()));

    step_until("the list of runs", &mut window, |s| s.runs.value.as_ref().is_some_and(|runs| runs.len() == 1));
    window.state().actions.push(Action::AskDeleteRun(run_dir.clone()));
    window.run_steps(3);
    window.get_by_label("Delete").click();
    window.run_steps(2);
    step_until("an empty list", &mut window, |s| s.runs.value.as_ref().is_some_and(Vec::is_empty));
    assert!(!run_dir.exists());
}

#[test]
fn a_model_that_is_not_there_is_said_and_blocks_nothing_else() {
    let mut form = ready_session().form;
    form.model.path = "/no/such/model".to_owned();
    let settings = Settings { form: Some(form), ..Settings::default() };
    let engine = EngineHandle::spawn(Arc::new(|| {})).unwrap();
    let mut window = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        let (engine, picker) = (Ok(Box::new(engine) as _), Box::new(ScriptedPicker::default()));
        WorkbenchApp::new(&cc.egui_ctx, engine, picker, settings, WindowOptions::default())
    });
    step_until("an error", &mut window, |s| s.model.error.is_some());
    let error = window.state().session.model.error.clone().unwrap();
    assert!(error.contains("/no/such/model"), "{error}");
    window.state().actions.push(Action::EditForm(Box::new(first_form())));
    window.run_steps(2);
    step_until("the bundled model", &mut window, |s| s.model.value.is_some() && s.model.error.is_none());
}
