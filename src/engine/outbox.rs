//! The training thread's end of all lanes. Nothing here waits for the window.

use crate::engine::mailbox::{Latest, Mailbox};
use crate::error::Error;
use crate::protocol::*;
use crate::train::Control;
use crossbeam_channel::{Sender, TrySendError};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Commands that may wait.
pub(crate) const COMMANDS: usize = 64;
/// Events that may wait in the lane; more wait on the training thread.
pub(crate) const EVENTS: usize = 1024;

/// The flags of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunFlags {
    /// Stop, pause, resume and single step.
    pub(crate) control: Control,
    /// The run has ended; nobody listens any more.
    pub(crate) over: Arc<AtomicBool>,
}

/// What goes down the command lane.
pub(crate) enum Message {
    /// A question with its place in the order of all questions; a run has flags.
    Command { number: u64, command: Command, flags: Option<RunFlags> },
    /// What is being watched has changed.
    Look,
}

/// What both threads share: lanes that forget, and levels.
pub(crate) struct Shared {
    pub(crate) steps: Mailbox,
    pub(crate) experts: Latest<(RunId, Arc<ExpertSnapshot>)>,
    pub(crate) routing: Latest<(RunId, Arc<RoutingSnapshot>)>,
    pub(crate) profile: Latest<(RunId, StepProfile)>,
    pub(crate) writing: Latest<(RequestId, Vec<String>)>,
    pub(crate) watch: Mutex<Watch>,
    /// Questions up to this number are given up.
    pub(crate) cancelled: AtomicU64,
    /// Downloads that were given up and have not ended.
    pub(crate) cancelled_downloads: Mutex<Vec<RequestId>>,
    /// The window has been woken and has not looked yet.
    pub(crate) woken: AtomicBool,
    waker: Waker,
}

impl Shared {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            steps: Mailbox::default(),
            experts: Latest::default(),
            routing: Latest::default(),
            profile: Latest::default(),
            writing: Latest::default(),
            watch: Mutex::new(Watch::default()),
            cancelled: AtomicU64::new(0),
            cancelled_downloads: Mutex::default(),
            woken: AtomicBool::new(false),
            waker,
        }
    }

    /// Wakes the window, once until it has looked.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            (self.waker)();
        }
    }
}

/// The training thread's end.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    events: Sender<Event>,
    /// Events that the lane had no room for, oldest first.
    refused: Mutex<VecDeque<Event>>,
    /// Questions taken but not answered.
    open: Mutex<Vec<RequestId>>,
}

impl Link {
    pub(crate) fn new(shared: Arc<Shared>, events: Sender<Event>) -> Self {
        Self { shared, events, refused: Mutex::default(), open: Mutex::default() }
    }

    /// Says something; it arrives in order, now or later.
    pub(crate) fn say(&self, event: Event) {
        self.refused.lock().push_back(event);
        self.flush();
    }

    /// A line for the window's log.
    pub(crate) fn log(&self, level: LogLevel, text: impl Into<String>) {
        self.say(Event::Log(LogLine { level, text: text.into() }));
    }

    /// Shows answers as far as they are written.
    pub(crate) fn show_writing(&self, req: RequestId, texts: Vec<String>) {
        self.shared.writing.put((req, texts));
        self.shared.wake();
    }

    /// Moves what waits into the lane as far as there is room. Returns whether all of it went.
    pub(crate) fn flush(&self) -> bool {
        let mut refused = self.refused.lock();
        let mut moved = false;
        while let Some(event) = refused.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => moved = true,
                Err(TrySendError::Full(event)) => {
                    refused.push_front(event);
                    break;
                }
                // Nobody will ever listen again.
                Err(TrySendError::Disconnected(_)) => refused.clear(),
            }
        }
        let all = refused.is_empty();
        drop(refused);
        if moved {
            self.shared.wake();
        }
        all
    }

    /// A question was taken up.
    pub(crate) fn open(&self, req: RequestId) {
        self.open.lock().push(req);
    }

    /// Answers a question, once.
    pub(crate) fn answer(&self, req: RequestId, result: Result<Outcome, Error>) {
        let mut open = self.open.lock();
        let Some(at) = open.iter().position(|&other| other == req) else { return };
        open.remove(at);
        drop(open);
        self.say(match result {
            Ok(outcome) => Event::Done { req, outcome },
            Err(err) => Event::Failed { req: Some(req), failure: Failure::from(&err) },
        });
    }

    /// Answers everything that was taken up and not answered.
    pub(crate) fn fail_open(&self, message: &str) {
        let open = self.open.lock().clone();
        for req in open {
            self.answer(req, Err(Error::internal(message)));
        }
    }

    /// Whether the window gave up question `number`.
    pub(crate) fn is_cancelled(&self, number: u64) -> bool {
        number <= self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Reports progress of a long question in steps of five per cent; false when it was given up.
    pub(crate) fn progress<'a>(
        &'a self,
        (req, number): (RequestId, u64),
        what: &'static str,
        stop: Option<&'a Control>,
    ) -> impl Fn(f64) -> bool + 'a {
        let told = std::cell::Cell::new(0);
        move |share: f64| {
            let done = (share.clamp(0.0, 1.0) * 20.0) as u64;
            if done > told.get() {
                told.set(done);
                self.say(Event::Progress { req, what: what.to_owned(), done: done * 5, total: 100 });
            }
            !self.is_cancelled(number) && stop.is_none_or(|control| !control.stopped())
        }
    }
}
