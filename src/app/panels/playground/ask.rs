//! The prompt, the sampler, and the choice of panes.

use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled};
use crate::config::MixtureConfig;
use crate::protocol::{ANSWER_TOKENS, Pane, PlayPlan, Sampler};
use egui::{RichText, Ui};
use std::collections::BTreeSet;

/// The prompt and how it is laid out.
pub fn prompt_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, plan: &mut PlayPlan) {
    let edit = egui::TextEdit::multiline(&mut plan.prompt).desired_rows(3).desired_width(f32::INFINITY);
    ui.add(edit.hint_text("What the model is asked, or the beginning of a text")).accessible_name("The prompt");
    let prompts = prompts(ctx);
    ui.horizontal_wrapped(|ui| {
        let tip = "Puts the prompt into the model's own chat template. Off: as the run was trained, or as it is typed";
        labeled::toggle(ui, "Chat template", tip, &mut plan.chat);
        if !prompts.is_empty() {
            cards::caption(ui, ctx.theme, "or take");
        }
        for (number, prompt) in prompts.iter().enumerate() {
            let button = ui.small_button(format!("evaluation text {}", number + 1)).on_hover_text(prompt);
            if button.clicked() {
                plan.prompt.clone_from(prompt);
                plan.chat = false;
            }
        }
    });
    if plan.chat {
        let tip = "System message before the prompt, where the template supports one";
        labeled::text(ui, "System prompt", tip, "empty: the template's own", &mut plan.system);
    }
}

/// Prompts of evaluation texts: those of the shown run's samples, else the part before the learned tokens of the
/// form's first texts.
pub fn prompts(ctx: &PanelCtx<'_>) -> Vec<String> {
    let samples = ctx.session.shown().and_then(|run| run.samples.last());
    let asked: Vec<String> = samples.iter().flat_map(|record| &record.samples).map(|one| one.prompt.clone()).collect();
    if !asked.is_empty() {
        // A long one is kept without its beginning.
        return asked.into_iter().filter(|prompt| !prompt.starts_with('…')).take(3).collect();
    }
    let Some(preview) = &ctx.session.texts.value else { return Vec::new() };
    let prompt = |sample: &crate::protocol::SampleText| {
        let read = sample.tokens.iter().take_while(|token| !token.learned).filter(|token| !token.special);
        read.map(|token| token.text.as_str()).collect::<String>().trim().to_owned()
    };
    preview.dev.sample.iter().map(prompt).filter(|prompt| !prompt.is_empty()).take(3).collect()
}

/// How the next token is chosen.
pub fn sampler_ui(ui: &mut Ui, sampler: &mut Sampler) {
    let tip = "Most tokens of an answer";
    labeled::number(ui, "Longest answer (tokens)", tip, &mut sampler.max_new_tokens, ANSWER_TOKENS, 1.0);
    let tip = "0: always the most likely token. Higher: more random";
    labeled::number_or(ui, "Temperature", tip, "greedy", &mut sampler.temperature, 0.0..=5.0, 0.01);
    let drawn = sampler.temperature > 0.0;
    egui::CollapsingHeader::new("More about choosing tokens").show(ui, |ui| {
        ui.add_enabled_ui(drawn, |ui| {
            let reason = "Not now: with temperature 0 nothing is drawn";
            let tip = "Sample among this number of most likely tokens";
            labeled::number_or(ui, "Top-k", tip, "all", &mut sampler.top_k, 0..=100_000, 0.5)
                .on_disabled_hover_text(reason);
            let tip = "Sample among the most likely tokens whose probabilities add up to this";
            labeled::number(ui, "Top-p", tip, &mut sampler.top_p, 0.01..=1.0, 0.005).on_disabled_hover_text(reason);
            let tip = "The same seed for every pane";
            labeled::number(ui, "Seed", tip, &mut sampler.seed, 0..=u64::MAX, 0.1).on_disabled_hover_text(reason);
        });
        let tip = "Makes earlier tokens less likely; 1: off";
        labeled::number(ui, "Repetition penalty", tip, &mut sampler.repetition_penalty, 1.0..=5.0, 0.005);
    });
}

/// Which panes are open.
pub struct PaneChoice {
    base: bool,
    merged: bool,
    experts: BTreeSet<usize>,
    route: bool,
    route_number: u64,
    ensemble: bool,
}

impl Default for PaneChoice {
    fn default() -> Self {
        Self { base: true, merged: true, experts: BTreeSet::new(), route: true, route_number: 0, ensemble: false }
    }
}

/// Routes of the ensemble pane.
const ENSEMBLE: usize = 5;

impl PaneChoice {
    /// The switches; gives the panes in order, merged first: the others are compared with it.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, mixture: &MixtureConfig) -> Vec<Pane> {
        ui.horizontal_wrapped(|ui| {
            ui.label("Panes").on_hover_text("Which variants answer. The others are compared with the first");
            labeled::toggle(ui, "Merged", "The experts averaged into one, as exported", &mut self.merged);
            labeled::toggle(ui, "Base", "The model as it was before training", &mut self.base);
            labeled::toggle(ui, "Random route", "One expert drawn for each layer and side", &mut self.route);
            if self.route {
                let number = egui::DragValue::new(&mut self.route_number).range(0..=9999).speed(0.05);
                drop(ui.add(number).on_hover_text("Which draw: another number, another route"));
            }
            labeled::toggle(ui, "Ensemble", "The mean of the probabilities of five random routes", &mut self.ensemble);
        });
        if mixture.num_experts > 1 {
            ui.horizontal_wrapped(|ui| {
                cards::caption(ui, ctx.theme, "Single experts");
                for expert in 0..mixture.num_experts {
                    let chosen = self.experts.contains(&expert);
                    let words = RichText::new(expert.to_string()).color(ctx.theme.series(expert));
                    let tip = format!("Expert {expert} in every layer");
                    if ui.selectable_label(chosen, words).on_hover_text(tip).clicked() && !self.experts.remove(&expert)
                    {
                        self.experts.insert(expert);
                    }
                }
            });
        }
        self.experts.retain(|&expert| expert < mixture.num_experts);
        let single = self.experts.iter().map(|&expert| Pane::Expert(expert));
        let flags = [(self.merged, Pane::Merged), (self.base, Pane::Base)];
        let first = flags.into_iter().filter(|(on, _)| *on).map(|(_, pane)| pane);
        let last = [(self.route, Pane::Route(self.route_number)), (self.ensemble, Pane::Ensemble(ENSEMBLE))];
        first.chain(single).chain(last.into_iter().filter(|(on, _)| *on).map(|(_, pane)| pane)).collect()
    }
}
