//! The engine's end of all channels. Nothing here blocks on the window.

use crate::engine::mailbox::StepMailbox;
use crate::error::Error;
use crate::protocol::*;
use crate::train::Control;
use crossbeam_channel::{Sender, TrySendError};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Capacity of the command channel.
pub(crate) const COMMANDS: usize = 64;
/// Capacity of the event channel; further events wait in [`Outbox`].
pub(crate) const EVENTS: usize = 1024;

/// The flags of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunFlags {
    /// Stop with its reason, pause, resume, single step.
    pub(crate) control: Control,
    /// The run has ended.
    pub(crate) ended: Arc<AtomicBool>,
}

/// A message to the training thread.
pub(crate) enum EngineMessage {
    /// A command with its sequence number; a run has flags.
    Command { number: u64, req: RequestId, command: Command, flags: Option<RunFlags> },
    /// The watched snapshots have changed.
    WatchChanged,
}

/// The newest value that was not taken yet; an older one is dropped.
type Latest<T> = Mutex<Option<T>>;

/// State shared by window and engine: channels that keep the newest values, and flags.
pub(crate) struct Shared {
    pub(crate) steps: StepMailbox,
    pub(crate) experts: Latest<(RunId, Arc<ExpertSnapshot>)>,
    pub(crate) routing: Latest<(RunId, Arc<RoutingSnapshot>)>,
    pub(crate) profile: Latest<(RunId, StepProfile)>,
    pub(crate) writing: Latest<(RequestId, Vec<String>)>,
    pub(crate) machine: Latest<MachineSample>,
    pub(crate) watch: Mutex<Watch>,
    /// Commands up to this sequence number are cancelled.
    pub(crate) cancelled: AtomicU64,
    /// Sequence number of the newest [`Command::is_try`]; older ones are not answered any more.
    pub(crate) newest_try: AtomicU64,
    /// Cancelled downloads that have not ended yet.
    pub(crate) cancelled_downloads: Mutex<Vec<RequestId>>,
    /// The window was woken and has not drained its channels yet.
    pub(crate) woken: AtomicBool,
    waker: Waker,
}

impl Shared {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            steps: StepMailbox::default(),
            experts: Latest::default(),
            routing: Latest::default(),
            profile: Latest::default(),
            writing: Latest::default(),
            machine: Latest::default(),
            watch: Mutex::new(Watch::default()),
            cancelled: AtomicU64::new(0),
            newest_try: AtomicU64::new(0),
            cancelled_downloads: Mutex::default(),
            woken: AtomicBool::new(false),
            waker,
        }
    }

    /// Wakes the window, once until it drains its channels.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            (self.waker)();
        }
    }
}

/// Sends events to the window.
pub(crate) struct Outbox {
    pub(crate) shared: Arc<Shared>,
    events: Sender<Event>,
    /// Events for which the channel had no room, oldest first.
    unsent: Mutex<VecDeque<Event>>,
    /// Accepted commands that are not answered yet.
    open: Mutex<Vec<RequestId>>,
}

impl Outbox {
    pub(crate) fn new(shared: Arc<Shared>, events: Sender<Event>) -> Self {
        Self { shared, events, unsent: Mutex::default(), open: Mutex::default() }
    }

    /// Sends an event; events arrive in order.
    pub(crate) fn send(&self, event: Event) {
        self.unsent.lock().push_back(event);
        self.flush();
    }

    /// A line for the window's log.
    pub(crate) fn log(&self, level: LogLevel, text: impl Into<String>) {
        self.send(Event::Log(LogLine { level, text: text.into() }));
    }

    /// Sends the answers as far as they are generated.
    pub(crate) fn show_writing(&self, req: RequestId, texts: Vec<String>) {
        *self.shared.writing.lock() = Some((req, texts));
        self.shared.wake();
    }

    /// Moves waiting events into the channel while there is room. Returns whether none is left.
    pub(crate) fn flush(&self) -> bool {
        let mut unsent = self.unsent.lock();
        let mut moved = false;
        while let Some(event) = unsent.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => moved = true,
                Err(TrySendError::Full(event)) => {
                    unsent.push_front(event);
                    break;
                }
                // The window is gone.
                Err(TrySendError::Disconnected(_)) => unsent.clear(),
            }
        }
        let all = unsent.is_empty();
        drop(unsent);
        if moved {
            self.shared.wake();
        }
        all
    }

    /// Accepts a command: it will be answered.
    pub(crate) fn accept(&self, req: RequestId) {
        self.open.lock().push(req);
    }

    /// Answers an accepted command, once.
    pub(crate) fn answer(&self, req: RequestId, result: Result<Outcome, Error>) {
        let mut open = self.open.lock();
        let Some(at) = open.iter().position(|&other| other == req) else { return };
        open.remove(at);
        drop(open);
        self.send(match result {
            Ok(outcome) => Event::Done(req, outcome),
            Err(err) => Event::Failed(Some(req), Failure::from(&err)),
        });
    }

    /// Answers all accepted commands with this failure.
    pub(crate) fn fail_unanswered(&self, message: &str) {
        let open = self.open.lock().clone();
        for req in open {
            self.answer(req, Err(Error::internal(message)));
        }
    }

    /// Whether the command with this sequence number is cancelled.
    pub(crate) fn is_cancelled(&self, number: u64) -> bool {
        number <= self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Whether no newer [`Command::is_try`] was sent than the one with this sequence number.
    pub(crate) fn is_newest_try(&self, number: u64) -> bool {
        number >= self.shared.newest_try.load(Ordering::SeqCst)
    }

    /// A callback that reports the progress of a long query in steps of 5 %; it returns false when the query is cancelled.
    pub(crate) fn progress<'a>(
        &'a self,
        req: RequestId,
        number: u64,
        what: &'static str,
        stop: Option<&'a Control>,
    ) -> impl Fn(f64) -> bool + 'a {
        let reported = std::cell::Cell::new(0);
        move |share: f64| {
            let done = (share.clamp(0.0, 1.0) * 20.0) as u64;
            if done > reported.get() {
                reported.set(done);
                self.send(Event::Progress { req, what: what.to_owned(), done: done * 5, total: 100 });
            }
            !self.is_cancelled(number) && stop.is_none_or(|control| !control.stopped())
        }
    }
}
