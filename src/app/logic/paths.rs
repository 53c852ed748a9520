//! Paths that were chosen, typed or dropped, and answers of file dialogs.

use crate::app::WorkbenchApp;
use crate::app::actions::Action;
use crate::app::dialogs::Dialog;
use crate::app::files::{FileAnswer, Purpose};
use crate::app::panels::setup::files::{DropKind, kind_of, use_path};
use crate::app::view::View;
use crate::config::RunConfig;
use crate::protocol::LogLevel;
use std::path::PathBuf;

impl WorkbenchApp {
    pub(super) fn take_file_answer(&mut self, answer: FileAnswer) {
        match answer {
            FileAnswer::Picked(Purpose::SaveSettings, path) => match self.session.form.to_toml() {
                Ok(text) => self.picker.write(path, text),
                Err(err) => self.session.log(LogLevel::Error, err.to_string()),
            },
            FileAnswer::Picked(purpose, path) => self.actions.push(Action::UsePath(purpose, path)),
            FileAnswer::Cancelled(_) => {}
            FileAnswer::NoDialog(_) => {
                let words = "no file dialog can open here (it needs the desktop's portal or zenity); type the path, or \
                             drop it onto the window";
                self.session.log(LogLevel::Warning, words);
            }
            FileAnswer::Read(path, Ok(text)) => match RunConfig::from_toml(&text) {
                Ok(config) => {
                    self.session.log(LogLevel::Info, format!("settings read: {}", path.display()));
                    self.actions.push(Action::EditForm(Box::new(config)));
                    self.layout.show(View::Setup);
                }
                Err(err) => self.session.log(LogLevel::Error, format!("{err}: {}", path.display())),
            },
            FileAnswer::Read(path, Err(err)) => {
                self.session.log(LogLevel::Error, format!("reading failed: {err}: {}", path.display()));
            }
            FileAnswer::Head(path, Ok(text)) => self.panels.setup.take_head(&path, &text, &self.session, &self.actions),
            FileAnswer::Head(..) => {} // the preview of the engine reports what is wrong with the file
            FileAnswer::Written(path, Ok(())) => {
                self.session.log(LogLevel::Info, format!("settings written: {}", path.display()));
                self.session.notify(LogLevel::Info, format!("saved {}", path.display()));
            }
            FileAnswer::Written(path, Err(err)) => {
                self.session.log(LogLevel::Error, format!("writing failed: {err}: {}", path.display()));
            }
        }
    }

    pub(super) fn pick(&mut self, purpose: Purpose) {
        let form = &self.session.form;
        let recent = match purpose {
            Purpose::Model => self.settings.recent_models.first().cloned(),
            Purpose::DataDir | Purpose::TrainFile | Purpose::DevFile => self.settings.recent_data.first().cloned(),
            Purpose::RunsDir | Purpose::Run if !form.runs_dir.is_empty() => Some(PathBuf::from(&form.runs_dir)),
            _ => None,
        };
        // Without a recent path the desktop chooses the directory.
        let start =
            recent.as_deref().map(|path| if path.extension().is_some() { path.parent().unwrap_or(path) } else { path });
        if self.picker.pick(purpose, start) {
            self.session.dialog_open = self.picker.is_open();
        }
    }

    pub(super) fn use_path(&mut self, purpose: Purpose, path: PathBuf, now: f64) {
        self.dialog = None;
        match purpose {
            Purpose::Run => {
                self.layout.show(View::Train);
                return self.open_run(path);
            }
            Purpose::OpenSettings => return self.picker.read(path),
            Purpose::ExportDir => return self.panels.export.set_dir(&path),
            Purpose::Model => self.settings.remember_model(path.clone()),
            Purpose::DataDir | Purpose::TrainFile | Purpose::DevFile => self.settings.remember_data(path.clone()),
            Purpose::RunsDir | Purpose::SaveSettings => {}
        }
        let mut form = self.session.form.clone();
        use_path(&mut form, purpose, &path);
        self.session.edit_form(form, now);
        match purpose {
            Purpose::TrainFile => self.picker.head(path),
            Purpose::RunsDir => self.refresh_runs(),
            _ => {}
        }
    }

    pub(super) fn dropped(&mut self, path: PathBuf) {
        self.layout.show(View::Setup);
        match kind_of(&path) {
            DropKind::Settings => self.picker.read(path),
            DropKind::Table => self.actions.push(Action::UsePath(Purpose::TrainFile, path)),
            DropKind::Unknown => self.dialog = Some(Dialog::Dropped(path)),
        }
    }
}
