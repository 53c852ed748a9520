//! What the experts have learned, and how far they are apart.

use super::{PanelCtx, no_run_ui, opened_note_ui};
use crate::app::actions::Action;
use crate::app::format;
use crate::engine::protocol::Side;
use egui::Ui;

/// What the view remembers on screen.
#[derive(Default)]
pub struct ExpertsPanel {}

impl ExpertsPanel {
    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let Some(subject) = ctx.session.subject() else {
            return no_run_ui(
                ctx,
                ui,
                "No experts yet",
                "Experts start as strangers and grow apart or together; here you look inside.",
            );
        };
        opened_note_ui(ctx, ui);
        let Some(snapshot) = ctx.session.experts() else {
            if ctx.session.opened.is_some() && !ctx.session.inspect.is_pending() {
                let (site, side) = ctx.session.focus;
                ctx.button(ui, Action::Inspect(subject, site, side.unwrap_or(Side::Down)));
            } else {
                crate::app::widgets::cards::loading(ui, "Waiting for the weights", None);
            }
            return;
        };
        for (cell, side) in snapshot.sides.iter().enumerate() {
            let name = snapshot.sites.get(cell / 2).map_or("", String::as_str);
            let norms: Vec<String> = side.experts.iter().map(|e| format::significant(f64::from(e.norm), 3)).collect();
            ui.label(format!("{name} {}: norms {}", if cell % 2 == 0 { "down" } else { "up" }, norms.join(", ")));
        }
    }
}
