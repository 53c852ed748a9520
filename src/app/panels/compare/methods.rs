//! Ways of merging that are more than weights: the choice, its formula, its cost, and the button that scores it.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::{cards, labeled};
use crate::config::{Method, MixtureConfig};
use crate::format;
use crate::protocol::{MergeCost, MergePlan, ModelQuery, Pairs, Subject};
use egui::{RichText, Ui};
use std::path::PathBuf;

/// The chosen way, one of each kind with its parameters.
#[derive(Default)]
pub struct MethodsForm {
    plans: Vec<MergePlan>,
    chosen: usize,
    run: PathBuf,
}

impl MethodsForm {
    /// Draws the card; nothing where there is nothing to merge.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, subject: &Subject, ui: &mut Ui) {
        let mixture = &run.config.mixture;
        if run.config.model.method != Method::Adamix || mixture.num_experts < 2 {
            return;
        }
        if self.run != run.dir || self.plans.is_empty() {
            *self = Self { plans: MergePlan::methods(mixture), chosen: 0, run: run.dir.clone() };
        }
        cards::card(ui, ctx.theme, "Ways of merging", |ui| {
            let options: Vec<(usize, String)> = self.plans.iter().map(title).map(str::to_owned).enumerate().collect();
            let tip = "How the experts of each module become one; the uniform mean is the paper's";
            labeled::choice(ui, "Way", tip, &mut self.chosen, &options);
            let Some(plan) = self.plans.get_mut(self.chosen) else { return };
            parameters_ui(ui, mixture, plan);
            ui.add_space(2.0);
            ui.add(egui::Label::new(RichText::new(plan.formula(mixture)).monospace()).wrap());
            cards::caption(ui, ctx.theme, cost_words(&plan.cost(mixture), mixture));
            if matches!(plan, MergePlan::Soup) {
                let words = "The soup is chosen on the evaluation rows, so that its score on them is a little too good; \
                             confirm it on other rows.";
                cards::caption(ui, ctx.theme, words);
            }
            ui.horizontal_wrapped(|ui| {
                let score = Action::Query(subject.clone(), ModelQuery::Merge(plan.clone()));
                let name = format!("Score {}", names::merge_plan(plan));
                drop(ctx.button_as(ui, score.clone(), egui::Button::new("Score this way")).accessible_name(name));
                ctx.command_button(ui, &score);
                ctx.pending_ui(ui, &ctx.session.merge, "merging and scoring");
            });
        });
    }
}

fn title(plan: &MergePlan) -> &'static str {
    match plan {
        MergePlan::Uniform => "Uniform mean (the paper)",
        MergePlan::Global(_) | MergePlan::PerSite(_) => "Weighted mean",
        MergePlan::Soup => "Greedy soup",
        MergePlan::Fisher { .. } => "Fisher-weighted mean",
        MergePlan::Ties { .. } => "TIES",
        MergePlan::Dare { .. } => "DARE",
        MergePlan::Wide(Pairs::Same) => "Wide: experts side by side",
        MergePlan::Wide(Pairs::All) => "Wide: all pairs",
        MergePlan::Budget { .. } => "Wide, pruned to a budget",
        MergePlan::Fitted { .. } => "One module fitted to the wide one",
    }
}

fn parameters_ui(ui: &mut Ui, mixture: &MixtureConfig, plan: &mut MergePlan) {
    let rows_ui = |ui: &mut Ui, rows: &mut usize, tip: &str| {
        labeled::number(ui, "Training rows", tip, rows, 1..=1 << 20, 4.0);
    };
    let unlabelled = "Rows on whose hidden states it is measured, evenly spread; their labels are not used";
    match plan {
        MergePlan::Fisher { rows } => {
            rows_ui(ui, rows, "Rows whose labels' log-likelihood is differentiated, for each expert");
        }
        MergePlan::Fitted { rows } => rows_ui(ui, rows, unlabelled),
        MergePlan::Budget { width, rows } => {
            let widest = MergePlan::Wide(Pairs::Same).width(mixture);
            let tip = "Hidden units that stay in each module: from one expert's to all side by side";
            labeled::number(ui, "Hidden units", tip, width, mixture.rank()..=widest, 0.2);
            rows_ui(ui, rows, unlabelled);
        }
        MergePlan::Ties { density } => {
            let tip = "Share of each tensor's changes since the start that stays, the largest";
            labeled::number(ui, "Density", tip, density, 0.01..=1.0, 0.01);
        }
        MergePlan::Dare { drop, seed } => {
            let tip = "Probability with which a change since the start is dropped";
            labeled::number(ui, "Drop rate", tip, drop, 0.0..=0.99, 0.01);
            labeled::number(ui, "Seed", "Seed of the draws", seed, 0..=u64::from(u32::MAX), 0.1);
        }
        _ => {}
    }
}

/// The cost in words: width and what runs before the score.
fn cost_words(cost: &MergeCost, mixture: &MixtureConfig) -> String {
    let r = mixture.rank();
    let width = match cost.width {
        width if width == r => format!("Width {r}, as one expert."),
        width => format!(
            "Width {width} instead of {r}: {} times the parameters and work of one expert in each module.",
            format::significant(width as f64 / r.max(1) as f64, 3)
        ),
    };
    let parts = [
        (cost.evaluations, "passes over the evaluation rows"),
        (cost.forwards, "training rows forward"),
        (cost.backwards, "training rows backward"),
        (cost.fit_steps, "optimiser steps in each module"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", format::count(*n))).collect();
    if parts.is_empty() {
        format!("{width} Nothing runs before the score.")
    } else {
        format!("{width} Before the score: at most {}.", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_says_width_and_work() {
        let mixture = MixtureConfig::default();
        let words = |text: &str| cost_words(&text.parse::<MergePlan>().unwrap().cost(&mixture), &mixture);
        assert_eq!(words("uniform"), "Width 16, as one expert. Nothing runs before the score.");
        assert!(
            words("wide").starts_with("Width 64 instead of 16: 4.00 times")
                || words("wide").starts_with("Width 64 instead of 16: 4 times"),
            "{}",
            words("wide")
        );
        assert!(words("fisher:10").ends_with("at most 40 training rows forward, 40 training rows backward."));
        assert!(words("soup").contains("7 passes over the evaluation rows"));
    }
}
