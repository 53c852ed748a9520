//! Paths that were chosen, typed or dropped, and answers of file dialogs.

use crate::app::WorkbenchApp;
use crate::app::actions::Action;
use crate::app::chooser::{Chooser, not_utf8};
use crate::app::dialogs::Dialog;
use crate::app::fields::in_fields;
use crate::app::files::{FileAnswer, Purpose};
use crate::app::panels::setup::files::{purpose_of, task_for, use_path};
use crate::app::view::View;
use crate::config::{RunConfig, belonging};
use crate::protocol::LogLevel;
use std::path::{Path, PathBuf};

impl WorkbenchApp {
    pub(super) fn take_file_answer(&mut self, answer: FileAnswer) {
        match answer {
            FileAnswer::Picked(purpose @ Purpose::SaveSettings, path) => match self.session.run_config().to_toml() {
                Ok(text) => self.picker.write(purpose, path, text.into_bytes()),
                Err(err) => self.session.log(LogLevel::Error, err.to_string()),
            },
            FileAnswer::Picked(purpose @ Purpose::SaveScript, path) => {
                let script = self.session.sitting.script(super::unix_now());
                self.picker.write(purpose, path, script.into_bytes());
            }
            FileAnswer::Picked(Purpose::SaveReport, path) => self.report_place(path),
            FileAnswer::Picked(Purpose::SavePng | Purpose::SaveSvg | Purpose::SaveCsv, path) => self.figure_place(path),
            FileAnswer::Picked(purpose, path) => self.actions.push(Action::UsePath(purpose, path)),
            FileAnswer::Cancelled => (self.saving, self.report_of) = (None, None),
            FileAnswer::NoDialog(purpose) => {
                // The next one opens at once.
                self.no_desktop_dialogs = true;
                self.open_chooser(purpose);
            }
            FileAnswer::Listed(path, place) => {
                if let Some(Dialog::Choose(chooser)) = &mut self.dialog {
                    chooser.take(path, place, &self.actions);
                }
            }
            FileAnswer::Read(Purpose::OpenSettings, path, text) => {
                match text.and_then(|text| RunConfig::from_toml(&text).map_err(|err| err.to_string())) {
                    Ok(config) => {
                        self.session.log(LogLevel::Info, format!("settings read: {}", path.display()));
                        self.session.form_from = None;
                        self.say_foreign(&config);
                        self.actions.push(Action::ReplaceForm(Box::new(config)));
                        self.layout.show(View::Setup);
                    }
                    Err(err) => {
                        self.session.log(LogLevel::Error, format!("no settings read: {err}: {}", path.display()));
                    }
                }
            }
            FileAnswer::Read(..) => {} // only settings are read here
            FileAnswer::Written(purpose, path, Ok(())) => {
                let what = match purpose {
                    Purpose::SaveSettings => "settings written",
                    Purpose::SaveScript => "script written",
                    _ => "written",
                };
                self.session.log(LogLevel::Info, format!("{what}: {}", path.display()));
                // Figures are proposed beside the run they are of.
                if matches!(purpose, Purpose::SaveSettings | Purpose::SaveScript) {
                    self.settings.remember(purpose, path.clone());
                }
                self.session.notify(LogLevel::Info, format!("saved {}", path.display()));
            }
            FileAnswer::Written(_, path, Err(err)) => {
                self.session.log(LogLevel::Error, format!("writing failed: {err}: {}", path.display()));
            }
            FileAnswer::Revealed(_, Ok(())) => {}
            FileAnswer::Revealed(dir, Err(err)) => {
                self.session.log(LogLevel::Warning, format!("no file manager opened: {err}: {}", dir.display()));
            }
        }
    }

    /// Says which settings of a run file do not count for its own task.
    fn say_foreign(&mut self, config: &RunConfig) {
        for found in belonging::foreign(config).unwrap_or_default() {
            let text = format!("{}, so it is left out", found.refusal(found.key.path, config));
            let text = text.replace(": leave it out, or choose that", "");
            self.session.log(LogLevel::Warning, in_fields(&text));
        }
    }

    pub(super) fn pick(&mut self, purpose: Purpose) {
        if self.settings.own_chooser || self.no_desktop_dialogs {
            return self.open_chooser(purpose);
        }
        let recent = self.start_of(purpose);
        // A figure has a name already. Without a recent path the desktop chooses the directory.
        let folder = |path| if purpose.saves_figure() { path } else { folder_of(path) };
        let start = recent.as_deref().map(folder);
        self.picker.pick(purpose, start);
    }

    /// Where a dialog begins; nothing: anywhere.
    fn start_of(&self, purpose: Purpose) -> Option<PathBuf> {
        let form = &self.session.form;
        match purpose {
            Purpose::RunsDir | Purpose::Run if !form.runs_dir.is_empty() => Some(PathBuf::from(&form.runs_dir)),
            Purpose::Run => {
                let newest = self.session.runs.value.iter().flatten().next();
                newest.and_then(|run| run.dir.parent()).map(Path::to_owned)
            }
            Purpose::SavePng | Purpose::SaveSvg | Purpose::SaveCsv | Purpose::SaveReport => self.proposed_file(),
            _ => self.settings.recent(purpose).first().cloned(),
        }
    }

    /// Opens the window's own file chooser.
    fn open_chooser(&mut self, purpose: Purpose) {
        let home = std::env::home_dir().or_else(|| std::env::current_dir().ok());
        let start = self.start_of(purpose);
        let chooser = match &start {
            Some(file) if purpose.saves_figure() => {
                let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).map(Path::to_owned).or(home);
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Chooser::new(purpose, &dir.unwrap_or_default(), &self.actions).named(name)
            }
            _ => Chooser::new(purpose, &start.or(home).unwrap_or_default(), &self.actions),
        };
        self.dialog = Some(Dialog::Choose(Box::new(chooser)));
    }

    pub(super) fn use_path(&mut self, purpose: Purpose, path: PathBuf, now: f64) {
        self.dialog = None;
        if path.to_str().is_none() {
            // The settings are text: another path would be stored and opened.
            return self.session.log(LogLevel::Error, not_utf8(&path));
        }
        self.settings.remember(purpose, path.clone());
        match purpose {
            Purpose::Run | Purpose::Capsule => {
                self.layout.show(View::Train);
                return self.open_run(path);
            }
            Purpose::OpenSettings => return self.picker.read(purpose, path),
            Purpose::ExportDir => return self.panels.export.set_dir(&path),
            Purpose::SaveReport => return self.report_place(path),
            Purpose::SavePng | Purpose::SaveSvg | Purpose::SaveCsv => return self.figure_place(path),
            _ => {}
        }
        let mut form = self.session.form.clone();
        let task = task_for(&form, purpose, &path);
        if task != form.data.task {
            self.session.choose_task(task, now);
            form.clone_from(&self.session.form);
        }
        use_path(&mut form, purpose, &path);
        self.session.edit_form(form, now);
        match purpose {
            Purpose::TrainFile => self.session.memory.new_file = Some(self.session.form.data.train_file.clone()),
            Purpose::RunsDir => self.refresh_runs(),
            _ => {}
        }
    }

    pub(super) fn dropped(&mut self, path: PathBuf, now: f64) {
        self.layout.show(View::Setup);
        match purpose_of(&path) {
            Some(purpose) => self.use_path(purpose, path, now),
            None => self.dialog = Some(Dialog::Dropped(path)),
        }
    }
}

/// The folder of a file, or a folder itself.
fn folder_of(path: &Path) -> &Path {
    if path.extension().is_some() { path.parent().unwrap_or(path) } else { path }
}
