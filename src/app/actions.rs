//! The user's commands. Buttons, menus, shortcuts and the command palette all come from here.
//!
//! A panel pushes an [`Action`] into the [`ActionQueue`]; after drawing, `logic` executes them in order.

use super::clock::XAxis;
use super::files::Purpose;
use super::run_columns::RunColumn;
use super::session::{Session, Weights};
use super::settings::Appearance;
use super::view::{Page, View};
use super::widgets::export_menu::SavedFigure;
use crate::app::studies;
use crate::config::{RunConfig, Task};
use crate::protocol::{
    MergePlan, ModelQuery, PlayPlan, QueueAsk, RequestId, RunLabel, RunPhase, Side, Subject, Writer,
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

    /// Text of the button and its tooltip.
    fn describe(&self) -> (&'static str, &'static str) {
        match self {
            // These have no button.
            Self::ListFolder(_) | Self::Chosen(..) | Self::SetReducedMotion(_) | Self::SetOwnChooser(_) => ("", ""),
            Self::EditForm(_) | Self::ReplaceForm(_) | Self::UsePath(..) | Self::Dropped(_) => ("", ""),
            Self::SetStartPage(_) | Self::ChooseTask(_) | Self::ApplyPreset(_) => ("", ""),
            Self::SetQueueOn(_) | Self::SetPace(_) | Self::SetPlayhead(_) => ("", ""),
            Self::FocusExperts(..) | Self::ChooseWeights(_) | Self::SetSmoothing(_) => ("", ""),
            Self::SetLogLoss(_) | Self::SetXAxis(..) => ("", ""),
            Self::SetMonitor(_) => ("Watch processor and memory", "Samples them once a second while they are seen"),
            Self::SetNotify(_) => ("Notify", "Asks for attention at the end of a run"),
            Self::SetRunColumns(_) => ("Columns", "Which columns the list of runs has"),
            Self::ReportRun(_) => (
                "Report…",
                "Writes settings, plots, tables, samples and certificates of this run into one HTML file that needs nothing else",
            ),
            Self::LabelRun(..) => ("Name", "Writes name, notes and tags of a run"),
            Self::NameMerge(_, _, Some(_)) => ("Keep merge", "Keeps this merge under its name in the run's directory"),
            Self::NameMerge(_, _, None) => ("Remove", "Removes this name; the run and its exports stay"),
            Self::SaveFigure(_) => ("Save", "Saves or copies a plot or a table"),
            Self::Show(_) => ("Show", "Brings this view to the front"),
            Self::ShowPage(Page::Start) => ("Start page", "What AdaMix does, and four ways to begin"),
            Self::ShowPage(Page::Help) => ("Help: views and words", "What each view shows, and the glossary"),
            Self::ClosePage => ("To the views", "Closes this page (Escape)"),
            Self::TrainLab => {
                ("Train the lab", "Fills in the settings of the bundled lab and starts: under a minute on two cores")
            }
            Self::OwnFile => ("My own file", "Opens Setup for your own data and asks for the file"),
            Self::ToggleExplanation(_) => {
                ("What you see here", "What this view shows, what is normal, what to look for")
            }
            Self::ResetLayout => ("Reset the arrangement", "Arranges the views as at the first start"),
            Self::ToggleLayouts => {
                ("Arrangements…", "Keeps arrangements of the views under names, and brings them back")
            }
            Self::SaveLayout(_) => ("Keep this arrangement", "Keeps the arrangement of the views under this name"),
            Self::UseLayout(_) => ("Take", "Arranges the views like this"),
            Self::DeleteLayout(_) => ("Delete", "Forgets this arrangement"),
            Self::AddToQueue => (
                "Add to queue",
                "Lets a run with the settings of the Setup view wait for the machine; Runs shows the queue",
            ),
            Self::RunQueue => {
                ("Run the queue", "Starts the first run that waits; the others follow one after the other")
            }
            Self::ChangeQueue(ask) => match ask {
                QueueAsk::Remove(_) => ("Remove", "Removes this run from the queue"),
                QueueAsk::Move(..) => ("Move", "Moves this run to another place in the queue"),
                QueueAsk::Retry(_) => ("Try again", "Lets this run wait again"),
                QueueAsk::List | QueueAsk::Add(_) => ("", ""),
            },
            Self::StartRun => (
                "Start",
                "Begins a new run with the settings of Setup, in a new run directory; no earlier run is continued",
            ),
            Self::Pause => ("Pause", "Pauses before the next step; nothing is lost"),
            Self::Resume => ("Continue", "Continues with the next step"),
            Self::Step => ("Step", "Makes one step and pauses again, to watch what one step does"),
            Self::Stop => ("Stop", "Writes a checkpoint and ends the run; it can be resumed later"),
            Self::FitForm => (
                "Fit to model and data",
                "Fills in learning rate, epochs, lengths and the mixture as they fit this model and these data",
            ),
            Self::UndoForm => ("Undo", "Reverts the last change of the settings"),
            Self::RedoForm => ("Redo", "Makes the last undone change again"),
            Self::CheckPlan => ("Check again", "Reads model and data again and checks whether this run can start"),
            Self::Pick(purpose) => {
                let tooltip = match purpose {
                    Purpose::Model => "Chooses a directory with config.json, model.safetensors and tokenizer.json",
                    Purpose::OpenSettings => "Fills the settings from a run.toml",
                    Purpose::Capsule => "Opens a run that was written into one file, after verifying it",
                    Purpose::SaveScript => "Writes the commands of this sitting to a file that a shell runs",
                    Purpose::SaveSettings => "Writes the settings to a file that the command line reads",
                    _ => "Chooses a path; it can also be typed or dropped here",
                };
                (purpose.button(), tooltip)
            }
            Self::RefreshRuns => ("Refresh runs", "Reads the list of runs from disk again"),
            Self::OpenRun(_) => ("Open", "Shows this run in all views without changing it"),
            Self::ShowLive => ("Back to this window's run", "Shows the run that was trained in this window again"),
            Self::ResumeRun(_) => {
                ("Resume", "Continues from the last checkpoint, exactly as if the run had never been interrupted")
            }
            Self::AskDeleteRun(_) => {
                ("Delete…", "Deletes this run with its checkpoints and exports, after a confirmation")
            }
            Self::DeleteRun(_) => ("Delete", "Permanently deletes this run with its checkpoints and exports"),
            Self::SaveCapsule(_) => (
                "Save as capsule",
                "Writes settings, curves, routes, log, best and last checkpoint into one file beside the run, to hand it on",
            ),
            Self::OpenFolder(_) => ("Open folder", "Shows this directory in the file manager"),
            Self::ToggleOverlay(_) => ("Overlay", "Draws this run's curves beside the others"),
            Self::UseSettingsOf(_) => ("Use its settings", "Copies this run's settings into Setup"),
            Self::RefreshModels => ("Refresh models", "Reads the list of models from disk again"),
            Self::DownloadModel(_) => {
                ("Download", "Downloads the model into the Hugging Face cache; files that are there already are kept")
            }
            Self::CancelDownload(_) => {
                ("Cancel", "Cancels this download; what was downloaded is kept for the next time")
            }
            Self::DismissDownload(_) => ("Dismiss", "Removes this message from the list; what was downloaded is kept"),
            Self::UseModel(_) => ("Use in Setup", "Puts this model's name into Setup"),
            Self::AskRemoveModel(_) => ("Remove…", "Removes this model from the cache, after a confirmation"),
            Self::RemoveModel(_) => ("Remove", "Permanently removes this model from the cache"),
            Self::Query(_, query) => match query {
                ModelQuery::Compare { .. } => {
                    ("Compare", "Measures merged, random routes, each single expert and the ensemble")
                }
                ModelQuery::Merge(_) => ("Score this merge", "Scores the model merged with these weights"),
                ModelQuery::Write { .. } => (
                    "Write and score",
                    "Generates answers of base model, merged model and a random route to the evaluation inputs",
                ),
                ModelQuery::Study(study) => studies::button(study),
                ModelQuery::Export(_) => {
                    ("Export", "Writes the files, reads them back and checks that they give the same outputs")
                }
                ModelQuery::Inspect { .. } => ("Read the weights", "Reads the experts' weights"),
                ModelQuery::Try(_) => ("Ask again", "Reads the text again with the weights as they are now"),
                ModelQuery::TryWords(_) => ("Measure the words", "Leaves out each word once"),
                ModelQuery::Reweigh(_) => (
                    "Score the probe set",
                    "Scores the probe set under these weights, from the layers below that are kept",
                ),
            },
            Self::Play(..) => ("Write", "Generates an answer to the prompt in every chosen pane, with the same seed"),
            Self::Branch(_) => ("Go on", "Keeps the answer up to here and writes how it goes on"),
            Self::RemoveBranch(_) => ("Remove", "Removes this answer"),
            Self::CancelJob => ("Cancel", "Cancels what is being computed"),
            Self::Copy(_) => ("Copy", "Copies this text to the clipboard"),
            Self::SetAppearance(appearance) => {
                let text = match appearance {
                    Appearance::Light => "Light colours",
                    Appearance::Dark => "Dark colours",
                    Appearance::System => "Colours as the system",
                };
                (text, "Changes the window's colours")
            }
            Self::TogglePalette => ("Command palette", "Finds any action by a part of its name"),
            Self::ToggleSettings => ("Window settings", "Colours, size, smoothing"),
            Self::ToggleShortcuts => ("Keyboard shortcuts", "Lists all keyboard shortcuts"),
            Self::ToggleAbout => ("About AdaMix workbench", "Version and licences"),
            Self::ToggleFullScreen => ("Full screen", "Switches between full screen and a window"),
            Self::TogglePresenter => (
                "Presenter mode",
                "One view large, with the shortcuts below it and a training slow enough to be watched; Esc leaves",
            ),
            Self::ToggleScript => {
                ("This sitting as a script…", "What was done in this window, as commands in order, to copy or to save")
            }
            Self::Quit => ("Quit", "Closes the window"),
            Self::CheckpointAndQuit => {
                ("Checkpoint and quit", "Stops at the next step, writes a checkpoint, then closes the window")
            }
            Self::QuitNow => ("Quit without checkpoint", "Closes at once; steps since the last checkpoint are lost"),
            Self::CloseDialog => ("Close", "Closes this dialog"),
        }
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
            Self::UseSettingsOf(_) if session.engine_problem().is_some() => return session.engine_problem(),
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
