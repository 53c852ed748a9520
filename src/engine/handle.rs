//! The window's end of the engine: starts the training thread, hands over commands, collects what comes back.
//!
//! Questions about models on disk go to a second thread, `adamix-models`, so that they never wait for a training step.
//! No method waits. Dropping the handle stops a run (it writes its checkpoint) and waits for a short while only; a
//! thread that takes longer is left behind, and what it has on disk is whole at any moment.

use super::worker::Worker;
use crate::engine::model_store_thread::ModelStoreThread;
use crate::engine::outbox::{COMMANDS, EVENTS, Link, Message, RunFlags, Shared};
use crate::error::{Error, Result};
use crate::model_store::Hub;
use crate::protocol::*;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long dropping waits for the training thread.
const PATIENCE: Duration = Duration::from_secs(2);

/// The engine as the window holds it.
pub struct EngineHandle {
    commands: Option<Sender<Message>>,
    /// To the thread that looks after models on disk.
    store: Option<Sender<(RequestId, StoreAsk)>>,
    events: Receiver<Event>,
    /// Closed when both threads have ended.
    ended: Receiver<()>,
    shared: Arc<Shared>,
    /// Flags of the runs that may still be going on.
    runs: Mutex<Vec<RunFlags>>,
    sent: AtomicU64,
    /// The run whose start was handed over: steps and snapshots of a run never overtake its start.
    announced: RunId,
}

impl EngineHandle {
    /// Starts the training thread, `adamix-train`. Its first event is [`Event::Ready`], or a failure without a number.
    pub fn spawn(waker: Waker) -> Result<Self> {
        Self::spawn_with(waker, Hub::from_env())
    }

    /// The same with another cache or server than the environment says.
    pub fn spawn_with(waker: Waker, hub: Result<Hub>) -> Result<Self> {
        let (commands, inbox) = bounded(COMMANDS);
        let (outbox, events) = bounded(EVENTS);
        let (alive, ended) = bounded(0);
        let shared = Arc::new(Shared::new(waker));
        let (store, asks) = bounded(COMMANDS);
        let (keeper, keeper_alive): (_, Sender<()>) = (Link::new(shared.clone(), outbox.clone()), alive.clone());
        let keep = move || {
            let _alive = keeper_alive;
            ModelStoreThread::run(keeper, &asks, hub);
        };
        let spawned = thread::Builder::new().name("adamix-models".to_owned()).spawn(keep);
        spawned.map_err(|err| Error::internal(format!("the thread for models cannot be started: {err}")))?;
        let link = Link::new(shared.clone(), outbox);
        let body = move || {
            let _alive = alive;
            Worker::run(link, &inbox);
        };
        let spawned = thread::Builder::new().name("adamix-train".to_owned()).spawn(body);
        spawned.map_err(|err| Error::internal(format!("the training thread cannot be started: {err}")))?;
        Ok(Self {
            commands: Some(commands),
            store: Some(store),
            events,
            ended,
            shared,
            runs: Mutex::default(),
            sent: AtomicU64::new(0),
            announced: RunId::default(),
        })
    }

    /// As an [`EngineFactory`] wants it.
    pub fn factory() -> EngineFactory {
        Box::new(|waker| Ok(Box::new(Self::spawn(waker)?) as Box<dyn Engine>))
    }

    fn each_run(&self, act: impl Fn(&RunFlags)) {
        let mut runs = self.runs.lock();
        runs.retain(|flags| !flags.over.load(Ordering::SeqCst));
        runs.iter().for_each(act);
    }
}

impl Engine for EngineHandle {
    fn try_send(&self, command: Command) -> Result<(), Busy> {
        if let Command::Store { req, ask } = command {
            let Some(lane) = &self.store else { return Err(Busy::Gone) };
            return lane.try_send((req, ask)).map_err(|err| if err.is_full() { Busy::Full } else { Busy::Gone });
        }
        let Some(lane) = &self.commands else { return Err(Busy::Gone) };
        let flags = matches!(command, Command::StartRun { .. } | Command::ResumeRun { .. }).then(RunFlags::default);
        let mut runs = self.runs.lock();
        let number = self.sent.load(Ordering::SeqCst) + 1;
        match lane.try_send(Message::Command { number, command, flags: flags.clone() }) {
            Ok(()) => {
                self.sent.store(number, Ordering::SeqCst);
                runs.retain(|flags| !flags.over.load(Ordering::SeqCst));
                runs.extend(flags);
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(Busy::Full),
            Err(TrySendError::Disconnected(_)) => Err(Busy::Gone),
        }
    }

    fn control(&self, request: ControlRequest) {
        match request {
            ControlRequest::Pause => self.each_run(|flags| flags.control.pause()),
            ControlRequest::Resume => self.each_run(|flags| flags.control.resume()),
            ControlRequest::Step => self.each_run(|flags| flags.control.step()),
            ControlRequest::Stop(reason) => self.each_run(|flags| flags.control.stop(&reason)),
            ControlRequest::CancelDownload(req) => self.shared.cancelled_downloads.lock().push(req),
            ControlRequest::CancelJob => {
                self.shared.cancelled.fetch_max(self.sent.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
    }

    fn watch(&self, watch: Watch) {
        *self.shared.watch.lock() = watch;
        if let Some(lane) = &self.commands {
            // A full lane has the thread looking soon anyway.
            lane.try_send(Message::Look).ok();
        }
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Incoming) -> ControlFlow<()>) -> bool {
        // Cleared first: what arrives from now on wakes the window again.
        self.shared.woken.store(false, Ordering::SeqCst);
        while let Ok(event) = self.events.try_recv() {
            if let Event::RunStarted { run, .. } = &event {
                self.announced = *run;
            }
            if sink(Incoming::Event(event)).is_break() {
                return true;
            }
        }
        let run = self.announced;
        let steps = self.shared.steps.take(run).map(|buckets| Incoming::Steps { run, buckets });
        if steps.is_some_and(|steps| sink(steps).is_break()) {
            return true;
        }
        let experts = self.shared.experts.take().filter(|(of, _)| *of == run);
        if experts.is_some_and(|(run, snapshot)| sink(Incoming::Experts { run, snapshot }).is_break()) {
            return true;
        }
        let routing = self.shared.routing.take().filter(|(of, _)| *of == run);
        if routing.is_some_and(|(run, snapshot)| sink(Incoming::Routing { run, snapshot }).is_break()) {
            return true;
        }
        let profile = self.shared.profile.take().filter(|(of, _)| *of == run);
        if profile.is_some_and(|(run, profile)| sink(Incoming::Profile { run, profile }).is_break()) {
            return true;
        }
        if let Some((req, texts)) = self.shared.writing.take()
            && sink(Incoming::Writing { req, texts }).is_break()
        {
            return true;
        }
        !self.events.is_empty()
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.control(ControlRequest::CancelJob);
        self.each_run(|flags| flags.control.stop("the window was closed"));
        self.commands = None;
        self.store = None;
        if self.ended.recv_timeout(PATIENCE).is_err_and(|err| err.is_timeout()) {
            log::warn!("the engine is still busy and is left behind; run directories and downloads can go on later");
        }
    }
}
