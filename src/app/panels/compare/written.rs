//! Texts that a language model generates for the evaluation inputs, scored against their references.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled, listing};
use crate::format;
use crate::protocol::{Subject, TextScores, WriteReport};
use egui::{RichText, Ui};

/// What the card remembers on screen.
pub struct WrittenForm {
    inputs: usize,
}

impl Default for WrittenForm {
    fn default() -> Self {
        Self { inputs: 20 }
    }
}

/// Name of a score, what it is, and its value as it is usually given.
type Column = (&'static str, &'static str, fn(&TextScores) -> Option<String>);

const COLUMNS: [Column; 7] = [
    ("BLEU", "Matched runs of words, 0 to 100; more is better", |s| Some(format!("{:.1}", 100.0 * s.bleu))),
    ("NIST", "As BLEU, rare runs count more, 0 up; more is better", |s| s.nist.map(|v| format!("{v:.2}"))),
    ("METEOR", "Exact, stem and synonym matches, no paraphrases, 0 to 100; more is better", |s| {
        s.meteor_exact_stem_synonym.map(|v| format!("{:.1}", 100.0 * v))
    }),
    ("ROUGE-L", "Longest common subsequence, 0 to 100; more is better", |s| {
        s.rouge_l.map(|v| format!("{:.1}", 100.0 * v))
    }),
    ("CIDEr", "Agreement with all references, weighted by rarity, 0 to 10; more is better", |s| {
        s.cider.map(|v| format!("{v:.2}"))
    }),
    ("TER", "Edits for each word, 0 up; less is better", |s| s.ter.map(|v| format!("{v:.2}"))),
    ("chrF", "Matched runs of letters, 0 to 100; more is better", |s| Some(format!("{:.1}", 100.0 * s.chrf))),
];

const BOOTSTRAP: &str = "In brackets, the range of the difference in 95 of 100 cases when as many inputs are resampled from \
                         these, the same ones for both (paired bootstrap). Where that includes 0, more inputs are needed \
                         to tell the two apart.";

impl WrittenForm {
    /// Draws the card.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, ui: &mut Ui) {
        cards::card(ui, ctx.theme, "Generated texts", |ui| {
            let query = &ctx.session.written;
            let tip = "Different inputs of the evaluation texts, from the first on";
            labeled::number_or(ui, "Inputs", tip, "all", &mut self.inputs, 0..=1_000_000, 0.2);
            ui.horizontal_wrapped(|ui| {
                ctx.button(ui, Action::WriteAndScore(subject.clone(), self.inputs));
                ctx.pending_ui(ui, query, "writing");
            });
            ctx.error_ui(ui, query);
            match &query.value {
                Some(report) => report_ui(ctx, ui, report),
                None => {
                    let words = "The base model, the merged one and a random route answer the same inputs, word by word the \
                                 likeliest; their texts are scored against the references.";
                    cards::caption(ui, ctx.theme, words);
                }
            }
        });
    }
}

fn report_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, report: &WriteReport) {
    let shown: Vec<&Column> =
        COLUMNS.iter().filter(|column| report.ways.iter().any(|way| column.2(&way.scores).is_some())).collect();
    let mut titles = vec![("", "")];
    titles.extend(shown.iter().map(|(name, tip, _)| (*name, *tip)));
    listing::grid(ui, "written scores", 18.0, &titles, |ui| {
        for way in &report.ways {
            ui.label(way.way);
            for (_, _, value) in &shown {
                ui.monospace(value(&way.scores).unwrap_or_default());
            }
            ui.end_row();
        }
    });
    let n = format::count(report.inputs as u64);
    let words = format!("{n} inputs, {} of writing", format::duration(report.seconds));
    ui.label(RichText::new(words).small().color(ctx.theme.muted));
    for way in &report.ways {
        let Some(apart) = &way.bleu_minus_merged else { continue };
        let words = format!("BLEU of {} minus BLEU of merged: {}", way.way, apart.describe());
        let color = if apart.is_shown() { ctx.theme.muted } else { ctx.theme.warning };
        ui.label(RichText::new(words).small().color(color)).on_hover_text(BOOTSTRAP);
    }
    for (number, sample) in report.samples.iter().enumerate() {
        ui.add_space(4.0);
        let title = RichText::new(format::ellipsis(sample.prompt.trim(), 90)).small().color(ctx.theme.muted);
        ui.add(egui::Label::new(title).wrap()).on_hover_text(sample.references.join("\n"));
        egui::Grid::new(("written sample", number)).num_columns(2).spacing([12.0, 2.0]).show(ui, |ui| {
            for (way, text) in report.ways.iter().zip(&sample.texts) {
                ui.label(RichText::new(way.way).small().strong());
                ui.add(egui::Label::new(text.trim()).wrap());
                ui.end_row();
            }
        });
    }
}
