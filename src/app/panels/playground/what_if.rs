//! Going on from a place in an answer, with the same word or another one.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cards;
use crate::format;
use crate::protocol::{PaneAnswer, PlayPlan, PlayReport, PlayTurn};
use egui::{Button, RichText, Ui};

/// A token of an answer on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub source: Source,
    /// Its number, from 0.
    pub token: usize,
}

/// One of the answers on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Of a pane.
    Pane(usize),
    /// Number of a what-if answer.
    Branch(usize),
}

/// The question to go on with: the turn that is added, and the plan it was asked with.
pub type NextTurn<'a> = (PlayTurn, &'a PlayPlan);

/// The plan that keeps an answer's tokens before `end` and then has these.
fn plan(report: &PlayReport, answer: &PaneAnswer, end: usize, more: Option<u32>) -> Box<PlayPlan> {
    let written = answer.tokens.iter().take(end).map(|token| token.id);
    let prefix = report.plan.prefix.iter().copied().chain(written).chain(more).collect();
    Box::new(PlayPlan { panes: vec![answer.pane], prefix, ..report.plan.clone() })
}

/// Under an answer: what can be done from the picked token on.
pub fn choice_ui(
    ctx: &PanelCtx<'_>,
    ui: &mut Ui,
    report: &PlayReport,
    answer: &PaneAnswer,
    picked: &mut Picked,
) -> bool {
    let mut open = true;
    ui.separator();
    ui.horizontal_wrapped(|ui| {
        ui.label("From token");
        let mut number = picked.token + 1;
        let drag = egui::DragValue::new(&mut number).range(1..=answer.tokens.len().max(1)).speed(0.1);
        let tip = "Number of the token; a click on a word picks it too";
        ui.add(drag).on_hover_text(tip).accessible_name("Token to go on from");
        picked.token = number.saturating_sub(1).min(answer.tokens.len().saturating_sub(1));
        let Some(token) = answer.tokens.get(picked.token) else { return };
        ui.label(RichText::new(format!("{:?}", token.text)).monospace());
        let on = Button::new("Continue from here");
        ctx.button_as(ui, Action::Branch(plan(report, answer, picked.token + 1, None)), on);
        if ui.small_button("Close").on_hover_text("Nothing is picked any more").clicked() {
            open = false;
        }
        ui.end_row();
        let others: Vec<_> = token.likeliest.iter().filter(|other| other.id != token.id).collect();
        if others.is_empty() {
            return;
        }
        cards::caption(ui, ctx.theme, "or what if it were");
        for other in others {
            let words = format!("{:?} {}", other.text, format::percent(f64::from(other.p)));
            let button = Button::new(RichText::new(words).monospace().small());
            ctx.button_as(ui, Action::Branch(plan(report, answer, picked.token, Some(other.id))), button);
        }
    });
    open
}
