//! Name, notes and tags of the chosen run.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled};
use crate::protocol::{RunLabel, RunSummary};
use egui::Ui;
use std::path::PathBuf;

/// What is being typed; it is written when the field is left.
#[derive(Default)]
pub struct LabelEditor {
    dir: PathBuf,
    /// As it was read.
    known: RunLabel,
    /// What was sent to be written last.
    sent: Option<RunLabel>,
    title: String,
    tags: String,
    notes: String,
}

impl LabelEditor {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, run: &RunSummary, ui: &mut Ui) {
        if self.dir != run.dir || self.known != run.label {
            let RunLabel { title, notes, tags, .. } = run.label.clone();
            let (dir, known, tags) = (run.dir.clone(), run.label.clone(), tags.join(", "));
            *self = Self { dir, known, sent: None, title, tags, notes };
        }
        let open = !run.label.title.is_empty() || !run.label.notes.is_empty() || !run.label.tags.is_empty();
        let header = egui::CollapsingHeader::new("Name, tags, notes").id_salt(&run.dir).default_open(open);
        header.show(ui, |ui| {
            let tip = "A name for lists and plots; the directory keeps its own. Empty: that of the directory";
            let title = labeled::text(ui, "Name", tip, &run.name, &mut self.title);
            let tip = "Words to find the run by, separated by commas";
            let tags = labeled::text(ui, "Tags", tip, "such as: baseline, paper", &mut self.tags);
            let tip = "Kept in the run's directory (label.toml)";
            let label = ui.label("Notes").on_hover_text(tip);
            let edit = egui::TextEdit::multiline(&mut self.notes).desired_rows(2).desired_width(f32::INFINITY);
            let notes = ui.add(edit).labelled_by(label.id).on_hover_text(tip);
            if [title, tags, notes].iter().any(egui::Response::lost_focus) {
                self.write(ctx);
            }
            if !run.label.parent.is_empty() {
                let edge = if run.label.edge.is_empty() { "no change" } else { &run.label.edge };
                cards::caption(ui, ctx.theme, format!("Made from {} ({edge})", run.label.parent));
            }
        });
    }

    fn write(&mut self, ctx: &PanelCtx<'_>) {
        let tags = self.tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        let title = self.title.trim().to_owned();
        let label = RunLabel { title, notes: self.notes.trim().to_owned(), tags, ..self.known.clone() };
        if label != self.known && self.sent.as_ref() != Some(&label) {
            self.sent = Some(label.clone());
            ctx.push(Action::LabelRun(self.dir.clone(), Box::new(label)));
        }
    }
}
