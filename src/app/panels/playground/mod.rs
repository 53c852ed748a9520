//! Trying a model: a classifier reads a text, a language model answers a prompt in several variants, side by side.

mod answers;
mod ask;
mod branches;
mod classifier;
mod conversation;
mod ways;
mod what_if;
mod words;

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::view::View;
use crate::app::weights_line;
use crate::app::widgets::cards;
use crate::config::{Method, MixtureConfig};
use crate::protocol::{Pane, PlayPlan, TemplateUse, Writer};
use egui::Ui;
use std::path::PathBuf;

pub struct PlaygroundPanel {
    plan: PlayPlan,
    panes: ask::PaneChoice,
    /// The model whose first prompt was offered, with the run's directory.
    offered: Option<(Writer, Option<PathBuf>)>,
    picked: Option<what_if::Picked>,
    classifier: classifier::TryPanel,
    /// The form's language model is asked although a classifier's run is shown.
    asks_form: bool,
}

const QUESTION: &str = "Name three things to see in Paris.";

impl Default for PlaygroundPanel {
    fn default() -> Self {
        Self {
            plan: PlayPlan { prompt: QUESTION.to_owned(), chat: true, ..PlayPlan::default() },
            panes: ask::PaneChoice::default(),
            offered: None,
            picked: None,
            classifier: classifier::TryPanel::default(),
            asks_form: false,
        }
    }
}

impl PlaygroundPanel {
    /// Sets template and system message as the model was trained, and offers an evaluation text unless something else
    /// was typed.
    fn offer(&mut self, ctx: &PanelCtx<'_>) {
        let session = ctx.session;
        let (Some(info), Some(writer)) = (&session.prompts.value, &session.prompts_of) else { return };
        let is_run = matches!(writer, Writer::Run(_));
        let of = (writer.clone(), session.shown().filter(|_| is_run).map(|run| run.dir.clone()));
        if self.offered.as_ref() == Some(&of) {
            return;
        }
        self.offered = Some(of);
        self.plan.chat = ask::template_by_default(info, is_run);
        self.plan.system = info.system.clone().unwrap_or_default();
        self.plan.earlier.clear();
        if self.plan.prompt == QUESTION
            && let Some(text) = info.texts.first()
        {
            ask::take_text(&mut self.plan, info, text, is_run);
        }
    }

    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        if let Some(run) = ctx.session.shown().filter(|run| !run.writes()) {
            if ctx.session.form_writer().is_some() {
                ui.horizontal_wrapped(|ui| {
                    let tip = "The classifier that this run trains";
                    ui.selectable_value(&mut self.asks_form, false, format!("Try {}", run.name())).on_hover_text(tip);
                    let tip = "The language model chosen in Setup, as it is before training";
                    ui.selectable_value(&mut self.asks_form, true, "Ask the model in Setup").on_hover_text(tip);
                });
            }
            if !self.asks_form || ctx.session.form_writer().is_none() {
                return self.classifier.ui(ctx, ui, run);
            }
        }
        let Some(writer) = ctx.session.writer() else {
            let hint = "Train a classifier or a language model, or open a run, and try it here: the preset Lab trains a \
                        classifier in some minutes. A language model chosen in Setup can be asked before any training.";
            return cards::empty(ui, ctx.theme, "Nothing to try yet", hint, |ui| {
                drop(ctx.button(ui, Action::Show(View::Setup)));
            });
        };
        self.offer(ctx);
        self.ask_ui(ctx, ui, &writer);
        ctx.error_ui(ui, &ctx.session.play);
        if ctx.session.play.is_pending() {
            return answers::drafts_ui(ctx, ui, &self.plan.panes);
        }
        let Some(report) = &ctx.session.play.value else {
            let words = "Write lets every chosen pane answer with the same seed. Colours then show how far \
                         their distributions differ from the first pane's, and from which word on the texts differ.";
            return drop(cards::muted(ui, ctx.theme, words));
        };
        let turns = self.turns_refusal(ctx);
        let next = answers::report_ui(ctx, ui, report, &mut self.picked, turns);
        let next = branches::ui(ctx, ui, &mut self.picked, turns).or(next);
        if let Some((turn, of)) = next {
            self.plan.earlier.clone_from(&of.earlier);
            self.plan.earlier.push(turn);
            (self.plan.system, self.plan.chat) = (of.system.clone(), of.chat);
            self.plan.prompt.clear();
        }
    }

    fn ask_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui, writer: &Writer) {
        cards::card(ui, ctx.theme, "Prompt", |ui| {
            match (&writer, ctx.session.shown()) {
                (Writer::Run(_), Some(run)) => weights_line::ui(ctx, run, ui),
                (Writer::Model(path), _) => {
                    drop(cards::caption(ui, ctx.theme, format!("Answered by {path}, without a mixture")));
                }
                (Writer::Run(_), None) => {}
            }
            conversation::ui(ctx, ui, &mut self.plan);
            ask::prompt_ui(ctx, ui, &mut self.plan, matches!(writer, Writer::Run(_)));
            ask::sampler_ui(ui, &mut self.plan.sampler);
            let mixture = mixture(ctx, writer);
            self.plan.panes = mixture.map_or_else(|| vec![Pane::Base], |mixture| self.panes.ui(ctx, ui, mixture));
            ui.add_space(4.0);
            ui.horizontal(|ui| {
                let play = Action::Play(writer.clone(), Box::new(self.plan.clone()));
                if ctx.primary(ui, play.clone(), "Write").clicked() {
                    self.picked = None;
                }
                ctx.command_button(ui, &play);
                if ctx.session.play.is_pending() || ctx.session.branch.is_pending() {
                    drop(ctx.button(ui, Action::CancelJob));
                }
            });
        });
    }

    /// Why a conversation cannot have several turns.
    fn turns_refusal(&self, ctx: &PanelCtx<'_>) -> Option<&'static str> {
        let info = ctx.session.prompts.value.as_ref();
        let possible = self.plan.chat || info.is_some_and(|info| info.turns_without);
        let reason = match info.map(|info| info.template) {
            Some(TemplateUse::Absent) => "several turns need a chat template, and this model has none",
            _ => "several turns need the chat template; turn it on",
        };
        (!possible).then_some(reason)
    }
}

/// The mixture of the run that answers.
fn mixture<'a>(ctx: &PanelCtx<'a>, writer: &Writer) -> Option<&'a MixtureConfig> {
    let run = ctx.session.shown().filter(|_| matches!(writer, Writer::Run(_)))?;
    (run.config.model.method == Method::Adamix).then_some(&run.config.mixture)
}
