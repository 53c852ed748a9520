//! One panel over a session made of a fake engine's messages; its actions are collected.

use crate::fake_engine::{FakeEngine, FakeHandle};
use adamix::app::actions::{Action, ActionQueue};
use adamix::app::panel_ctx::PanelCtx;
use adamix::app::panels::Panels;
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::theme::{Theme, install};
use adamix::app::view::View;
use adamix::config::RunConfig;
use adamix::protocol::{
    Command, Engine as _, Event, Incoming, Outcome, RequestId, RoutesAnswer, RoutesAsk, Side, Watch,
};
use egui_kittest::Harness;
use std::ops::ControlFlow;
use std::path::Path;

/// A panel and its world.
pub struct World {
    pub panel: Panels,
    pub session: Session,
    pub settings: Settings,
    queue: ActionQueue,
    pub actions: Vec<Action>,
}

impl World {
    /// The actions since the last call.
    pub fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

/// A window of 760 x 3000 points with nothing but this view.
pub fn panel(view: View, session: Session) -> Harness<'static, World> {
    let world = World {
        panel: Panels::default(),
        session,
        settings: Settings::default(),
        queue: ActionQueue::default(),
        actions: Vec::new(),
    };
    let mut harness =
        Harness::builder().with_size([760.0, 3000.0]).with_max_steps(16).with_context_setup(install).build_ui_state(
            move |ui, world: &mut World| {
                let theme = Theme::new(ui.visuals().dark_mode);
                let World { panel, session, settings, queue, actions } = world;
                let ctx = PanelCtx { session, settings, actions: queue, theme: &theme };
                panel.ui(view, &ctx, ui);
                actions.extend(queue.take());
            },
            world,
        );
    harness.run();
    harness
}

/// The engine's first words.
pub fn ready() -> Event {
    Event::Ready { device: "CPU".to_owned(), threads: 1 }
}

/// A session with an engine that is ready, and these settings.
pub fn ready_with(form: RunConfig) -> Session {
    let mut session = Session::new(form);
    session.apply(Incoming::Event(ready()));
    check_plan(&mut session);
    session
}

/// The plan of the form as it is now is there.
pub fn check_plan(session: &mut Session) {
    let req = session.next_request();
    session.preflight.begin(req);
    session.preflight_version = session.form_version;
    let report = crate::fake_engine::data::preflight(&session.run_config());
    session.apply(Incoming::Event(Event::Done(req, Outcome::Preflight(Box::new(report)))));
}

/// A session with an engine that is ready, and nothing else.
pub fn fresh() -> Session {
    ready_with(RunConfig { name: "lab-demo".to_owned(), ..RunConfig::default() })
}

/// A session whose run has made some steps in a demonstration engine, with snapshots of this side.
pub fn trained(config: RunConfig, drains: usize, focus: (usize, Side)) -> (Session, FakeEngine, FakeHandle) {
    let mut session = fresh();
    session.form = config.clone();
    session.focus = (focus.0, Some(focus.1));
    let (mut engine, handle) = FakeEngine::demo(30, None);
    let (req, run) = (session.next_request(), session.next_run());
    engine.try_send(req, Command::StartRun { run, config: Box::new(config) }).expect("the fake takes commands");
    engine.watch(Watch { routing: true, experts: Some(focus), ..Watch::default() });
    session.begin_run(req, run);
    for _ in 0..drains {
        drain(&mut session, &mut engine);
    }
    (session, engine, handle)
}

/// Hands everything that waits to the session.
pub fn drain(session: &mut Session, engine: &mut FakeEngine) {
    engine.drain(&mut |incoming| {
        session.apply(incoming);
        ControlFlow::Continue(())
    });
}

/// The draws of the shown run up to its newest step are read, and the fit is computed.
pub fn read_routes(session: &mut Session) {
    let run = session.shown().expect("a run is shown");
    let (dir, mixture, last) = (run.dir.clone(), run.config.mixture.clone(), run.step());
    session.routes.turn_to(&dir);
    let req = session.next_request();
    session.routes.reading.begin(req);
    let part = crate::fake_engine::routes::part(&dir, &mixture, 1..=last);
    session.apply(done(req, Outcome::Routes(Box::new(RoutesAnswer::Part(part)))));
    if let Some(RoutesAsk::Fit { timeline, after }) = session.routes.ask_fit() {
        let req = session.next_request();
        session.routes.fit.begin(req);
        let fit = crate::fake_engine::routes::fit(&timeline, after);
        session.apply(done(req, Outcome::Routes(Box::new(fit))));
    }
}

/// The demonstration run, finished.
pub fn finished() -> Session {
    trained(lab(), 12, (0, Side::Down)).0
}

/// Settings of the demonstration.
pub fn lab() -> RunConfig {
    crate::fake_engine::data::config()
}

/// A session that shows a run from disk.
pub fn opened(change: impl FnOnce(&mut adamix::protocol::RunDetail)) -> Session {
    let mut session = fresh();
    let mut detail = crate::fake_engine::data::run_detail(Path::new("runs/lab-demo"));
    change(&mut detail);
    let req = session.next_request();
    session.opening.begin(req);
    session.apply(Incoming::Event(Event::Done(req, Outcome::Opened(Box::new(detail)))));
    session
}

/// An answer to a question.
pub fn done(req: RequestId, outcome: Outcome) -> Incoming {
    Incoming::Event(Event::Done(req, outcome))
}

/// A refusal.
pub fn failed(req: RequestId, message: &str) -> Incoming {
    let failure = adamix::protocol::Failure { kind: adamix::error::ErrorKind::Io, message: message.to_owned() };
    Incoming::Event(Event::Failed(Some(req), failure))
}
