//! Preview of texts, token by token, with the learned tokens in colour.

use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::format;
use crate::protocol::{SampleText, TextPreview};
use egui::text::{LayoutJob, TextFormat};
use egui::{RichText, Ui};

/// Tokens drawn of one example.
const SHOWN: usize = 400;

/// The preview in its four states.
pub fn preview_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let hint = "Choose a language model and a file to see what it will read, token by token.";
    let loading = "Reading and tokenizing the texts";
    let Some(preview) = ctx.answer(ui, &ctx.session.texts, loading, hint) else { return };
    figures_ui(ctx.theme, ui, preview);
    notes_ui(ctx.theme, ui, preview);
    egui::CollapsingHeader::new("Tokens").id_salt("text preview").default_open(true).show(ui, |ui| {
        legend_ui(ctx.theme, ui);
        for (name, split) in [("Training", &preview.train), ("Evaluation", &preview.dev)] {
            for sample in split.sample.iter().take(3) {
                sample_ui(ctx.theme, ui, name, sample);
            }
        }
    });
}

fn figures_ui(theme: &Theme, ui: &mut Ui, preview: &TextPreview) {
    let (train, dev) = (&preview.train, &preview.dev);
    let inputs = format!("{} different inputs: {}", format::count(dev.inputs as u64), dev.file);
    let learned = train.learned_tokens as f64 / train.tokens.max(1) as f64;
    let figures = [
        ("Format", format!("{:?}", preview.format).to_lowercase(), preview.layout.as_str()),
        ("Training texts", format::count(train.examples as u64), &train.file),
        ("Evaluation texts", format::count(dev.examples as u64), &inputs),
        (
            "Tokens per text",
            format!("{:.0} / {}", train.lengths.mean, train.lengths.max),
            "Mean and longest, before truncation",
        ),
        ("Learned", format::percent(learned), "Share of the tokens that the loss counts; the others are only read"),
        ("Cut off", format::percent(train.cut_share), "Share of the tokens beyond the longest input"),
    ];
    cards::figures(ui, theme, &figures);
}

fn notes_ui(theme: &Theme, ui: &mut Ui, preview: &TextPreview) {
    if preview.leaks > 0 {
        let example = preview.leak_examples.first().map_or_else(String::new, |text| format::ellipsis(text, 80));
        let text = format!(
            "{} evaluation texts are also training texts: the score will look better than it is. For example: {example}",
            format::count(preview.leaks as u64),
        );
        cards::note(ui, theme.warning, &text);
    }
    if preview.train.unlearned > 0 {
        let text = format!(
            "{} texts have nothing left to learn within {} tokens and are left out",
            format::count(preview.train.unlearned as u64),
            preview.max_length
        );
        cards::note(ui, theme.warning, &text);
    }
    if let Some(first) = preview.skipped.first() {
        let verb = if preview.refused { "cannot be used; training would stop there" } else { "are left out" };
        let n = format::count(preview.skipped.len() as u64);
        cards::note(ui, theme.warning, &format!("{n} rows {verb}: {}:{}: {}", first.file, first.line, first.reason));
    }
    for (n, words) in [
        (preview.duplicates_in_train, "training texts repeat an earlier one"),
        (preview.shared_inputs, "evaluation inputs are also inputs of training texts"),
    ] {
        if n > 0 {
            ui.label(RichText::new(format!("{} {words}", format::count(n as u64))).small().color(theme.muted));
        }
    }
}

fn legend_ui(theme: &Theme, ui: &mut Ui) {
    let mut job = LayoutJob::default();
    let style = |kind| token_format(ui, theme, kind);
    for (words, kind) in
        [("learned", TokenKind::Learned), ("only read", TokenKind::Read), ("special", TokenKind::Special)]
    {
        job.append(words, 0.0, style(kind));
        job.append("   ", 0.0, style(TokenKind::Read));
    }
    ui.label(job);
}

#[derive(Clone, Copy)]
enum TokenKind {
    Learned,
    Read,
    Special,
}

fn token_format(ui: &Ui, theme: &Theme, kind: TokenKind) -> TextFormat {
    let font = egui::TextStyle::Monospace.resolve(ui.style());
    let plain = TextFormat::simple(font, ui.visuals().text_color());
    match kind {
        // Colour and background, for readers who cannot distinguish the colours.
        TokenKind::Learned => {
            TextFormat { color: theme.ok, background: theme.ok.gamma_multiply(0.14), expand_bg: 0.0, ..plain }
        }
        TokenKind::Read => plain,
        TokenKind::Special => TextFormat { color: theme.muted, italics: true, ..plain },
    }
}

fn sample_ui(theme: &Theme, ui: &mut Ui, split: &str, sample: &SampleText) {
    let learned = sample.tokens.iter().filter(|token| token.learned).count();
    let cut = if sample.cut > 0 { format!(", {} cut off", sample.cut) } else { String::new() };
    let title = format!("{split}, line {}: {} tokens, {learned} learned{cut}", sample.line, sample.tokens.len());
    ui.add_space(4.0);
    ui.label(RichText::new(title).small().color(theme.muted));
    let mut job = LayoutJob::default();
    for token in sample.tokens.iter().take(SHOWN) {
        let kind = match (token.learned, token.special) {
            (true, _) => TokenKind::Learned,
            (false, true) => TokenKind::Special,
            (false, false) => TokenKind::Read,
        };
        job.append(&visible(&token.text), 0.0, token_format(ui, theme, kind));
    }
    if sample.tokens.len() > SHOWN {
        let more = format!(" … {} more tokens", sample.tokens.len() - SHOWN);
        job.append(&more, 0.0, token_format(ui, theme, TokenKind::Special));
    }
    job.wrap.max_width = ui.available_width();
    ui.add(egui::Label::new(job).wrap());
}

/// Line ends are shown and kept; control characters are escaped.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => "¶\n".to_owned(),
        '\t' => "→\t".to_owned(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(visible("a\nb\tc\u{7}"), "a¶\nb→\tc\\u{7}");
    }
}
