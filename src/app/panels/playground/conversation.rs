//! The earlier turns of a conversation, above the prompt.

use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cards;
use crate::protocol::PlayPlan;
use egui::{RichText, Ui};

/// Lists the turns; the last one can be asked again or removed.
pub fn ui(ctx: &PanelCtx<'_>, ui: &mut Ui, plan: &mut PlayPlan) {
    if plan.earlier.is_empty() {
        return;
    }
    let theme = ctx.theme;
    for (number, turn) in plan.earlier.iter().enumerate() {
        egui::Grid::new(("turn", number)).num_columns(2).spacing([10.0, 3.0]).show(ui, |ui| {
            for (who, text) in [("Asked", &turn.question), ("Answered", &turn.answer)] {
                ui.label(RichText::new(who).small().color(theme.muted));
                ui.add(egui::Label::new(text.trim()).wrap());
                ui.end_row();
            }
        });
    }
    ui.horizontal_wrapped(|ui| {
        let small = |ui: &mut Ui, words: &str, tip: &str| ui.small_button(words).on_hover_text(tip).clicked();
        if small(ui, "Edit the last question", "Takes back the last turn and puts its question into the prompt")
            && let Some(turn) = plan.earlier.pop()
        {
            plan.prompt = turn.question;
        }
        if small(ui, "Remove the last turn", "The conversation ends one turn earlier") {
            plan.earlier.pop();
        }
        if small(ui, "Start over", "Removes all earlier turns") {
            plan.earlier.clear();
        }
        if !plan.chat {
            cards::caption(ui, theme, "laid out without a template");
        }
    });
    ui.add_space(4.0);
}
