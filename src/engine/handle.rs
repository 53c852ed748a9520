//! The window's end of the engine: starts the threads, sends commands, receives events.
//!
//! No method blocks. Dropping the handle stops a run, which writes a checkpoint, and waits at most `DROP_TIMEOUT`.
//!
//! ```
//! use adamix::engine::handle::EngineHandle;
//! use adamix::protocol::{Command, Engine as _, Event, Incoming, RequestId};
//! use std::ops::ControlFlow;
//! use std::sync::{Arc, mpsc};
//!
//! let (wake, woken) = mpsc::channel();
//! let mut engine = EngineHandle::spawn(Arc::new(move || drop(wake.send(()))))?;
//! let runs_dir = "no-such-directory".to_owned();
//! let sent = engine.try_send(RequestId(1), Command::ListRuns(runs_dir));
//! assert!(sent.is_ok());
//! let mut answered = false;
//! while !answered && woken.recv().is_ok() {
//!     engine.drain(&mut |message| {
//!         answered |= matches!(message, Incoming::Event(Event::Done(RequestId(1), _)));
//!         ControlFlow::Continue(())
//!     });
//! }
//! # Ok::<(), adamix::error::Error>(())
//! ```

use super::worker::Worker;
use crate::artifact::queue::Queue;
use crate::engine::model_store_thread::ModelStoreThread;
use crate::engine::monitor_thread;
use crate::engine::outbox::{COMMANDS, EVENTS, EngineMessage, Outbox, RunFlags, Shared};
use crate::engine::routes_thread::RoutesThread;
use crate::error::{Error, Result};
use crate::model_store::Hub;
use crate::protocol::*;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long dropping waits for the threads.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// The engine as the window holds it.
pub struct EngineHandle {
    commands: Option<Sender<EngineMessage>>,
    /// To the model-store thread.
    store: Option<Sender<(RequestId, StoreAsk)>>,
    /// To the thread that reads recorded draws, and what ends its computation.
    routes: Option<Sender<(RequestId, RoutesAsk)>>,
    routes_end: Arc<AtomicBool>,
    /// To the thread that samples the computer: whether samples are wanted.
    monitor: Sender<bool>,
    events: Receiver<Event>,
    /// Closed when both threads have ended.
    ended: Receiver<()>,
    shared: Arc<Shared>,
    /// Flags of the runs that may not have ended.
    runs: Mutex<Vec<RunFlags>>,
    sent: AtomicU64,
    /// The run whose start was handed to the window: steps and snapshots of a run are held back until then.
    announced: RunId,
}

impl EngineHandle {
    /// Starts the training thread, `adamix-train`. Its first event is [`Event::Ready`], or a failure without a number.
    pub fn spawn(waker: Waker) -> Result<Self> {
        Self::spawn_with(waker, Hub::from_env())
    }

    /// As [`EngineHandle::spawn`], with this model cache and server instead of those of the environment.
    pub fn spawn_with(waker: Waker, hub: Result<Hub>) -> Result<Self> {
        Self::spawn_over(waker, hub, Queue::of_user())
    }

    /// As [`EngineHandle::spawn_with`], with this queue of runs instead of the user's.
    pub fn spawn_over(waker: Waker, hub: Result<Hub>, queue: Result<Queue>) -> Result<Self> {
        let (commands, inbox) = bounded(COMMANDS);
        let (outbox, events) = bounded(EVENTS);
        let (alive, ended) = bounded(0);
        let shared = Arc::new(Shared::new(waker));
        let (store, asks) = bounded(COMMANDS);
        let (store_outbox, store_alive): (_, Sender<()>) = (Outbox::new(shared.clone(), outbox.clone()), alive.clone());
        spawn("adamix-models", move || {
            let _alive = store_alive;
            ModelStoreThread::run(store_outbox, &asks, hub);
        })?;
        let (routes, routes_asks) = bounded(COMMANDS);
        let (routes_outbox, routes_alive): (_, Sender<()>) =
            (Outbox::new(shared.clone(), outbox.clone()), alive.clone());
        let routes_end = Arc::new(AtomicBool::new(false));
        let end = routes_end.clone();
        spawn("adamix-routes", move || {
            let _alive = routes_alive;
            RoutesThread { outbox: routes_outbox, end }.run(&routes_asks);
        })?;
        let (monitor, wanted) = bounded(8);
        let seen = shared.clone();
        spawn("adamix-monitor", move || monitor_thread::run(seen, wanted))?;
        let outbox = Outbox::new(shared.clone(), outbox);
        spawn("adamix-train", move || {
            let _alive = alive;
            Worker::run(outbox, &inbox, queue);
        })?;
        Ok(Self {
            commands: Some(commands),
            store: Some(store),
            routes: Some(routes),
            routes_end,
            monitor,
            events,
            ended,
            shared,
            runs: Mutex::default(),
            sent: AtomicU64::new(0),
            announced: RunId::default(),
        })
    }

    /// A factory that calls [`EngineHandle::spawn`].
    pub fn factory() -> EngineFactory {
        Box::new(|waker| Ok(Box::new(Self::spawn(waker)?) as Box<dyn Engine>))
    }

    fn each_run(&self, act: impl Fn(&RunFlags)) {
        let mut runs = self.runs.lock();
        runs.retain(|flags| !flags.ended.load(Ordering::SeqCst));
        runs.iter().for_each(act);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|err| Error::internal(format!("the thread {name} cannot be started: {err}")))
}

/// The newest value, where it is of this run.
fn take_of<T>(run: RunId, latest: &Mutex<Option<(RunId, T)>>) -> Option<T> {
    latest.lock().take().filter(|(of, _)| *of == run).map(|(_, value)| value)
}

impl Engine for EngineHandle {
    fn try_send(&self, req: RequestId, command: Command) -> Result<(), Busy> {
        if let Command::Store(ask) = command {
            let Some(channel) = &self.store else { return Err(Busy::Gone) };
            return channel.try_send((req, ask)).map_err(|err| if err.is_full() { Busy::Full } else { Busy::Gone });
        }
        if let Command::Routes(ask) = command {
            let Some(channel) = &self.routes else { return Err(Busy::Gone) };
            return channel.try_send((req, ask)).map_err(|err| if err.is_full() { Busy::Full } else { Busy::Gone });
        }
        let Some(channel) = &self.commands else { return Err(Busy::Gone) };
        let trains = matches!(
            command,
            Command::StartRun { .. }
                | Command::ResumeRun { .. }
                | Command::BranchRun { .. }
                | Command::StartQueued { .. }
        );
        let flags = trains.then(RunFlags::default);
        let mut runs = self.runs.lock();
        let number = self.sent.load(Ordering::SeqCst) + 1;
        let is_try = command.is_try();
        match channel.try_send(EngineMessage::Command { number, req, command, flags: flags.clone() }) {
            Ok(()) => {
                self.sent.store(number, Ordering::SeqCst);
                if is_try {
                    self.shared.newest_try.store(number, Ordering::SeqCst);
                }
                runs.retain(|flags| !flags.ended.load(Ordering::SeqCst));
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
            ControlRequest::Pace(steps) => self.each_run(|flags| flags.control.set_pace(steps)),
            ControlRequest::Law(law) => self.each_run(|flags| flags.control.set_law(law)),
            ControlRequest::Stop(reason) => self.each_run(|flags| flags.control.stop(&reason)),
            ControlRequest::CancelDownload(req) => self.shared.cancelled_downloads.lock().push(req),
            ControlRequest::CancelJob => {
                self.shared.cancelled.fetch_max(self.sent.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
    }

    fn watch(&self, watch: Watch) {
        let before = std::mem::replace(&mut *self.shared.watch.lock(), watch);
        if before.machine != watch.machine {
            // Where the thread is late it is told by the next change.
            self.monitor.try_send(watch.machine).ok();
        }
        if let Some(channel) = &self.commands {
            // The thread reads the new value anyway when the channel is full.
            channel.try_send(EngineMessage::WatchChanged).ok();
        }
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Incoming) -> ControlFlow<()>) -> bool {
        // Cleared first, so that what arrives from now on wakes the window again.
        self.shared.woken.store(false, Ordering::SeqCst);
        while let Ok(event) = self.events.try_recv() {
            if let Event::RunStarted { run, .. } = &event {
                self.announced = *run;
            }
            if sink(Incoming::Event(event)).is_break() {
                return true;
            }
        }
        let (shared, run) = (&self.shared, self.announced);
        let channels: [&dyn Fn() -> Option<Incoming>; 6] = [
            &|| Some(Incoming::Steps(run, shared.steps.take(run)?)),
            &|| Some(Incoming::Experts(run, take_of(run, &shared.experts)?)),
            &|| Some(Incoming::Routing(run, take_of(run, &shared.routing)?)),
            &|| Some(Incoming::Profile(run, take_of(run, &shared.profile)?)),
            &|| shared.machine.lock().take().map(Incoming::Machine),
            &|| shared.writing.lock().take().map(|(req, texts)| Incoming::Writing(req, texts)),
        ];
        for channel in channels {
            if channel().is_some_and(|incoming| sink(incoming).is_break()) {
                return true;
            }
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
        self.routes_end.store(true, Ordering::SeqCst);
        self.routes = None;
        if self.ended.recv_timeout(DROP_TIMEOUT).is_err_and(|err| err.is_timeout()) {
            log::warn!("the engine is still busy and was not waited for; runs and downloads can be resumed later");
        }
    }
}
