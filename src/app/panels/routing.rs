//! Which expert each layer uses now, in both passes, and how often so far.

use super::{PanelCtx, no_run_ui, opened_note_ui};
use crate::app::format;
use egui::Ui;

/// What the view remembers on screen.
#[derive(Default)]
pub struct RoutingPanel {}

impl RoutingPanel {
    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let Some(run) = ctx.session.shown() else {
            return no_run_ui(
                ctx,
                ui,
                "No routes yet",
                "Each step draws which expert runs in which layer; here you see the draws.",
            );
        };
        opened_note_ui(ctx, ui);
        let Some(routing) = &run.routing else {
            return crate::app::widgets::cards::loading(ui, "Waiting for the first routes", None);
        };
        ui.label(format!("Step {}", format::count(routing.step)));
        for (site, name) in routing.sites.iter().enumerate() {
            let counts = |side: usize| routing.counts.get(site * 2 + side).cloned().unwrap_or_default();
            ui.label(format!("{name}: down {:?}, up {:?}", counts(0), counts(1)));
        }
    }
}
