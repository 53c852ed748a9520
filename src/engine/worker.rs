//! The training thread: executes one command after the other, trains, and keeps the trained model for queries.
//!
//! It owns every tensor. All computation runs in a thread pool of its own that leaves one core to the window. A panic is
//! caught: the query that caused it is answered with a failure, and the files on disk stay valid.

use super::publisher::{Publisher, RunHistory, Snapshots};
use crate::artifact::queue::{Queue, TakenEntry};
use crate::artifact::recorder::resumed_steps;
use crate::artifact::{RunDir, checkpoint};
use crate::config::{ModelConfig, RunConfig};
use crate::engine::outbox::{EngineMessage, Outbox, RunFlags};
use crate::engine::query_service::{LoadedModel, QueryService, same};
use crate::error::{Context as _, Error, ErrorKind, Result};
use crate::machine::{device, facts};
use crate::protocol::*;
use crate::train::Trainer;
use crate::workflow::run::{self, Run};
use crate::workflow::snapshot::Banks;
use crate::workflow::{branch, runs};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rayon::ThreadPool;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Cores left to the window.
const SPARE_CORES: usize = 1;
/// Interval at which events that found no room are sent again.
const RETRY: Duration = Duration::from_millis(20);

/// The model trained last.
struct TrainedRun {
    trainer: Trainer,
    dir: RunDir,
    snapshots: Snapshots,
    /// Which weights it holds: those of the best checkpoint when the run has finished.
    weights: WeightsOf,
}

/// How a run starts.
enum StartMode {
    New(Box<RunConfig>),
    Resume(PathBuf),
    Branch(PathBuf, Checkpoint, Box<RunConfig>),
    Queued(Box<TakenEntry>),
}

/// State of the thread.
pub(super) struct Worker<'a> {
    queries: QueryService<'a>,
    pool: ThreadPool,
    live: Option<TrainedRun>,
    active: Option<(RunId, RunFlags)>,
    waiting: VecDeque<EngineMessage>,
}

impl Worker<'_> {
    /// The thread's body; ends when all senders are dropped.
    #[expect(clippy::needless_pass_by_value, reason = "the thread owns its outbox")]
    pub(super) fn run(outbox: Outbox, inbox: &Receiver<EngineMessage>, queue: Result<Queue>) {
        let body = || Worker::start(&outbox, inbox, queue).map(Worker::serve);
        let failed = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => return,
            Ok(Err(err)) => err,
            Err(panic) => Error::internal(panic_message(&*panic)),
        };
        log::error!("the engine has failed: {failed}");
        outbox.fail_unanswered(&failed.to_string());
        // Commands that wait are answered too, and so are events that have not been sent.
        outbox.send(Event::Failed(None, Failure::from(&failed)));
        while let Ok(message) = inbox.try_recv() {
            if let EngineMessage::Command { req, .. } = message {
                outbox.accept(req);
            }
        }
        outbox.fail_unanswered("the engine has ended; restart the window");
        while !outbox.flush() {
            std::thread::sleep(RETRY);
        }
    }

    fn start<'a>(outbox: &'a Outbox, inbox: &'a Receiver<EngineMessage>, queue: Result<Queue>) -> Result<Worker<'a>> {
        let pool = facts::pool(0, SPARE_CORES)?;
        let chosen = device::choose(&ModelConfig::default());
        if let Some(warning) = &chosen.warning {
            log::warn!("{warning}");
        }
        let device = device::name(&chosen.device);
        outbox.send(Event::Ready { device, threads: pool.current_num_threads() });
        let queries = QueryService::new(outbox, inbox, queue);
        Ok(Worker { queries, pool, live: None, active: None, waiting: VecDeque::new() })
    }

    fn serve(mut self) {
        while let Some(message) = self.next() {
            let done = catch_unwind(AssertUnwindSafe(|| self.handle(message)));
            if let Err(panic) = done {
                self.after_panic(&panic_message(&*panic));
            }
        }
    }

    /// The next message; blocks until there is one. `None` when all senders are dropped.
    fn next(&mut self) -> Option<EngineMessage> {
        loop {
            self.waiting.extend(self.queries.inbox.try_iter());
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            let received = if self.queries.outbox.flush() {
                self.queries.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.queries.inbox.recv_timeout(RETRY)
            };
            match received {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn handle(&mut self, message: EngineMessage) {
        match message {
            EngineMessage::WatchChanged => {}
            EngineMessage::Command { req, command: Command::StartRun { run, config }, flags, .. } => {
                self.train(req, run, Ok(StartMode::New(config)), flags.unwrap_or_default());
            }
            EngineMessage::Command { req, command: Command::StartQueued { run }, flags, .. } => {
                let mode = self.next_in_queue();
                self.train(req, run, mode, flags.unwrap_or_default());
            }
            EngineMessage::Command { req, command: Command::ResumeRun { run, dir }, flags, .. } => {
                self.train(req, run, Ok(StartMode::Resume(dir)), flags.unwrap_or_default());
            }
            EngineMessage::Command {
                req,
                command: Command::BranchRun { run, parent, checkpoint, config },
                flags,
                ..
            } => {
                self.train(req, run, Ok(StartMode::Branch(parent, checkpoint, config)), flags.unwrap_or_default());
            }
            EngineMessage::Command { req, command, .. } if self.is_outdated(&command) => {
                self.queries.outbox.accept(req);
                self.queries.outbox.answer(req, Err(Error::cancelled()));
            }
            EngineMessage::Command { number, req, command, .. } => {
                let Self { queries, pool, live, .. } = self;
                let loaded = live.as_ref().map(|live| LoadedModel::of(&live.trainer, &live.dir, live.weights));
                pool.install(|| queries.serve(number, req, &command, loaded, None));
                if let Command::DeleteRun(dir) = &command {
                    self.live.take_if(|live| same(live.dir.path(), dir) || !live.dir.path().exists());
                }
            }
        }
        self.publish_snapshots();
    }

    /// Whether a newer query of the same kind about the form is waiting.
    fn is_outdated(&self, command: &Command) -> bool {
        let kind = std::mem::discriminant(command);
        let about_form = matches!(
            command,
            Command::PreviewModel { .. }
                | Command::PreviewData { .. }
                | Command::ReadColumns { .. }
                | Command::Preflight { .. }
        );
        let newer = |message: &EngineMessage| matches!(message, EngineMessage::Command { command, .. } if std::mem::discriminant(command) == kind);
        about_form && self.waiting.iter().any(newer)
    }

    /// Sends the watched snapshots of the model trained last.
    fn publish_snapshots(&mut self) {
        let Self { queries, live: Some(live), .. } = self else { return };
        if let Err(err) = live.snapshots.publish(queries.outbox, live.trainer.model(), live.weights.step, true) {
            queries.outbox.log(LogLevel::Warning, format!("the experts cannot be shown: {err}"));
        }
    }

    fn next_in_queue(&self) -> Result<StartMode> {
        let nothing = || Error::new(ErrorKind::Cancelled, "no run is waiting in the queue any more");
        self.queries.queue()?.take_next()?.map(|taken| StartMode::Queued(Box::new(taken))).ok_or_else(nothing)
    }

    #[expect(clippy::needless_pass_by_value, reason = "the run owns its flags")]
    fn train(&mut self, req: RequestId, run: RunId, mode: Result<StartMode>, flags: RunFlags) {
        let outbox = self.queries.outbox;
        outbox.accept(req);
        // The memory is needed now.
        self.live = None;
        self.queries.forget();
        self.active = Some((run, flags.clone()));
        outbox.send(Event::PhaseChanged(run, RunPhase::Preparing));
        let result = mode.and_then(|mode| self.train_in_pool(run, mode, &flags));
        flags.ended.store(true, Ordering::SeqCst);
        self.active = None;
        device::release_unused();
        match result {
            Ok(live) => {
                self.live = Some(live);
                outbox.answer(req, Ok(Outcome::RunEnded(run)));
            }
            Err(err) => {
                outbox.send(Event::PhaseChanged(run, RunPhase::Failed));
                outbox.answer(req, Err(err));
            }
        }
    }

    fn train_in_pool(&mut self, run: RunId, mode: StartMode, flags: &RunFlags) -> Result<TrainedRun> {
        let threads = match &mode {
            StartMode::New(config) => config.model.threads,
            StartMode::Queued(taken) => taken.entry.config.model.threads,
            StartMode::Resume(dir) => RunDir::open(dir)?.config().model.threads,
            StartMode::Branch(.., config) => config.model.threads,
        };
        let own = if threads > 0 { Some(facts::pool(threads, SPARE_CORES)?) } else { None };
        let Self { queries, pool, .. } = self;
        own.as_ref().unwrap_or(pool).install(|| train(queries, run, mode, flags))
    }

    fn after_panic(&mut self, what: &str) {
        log::error!("{what}");
        self.live = None;
        self.queries.forget();
        let outbox = self.queries.outbox;
        if let Some((run, flags)) = self.active.take() {
            flags.ended.store(true, Ordering::SeqCst);
            outbox.send(Event::PhaseChanged(run, RunPhase::Failed));
        }
        outbox.fail_unanswered(&format!(
            "{what}; the files on disk are valid, and a run can be resumed from its last checkpoint"
        ));
    }
}

fn train(queries: &mut QueryService<'_>, id: RunId, mode: StartMode, flags: &RunFlags) -> Result<TrainedRun> {
    let mut run = match mode {
        StartMode::New(config) => Run::start(run::prepare(&config)?)?,
        StartMode::Resume(dir) => Run::resume(&dir, None)?,
        StartMode::Branch(parent, checkpoint, config) => {
            let branch = branch::branch(&RunDir::open(&parent)?, checkpoint, &config)?;
            Run::resume(branch.path(), None)?
        }
        StartMode::Queued(taken) => start_queued(queries, *taken)?,
    };
    for warning in run.warnings() {
        queries.outbox.log(LogLevel::Warning, warning.clone());
    }
    let (dir, first) = (run.dir().clone(), run.trainer().steps_done());
    let model = run.trainer().model();
    let banks = Banks::of(model)?;
    let start = banks.at_start_of(&dir).unwrap_or_else(|err| {
        queries
            .outbox
            .log(LogLevel::Warning, format!("{err}; changes are measured from the settings' initial experts"));
        banks.at_start(run.trainer().config())
    });
    let counts = runs::route_counts(&dir, model.site_names(), first)?;
    let history = if first > 0 { read_history(&dir, first)? } else { RunHistory::default() };
    let mut publisher = Publisher::new(queries, flags.clone(), dir.clone(), Snapshots::new(id, counts, start), history);
    let ended = run.go(&mut publisher, &flags.control);
    let mut snapshots = publisher.snapshots;
    let end = ended?;
    // The weights may have changed since the last snapshot: they are those of the best checkpoint.
    snapshots.invalidate();
    let trainer = run.into_trainer();
    let weights = weights_after(&end, trainer.weights_step());
    Ok(TrainedRun { trainer, dir, snapshots, weights })
}

/// Why the model in memory holds the weights of this step after this end. Weights that are not finite are in no checkpoint.
fn weights_after(end: &EndRecord, step: u64) -> WeightsOf {
    let checkpoint = match (&end.reason, end.best) {
        (_, Some((best, _))) if best == step => Some(Checkpoint::Best),
        (EndReason::Diverged { .. }, _) => None,
        _ => Some(Checkpoint::Last),
    };
    WeightsOf { step, checkpoint }
}

/// Starts what was taken from the queue. Where it cannot start, its entry says why.
fn start_queued(queries: &QueryService<'_>, taken: TakenEntry) -> Result<Run> {
    let title = taken.entry.title();
    queries.outbox.log(LogLevel::Info, format!("from the queue: {title}"));
    let started = run::prepare(&taken.entry.config).and_then(Run::start);
    let noted = match &started {
        Ok(_) => taken.started(),
        Err(err) => taken.failed(&err.to_string()),
    };
    if let Err(err) = noted {
        queries.outbox.log(LogLevel::Warning, format!("the queue cannot be changed: {err}"));
    }
    started.with_context(|| format!("starting {title} from the queue"))
}

/// What a run did before it was resumed at step `first`.
fn read_history(dir: &RunDir, first: u64) -> Result<RunHistory> {
    // The state at step `first` is measured again when the run is resumed.
    let before: Vec<u64> = checkpoint::list(dir)?.into_iter().filter(|&step| step < first).collect();
    let (metrics, samples) = (runs::RecordedMetrics::read(&dir.metrics())?, runs::samples(dir)?);
    let resumed = resumed_steps(dir);
    Ok(RunHistory { metrics, resumed, samples, distances: runs::distances(dir, &before) })
}

/// EngineMessage of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a bug in the engine: {}", text.unwrap_or("no message"))
}
