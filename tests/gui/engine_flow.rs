//! The whole way with the real engine and a small model: set up, train, look inside, merge, export with proof.

use crate::harness::ScriptedPicker;
use crate::place::Place;
use adamix::app::actions::Action;
use adamix::app::session::EngineState;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::app::{WindowOptions, WorkbenchApp};
use adamix::config::RunConfig;
use adamix::engine::EngineHandle;
use adamix::protocol::*;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes on the slowest machine.
const FOREVER: Duration = Duration::from_secs(180);

/// A window over the real engine.
struct Window {
    harness: Harness<'static, WorkbenchApp>,
    bell: Arc<(Mutex<()>, Condvar)>,
}

impl Window {
    fn open(form: RunConfig) -> Self {
        let bell: Arc<(Mutex<()>, Condvar)> = Arc::default();
        let rung = bell.clone();
        let harness = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
            let ctx = cc.egui_ctx.clone();
            let waker: Waker = Arc::new(move || {
                ctx.request_repaint();
                rung.1.notify_all();
            });
            let engine = EngineHandle::spawn(waker).map(|engine| Box::new(engine) as Box<dyn Engine>);
            let picker = Box::new(ScriptedPicker::default());
            let options = WindowOptions { form: Some(form), ..WindowOptions::default() };
            WorkbenchApp::new(&cc.egui_ctx, engine, picker, Settings::default(), options)
        });
        Self { harness, bell }
    }

    fn app(&self) -> &WorkbenchApp {
        self.harness.state()
    }

    /// Draws pictures until something has happened; in between it waits for the engine's bell, not for a time.
    #[track_caller]
    fn step_until(&mut self, what: &str, happened: impl Fn(&WorkbenchApp) -> bool) {
        let begin = Instant::now();
        loop {
            self.harness.step();
            if happened(self.harness.state()) {
                return;
            }
            let log: Vec<_> = self.app().session.log.iter().map(|line| line.text.as_str()).collect();
            assert!(begin.elapsed() < FOREVER, "{what} did not happen\n{log:#?}\n{:?}", self.harness);
            // The form is checked a moment after it was changed, without a bell: so never wait for long.
            self.bell.1.wait_for(&mut self.bell.0.lock(), Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn click(&mut self, label: &str) {
        self.harness.step();
        let button = self.harness.get_all_by_label(label).next();
        button.unwrap_or_else(|| panic!("there is no {label:?}")).click();
        self.harness.step();
    }

    fn show(&mut self, view: View) {
        self.app().actions.push(Action::Show(view));
        self.harness.run_steps(3);
        assert!(self.app().layout.is_visible(view));
    }

    /// A window that is ready to train.
    fn ready(form: RunConfig) -> Self {
        let mut window = Self::open(form);
        window.step_until("the engine to start", |app| matches!(app.session.engine, EngineState::Ready { .. }));
        window.step_until("the plan to be checked", |app| {
            app.session.preflight.value.is_some()
                && app.session.data.value.is_some()
                && !app.session.preflight.is_pending()
        });
        assert_eq!(window.app().session.start_problems(), Vec::<String>::new());
        window
    }
}

#[test]
fn from_the_first_click_to_a_passed_certificate() {
    let place = Place::new();
    let mut window = Window::ready(place.config(40));
    let preview = window.app().session.data.value.clone().unwrap();
    assert_eq!((preview.train.rows, preview.dev.rows), (96, 48));

    window.click("Start");
    window.step_until("training to finish", |app| app.session.phase == RunPhase::Finished);
    let run = window.app().session.live.clone().unwrap();
    let report = run.report().cloned().expect("a run that finished has a comparison");
    assert_eq!((run.step(), run.evals.len()), (40, 4));
    let log = &window.app().session.log;
    assert!(log.iter().any(|line| line.text.starts_with("checkpoint at step 40")), "{log:#?}");
    assert_eq!((report.rows, report.fixed.len()), (48, 4));
    assert!(
        run.gradient_health.iter().all(|health| matches!(health.state, HealthState::Learning | HealthState::NotDrawn))
    );
    assert!(run.failure.is_none() && run.distances.len() >= 2);

    window.show(View::Routing);
    window.step_until("the routes", |app| app.session.live.as_ref().is_some_and(|run| run.routing.is_some()));
    let routing = window.app().session.live.as_ref().unwrap().routing.clone().unwrap();
    assert_eq!((routing.step, routing.sites.len(), routing.draws[0]), (40, 2, 80));

    window.show(View::Experts);
    window.step_until("the experts", |app| app.session.experts().is_some_and(|experts| experts.heat_maps.len() == 4));
    assert!(window.app().session.experts().unwrap().sides[0].experts.iter().all(|expert| expert.from_start > 0.0));

    window.show(View::Compare);
    window.click("Measure again");
    window.step_until("the comparison", |app| app.session.compare.value.is_some());
    let measured = window.app().session.compare.value.clone().unwrap();
    assert_eq!(
        (&measured.merged, &measured.fixed),
        (&report.merged, &report.fixed),
        "the same weights, the same scores"
    );
    let first_only = MergePlan::Global(vec![1.0, 0.0, 0.0, 0.0]);
    window.app().actions.push(Action::Query(Subject::Live, ModelQuery::Merge(first_only)));
    window.step_until("the merge", |app| app.session.merge.value.is_some());
    assert_eq!(window.app().session.merge.value.as_ref().unwrap().scores, report.fixed[0]);

    window.show(View::Export);
    window.click("Export");
    // The tab has the same name as the button.
    if !window.app().session.export.is_pending() && window.app().session.export.value.is_none() {
        let buttons = window.harness.get_all_by_label("Export").count();
        window.harness.get_all_by_label("Export").nth(buttons - 1).unwrap().click();
    }
    window.step_until("the certificate", |app| app.session.export.value.is_some());
    let reports = window.app().session.export.value.clone().unwrap();
    assert!(!reports.is_empty() && reports.iter().all(|report| report.certificate.passed), "{reports:?}");
    for report in &reports {
        assert!(report.dir.starts_with(&run.dir));
        assert!(report.certificate.files.iter().all(|file| report.dir.join(&file.name).is_file()));
        assert!(report.dir.join("certificate.json").is_file());
    }

    window.show(View::Runs);
    window.step_until("the list of runs", |app| {
        app.session.runs.value.as_ref().is_some_and(|runs| runs.iter().any(|r| r.status == RunStatus::Finished))
    });
    let listed = window.app().session.runs.value.clone().unwrap();
    assert_eq!((listed.len(), &listed[0].dir, listed[0].step), (1, &run.dir, 40));
}

#[test]
fn a_trained_classifier_can_be_tried_with_a_text_and_a_row() {
    let place = Place::new();
    let mut window = Window::ready(place.config(40));
    window.click("Start");
    window.step_until("training to finish", |app| app.session.phase == RunPhase::Finished);
    window.show(View::Playground);
    window.step_until("the first row's words", |app| app.session.try_words.value.is_some());
    let row = window.app().session.try_it.value.clone().unwrap();
    assert_eq!((row.rows, row.experts.len(), row.routes.len()), ([96, 48], 4, 16));
    assert!(row.known.is_some() && (row.merged.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    // The word stands beside its field and is explained where the mouse is on it.
    let role = egui::accesskit::Role::MultilineTextInput;
    window.harness.get_by_role_and_label(role, "Text").focus();
    window.harness.step();
    window.harness.get_by_role_and_label(role, "Text").type_text("good music ");
    let typed = |report: &TryReport| report.text.contains("good music");
    window.step_until("the typed text", |app| app.session.try_it.value.as_ref().is_some_and(typed));
    let typed = window.app().session.try_it.value.clone().unwrap();
    assert_eq!((typed.known, typed.step), (None, row.step));
    window.click("Re-roll the routes");
    window.step_until("other routes", |app| {
        app.session.try_it.value.as_ref().is_some_and(|report| report.plan.seed == typed.plan.seed + 1)
    });
    let again = window.app().session.try_it.value.clone().unwrap();
    assert_eq!(again.merged, typed.merged);
    assert_ne!(again.routes, typed.routes);
}

#[test]
fn closing_in_training_writes_a_checkpoint_and_the_run_can_go_on() {
    let place = Place::new();
    let mut window = Window::ready(place.config(100_000));
    window.click("Start");
    window.step_until("training", |app| app.session.live.as_ref().is_some_and(|run| run.step() > 3));
    window.click("Pause");
    window.step_until("the pause", |app| app.session.phase == RunPhase::Paused);
    let held = window.app().session.live.as_ref().unwrap().step();
    window.click("Step");
    window.step_until("one step", |app| {
        app.session.phase == RunPhase::Paused && app.session.live.as_ref().is_some_and(|run| run.step() == held + 1)
    });
    window.app().actions.push(Action::CheckpointAndQuit);
    window.step_until("the end", |app| app.session.phase == RunPhase::Finished);
    let dir = window.app().session.live.as_ref().unwrap().dir.clone();
    window.step_until("the list of runs", |app| {
        app.session.runs.value.as_ref().is_some_and(|runs| runs.iter().any(|run| run.status == RunStatus::Stopped))
    });
    drop(window);

    // The next day.
    let mut window = Window::ready(place.config(4));
    window.app().actions.push(Action::ResumeRun(dir.clone()));
    window.step_until("training goes on", |app| app.session.live.as_ref().is_some_and(|run| run.step() > held + 3));
    let run = window.app().session.live.clone().unwrap();
    assert_eq!((run.dir.clone(), run.start.first_step), (dir, held + 1));
    window.click("Stop");
    window.step_until("the end", |app| app.session.phase == RunPhase::Finished);
}
