//! The prompt, the sampler, and the choice of panes.

use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled};
use crate::config::MixtureConfig;
use crate::protocol::{ANSWER_TOKENS, Pane, PlayPlan, PromptInfo, PromptText, Sampler, TemplateUse};
use egui::{RichText, Ui};
use std::collections::BTreeSet;

/// Whether the chat template is used unless the user says otherwise: as the run was trained; of a model without a run,
/// where there is one.
pub fn template_by_default(info: &PromptInfo, is_run: bool) -> bool {
    match info.template {
        TemplateUse::Trained => true,
        TemplateUse::Present => !is_run,
        TemplateUse::Absent => false,
    }
}

/// Asks an evaluation text as the run was trained to be asked.
pub fn take_text(plan: &mut PlayPlan, info: &PromptInfo, text: &PromptText, is_run: bool) {
    plan.chat = template_by_default(info, is_run);
    plan.prompt.clone_from(&text.prompt);
    plan.earlier.clone_from(&text.earlier);
    plan.system.clone_from(&text.system);
}

/// The prompt and how it is laid out. `is_run`: a run answers.
pub fn prompt_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, plan: &mut PlayPlan, is_run: bool) {
    let edit = egui::TextEdit::multiline(&mut plan.prompt).desired_rows(3).desired_width(f32::INFINITY);
    let hint = if plan.earlier.is_empty() {
        "What the model is asked, or the beginning of a text"
    } else {
        "What is asked next"
    };
    ui.add(edit.hint_text(hint)).accessible_name("The prompt");
    ctx.error_ui(ui, &ctx.session.prompts);
    let info = ctx.session.prompts.value.as_ref();
    ui.horizontal_wrapped(|ui| {
        let absent = info.is_some_and(|info| info.template == TemplateUse::Absent);
        let tip =
            "Puts the conversation into the chat template: the one the run was trained with, else the model's own";
        ui.add_enabled_ui(!absent, |ui| labeled::toggle(ui, "Chat template", tip, &mut plan.chat))
            .inner
            .on_disabled_hover_text("Not now: the model's files hold no chat template");
        if let Some(info) = info {
            cards::caption(ui, ctx.theme, layout_words(info, plan.chat, is_run));
        }
    });
    if let Some(info) = info.filter(|info| !info.texts.is_empty()) {
        ui.horizontal_wrapped(|ui| {
            cards::caption(ui, ctx.theme, "Or take");
            for (number, text) in info.texts.iter().enumerate() {
                let button = ui.small_button(format!("evaluation text {}", number + 1)).on_hover_text(&text.prompt);
                if button.clicked() {
                    take_text(plan, info, text, is_run);
                }
            }
        });
    }
    if plan.chat {
        system_ui(ctx, ui, plan, info.and_then(|info| info.system.as_deref()));
    }
}

/// How the prompt is laid out now, in words.
fn layout_words(info: &PromptInfo, chat: bool, is_run: bool) -> String {
    match (info.template, chat) {
        (TemplateUse::Trained, true) => "as the run was trained".to_owned(),
        (TemplateUse::Trained, false) => format!("not as the run was trained: {}", info.without),
        (TemplateUse::Present, true) if is_run => {
            "not as the run was trained: it has learned without a template".to_owned()
        }
        (TemplateUse::Present, true) => "the model's own".to_owned(),
        (TemplateUse::Absent, _) => format!("the model has none; {}", info.without),
        (_, false) if is_run => format!("as the run was trained: {}", info.without),
        (_, false) => info.without.clone(),
    }
}

fn system_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, plan: &mut PlayPlan, trained: Option<&str>) {
    let tip = "System message before the conversation, where the template supports one";
    labeled::text(ui, "System prompt", tip, "empty: the template's own, if it has one", &mut plan.system);
    let Some(trained) = trained.filter(|trained| *trained != plan.system) else { return };
    ui.horizontal_wrapped(|ui| {
        cards::caption(ui, ctx.theme, "all training texts have another one");
        if ui.small_button("Take the trained one").on_hover_text(trained).clicked() {
            trained.clone_into(&mut plan.system);
        }
    });
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
