//! Files for other programs, each with a certificate.

use super::{PanelCtx, no_run_ui, opened_note_ui};
use crate::app::actions::Action;
use crate::app::widgets::cards;
use crate::engine::protocol::{ExportDtype, ExportPlan, ExportTarget, MergePlan};
use egui::Ui;
use std::path::PathBuf;

/// What the view remembers on screen.
#[derive(Default)]
pub struct ExportPanel {
    dir: Option<PathBuf>,
}

impl ExportPanel {
    /// A directory was chosen to export into.
    pub fn set_dir(&mut self, dir: PathBuf) {
        self.dir = Some(dir);
    }

    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let Some(subject) = ctx.session.subject() else {
            return no_run_ui(
                ctx,
                ui,
                "Nothing to export yet",
                "After training, the merged adapter is written here, loaded afresh, and proven.",
            );
        };
        opened_note_ui(ctx, ui);
        let plan = ExportPlan {
            targets: vec![ExportTarget::Merged],
            dtype: ExportDtype::F32,
            merge: MergePlan::Uniform,
            dir: self.dir.clone(),
        };
        ctx.button(ui, Action::Export(subject, plan));
        if let Some(error) = &ctx.session.export.error {
            cards::error(ui, ctx.theme, error);
        }
        for report in ctx.session.export.value.iter().flatten() {
            let verdict = if report.certificate.passed { "proven" } else { "failed its proof" };
            ui.label(format!("{}: {verdict}", report.dir.display()));
        }
    }
}
