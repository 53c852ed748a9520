//! What can be asked about one recorded step: the one that all views look at, or the newest.

use super::{all_routes, fan, grid, law, replay, reroll};
use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::weights_line;
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::RebuildCost;
use egui::Ui;

/// Draws the card; nothing before the first step.
pub fn ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let Some(run) = ctx.session.shown() else { return };
    let newest = run.step();
    if newest == 0 {
        return;
    }
    law::ui(ctx, run, ui);
    let step = ctx.session.playhead.unwrap_or(newest).clamp(1, newest);
    cards::card(ui, ctx.theme, &format!("At step {}", format::count(step)), |ui| {
        ui.horizontal_wrapped(|ui| {
            let mut chosen = step;
            let tip = "The step that the cards below are about, from 1";
            labeled::number(ui, "Step looked at", tip, &mut chosen, 1..=newest, 1.0);
            if chosen != step {
                ctx.push(Action::SetPlayhead(Some(chosen)));
            }
            if ctx.session.playhead.is_some() {
                let newest = ui.button("Newest step").on_hover_text("Looks at the newest step again");
                if newest.clicked() {
                    ctx.push(Action::SetPlayhead(None));
                }
            }
        });
        let cost = RebuildCost::of(&run.checkpoints.steps, step - 1).words();
        let words = format!(
            "What follows is computed in memory from the weights before this step ({cost}); nothing is written. A run in \
             training waits meanwhile."
        );
        cards::caption(ui, ctx.theme, words);
        ui.add_space(2.0);
        replay::ui(ctx, step, ui);
        reroll::ui(ctx, step, ui);
    });
    cards::card(ui, ctx.theme, "Routes of the chosen weights", |ui| {
        weights_line::ui(ctx, run, ui);
        all_routes::ui(ctx, run.config.mixture.kind, ui);
        fan::ui(ctx, run, ui);
        grid::ui(ctx, run, ui);
    });
}
