//! The state that all views read. Only `logic` changes it. Messages of other runs are dropped here.

mod apply;
mod models;

pub use models::Download;

use super::query::{AnyQuery, JobProgress, Query};
use super::run_view::RunView;
use crate::config::RunConfig;
use crate::protocol::*;
use egui::util::undoer::{self, Undoer};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

/// Log lines kept.
const LOG_LINES: usize = 2000;
/// Scored merges kept.
const TRIED: usize = 100;
/// Changes closer together than this, in seconds, are undone together.
const UNDO_PAUSE: f32 = 0.8;

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
    /// Answers to a prompt.
    pub play: Query<PlayReport>,
    /// The answers as far as they are generated, one per pane.
    pub writing: Vec<String>,
    /// Texts generated for the evaluation inputs, scored.
    pub written: Query<WriteReport>,
    pub export: Query<Vec<ExportReport>>,
    /// Three averages of the experts.
    pub averages: Query<AveragesReport>,
    /// Rounding of the number formats.
    pub rounding: Query<RoundingReport>,
    /// Experts of an opened run.
    pub inspect: Query<ExpertSnapshot>,
    pub opening: Query<PathBuf>,
    pub deleting: Query<PathBuf>,
    pub models: Query<CacheInfo>,
    /// Downloads in progress, waiting, or failed, oldest first.
    pub downloads: Vec<Download>,
    pub removing: Query<String>,
    /// Adapted module (by index) and side whose heat maps are shown.
    pub focus: (usize, Option<Side>),
    /// Whether a file dialog is open.
    pub dialog_open: bool,
    /// The log, oldest first.
    pub log: VecDeque<LogLine>,
    /// New notices for toasts; `logic` takes them.
    pub notices: Vec<LogLine>,
    /// The newest notice, for the status bar.
    pub last_notice: Option<LogLine>,
    /// Something on disk has changed since `models` was read; `logic` reads it again.
    pub models_outdated: bool,
    /// The form's model was downloaded since the form was checked; `logic` checks it again.
    pub form_model_downloaded: bool,
    /// The changes of the form.
    pub undo: Undoer<RunConfig>,
    live_id: RunId,
    last_run: RunId,
    starting: Option<RequestId>,
    waiting_since: Option<RunPhase>,
    next_id: u64,
}

/// What a failure of a query, and another run, mean for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryClass {
    /// A preview of the form: its panel shows a failure.
    Form,
    /// A computation on the shown run: it can be cancelled, and its answer is dropped when another run is shown.
    Run,
    /// Runs and models on disk.
    Disk,
}

/// A query of the session: what the status bar shows while it is pending (empty: nothing), its class, and where it is.
type QueryRow = (&'static str, QueryClass, fn(&Session) -> &dyn AnyQuery, fn(&mut Session) -> &mut dyn AnyQuery);

/// Every query of the session but the overlaid runs; the status bar shows the first one that is pending.
static QUERIES: [QueryRow; 17] = [
    ("Exporting", QueryClass::Run, |s| &s.export, |s| &mut s.export),
    ("Comparing", QueryClass::Run, |s| &s.compare, |s| &mut s.compare),
    ("Scoring the merge", QueryClass::Run, |s| &s.merge, |s| &mut s.merge),
    ("Writing and scoring", QueryClass::Run, |s| &s.written, |s| &mut s.written),
    ("Writing answers", QueryClass::Run, |s| &s.play, |s| &mut s.play),
    ("Averaging the experts", QueryClass::Run, |s| &s.averages, |s| &mut s.averages),
    ("Rounding weights", QueryClass::Run, |s| &s.rounding, |s| &mut s.rounding),
    ("Reading the experts", QueryClass::Run, |s| &s.inspect, |s| &mut s.inspect),
    ("Opening the run", QueryClass::Disk, |s| &s.opening, |s| &mut s.opening),
    ("Reading the data", QueryClass::Form, |s| &s.data, |s| &mut s.data),
    ("Reading the texts", QueryClass::Form, |s| &s.texts, |s| &mut s.texts),
    ("Reading the model", QueryClass::Form, |s| &s.model, |s| &mut s.model),
    ("Checking the plan", QueryClass::Form, |s| &s.preflight, |s| &mut s.preflight),
    ("", QueryClass::Disk, |s| &s.runs, |s| &mut s.runs),
    ("", QueryClass::Disk, |s| &s.deleting, |s| &mut s.deleting),
    ("", QueryClass::Disk, |s| &s.models, |s| &mut s.models),
    ("", QueryClass::Disk, |s| &s.removing, |s| &mut s.removing),
];

impl Session {
    /// A session with these settings in its form.
    pub fn new(form: RunConfig) -> Self {
        let settings = undoer::Settings { stable_time: UNDO_PAUSE, auto_save_interval: f32::INFINITY, max_undos: 100 };
        let mut undo = Undoer::with_settings(settings);
        undo.add_undo(&form);
        Self { form, form_version: 1, undo, ..Self::default() }
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

    /// Whose weights the views' queries are about; absent: there is no run.
    pub fn subject(&self) -> Option<Subject> {
        match (&self.opened, &self.live) {
            (Some(run), _) => Some(Subject::Saved { dir: run.dir.clone(), checkpoint: Checkpoint::Best }),
            (None, Some(_)) => Some(Subject::Live),
            (None, None) => None,
        }
    }

    /// Whether this directory is that of the run in the engine.
    pub fn is_live(&self, dir: &Path) -> bool {
        self.live.as_ref().is_some_and(|run| run.dir == dir)
    }

    /// The latest experts of the shown run: those sent during training or those of [`Session::inspect`], whichever is
    /// newer; of two of the same step, the one of the chosen module and side.
    pub fn experts(&self) -> Option<&ExpertSnapshot> {
        let asked = self.inspect.value.as_ref();
        let sent = match &self.opened {
            Some(_) => None,
            None => self.live.as_ref().and_then(|run| run.experts.as_deref()),
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

    /// Every reason why a run cannot start now; empty: it can.
    pub fn start_problems(&self) -> Vec<String> {
        let mut found: Vec<String> = self.engine_problem().into_iter().collect();
        if self.phase.is_active() || self.starting.is_some() {
            found.push("a run is in training; stop it first".to_owned());
        }
        found.extend(self.form.problems());
        if self.preflight_version == self.form_version
            && let Some(report) = &self.preflight.value
            && !self.preflight.is_pending()
        {
            for problem in &report.problems {
                if !found.contains(problem) {
                    found.push(problem.clone());
                }
            }
        }
        found
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
        QUERIES.iter().any(|(_, class, get, _)| *class == QueryClass::Run && get(self).pending().is_some())
    }

    /// What is being computed and how far it is, for the status bar.
    pub fn job(&self) -> Option<(&'static str, Option<&JobProgress>)> {
        let mut shown = QUERIES.iter().filter(|(title, ..)| !title.is_empty());
        shown.find_map(|(title, _, get, _)| Some((*title, get(self).pending()?)))
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
        self.phase = RunPhase::Preparing;
        self.live = None;
        self.show_opened(None);
        self.forget_answers();
    }

    fn forget_answers(&mut self) {
        for (.., get_mut) in QUERIES.iter().filter(|(_, class, ..)| *class == QueryClass::Run) {
            get_mut(self).clear();
        }
        self.tried.clear();
        self.writing.clear();
    }

    /// Shows a run from disk, or the live one again.
    pub fn show_opened(&mut self, run: Option<RunView>) {
        let same = self.opened.as_ref().map(|run| &run.dir) == run.as_ref().map(|run| &run.dir);
        self.opened = run;
        if !same {
            self.forget_answers();
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
        let text = text.into();
        if level >= LogLevel::Warning {
            self.notify(level, text.clone());
        }
        self.log.push_back(LogLine { level, text });
        if self.log.len() > LOG_LINES {
            self.log.pop_front();
        }
    }

    /// Shows a notice without logging it.
    pub fn notify(&mut self, level: LogLevel, text: impl Into<String>) {
        let notice = LogLine { level, text: text.into() };
        self.last_notice = Some(notice.clone());
        self.notices.push(notice);
    }
}
