//! What the user can ask for. Buttons, menus, shortcuts and the command palette all come from here.
//!
//! A panel pushes an [`Action`] into the [`ActionQueue`]; after drawing, `logic` carries all of them out in order.

use super::files::Purpose;
use super::layout::View;
use super::session::Session;
use super::settings::Appearance;
use crate::config::RunConfig;
use crate::protocol::{ExportPlan, MergePlan, PlayPlan, RequestId, RunPhase, Side, Study, Subject, Writer};
use egui::{Key, KeyboardShortcut, Modifiers};
use std::cell::RefCell;
use std::path::PathBuf;

/// One wish of the user.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Bring a view to the front.
    Show(View),
    /// Arrange the views as at the first start.
    ResetLayout,
    /// Train with the settings of the form.
    StartRun,
    /// Hold before the next step.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Make one step, then hold again.
    Step,
    /// Write a checkpoint and end the run.
    Stop,
    /// Replace the settings of the form.
    EditForm(Box<RunConfig>),
    /// Take back the last change of the form.
    UndoForm,
    /// Do the last undone change of the form again.
    RedoForm,
    /// Read model and data afresh and check the plan.
    CheckPlan,
    /// Ask for a path.
    Pick(Purpose),
    /// A path was chosen, typed or dropped.
    UsePath(Purpose, PathBuf),
    /// Something was dropped onto the window.
    Dropped(PathBuf),
    /// Read the list of runs.
    RefreshRuns,
    /// Show a run from its directory.
    OpenRun(PathBuf),
    /// Go back from an opened run to the one in the engine.
    ShowLive,
    /// Go on with a stopped run.
    ResumeRun(PathBuf),
    /// Ask before deleting a run.
    AskDeleteRun(PathBuf),
    /// Delete a run for good.
    DeleteRun(PathBuf),
    /// Show or hide a run's curves beside the others.
    ToggleOverlay(PathBuf),
    /// Take over an opened run's settings into the form.
    UseSettingsOf(PathBuf),
    /// Read the list of models on disk.
    RefreshModels,
    /// Fetch a model by its name.
    DownloadModel(String),
    /// Give up a download.
    CancelDownload(RequestId),
    /// Take the note about a download that failed off the list.
    DismissDownload(RequestId),
    /// Put a model's name into the form.
    UseModel(String),
    /// Ask before removing a model.
    AskRemoveModel(String),
    /// Remove a model for good.
    RemoveModel(String),
    /// Merged against random routes, fixed experts and ensemble.
    Compare(Subject, usize),
    /// Score a merge with these weights.
    Merge(Subject, MergePlan),
    /// Write, reload and prove.
    Export(Subject, ExportPlan),
    /// Look into the experts of a saved run.
    Inspect(Subject, usize, Side),
    /// Let the model write for so many evaluation inputs (0: all), and score it.
    WriteAndScore(Subject, usize),
    /// Average the experts in three ways, or measure what number formats cost.
    Study(Subject, Study),
    /// Let several ways of running a model answer a prompt.
    Play(Writer, Box<PlayPlan>),
    /// Choose the site and side whose heat maps are shown.
    FocusExperts(usize, Side),
    /// Give up the question in work.
    CancelJob,
    /// Put text on the clipboard.
    Copy(String),
    /// Smoothing of the curves: half-life in steps.
    SetSmoothing(f64),
    /// Logarithmic loss axis.
    SetLogLoss(bool),
    /// Light, dark, or as the system says.
    SetAppearance(Appearance),
    /// Open or close the command palette.
    TogglePalette,
    /// Open or close the window's settings.
    ToggleSettings,
    /// Open or close the list of shortcuts.
    ToggleShortcuts,
    /// Open or close the window about this program.
    ToggleAbout,
    /// Fill the screen, or not.
    ToggleFullScreen,
    /// Close the window; asks while training.
    Quit,
    /// Write a checkpoint, then close.
    CheckpointAndQuit,
    /// Close at once; what was trained since the last checkpoint is lost.
    QuitNow,
    /// Close the open dialog.
    CloseDialog,
}

const CTRL: Modifiers = Modifiers::COMMAND;
const fn key(modifiers: Modifiers, key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(modifiers, key))
}

impl Action {
    /// Every action that needs nothing but a click: the command palette and the shortcuts.
    pub fn palette() -> Vec<Self> {
        let views = View::ALL.into_iter().map(Self::Show);
        let rest = [
            Self::StartRun,
            Self::Pause,
            Self::Resume,
            Self::Step,
            Self::Stop,
            Self::CheckPlan,
            Self::UndoForm,
            Self::RedoForm,
            Self::Pick(Purpose::Model),
            Self::Pick(Purpose::DataDir),
            Self::Pick(Purpose::TrainFile),
            Self::Pick(Purpose::DevFile),
            Self::Pick(Purpose::Run),
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
            Self::TogglePalette,
            Self::ToggleSettings,
            Self::ToggleShortcuts,
            Self::ToggleAbout,
            Self::ToggleFullScreen,
            Self::Quit,
        ];
        views.chain(rest).collect()
    }

    /// Words of the button.
    pub fn text(&self) -> String {
        let text = match self {
            Self::Show(view) => return format!("Show {}", view.title()),
            Self::ResetLayout => "Reset the arrangement",
            Self::StartRun => "Start",
            Self::Pause => "Pause",
            Self::Resume => "Continue",
            Self::Step => "Step",
            Self::Stop => "Stop",
            Self::EditForm(_) => "Change settings",
            Self::UndoForm => "Undo",
            Self::RedoForm => "Redo",
            Self::CheckPlan => "Check again",
            Self::Pick(Purpose::Model) => "Model directory…",
            Self::Pick(Purpose::DataDir) => "Data directory…",
            Self::Pick(Purpose::TrainFile) => "Training file…",
            Self::Pick(Purpose::DevFile) => "Evaluation file…",
            Self::Pick(Purpose::Run) => "Open run…",
            Self::Pick(Purpose::RunsDir) => "Directory of runs…",
            Self::Pick(Purpose::ExportDir) => "Export directory…",
            Self::Pick(Purpose::OpenSettings) => "Open run file…",
            Self::Pick(Purpose::SaveSettings) => "Save run file…",
            Self::UsePath(..) => "Use this path",
            Self::Dropped(_) => "Use what was dropped",
            Self::RefreshRuns => "Refresh runs",
            Self::OpenRun(_) => "Open",
            Self::ShowLive => "Back to the live run",
            Self::ResumeRun(_) => "Resume",
            Self::AskDeleteRun(_) => "Delete…",
            Self::DeleteRun(_) => "Delete",
            Self::ToggleOverlay(_) => "Overlay",
            Self::UseSettingsOf(_) => "Use its settings",
            Self::RefreshModels => "Refresh models",
            Self::DownloadModel(_) => "Download",
            Self::CancelDownload(_) => "Cancel",
            Self::DismissDownload(_) => "Dismiss",
            Self::UseModel(_) => "Use in Setup",
            Self::AskRemoveModel(_) => "Remove…",
            Self::RemoveModel(_) => "Remove",
            Self::Compare(..) => "Compare",
            Self::Merge(..) => "Score this merge",
            Self::WriteAndScore(..) => "Write and score",
            Self::Play(..) => "Write",
            Self::Study(_, Study::Averages) => "Average three ways",
            Self::Study(_, Study::Rounding(_)) => "Measure the rounding",
            Self::Export(..) => "Export",
            Self::Inspect(..) => "Look inside",
            Self::FocusExperts(..) => "Show this site",
            Self::CancelJob => "Cancel",
            Self::Copy(_) => "Copy",
            Self::SetSmoothing(_) => "Smoothing",
            Self::SetLogLoss(_) => "Logarithmic loss",
            Self::SetAppearance(Appearance::Light) => "Light colours",
            Self::SetAppearance(Appearance::Dark) => "Dark colours",
            Self::SetAppearance(Appearance::System) => "Colours as the system",
            Self::TogglePalette => "Command palette",
            Self::ToggleSettings => "Window settings",
            Self::ToggleShortcuts => "Keyboard shortcuts",
            Self::ToggleAbout => "About AdaMix workbench",
            Self::ToggleFullScreen => "Full screen",
            Self::Quit => "Quit",
            Self::CheckpointAndQuit => "Checkpoint and quit",
            Self::QuitNow => "Quit without checkpoint",
            Self::CloseDialog => "Close",
        };
        text.to_owned()
    }

    /// What it does, in a sentence.
    pub fn tooltip(&self) -> &'static str {
        match self {
            Self::Show(_) => "Brings this view to the front",
            Self::ResetLayout => "Arranges the views as at the first start",
            Self::StartRun => "Trains with the settings of the Setup view and writes a new run directory",
            Self::Pause => "Holds before the next step; nothing is lost",
            Self::Resume => "Goes on with the next step",
            Self::Step => "Makes one step and holds again, to watch what one step does",
            Self::Stop => "Writes a checkpoint and ends the run; it can be resumed later",
            Self::EditForm(_) => "Changes the settings of the next run",
            Self::UndoForm => "Takes back the last change of the settings",
            Self::RedoForm => "Does the last undone change again",
            Self::CheckPlan => "Reads model and data afresh and checks whether this run can start",
            Self::Pick(Purpose::OpenSettings) => "Fills the settings from a run.toml",
            Self::Pick(Purpose::SaveSettings) => "Writes the settings to a file that the command line reads",
            Self::Pick(Purpose::Model) => "Chooses a directory with config.json, model.safetensors and tokenizer.json",
            Self::Pick(_) | Self::UsePath(..) | Self::Dropped(_) => {
                "Chooses a path; it can also be typed or dropped here"
            }
            Self::RefreshRuns => "Reads the list of runs from disk again",
            Self::OpenRun(_) => "Shows this run in all views without changing it",
            Self::ShowLive => "Shows the run in the engine again",
            Self::ResumeRun(_) => "Goes on from the last checkpoint, exactly as if it had never been interrupted",
            Self::AskDeleteRun(_) => "Deletes this run with its checkpoints and exports, after a question",
            Self::DeleteRun(_) => "Deletes this run with its checkpoints and exports for good",
            Self::ToggleOverlay(_) => "Draws this run's curves beside the others",
            Self::UseSettingsOf(_) => "Copies this run's settings into Setup",
            Self::RefreshModels => "Reads the list of models from disk again",
            Self::DownloadModel(_) => {
                "Fetches the model into the Hugging Face cache; what is there already is not fetched again"
            }
            Self::CancelDownload(_) => "Gives up this download; what was fetched is kept for the next time",
            Self::DismissDownload(_) => "Takes this note off the list; what was fetched is kept",
            Self::UseModel(_) => "Puts this model's name into Setup",
            Self::AskRemoveModel(_) => "Removes this model from the cache, after a question",
            Self::RemoveModel(_) => "Removes this model from the cache for good",
            Self::Compare(..) => "Measures merged, random routes, each fixed expert and the ensemble",
            Self::WriteAndScore(..) => "Lets base model, merged model and a random route answer the evaluation inputs",
            Self::Play(..) => "Lets every chosen pane answer the prompt, with the same seed",
            Self::Study(_, Study::Averages) => {
                "Measures the averages of the experts' factors, of their products and of their answers"
            }
            Self::Study(_, Study::Rounding(_)) => {
                "Rounds the weights in memory as the chosen exports would store them, and measures what that changes"
            }
            Self::Merge(..) => "Scores the model merged with these weights",
            Self::Export(..) => "Writes the files, loads them afresh and proves that they do the same",
            Self::Inspect(..) => "Reads the experts' weights",
            Self::FocusExperts(..) => "Shows the weights of this site",
            Self::CancelJob => "Gives up what is being computed",
            Self::Copy(_) => "Puts this text on the clipboard",
            Self::SetSmoothing(_) => "How many steps it takes until half of a step's weight is forgotten",
            Self::SetLogLoss(_) => "Logarithmic value axis",
            Self::SetAppearance(_) => "Changes the window's colours",
            Self::TogglePalette => "Finds any action by typing a part of its name",
            Self::ToggleSettings => "Colours, size, smoothing",
            Self::ToggleShortcuts => "Lists all keyboard shortcuts",
            Self::ToggleAbout => "Version and licences",
            Self::ToggleFullScreen => "Fills the screen, or goes back to a window",
            Self::Quit => "Closes the window",
            Self::CheckpointAndQuit => "Stops at the next step, writes a checkpoint, then closes the window",
            Self::QuitNow => "Closes at once; steps since the last checkpoint are lost",
            Self::CloseDialog => "Closes this dialog",
        }
    }

    /// The keys that do it.
    pub fn shortcut(&self) -> Option<KeyboardShortcut> {
        match self {
            Self::Show(view) => key(CTRL, view.digit()),
            Self::StartRun => key(CTRL, Key::Enter),
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

    /// Whether it can be done now; otherwise the reason, in words.
    pub fn enabled(&self, session: &Session) -> Result<(), String> {
        let phase = session.phase;
        let no_run = || Err("no run is in training".to_owned());
        match self {
            Self::StartRun => match session.start_problems().into_iter().next() {
                None => Ok(()),
                Some(problem) => Err(problem),
            },
            Self::Pause => match phase {
                RunPhase::Training | RunPhase::Evaluating => session.not_waiting(),
                RunPhase::Paused => Err("already paused".to_owned()),
                _ => no_run(),
            },
            Self::Resume | Self::Step => match phase {
                RunPhase::Paused => session.not_waiting(),
                RunPhase::Training | RunPhase::Evaluating => Err("pause first".to_owned()),
                _ => no_run(),
            },
            Self::Stop => match phase {
                RunPhase::Stopping => Err("already stopping".to_owned()),
                phase if phase.is_active() => Ok(()),
                _ => no_run(),
            },
            Self::ResumeRun(_) => match (session.engine_problem(), phase.is_active()) {
                (Some(problem), _) => Err(problem),
                (None, true) => Err("another run is in training; stop it first".to_owned()),
                (None, false) => Ok(()),
            },
            Self::AskDeleteRun(dir) | Self::DeleteRun(dir) if session.is_live(dir) && phase.is_active() => {
                Err("this run is in training; stop it first".to_owned())
            }
            Self::Compare(..) if session.compare.is_pending() => Err("a comparison is being computed".to_owned()),
            Self::WriteAndScore(..) if session.written.is_pending() => Err("texts are being written".to_owned()),
            Self::Play(..) if session.play.is_pending() => Err("answers are being written".to_owned()),
            Self::Study(_, Study::Averages) if session.averages.is_pending() => {
                Err("the averages are being measured".to_owned())
            }
            Self::Study(_, Study::Rounding(_)) if session.rounding.is_pending() => {
                Err("the rounding is being measured".to_owned())
            }
            Self::Study(_, Study::Rounding(plan)) if plan.targets.is_empty() => Err("no export is chosen".to_owned()),
            Self::Play(_, plan) if plan.panes.is_empty() => Err("no pane is chosen".to_owned()),
            Self::Merge(..) if session.merge.is_pending() => Err("a merge is being scored".to_owned()),
            Self::Export(..) if session.export.is_pending() => Err("an export is being written".to_owned()),
            Self::DownloadModel(id) => session.download_problem(id).map_or(Ok(()), Err),
            Self::UseModel(id) => match session.stored_model(id).and_then(|model| model.problem.clone()) {
                Some(problem) => Err(problem),
                None => Ok(()),
            },
            Self::AskRemoveModel(id) | Self::RemoveModel(id) if session.is_fetching(id) => {
                Err("it is being fetched; cancel that first".to_owned())
            }
            Self::CancelJob if !session.job_pending() => Err("nothing is being computed".to_owned()),
            Self::ShowLive if session.opened.is_none() => Err("no other run is opened".to_owned()),
            Self::UndoForm if !session.can_undo() => Err("nothing to undo".to_owned()),
            Self::RedoForm if !session.can_redo() => Err("nothing to redo".to_owned()),
            Self::Pick(_) if session.dialog_open => Err("a file dialog is open".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Wishes of this frame, in order; none is ever overwritten.
#[derive(Default)]
pub struct ActionQueue {
    queue: RefCell<Vec<Action>>,
}

impl ActionQueue {
    /// Adds a wish.
    pub fn push(&self, action: Action) {
        self.queue.borrow_mut().push(action);
    }
    /// Takes all wishes.
    pub fn take(&self) -> Vec<Action> {
        std::mem::take(&mut self.queue.borrow_mut())
    }

    /// A button for an action: its words, tooltip, shortcut, and the reason when it is disabled.
    pub fn button(&self, ui: &mut egui::Ui, session: &Session, action: Action) -> egui::Response {
        let text = action.text();
        self.button_as(ui, session, action, egui::Button::new(text))
    }

    /// As [`ActionQueue::button`] with a button of one's own.
    pub fn button_as(
        &self,
        ui: &mut egui::Ui,
        session: &Session,
        action: Action,
        button: egui::Button<'_>,
    ) -> egui::Response {
        let enabled = action.enabled(session);
        let response = ui.add_enabled(enabled.is_ok(), button);
        let keys = action.shortcut().map(|keys| ui.ctx().format_shortcut(&keys));
        let tooltip = match keys {
            Some(keys) => format!("{} ({keys})", action.tooltip()),
            None => action.tooltip().to_owned(),
        };
        let response = match enabled {
            Ok(()) => response.on_hover_text(tooltip),
            Err(reason) => response.on_disabled_hover_text(format!("Not now: {reason}")),
        };
        if response.clicked() {
            self.push(action);
        }
        response
    }
}
