//! An engine without a model, for the window's tests and its demonstration.
//!
//! [`FakeEngine::manual`] records the commands and sends only the messages of the test, so that a test decides what
//! happens between two frames. [`FakeEngine::demo`] answers every command with invented plausible
//! numbers and "trains" a few steps with every drain. Both are deterministic: no clock, no threads, no random numbers.

mod averages;
mod compared;
pub mod data;
mod experts;
pub mod model_store;
mod record;
pub mod routes;
pub mod studies;
pub mod texts;
pub mod trying;

use adamix::config::{LawChange, MixtureConfig, RunConfig, Task};
use adamix::protocol::*;
use model_store as stored;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Received commands and waiting messages.
#[derive(Default)]
struct State {
    commands: Vec<(RequestId, Command)>,
    controls: Vec<ControlRequest>,
    watch: Watch,
    queue: VecDeque<Incoming>,
    busy: Option<Busy>,
    demo: Option<Demo>,
    /// The queue of runs.
    waiting: Vec<QueueEntry>,
}

/// State of a demonstration.
#[derive(Default)]
struct Demo {
    steps_per_drain: u64,
    run: Option<DemoRun>,
    /// Downloads in progress with their share, 0 to 1.
    downloads: Vec<(RequestId, String, f64)>,
}

struct DemoRun {
    req: RequestId,
    run: RunId,
    config: RunConfig,
    step: u64,
    total: u64,
    paused: bool,
}

/// An engine without a model.
pub struct FakeEngine {
    state: Arc<Mutex<State>>,
    waker: Option<Waker>,
}

/// The test's end of a [`FakeEngine`]; stays valid when the window owns the engine.
#[derive(Clone)]
pub struct FakeHandle {
    state: Arc<Mutex<State>>,
}

impl FakeEngine {
    /// An engine that sends only the messages of its handle.
    pub fn manual() -> (Self, FakeHandle) {
        let state = Arc::new(Mutex::new(State::default()));
        (Self { state: state.clone(), waker: None }, FakeHandle { state })
    }

    /// An engine that answers every command, and makes `steps_per_drain` steps with every drain during a run.
    pub fn demo(steps_per_drain: u64, waker: Option<Waker>) -> (Self, FakeHandle) {
        let (mut engine, handle) = Self::manual();
        engine.waker = waker;
        let mut state = handle.state.lock();
        state.demo = Some(Demo { steps_per_drain, ..Demo::default() });
        state.queue.push_back(Incoming::Event(Event::Ready { device: "CPU (demonstration)".to_owned(), threads: 1 }));
        drop(state);
        (engine, handle)
    }
}

impl FakeHandle {
    /// Adds a message to what the next drain hands over.
    pub fn push(&self, message: Incoming) {
        self.state.lock().queue.push_back(message);
    }
    /// Adds an event.
    pub fn event(&self, event: Event) {
        self.push(Incoming::Event(event));
    }
    /// All commands taken so far.
    pub fn commands(&self) -> Vec<Command> {
        self.requests().into_iter().map(|(_, command)| command).collect()
    }
    /// The same with their numbers.
    pub fn requests(&self) -> Vec<(RequestId, Command)> {
        self.state.lock().commands.clone()
    }
    /// Answers everything that was asked about the form, as a demonstration would; answers that came already are dropped
    /// by the window.
    pub fn answer_form(&self) {
        for (req, command) in self.requests() {
            if let Some(outcome) = form_outcome(&command) {
                self.event(Event::Done(req, outcome));
            }
        }
    }
    /// All control requests so far.
    pub fn controls(&self) -> Vec<ControlRequest> {
        self.state.lock().controls.clone()
    }
    /// What is being watched.
    pub fn watch(&self) -> Watch {
        self.state.lock().watch
    }
    /// From now on refuses commands with this answer, or takes them again.
    pub fn set_busy(&self, busy: Option<Busy>) {
        self.state.lock().busy = busy;
    }
    /// Messages not yet handed over.
    pub fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }
}

/// The answer to a question about the form.
fn form_outcome(command: &Command) -> Option<Outcome> {
    Some(match command {
        Command::PreviewModel(model) => Outcome::Model(Box::new(data::model_info(&model.path))),
        Command::PreviewData(config) if config.data.task == Task::Text => {
            Outcome::Texts(Box::new(texts::text_preview(config)))
        }
        Command::PreviewData(config) => Outcome::Data(Box::new(data::data_preview(config))),
        Command::ReadColumns { path, .. } => Outcome::Columns(Box::new(data::columns(path))),
        Command::Preflight(config) => Outcome::Preflight(Box::new(data::preflight(config))),
        _ => return None,
    })
}

impl Engine for FakeEngine {
    fn try_send(&self, req: RequestId, command: Command) -> Result<(), Busy> {
        let mut state = self.state.lock();
        if let Some(busy) = state.busy {
            return Err(busy);
        }
        state.commands.push((req, command.clone()));
        state.answer(req, command);
        drop(state);
        self.wake();
        Ok(())
    }

    fn control(&self, request: ControlRequest) {
        let mut state = self.state.lock();
        state.controls.push(request.clone());
        state.control(&request);
        drop(state);
        self.wake();
    }

    fn watch(&self, watch: Watch) {
        self.state.lock().watch = watch;
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Incoming) -> ControlFlow<()>) -> bool {
        let mut state = self.state.lock();
        state.train();
        state.fetch();
        let at_work = |demo: &Demo| !demo.downloads.is_empty() || demo.run.as_ref().is_some_and(|run| !run.paused);
        let running = state.demo.as_ref().is_some_and(at_work);
        drop(state);
        loop {
            let Some(message) = self.state.lock().queue.pop_front() else { break };
            if sink(message).is_break() {
                break;
            }
        }
        if running {
            self.wake();
        }
        !self.state.lock().queue.is_empty()
    }
}

impl FakeEngine {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker();
        }
    }
}

impl State {
    fn send(&mut self, event: Event) {
        self.queue.push_back(Incoming::Event(event));
    }

    /// Answers a command of a demonstration.
    fn answer(&mut self, req: RequestId, command: Command) {
        if self.demo.is_none() {
            return;
        }
        if let Some(outcome) = form_outcome(&command) {
            return self.send(Event::Done(req, outcome));
        }
        let outcome = match command {
            Command::StartRun { run, config } => return self.start(req, run, *config, 0),
            Command::StartQueued { run } => {
                let config = if self.waiting.is_empty() { data::config() } else { self.waiting.remove(0).config };
                return self.start(req, run, config, 0);
            }
            Command::Queue(ask) => {
                let id = self.waiting.len() as u64 + 1;
                if let QueueAsk::Add(config) = ask {
                    let (added, failed, starting) = (1_800_000_000, None, false);
                    self.waiting.push(QueueEntry { id, added, config: *config, failed, starting });
                }
                Outcome::Queue(QueueState { entries: self.waiting.clone(), notes: Vec::new() })
            }
            Command::SaveCapsule { dir, file } => {
                Outcome::CapsuleSaved(file.unwrap_or_else(|| dir.with_extension("capsule")), Box::default())
            }
            Command::ResumeRun { run, .. } => return self.start(req, run, data::config(), 120),
            Command::BranchRun { run, config, .. } => return self.start(req, run, *config, 120),
            Command::PreviewModel(_)
            | Command::PreviewData(_)
            | Command::ReadColumns { .. }
            | Command::Preflight(_) => return,
            Command::OpenRun(dir) => Outcome::Opened(Box::new(data::run_detail(&dir))),
            Command::Routes(ask) => Outcome::Routes(Box::new(self.routes(ask))),
            Command::ListRuns { .. } => Outcome::Runs(data::runs()),
            Command::NameMerge { dir, name, merge } => {
                let one = |merge| NamedMerge { name: name.clone(), merge };
                Outcome::NamedMerges(dir, merge.into_iter().map(one).collect())
            }
            Command::LabelRun { dir, label } => Outcome::Labelled(dir, label),
            Command::Report { to, .. } => Outcome::Reported(to),
            Command::ReadRecord(plan) => Outcome::Record(record::table(&plan)),
            Command::DeleteRun(dir) => Outcome::Deleted(dir),
            Command::Query { query, subject } => {
                self.say_weights(req, &subject);
                self.outcome(query)
            }
            Command::Prompts(_) => Outcome::Prompts(Box::new(texts::prompts())),
            Command::Play { plan, writer } => {
                if let Writer::Run(subject) = writer {
                    self.say_weights(req, &subject);
                }
                Outcome::Played(Box::new(texts::answers(*plan)))
            }
            Command::Store(StoreAsk::Download(id)) => {
                if let Some(demo) = &mut self.demo {
                    demo.downloads.push((req, id, 0.0));
                }
                return;
            }
            Command::Store(StoreAsk::List) => Outcome::Store(Box::new(StoreAnswer::Cached(stored::cached()))),
            Command::Store(StoreAsk::Remove(id)) => {
                Outcome::Store(Box::new(StoreAnswer::Removed { id, bytes: stored::TOTAL }))
            }
        };
        self.send(Event::Done(req, outcome));
    }

    /// The recorded draws: those of the run in training up to its newest step, else those of the run on disk.
    fn routes(&self, ask: RoutesAsk) -> RoutesAnswer {
        match ask {
            RoutesAsk::Fit { timeline, after } => routes::fit(&timeline, after),
            RoutesAsk::Read(plan) => {
                let active = self.demo.as_ref().and_then(|demo| demo.run.as_ref());
                let (mixture, steps) = match active {
                    Some(run) => (run.config.mixture.clone(), run.step),
                    None => (self.mixture(), data::run_detail(&plan.dir).summary.step),
                };
                RoutesAnswer::Part(routes::part(&plan.dir, &mixture, 1..=steps))
            }
        }
    }

    /// Tells which weights a query is computed from.
    fn say_weights(&mut self, req: RequestId, subject: &Subject) {
        let training = self.demo.as_ref().and_then(|demo| demo.run.as_ref()).map(|run| run.step);
        let weights = match (subject, training) {
            (Subject::Saved { dir, checkpoint }, _) => {
                let checkpoints = data::run_detail(dir).checkpoints;
                checkpoints.resolve(*checkpoint).unwrap_or(WeightsOf::saved(0, *checkpoint))
            }
            (Subject::Live, Some(step)) => WeightsOf::training(step),
            (Subject::Live, None) => WeightsOf::saved(240, Checkpoint::Best),
        };
        self.send(Event::Weights(req, weights));
    }

    /// The mixture of the run that was started last.
    fn mixture(&self) -> MixtureConfig {
        let started = |(_, command): &(RequestId, Command)| match command {
            Command::StartRun { config, .. } => Some(config.mixture.clone()),
            _ => None,
        };
        self.commands.iter().rev().find_map(started).unwrap_or(data::config().mixture)
    }

    fn outcome(&self, query: ModelQuery) -> Outcome {
        match query {
            ModelQuery::Compare { random_routes } => Outcome::Compared(Box::new(data::eval_report(random_routes))),
            ModelQuery::Merge(plan) => Outcome::Merged(Box::new(data::merge_report(plan))),
            ModelQuery::Export(plan) => Outcome::Exported(data::exports(&plan)),
            ModelQuery::Write { inputs } => Outcome::Written(Box::new(texts::written(inputs))),
            ModelQuery::Study(study) => Outcome::Studied(Box::new(studies::study(&study, self.mixture().kind))),
            ModelQuery::Try(plan) => Outcome::Tried(Box::new(trying::answer(plan))),
            ModelQuery::TryWords(input) => Outcome::TriedWords(Box::new(trying::words(input))),
            ModelQuery::Reweigh(plan) => Outcome::Reweighed(Box::new(studies::reweighed(&plan))),
            ModelQuery::Inspect { site, side } => {
                Outcome::Experts(Box::new(data::experts(&self.mixture(), 240, (site, side))))
            }
        }
    }

    fn start(&mut self, req: RequestId, run: RunId, config: RunConfig, first_step: u64) {
        let start = data::start_record(&config, first_step);
        let total = start.total_steps;
        let history: Vec<StepBucket> = (1..=first_step).map(|step| StepBucket::of(data::step(step, total))).collect();
        let evals = (1..=first_step / data::EVAL_EVERY).map(|i| data::eval(i * data::EVAL_EVERY, total)).collect();
        self.send(Event::PhaseChanged(run, RunPhase::Preparing));
        self.send(Event::RunStarted {
            run,
            dir: PathBuf::from("runs/lab-demo"),
            config: Box::new(config.clone()),
            start: Box::new(start),
            history,
            evals,
        });
        self.send(Event::PhaseChanged(run, RunPhase::Training));
        let sample = data::distances(first_step);
        self.send(Event::Distances(run, sample));
        if config.data.task == Task::Text && config.eval.samples > 0 {
            self.send(Event::Sampled(run, texts::samples(first_step, total)));
        }
        if let Some(demo) = &mut self.demo {
            demo.run = Some(DemoRun { req, run, config, step: first_step, total, paused: false });
        }
    }

    fn control(&mut self, request: &ControlRequest) {
        if let (ControlRequest::CancelDownload(req), Some(demo)) = (request, &mut self.demo) {
            demo.downloads.retain(|(other, ..)| other != req);
            let failure = Failure { kind: ErrorKind::Cancelled, message: "cancelled".to_owned() };
            return self.send(Event::Failed(Some(*req), failure));
        }
        let Some(active) = self.demo.as_mut().and_then(|demo| demo.run.as_mut()) else { return };
        let (run, step) = (active.run, active.step);
        match request {
            ControlRequest::Pause => {
                active.paused = true;
                self.send(Event::PhaseChanged(run, RunPhase::Paused));
            }
            ControlRequest::Resume => {
                active.paused = false;
                self.send(Event::PhaseChanged(run, RunPhase::Training));
            }
            ControlRequest::Step => self.advance(1),
            ControlRequest::Law(law) => {
                self.send(Event::LawChanged(run, LawChange { step: step + 1, law: *law }));
            }
            ControlRequest::Stop(reason) => self.end(EndReason::Stopped(reason.clone()), step),
            ControlRequest::Pace(_) | ControlRequest::CancelJob | ControlRequest::CancelDownload(_) => {}
        }
    }

    /// The training of one drain.
    fn train(&mut self) {
        if let Some(Demo { steps_per_drain, run: Some(DemoRun { paused: false, .. }), .. }) = self.demo {
            self.advance(steps_per_drain);
        }
    }

    /// The download of one drain.
    fn fetch(&mut self) {
        let Some(demo) = &mut self.demo else { return };
        let Some((req, id, share)) = demo.downloads.first_mut() else { return };
        *share += 0.01;
        let (req, id, share) = (*req, id.clone(), *share);
        self.send(Event::Downloading(req, stored::progress(share)));
        if share >= 1.0 {
            self.demo.iter_mut().for_each(|demo| drop(demo.downloads.remove(0)));
            let answer = StoreAnswer::Downloaded(stored::downloaded(&id));
            self.send(Event::Done(req, Outcome::Store(Box::new(answer))));
        }
    }

    fn advance(&mut self, steps: u64) {
        let Some(active) = self.demo.as_mut().and_then(|demo| demo.run.as_mut()) else { return };
        let (run, first, total) = (active.run, active.step + 1, active.total);
        let last = (active.step + steps).min(total);
        active.step = last;
        let mixture = active.config.mixture.clone();
        let writes = active.config.data.task == Task::Text && active.config.eval.samples > 0;
        let buckets = (first..=last).map(|step| StepBucket::of(data::step(step, total))).collect();
        self.queue.push_back(Incoming::Steps(run, buckets));
        if last >= first {
            let profile = data::profile(last, (last + 1 - first) as u32);
            self.queue.push_back(Incoming::Profile(run, profile));
        }
        for step in first..=last {
            if [1, 3, 10].contains(&step) {
                self.send(Event::GradientHealth(run, data::gradient_health(step)));
            }
            if step % data::EVAL_EVERY == 0 || step == total {
                self.send(Event::PhaseChanged(run, RunPhase::Evaluating));
                let progress = EvalProgress { step, done: 320, rows: 640, seconds_left: Some(2.0), comparison: false };
                self.send(Event::Evaluating(run, progress));
                self.send(Event::Evaluated(run, data::eval(step, total)));
                if writes {
                    self.send(Event::Sampled(run, texts::samples(step, total)));
                }
                self.send(Event::CheckpointWritten { run, step, best: true });
                let steps = (1..=step / data::EVAL_EVERY).map(|i| i * data::EVAL_EVERY).collect();
                self.send(Event::Checkpoints(run, Checkpoints { steps, best: Some(step) }));
                self.send(Event::Distances(run, data::distances(step)));
                self.send(Event::PhaseChanged(run, RunPhase::Training));
            }
        }
        if self.watch.routing {
            let snapshot = Arc::new(data::routing(&mixture, last));
            self.queue.push_back(Incoming::Routing(run, snapshot));
        }
        if let Some((site, side)) = self.watch.experts {
            let snapshot = Arc::new(data::experts(&mixture, last, (site, side)));
            self.queue.push_back(Incoming::Experts(run, snapshot));
        }
        if last >= total {
            self.end(EndReason::Finished, last);
        }
    }

    fn end(&mut self, reason: EndReason, step: u64) {
        let Some(active) = self.demo.as_mut().and_then(|demo| demo.run.take()) else { return };
        let run = active.run;
        let end = Box::new(data::end_record(reason, step));
        self.send(Event::PhaseChanged(run, RunPhase::Stopping));
        self.send(Event::RunEnded(run, end));
        self.send(Event::PhaseChanged(run, RunPhase::Finished));
        self.send(Event::Done(active.req, Outcome::RunEnded(run)));
    }
}
