//! Answers queries: previews, lists, and computations on live or saved weights.

use crate::artifact::queue::Queue;
use crate::artifact::run_list::RunList;
use crate::artifact::{RunDir, checkpoint, checkpoint_choice, named_merges};
use crate::config::{RunConfig, Task};
use crate::engine::outbox::{EngineMessage, Outbox};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::*;
use crate::train::{self, Control, Trainer};
use crate::workflow::export::ExportedRun;
use crate::workflow::playground::{self, PlayCallbacks};
use crate::workflow::reweigh::{ReweighCache, ReweighedRun};
use crate::workflow::saved_run::Opened;
use crate::workflow::snapshot::{self, Banks};
use crate::workflow::studies::{self, StudiedRun};
use crate::workflow::try_it::{self, TokenizerCache};
use crate::workflow::written_texts::{self, WritePlan};
use crate::workflow::{capsule, export, merging, preflight, prepare, previews, prompts, record_table, report, runs};
use crossbeam_channel::Receiver;
use std::path::Path;

/// Largest number of frozen parameters at which the cost of a run is measured by making a few steps.
const MEASURED_PARAMETERS: usize = 20_000_000;

/// Longest generated text that is scored, in tokens.
const WRITTEN_TOKENS: usize = 128;
/// Inputs whose texts are part of the report.
const SAMPLES: usize = 3;

/// A model in memory with its settings and run directory.
#[derive(Clone, Copy)]
pub(crate) struct LoadedModel<'a> {
    pub(crate) subject: &'a train::ModelAndData,
    pub(crate) config: &'a RunConfig,
    pub(crate) dir: &'a RunDir,
    /// Which of the run's weights the model holds.
    pub(crate) weights: WeightsOf,
}

impl<'a> LoadedModel<'a> {
    /// The model in training.
    pub(crate) fn of(trainer: &'a Trainer, dir: &'a RunDir, weights: WeightsOf) -> Self {
        Self { subject: trainer.subject(), config: trainer.config(), dir, weights }
    }
}

/// Answers queries on the training thread.
pub(crate) struct QueryService<'a> {
    pub(crate) outbox: &'a Outbox,
    pub(crate) inbox: &'a Receiver<EngineMessage>,
    /// The saved run of the last query: successive queries are mostly about the same one.
    opened: Option<Opened>,
    run_list: RunList,
    tokenizers: TokenizerCache,
    reweigh: ReweighCache,
    queue: Result<Queue>,
}

impl<'a> QueryService<'a> {
    pub(crate) fn new(outbox: &'a Outbox, inbox: &'a Receiver<EngineMessage>, queue: Result<Queue>) -> Self {
        let (run_list, tokenizers) = (RunList::default(), TokenizerCache::default());
        Self { outbox, inbox, opened: None, run_list, tokenizers, reweigh: ReweighCache::default(), queue }
    }

    /// The queue of runs.
    pub(crate) fn queue(&self) -> Result<&Queue> {
        self.queue.as_ref().map_err(|err| Error::new(err.kind(), err.to_string()))
    }

    /// Frees the saved run.
    pub(crate) fn forget(&mut self) {
        self.opened = None;
        self.reweigh = ReweighCache::default();
    }

    /// Answers any command but the start of a run. `training`: the control of the run that waits meanwhile.
    pub(crate) fn serve(
        &mut self,
        number: u64,
        req: RequestId,
        command: &Command,
        live: Option<LoadedModel<'_>>,
        training: Option<&Control>,
    ) {
        self.outbox.accept(req);
        let long = !matches!(
            command,
            Command::ListRuns { .. }
                | Command::Queue { .. }
                | Command::SaveCapsule { .. }
                | Command::DeleteRun { .. }
                | Command::OpenRun { .. }
                | Command::ReadRecord { .. }
                | Command::LabelRun { .. }
                | Command::NameMerge { .. }
                | Command::Report { .. }
                | Command::PreviewModel { .. }
                | Command::ReadColumns { .. }
        );
        let result = if long && self.outbox.is_cancelled(number) {
            Err(Error::cancelled())
        } else {
            self.outcome(number, req, command, live, training)
        };
        self.outbox.answer(req, result);
    }

    fn ask_queue(&self, ask: &QueueAsk) -> Result<QueueState> {
        let queue = self.queue()?;
        match ask {
            QueueAsk::List => queue.list(),
            QueueAsk::Add(config) => queue.add(config),
            QueueAsk::Remove(id) => queue.remove(*id),
            QueueAsk::Move(id, place) => queue.move_to(*id, *place),
            QueueAsk::Retry(id) => queue.retry(*id),
        }
    }

    fn outcome(
        &mut self,
        number: u64,
        req: RequestId,
        command: &Command,
        live: Option<LoadedModel<'_>>,
        training: Option<&Control>,
    ) -> Result<Outcome> {
        let busy = || Error::config("a run is in training; try again when it has ended, or stop it first");
        match command {
            Command::PreviewModel(model) => Ok(Outcome::Model(Box::new(previews::model(&model.path)?))),
            Command::PreviewData(config) if config.data.task == Task::Text => {
                Ok(Outcome::Texts(Box::new(prepare::text_preview(config, previews::TEXTS)?)))
            }
            Command::PreviewData(config) => Ok(Outcome::Data(Box::new(prepare::preview(config)?))),
            Command::ReadColumns { path, format, header } => {
                Ok(Outcome::Columns(Box::new(previews::columns(path, *format, *header)?)))
            }
            // A preflight makes training steps, which would need memory and cores a second time.
            Command::Preflight { .. }
            | Command::StartRun { .. }
            | Command::ResumeRun { .. }
            | Command::BranchRun { .. }
            | Command::StartQueued { .. }
                if training.is_some() =>
            {
                Err(busy())
            }
            Command::Preflight(config) => preflight(config),
            Command::OpenRun(path) => Ok(Outcome::Opened(Box::new(runs::detail(&capsule::located(path)?)?))),
            Command::SaveCapsule { dir, file } => {
                let run = RunDir::open(dir)?;
                let file = file.clone().unwrap_or_else(|| capsule::default_file(&run));
                let saved = capsule::save(&run, &file)?;
                Ok(Outcome::CapsuleSaved(file, Box::new(saved)))
            }
            Command::Queue(ask) => Ok(Outcome::Queue(self.ask_queue(ask)?)),
            Command::ReadRecord(plan) => Ok(Outcome::Record(record_table::table(plan)?)),
            Command::ListRuns(runs_dir) => Ok(Outcome::Runs(runs::list(&mut self.run_list, runs_dir)?)),
            Command::Report { dir, to } => {
                report::write(dir, to)?;
                Ok(Outcome::Reported(to.clone()))
            }
            Command::NameMerge { dir, name, merge } => {
                Ok(Outcome::NamedMerges(dir.clone(), named_merges::change(dir, name, merge.clone())?))
            }
            Command::LabelRun { dir, label } => {
                label.write(dir)?;
                Ok(Outcome::Labelled(dir.clone(), label.clone()))
            }
            Command::DeleteRun(dir) => {
                if training.is_some() && live.is_some_and(|live| same(live.dir.path(), dir)) {
                    return Err(Error::config("this run is in training; stop it first"));
                }
                self.opened.take_if(|opened| same(opened.dir.path(), dir));
                runs::delete(dir)?;
                Ok(Outcome::Deleted(dir.clone()))
            }
            Command::Query {
                subject: Subject::Saved { dir, checkpoint },
                query: ModelQuery::Inspect { site, side },
            } => self.inspect_saved(req, dir, *checkpoint, (*site, *side)),
            Command::Query { subject, query: ModelQuery::Reweigh(plan) } => {
                self.reweigh((number, req), subject, plan, (live, training))
            }
            Command::Query { subject, query: query @ (ModelQuery::Try(_) | ModelQuery::TryWords(_)) } => {
                self.try_it((number, req), (subject, query), live, training)
            }
            Command::Query { subject, query: ModelQuery::Study(study) } if study.of_step().is_some() => {
                let run = match subject {
                    Subject::Saved { dir, .. } => RunDir::open(dir)?,
                    Subject::Live => live.map(|live| live.dir.clone()).ok_or_else(no_model)?,
                };
                // It builds a training of its own: two of a large model would not fit beside each other.
                let small = prepare::matmul_parameters(run.config()).is_ok_and(|size| size <= MEASURED_PARAMETERS);
                if training.is_some() && !small {
                    return Err(busy());
                }
                self.forget();
                let what = studies::what(study);
                let report = studies::of_step(&run, study, &self.outbox.progress(req, number, what, training))?;
                Ok(Outcome::Studied(Box::new(report)))
            }
            Command::Query { subject, query } => {
                let outbox = self.outbox;
                let loaded = self.loaded(req, subject, live)?;
                compute(loaded, query, &outbox.progress(req, number, progress_text(query), training))
            }
            Command::Play { writer, plan } => {
                let outbox = self.outbox;
                let go_on = outbox.progress(req, number, "generating answers", training);
                let show = |texts| outbox.show_writing(req, texts);
                let callbacks = PlayCallbacks { go_on: &go_on, show: &show };
                let report = match writer {
                    Writer::Model(path) => playground::of_model(path, plan, &callbacks)?,
                    Writer::Run(subject) => {
                        playground::of_run(self.loaded(req, subject, live)?.subject, plan, &callbacks)?
                    }
                };
                Ok(Outcome::Played(Box::new(report)))
            }
            Command::Prompts(writer) => {
                let info = match writer {
                    Writer::Model(path) => prompts::of_model(path)?,
                    Writer::Run(Subject::Saved { dir, .. }) => prompts::of_settings(RunDir::open(dir)?.config())?,
                    Writer::Run(Subject::Live) => {
                        let LoadedModel { subject, config, .. } = self.loaded(req, &Subject::Live, live)?;
                        prompts::of_run(subject, config)?
                    }
                };
                Ok(Outcome::Prompts(Box::new(info)))
            }
            Command::StartRun { .. }
            | Command::ResumeRun { .. }
            | Command::BranchRun { .. }
            | Command::StartQueued { .. }
            | Command::Store { .. } => Err(Error::internal("this command is not a query of the training thread")),
        }
    }

    /// Only the newest of these queries is answered: each key pressed in the window asks again.
    fn try_it(
        &mut self,
        (number, req): (u64, RequestId),
        (subject, query): (&Subject, &ModelQuery),
        live: Option<LoadedModel<'_>>,
        training: Option<&Control>,
    ) -> Result<Outcome> {
        let outbox = self.outbox;
        let mut tokenizers = std::mem::take(&mut self.tokenizers);
        let progress = outbox.progress(req, number, progress_text(query), training);
        let go_on = |share: f64| progress(share) && outbox.is_newest_try(number);
        let mut answer = || {
            if !outbox.is_newest_try(number) {
                return Err(Error::cancelled());
            }
            let LoadedModel { subject, config, weights, .. } = self.loaded(req, subject, live)?;
            let subject = try_it::Subject::new(subject, config, tokenizers.of(config)?, weights.step)?;
            Ok(match query {
                ModelQuery::TryWords(input) => Outcome::TriedWords(Box::new(subject.words(input, &go_on)?)),
                ModelQuery::Try(plan) => Outcome::Tried(Box::new(subject.answer(plan, &go_on)?)),
                _ => return Err(Error::internal("this query is about rows, not about one text")),
            })
        };
        let answered = answer();
        self.tokenizers = tokenizers;
        answered
    }

    /// Only the newest of these is answered: a drag asks again and again.
    fn reweigh(
        &mut self,
        (number, req): (u64, RequestId),
        subject: &Subject,
        plan: &ReweighPlan,
        (live, training): (Option<LoadedModel<'_>>, Option<&Control>),
    ) -> Result<Outcome> {
        let outbox = self.outbox;
        if !outbox.is_newest_try(number) {
            return Err(Error::cancelled());
        }
        let progress = outbox.progress(req, number, "the probe set", training);
        let go_on = |share: f64| progress(share) && outbox.is_newest_try(number);
        let mut cache = std::mem::take(&mut self.reweigh);
        let answered = self.loaded(req, subject, live).and_then(|LoadedModel { subject, config, dir, weights }| {
            let run = ReweighedRun { dir: dir.path(), step: weights.step, config };
            cache.score(subject, run, plan, &go_on)
        });
        self.reweigh = cache;
        Ok(Outcome::Reweighed(Box::new(answered?)))
    }

    /// The model that a query is about; the window is told which weights these are.
    fn loaded<'b>(
        &'b mut self,
        req: RequestId,
        subject: &Subject,
        live: Option<LoadedModel<'b>>,
    ) -> Result<LoadedModel<'b>> {
        let outbox = self.outbox;
        let loaded = match subject {
            Subject::Live => live.ok_or_else(no_model)?,
            Subject::Saved { dir, checkpoint } => self.saved(dir, *checkpoint)?,
        };
        outbox.send(Event::Weights(req, loaded.weights));
        Ok(loaded)
    }

    fn saved(&mut self, dir: &Path, which: Checkpoint) -> Result<LoadedModel<'_>> {
        let run = RunDir::open(dir)?;
        let weights = checkpoint_choice::resolve(&run, which)?;
        let step = weights.step;
        let known = self.opened.take().filter(|opened| opened.weights.step == step && opened.dir == run);
        let opened = match known {
            Some(opened) => opened,
            None => Opened::open(&run, Checkpoint::Step(step))?,
        };
        let Opened { dir, config, subject, .. } = self.opened.insert(opened);
        Ok(LoadedModel { subject, config, dir, weights })
    }

    /// From the checkpoint's files alone: the model is not needed.
    fn inspect_saved(&self, req: RequestId, dir: &Path, which: Checkpoint, focus: (usize, Side)) -> Result<Outcome> {
        let run = RunDir::open(dir)?;
        let weights = checkpoint_choice::resolve(&run, which)?;
        self.outbox.send(Event::Weights(req, weights));
        let banks = Banks::of_tensors(&checkpoint::read(&run, weights.step)?.tensors)?;
        inspect(&banks, &run, weights.step, focus)
    }
}

fn no_model() -> Error {
    Error::config("there is no model in memory; train or open a run")
}

/// Whether two paths name the same directory.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    let full = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    full(a) == full(b)
}

fn progress_text(query: &ModelQuery) -> &'static str {
    match query {
        ModelQuery::Compare { .. } => "merged, random routes, single experts",
        ModelQuery::Merge(_) => "the merged model on the evaluation rows",
        ModelQuery::Export(_) => "writing, reading back, verifying",
        ModelQuery::Write { .. } => "generating texts",
        ModelQuery::Study(study) => studies::what(study),
        ModelQuery::Inspect { .. } => "reading",
        ModelQuery::Try(_) | ModelQuery::TryWords(_) => "reading the text",
        ModelQuery::Reweigh(_) => "the probe set",
    }
}

fn compute(loaded: LoadedModel<'_>, query: &ModelQuery, go_on: &dyn Fn(f64) -> bool) -> Result<Outcome> {
    let LoadedModel { subject, config, dir, weights } = loaded;
    Ok(match query {
        ModelQuery::Compare { random_routes } => {
            let routes = (*random_routes).clamp(1, 1000);
            Outcome::Compared(Box::new(merging::compare_subject(subject, config, routes, go_on)?))
        }
        ModelQuery::Merge(plan) => {
            Outcome::Merged(Box::new(merging::merge_subject(subject, (config, Some(dir)), plan, go_on)?))
        }
        ModelQuery::Export(plan) => {
            let mut reports = Vec::new();
            // One by one, so that a cancellation leaves complete exports only.
            for (done, &target) in plan.targets.iter().enumerate() {
                if !go_on(done as f64 / plan.targets.len() as f64) {
                    return Err(Error::cancelled());
                }
                let one = ExportPlan { targets: vec![target], ..plan.clone() };
                let run = ExportedRun { config, dir, weights };
                let within = |share: f64| go_on((done as f64 + share) / plan.targets.len() as f64);
                reports.extend(export::export_while(subject, run, &one, &within)?);
            }
            Outcome::Exported(reports)
        }
        ModelQuery::Write { inputs } => {
            let plan =
                WritePlan { inputs: *inputs, max_new_tokens: WRITTEN_TOKENS, samples: SAMPLES, word_lists: None };
            Outcome::Written(Box::new(written_texts::write_and_score(subject, config, &plan, go_on)?))
        }
        ModelQuery::Study(study) => {
            let run = StudiedRun { config, dir, step: weights.step };
            Outcome::Studied(Box::new(studies::run(subject, run, study, go_on)?))
        }
        ModelQuery::Try(_) | ModelQuery::TryWords(_) | ModelQuery::Reweigh(_) => {
            return Err(Error::internal("one text is not measured with the rows"));
        }
        ModelQuery::Inspect { site, side } => inspect(&Banks::of(subject.model())?, dir, weights.step, (*site, *side))?,
    })
}

fn inspect(now: &Banks, run: &RunDir, step: u64, (site, side): (usize, Side)) -> Result<Outcome> {
    let sites = now.sites.len();
    if sites == 0 {
        return Err(Error::config("this run has no experts; only method adamix has"));
    }
    if site >= sites {
        return Err(Error::config(format!("there is no adapted module {site}; choose 0 to {}", sites - 1)));
    }
    let mut snapshot = snapshot::experts(now, &now.at_start_of(run)?, step, (site, Some(side)));
    snapshot.directions = snapshot.directions.or_else(|| now.directions(site, side));
    Ok(Outcome::Experts(Box::new(snapshot)))
}

fn preflight(config: &RunConfig) -> Result<Outcome> {
    // The time per step is measured where a step takes a moment only.
    let size = prepare::matmul_parameters(config).unwrap_or(usize::MAX);
    let measured = size.saturating_mul(config.train.gradient_accumulation_steps) <= MEASURED_PARAMETERS;
    match preflight::preflight(config, measured) {
        // The report carries the problem, beside whatever else is known.
        Err(err) if err.kind() != ErrorKind::Internal => {
            let problems = vec![err.to_string()];
            Ok(Outcome::Preflight(Box::new(PreflightReport { problems, ..PreflightReport::default() })))
        }
        other => Ok(Outcome::Preflight(Box::new(other?))),
    }
}
