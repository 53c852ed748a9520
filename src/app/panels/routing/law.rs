//! The law of routing, and its changes while the run trains.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::{cards, labeled};
use crate::config::{LawChange, RoutingLaw, RoutingPolicy};
use crate::format;
use egui::Ui;

/// Draws the card.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    cards::card(ui, ctx.theme, "The law of the draws", |ui| {
        let (first, newest) = (RoutingLaw::of(&run.config.mixture), run.step());
        let now = LawChange::law_of(first, &run.laws, newest);
        cards::muted(ui, ctx.theme, sentence(first, &run.laws, now));
        if !ctx.session.shows_live() || !ctx.session.phase.is_active() {
            let words = "While a run trains here its law can be changed. A run with the same changes: Changes of the routing in \
                         Setup, or --law-at.";
            cards::caption(ui, ctx.theme, words);
            return;
        }
        let memory = egui::Id::unique("law to change to");
        let mut asked: RoutingLaw = ui.data(|data| data.get_temp(memory)).unwrap_or(now);
        let policies = RoutingPolicy::ALL.map(|policy| (policy, names::policy_title(policy)));
        let tip = "How the expert of each adapted module is chosen from the next step on";
        labeled::choice(ui, "Law from the next step on", tip, &mut asked.routing, &policies);
        if asked.routing == RoutingPolicy::Fixed {
            let last = run.config.mixture.num_experts.saturating_sub(1);
            labeled::number(
                ui,
                "Expert",
                "The expert that always runs, from 0",
                &mut asked.fixed_expert,
                0..=last,
                0.05,
            );
        } else {
            asked.fixed_expert = 0;
        }
        ui.data_mut(|data| data.insert_temp(memory, asked));
        if asked == now {
            ctx.refused(ui, "Change the law", "this is the law already");
        } else {
            ctx.button(ui, Action::ChangeLaw(asked));
        }
        let words = "The change is part of the record: a resumed or replayed step is drawn as it was, and every plot has a mark.";
        cards::caption(ui, ctx.theme, words);
    });
}

/// `Drawn per-batch; from step 400 on per-token.`
fn sentence(first: RoutingLaw, changes: &[LawChange], now: RoutingLaw) -> String {
    if changes.is_empty() {
        return format!("Drawn {now} in every step.");
    }
    let later: Vec<String> =
        changes.iter().map(|change| format!("from step {} on {}", format::count(change.step), change.law)).collect();
    format!("Drawn {first}; {}.", later.join(", "))
}
