//! Engine and window never wait for each other, and nothing that matters is lost between them.

mod control;
mod downloads;
mod failures;
mod messages;
mod playground;
mod questions;
mod trying;

use adamix::config::RunConfig;
use adamix::engine::EngineHandle;
use adamix::protocol::*;
use parking_lot::{Condvar, Mutex};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes on the slowest machine: a test that reaches it has failed.
const FOREVER: Duration = Duration::from_secs(120);

/// A window without a picture.
pub(crate) struct Window {
    pub(crate) engine: EngineHandle,
    bell: Arc<(Mutex<usize>, Condvar)>,
    events: Vec<Event>,
    pub(crate) steps: Vec<StepBucket>,
    routing: Vec<(RunId, Arc<RoutingSnapshot>)>,
    experts: Vec<(RunId, Arc<ExpertSnapshot>)>,
    profiles: Vec<(RunId, StepProfile)>,
    writing: Vec<(RequestId, Vec<String>)>,
    next: u64,
}

impl Window {
    pub(crate) fn open() -> Self {
        Self::open_with(|| {})
    }

    /// A window whose models come from this hub.
    fn open_hub(hub: &adamix::model_store::Hub) -> Self {
        Self::open_over(|waker| EngineHandle::spawn_with(waker, Ok(hub.clone())).unwrap(), || {})
    }

    /// `ring` is called on the engine's thread whenever it wakes the window.
    fn open_with(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self::open_over(|waker| EngineHandle::spawn(waker).unwrap(), ring)
    }

    pub(crate) fn open_over(
        engine: impl FnOnce(Waker) -> EngineHandle,
        ring: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let bell: Arc<(Mutex<usize>, Condvar)> = Arc::default();
        let rung = bell.clone();
        let waker: Waker = Arc::new(move || {
            *rung.0.lock() += 1;
            rung.1.notify_all();
            ring();
        });
        let engine = engine(waker);
        let (events, steps, routing, experts, profiles, writing) = Default::default();
        Self { engine, bell, events, steps, routing, experts, profiles, writing, next: 0 }
    }

    fn req(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    pub(crate) fn send(&mut self, command: Command) -> RequestId {
        let req = self.req();
        self.engine.try_send(req, command).unwrap();
        req
    }

    pub(crate) fn start(&mut self, config: &RunConfig) -> RequestId {
        let config = Box::new(config.clone());
        self.send(Command::StartRun { run: RunId(self.next + 1), config })
    }

    /// Takes in everything that waits.
    fn drain(&mut self) {
        let Self { engine, events, steps, routing, experts, profiles, writing, .. } = self;
        while engine.drain(&mut |incoming| {
            match incoming {
                Incoming::Event(event) => events.push(event),
                Incoming::Steps(_, buckets) => steps.extend(buckets),
                Incoming::Routing(run, snapshot) => routing.push((run, snapshot)),
                Incoming::Experts(run, snapshot) => experts.push((run, snapshot)),
                Incoming::Profile(run, profile) => profiles.push((run, profile)),
                Incoming::Writing(req, texts) => writing.push((req, texts)),
                Incoming::Machine(_) => {}
            }
            ControlFlow::Continue(())
        }) {}
    }

    /// Drains whenever the engine rings, until something has happened.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, mut happened: impl FnMut(&mut Self) -> bool) {
        loop {
            let before = *self.bell.0.lock();
            self.drain();
            if happened(self) {
                return;
            }
            let mut rings = self.bell.0.lock();
            if *rings == before && self.bell.1.wait_for(&mut rings, FOREVER).timed_out() {
                drop(rings);
                panic!("{what} did not happen; events: {:#?}", self.events);
            }
        }
    }

    fn answer(&self, req: RequestId) -> Option<Result<&Outcome, &Failure>> {
        let mut answers = self.events.iter().filter_map(|event| match event {
            Event::Done(of, outcome) if *of == req => Some(Ok(outcome)),
            Event::Failed(Some(of), failure) if *of == req => Some(Err(failure)),
            _ => None,
        });
        let first = answers.next();
        assert!(answers.next().is_none(), "{req:?} has more than one answer");
        first
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, req: RequestId) -> Result<Outcome, Failure> {
        self.wait("an answer", |window| window.answer(req).is_some());
        self.answer(req).unwrap().cloned().map_err(Clone::clone)
    }

    /// Everything that has happened.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(crate) fn phases(&self) -> Vec<RunPhase> {
        let phase = |event: &Event| if let Event::PhaseChanged(_, phase) = event { Some(*phase) } else { None };
        self.events.iter().filter_map(phase).collect()
    }

    pub(crate) fn phase(&self) -> RunPhase {
        self.phases().last().copied().unwrap_or_default()
    }

    pub(crate) fn end(&self) -> Option<EndRecord> {
        let end = |event: &Event| if let Event::RunEnded(_, end) = event { Some((**end).clone()) } else { None };
        self.events.iter().rev().find_map(end)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        let dir = |event: &Event| if let Event::RunStarted { dir, .. } = event { Some(dir.clone()) } else { None };
        self.events.iter().rev().find_map(dir).expect("no run was started")
    }
}
