//! The user's commands. Buttons, menus, shortcuts and the command palette all come from here.
//!
//! A panel pushes an [`Action`] into the [`ActionQueue`]; after drawing, `logic` executes them in order.

mod words;

use super::clock::XAxis;
use super::files::Purpose;
use super::run_columns::RunColumn;
use super::session::{Session, Weights};
use super::settings::Appearance;
use super::view::{Page, View};
use super::widgets::export_menu::SavedFigure;
use crate::config::{Method, RoutingLaw, RunConfig, Task};
use crate::protocol::{
    Checkpoint, MergePlan, ModelQuery, PlayPlan, QueueAsk, RequestId, RunLabel, RunPhase, Side, Subject, Writer,
};
use egui::{Key, KeyboardShortcut, Modifiers};
use std::cell::RefCell;
use std::path::PathBuf;

/// A command of the user.
#[expect(missing_docs, reason = "the tooltips say what each does")]
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Show(View),
    ShowPage(Page),
    ClosePage,
    /// Fill in the lab's settings and start.
    TrainLab,
    /// Set up a training with a file of the user's.
    OwnFile,
    SetStartPage(bool),
    /// Pictures stand still.
    SetReducedMotion(bool),
    /// The window's own file chooser instead of the desktop's.
    SetOwnChooser(bool),
    /// Show or close what a view shows.
    ToggleExplanation(View),
    ResetLayout,
    /// Arrangements of the views that were kept under a name.
    ToggleLayouts,
    SaveLayout(String),
    UseLayout(String),
    DeleteLayout(String),
    StartRun,
    AddToQueue,
    RunQueue,
    ChangeQueue(QueueAsk),
    /// Whether the next waiting run starts when a run ends.
    SetQueueOn(bool),
    Pause,
    Resume,
    Step,
    Stop,
    /// Draw by this law from the next step on.
    ChangeLaw(RoutingLaw),
    /// Replace the settings of the form.
    EditForm(Box<RunConfig>),
    /// Replace the settings of the form by those of a run or a file.
    ReplaceForm(Box<RunConfig>),
    /// Choose a task; what belongs to the old one is kept aside.
    ChooseTask(Task),
    /// Fill in the settings of a known run, by name.
    ApplyPreset(String),
    FitForm,
    UndoForm,
    RedoForm,
    CheckPlan,
    /// Open a file dialog.
    Pick(Purpose),
    /// Ask for what is at a path, for the window's own file chooser.
    ListFolder(PathBuf),
    /// A path was chosen in the window's own file chooser.
    Chosen(Purpose, PathBuf),
    /// A path was chosen, typed or dropped.
    UsePath(Purpose, PathBuf),
    /// Something was dropped onto the window.
    Dropped(PathBuf),
    RefreshRuns,
    OpenRun(PathBuf),
    /// Return from an opened run to the one in the engine.
    ShowLive,
    ResumeRun(PathBuf),
    AskDeleteRun(PathBuf),
    DeleteRun(PathBuf),
    /// Write a run into one file beside its directory.
    SaveCapsule(PathBuf),
    /// Show a directory in the desktop's file manager.
    OpenFolder(PathBuf),
    ToggleOverlay(PathBuf),
    /// Write a report of a run.
    ReportRun(PathBuf),
    /// Name, notes and tags of a run.
    LabelRun(PathBuf, Box<RunLabel>),
    /// Give a merge of a run a name; without a merge the name is removed.
    NameMerge(PathBuf, String, Option<MergePlan>),
    /// Sample processor and memory.
    SetMonitor(bool),
    /// Ask for attention at the end of a run.
    SetNotify(bool),
    /// Columns of the list of runs.
    SetRunColumns(Vec<RunColumn>),
    UseSettingsOf(PathBuf),
    /// Copy its settings into the form; the next run goes on from one of its checkpoints.
    BranchRun(PathBuf),
    /// The checkpoint that the next run goes on from; absent: it begins anew.
    SetBranch(Option<Checkpoint>),
    RefreshModels,
    DownloadModel(String),
    CancelDownload(RequestId),
    DismissDownload(RequestId),
    UseModel(String),
    AskRemoveModel(String),
    RemoveModel(String),
    /// Ask about the weights of a run.
    Query(Subject, ModelQuery),
    /// Answer a prompt with several variants of a model.
    Play(Writer, Box<PlayPlan>),
    /// Go on from a place in an answer.
    Branch(Box<PlayPlan>),
    /// Remove the what-if answer with this number.
    RemoveBranch(usize),
    /// Choose the adapted module (by index) and side whose heat maps are shown.
    FocusExperts(usize, Side),
    /// Choose the weights that the views of the shown run are about.
    ChooseWeights(Weights),
    /// The step that all views look at; absent: the newest.
    SetPlayhead(Option<u64>),
    CancelJob,
    /// Copy text to the clipboard.
    Copy(String),
    /// Save or copy a plot or a table.
    SaveFigure(Box<SavedFigure>),
    /// What the x-axis of curves over time counts, and whether it is logarithmic.
    SetXAxis(XAxis, bool),
    /// Smoothing of the curves: half-life in steps.
    SetSmoothing(f64),
    SetLogLoss(bool),
    SetAppearance(Appearance),
    TogglePalette,
    ToggleSettings,
    ToggleShortcuts,
    ToggleAbout,
    ToggleFullScreen,
    TogglePresenter,
    /// Steps a second at most; 0: as many as possible.
    SetPace(u32),
    /// This sitting as a script.
    ToggleScript,
    Quit,
    CheckpointAndQuit,
    QuitNow,
    CloseDialog,
}

const CTRL: Modifiers = Modifiers::COMMAND;
const fn key(modifiers: Modifiers, key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(modifiers, key))
}

impl Action {
    /// Every action without arguments: the entries of the command palette and the shortcuts.
    pub fn palette() -> Vec<Self> {
        let views = View::ALL.into_iter().map(Self::Show);
        let rest = [
            Self::ShowPage(Page::Start),
            Self::ShowPage(Page::Help),
            Self::TrainLab,
            Self::OwnFile,
            Self::StartRun,
            Self::AddToQueue,
            Self::RunQueue,
            Self::Pause,
            Self::Resume,
            Self::Step,
            Self::Stop,
            Self::CheckPlan,
            Self::FitForm,
            Self::UndoForm,
            Self::RedoForm,
            Self::Pick(Purpose::Model),
            Self::Pick(Purpose::DataDir),
            Self::Pick(Purpose::TrainFile),
            Self::Pick(Purpose::DevFile),
            Self::Pick(Purpose::Run),
            Self::Pick(Purpose::Capsule),
            Self::Pick(Purpose::OpenSettings),
            Self::Pick(Purpose::SaveSettings),
            Self::RefreshRuns,
            Self::RefreshModels,
            Self::ShowLive,
            Self::CancelJob,
            Self::SetAppearance(Appearance::Light),
            Self::SetAppearance(Appearance::Dark),
            Self::SetAppearance(Appearance::System),
            Self::ResetLayout,
            Self::ToggleLayouts,
            Self::ToggleScript,
            Self::TogglePresenter,
            Self::TogglePalette,
            Self::ToggleSettings,
            Self::ToggleShortcuts,
            Self::ToggleAbout,
            Self::ToggleFullScreen,
            Self::Quit,
        ];
        views.chain(rest).collect()
    }

    /// Text of the button.
    pub fn text(&self) -> String {
        match self {
            Self::Show(view) => format!("Show {}", view.title()),
            action => action.describe().0.to_owned(),
        }
    }

    /// What the action does, in a sentence.
    pub fn tooltip(&self) -> &'static str {
        self.describe().1
    }

    /// The keyboard shortcut.
    pub fn shortcut(&self) -> Option<KeyboardShortcut> {
        match self {
            Self::Show(view) => key(CTRL, view.digit()),
            Self::StartRun => key(CTRL, Key::Enter),
            Self::AddToQueue => key(CTRL.plus(Modifiers::SHIFT), Key::Enter),
            Self::TogglePresenter => key(CTRL.plus(Modifiers::SHIFT), Key::P),
            Self::Pause | Self::Resume => key(Modifiers::NONE, Key::Space),
            Self::Step => key(Modifiers::NONE, Key::ArrowRight),
            Self::Stop => key(CTRL, Key::Period),
            Self::UndoForm => key(CTRL, Key::Z),
            Self::RedoForm => key(CTRL.plus(Modifiers::SHIFT), Key::Z),
            Self::Pick(Purpose::Run) => key(CTRL, Key::O),
            Self::Pick(Purpose::SaveSettings) => key(CTRL, Key::S),
            Self::RefreshRuns => key(Modifiers::NONE, Key::F5),
            Self::TogglePalette => key(CTRL, Key::K),
            Self::ToggleSettings => key(CTRL, Key::Comma),
            Self::ToggleShortcuts => key(Modifiers::NONE, Key::F1),
            Self::ToggleFullScreen => key(Modifiers::NONE, Key::F11),
            Self::Quit => key(CTRL, Key::Q),
            _ => None,
        }
    }

    /// The keyboard shortcut in words.
    pub fn keys(&self, ctx: &egui::Context) -> Option<String> {
        self.shortcut().map(|keys| ctx.format_shortcut(&keys))
    }

    /// Whether the action is possible now; otherwise the reason.
    pub fn enabled(&self, session: &Session) -> Result<(), String> {
        self.refusal(session).map_or(Ok(()), Err)
    }

    fn refusal(&self, session: &Session) -> Option<String> {
        let phase = session.phase;
        let training = matches!(phase, RunPhase::Training | RunPhase::Evaluating);
        let paused = phase == RunPhase::Paused;
        let reason = match self {
            Self::StartRun => return session.start_problems().into_iter().next(),
            Self::TrainLab if session.engine_problem().is_some() => return session.engine_problem(),
            Self::TrainLab if phase.is_active() || session.is_starting() => "a run is in training; stop it first",
            Self::AddToQueue => return session.queue_problems().into_iter().next(),
            Self::RunQueue if session.engine_problem().is_some() => return session.engine_problem(),
            Self::RunQueue if phase.is_active() => "a run is in training; the next one follows when it ends",
            Self::RunQueue if session.queue.value.as_ref().is_none_or(|queue| queue.waiting() == 0) => {
                "no run is waiting; Add to queue in Setup adds one"
            }
            Self::SaveCapsule(_) if session.capsule.is_pending() => "a capsule is being written",
            Self::Pick(Purpose::SaveScript) if session.sitting.is_empty() => "nothing was done in this window yet",
            Self::DownloadModel(id) => return session.download_problem(id),
            Self::UseModel(id) => return session.stored_model(id)?.problem.clone(),
            Self::Pause if paused => "already paused",
            Self::Resume | Self::Step if training => "pause first",
            Self::Pause | Self::Resume | Self::Step if training || paused => {
                return session.waits_for_phase().then(|| "waiting for the current step to end".to_owned());
            }
            Self::ChangeLaw(_) if phase.is_active() => {
                let method = session.live.as_ref().map(|run| run.config.model.method);
                return (method != Some(Method::Adamix)).then(|| "this run has no experts to draw".to_owned());
            }
            Self::ChangeLaw(_) => "no run is in training",
            Self::Stop if phase == RunPhase::Stopping => "already stopping",
            Self::Stop if phase.is_active() => return None,
            Self::Pause | Self::Resume | Self::Step | Self::Stop => "no run is in training",
            Self::ResumeRun(_) if session.engine_problem().is_some() => return session.engine_problem(),
            Self::ResumeRun(_) if phase.is_active() => "another run is in training; stop it first",
            Self::AskDeleteRun(dir) | Self::DeleteRun(dir) if session.is_live(dir) && phase.is_active() => {
                "this run is in training; stop it first"
            }
            Self::Play(..) | Self::Branch(_) if session.play.is_pending() || session.branch.is_pending() => {
                "answers are being written"
            }
            Self::Branch(_) if session.play_writer.is_none() => "the model that wrote it is not there any more",
            Self::Play(_, plan) if plan.panes.is_empty() => "no pane is chosen",
            Self::Query(_, query) => match query {
                ModelQuery::Compare { .. } if session.compare.is_pending() => "a comparison is being computed",
                ModelQuery::Write { .. } if session.written.is_pending() => "texts are being written",
                ModelQuery::Study(study) => session.studies.refusal(study)?,
                ModelQuery::Merge(_) if session.merge.is_pending() => "a merge is being scored",
                ModelQuery::Export(_) if session.export.is_pending() => "an export is being written",
                _ => return None,
            },
            Self::AskRemoveModel(id) | Self::RemoveModel(id) if session.is_fetching(id) => {
                "it is being downloaded; cancel that first"
            }
            Self::CancelJob if !session.job_pending() => "nothing is being computed",
            Self::UseSettingsOf(_) | Self::BranchRun(_) if session.engine_problem().is_some() => {
                return session.engine_problem();
            }
            Self::ShowLive if session.opened.is_none() || session.live.is_none() => "no other run is opened",
            Self::UndoForm if !session.undo.has_undo(&session.form) => "nothing to undo",
            Self::RedoForm if !session.undo.has_redo(&session.form) => "nothing to redo",
            Self::ReportRun(_) if session.reporting.is_pending() => "a report is being written",
            Self::ReportRun(_) if session.dialog_open => "a file dialog is open",
            Self::SaveFigure(saved) if saved.save_as.is_file() && session.dialog_open => "a file dialog is open",
            Self::Pick(_) if session.dialog_open => "a file dialog is open",
            _ => return None,
        };
        Some(reason.to_owned())
    }
}

/// Actions of this frame, in order.
#[derive(Default)]
pub struct ActionQueue {
    queue: RefCell<Vec<Action>>,
}

impl ActionQueue {
    /// Adds an action.
    pub fn push(&self, action: Action) {
        self.queue.borrow_mut().push(action);
    }
    /// Takes all actions.
    pub fn take(&self) -> Vec<Action> {
        std::mem::take(&mut self.queue.borrow_mut())
    }
}
