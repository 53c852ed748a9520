//! Figures on their way into files or to the clipboard: values from the record first, then the dialog, then the file.

use crate::app::WorkbenchApp;
use crate::app::files::Purpose;
use crate::app::widgets::export_menu::{SaveAs, SavedFigure};
use crate::figure::{Content, png, svg};
use crate::format;
use crate::protocol::{Command, LogLevel};
use std::path::PathBuf;

impl WorkbenchApp {
    /// Saves or copies a figure. Values that are recorded are read from the record first.
    pub(super) fn save_figure(&mut self, saved: SavedFigure, ctx: &egui::Context) {
        let values = matches!(saved.save_as, SaveAs::Csv | SaveAs::Copy);
        match &saved.record {
            Some(plan) if values => {
                let plan = plan.clone();
                self.ask(|s| &mut s.record, Command::ReadRecord(plan));
                self.saving = self.session.record.is_pending().then_some(saved);
            }
            _ => self.save_now(saved, ctx),
        }
    }

    /// Goes on with a figure whose values have been read.
    pub(super) fn follow_record(&mut self, ctx: &egui::Context) {
        if self.session.record.is_pending() {
            return;
        }
        // An error was shown when it came.
        let failed = self.session.record.error.take().is_some();
        if let Some(table) = self.session.record.value.take()
            && let Some(mut saved) = self.saving.take_if(|saved| saved.record.is_some())
        {
            saved.figure.content = Content::Table(table);
            saved.record = None;
            self.save_now(saved, ctx);
        } else if failed {
            self.saving = None;
        }
    }

    fn save_now(&mut self, saved: SavedFigure, ctx: &egui::Context) {
        let purpose = match saved.save_as {
            SaveAs::Copy => {
                let table = saved.figure.table();
                ctx.copy_text(table.tsv());
                let rows = format::counted(table.rows.len() as u64, "row");
                return self.session.notify(LogLevel::Info, format!("copied {rows}"));
            }
            SaveAs::Png => Purpose::SavePng,
            SaveAs::Svg => Purpose::SaveSvg,
            SaveAs::Csv => Purpose::SaveCsv,
        };
        (self.saving, self.report_of) = (Some(SavedFigure { record: None, ..saved }), None);
        self.pick(purpose);
    }

    /// Asks where the report of a run goes.
    pub(super) fn ask_report_place(&mut self, dir: PathBuf) {
        (self.saving, self.report_of) = (None, Some(dir));
        self.pick(Purpose::SaveReport);
    }

    /// A place was chosen for the report.
    pub(super) fn report_place(&mut self, mut to: PathBuf) {
        let Some(dir) = self.report_of.take() else { return };
        if to.extension().is_none() {
            to.set_extension("html");
        }
        self.ask(|s| &mut s.reporting, Command::Report { dir, to });
    }

    /// Where the figure or the report that waits goes unless the user says something else.
    pub(super) fn proposed_file(&self) -> Option<PathBuf> {
        let figure = |saved| self.figures_dir().unwrap_or_default().join(file_name(saved));
        let report = || self.report_of.as_ref().map(|dir| dir.join("report.html"));
        self.saving.as_ref().map(figure).or_else(report)
    }

    /// Where figures go unless the user says something else: beside the shown run's other files.
    fn figures_dir(&self) -> Option<PathBuf> {
        self.session.shown().map(|run| run.dir.clone()).filter(|dir| dir.is_dir())
    }

    /// A place was chosen for the figure that waits.
    pub(super) fn figure_place(&mut self, mut path: PathBuf) {
        let Some(saved) = self.saving.take() else { return };
        let ending = saved.save_as.extension();
        if path.extension().is_none() {
            path.set_extension(ending);
        }
        let (purpose, bytes) = match saved.save_as {
            SaveAs::Png => (Purpose::SavePng, png::bytes(&saved.figure)),
            SaveAs::Svg => (Purpose::SaveSvg, Ok(svg::document(&saved.figure).into_bytes())),
            SaveAs::Csv | SaveAs::Copy => (Purpose::SaveCsv, Ok(saved.figure.table().csv().into_bytes())),
        };
        match bytes {
            Ok(bytes) => self.picker.write(purpose, path, bytes),
            Err(err) => self.session.log(LogLevel::Error, err.to_string()),
        }
    }
}

fn file_name(saved: &SavedFigure) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = saved.name.chars().map(plain).collect();
    let words: Vec<&str> = name.split('-').filter(|word| !word.is_empty()).collect();
    format!("{}.{}", if words.is_empty() { "figure".to_owned() } else { words.join("-") }, saved.save_as.extension())
}
