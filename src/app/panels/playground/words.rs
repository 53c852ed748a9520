//! A text whose words are coloured by what leaving each of them out changes.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::heatmap::Scale;
use crate::app::widgets::{cards, legend};
use crate::format;
use crate::protocol::{TryReport, WordEffect, WordsReport};
use egui::text::{LayoutJob, TextFormat};
use egui::{RichText, Ui};

/// Smallest full colour: half a nat, so that a text without any strong word stays pale.
const LEAST: f64 = 0.5;

pub fn ui(ctx: &PanelCtx<'_>, ui: &mut Ui, report: &TryReport) {
    let query = &ctx.session.try_words;
    ctx.error_ui(ui, query);
    let fits = |words: &&WordsReport| words.input == report.plan.input && words.step == report.step;
    let words = query.value.as_ref().filter(fits);
    if words.is_none() && query.is_pending() {
        cards::loading(ui, "each word is left out once", query.progress.as_ref().and_then(|p| p.share()));
    }
    cards::caption(ui, ctx.theme, measured(report, words));
    let limit = words.map_or(LEAST, |words| limit(words, report));
    for (in_pair, text) in [(false, Some(&report.text)), (true, report.pair.as_ref())] {
        let Some(text) = text else { continue };
        let own: Vec<&WordEffect> =
            words.iter().flat_map(|words| &words.words).filter(|word| word.in_pair == in_pair).collect();
        text_ui(ctx, ui, (text, &own, limit), report, words);
        ui.add_space(4.0);
    }
    let Some(words) = words else { return };
    let unit = match words.class {
        Some(_) => "log-odds with the word minus without it (nats)",
        None => "value with the word minus without it",
    };
    legend::bar(ui, ctx.theme, Scale::Diverging(limit as f32), unit, 160.0);
    if words.left > 0 {
        let note = format!("The last {} words were not measured.", format::count(words.left));
        cards::caption(ui, ctx.theme, note);
    }
    let copy = egui::Button::new(RichText::new("Copy the numbers").small());
    drop(ctx.button_as(ui, Action::Copy(table(words)), copy));
}

/// What is measured, in a sentence.
fn measured(report: &TryReport, words: Option<&WordsReport>) -> String {
    let what = match words.and_then(|words| words.class).or_else(|| report.predicted()) {
        Some(class) => {
            let name = report.label(class);
            format!(
                "how much more likely the merged model finds {name} with the word: orange speaks for {name}, blue against it"
            )
        }
        None => "how much the merged model's value is raised by the word: orange raises it, blue lowers it".to_owned(),
    };
    format!(
        "Each word is left out once, alone. The colour says {what}. Words act together, so the numbers need not add up; \
         hover a word for its own."
    )
}

/// The value of the full colour.
fn limit(words: &WordsReport, report: &TryReport) -> f64 {
    let least = match (words.class, report.range) {
        (None, Some([low, high])) => 0.05 * (high - low),
        _ => LEAST,
    };
    words.words.iter().map(|word| word.effect.abs()).filter(|effect| effect.is_finite()).fold(least.max(1e-9), f64::max)
}

/// The numbers, for a spreadsheet.
fn table(words: &WordsReport) -> String {
    let mut text = "word\teffect\twithout\n".to_owned();
    for word in &words.words {
        text.push_str(&format!("{}\t{}\t{}\n", word.word, word.effect, word.without));
    }
    text
}

fn text_ui(
    ctx: &PanelCtx<'_>,
    ui: &mut Ui,
    (text, words, limit): (&str, &[&WordEffect], f64),
    report: &TryReport,
    all: Option<&WordsReport>,
) {
    if text.trim().is_empty() {
        return;
    }
    let mut job = LayoutJob::default();
    let mut at = 0;
    let plain = format_of(ui, ctx.theme, None);
    for word in words {
        job.append(text.get(at..word.at).unwrap_or_default(), 0.0, plain.clone());
        job.append(&word.word, 0.0, format_of(ui, ctx.theme, Some(word.effect / limit)));
        at = word.at + word.word.len();
    }
    job.append(text.get(at..).unwrap_or_default(), 0.0, plain);
    job.wrap.max_width = ui.available_width();
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
    let (place, galley, response) = egui::Label::new(galley).layout_in_ui(ui);
    let described = || {
        let effects: Vec<String> = words.iter().map(|word| format!("{} {:+.2}", word.word, word.effect)).collect();
        if effects.is_empty() { text.to_owned() } else { format!("Words: {}", effects.join(", ")) }
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, described()));
    let pointed = response.hover_pos().and_then(|pointer| {
        let index = galley.cursor_from_pos(pointer - place).index.0;
        let byte = text.char_indices().nth(index).map_or(text.len(), |(byte, _)| byte);
        words.iter().find(|word| (word.at..word.at + word.word.len()).contains(&byte))
    });
    ui.painter().galley(place, galley, ui.visuals().text_color());
    if let (Some(word), Some(all)) = (pointed, all) {
        drop(response.on_hover_ui_at_pointer(|ui| tip(ctx.theme, ui, word, report, all)));
    }
}

fn tip(theme: &Theme, ui: &mut Ui, word: &WordEffect, report: &TryReport, all: &WordsReport) {
    ui.label(RichText::new(&word.word).strong());
    match all.class {
        Some(class) => {
            let (with, without) = (format::percent(all.whole), format::percent(word.without));
            ui.label(format!("{}: {with} with the word, {without} without it", report.label(class)));
            cards::caption(ui, theme, format!("log-odds {:+.3} nats", word.effect));
        }
        None => {
            let number = |value: f64| format::significant(value, 4);
            ui.label(format!("{} with the word, {} without it", number(all.whole), number(word.without)));
            cards::caption(ui, theme, format!("difference {:+.3}", word.effect));
        }
    }
}

/// A word by its share of the full colour.
fn format_of(ui: &Ui, theme: &Theme, share: Option<f64>) -> TextFormat {
    let mut font = egui::TextStyle::Body.resolve(ui.style());
    font.size += 1.0;
    match share {
        Some(share) if share.abs() >= 0.03 => {
            let background = theme.diverging(share.clamp(-1.0, 1.0) as f32);
            TextFormat { background, expand_bg: 1.0, ..TextFormat::simple(font, Theme::text_on(background)) }
        }
        _ => TextFormat::simple(font, ui.visuals().text_color()),
    }
}
