//! Reports a run in training to the window, and answers queries between two steps.

use crate::analysis::routing_stats::RouteCounts;
use crate::artifact::{RunDir, checkpoint};
use crate::config::LawChange;
use crate::engine::outbox::{EngineMessage, Outbox, RunFlags};
use crate::engine::profile_collector::ProfileCollector;
use crate::engine::query_service::{LoadedModel, QueryService};
use crate::error::{Error, Result};
use crate::model::Network;
use crate::nn::profile::Profile;
use crate::protocol::*;
use crate::records::CheckpointData;
use crate::train::observer::Evaluating;
use crate::train::{Observer, Trainer};
use crate::workflow::runs::RecordedMetrics;
use crate::workflow::snapshot::{self, Banks};
use crossbeam_channel::TryRecvError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Shortest time between two snapshots during training.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(500);
/// Shortest time between two reports of an evaluation's progress.
const EVALUATION_INTERVAL: Duration = Duration::from_millis(250);
/// Largest number of distance samples of a run.
const DISTANCES: u64 = 400;

/// Makes the snapshots of a run that the window watches.
pub(super) struct Snapshots {
    pub(super) run: RunId,
    pub(super) counts: RouteCounts,
    /// The experts before the first step.
    pub(super) start: Banks,
    /// What was watched at the last snapshot, and its step.
    last: Option<(Watch, u64)>,
    at: Instant,
}

impl Snapshots {
    pub(super) fn new(run: RunId, counts: RouteCounts, start: Banks) -> Self {
        Self { run, counts, start, last: None, at: Instant::now() }
    }

    /// The next call of [`Snapshots::publish`] makes new snapshots.
    pub(super) fn invalidate(&mut self) {
        self.last = None;
    }

    /// Makes the watched snapshots where something has changed; at most one per [`SNAPSHOT_INTERVAL`] unless `immediate`.
    pub(super) fn publish(&mut self, outbox: &Outbox, model: &dyn Network, step: u64, immediate: bool) -> Result<()> {
        let watch = *outbox.shared.watch.lock();
        let due = match self.last {
            None => true,
            Some((watched, _)) if watched != watch => true,
            Some((_, last)) => last != step && (immediate || self.at.elapsed() >= SNAPSHOT_INTERVAL),
        };
        if !due || watch == Watch::default() || self.start.is_empty() {
            return Ok(());
        }
        (self.last, self.at) = (Some((watch, step)), Instant::now());
        if watch.routing {
            *outbox.shared.routing.lock() = Some((self.run, Arc::new(self.counts.snapshot())));
        }
        if let Some((site, side)) = watch.experts {
            let snapshot = snapshot::experts(&Banks::of(model)?, &self.start, step, (site, Some(side)));
            *outbox.shared.experts.lock() = Some((self.run, Arc::new(snapshot)));
        }
        outbox.shared.wake();
        Ok(())
    }
}

/// What a resumed run did before it was interrupted; empty for a new run.
#[derive(Default)]
pub(super) struct RunHistory {
    pub(super) metrics: RecordedMetrics,
    /// The steps after which it was resumed.
    pub(super) resumed: Vec<u64>,
    /// Generated texts.
    pub(super) samples: Vec<SampleRecord>,
    /// Distances between the experts at the existing checkpoints.
    pub(super) distances: Vec<DistanceSample>,
}

/// Observer that reports a run to the window.
pub(super) struct Publisher<'a, 'd> {
    queries: &'a mut QueryService<'d>,
    flags: RunFlags,
    dir: RunDir,
    pub(super) snapshots: Snapshots,
    history_before: RunHistory,
    phase: RunPhase,
    /// Whether an evaluation follows the next step.
    evaluates_next: bool,
    measured: Option<u64>,
    /// The step of the last samples sent.
    sampled: Option<u64>,
    profile: ProfileCollector,
    /// Those that the window was told of.
    checkpoints: Checkpoints,
    evaluation: EvalClock,
}

/// Times an evaluation, and thins out its reports.
#[derive(Default)]
struct EvalClock {
    /// Step and kind of the evaluation, when it was first heard of, and the share that was done then.
    current: Option<(u64, bool, Instant, f64)>,
    reported: Option<Instant>,
}

impl EvalClock {
    /// What the window is told, at most once per [`EVALUATION_INTERVAL`].
    fn report(&mut self, step: u64, progress: Evaluating) -> Option<EvalProgress> {
        let share = progress.share.clamp(0.0, 1.0);
        let (started, before) = match self.current {
            Some((at, comparison, started, before)) if (at, comparison) == (step, progress.comparison) => {
                (started, before)
            }
            _ => {
                self.reported = None;
                let now = Instant::now();
                self.current = Some((step, progress.comparison, now, share));
                (now, share)
            }
        };
        if self.reported.is_some_and(|at| at.elapsed() < EVALUATION_INTERVAL) {
            return None;
        }
        self.reported = Some(Instant::now());
        // The clock starts with the first batch, so it says nothing before the second.
        let seconds_left = (share > before).then(|| started.elapsed().as_secs_f64() / (share - before) * (1.0 - share));
        let done = (share * progress.rows as f64).round() as u64;
        Some(EvalProgress { step, comparison: progress.comparison, done, rows: progress.rows as u64, seconds_left })
    }
}

impl<'a, 'd> Publisher<'a, 'd> {
    pub(super) fn new(
        queries: &'a mut QueryService<'d>,
        flags: RunFlags,
        dir: RunDir,
        snapshots: Snapshots,
        history_before: RunHistory,
    ) -> Self {
        let phase = RunPhase::Preparing;
        let (evaluates_next, measured, profile) = (false, None, ProfileCollector::default());
        let sampled = history_before.samples.last().map(|record| record.step);
        let evaluation = EvalClock::default();
        Self {
            queries,
            flags,
            dir,
            snapshots,
            history_before,
            phase,
            evaluates_next,
            measured,
            sampled,
            profile,
            checkpoints: Checkpoints::default(),
            evaluation,
        }
    }

    fn send(&self, event: Event) {
        self.queries.outbox.send(event);
    }

    fn phase(&mut self, phase: RunPhase) {
        if self.phase != phase {
            self.phase = phase;
            self.send(Event::PhaseChanged(self.snapshots.run, phase));
        }
    }

    /// Answers the queries that have arrived since the last step.
    fn serve(&mut self, trainer: &Trainer) {
        self.queries.outbox.flush();
        loop {
            match self.queries.inbox.try_recv() {
                Ok(EngineMessage::WatchChanged) => {}
                Ok(EngineMessage::Command { req, flags: Some(flags), .. }) => {
                    flags.ended.store(true, Ordering::SeqCst);
                    self.queries.outbox.accept(req);
                    self.queries.outbox.answer(req, Err(Error::config("another run is in training; stop it first")));
                }
                Ok(EngineMessage::Command { number, req, command, flags: None }) => {
                    let held = trainer.weights_step();
                    let weights = match held == trainer.steps_done() {
                        true => WeightsOf::training(held),
                        false => WeightsOf::saved(held, Checkpoint::Best),
                    };
                    let live = LoadedModel::of(trainer, &self.dir, weights);
                    self.queries.serve(number, req, &command, Some(live), Some(&self.flags.control));
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.flags.control.stop("the window was closed"),
            }
        }
    }

    /// Tells the window which checkpoints there are. Where they cannot be listed, it keeps those it knows.
    fn send_checkpoints(&mut self, found: Result<Checkpoints>) {
        match found {
            Ok(found) => {
                self.checkpoints = found.clone();
                self.send(Event::Checkpoints(self.snapshots.run, found));
            }
            Err(err) => self.queries.outbox.log(LogLevel::Warning, format!("the checkpoints cannot be listed: {err}")),
        }
    }

    fn publish_experts(&mut self, trainer: &Trainer, immediate: bool) {
        let published = self.snapshots.publish(self.queries.outbox, trainer.model(), trainer.weights_step(), immediate);
        if let Err(err) = published.and_then(|()| self.measure(trainer)) {
            self.queries.outbox.log(LogLevel::Warning, format!("the experts cannot be shown: {err}"));
        }
    }

    /// Distances between the experts, at most [`DISTANCES`] times in a run and not more often than every 25 steps.
    fn measure(&mut self, trainer: &Trainer) -> Result<()> {
        let (step, total) = (trainer.steps_done(), trainer.total_steps());
        let every = (total / DISTANCES).max(25);
        let due = self.measured.is_none() || step.is_multiple_of(every) || step == total;
        if !due || self.measured == Some(step) || self.snapshots.start.is_empty() {
            return Ok(());
        }
        self.measured = Some(step);
        let sample = snapshot::distances(&Banks::of(trainer.model())?, &self.snapshots.start, step);
        self.send(Event::Distances(self.snapshots.run, sample));
        Ok(())
    }
}

impl Observer for Publisher<'_, '_> {
    fn on_start(&mut self, start: &StartRecord) {
        let RunHistory { metrics, resumed, samples, distances } = std::mem::take(&mut self.history_before);
        let RecordedMetrics { mut curve, evals, gradient_health, laws, .. } = metrics;
        let run = self.snapshots.run;
        self.send(Event::RunStarted {
            run,
            dir: self.dir.path().to_owned(),
            config: Box::new(self.dir.config().clone()),
            start: Box::new(start.clone()),
            history: curve.take(),
            evals,
        });
        if start.first_step > 0 {
            self.send_checkpoints(Checkpoints::of(&self.dir));
        }
        // The newest resume is the start itself.
        let before: Vec<u64> = resumed.into_iter().filter(|step| *step < start.first_step).collect();
        if !before.is_empty() {
            self.send(Event::ResumedBefore(run, before));
        }
        // Those after the resume are told again.
        for change in laws.into_iter().filter(|change| change.step <= start.first_step) {
            self.send(Event::LawChanged(run, change));
        }
        if !gradient_health.is_empty() {
            self.send(Event::GradientHealth(run, gradient_health));
        }
        samples.into_iter().for_each(|record| self.send(Event::Sampled(run, record)));
        distances.into_iter().for_each(|sample| self.send(Event::Distances(run, sample)));
        self.phase(RunPhase::Training);
    }

    fn on_law(&mut self, change: &LawChange) {
        self.snapshots.counts.change_law(change);
        self.send(Event::LawChanged(self.snapshots.run, *change));
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.queries.outbox.shared.steps.push(self.snapshots.run, record.into());
        for route in &record.routes {
            self.snapshots.counts.add(record.step, route);
        }
        self.queries.outbox.flush();
        self.queries.outbox.shared.wake();
        self.phase(if self.evaluates_next { RunPhase::Evaluating } else { RunPhase::Training });
    }

    fn profiles(&self) -> bool {
        true
    }

    fn on_profile(&mut self, step: u64, profile: &Profile) {
        if let Some(profile) = self.profile.add(step, profile) {
            *self.queries.outbox.shared.profile.lock() = Some((self.snapshots.run, profile));
            self.queries.outbox.shared.wake();
        }
    }

    fn on_evaluating(&mut self, trainer: &Trainer, progress: Evaluating) {
        if let Some(report) = self.evaluation.report(trainer.steps_done(), progress) {
            self.phase(if self.flags.control.stopped() { RunPhase::Stopping } else { RunPhase::Evaluating });
            self.send(Event::Evaluating(self.snapshots.run, report));
        }
        // Routes and experts can be looked at meanwhile: an evaluation changes neither. The comparison at the end is of
        // the best weights.
        let best = trainer.best_step().filter(|_| progress.comparison);
        let step = best.unwrap_or(trainer.steps_done());
        if let Err(err) = self.snapshots.publish(self.queries.outbox, trainer.model(), step, false) {
            self.queries.outbox.log(LogLevel::Warning, format!("the experts cannot be shown: {err}"));
        }
    }

    fn on_eval(&mut self, record: &EvalRecord) {
        self.send(Event::Evaluated(self.snapshots.run, record.clone()));
        self.phase(RunPhase::Training);
    }

    fn on_writing(&mut self, trainer: &Trainer, paused: bool) {
        self.queries.outbox.flush();
        if paused {
            self.phase(RunPhase::Paused);
            self.serve(trainer);
            self.publish_experts(trainer, true);
        } else {
            self.phase(if self.flags.control.stopped() { RunPhase::Stopping } else { RunPhase::Evaluating });
        }
    }

    fn on_samples(&mut self, record: &SampleRecord) {
        // A resumed run generates the samples of its first step again; they were sent at its start.
        if self.sampled.is_none_or(|step| step < record.step) {
            self.sampled = Some(record.step);
            self.send(Event::Sampled(self.snapshots.run, record.clone()));
        }
        self.phase(RunPhase::Training);
    }

    fn on_gradient_health(&mut self, gradient_health: &[TensorHealth]) {
        self.send(Event::GradientHealth(self.snapshots.run, gradient_health.to_vec()));
    }

    fn on_checkpoint(&mut self, _data: &CheckpointData, step: u64, best: bool) -> bool {
        if self.flags.control.stopped() {
            self.phase(RunPhase::Stopping);
        }
        self.send(Event::CheckpointWritten { run: self.snapshots.run, step, best });
        let best = if best { Some(step) } else { self.checkpoints.best };
        let found =
            checkpoint::list(&self.dir).map(|steps| Checkpoints { best: best.filter(|s| steps.contains(s)), steps });
        self.send_checkpoints(found);
        true
    }

    fn on_boundary(&mut self, trainer: &Trainer, paused: bool) {
        let step = trainer.steps_done();
        self.evaluates_next = trainer.evaluation_due(step + 1);
        if paused {
            self.phase(RunPhase::Paused);
        }
        self.serve(trainer);
        self.publish_experts(trainer, paused);
        if self.flags.control.stopped() {
            self.phase(RunPhase::Stopping);
        } else if step >= trainer.total_steps() {
            // The comparison at the end follows.
            self.phase(RunPhase::Evaluating);
        } else if !paused && self.phase == RunPhase::Paused {
            self.phase(RunPhase::Training);
        }
    }

    fn on_problem(&mut self, text: &str) {
        self.queries.outbox.log(LogLevel::Warning, text);
    }

    fn on_end(&mut self, record: &EndRecord) {
        self.send(Event::RunEnded(self.snapshots.run, Box::new(record.clone())));
        let failed = matches!(record.reason, EndReason::Diverged { .. });
        self.phase(if failed { RunPhase::Failed } else { RunPhase::Finished });
    }
}
