//! What-if answers: those that go on from a place in another one.

use super::answers::{self, AnswerText};
use super::what_if::{NextTurn, Picked, Source};
use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cards;
use egui::{Button, RichText, Ui};

/// Draws them side by side. `turns`: why the conversation cannot go on. Gives the turn that the user goes on with.
pub fn ui<'a>(
    ctx: &PanelCtx<'a>,
    ui: &mut Ui,
    picked: &mut Option<Picked>,
    turns: Option<&'static str>,
) -> Option<NextTurn<'a>> {
    let session = ctx.session;
    ctx.error_ui(ui, &session.branch);
    if session.branches.is_empty() && !session.branch.is_pending() {
        return None;
    }
    let mut next = None;
    ui.add_space(4.0);
    ui.strong("What if");
    let pending = usize::from(session.branch.is_pending());
    answers::columns(ui, session.branches.len() + pending, |ui, number| {
        let Some(report) = session.branches.get(number) else {
            return cards::card(ui, ctx.theme, "Being written", |ui| {
                ui.label(session.writing.first().map_or("…", String::as_str));
            });
        };
        let Some(answer) = report.answers.first() else { return };
        let title = format!("{}, from token {}", answer.pane.title(), report.plan.prefix.len());
        let turn = cards::card(ui, ctx.theme, &title, |ui| {
            let text = AnswerText { report, answer, source: Source::Branch(number), first: true };
            let turn = text.ui(ctx, ui, picked, turns);
            ui.push_id(("branch", number), |ui| {
                let remove = Button::new(RichText::new("Remove").small());
                if ctx.button_as(ui, Action::RemoveBranch(number), remove).clicked() {
                    *picked = None;
                }
            });
            turn
        });
        next = next.take().or(turn);
    });
    next
}
