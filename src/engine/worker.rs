//! The training thread: takes one command after the other, trains, and keeps the trained model for questions.
//!
//! It owns every tensor. All computing happens in a pool of its own that leaves a core to the window. A panic
//! anywhere below is a bug, but no catastrophe: the question it happened in is answered with a failure, and what is
//! on disk stays whole.

use super::publisher::{Past, Publisher, Shown};
use crate::artifact::{RunDir, checkpoint};
use crate::config::{ModelConfig, RunConfig};
use crate::engine::outbox::{Link, Message, RunFlags};
use crate::engine::query_service::{Desk, Holder, same};
use crate::error::{Error, Result};
use crate::machine::{device, facts};
use crate::protocol::*;
use crate::train::Trainer;
use crate::workflow::run;
use crate::workflow::run::Run;
use crate::workflow::runs;
use crate::workflow::snapshot::Banks;
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
/// How often refused events are tried again while nothing else happens.
const RETRY: Duration = Duration::from_millis(20);

/// The model trained last.
struct Live {
    trainer: Trainer,
    dir: RunDir,
    shown: Shown,
    /// Steps its weights have seen: the best checkpoint's when the run came to its end.
    step: u64,
}

/// How a run is begun.
enum Begin {
    New(Box<RunConfig>),
    Again(PathBuf),
}

/// Everything the thread owns.
pub(super) struct Worker<'a> {
    desk: Desk<'a>,
    pool: ThreadPool,
    live: Option<Live>,
    active: Option<(RunId, RunFlags)>,
    waiting: VecDeque<Message>,
}

impl Worker<'_> {
    /// The thread's body: until nobody can ask any more.
    #[expect(clippy::needless_pass_by_value, reason = "the thread owns its link")]
    pub(super) fn run(link: Link, inbox: &Receiver<Message>) {
        let body = || Worker::start(&link, inbox).map(Worker::serve);
        let failed = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => return,
            Ok(Err(err)) => err,
            Err(panic) => Error::internal(words(&*panic)),
        };
        log::error!("the engine has failed: {failed}");
        link.fail_open(&failed.to_string());
        // What was asked and never taken up is answered too, and so is what comes while the window still listens.
        link.say(Event::Failed { req: None, failure: Failure::from(&failed) });
        while let Ok(message) = inbox.try_recv() {
            if let Message::Command { command, .. } = message {
                link.open(command.req());
            }
        }
        link.fail_open("the engine has ended; restart the window");
        while !link.flush() {
            std::thread::sleep(RETRY);
        }
    }

    fn start<'a>(link: &'a Link, inbox: &'a Receiver<Message>) -> Result<Worker<'a>> {
        let pool = facts::pool(0, SPARE_CORES)?;
        let chosen = device::choose(&ModelConfig::default());
        if let Some(warning) = &chosen.warning {
            log::warn!("{warning}");
        }
        let device = device::name(&chosen.device);
        link.say(Event::Ready { device, threads: pool.current_num_threads() });
        let desk = Desk::new(link, inbox);
        Ok(Worker { desk, pool, live: None, active: None, waiting: VecDeque::new() })
    }

    fn serve(mut self) {
        while let Some(message) = self.next() {
            let done = catch_unwind(AssertUnwindSafe(|| self.handle(message)));
            if let Err(panic) = done {
                self.after_panic(&words(&*panic));
            }
        }
    }

    /// The next message; waits for one. Nothing when nobody can send any more.
    fn next(&mut self) -> Option<Message> {
        loop {
            self.waiting.extend(self.desk.inbox.try_iter());
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            let received = if self.desk.link.flush() {
                self.desk.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.desk.inbox.recv_timeout(RETRY)
            };
            match received {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Look => {}
            Message::Command { command: Command::StartRun { req, run, config }, flags, .. } => {
                self.train((req, run), Begin::New(config), flags.unwrap_or_default());
            }
            Message::Command { command: Command::ResumeRun { req, run, dir }, flags, .. } => {
                self.train((req, run), Begin::Again(dir), flags.unwrap_or_default());
            }
            Message::Command { command, .. } if self.is_outdated(&command) => {
                self.desk.link.open(command.req());
                self.desk.link.answer(command.req(), Err(Error::cancelled()));
            }
            Message::Command { number, command, .. } => {
                let Self { desk, pool, live, .. } = self;
                let holder = live.as_ref().map(|live| Holder::of(&live.trainer, &live.dir, live.step));
                pool.install(|| desk.serve(number, &command, holder, None));
                if let Command::DeleteRun { dir, .. } = &command {
                    self.live.take_if(|live| same(live.dir.path(), dir) || !live.dir.path().exists());
                }
            }
        }
        self.look();
    }

    /// Whether the same kind of question about other settings waits already: only the newest form counts.
    fn is_outdated(&self, command: &Command) -> bool {
        let kind = std::mem::discriminant(command);
        let about_form =
            matches!(command, Command::PreviewModel { .. } | Command::PreviewData { .. } | Command::Preflight { .. });
        let newer = |message: &Message| matches!(message, Message::Command { command, .. } if std::mem::discriminant(command) == kind);
        about_form && self.waiting.iter().any(newer)
    }

    /// Snapshots of the model trained last, when somebody looks at them.
    fn look(&mut self) {
        let Self { desk, live: Some(live), .. } = self else { return };
        if let Err(err) = live.shown.look(desk.link, live.trainer.model(), live.step, true) {
            desk.link.log(LogLevel::Warning, format!("the experts cannot be looked at: {err}"));
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the run owns its flags")]
    fn train(&mut self, (req, run): (RequestId, RunId), begin: Begin, flags: RunFlags) {
        let link = self.desk.link;
        link.open(req);
        // The memory is needed now.
        self.live = None;
        self.desk.forget();
        self.active = Some((run, flags.clone()));
        link.say(Event::PhaseChanged { run, phase: RunPhase::Preparing });
        let result = self.train_in_pool(run, begin, &flags);
        flags.over.store(true, Ordering::SeqCst);
        self.active = None;
        match result {
            Ok(live) => {
                self.live = Some(live);
                link.answer(req, Ok(Outcome::RunEnded(run)));
            }
            Err(err) => {
                link.say(Event::PhaseChanged { run, phase: RunPhase::Failed });
                link.answer(req, Err(err));
            }
        }
    }

    fn train_in_pool(&mut self, run: RunId, begin: Begin, flags: &RunFlags) -> Result<Live> {
        let threads = match &begin {
            Begin::New(config) => config.model.threads,
            Begin::Again(dir) => RunDir::open(dir)?.config().model.threads,
        };
        let own = if threads > 0 { Some(facts::pool(threads, SPARE_CORES)?) } else { None };
        let Self { desk, pool, .. } = self;
        own.as_ref().unwrap_or(pool).install(|| train(desk, run, begin, flags))
    }

    fn after_panic(&mut self, what: &str) {
        log::error!("{what}");
        self.live = None;
        self.desk.forget();
        let link = self.desk.link;
        if let Some((run, flags)) = self.active.take() {
            flags.over.store(true, Ordering::SeqCst);
            link.say(Event::PhaseChanged { run, phase: RunPhase::Failed });
        }
        link.fail_open(&format!("{what}; what is on disk is whole, a run can go on from its last checkpoint"));
    }
}

fn train(desk: &mut Desk<'_>, id: RunId, begin: Begin, flags: &RunFlags) -> Result<Live> {
    let mut run = match begin {
        Begin::New(config) => Run::start(run::prepare(&config)?)?,
        Begin::Again(dir) => Run::resume(&dir)?,
    };
    for warning in run.warnings() {
        desk.link.log(LogLevel::Warning, warning.clone());
    }
    let (dir, first) = (run.dir().clone(), run.trainer().steps_done());
    let model = run.trainer().model();
    let start = Banks::of(model)?.at_start(run.trainer().config());
    let counts = runs::route_counts(&dir, model.site_names(), first)?;
    let past = if first > 0 { past(&dir, first)? } else { Past::default() };
    let mut publisher = Publisher::new(desk, flags.clone(), dir.clone(), Shown::new(id, counts, start), past);
    let ended = run.go(&mut publisher, &flags.control);
    let mut shown = publisher.shown;
    let end = ended?;
    // The weights may be others than at the last look: the best ones.
    shown.forget();
    let step = match (&end.report, end.best) {
        (Some(_), Some((best, _))) => best,
        _ => end.step,
    };
    Ok(Live { trainer: run.into_trainer(), dir, shown, step })
}

/// What a run had done before it went on at step `first`.
fn past(dir: &RunDir, first: u64) -> Result<Past> {
    let runs::Story { history, evals, lamps, .. } = runs::Story::read(dir)?;
    let samples = runs::samples(dir)?;
    // The state at the first step is measured once more when the run goes on.
    let before: Vec<u64> = checkpoint::list(dir)?.into_iter().filter(|&step| step < first).collect();
    Ok(Past { history, evals, samples, lamps, distances: runs::distances(dir, &before) })
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a bug in the engine: {}", text.unwrap_or("it gave no reason"))
}
