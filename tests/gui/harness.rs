//! Windows and panels for tests: no display, no engine but a fake one.

use adamix::app::actions::{Action, ActionQueue};
use adamix::app::files::ScriptedPicker;
use adamix::app::layout::View;
use adamix::app::panels::{PanelCtx, Panels};
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::theme::{self, Theme};
use adamix::app::{Options, WorkbenchApp, first_form};
use adamix::engine::fake::{FakeEngine, FakeHandle};
use adamix::engine::fake_data;
use adamix::engine::protocol::*;
use egui_kittest::Harness;
use std::path::PathBuf;

/// One panel with everything it can see.
pub struct PanelState {
    pub panels: Panels,
    pub session: Session,
    pub settings: Settings,
    pub queue: ActionQueue,
    /// Everything wished for so far.
    pub wishes: Vec<Action>,
}

/// A harness that draws one panel over this session.
pub fn panel(view: View, session: Session) -> Harness<'static, PanelState> {
    let state = PanelState {
        panels: Panels::default(),
        session,
        settings: Settings::default(),
        queue: ActionQueue::default(),
        wishes: Vec::new(),
    };
    Harness::builder().with_size([760.0, 3000.0]).with_max_steps(12).with_context_setup(theme::install).build_ui_state(
        move |ui, state: &mut PanelState| {
            let theme = Theme::new(ui.visuals().dark_mode);
            let PanelState { panels, session, settings, queue, wishes } = state;
            let ctx = PanelCtx { session, settings, actions: queue, theme: &theme, now: 0.0 };
            panels.ui(view, &ctx, ui);
            wishes.extend(queue.take());
        },
        state,
    )
}

/// A whole window over a fake that says only what it is told to.
pub fn window(settings: Settings, picker: ScriptedPicker) -> (Harness<'static, WorkbenchApp>, FakeHandle) {
    let (engine, handle) = FakeEngine::manual();
    (window_over(engine, settings, picker), handle)
}

/// A whole window over this engine.
pub fn window_over(engine: FakeEngine, settings: Settings, picker: ScriptedPicker) -> Harness<'static, WorkbenchApp> {
    Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        WorkbenchApp::new(&cc.egui_ctx, Ok(Box::new(engine)), Box::new(picker), settings, Options::default())
    })
}

/// The engine's first words.
pub fn ready() -> Event {
    Event::Ready { device: "CPU".to_owned(), threads: 1 }
}

/// A session over an engine that is ready.
pub fn ready_session() -> Session {
    let mut session = Session::new(first_form());
    session.apply(Incoming::Event(ready()));
    session
}

/// What an engine says when a run starts.
pub fn run_started(run: RunId, total: u64) -> Event {
    let mut config = first_form();
    config.train.max_steps = total;
    Event::RunStarted {
        run,
        dir: PathBuf::from("runs/test-run"),
        start: Box::new(fake_data::start_record(&config, 0)),
        config: Box::new(config),
        history: Vec::new(),
        evals: Vec::new(),
    }
}

/// Steps `first..=last` of a run.
pub fn steps(run: RunId, first: u64, last: u64) -> Incoming {
    let buckets = (first..=last).map(|step| StepBucket::of(fake_data::step(step, 240))).collect();
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
    session.apply(Incoming::Event(Event::Evaluated { run, record: fake_data::eval(40, 240) }));
    session.apply(Incoming::Event(Event::Evaluated { run, record: fake_data::eval(80, 240) }));
    session.apply(Incoming::Event(Event::Lamps { run, lamps: fake_data::lamps(10) }));
    (session, run)
}
