//! Texts that a language model generates for the evaluation inputs, scored against their references.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::tables;
use crate::app::weights_line;
use crate::app::widgets::export_menu;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::{ModelQuery, Subject, TextScores, WriteReport, WrittenBy};
use egui::{RichText, Ui};

/// Name of a score, what it is, and its value as it is usually given.
type Score = (&'static str, &'static str, fn(&TextScores) -> Option<String>);

const SCORES: [Score; 7] = [
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

/// Draws the card; `inputs`: how many evaluation inputs are answered, 0 for all.
pub fn ui(ctx: &PanelCtx<'_>, subject: &Subject, inputs: &mut usize, ui: &mut Ui) {
    cards::card(ui, ctx.theme, "Generated texts", |ui| {
        let query = &ctx.session.written;
        let tip = "Different inputs of the evaluation texts, from the first on";
        labeled::number_or(ui, "Inputs", tip, "all", inputs, 0..=1_000_000, 0.2);
        let write = ModelQuery::Write { inputs: *inputs };
        ctx.job_ui(ui, Action::Query(subject.clone(), write), query, "writing");
        if let Some(report) = &query.value {
            weights_line::answer_ui(ctx, ui, query.weights);
            return report_ui(ctx, ui, report);
        }
        let words = "The base model, the merged one and a random route answer the same inputs, word by word the likeliest; \
                     their texts are scored against the references.";
        cards::caption(ui, ctx.theme, words);
    });
}

fn report_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, report: &WriteReport) {
    type Row<'a> = Column<'a, WrittenBy>;
    let mut columns = vec![Row::new("", "", |ui, row| ui.label(row.way))];
    let is_undefined = |name: &str| report.ways.iter().any(|way| way.scores.undefined.iter().any(|u| u.name == name));
    let shown = SCORES
        .iter()
        .filter(|score| is_undefined(score.0) || report.ways.iter().any(|way| score.2(&way.scores).is_some()));
    columns.extend(shown.map(|(name, tip, value)| {
        Row::number(name, tip, move |row| value(&row.scores).unwrap_or_else(|| "–".to_owned()))
    }));
    listing::grid(ui, "written scores", columns, &report.ways);
    export_menu::table(ui, "scores of generated texts table", || tables::written(&report.ways));
    for score in report.ways.first().iter().flat_map(|way| &way.scores.undefined) {
        cards::caption(ui, ctx.theme, format!("{} –: not defined here, as {}", score.name, score.reason));
    }
    let n = report.describe_inputs();
    let few = report.asked > report.inputs || report.different_texts < report.texts;
    let color = if few { ctx.theme.warning } else { ctx.theme.muted };
    ui.label(RichText::new(n).small().color(color));
    cards::caption(ui, ctx.theme, format!("{} of writing", format::duration(report.seconds)));
    for way in &report.ways {
        let Some(apart) = &way.bleu_minus_merged else { continue };
        let words = format!("BLEU of {} minus BLEU of merged: {}", way.way, apart.describe());
        let color = if apart.is_shown() { ctx.theme.muted } else { ctx.theme.warning };
        ui.label(RichText::new(words).small().color(color)).on_hover_text(BOOTSTRAP);
    }
    for (number, sample) in report.samples.iter().enumerate() {
        ui.add_space(4.0);
        let prompt = format::ellipsis(sample.prompt.trim(), 90);
        cards::caption(ui, ctx.theme, prompt).on_hover_text(sample.references.join("\n"));
        egui::Grid::new(("written sample", number)).num_columns(2).spacing([12.0, 2.0]).show(ui, |ui| {
            for (way, text) in report.ways.iter().zip(&sample.texts) {
                ui.label(RichText::new(way.way).small().strong());
                ui.add(egui::Label::new(text.trim()).wrap());
                ui.end_row();
            }
        });
    }
}
