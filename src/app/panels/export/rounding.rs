//! Rounding of the number formats, before anything is written.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::column_plot::{self, ColumnSeries};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, labeled, listing};
use crate::format;
use crate::protocol::{
    ExportPlan, ExportTarget, FilesBudget, FormatBudget, NumberFormat, RoundingPlan, RoundingReport, Study, Subject,
};
use egui::{RichText, Ui};

/// What the card remembers on screen.
pub struct RoundingForm {
    causes: bool,
    /// The format whose causes are drawn.
    shown: NumberFormat,
}

impl Default for RoundingForm {
    fn default() -> Self {
        Self { causes: true, shown: NumberFormat::Bf16 }
    }
}

impl RoundingForm {
    /// Draws the card for what is chosen to be exported.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, plan: &ExportPlan, ui: &mut Ui) {
        cards::card(ui, ctx.theme, "Rounding budget", |ui| {
            let query = &ctx.session.rounding;
            let words = "What each number format would do to the exports chosen above: to the weights, to the answers, and to \
                         the certificate, before anything is written.";
            cards::caption(ui, ctx.theme, words);
            let mut targets: Vec<ExportTarget> = Vec::new();
            for target in plan.targets.iter().map(|target| target.rounds_as()) {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
            ui.horizontal_wrapped(|ui| {
                let study = RoundingPlan { targets, merge: plan.merge.clone(), causes: self.causes };
                ctx.button(ui, Action::Study(subject.clone(), Study::Rounding(study)));
                let tip = "Rounds each layer alone too: one more pass over the probe rows for each layer and format, which \
                           takes a while on large models";
                labeled::toggle(ui, "Which layers cause it", tip, &mut self.causes);
                ctx.pending_ui(ui, query, "rounding");
            });
            ctx.error_ui(ui, query);
            if let Some(report) = &query.value {
                if report.merge != plan.merge {
                    let words = "These numbers belong to another merge than the one chosen above; measure again.";
                    ui.add(egui::Label::new(RichText::new(words).color(ctx.theme.warning)).wrap());
                }
                for (i, files) in report.files.iter().enumerate() {
                    if i > 0 {
                        ui.add_space(6.0);
                        ui.separator();
                    }
                    ui.push_id(files.target.as_str(), |ui| self.files_ui(ctx.theme, report, files, plan.dtype, ui));
                }
            }
            cards::explanation(ui, ctx.theme, "rounding explanation", "What rounding does", &EXPLANATION);
        });
    }

    fn files_ui(
        &mut self,
        theme: &Theme,
        report: &RoundingReport,
        files: &FilesBudget,
        chosen: NumberFormat,
        ui: &mut Ui,
    ) {
        ui.add_space(4.0);
        let title = match files.target {
            ExportTarget::Merged => "Merged module and head (adapter, PEFT, AdapterHub, GGUF adapter)",
            target => target.info().title,
        };
        ui.label(RichText::new(title).strong());
        let (verdict, words) = verdict_words(files);
        verdict::line(ui, theme, verdict, &words);
        table_ui(theme, report, files, chosen, ui);
        self.causes_ui(theme, files, ui);
    }

    /// Change of a logit by each layer alone, for one format.
    fn causes_ui(&mut self, theme: &Theme, files: &FilesBudget, ui: &mut Ui) {
        let found: Vec<&FormatBudget> = files.formats.iter().filter(|format| !format.causes.is_empty()).collect();
        let Some(first) = found.first() else { return };
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Largest change of a logit by each part alone").strong());
            for format in &found {
                ui.selectable_value(&mut self.shown, format.dtype, format.dtype.as_str());
            }
        });
        let format = found.iter().find(|format| format.dtype == self.shown).unwrap_or(first);
        let mut causes: Vec<(&str, f64)> =
            format.causes.iter().map(|cause| (cause.part.as_str(), cause.change)).collect();
        // In the order of the model; parts that are not layers last.
        let layer = |part: &str| part.strip_prefix("layers.").and_then(|n| n.parse::<usize>().ok());
        causes.sort_by_key(|(part, _)| (layer(part).is_none(), layer(part)));
        let name = |part: &str| match layer(part) {
            Some(n) => (n.to_string(), names::site(part)),
            None if part.contains(',') => ("rest".to_owned(), part.to_owned()),
            None => (part.rsplit('.').next().unwrap_or(part).to_owned(), part.to_owned()),
        };
        let groups: Vec<(String, String)> = causes.iter().map(|(part, _)| name(part)).collect();
        let series = ColumnSeries {
            name: format.dtype.as_str().to_owned(),
            color: theme.series(0),
            values: causes.iter().map(|(_, change)| *change).collect(),
        };
        let value = |change: f64| format::significant(change, 3);
        column_plot::ui(ui, theme, "Change by each part alone", &groups, &[series], value);
        let words = format!(
            "Layer by layer, then what is no layer. Their sum, {}, bounds the change if none cancelled another; all at once \
             change a logit by {}.",
            format.predicted.map_or_else(|| "-".to_owned(), |sum| format::significant(sum, 3)),
            format::significant(format.measured, 3)
        );
        cards::caption(ui, theme, &words);
    }
}

/// Which formats keep the certificate.
pub fn verdict_words(files: &FilesBudget) -> (Verdict, String) {
    let list = |kept: bool| {
        let words: Vec<&str> =
            files.formats.iter().filter(|format| format.kept == kept).map(|format| format.dtype.as_str()).collect();
        words.join(", ")
    };
    let smallest = files.formats.iter().filter(|format| format.kept).min_by_key(|format| format.bytes);
    match (list(true), list(false), smallest) {
        (kept, lost, Some(smallest)) if lost.is_empty() => {
            let size = format::bytes(smallest.bytes);
            (Verdict::Passed, format!("All keep the certificate: {kept}; the smallest takes {size}."))
        }
        (kept, lost, Some(_)) => (Verdict::Unsure, format!("{kept} would pass the certificate, {lost} would not.")),
        (_, lost, None) => (Verdict::Failed, format!("None would pass the certificate: {lost}.")),
    }
}

fn table_ui(theme: &Theme, report: &RoundingReport, files: &FilesBudget, chosen: NumberFormat, ui: &mut Ui) {
    let metric = names::metric(&report.metric);
    let mut titles: Vec<(&str, &str)> = vec![
        ("Format", "How numbers are stored"),
        ("Size", "All values, without names and metadata"),
        ("Weights", "Norm of all changes of the weights, over the norm of the weights"),
        ("Logits", "Largest change of a logit on the probe rows"),
        ("Allowed", "The change that the certificate allows in this format"),
        ("Flips", "Probe rows whose most likely output has changed"),
        (metric, "On all evaluation rows, with the change against the model in memory"),
        ("Loss", "On all evaluation rows"),
        ("Certificate", "Whether an export in this format would pass"),
    ];
    let loss_decides = report.metric == "loss";
    if loss_decides {
        titles.remove(7);
    }
    listing::grid(ui, "budget", 13.0, &titles, |ui| {
        for format in &files.formats {
            row_ui(theme, report, format, chosen, loss_decides, ui);
            ui.end_row();
        }
    });
    let words = format!(
        "In memory: {} {}; {} evaluation rows, {} probe rows, {}.",
        metric.to_lowercase(),
        format::metric(report.exact.primary),
        format::count(report.rows as u64),
        format::count(report.probe_rows as u64),
        format::duration(report.seconds)
    );
    cards::caption(ui, theme, &words);
}

fn row_ui(
    theme: &Theme,
    report: &RoundingReport,
    budget: &FormatBudget,
    chosen: NumberFormat,
    loss_decides: bool,
    ui: &mut Ui,
) {
    let name = RichText::new(budget.dtype.as_str());
    let label = ui.label(if budget.dtype == chosen { name.strong() } else { name });
    if budget.dtype == chosen {
        label.on_hover_text("The format chosen above");
    }
    ui.monospace(format::bytes(budget.bytes));
    let change = |value: f64| if value == 0.0 { "0".to_owned() } else { format::scientific(value) };
    if let Some(problem) = &budget.problem {
        for _ in 0..if loss_decides { 5 } else { 6 } {
            ui.label("-");
        }
        ui.label(RichText::new("cannot be stored").color(theme.error)).on_hover_text(problem);
        return;
    }
    ui.monospace(change(budget.weights.norm)).on_hover_text(weights_words(budget));
    ui.monospace(change(budget.measured));
    ui.monospace(change(budget.allowed));
    ui.monospace(budget.flipped.to_string());
    let primary = budget.scores.as_ref().map(|scores| {
        let (off, text) = (scores.primary - report.exact.primary, format::metric(scores.primary));
        if off == 0.0 { text } else { format!("{text} ({})", signed(off)) }
    });
    let loss = budget.scores.as_ref().map(|scores| format::metric(scores.loss));
    for text in [Some(primary), (!loss_decides).then_some(loss)].into_iter().flatten() {
        ui.monospace(text.unwrap_or_else(|| "-".to_owned()));
    }
    let (verdict, words) = if budget.kept { (Verdict::Passed, "kept") } else { (Verdict::Failed, "lost") };
    ui.horizontal(|ui| {
        verdict::icon(ui, theme, verdict, 14.0);
        ui.label(RichText::new(words).color(verdict.color(theme)));
    });
}

/// A difference with its sign: four decimals, or two digits where that would be zero.
fn signed(value: f64) -> String {
    if value.abs() < 5e-5 { format!("{value:+.0e}") } else { format!("{value:+.4}") }
}

/// Summary of the changes of the weights.
fn weights_words(budget: &FormatBudget) -> String {
    let weights = &budget.weights;
    if weights.largest == 0.0 {
        return format!("All {} values are stored exactly", format::count(weights.values as u64));
    }
    let unit = if budget.dtype == NumberFormat::Q8_0 { "steps of a block" } else { "units in the last place" };
    let mut words = format!(
        "Largest change of a value: {} ({} {unit})",
        format::scientific(weights.largest),
        format::significant(weights.ulps, 2)
    );
    if let Some(tensor) = &weights.tensor {
        words.push_str(&format!(
            "; most rounded is {tensor}, by {} of its largest value",
            format::scientific(weights.relative)
        ));
    }
    words.push_str(&format!(
        "; {} of {} values become zero",
        format::count(weights.zeroed as u64),
        format::count(weights.values as u64)
    ));
    words
}

const EXPLANATION: [&str; 3] = [
    "A weight is stored with so many significant bits: 24 in f32, 11 in f16, 8 in bf16. Each is changed by at most half a \
     unit in its last place: 2^-12 of itself in f16, 2^-9 in bf16. f16 has a small range as well: below 6e-5 it loses \
     digits, and its largest value is 65504. q8_0 gives 32 neighbours one scale and 8 bits each.",
    "The changes of many weights partly cancel, so that the outputs change less than the sum of all parts says. A \
     prediction flips where two outputs were nearly equal before.",
    "The certificate of an export allows a change that fits the format; a larger one means that something else is wrong, \
     or that these weights cannot be stored in this format. f32 is exact for a module; in a whole model the LoRA is added \
     to the weights, which rounds once.",
];
