//! The merged model against random routes, single experts and the ensemble.

use super::{PanelCtx, no_run_ui, opened_note_ui};
use crate::app::actions::Action;
use crate::app::format;
use egui::Ui;

/// What the view remembers on screen.
#[derive(Default)]
pub struct ComparePanel {}

impl ComparePanel {
    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let Some(subject) = ctx.session.subject() else {
            return no_run_ui(
                ctx,
                ui,
                "Nothing to compare yet",
                "After training, the merged model stands here beside the unmerged ones.",
            );
        };
        opened_note_ui(ctx, ui);
        ctx.button(ui, Action::Compare(subject, 5));
        let own = ctx.session.shown().and_then(|run| run.report());
        if let Some(error) = &ctx.session.compare.error {
            crate::app::widgets::cards::error(ui, ctx.theme, error);
        }
        if let Some(report) = ctx.session.compare.value.as_ref().or(own) {
            let band = report.random_band();
            ui.label(format!("{} of the merged model: {}", report.metric, format::metric(report.merged.primary)));
            ui.label(format!("random routes: {} to {}", format::metric(band.min), format::metric(band.max)));
        }
    }
}
