//! The state that all views read. Only `logic` changes it. Messages of other runs are dropped here.

mod apply;
mod form;
mod made_from;
mod models;
mod routes;
mod weights;

pub use form::FormMemory;
pub use made_from::MadeFrom;
pub use models::Download;
pub use routes::Routes;
pub use weights::Weights;

use super::query::{AnyQuery, JobProgress, Query};
use super::run_view::RunView;
use super::sitting::Sitting;
use super::studies::Studies;
use crate::config::{RunConfig, fitting};
use crate::figure::Table;
use crate::protocol::*;
use egui::util::undoer::{self, Undoer};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

/// Log lines kept.
const LOG_LINES: usize = 2000;
/// Samples of the computer kept: ten minutes.
const MACHINE_SAMPLES: usize = 600;
/// Scored merges kept.
const TRIED: usize = 100;
/// What-if answers kept.
const BRANCHES: usize = 8;
/// Changes closer together than this, in seconds, are undone together.
const UNDO_PAUSE: f32 = 0.8;

/// Seconds that the status bar shows a message; warnings and errors stay longer.
const NOTICE_SECONDS: [f64; 2] = [12.0, 60.0];

/// A message for the status bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Severity.
    pub level: LogLevel,
    /// Text, one line.
    pub text: String,
    /// When it came, in seconds of [`Session::now`].
    pub at: f64,
    /// The run it is about; absent: about none.
    pub run: Option<PathBuf>,
}

/// Whether the engine answers queries.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum EngineState {
    /// It has not reported yet.
    #[default]
    Starting,
    /// It does.
    Ready {
        /// Name of the compute device.
        device: String,
        /// CPU threads used for training.
        threads: usize,
    },
    /// It cannot; the reason.
    Failed(String),
}

/// The state that all views read.
#[expect(missing_docs, reason = "a query is named after what it asks for")]
#[derive(Default)]
pub struct Session {
    /// Whether the engine answers queries.
    pub engine: EngineState,
    /// Settings of the next run.
    pub form: RunConfig,
    /// Incremented with every change of `form`.
    pub form_version: u64,
    /// Phase of the current run as the engine reported it.
    pub phase: RunPhase,
    /// The run in the engine, or the last one.
    pub live: Option<RunView>,
    /// A run opened from disk, shown instead of `live`.
    pub opened: Option<RunView>,
    /// Why the last start failed before there was a run directory.
    pub start_error: Option<String>,
    pub runs: Query<Vec<RunSummary>>,
    /// Runs whose curves are drawn beside the others.
    pub overlays: BTreeMap<PathBuf, Query<RunView>>,
    pub model: Query<ModelInfo>,
    /// The columns of the form's training file, where it has columns.
    pub columns: Query<Columns>,
    pub data: Query<DataPreview>,
    /// The texts of the form, where its task is text.
    pub texts: Query<TextPreview>,
    pub preflight: Query<PreflightReport>,
    /// Version of the form that `preflight` was asked about.
    pub preflight_version: u64,
    /// Merged model against random routes, single experts and ensemble.
    pub compare: Query<EvalReport>,
    /// A merge with given weights.
    pub merge: Query<MergeReport>,
    /// Every merge scored for the shown run, oldest first.
    pub tried: Vec<MergeReport>,
    /// The weights of all of `tried`.
    pub tried_weights: Option<WeightsOf>,
    /// Answers to a prompt.
    pub play: Query<PlayReport>,
    /// Whose model gave these answers.
    pub play_writer: Option<Writer>,
    /// An answer that goes on from a place in another one.
    pub branch: Query<PlayReport>,
    /// All of them, oldest first.
    pub branches: Vec<PlayReport>,
    /// How the model of the Playground is asked.
    pub prompts: Query<PromptInfo>,
    /// Whose model `prompts` is about.
    pub prompts_of: Option<Writer>,
    /// The answers as far as they are generated, one per pane.
    pub writing: Vec<String>,
    /// A text as every way of running a classifier reads it.
    pub try_it: Query<TryReport>,
    /// What each word of that text does.
    pub try_words: Query<WordsReport>,
    /// The probe set under dragged weights.
    pub reweigh: Query<ReweighReport>,
    /// A merge that is given a name: its run.
    pub naming: Query<PathBuf>,
    /// Texts generated for the evaluation inputs, scored.
    pub written: Query<WriteReport>,
    pub export: Query<Vec<ExportReport>>,
    /// Studies of the mixture.
    pub studies: Studies,
    /// Experts of an opened run.
    pub inspect: Query<ExpertSnapshot>,
    /// A part of the records of some runs, for a file or the clipboard.
    pub record: Query<Table>,
    pub opening: Query<PathBuf>,
    pub deleting: Query<PathBuf>,
    /// The runs that wait.
    pub queue: Query<QueueState>,
    /// Whether the next of them starts when a run ends.
    pub queue_on: bool,
    /// The next of them is to start now; `logic` does it.
    pub queue_due: bool,
    /// A run that is written into one file.
    pub capsule: Query<PathBuf>,
    /// What was done in this window.
    pub sitting: Sitting,
    pub labelling: Query<PathBuf>,
    /// The file of a report.
    pub reporting: Query<PathBuf>,
    /// The run whose settings are in the form.
    pub form_from: Option<MadeFrom>,
    /// Which run the one being started was made from; `logic` writes it down when there is a directory.
    pub label_of_live: Option<RunLabel>,
    /// The run whose settings were asked for to go on from it.
    pub branch_asked: Option<PathBuf>,
    pub models: Query<CacheInfo>,
    /// Downloads in progress, waiting, or failed, oldest first.
    pub downloads: Vec<Download>,
    pub removing: Query<String>,
    /// The draws of the shown run, step by step.
    pub routes: Routes,
    /// The step that all views look at, where one was chosen; absent: the newest.
    pub playhead: Option<u64>,
    /// Adapted module (by index) and side whose heat maps are shown.
    pub focus: (usize, Option<Side>),
    /// The weights that the views of the shown run are about; absent: not chosen.
    chosen_weights: Option<Weights>,
    /// How busy the computer was, once a second, oldest first.
    pub machine: VecDeque<MachineSample>,
    /// Whether a file dialog is open.
    pub dialog_open: bool,
    /// The log, oldest first.
    pub log: VecDeque<LogLine>,
    /// New notices for toasts; `logic` takes them.
    pub notices: Vec<LogLine>,
    /// The newest notice; [`Session::notice`] is what the status bar shows of it.
    pub last_notice: Option<Notice>,
    /// Time of this frame, in seconds.
    pub now: f64,
    /// The settings of a run that were asked for; `logic` copies them into the form.
    pub borrowed: Query<(PathBuf, RunConfig)>,
    /// Something on disk has changed since `models` was read; `logic` reads it again.
    pub models_outdated: bool,
    /// The form's model was downloaded since the form was checked; `logic` checks it again.
    pub form_model_downloaded: bool,
    /// The changes of the form.
    pub undo: Undoer<RunConfig>,
    /// What is kept of the form beside its present values.
    pub memory: FormMemory,
    live_id: RunId,
    last_run: RunId,
    starting: Option<RequestId>,
    /// The request that adds a run to the queue.
    pub(super) adding: Option<RequestId>,
    waiting_since: Option<RunPhase>,
    next_id: u64,
}

/// What a failure of a query, and another run, mean for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryClass {
    /// A preview of the form, or the route map: its panel shows a failure.
    Form,
    /// A computation on the shown run: it can be cancelled, and its answer is dropped when another run is shown.
    Run,
    /// Runs and models on disk.
    Disk,
}

/// A query of the session: what the status bar shows while it is pending (empty: nothing), its class, and where it is.
type QueryRow = (&'static str, QueryClass, fn(&Session) -> &dyn AnyQuery, fn(&mut Session) -> &mut dyn AnyQuery);

/// Every query of the session but the studies and the overlaid runs; the status bar shows the first one that is pending.
static QUERIES: &[QueryRow] = &[
    ("Exporting", QueryClass::Run, |s| &s.export, |s| &mut s.export),
    ("Comparing", QueryClass::Run, |s| &s.compare, |s| &mut s.compare),
    ("Scoring the merge", QueryClass::Run, |s| &s.merge, |s| &mut s.merge),
    ("Writing and scoring", QueryClass::Run, |s| &s.written, |s| &mut s.written),
    ("Writing answers", QueryClass::Run, |s| &s.play, |s| &mut s.play),
    ("Reading the experts", QueryClass::Run, |s| &s.inspect, |s| &mut s.inspect),
    ("Reading the record", QueryClass::Disk, |s| &s.record, |s| &mut s.record),
    ("Writing an answer", QueryClass::Run, |s| &s.branch, |s| &mut s.branch),
    ("", QueryClass::Form, |s| &s.prompts, |s| &mut s.prompts),
    // Asked with every key: no line in the status bar.
    ("", QueryClass::Run, |s| &s.try_it, |s| &mut s.try_it),
    ("", QueryClass::Run, |s| &s.try_words, |s| &mut s.try_words),
    ("", QueryClass::Run, |s| &s.reweigh, |s| &mut s.reweigh),
    ("Naming the merge", QueryClass::Disk, |s| &s.naming, |s| &mut s.naming),
    ("Opening the run", QueryClass::Disk, |s| &s.opening, |s| &mut s.opening),
    ("Reading the settings", QueryClass::Disk, |s| &s.borrowed, |s| &mut s.borrowed),
    ("Reading the data", QueryClass::Form, |s| &s.data, |s| &mut s.data),
    ("Reading the columns", QueryClass::Form, |s| &s.columns, |s| &mut s.columns),
    ("Reading the texts", QueryClass::Form, |s| &s.texts, |s| &mut s.texts),
    ("Reading the model", QueryClass::Form, |s| &s.model, |s| &mut s.model),
    ("Checking the plan", QueryClass::Form, |s| &s.preflight, |s| &mut s.preflight),
    ("", QueryClass::Disk, |s| &s.runs, |s| &mut s.runs),
    ("Writing the report", QueryClass::Disk, |s| &s.reporting, |s| &mut s.reporting),
    ("", QueryClass::Disk, |s| &s.labelling, |s| &mut s.labelling),
    ("", QueryClass::Disk, |s| &s.deleting, |s| &mut s.deleting),
    ("", QueryClass::Disk, |s| &s.models, |s| &mut s.models),
    ("", QueryClass::Disk, |s| &s.removing, |s| &mut s.removing),
    ("", QueryClass::Disk, |s| &s.queue, |s| &mut s.queue),
    // The route map shows how far it is, and what failed.
    ("", QueryClass::Form, |s| &s.routes.reading, |s| &mut s.routes.reading),
    ("", QueryClass::Form, |s| &s.routes.fit, |s| &mut s.routes.fit),
    ("Writing the capsule", QueryClass::Disk, |s| &s.capsule, |s| &mut s.capsule),
];

impl Session {
    /// A session with these settings in its form.
    pub fn new(form: RunConfig) -> Self {
        let settings = undoer::Settings { stable_time: UNDO_PAUSE, auto_save_interval: f32::INFINITY, max_undos: 100 };
        let mut undo = Undoer::with_settings(settings);
        undo.add_undo(&form);
        // Settings of an earlier session were chosen; those of the first start are filled in.
        let fit = fitting::fitting(&form, &fitting::FittingFacts::default());
        let memory = FormMemory::new((fit == form).then_some(fit));
        Self { form, form_version: 1, undo, memory, ..Self::default() }
    }

    /// A new request number.
    pub fn next_request(&mut self) -> RequestId {
        self.next_id += 1;
        RequestId(self.next_id)
    }

    /// The run that the views show: the opened one, else the live one.
    pub fn shown(&self) -> Option<&RunView> {
        self.opened.as_ref().or(self.live.as_ref())
    }

    /// Whether the views show the run in the engine.
    pub fn shows_live(&self) -> bool {
        self.opened.is_none() && self.live.is_some()
    }

    /// The run on screen, where it was stopped or interrupted and can be resumed.
    pub fn resumable(&self) -> Option<PathBuf> {
        let listed =
            |run: &RunView| self.runs.value.iter().flatten().any(|other| other.dir == run.dir && other.resumable);
        match (&self.opened, &self.live) {
            (Some(run), _) => run.resumable.then(|| run.dir.clone()),
            (None, Some(_)) if self.phase.is_active() => None,
            (None, Some(run)) => {
                let stopped = match &run.end {
                    Some(end) => matches!(end.reason, EndReason::Stopped(_)) && end.step < run.start.total_steps,
                    None => listed(run),
                };
                stopped.then(|| run.dir.clone())
            }
            (None, None) => None,
        }
    }

    /// The newest run on disk, where it was stopped or interrupted and can be resumed.
    pub fn unfinished(&self) -> Option<&RunSummary> {
        self.runs.value.iter().flatten().next().filter(|run| run.resumable)
    }

    /// The language model that can be asked: that of the shown run if it is one, else the form's.
    pub fn writer(&self) -> Option<Writer> {
        if let (Some(run), Some(subject)) = (self.shown(), self.subject())
            && run.writes()
        {
            return Some(Writer::Run(subject));
        }
        self.form_writer()
    }

    /// The form's model, if it is a language model.
    pub fn form_writer(&self) -> Option<Writer> {
        let writes = self.model.value.as_ref().is_some_and(|info| info.writes && info.path == self.form.model.path);
        writes.then(|| Writer::Model(self.form.model.path.clone()))
    }

    /// Whether this directory is that of the run in the engine.
    pub fn is_live(&self, dir: &Path) -> bool {
        self.live.as_ref().is_some_and(|run| run.dir == dir)
    }

    /// The latest experts of the chosen weights: those sent by the engine or those of [`Session::inspect`], whichever is
    /// newer; of two of the same step, the one of the chosen module and side.
    pub fn experts(&self) -> Option<&ExpertSnapshot> {
        let asked = self.inspect.value.as_ref();
        let chosen = |snapshot: &&ExpertSnapshot| match self.weights() {
            Weights::Training => true,
            Weights::Saved(_) => self.weights_of_shown().is_none_or(|weights| weights.step == snapshot.step),
        };
        let sent = match &self.opened {
            Some(_) => None,
            None => self.live.as_ref().and_then(|run| run.experts.as_deref()).filter(chosen),
        };
        let rank = |snapshot: &ExpertSnapshot| (snapshot.step, snapshot.focus == self.focus);
        match (asked, sent) {
            (Some(asked), Some(sent)) if rank(asked) >= rank(sent) => Some(asked),
            (_, Some(sent)) => Some(sent),
            (asked, None) => asked,
        }
    }

    /// Why the engine does not answer queries.
    pub fn engine_problem(&self) -> Option<String> {
        match &self.engine {
            EngineState::Ready { .. } => None,
            EngineState::Starting => Some("the engine is still starting".to_owned()),
            EngineState::Failed(reason) => Some(format!("the engine failed: {reason}")),
        }
    }

    /// Whether a start was asked for and the engine has not answered yet.
    pub fn is_starting(&self) -> bool {
        self.starting.is_some()
    }

    /// Whether a pause, resume or step was requested and the phase has not changed yet.
    pub fn waits_for_phase(&self) -> bool {
        self.waiting_since == Some(self.phase)
    }

    /// A pause, resume or step was requested: wait for another phase.
    pub fn wait_for_phase(&mut self) {
        self.waiting_since = Some(self.phase);
    }

    /// Whether something that can be cancelled is being computed.
    pub fn job_pending(&self) -> bool {
        let study = self.studies.all().any(|(_, query)| query.pending().is_some());
        study || QUERIES.iter().any(|(_, class, get, _)| *class == QueryClass::Run && get(self).pending().is_some())
    }

    /// What is being computed and how far it is, for the status bar.
    pub fn job(&self) -> Option<(&'static str, Option<&JobProgress>)> {
        let shown = QUERIES.iter().filter(|(title, ..)| !title.is_empty());
        let queries = shown.map(|(title, _, get, _)| (*title, get(self)));
        queries.chain(self.studies.all()).find_map(|(title, query)| Some((title, query.pending()?)))
    }

    /// A new run number.
    pub fn next_run(&mut self) -> RunId {
        self.last_run.0 += 1;
        self.last_run
    }

    /// A run was started: from now on only messages of this run are taken.
    pub fn begin_run(&mut self, req: RequestId, run: RunId) {
        self.live_id = run;
        self.starting = Some(req);
        self.start_error = None;
        self.waiting_since = None;
        self.last_notice = None;
        self.phase = RunPhase::Preparing;
        self.live = None;
        self.show_opened(None);
        self.forget_run();
    }

    /// Another run is shown.
    fn forget_run(&mut self) {
        (self.chosen_weights, self.playhead) = (None, None);
        self.routes = Routes::default();
        self.forget_answers();
    }

    fn forget_answers(&mut self) {
        for (.., get_mut) in QUERIES.iter().filter(|(_, class, ..)| *class == QueryClass::Run) {
            get_mut(self).clear();
        }
        self.studies = Studies::default();
        self.tried.clear();
        self.tried_weights = None;
        self.writing.clear();
        self.branches.clear();
        (self.play_writer, self.prompts_of) = (None, None);
    }

    /// Shows a run from disk, or the live one again.
    pub fn show_opened(&mut self, run: Option<RunView>) {
        let same = self.opened.as_ref().map(|run| &run.dir) == run.as_ref().map(|run| &run.dir);
        self.opened = run;
        if !same {
            self.forget_run();
        }
    }

    /// Changes the form; changes in quick succession are undone together. `now` in seconds.
    pub fn edit_form(&mut self, form: RunConfig, now: f64) {
        if form == self.form {
            return;
        }
        self.undo.feed_state(now, &self.form);
        self.undo.feed_state(now, &form);
        self.form = form;
        self.form_version += 1;
    }

    /// Reverts the last change of the form.
    pub fn undo_form(&mut self) {
        if let Some(form) = self.undo.undo(&self.form) {
            self.form.clone_from(form);
            self.form_version += 1;
        }
    }

    /// Makes the last undone change again.
    pub fn redo_form(&mut self) {
        if let Some(form) = self.undo.redo(&self.form) {
            self.form.clone_from(form);
            self.form_version += 1;
        }
    }

    /// Adds a line to the log; warnings and errors are also notices.
    pub fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.log_about(level, text.into(), None);
    }

    /// Shows a notice without logging it.
    pub fn notify(&mut self, level: LogLevel, text: impl Into<String>) {
        self.notify_about(level, text.into(), None);
    }

    /// As [`Session::log`], about the run in this directory.
    fn log_about(&mut self, level: LogLevel, text: String, run: Option<PathBuf>) {
        if level >= LogLevel::Warning {
            self.notify_about(level, text.clone(), run);
        }
        self.log.push_back(LogLine { level, text });
        if self.log.len() > LOG_LINES {
            self.log.pop_front();
        }
    }

    /// As [`Session::notify`], about the run in this directory.
    fn notify_about(&mut self, level: LogLevel, text: String, run: Option<PathBuf>) {
        self.last_notice = Some(Notice { level, text: text.clone(), at: self.now, run });
        self.notices.push(LogLine { level, text });
    }

    /// The newest notice, unless it is old or about a run that is not on screen, and the seconds until it is old.
    pub fn notice(&self) -> Option<(&Notice, f64)> {
        let notice = self.last_notice.as_ref()?;
        let seconds = NOTICE_SECONDS[usize::from(notice.level >= LogLevel::Warning)];
        let left = notice.at + seconds - self.now;
        let here = notice.run.as_ref().is_none_or(|dir| self.shown().is_some_and(|run| run.dir == *dir));
        (left > 0.0 && here).then_some((notice, left))
    }
}
