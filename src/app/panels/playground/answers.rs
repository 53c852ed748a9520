//! The answers: one card for each pane, every token coloured by the divergence from the first pane's distribution.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::format;
use crate::protocol::{Pane, PaneAnswer, PlayEnd, PlayReport, PlayToken};
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

/// All answers, with a legend of the colours.
pub fn report_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, report: &PlayReport) {
    if let [first, _, ..] = &report.answers[..] {
        legend_ui(ctx.theme, ui, first.pane);
    }
    columns(ui, report.answers.len(), |ui, number| answer_ui(ctx, ui, report, number));
    egui::CollapsingHeader::new("What the model read").show(ui, |ui| {
        cards::caption(ui, ctx.theme, format!("{} tokens", format::count(report.prompt_tokens)));
        ui.add(egui::Label::new(RichText::new(&report.prompt).monospace()).wrap());
    });
}

/// As many panes side by side as there is room for, then the next row.
fn columns(ui: &mut Ui, count: usize, mut pane: impl FnMut(&mut Ui, usize)) {
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

fn answer_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, report: &PlayReport, number: usize) {
    let (theme, answer) = (ctx.theme, &report.answers[number]);
    cards::card(ui, theme, &answer.pane.title(), |ui| {
        ui.horizontal_wrapped(|ui| {
            let tip = "Hash of the weights that wrote this, and of how they were run: equal hashes are the same model";
            cards::badge(ui, &answer.fingerprint, theme.muted).on_hover_text(tip);
            if let Some(same) = report.answers[..number].iter().find(|other| other.fingerprint == answer.fingerprint) {
                cards::badge(ui, &format!("same weights as {}", same.pane.title()), theme.warning);
            }
        });
        tokens_ui(theme, ui, answer);
        ui.add_space(2.0);
        ui.horizontal_wrapped(|ui| {
            cards::caption(ui, theme, summary(answer, number == 0));
            ui.push_id(number, |ui| {
                let copy = egui::Button::new(RichText::new("Copy").small());
                drop(ctx.button_as(ui, Action::Copy(answer.text.clone()), copy));
            });
        });
    });
}

/// Length, speed, agreement.
fn summary(answer: &PaneAnswer, first: bool) -> String {
    let n = answer.tokens.len();
    let mut words = vec![format!("{n} tokens")];
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

/// The text, token by token; each can be hovered.
fn tokens_ui(theme: &Theme, ui: &mut Ui, answer: &PaneAnswer) {
    if answer.tokens.is_empty() {
        cards::muted(ui, theme, "Empty answer: the first token ends it");
        return;
    }
    let mut job = LayoutJob::default();
    for (number, token) in answer.tokens.iter().enumerate() {
        let differs = answer.diverges_at == Some(number);
        job.append(&token.text, 0.0, token_format(ui, theme, token.divergence, differs));
    }
    job.wrap.max_width = ui.available_width();
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
    let (at, galley, response) = egui::Label::new(galley).layout_in_ui(ui);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, &answer.text));
    let pointed = response.hover_pos().and_then(|pointer| {
        // Clusters before the pointer, in characters: the token that holds the last one.
        let index = galley.cursor_from_pos(pointer - at).index;
        token_at(&answer.tokens, index.0)
    });
    ui.painter().galley(at, galley, ui.visuals().text_color());
    if let Some(token) = pointed {
        drop(response.on_hover_ui_at_pointer(|ui| token_tip(theme, ui, token)));
    }
}

/// The token that holds the character with this number.
fn token_at(tokens: &[PlayToken], index: usize) -> Option<&PlayToken> {
    let mut end = 0;
    tokens.iter().find(|token| {
        end += token.text.chars().count();
        index < end
    })
}

fn token_tip(theme: &Theme, ui: &mut Ui, token: &PlayToken) {
    ui.label(RichText::new(format!("{:?}", token.text)).monospace().strong());
    let percent = format::percent(f64::from(token.log_prob).exp());
    ui.label(format!("probability {percent}, divergence {:.3} nats", token.divergence));
    cards::caption(ui, theme, "Likeliest here");
    for (text, p) in &token.likeliest {
        ui.label(RichText::new(format!("{:>6}  {text:?}", format::percent(f64::from(*p)))).monospace().small());
    }
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
        let at = |index| token_at(&tokens, index).map(|token| token.text.as_str());
        assert_eq!((at(0), at(3), at(4), at(8)), (Some("Käse"), Some("Käse"), Some(" ist"), Some(" gut")));
        assert_eq!(at(12), None);
    }
}
