//! The answers: one card for each pane, every token coloured by the divergence from the first pane's distribution.

use super::what_if::{self, NextTurn, Picked, Source};
use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::format;
use crate::protocol::{Pane, PaneAnswer, PlayEnd, PlayReport, PlayToken, PlayTurn};
use egui::text::{LayoutJob, TextFormat};
use egui::{RichText, Ui};

/// A divergence in nats that gets the full colour.
const FULL: f32 = 2.0;
/// Smallest width of a pane beside another one.
const NARROWEST: f32 = 260.0;

/// The answers as far as they are generated.
pub fn drafts_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, panes: &[Pane]) {
    let drafts = &ctx.session.writing;
    let progress = ctx.session.play.progress.as_ref();
    if drafts.is_empty() {
        return cards::loading(ui, progress.map_or("The model is being read", |p| p.what.as_str()), None);
    }
    columns(ui, panes.len(), |ui, number| {
        cards::card(ui, ctx.theme, &panes[number].title(), |ui| {
            match drafts.get(number).filter(|text| !text.is_empty()) {
                Some(text) => ui.label(text),
                None => cards::muted(ui, ctx.theme, "waiting"),
            };
        });
    });
}

/// All answers, with a legend of the colours. `turns`: why the conversation cannot go on. Gives the turn that the user
/// goes on with.
pub fn report_ui<'a>(
    ctx: &PanelCtx<'_>,
    ui: &mut Ui,
    report: &'a PlayReport,
    picked: &mut Option<Picked>,
    turns: Option<&'static str>,
) -> Option<NextTurn<'a>> {
    if let [first, _, ..] = &report.answers[..] {
        legend_ui(ctx.theme, ui, first.pane);
    }
    let mut next = None;
    columns(ui, report.answers.len(), |ui, number| {
        let turn = answer_ui(ctx, ui, report, number, picked, turns);
        next = next.take().or(turn);
    });
    egui::CollapsingHeader::new("What the model read").show(ui, |ui| {
        cards::caption(ui, ctx.theme, format!("{} tokens", format::count(report.prompt_tokens)));
        ui.add(egui::Label::new(RichText::new(&report.prompt).monospace()).wrap());
    });
    next
}

/// As many panes side by side as there is room for, then the next row.
pub fn columns(ui: &mut Ui, count: usize, mut pane: impl FnMut(&mut Ui, usize)) {
    let room = (ui.available_width() / NARROWEST) as usize;
    let across = room.clamp(1, 3).min(count.max(1));
    for row in 0..count.div_ceil(across) {
        ui.columns(across, |cells| {
            for (cell, number) in cells.iter_mut().zip(row * across..count) {
                pane(cell, number);
            }
        });
        ui.add_space(6.0);
    }
}

fn legend_ui(theme: &Theme, ui: &mut Ui, first: Pane) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let mut job = LayoutJob::default();
        for (words, divergence) in [(" agrees ", 0.0), (" differs ", 0.5 * FULL), (" strongly ", FULL)] {
            job.append(words, 0.0, token_format(ui, theme, divergence, false));
        }
        let tip = "Kullback-Leibler divergence of this pane's next-token distribution from the first pane's, after the same \
                   words, in nats: 0 is agreement. Hover a word for the numbers";
        ui.label(job).on_hover_text(tip);
        let words = format!("with {} about this word; underlined: the first word that differs", first.title());
        cards::caption(ui, theme, words);
    });
    ui.add_space(4.0);
}

fn answer_ui<'a>(
    ctx: &PanelCtx<'_>,
    ui: &mut Ui,
    report: &'a PlayReport,
    number: usize,
    picked: &mut Option<Picked>,
    turns: Option<&'static str>,
) -> Option<NextTurn<'a>> {
    let (theme, answer) = (ctx.theme, &report.answers[number]);
    cards::card(ui, theme, &answer.pane.title(), |ui| {
        ui.horizontal_wrapped(|ui| {
            let tip = "Hash of all weights that wrote this, the base model's and the modules' on it: equal hashes are the same \
                       model. The step is that of the modules";
            let step = ctx.session.play.weights.filter(|_| answer.pane != Pane::Base).map(|weights| weights.step);
            let step = step.map_or_else(String::new, |step| format!(", step {}", format::count(step)));
            cards::badge(ui, &format!("{}{step}", answer.fingerprint), theme.muted).on_hover_text(tip);
            if let Some(same) = report.answers[..number].iter().find(|other| other.fingerprint == answer.fingerprint) {
                cards::badge(ui, &format!("same weights as {}", same.pane.title()), theme.warning);
            }
        });
        AnswerText { report, answer, source: Source::Pane(number), first: number == 0 }.ui(ctx, ui, picked, turns)
    })
}

/// An answer with what can be done with it.
pub struct AnswerText<'a> {
    pub report: &'a PlayReport,
    pub answer: &'a PaneAnswer,
    pub source: Source,
    /// It is compared with nothing.
    pub first: bool,
}

impl<'a> AnswerText<'a> {
    pub fn ui(
        &self,
        ctx: &PanelCtx<'_>,
        ui: &mut Ui,
        picked: &mut Option<Picked>,
        turns: Option<&'static str>,
    ) -> Option<NextTurn<'a>> {
        let Self { report, answer, source, first } = self;
        let (theme, source) = (ctx.theme, *source);
        if let Some(token) = tokens_ui(theme, ui, &report.prefix, answer) {
            *picked = Some(Picked { source, token });
        }
        ui.add_space(2.0);
        let mut next = None;
        ui.push_id(("answer", source), |ui| {
            ui.horizontal_wrapped(|ui| {
                cards::caption(ui, theme, summary(answer, *first));
                let whole = format!("{}{}", report.prefix, answer.text);
                let copy = egui::Button::new(RichText::new("Copy").small());
                drop(ctx.button_as(ui, Action::Copy(whole.clone()), copy));
                let tip = "Goes on from any word of this answer, with that word or another one";
                if !answer.tokens.is_empty() && ui.small_button("What if…").on_hover_text(tip).clicked() {
                    let token = answer.diverges_at.unwrap_or(0).min(answer.tokens.len() - 1);
                    *picked = Some(Picked { source, token });
                }
                let reply = ui.add_enabled(turns.is_none(), egui::Button::new(RichText::new("Reply").small()));
                let tip = "Makes this answer part of the conversation: the prompt is the next question";
                let reply = reply.on_hover_text(tip);
                if reply.on_disabled_hover_text(format!("Not now: {}", turns.unwrap_or_default())).clicked() {
                    next = Some((PlayTurn { question: report.plan.prompt.clone(), answer: whole }, &report.plan));
                }
            });
            if let Some(own) = picked.as_mut().filter(|picked| picked.source == source)
                && !what_if::choice_ui(ctx, ui, report, answer, own)
            {
                *picked = None;
            }
        });
        next
    }
}

/// Length, speed, agreement.
fn summary(answer: &PaneAnswer, first: bool) -> String {
    let n = answer.tokens.len();
    let mut words = vec![format::counted(n, "token")];
    if answer.seconds > 0.0 {
        words.push(format!("{:.0} a second", n as f64 / answer.seconds));
    }
    if answer.end == PlayEnd::Length {
        words.push("cut at the longest answer".to_owned());
    }
    if !first {
        let mean = answer.tokens.iter().map(|token| f64::from(token.divergence)).sum::<f64>() / n.max(1) as f64;
        words.push(format!("KL {mean:.3} a token"));
        words.push(match answer.diverges_at {
            Some(at) => format!("differs from token {}", at + 1),
            None => "the same text".to_owned(),
        });
    }
    words.join(", ")
}

/// The text, token by token; each can be hovered. Gives the one that was clicked. `prefix`: what was given of the answer.
fn tokens_ui(theme: &Theme, ui: &mut Ui, prefix: &str, answer: &PaneAnswer) -> Option<usize> {
    if answer.tokens.is_empty() && prefix.is_empty() {
        cards::muted(ui, theme, "Empty answer: the first token ends it");
        return None;
    }
    let mut job = LayoutJob::default();
    let font = egui::TextStyle::Body.resolve(ui.style());
    job.append(prefix, 0.0, TextFormat::simple(font, theme.muted));
    for (number, token) in answer.tokens.iter().enumerate() {
        let differs = answer.diverges_at == Some(number);
        job.append(&token.text, 0.0, token_format(ui, theme, token.divergence, differs));
    }
    job.wrap.max_width = ui.available_width();
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
    let (at, galley, response) = egui::Label::new(galley).sense(egui::Sense::click()).layout_in_ui(ui);
    let whole = format!("{prefix}{}", answer.text);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, &whole));
    let given = prefix.chars().count();
    let pointed = response.hover_pos().and_then(|pointer| {
        // Clusters before the pointer, in characters: the token that holds the last one.
        let index = galley.cursor_from_pos(pointer - at).index;
        token_at(&answer.tokens, index.0.checked_sub(given)?)
    });
    ui.painter().galley(at, galley, ui.visuals().text_color());
    let number = pointed?;
    let clicked = response.clicked().then_some(number);
    if let Some(token) = answer.tokens.get(number) {
        drop(response.on_hover_ui_at_pointer(|ui| token_tip(theme, ui, token)));
    }
    clicked
}

/// The number of the token that holds the character with this number.
fn token_at(tokens: &[PlayToken], index: usize) -> Option<usize> {
    let mut end = 0;
    tokens.iter().position(|token| {
        end += token.text.chars().count();
        index < end
    })
}

fn token_tip(theme: &Theme, ui: &mut Ui, token: &PlayToken) {
    ui.label(RichText::new(format!("{:?}", token.text)).monospace().strong());
    let percent = format::percent(f64::from(token.log_prob).exp());
    ui.label(format!("probability {percent}, divergence {:.3} nats", token.divergence));
    cards::caption(ui, theme, "Likeliest here");
    for other in &token.likeliest {
        let words = format!("{:>6}  {:?}", format::percent(f64::from(other.p)), other.text);
        ui.label(RichText::new(words).monospace().small());
    }
    cards::caption(ui, theme, "Click to go on from here, or with another word");
}

fn token_format(ui: &Ui, theme: &Theme, divergence: f32, differs: bool) -> TextFormat {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let share = (divergence / FULL).clamp(0.0, 1.0);
    // Very small differences are not coloured.
    let background =
        if share < 0.02 { egui::Color32::TRANSPARENT } else { theme.warning.gamma_multiply(0.08 + 0.4 * share) };
    let underline = if differs { egui::Stroke::new(2.0, theme.error) } else { egui::Stroke::NONE };
    TextFormat { background, underline, expand_bg: 0.0, ..TextFormat::simple(font, ui.visuals().text_color()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointer_finds_its_token_by_characters() {
        let token = |text: &str| PlayToken { text: text.to_owned(), ..PlayToken::default() };
        let tokens = [token("Käse"), token(""), token(" ist"), token(" gut")];
        let at = |index| token_at(&tokens, index).map(|number| tokens[number].text.as_str());
        assert_eq!((at(0), at(3), at(4), at(8)), (Some("Käse"), Some("Käse"), Some(" ist"), Some(" gut")));
        assert_eq!(at(12), None);
    }
}
