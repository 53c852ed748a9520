//! Paths that were chosen, typed or dropped, and answers of file dialogs.

use crate::app::WorkbenchApp;
use crate::app::actions::Action;
use crate::app::dialogs::Dialog;
use crate::app::files::{FileAnswer, Purpose};
use crate::app::panels::setup::files::{purpose_of, use_path};
use crate::app::settings::remember;
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
            FileAnswer::Cancelled => {}
            FileAnswer::NoDialog => {
                let words = "no file dialog can open here (it needs the desktop's portal or zenity); type the path, or \
                             drop it onto the window";
                self.session.log(LogLevel::Warning, words);
            }
            FileAnswer::Read(Purpose::OpenSettings, path, text) => {
                match text.and_then(|text| RunConfig::from_toml(&text).map_err(|err| err.to_string())) {
                    Ok(config) => {
                        self.session.log(LogLevel::Info, format!("settings read: {}", path.display()));
                        self.actions.push(Action::EditForm(Box::new(config)));
                        self.layout.show(View::Setup);
                    }
                    Err(err) => {
                        self.session.log(LogLevel::Error, format!("no settings read: {err}: {}", path.display()));
                    }
                }
            }
            FileAnswer::Read(_, path, Ok(text)) => {
                self.panels.setup.take_head(&path, &text, &self.session, &self.actions);
            }
            FileAnswer::Read(..) => {} // the preview of the engine reports what is wrong with the file
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
        self.picker.pick(purpose, start);
    }

    pub(super) fn use_path(&mut self, purpose: Purpose, path: PathBuf, now: f64) {
        self.dialog = None;
        match purpose {
            Purpose::Run => {
                self.layout.show(View::Train);
                return self.open_run(path);
            }
            Purpose::OpenSettings => return self.picker.read(purpose, path),
            Purpose::ExportDir => return self.panels.export.set_dir(&path),
            Purpose::Model => remember(&mut self.settings.recent_models, path.clone()),
            Purpose::DataDir | Purpose::TrainFile | Purpose::DevFile => {
                remember(&mut self.settings.recent_data, path.clone());
            }
            Purpose::RunsDir | Purpose::SaveSettings => {}
        }
        let mut form = self.session.form.clone();
        use_path(&mut form, purpose, &path);
        self.session.edit_form(form, now);
        match purpose {
            Purpose::TrainFile => self.picker.read(purpose, path),
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
