//! One download on a thread of its own, for the window and the command line.
//!
//! Cancelling closes the connections, which ends the thread, except while it looks up or connects to a host: then its
//! owner goes on after `GRACE`, and the thread ends with its time limit without writing anything more.

use crate::error::{Error, Result};
use crate::machine::facts;
use crate::model::HeaderReader;
use crate::model_store::{Client, DownloadProgress, Downloaded, Hub, ModelId, Stage, Watcher, cancelled, download};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Least time between two reports of the same stage.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// How long the owner waits for a cancelled thread to end.
const GRACE: Duration = Duration::from_millis(1500);
/// Events that may wait; a report of progress that finds no room is dropped.
const MAX_EVENTS: usize = 64;
/// The speed is the mean over this time.
const SPEED_WINDOW: Duration = Duration::from_secs(5);

/// What happens in a download.
#[derive(Debug)]
pub enum TransferEvent {
    /// It has come further, or its stage has changed.
    Progress(DownloadProgress),
    /// It is over.
    Ended(Result<Downloaded>),
}

/// The cancellation flag.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// A running download. Dropping it cancels it.
pub struct Transfer {
    client: Client,
    stop: Arc<Stop>,
    events: Receiver<TransferEvent>,
    cancelled_at: Option<Instant>,
    /// Bytes fetched, by time.
    history: VecDeque<(Instant, u64)>,
}

impl Transfer {
    /// Starts fetching.
    pub fn start(hub: &Hub, id: ModelId) -> Result<Self> {
        let (client, stop) = (Client::new(hub), Arc::<Stop>::default());
        let (out, events) = bounded(MAX_EVENTS);
        let mut reporter = Reporter { stop: stop.clone(), out, last: None };
        let own = client.clone();
        let body = move || {
            let ended = download(&own, &id, &HeaderReader, &mut reporter);
            reporter.out.send(TransferEvent::Ended(ended)).ok(); // the receiver may be gone
        };
        let spawned = thread::Builder::new().name("adamix-download".to_owned()).spawn(body);
        spawned.map_err(|err| Error::internal(format!("the thread of the download cannot be started: {err}")))?;
        Ok(Self { client, stop, events, cancelled_at: None, history: VecDeque::new() })
    }

    /// Cancels it; what was fetched is kept.
    pub fn stop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.changed.notify_all();
        self.client.shutdown();
        self.cancelled_at.get_or_insert_with(Instant::now);
    }

    /// The next event, within this time. [`TransferEvent::Ended`] is the last one.
    pub fn next(&mut self, within: Duration) -> Option<TransferEvent> {
        match self.events.recv_timeout(within) {
            Ok(TransferEvent::Progress(progress)) => Some(TransferEvent::Progress(self.with_speed(progress))),
            Ok(TransferEvent::Ended(Err(_))) if self.cancelled_at.is_some() => {
                Some(TransferEvent::Ended(Err(cancelled())))
            }
            Ok(ended) => Some(ended),
            Err(RecvTimeoutError::Disconnected) => Some(TransferEvent::Ended(Err(Error::internal(
                "the thread of the download has ended without a result; this is a bug",
            )))),
            Err(RecvTimeoutError::Timeout) => {
                let late = self.cancelled_at.is_some_and(|at| at.elapsed() > GRACE);
                late.then(|| TransferEvent::Ended(Err(cancelled())))
            }
        }
    }

    fn with_speed(&mut self, mut progress: DownloadProgress) -> DownloadProgress {
        let now = Instant::now();
        self.history.push_back((now, progress.fetched));
        while self.history.len() > 2 && self.history.front().is_some_and(|(then, _)| now - *then > SPEED_WINDOW) {
            self.history.pop_front();
        }
        if let Some(&(then, before)) = self.history.front().filter(|_| progress.stage == Stage::Fetching) {
            let seconds = (now - then).as_secs_f64();
            progress.speed = if seconds > 0.1 { (progress.fetched - before) as f64 / seconds } else { 0.0 };
        }
        progress
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's end.
struct Reporter {
    stop: Arc<Stop>,
    out: Sender<TransferEvent>,
    /// Time, stage and number of the file of the last report.
    last: Option<(Instant, Stage, usize)>,
}

impl Watcher for Reporter {
    fn report(&mut self, progress: &DownloadProgress) -> bool {
        let recent = |(at, stage, number): &(Instant, Stage, usize)| {
            *number == progress.number && *stage == progress.stage && at.elapsed() < REPORT_EVERY
        };
        if !self.last.as_ref().is_some_and(recent) {
            self.last = Some((Instant::now(), progress.stage.clone(), progress.number));
            self.out.try_send(TransferEvent::Progress(progress.clone())).ok(); // the next report says more
        }
        !*self.stop.stopped.lock()
    }

    fn wait(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut stopped = self.stop.stopped.lock();
        while !*stopped && !self.stop.changed.wait_until(&mut stopped, end).timed_out() {}
        !*stopped
    }

    fn free_space(&self, path: &Path) -> Option<u64> {
        facts::disk_free(path)
    }
}
