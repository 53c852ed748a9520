//! One prompt, answered by several variants of one model, side by side.

mod answers;
mod ask;

use crate::app::actions::Action;
use crate::app::panel_ctx::{PanelCtx, opened_note_ui};
use crate::app::run_view::RunView;
use crate::app::view::View;
use crate::app::widgets::cards;
use crate::config::{Method, MixtureConfig, Task};
use crate::protocol::{Pane, PlayPlan, Writer};
use egui::Ui;
use std::path::PathBuf;

pub struct PlaygroundPanel {
    plan: PlayPlan,
    panes: ask::PaneChoice,
    /// The run whose first prompt was offered.
    offered: Option<PathBuf>,
}

const QUESTION: &str = "Name three things to see in Paris.";

impl Default for PlaygroundPanel {
    fn default() -> Self {
        let plan = PlayPlan { prompt: QUESTION.to_owned(), chat: true, ..PlayPlan::default() };
        Self { plan, panes: ask::PaneChoice::default(), offered: None }
    }
}

impl PlaygroundPanel {
    /// Offers an evaluation prompt of the shown run as the prompt, unless another one was typed.
    fn offer(&mut self, ctx: &PanelCtx<'_>) {
        let Some(run) = ctx.session.shown() else { return };
        let answered = run.samples.last().is_some_and(|record| !record.samples.is_empty());
        if self.offered.as_ref() == Some(&run.dir) || !answered {
            return;
        }
        self.offered = Some(run.dir.clone());
        if self.plan.prompt == QUESTION
            && let Some(prompt) = ask::prompts(ctx).into_iter().next()
        {
            self.plan.prompt = prompt;
            self.plan.chat = false;
        }
    }

    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let Some((writer, mixture)) = writer(ctx) else {
            let hint = "Choose a language model in Setup (a directory or a GGUF file), or open a run of one: the preset Lab for \
                        writing trains one in about a minute. Classifiers cannot answer.";
            return cards::empty(ui, ctx.theme, "No language model", hint, |ui| {
                drop(ctx.button(ui, Action::Show(View::Setup)));
            });
        };
        self.offer(ctx);
        opened_note_ui(ctx, ui);
        cards::card(ui, ctx.theme, "Prompt", |ui| {
            let words = match &writer {
                Writer::Run(_) => {
                    format!("Answered by {}", ctx.session.shown().map_or_else(String::new, RunView::name))
                }
                Writer::Model(path) => format!("Answered by {path}, without a mixture"),
            };
            cards::caption(ui, ctx.theme, words);
            ask::prompt_ui(ctx, ui, &mut self.plan);
            ask::sampler_ui(ui, &mut self.plan.sampler);
            self.plan.panes = mixture.map_or_else(|| vec![Pane::Base], |mixture| self.panes.ui(ctx, ui, mixture));
            ui.add_space(4.0);
            ui.horizontal(|ui| {
                let play = Action::Play(writer.clone(), Box::new(self.plan.clone()));
                drop(ctx.primary(ui, play, "Write"));
                if ctx.session.play.is_pending() {
                    drop(ctx.button(ui, Action::CancelJob));
                }
            });
        });
        ctx.error_ui(ui, &ctx.session.play);
        if ctx.session.play.is_pending() {
            answers::drafts_ui(ctx, ui, &self.plan.panes);
        } else if let Some(report) = &ctx.session.play.value {
            answers::report_ui(ctx, ui, report);
        } else {
            let words = "Write lets every chosen pane answer with the same seed. Colours then show how far \
                         their distributions differ from the first pane's, and from which word on the texts differ.";
            cards::muted(ui, ctx.theme, words);
        }
    }
}

/// Whose model answers: the shown run if it is a language model, else the form's model if it is one; with the run's mixture.
fn writer<'a>(ctx: &PanelCtx<'a>) -> Option<(Writer, Option<&'a MixtureConfig>)> {
    let session = ctx.session;
    if let (Some(run), Some(subject)) = (session.shown(), session.subject())
        && run.config.data.task == Task::Text
    {
        let mixture = (run.config.model.method == Method::Adamix).then_some(&run.config.mixture);
        return Some((Writer::Run(subject), mixture));
    }
    let writes = session.model.value.as_ref().is_some_and(|info| info.writes && info.path == session.form.model.path);
    writes.then(|| (Writer::Model(session.form.model.path.clone()), None))
}
