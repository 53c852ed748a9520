//! Model, data and settings of the next run, and whether it can start.

pub mod files;

use super::PanelCtx;
use crate::app::actions::{Action, ActionQueue};
use crate::app::session::Session;
use crate::app::widgets::cards;
use crate::config::RunConfig;
use egui::Ui;
use std::path::{Path, PathBuf};

/// What the view remembers on screen.
#[derive(Default)]
pub struct SetupPanel {
    /// Columns found in the training file, and whose they are.
    columns: Option<(PathBuf, Vec<String>)>,
}

impl SetupPanel {
    /// The beginning of a table was read: offers its columns, and guesses which is which.
    pub fn take_head(&mut self, path: &Path, head: &str, session: &Session, actions: &ActionQueue) {
        let names = files::columns(path, session.form.data.format, head);
        let mut form = session.form.clone();
        if Path::new(&form.data.train_file) == path {
            files::guess_columns(&mut form, &names);
            actions.push(Action::EditForm(Box::new(form)));
        }
        self.columns = Some((path.to_owned(), names));
    }

    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let form: RunConfig = ctx.session.form.clone();
        cards::card(ui, ctx.theme, "Model", |ui| {
            ui.label(&form.model.path);
        });
        for problem in ctx.session.start_problems() {
            cards::note(ui, ctx.theme.warning, &problem);
        }
        ctx.button(ui, Action::StartRun);
    }
}
