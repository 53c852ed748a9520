//! Preview of texts, token by token, with the learned tokens in colour.

use super::data_preview::{leaks_ui, left_out_text};
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::config::Truncate;
use crate::format;
use crate::protocol::{SampleText, TextPreview};
use egui::Ui;
use egui::text::{LayoutJob, TextFormat};

/// Tokens drawn of one example.
const SHOWN: usize = 400;

pub fn preview_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let hint = "Choose a language model and a file to see what it will read, token by token.";
    let loading = "Reading and tokenizing the texts";
    let Some(preview) = ctx.answer(ui, &ctx.session.texts, loading, hint) else { return };
    figures_ui(ctx.theme, ui, preview);
    notes_ui(ctx.theme, ui, preview);
    egui::CollapsingHeader::new("Tokens").default_open(true).show(ui, |ui| {
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
    let inputs = format!("{} different inputs: {}", format::count(dev.inputs), dev.file);
    let learned = train.learned_tokens as f64 / train.tokens.max(1) as f64;
    let figures = [
        ("Format", format!("{:?}", preview.format).to_lowercase(), preview.layout.as_str()),
        ("Training texts", format::count(train.examples), &train.file),
        ("Evaluation texts", format::count(dev.examples), &inputs),
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
    let train = &preview.train;
    leaks_ui(theme, ui, preview.leaks, &preview.leak_examples, "texts");
    cards::caption(ui, theme, format!("Read as {}", train.stored));
    if train.truncated > 0 {
        let (cut, of, most) = (format::count(train.truncated), format::count(train.measured), preview.max_length);
        let lost = match preview.truncate {
            Truncate::End => "their ends, with the token that ends an answer, are not learned",
            Truncate::Start => "their beginnings are not read",
        };
        cards::note(
            ui,
            theme.warning,
            &format!("{cut} of {of} texts are longer than {most} tokens and are cut: {lost}"),
        );
    }
    preview.notes.iter().for_each(|note| cards::note(ui, theme.warning, note));
    if preview.train.unlearned > 0 {
        let (n, most) = (format::count(preview.train.unlearned), preview.max_length);
        let text = format!("{n} texts have nothing left to learn within {most} tokens and are left out");
        cards::note(ui, theme.warning, &text);
    }
    if let Some(first) = preview.skipped.first() {
        let words = left_out_text(preview.skipped.len(), preview.refused);
        cards::note(ui, theme.warning, &format!("{words}: {}:{}: {}", first.file, first.line, first.reason));
    }
    for (n, of, words) in [
        (preview.duplicates_in_train, preview.train.examples, "training texts repeat an earlier one"),
        (preview.shared_inputs, preview.dev.inputs, "evaluation inputs are also inputs of training texts"),
    ] {
        if n > 0 {
            let share = format::percent(n as f64 / of.max(1) as f64);
            cards::caption(ui, theme, format!("{} {words} ({share})", format::count(n)));
        }
    }
}

fn legend_ui(theme: &Theme, ui: &mut Ui) {
    let mut job = LayoutJob::default();
    for (text, learned, special) in [("learned", true, false), ("only read", false, false), ("special", false, true)] {
        job.append(text, 0.0, token_format(ui, theme, learned, special));
        job.append("   ", 0.0, token_format(ui, theme, false, false));
    }
    ui.label(job);
}

fn token_format(ui: &Ui, theme: &Theme, learned: bool, special: bool) -> TextFormat {
    let font = egui::TextStyle::Monospace.resolve(ui.style());
    let plain = TextFormat::simple(font, ui.visuals().text_color());
    match (learned, special) {
        // Colour and background, for readers who cannot distinguish the colours.
        (true, _) => TextFormat { color: theme.ok, background: theme.ok.gamma_multiply(0.14), expand_bg: 0.0, ..plain },
        (false, true) => TextFormat { color: theme.muted, italics: true, ..plain },
        (false, false) => plain,
    }
}

fn sample_ui(theme: &Theme, ui: &mut Ui, split: &str, sample: &SampleText) {
    let learned = sample.tokens.iter().filter(|token| token.learned).count();
    let cut = if sample.cut > 0 { format!(", {} cut off", sample.cut) } else { String::new() };
    let title = format!("{split}, line {}: {} tokens, {learned} learned{cut}", sample.line, sample.tokens.len());
    ui.add_space(4.0);
    cards::caption(ui, theme, title);
    let mut job = LayoutJob::default();
    for token in sample.tokens.iter().take(SHOWN) {
        job.append(&visible(&token.text), 0.0, token_format(ui, theme, token.learned, token.special));
    }
    if sample.tokens.len() > SHOWN {
        let more = format!(" … {} more tokens", sample.tokens.len() - SHOWN);
        job.append(&more, 0.0, token_format(ui, theme, false, true));
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
