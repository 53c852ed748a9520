//! How messages of the engine change the session. Late messages are dropped here.

use super::{EngineState, QUERIES, QueryClass, Session};
use crate::app::fields::in_fields;
use crate::app::query::{AnyQuery as _, JobProgress};
use crate::app::run_view::RunView;
use crate::config::LawChange;
use crate::format;
use crate::protocol::*;
use std::path::{Path, PathBuf};

impl Session {
    /// Applies one message of the engine. Messages of other runs and answers to superseded queries are dropped.
    pub fn apply(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Event(event) => self.apply_event(event),
            Incoming::Steps(run, buckets) => {
                self.update(run, |view| buckets.iter().for_each(|bucket| view.history.push(bucket)));
            }
            Incoming::Experts(run, snapshot) => self.update(run, |view| view.experts = Some(snapshot)),
            Incoming::Routing(run, snapshot) => self.update(run, |view| view.routing = Some(snapshot)),
            Incoming::Writing(req, texts) => {
                if self.play.owns(req) || self.branch.owns(req) {
                    self.writing = texts;
                }
            }
            Incoming::Machine(sample) => {
                self.machine.push_back(sample);
                if self.machine.len() > super::MACHINE_SAMPLES {
                    self.machine.pop_front();
                }
            }
            Incoming::Profile(run, profile) => self.update(run, |view| view.profile = Some(profile)),
        }
    }

    fn live_mut(&mut self, run: RunId) -> Option<&mut RunView> {
        self.live.as_mut().filter(|_| run == self.live_id)
    }

    /// Changes the live run if it is still this one.
    fn update(&mut self, run: RunId, change: impl FnOnce(&mut RunView)) {
        if let Some(view) = self.live_mut(run) {
            change(view);
        }
    }

    fn apply_event(&mut self, event: Event) {
        match event {
            Event::Ready { device, threads } => {
                self.log(LogLevel::Info, format!("engine ready: {device}, {}", format::counted(threads, "thread")));
                self.engine = EngineState::Ready { device, threads };
            }
            Event::PhaseChanged(run, phase) if run == self.live_id => {
                self.phase = phase;
                self.waiting_since = None;
                if phase != RunPhase::Evaluating {
                    self.update(run, |view| view.evaluating = None);
                }
            }
            Event::RunStarted { run, dir, config, start, history, evals } if run == self.live_id => {
                self.log(
                    LogLevel::Info,
                    format!("training {} into {}", format::counted(start.total_steps, "step"), dir.display()),
                );
                let resumed = Some(start.first_step).filter(|step| *step > 0).into_iter().collect();
                let mut view = RunView { dir, config: *config, start: *start, evals, resumed, ..RunView::default() };
                history.iter().for_each(|bucket| view.history.push(bucket));
                self.sitting.run_started(&view.dir, &view.config);
                self.live = Some(view);
                self.routes = super::Routes::default();
            }
            Event::ResumedBefore(run, steps) => self.update(run, |view| drop(view.resumed.splice(0..0, steps))),
            Event::LawChanged(run, change) => self.apply_law(run, change),
            Event::Evaluating(run, progress) => self.update(run, |view| view.evaluating = Some(progress)),
            Event::Evaluated(run, record) => self.update(run, |view| {
                view.evaluating = None;
                view.push_evaluation(record);
            }),
            Event::Sampled(run, record) => self.update(run, |view| view.push_samples(record)),
            Event::GradientHealth(run, gradient_health) => self.apply_gradient_health(run, gradient_health),
            Event::Distances(run, sample) => self.update(run, |view| view.push_distance(sample)),
            Event::CheckpointWritten { run, step, best } => {
                if self.live_mut(run).is_some() {
                    let best = if best { ", the best so far" } else { "" };
                    self.log(LogLevel::Info, format!("checkpoint at step {step}{best}"));
                }
            }
            Event::Checkpoints(run, checkpoints) => self.update(run, |view| view.checkpoints = checkpoints),
            Event::Weights(req, weights) => self.apply_weights(req, weights),
            Event::RunEnded(run, end) => self.apply_end(run, *end),
            Event::Progress { req, what, done, total } => {
                let progress = JobProgress { what, done, total };
                let _taken = QUERIES.iter().any(|(.., get_mut)| get_mut(self).advance(req, &progress))
                    || self.studies.any_mut(|query| query.advance(req, &progress));
            }
            Event::Downloading(req, progress) => {
                if let Some(download) = self.downloads.iter_mut().find(|download| download.req == req) {
                    download.progress = Some(progress);
                }
            }
            Event::Done(req, outcome) => self.apply_done(req, outcome),
            Event::Failed(req, failure) => self.apply_failure(req, &failure),
            Event::Log(line) => self.log(line.level, in_fields(&line.text)),
            Event::PhaseChanged { .. } | Event::RunStarted { .. } => {}
        }
    }

    fn apply_gradient_health(&mut self, run: RunId, gradient_health: Vec<TensorHealth>) {
        let Some(view) = self.live_mut(run) else { return };
        let bad: Vec<String> = gradient_health
            .iter()
            .filter(|health| matches!(health.state, HealthState::Dead | HealthState::Exploding))
            .map(|health| match health.expert {
                Some(expert) => format!("{} (expert {expert})", health.tensor),
                None => health.tensor.clone(),
            })
            .collect();
        view.gradient_health = gradient_health;
        let dir = view.dir.clone();
        if let Some(first) = bad.first() {
            let subject = match bad.len() {
                1 => format!("{first} does"),
                n => format!("{first} and {} more do", n - 1),
            };
            let text = format!("{subject} not learn as expected; see gradient health in Train");
            self.log_about(LogLevel::Warning, text, Some(dir));
        }
    }

    fn apply_law(&mut self, run: RunId, change: LawChange) {
        let Some(view) = self.live_mut(run) else { return };
        let (planned, started) = (view.config.mixture.law_changes().unwrap_or_default(), view.start.first_step);
        view.laws.push(change);
        // They may be of another kind from now on: the map reads them anew.
        self.routes = super::Routes::default();
        // What was asked for here is part of the command that trains the same.
        if change.step > started && !planned.contains(&change) {
            self.sitting.law_changed(&change);
        }
        self.log(LogLevel::Info, format!("step {}: routes are drawn {} from here on", change.step, change.law));
    }

    fn apply_end(&mut self, run: RunId, end: EndRecord) {
        let Some(view) = self.live_mut(run) else { return };
        let step = end.step;
        let (level, text) = match &end.reason {
            EndReason::Finished => (LogLevel::Info, format!("finished after {}", format::counted(step, "step"))),
            EndReason::EarlyStopped => (LogLevel::Info, format!("stopped early at step {step}: no better metric")),
            EndReason::Stopped(reason) => (LogLevel::Info, format!("stopped at step {step}: {reason}")),
            EndReason::Diverged { step, last_checkpoint } => {
                let checkpoint = match last_checkpoint {
                    Some(name) => format!("the last finite checkpoint is {name}"),
                    None => "no checkpoint was written yet".to_owned(),
                };
                let text = format!("the loss was not finite at step {step}; {checkpoint}; try a smaller learning rate");
                (LogLevel::Error, text)
            }
        };
        if level == LogLevel::Error {
            view.failure = Some(text.clone());
        }
        view.end = Some(end);
        view.evaluating = None;
        let dir = Some(view.dir.clone());
        self.sitting.run_ended(&text, level == LogLevel::Error);
        if level == LogLevel::Info {
            self.notify_about(level, text.clone(), dir.clone());
        }
        self.log_about(level, text, dir);
    }

    fn apply_done(&mut self, req: RequestId, outcome: Outcome) {
        self.sitting.done(req);
        match outcome {
            Outcome::Queue(queue) => self.apply_queue(req, queue),
            Outcome::CapsuleSaved(file, capsule) => self.apply_capsule(req, file, &capsule),
            Outcome::Model(info) => drop(self.model.answer(req, *info)),
            Outcome::Data(preview) => drop(self.data.answer(req, *preview)),
            Outcome::Texts(preview) => drop(self.texts.answer(req, *preview)),
            Outcome::Columns(columns) => drop(self.columns.answer(req, *columns)),
            Outcome::Preflight(report) => self.apply_preflight(req, *report),
            Outcome::RunEnded(_) => self.starting = self.starting.filter(|starting| *starting != req),
            Outcome::Opened(detail) => self.apply_opened(req, *detail),
            Outcome::Runs(runs) => drop(self.runs.answer(req, runs)),
            Outcome::Reported(path) => {
                if self.reporting.answer(req, path.clone()) {
                    self.notify(LogLevel::Info, format!("report written: {}", path.display()));
                }
            }
            Outcome::Labelled(dir, label) => {
                self.labelling.answer(req, dir.clone());
                let runs = self.runs.value.iter_mut().flatten();
                runs.filter(|run| run.dir == dir).for_each(|run| run.label.clone_from(&label));
            }
            Outcome::NamedMerges(dir, merges) => {
                let runs = [self.live.as_mut(), self.opened.as_mut()];
                for run in runs.into_iter().flatten().filter(|run| run.dir == dir) {
                    run.merges.clone_from(&merges);
                }
                self.naming.answer(req, dir);
            }
            Outcome::Deleted(dir) => self.apply_deleted(req, &dir),
            Outcome::Routes(answer) => self.apply_routes(req, *answer),
            Outcome::Record(table) => drop(self.record.answer(req, table)),
            Outcome::Compared(report) => drop(self.compare.answer(req, *report)),
            Outcome::Merged(report) => self.apply_merged(req, *report),
            Outcome::Exported(reports) => self.apply_exported(req, reports),
            Outcome::Written(report) => drop(self.written.answer(req, *report)),
            Outcome::Prompts(info) => drop(self.prompts.answer(req, *info)),
            Outcome::Played(report) => self.apply_played(req, *report),
            Outcome::Studied(report) => self.studies.answer(req, *report),
            Outcome::Tried(report) => drop(self.try_it.answer(req, *report)),
            Outcome::TriedWords(report) => drop(self.try_words.answer(req, *report)),
            Outcome::Reweighed(report) => drop(self.reweigh.answer(req, *report)),
            Outcome::Experts(snapshot) => drop(self.inspect.answer(req, *snapshot)),
            Outcome::Store(answer) => self.apply_store(req, *answer),
        }
    }

    /// Its messages are said in the words of the form.
    fn apply_preflight(&mut self, req: RequestId, mut report: PreflightReport) {
        for text in report.problems.iter_mut().chain(&mut report.warnings) {
            *text = in_fields(text);
        }
        self.preflight.answer(req, report);
    }

    fn apply_queue(&mut self, req: RequestId, queue: QueueState) {
        let notes = queue.notes.clone();
        // The message about a damaged file is given once; the list keeps it.
        let kept = self.queue.value.as_ref().map(|old| old.notes.clone()).unwrap_or_default();
        let added = self.adding.take_if(|adding| *adding == req).is_some();
        let all = QueueState { notes: kept.into_iter().chain(notes.clone()).collect(), ..queue };
        let now = all.entries.len();
        if self.queue.answer(req, all) {
            if added {
                let plural = if now == 1 { "run waits" } else { "runs wait" };
                self.notify(LogLevel::Info, format!("added to the queue: {now} {plural}; see Runs"));
            }
            notes.into_iter().for_each(|note| self.log(LogLevel::Warning, note));
        }
    }

    fn apply_capsule(&mut self, req: RequestId, file: PathBuf, capsule: &Capsule) {
        let mut text = format!("capsule of {} written: {}", format::bytes(capsule.bytes()), file.display());
        for left_out in &capsule.left_out {
            text.push_str(&format!("; {left_out}"));
        }
        if self.capsule.answer(req, file) {
            self.notify(LogLevel::Info, text.clone());
            self.log(LogLevel::Info, text);
        }
    }

    fn apply_opened(&mut self, req: RequestId, detail: RunDetail) {
        if self.borrowed.owns(req) {
            self.borrowed.answer(req, (detail.summary.dir, detail.config));
            return;
        }
        let view = RunView::opened(detail);
        if self.opening.answer(req, view.dir.clone()) {
            self.show_opened(Some(view));
        } else if let Some(query) = self.overlays.get_mut(&view.dir) {
            query.answer(req, view);
        }
    }

    fn apply_deleted(&mut self, req: RequestId, dir: &Path) {
        self.deleting.answer(req, dir.to_owned());
        if let Some(runs) = &mut self.runs.value {
            runs.retain(|run| run.dir != dir);
        }
        self.overlays.remove(dir);
        if self.opened.as_ref().is_some_and(|run| run.dir == dir) {
            self.show_opened(None);
        }
        if self.is_live(dir) && !self.phase.is_active() {
            self.live = None;
        }
        self.log(LogLevel::Info, format!("deleted {}", dir.display()));
    }

    fn apply_played(&mut self, req: RequestId, report: PlayReport) {
        self.writing.clear();
        if self.branch.answer(req, report.clone()) {
            self.branches.push(report);
            if self.branches.len() > super::BRANCHES {
                self.branches.remove(0);
            }
        } else {
            self.play.answer(req, report);
        }
    }

    fn apply_merged(&mut self, req: RequestId, report: MergeReport) {
        if self.merge.answer(req, report.clone()) {
            // Scores of other weights are not comparable: those of a run in training change with every step.
            if self.tried_weights != self.merge.weights {
                self.tried.clear();
                self.tried_weights = self.merge.weights;
            }
            self.tried.push(report);
            if self.tried.len() > super::TRIED {
                self.tried.remove(0);
            }
        }
    }

    fn apply_exported(&mut self, req: RequestId, reports: Vec<ExportReport>) {
        for report in &reports {
            let (level, verdict) = if report.certificate.passed {
                (LogLevel::Info, "verified".to_owned())
            } else {
                (LogLevel::Error, format!("failed its verification: {}", report.certificate.problems.join("; ")))
            };
            self.log(level, format!("export {verdict}: {}", report.dir.display()));
        }
        if self.export.answer(req, reports.clone()) {
            // The shown run lists them too, so that a later export does not hide an earlier one.
            if let Some(run) = self.opened.as_mut().or(self.live.as_mut()) {
                run.exports.retain(|old| reports.iter().all(|new| (new.target, &new.dir) != (old.target, &old.dir)));
                run.exports.extend(reports);
            }
            let dir = self.shown().map(|run| run.dir.clone());
            self.notify_about(LogLevel::Info, "export finished; see its certificate".to_owned(), dir);
        }
    }

    fn apply_failure(&mut self, req: Option<RequestId>, failure: &Failure) {
        let message = &*in_fields(&failure.message);
        let Some(req) = req else {
            self.engine = EngineState::Failed(message.to_owned());
            if self.phase.is_active() {
                self.phase = RunPhase::Failed;
            }
            self.starting = None;
            return self.log(LogLevel::Error, format!("the engine failed: {message}"));
        };
        self.sitting.failed(req);
        if self.starting == Some(req) && failure.kind == ErrorKind::Cancelled {
            // The queue was worked off by another program.
            (self.starting, self.phase) = (None, RunPhase::Idle);
            return self.notify(LogLevel::Info, message);
        }
        if self.starting == Some(req) {
            self.starting = None;
            self.phase = RunPhase::Failed;
            match &mut self.live {
                Some(view) => view.failure = Some(message.to_owned()),
                None => self.start_error = Some(message.to_owned()),
            }
            return self.log(LogLevel::Error, format!("the run failed: {message}"));
        }
        let failed = QUERIES.iter().find(|(.., get_mut)| get_mut(self).fail(req, message));
        let known = failed.is_some()
            || self.studies.any_mut(|query| query.fail(req, message))
            || self.fail_download(req, failure)
            || self.overlays.values_mut().any(|query| query.fail(req, message));
        if failed.is_some_and(|(_, class, ..)| *class == QueryClass::Form) {
            // The panel of the form shows it.
        } else if !known && failure.kind == ErrorKind::Cancelled {
            // A newer query took its place.
        } else if known && failure.kind == ErrorKind::Cancelled {
            self.notify(LogLevel::Info, "cancelled");
        } else {
            self.log(LogLevel::Error, message);
        }
    }
}
