//! Tells the window about a run in training and serves its questions between two steps.

use crate::analysis::routing_stats::RouteCounts;
use crate::artifact::RunDir;
use crate::engine::outbox::{Link, Message, RunFlags};
use crate::engine::query_service::{Desk, Holder};
use crate::error::{Error, Result};
use crate::model::Network;
use crate::nn::profile::Profile;
use crate::protocol::step_profile::Gather;
use crate::protocol::*;
use crate::records::CheckpointData;
use crate::train::{Observer, Trainer};
use crate::workflow::snapshot;
use crate::workflow::snapshot::Banks;
use crossbeam_channel::TryRecvError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Snapshots come at most so often while training.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most distance samples of a run.
const DISTANCES: u64 = 400;

/// What is known of the shown run besides its model.
pub(super) struct Shown {
    pub(super) run: RunId,
    pub(super) counts: RouteCounts,
    /// The experts before the first step.
    pub(super) start: Banks,
    seen: Option<(Watch, u64)>,
    at: Instant,
}

impl Shown {
    pub(super) fn new(run: RunId, counts: RouteCounts, start: Banks) -> Self {
        Self { run, counts, start, seen: None, at: Instant::now() }
    }

    /// The next look is due at once.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    /// Makes the snapshots that somebody is looking at, when they are new. `hurry`: not only now and then.
    pub(super) fn look(&mut self, link: &Link, model: &dyn Network, step: u64, hurry: bool) -> Result<()> {
        let watch = *link.shared.watch.lock();
        let due = match self.seen {
            None => true,
            Some((seen, _)) if seen != watch => true,
            Some((_, seen)) => seen != step && (hurry || self.at.elapsed() >= LOOK_EVERY),
        };
        if !due || watch == Watch::default() || self.start.is_empty() {
            return Ok(());
        }
        (self.seen, self.at) = (Some((watch, step)), Instant::now());
        if watch.routing {
            link.shared.routing.put((self.run, Arc::new(self.counts.snapshot())));
        }
        if let Some((site, side)) = watch.experts {
            let snapshot = snapshot::experts(&Banks::of(model)?, &self.start, step, (site, Some(side)));
            link.shared.experts.put((self.run, Arc::new(snapshot)));
        }
        link.shared.wake();
        Ok(())
    }
}

/// What a resumed run had done before; empty for a new one.
#[derive(Default)]
pub(super) struct Past {
    /// The curves.
    pub(super) history: Vec<StepBucket>,
    /// The evaluations.
    pub(super) evals: Vec<EvalRecord>,
    /// What a language model wrote.
    pub(super) samples: Vec<SampleRecord>,
    /// The newest check of every trained tensor.
    pub(super) lamps: Vec<Lamp>,
    /// How far the experts were apart at the checkpoints there are.
    pub(super) distances: Vec<DistanceSample>,
}

/// The window's observer of a run.
pub(super) struct Publisher<'a, 'd> {
    desk: &'a mut Desk<'d>,
    flags: RunFlags,
    dir: RunDir,
    pub(super) shown: Shown,
    past: Past,
    phase: RunPhase,
    /// Whether the merged model is measured after the next step.
    evaluates_next: bool,
    measured: Option<u64>,
    /// The step of the last samples that were told.
    sampled: Option<u64>,
    profile: Gather,
}

impl<'a, 'd> Publisher<'a, 'd> {
    pub(super) fn new(desk: &'a mut Desk<'d>, flags: RunFlags, dir: RunDir, shown: Shown, past: Past) -> Self {
        let phase = RunPhase::Preparing;
        let (evaluates_next, measured, profile) = (false, None, Gather::default());
        let sampled = past.samples.last().map(|record| record.step);
        Self { desk, flags, dir, shown, past, phase, evaluates_next, measured, sampled, profile }
    }

    fn say(&self, event: Event) {
        self.desk.link.say(event);
    }

    fn phase(&mut self, phase: RunPhase) {
        if self.phase != phase {
            self.phase = phase;
            self.say(Event::PhaseChanged { run: self.shown.run, phase });
        }
    }

    /// Answers what was asked since the last step.
    fn serve(&mut self, trainer: &Trainer) {
        self.desk.link.flush();
        loop {
            match self.desk.inbox.try_recv() {
                Ok(Message::Look) => {}
                Ok(Message::Command { command, flags: Some(flags), .. }) => {
                    flags.over.store(true, Ordering::SeqCst);
                    let req = command.req();
                    self.desk.link.open(req);
                    self.desk.link.answer(req, Err(Error::config("another run is in training; stop it first")));
                }
                Ok(Message::Command { number, command, flags: None }) => {
                    let live = Holder::of(trainer, &self.dir, trainer.steps_done());
                    self.desk.serve(number, &command, Some(live), Some(&self.flags.control));
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.flags.control.stop("the window was closed"),
            }
        }
    }

    fn look(&mut self, trainer: &Trainer, hurry: bool) {
        let looked = self.shown.look(self.desk.link, trainer.model(), trainer.steps_done(), hurry);
        if let Err(err) = looked.and_then(|()| self.measure(trainer)) {
            self.desk.link.log(LogLevel::Warning, format!("the experts cannot be looked at: {err}"));
        }
    }

    /// Every few dozen steps: how far the experts are apart.
    fn measure(&mut self, trainer: &Trainer) -> Result<()> {
        let (step, total) = (trainer.steps_done(), trainer.total_steps());
        let every = (total / DISTANCES).max(25);
        let due = self.measured.is_none() || step.is_multiple_of(every) || step == total;
        if !due || self.measured == Some(step) || self.shown.start.is_empty() {
            return Ok(());
        }
        self.measured = Some(step);
        let sample = snapshot::distances(&Banks::of(trainer.model())?, &self.shown.start, step);
        self.say(Event::Distances { run: self.shown.run, sample });
        Ok(())
    }
}

impl Observer for Publisher<'_, '_> {
    fn on_start(&mut self, start: &StartRecord) {
        let Past { history, evals, samples, lamps, distances } = std::mem::take(&mut self.past);
        let run = self.shown.run;
        self.say(Event::RunStarted {
            run,
            dir: self.dir.path().to_owned(),
            config: Box::new(self.dir.config().clone()),
            start: Box::new(start.clone()),
            history,
            evals,
        });
        if !lamps.is_empty() {
            self.say(Event::Lamps { run, lamps });
        }
        samples.into_iter().for_each(|record| self.say(Event::Sampled { run, record }));
        distances.into_iter().for_each(|sample| self.say(Event::Distances { run, sample }));
        self.phase(RunPhase::Training);
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.desk.link.shared.steps.push(self.shown.run, record.into());
        for route in &record.routes {
            self.shown.counts.add(record.step, route);
        }
        self.desk.link.flush();
        self.desk.link.shared.wake();
        self.phase(if self.evaluates_next { RunPhase::Evaluating } else { RunPhase::Training });
    }

    fn profiles(&self) -> bool {
        true
    }

    fn on_profile(&mut self, step: u64, profile: &Profile) {
        if let Some(profile) = self.profile.add(step, profile) {
            self.desk.link.shared.profile.put((self.shown.run, profile));
            self.desk.link.shared.wake();
        }
    }

    fn on_eval(&mut self, record: &EvalRecord) {
        self.say(Event::Evaluated { run: self.shown.run, record: record.clone() });
        self.phase(RunPhase::Training);
    }

    fn on_writing(&mut self, trainer: &Trainer, paused: bool) {
        self.desk.link.flush();
        if paused {
            self.phase(RunPhase::Paused);
            self.serve(trainer);
            self.look(trainer, true);
        } else {
            self.phase(if self.flags.control.stopped() { RunPhase::Stopping } else { RunPhase::Evaluating });
        }
    }

    fn on_samples(&mut self, record: &SampleRecord) {
        // A run that goes on writes those of its first step again; they are among what was told at its start.
        if self.sampled.is_none_or(|step| step < record.step) {
            self.sampled = Some(record.step);
            self.say(Event::Sampled { run: self.shown.run, record: record.clone() });
        }
        self.phase(RunPhase::Training);
    }

    fn on_lamps(&mut self, lamps: &[Lamp]) {
        self.say(Event::Lamps { run: self.shown.run, lamps: lamps.to_vec() });
    }

    fn on_checkpoint(&mut self, _data: &CheckpointData, step: u64, best: bool) -> bool {
        if self.flags.control.stopped() {
            self.phase(RunPhase::Stopping);
        }
        self.say(Event::CheckpointWritten { run: self.shown.run, step, best });
        true
    }

    fn on_boundary(&mut self, trainer: &Trainer, paused: bool) {
        let step = trainer.steps_done();
        self.evaluates_next = trainer.evaluation_due(step + 1);
        if paused {
            self.phase(RunPhase::Paused);
        }
        self.serve(trainer);
        self.look(trainer, paused);
        if self.flags.control.stopped() {
            self.phase(RunPhase::Stopping);
        } else if step >= trainer.total_steps() {
            // What is left is the comparison at the end.
            self.phase(RunPhase::Evaluating);
        } else if !paused && self.phase == RunPhase::Paused {
            self.phase(RunPhase::Training);
        }
    }

    fn on_problem(&mut self, text: &str) {
        self.desk.link.log(LogLevel::Warning, text);
    }

    fn on_end(&mut self, record: &EndRecord) {
        self.say(Event::RunEnded { run: self.shown.run, end: Box::new(record.clone()) });
        let failed = matches!(record.reason, EndReason::Diverged { .. });
        self.phase(if failed { RunPhase::Failed } else { RunPhase::Finished });
    }
}
