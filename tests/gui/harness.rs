//! Windows and panels for tests: no display, no engine but a fake one.

use crate::panel_support::{self as support, World};
use adamix::app::files::ScriptedPicker;
use adamix::app::panels::Panels;
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::view::View;
use adamix::app::{WindowOptions, WorkbenchApp, first_form};
use adamix::protocol::*;
use adamix::testing::data;
use adamix::testing::fake_engine::{FakeEngine, FakeHandle};
use egui_kittest::Harness;
use std::path::PathBuf;

/// A harness that draws one view over this session.
pub fn panel(view: View, session: Session) -> Harness<'static, World<Panels>> {
    support::harness(session, move |panels: &mut Panels, ctx, ui| panels.ui(view, ctx, ui))
}

/// A whole window over a fake that says only what it is told to.
pub fn window(settings: Settings, picker: ScriptedPicker) -> (Harness<'static, WorkbenchApp>, FakeHandle) {
    let (engine, handle) = FakeEngine::manual();
    (window_over(engine, settings, picker), handle)
}

/// A whole window over this engine.
pub fn window_over(engine: FakeEngine, settings: Settings, picker: ScriptedPicker) -> Harness<'static, WorkbenchApp> {
    Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        WorkbenchApp::new(&cc.egui_ctx, Ok(Box::new(engine)), Box::new(picker), settings, WindowOptions::default())
    })
}

/// A session over an engine that is ready.
pub fn ready_session() -> Session {
    support::ready_with(first_form())
}

/// What an engine says when a run starts.
pub fn run_started(run: RunId, total: u64) -> Event {
    let mut config = first_form();
    config.train.max_steps = total;
    Event::RunStarted {
        run,
        dir: PathBuf::from("runs/test-run"),
        start: Box::new(data::start_record(&config, 0)),
        config: Box::new(config),
        history: Vec::new(),
        evals: Vec::new(),
    }
}

/// Steps `first..=last` of a run.
pub fn steps(run: RunId, first: u64, last: u64) -> Incoming {
    let buckets = (first..=last).map(|step| StepBucket::of(data::step(step, 240))).collect();
    Incoming::Steps { run, buckets }
}

/// A session in the middle of a run.
pub fn training_session() -> (Session, RunId) {
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    session.apply(Incoming::Event(run_started(run, 240)));
    session.apply(Incoming::Event(Event::PhaseChanged { run, phase: RunPhase::Training }));
    session.apply(steps(run, 1, 100));
    session.apply(Incoming::Event(Event::Evaluated { run, record: data::eval(40, 240) }));
    session.apply(Incoming::Event(Event::Evaluated { run, record: data::eval(80, 240) }));
    session.apply(Incoming::Event(Event::GradientHealth { run, gradient_health: data::gradient_health(10) }));
    (session, run)
}
