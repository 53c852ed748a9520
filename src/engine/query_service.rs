//! Answers questions: previews, lists, and everything that is asked of weights, live or saved.

use crate::artifact::{RunDir, checkpoint};
use crate::config::{RunConfig, Task};
use crate::engine::outbox::{Link, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::*;
use crate::train::{self, Control, Trainer};
use crate::workflow::playground;
use crate::workflow::playground::Audience;
use crate::workflow::saved_run;
use crate::workflow::saved_run::Opened;
use crate::workflow::snapshot;
use crate::workflow::snapshot::Banks;
use crate::workflow::studies::{averages, rounding};
use crate::workflow::written_texts;
use crate::workflow::written_texts::WritePlan;
use crate::workflow::{export, merging, preflight, prepare, previews, runs};
use crossbeam_channel::Receiver;
use std::path::Path;

/// Frozen parameters up to which the cost of a run is measured by making a few steps.
const MEASURED: usize = 20_000_000;

/// Longest text of a scored answer, in tokens.
const WRITTEN_TOKENS: usize = 128;
/// Inputs whose texts are shown side by side.
const SAMPLES: usize = 3;

/// A model in memory and what belongs to it.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) subject: &'a train::Subject,
    pub(crate) config: &'a RunConfig,
    pub(crate) dir: &'a RunDir,
    /// Steps the weights have seen.
    pub(crate) step: u64,
}

impl<'a> Holder<'a> {
    /// The model in training.
    pub(crate) fn of(trainer: &'a Trainer, dir: &'a RunDir, step: u64) -> Self {
        Self { subject: trainer.subject(), config: trainer.config(), dir, step }
    }
}

/// Takes questions and answers them.
pub(crate) struct Desk<'a> {
    pub(crate) link: &'a Link,
    pub(crate) inbox: &'a Receiver<Message>,
    /// The saved model asked about last: sliders ask about it again and again.
    opened: Option<Opened>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(link: &'a Link, inbox: &'a Receiver<Message>) -> Self {
        Self { link, inbox, opened: None }
    }

    /// Forgets what is kept in memory.
    pub(crate) fn forget(&mut self) {
        self.opened = None;
    }

    /// Answers anything but the start of a run. `training`: the flags of the run that waits meanwhile.
    pub(crate) fn serve(
        &mut self,
        number: u64,
        command: &Command,
        live: Option<Holder<'_>>,
        training: Option<&Control>,
    ) {
        let req = command.req();
        self.link.open(req);
        let long = !matches!(
            command,
            Command::ListRuns { .. }
                | Command::DeleteRun { .. }
                | Command::OpenRun { .. }
                | Command::PreviewModel { .. }
        );
        let result = if long && self.link.is_cancelled(number) {
            Err(Error::cancelled())
        } else {
            self.outcome(number, command, live, training)
        };
        self.link.answer(req, result);
    }

    fn outcome(
        &mut self,
        number: u64,
        command: &Command,
        live: Option<Holder<'_>>,
        training: Option<&Control>,
    ) -> Result<Outcome> {
        let busy = || Error::config("a run is in training; ask again when it has ended, or stop it first");
        match command {
            Command::PreviewModel { model, .. } => Ok(Outcome::Model(Box::new(previews::model(&model.path)?))),
            Command::PreviewData { config, .. } if config.data.task == Task::Text => {
                Ok(Outcome::Texts(Box::new(prepare::text_preview(config, previews::TEXTS)?)))
            }
            Command::PreviewData { config, .. } => {
                Ok(Outcome::Data(Box::new(previews::data(prepare::preview(config)?))))
            }
            // It makes steps of its own, which would need the memory and the cores a second time.
            Command::Preflight { .. } | Command::StartRun { .. } | Command::ResumeRun { .. } if training.is_some() => {
                Err(busy())
            }
            Command::Preflight { config, .. } => preflight(config),
            Command::OpenRun { dir, .. } => Ok(Outcome::Opened(Box::new(runs::detail(dir)?))),
            Command::ListRuns { runs_dir, .. } => Ok(Outcome::Runs(runs::list(runs_dir)?)),
            Command::DeleteRun { dir, .. } => {
                if training.is_some() && live.is_some_and(|live| same(live.dir.path(), dir)) {
                    return Err(Error::config("this run is in training; stop it first"));
                }
                self.opened.take_if(|opened| same(opened.dir.path(), dir));
                runs::delete(dir)?;
                Ok(Outcome::Deleted(dir.clone()))
            }
            Command::Inspect { subject: Subject::Saved { dir, checkpoint }, site, side, .. } => {
                inspect_saved(dir, *checkpoint, (*site, *side))
            }
            Command::Play { req, writer, plan } => {
                let link = self.link;
                let go_on = link.progress((*req, number), what(command), training);
                let show = |texts| link.show_writing(*req, texts);
                let audience = Audience { go_on: &go_on, show: &show };
                let report = match writer {
                    Writer::Model(path) => playground::of_model(path, plan, &audience)?,
                    Writer::Run(subject) => playground::of_run(self.holder(subject, live)?.subject, plan, &audience)?,
                };
                Ok(Outcome::Played(Box::new(report)))
            }
            Command::Compare { req, subject, .. }
            | Command::Merge { req, subject, .. }
            | Command::Export { req, subject, .. }
            | Command::Write { req, subject, .. }
            | Command::Study { req, subject, .. }
            | Command::Inspect { req, subject, .. } => {
                let link = self.link;
                let holder = self.holder(subject, live)?;
                ask(holder, command, &link.progress((*req, number), what(command), training))
            }
            Command::StartRun { .. } | Command::ResumeRun { .. } | Command::Store { .. } => {
                Err(Error::internal("a command went to the wrong place"))
            }
        }
    }

    /// The model that a question is about.
    fn holder<'b>(&'b mut self, subject: &Subject, live: Option<Holder<'b>>) -> Result<Holder<'b>> {
        match subject {
            Subject::Live => live.ok_or_else(|| Error::config("there is no model in memory; train or open a run")),
            Subject::Saved { dir, checkpoint } => self.saved(dir, *checkpoint),
        }
    }

    fn saved(&mut self, dir: &Path, which: Checkpoint) -> Result<Holder<'_>> {
        let run = RunDir::open(dir)?;
        let step = saved_run::checkpoint_step(&run, which)?;
        let known = self.opened.take().filter(|opened| opened.step == step && opened.dir == run);
        let opened = match known {
            Some(opened) => opened,
            None => Opened::open(&run, Checkpoint::Step(step))?,
        };
        let Opened { dir, step, config, subject } = self.opened.insert(opened);
        Ok(Holder { subject, config, dir, step: *step })
    }
}

/// Whether two paths name the same directory.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    let full = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    full(a) == full(b)
}

fn what(command: &Command) -> &'static str {
    match command {
        Command::Compare { .. } => "merged, random routes, fixed experts",
        Command::Merge { .. } => "the merged model on the evaluation rows",
        Command::Export { .. } => "writing, reloading, proving",
        Command::Write { .. } => "texts are being written",
        Command::Study { study: Study::Averages, .. } => "three averages",
        Command::Study { .. } => "number formats",
        Command::Play { .. } => "answers are being written",
        _ => "reading",
    }
}

fn ask(on: Holder<'_>, command: &Command, go_on: &dyn Fn(f64) -> bool) -> Result<Outcome> {
    let Holder { subject, config, dir, step } = on;
    match command {
        Command::Compare { random_routes, .. } => {
            let report = merging::compare_subject(subject, config, (*random_routes).clamp(1, 1000), go_on)?;
            Ok(Outcome::Compared(Box::new(report)))
        }
        Command::Merge { plan, .. } => {
            Ok(Outcome::Merged(Box::new(merging::merge_subject(subject, config, plan, go_on)?)))
        }
        Command::Export { plan, .. } => {
            let mut reports = Vec::new();
            // One by one, so that giving up leaves whole exports only.
            for (done, &target) in plan.targets.iter().enumerate() {
                if !go_on(done as f64 / plan.targets.len() as f64) {
                    return Err(Error::cancelled());
                }
                let one = ExportPlan { targets: vec![target], ..plan.clone() };
                reports.extend(export::export_subject(subject, config, dir, &one)?);
            }
            Ok(Outcome::Exported(reports))
        }
        Command::Write { inputs, .. } => {
            let plan =
                WritePlan { inputs: *inputs, max_new_tokens: WRITTEN_TOKENS, samples: SAMPLES, word_lists: None };
            Ok(Outcome::Written(Box::new(written_texts::write_and_score(subject, config, &plan, go_on)?)))
        }
        Command::Study { study, .. } => Ok(Outcome::Studied(Box::new(match study {
            Study::Averages => StudyReport::Averages(averages::averages_subject(subject, config, go_on)?),
            Study::Rounding(plan) => StudyReport::Rounding(rounding::rounding_subject(subject, config, plan, go_on)?),
        }))),
        Command::Inspect { site, side, .. } => {
            let now = Banks::of(subject.model())?;
            let focus = checked_focus(&now, (*site, *side))?;
            Ok(Outcome::Experts(Box::new(snapshot::experts(&now, &now.at_start(config), step, focus))))
        }
        _ => Err(Error::internal("a question went to the wrong place")),
    }
}

/// From the checkpoint's files alone: the model is not needed.
fn inspect_saved(dir: &Path, which: Checkpoint, focus: (usize, Side)) -> Result<Outcome> {
    let run = RunDir::open(dir)?;
    let step = saved_run::checkpoint_step(&run, which)?;
    let now = Banks::of_tensors(&checkpoint::read(&run, step)?.tensors)?;
    let focus = checked_focus(&now, focus)?;
    Ok(Outcome::Experts(Box::new(snapshot::experts(&now, &now.at_start(run.config()), step, focus))))
}

fn checked_focus(banks: &Banks, (site, side): (usize, Side)) -> Result<(usize, Option<Side>)> {
    let sites = banks.sites.len();
    if sites == 0 {
        return Err(Error::config("this run has no experts; only method adamix has"));
    }
    if site >= sites {
        return Err(Error::config(format!("there is no site {site}; choose 0 to {}", sites - 1)));
    }
    Ok((site, Some(side)))
}

fn preflight(config: &RunConfig) -> Result<Outcome> {
    // Some steps are made to measure the time where that takes a moment only.
    let size = prepare::matmul_parameters(config).unwrap_or(usize::MAX);
    let measured = size.saturating_mul(config.train.gradient_accumulation_steps) <= MEASURED;
    match preflight::preflight(config, measured) {
        // A report with the problem in it is more use than a failure.
        Err(err) if err.kind() != ErrorKind::Internal => {
            let problems = vec![err.to_string()];
            Ok(Outcome::Preflight(Box::new(PreflightReport { problems, ..PreflightReport::default() })))
        }
        other => Ok(Outcome::Preflight(Box::new(other?))),
    }
}
