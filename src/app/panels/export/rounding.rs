//! Rounding of the number formats, before anything is written.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::column_plot::{self, ColumnSeries};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::{
    ExportPlan, ExportTarget, FilesBudget, FormatBudget, ModelQuery, NumberFormat, RoundingPlan, RoundingReport, Study,
    Subject,
};
use egui::{RichText, Ui};

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
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, plan: &ExportPlan, ui: &mut Ui) {
        cards::card(ui, ctx.theme, "Rounding budget", |ui| {
            let query = &ctx.session.studies.rounding;
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
                let measure = Action::Query(subject.clone(), ModelQuery::Study(Study::Rounding(study)));
                ctx.button(ui, measure.clone());
                ctx.command_button(ui, &measure);
                let tip = "Rounds each layer alone too: one more pass over the probe rows for each layer and format, which \
                           takes a while on large models";
                labeled::toggle(ui, "Which layers cause it", tip, &mut self.causes);
                ctx.pending_ui(ui, query, "rounding");
            });
            ctx.error_ui(ui, query);
            if let Some(report) = &query.value {
                weights_line::answer_ui(ctx, ui, query.weights);
                if report.merge != plan.merge {
                    let words = "These numbers belong to another merge than the one chosen above; measure again.";
                    ui.label(RichText::new(words).color(ctx.theme.warning));
                }
                for (i, files) in report.files.iter().enumerate() {
                    if i > 0 {
                        ui.add_space(6.0);
                        ui.separator();
                    }
                    ui.push_id(files.target.as_str(), |ui| self.files_ui(ctx.theme, report, files, plan.dtype, ui));
                }
            }
            cards::explanation(ui, ctx.theme, "What rounding does", &EXPLANATION);
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
        let (verdict, words) = verdict_text(files);
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
            Some(n) => (n.to_string(), names::layer(part)),
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
        cards::caption(ui, theme, words);
    }
}

/// Which formats keep the certificate.
pub fn verdict_text(files: &FilesBudget) -> (Verdict, String) {
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
    type Format<'a> = Column<'a, FormatBudget>;
    let change = |value: f64| if value == 0.0 { "0".to_owned() } else { format::scientific(value) };
    // Nothing is measured of what cannot be stored.
    let or_dash = |format: &FormatBudget, text: Option<String>| match text {
        Some(text) if format.problem.is_none() => text,
        _ => "-".to_owned(),
    };
    let score = |primary: f64| match primary - report.exact.primary {
        0.0 => format::metric(primary),
        off => format!("{} ({})", format::metric(primary), signed(off)),
    };
    let mut columns = vec![
        Format::new("Format", "How numbers are stored", |ui, format| {
            let name = format.dtype.as_str();
            if format.dtype == chosen {
                ui.strong(name).on_hover_text("The format chosen above")
            } else {
                ui.label(name)
            }
        }),
        Format::number("Size", "All values, without names and metadata", |format| format::bytes(format.bytes)),
        Format::new("Weights", "Norm of all changes of the weights, over the norm of the weights", |ui, format| {
            let text = ui.monospace(or_dash(format, Some(change(format.weights.norm))));
            if format.problem.is_none() { text.on_hover_text(weights_text(format)) } else { text }
        }),
        Format::number("Logits", "Largest change of a logit on the probe rows", |format| {
            or_dash(format, Some(change(format.measured)))
        }),
        Format::number("Allowed", "The change that the certificate allows in this format", |format| {
            or_dash(format, Some(change(format.allowed)))
        }),
        Format::number("Flips", "Probe rows whose most likely output has changed", |format| {
            or_dash(format, Some(format.flipped.to_string()))
        }),
        Format::number(metric, "On all evaluation rows, with the change against the model in memory", |format| {
            or_dash(format, format.scores.as_ref().map(|scores| score(scores.primary)))
        }),
        Format::number("Loss", "On all evaluation rows", |format| {
            or_dash(format, format.scores.as_ref().map(|scores| format::metric(scores.loss)))
        }),
        Format::new("Certificate", "Whether an export in this format would pass", |ui, format| {
            if let Some(problem) = &format.problem {
                return ui.label(RichText::new("cannot be stored").color(theme.error)).on_hover_text(problem);
            }
            let (verdict, text) = if format.kept { (Verdict::Passed, "kept") } else { (Verdict::Failed, "lost") };
            let row = ui.horizontal(|ui| {
                verdict::icon(ui, theme, verdict, 14.0);
                ui.label(RichText::new(text).color(verdict.color(theme)))
            });
            row.inner
        }),
    ];
    if report.metric == "loss" {
        columns.remove(7);
    }
    listing::grid(ui, "budget", columns, &files.formats);
    let study = names::study(report.rows, report.probe_rows, report.seconds);
    let words = format!("In memory: {} {}; {study}", metric.to_lowercase(), format::metric(report.exact.primary));
    cards::caption(ui, theme, words);
}

/// A difference with its sign: four decimals, or two digits where that would be zero.
fn signed(value: f64) -> String {
    if value.abs() < 5e-5 { format!("{value:+.0e}") } else { format!("{value:+.4}") }
}

fn weights_text(budget: &FormatBudget) -> String {
    let weights = &budget.weights;
    if weights.largest == 0.0 {
        return format!("All {} values are stored exactly", format::count(weights.values));
    }
    let unit = if budget.dtype == NumberFormat::Q8_0 { "steps of a block" } else { "units in the last place" };
    let mut words = format!(
        "Largest change of a value: {} ({} {unit})",
        format::scientific(weights.largest),
        format::significant(weights.ulps, 2)
    );
    if let Some(tensor) = &weights.tensor {
        let share = format::scientific(weights.relative);
        words.push_str(&format!("; most rounded is {tensor}, by {share} of its largest value"));
    }
    let [zeroed, values] = [weights.zeroed, weights.values].map(format::count);
    words.push_str(&format!("; {zeroed} of {values} values become zero"));
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
