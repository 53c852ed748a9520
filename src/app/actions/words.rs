//! The words of every action: its button and its tooltip.

use super::Action;
use crate::app::files::Purpose;
use crate::app::settings::Appearance;
use crate::app::studies;
use crate::app::view::Page;
use crate::protocol::{ModelQuery, QueueAsk};

impl Action {
    /// Text of the button and its tooltip.
    pub(super) fn describe(&self) -> (&'static str, &'static str) {
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
            Self::ChangeLaw(_) => (
                "Change the law",
                "Draws by this law from the next step on; the change is recorded, and marked in every plot",
            ),
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
            Self::BranchRun(_) => (
                "Go on with other settings…",
                "Copies this run's settings into Setup; Start then trains a new run that goes on from one of its checkpoints",
            ),
            Self::SetBranch(Some(_)) => ("", ""),
            Self::SetBranch(None) => ("Begin anew instead", "The next run starts from fresh experts"),
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
}
