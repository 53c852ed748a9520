//! One download on a thread of its own, looked at from outside: what the window and the command line share.
//!
//! A connection can die without a word, and then a read waits for ever. So the thread is never waited for: when it has
//! been silent for too long it is left behind (it writes nothing more: the first byte that still reaches it ends it),
//! and another one goes on where it was.

use crate::error::{Error, ErrorKind, Result};
use crate::machine::facts;
use crate::model_store::{DownloadProgress, Downloaded, Hub, ModelId, Stage, Watcher, download};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A connection that brings nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Dead connections in a row, without a byte in between, after which it is given up.
const DEATHS: u32 = 3;
/// Least time between two reports of the same stage.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// How long the thread is given to hear that it was given up.
const GRACE: Duration = Duration::from_millis(1500);
/// News that may wait; a report of progress that finds no room is dropped.
const NEWS: usize = 64;
/// The speed is the mean over this time.
const PACE: Duration = Duration::from_secs(5);

/// What happens in a download.
#[derive(Debug)]
pub enum News {
    /// It has come further, or something else is being done.
    Progress(DownloadProgress),
    /// It is over.
    Ended(Result<Downloaded>),
}

/// What the thread and its owner share.
#[derive(Default)]
struct Shared {
    stopped: Mutex<bool>,
    bell: Condvar,
    /// The lock file of the transfer in work.
    lock: Mutex<Option<PathBuf>>,
}

impl Shared {
    fn stop(&self) {
        *self.stopped.lock() = true;
        self.bell.notify_all();
    }
}

/// A download in work.
pub struct Transfer {
    hub: Hub,
    id: ModelId,
    silence: Duration,
    shared: Arc<Shared>,
    news: Receiver<News>,
    heard: Instant,
    given_up: Option<Instant>,
    deaths: u32,
    last: DownloadProgress,
    /// Bytes that came, by time.
    pace: VecDeque<(Instant, u64)>,
}

impl Transfer {
    /// Starts fetching.
    pub fn start(hub: Hub, id: ModelId) -> Result<Self> {
        Self::start_with(hub, id, SILENCE)
    }

    /// The same with another idea of how long a living connection can be silent.
    pub fn start_with(hub: Hub, id: ModelId, silence: Duration) -> Result<Self> {
        let (shared, news) = spawn(&hub, &id)?;
        Ok(Self {
            hub,
            id,
            silence,
            shared,
            news,
            heard: Instant::now(),
            given_up: None,
            deaths: 0,
            last: DownloadProgress::default(),
            pace: VecDeque::new(),
        })
    }

    /// Gives it up; what was fetched is kept.
    pub fn stop(&mut self) {
        self.shared.stop();
        self.given_up.get_or_insert_with(Instant::now);
    }

    /// The next news, within this time. After [`News::Ended`] there is nothing more.
    pub fn next(&mut self, within: Duration) -> Option<News> {
        match self.news.recv_timeout(within) {
            Ok(News::Progress(progress)) => {
                self.heard = Instant::now();
                Some(News::Progress(self.paced(progress)))
            }
            Ok(ended @ News::Ended(_)) => Some(ended),
            Err(RecvTimeoutError::Disconnected) => {
                Some(News::Ended(Err(Error::internal("the download has ended without a word; this is a bug"))))
            }
            Err(RecvTimeoutError::Timeout) => self.quiet(),
        }
    }

    /// Nothing was heard for a while.
    fn quiet(&mut self) -> Option<News> {
        if let Some(since) = self.given_up {
            let words = "cancelled; what was fetched is kept, the same download goes on from there";
            return (since.elapsed() > GRACE).then(|| News::Ended(Err(Error::new(ErrorKind::Cancelled, words))));
        }
        let waiting = match &self.last.stage {
            Stage::Waiting { seconds, .. } => Duration::from_secs(*seconds),
            _ => Duration::ZERO,
        };
        if self.heard.elapsed() < self.silence + waiting {
            return None;
        }
        self.shared.stop();
        self.deaths += 1;
        let reason = format!("{} has sent nothing for {} s", self.hub.host(), self.silence.as_secs());
        if self.deaths >= DEATHS {
            let hint = "check the connection and start the same download again: it goes on where it stopped";
            return Some(News::Ended(Err(Error::new(ErrorKind::Network, format!("{reason}; {hint}")))));
        }
        // The thread that was left behind holds the file of this name, and will never write again.
        if let Some(lock) = self.shared.lock.lock().take() {
            std::fs::remove_file(lock).ok();
        }
        self.heard = Instant::now();
        match spawn(&self.hub, &self.id) {
            Err(err) => Some(News::Ended(Err(err))),
            Ok((shared, news)) => {
                (self.shared, self.news) = (shared, news);
                self.last.stage = Stage::Waiting { seconds: 0, reason };
                Some(News::Progress(self.last.clone()))
            }
        }
    }

    /// The progress with its speed.
    fn paced(&mut self, mut progress: DownloadProgress) -> DownloadProgress {
        if progress.fetched > self.last.fetched {
            self.deaths = 0;
        }
        if progress.fetched < self.last.fetched {
            self.pace.clear();
        }
        let now = Instant::now();
        self.pace.push_back((now, progress.fetched));
        while self.pace.len() > 2 && self.pace.front().is_some_and(|(then, _)| now - *then > PACE) {
            self.pace.pop_front();
        }
        if let Some(&(then, before)) = self.pace.front().filter(|_| progress.stage == Stage::Fetching) {
            let seconds = (now - then).as_secs_f64();
            progress.speed = if seconds > 0.1 { (progress.fetched - before) as f64 / seconds } else { 0.0 };
        }
        self.last.clone_from(&progress);
        progress
    }
}

impl Drop for Transfer {
    /// Nobody listens any more: the thread ends at its next piece.
    fn drop(&mut self) {
        self.shared.stop();
    }
}

fn spawn(hub: &Hub, id: &ModelId) -> Result<(Arc<Shared>, Receiver<News>)> {
    let shared: Arc<Shared> = Arc::default();
    let (out, news) = bounded(NEWS);
    let (hub, id, own) = (hub.clone(), id.clone(), shared.clone());
    let body = move || {
        let mut reporter = Reporter { shared: own, out, told: None };
        let ended = download(&hub, &id, &mut reporter);
        reporter.out.send(News::Ended(ended)).ok(); // nobody may listen any more
    };
    let spawned = thread::Builder::new().name("adamix-download".to_owned()).spawn(body);
    spawned.map_err(|err| Error::internal(format!("the thread of the download cannot be started: {err}")))?;
    Ok((shared, news))
}

/// The thread's end.
struct Reporter {
    shared: Arc<Shared>,
    out: Sender<News>,
    /// When something was told last, and what was done then.
    told: Option<(Instant, Stage, usize)>,
}

impl Watcher for Reporter {
    fn told(&mut self, progress: &DownloadProgress) -> bool {
        let old = |(when, stage, number): &(Instant, Stage, usize)| {
            *number == progress.number && *stage == progress.stage && when.elapsed() < REPORT_EVERY
        };
        if !self.told.as_ref().is_some_and(old) {
            self.told = Some((Instant::now(), progress.stage.clone(), progress.number));
            self.out.try_send(News::Progress(progress.clone())).ok(); // the next one says more
        }
        !*self.shared.stopped.lock()
    }

    fn wait(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut stopped = self.shared.stopped.lock();
        while !*stopped {
            if self.shared.bell.wait_until(&mut stopped, end).timed_out() {
                break;
            }
        }
        !*stopped
    }

    fn free_space(&self, path: &Path) -> Option<u64> {
        facts::disk_free(path)
    }

    fn locked(&mut self, lock: &Path) {
        *self.shared.lock.lock() = Some(lock.to_owned());
    }
}
