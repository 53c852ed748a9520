//! What each expert adds to the merged model, and which two are nearly one, each beside what chance gives.

use super::plane::unit;
use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::dot_plot::{self, MarkShape, ScoreAxis, ScoreEntry};
use crate::app::widgets::heatmap::{Scale, color};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, export_menu, legend};
use crate::config::MixtureKind;
use crate::figure::Table;
use crate::format;
use crate::protocol::{Estimate, ExpertEffects, ExpertPair, MOST_EXPERTS, ModelQuery, Study, WorthPlan, WorthReport};
use egui::{RichText, Ui, vec2};

/// Differences of a loss are shown in thousandths.
const MILLI: f64 = 1e3;

/// What was chosen.
pub struct WorthView {
    rows: usize,
}

impl Default for WorthView {
    fn default() -> Self {
        Self { rows: WorthPlan::PROBE_ROWS }
    }
}

impl WorthView {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
        let experts = run.config.mixture.num_experts;
        cards::card(ui, ctx.theme, "What each expert adds to the merged model", |ui| {
            if experts < 2 {
                cards::muted(ui, ctx.theme, "This run has one expert: there is nothing to leave out.");
                return;
            }
            let words = "Random routing makes no expert special: expect numbers inside of the bands, which are what equal experts \
                         would show.";
            cards::caption(ui, ctx.theme, words);
            ui.horizontal_wrapped(|ui| {
                let tip = "Evaluation rows that each loss is the mean of, spread evenly over all";
                let label = ui.label("Rows").on_hover_text(tip);
                let value = egui::DragValue::new(&mut self.rows).range(2..=100_000).speed(1.0);
                drop(ui.add(value).labelled_by(label.id).on_hover_text(tip));
                let merges = match experts <= MOST_EXPERTS {
                    true => format!("2{} merges", names::superscript(experts)),
                    false => format!("{} merges (Shapley values of up to {MOST_EXPERTS} experts only)", experts + 2),
                };
                let cost = format!(
                    "{merges} and {}: {} passes over at most {} rows",
                    format::counted(experts * (experts - 1) / 2, "pair"),
                    format::count(WorthPlan::forwards(experts)),
                    format::count(self.rows),
                );
                cards::caption(ui, ctx.theme, cost);
            });
            let query = &ctx.session.studies.worth;
            if let Some(subject) = ctx.session.subject() {
                let plan = WorthPlan { probe_rows: self.rows };
                let ask = Action::Query(subject, ModelQuery::Study(Study::Worth(plan)));
                ctx.job_ui(ui, ask, query, "merging subsets");
            }
            if let Some(report) = &query.value {
                weights_line::answer_ui(ctx, ui, query.weights);
                report_ui(ctx.theme, report, run.config.mixture.kind, unit(run), ui);
            }
            cards::explanation(ui, ctx.theme, "What these numbers are", &EXPLANATION);
        });
    }
}

fn report_ui(theme: &Theme, report: &WorthReport, kind: MixtureKind, unit: &str, ui: &mut Ui) {
    let (found, words) = worth_text(report);
    verdict::line(ui, theme, found, &words);
    if let Some(shapley) = &report.shapley {
        effects_ui(theme, "Takes from the loss (Shapley value)", shapley, unit, ui);
    }
    effects_ui(theme, "Left out, adds to the loss", &report.leave_one_out, unit, ui);
    export_menu::table(ui, "worth of the experts table", || worth_table(report));
    let words = format!(
        "Loss of all experts merged {:.4}, without any module {:.4}. Weights after step {}, {} rows, {} passes, {}. Band: where \
         equal experts lie, all of them, in 95 of 100 shuffles; whisker: one standard error.",
        report.loss_all,
        report.loss_none,
        format::count(report.step),
        format::count(report.probe_rows),
        format::count(report.forwards),
        format::duration(report.seconds)
    );
    cards::caption(ui, theme, words);
    ui.add_space(6.0);
    ui.label(RichText::new("Twins: two experts that are nearly one").strong());
    let (found, words) = twins_text(report);
    verdict::line(ui, theme, found, &words);
    pairs_ui(theme, report, ui);
    banks_ui(theme, report, kind, ui);
}

/// Whether an expert stands out.
pub fn worth_text(report: &WorthReport) -> (Verdict, String) {
    let measured: Vec<(&str, &ExpertEffects)> = report
        .shapley
        .iter()
        .map(|effects| ("Shapley value", effects))
        .chain([("loss when left out", &report.leave_one_out)])
        .collect();
    let special = measured.iter().find(|(_, effects)| effects.is_special());
    let Some((what, effects)) = special else {
        return (Verdict::Passed, "No expert is worth more or less than chance makes of equal experts.".to_owned());
    };
    let [low, high] = effects.null_band;
    let out = |value: &f64| *value < low || *value > high;
    let experts: Vec<String> =
        effects.values.iter().enumerate().filter(|(_, v)| out(v)).map(|(i, _)| i.to_string()).collect();
    let which = if experts.len() == 1 { "Expert" } else { "Experts" };
    let words = format!(
        "{which} {}: the {what} lies outside of what equal experts show (p {:.2}). Look whether other rows say the same.",
        experts.join(", "),
        effects.p
    );
    (Verdict::Unsure, words)
}

/// Whether two experts are closer than chance.
pub fn twins_text(report: &WorthReport) -> (Verdict, String) {
    let Some((pair, beyond)) = report.twins() else {
        return (Verdict::Open, "There are no pairs.".to_owned());
    };
    let [a, b] = pair.experts;
    let limit = format!(
        "the closest pair of equal experts stays below {:.3} in 95 of 100 shuffles (p {:.2})",
        report.twin_limit, report.twin_p
    );
    if !beyond {
        let words = format!("Closest: {a} and {b} with a mean cosine of {:.3}; {limit}: no twins shown.", pair.cosine);
        return (Verdict::Passed, words);
    }
    let words = format!(
        "Experts {a} and {b} are twins: mean cosine {:.3}; {limit}. As one expert they change the merged loss by {}.",
        pair.cosine,
        milli_words(pair.as_one)
    );
    (Verdict::Unsure, words)
}

fn milli(value: Estimate) -> String {
    format!("{:+.2} ± {:.2}", value.value * MILLI, value.se * MILLI)
}

fn milli_words(value: Estimate) -> String {
    format!("{} thousandths", milli(value))
}

/// One line for each expert, with the band that equal experts would show.
fn effects_ui(theme: &Theme, title: &str, effects: &ExpertEffects, unit: &str, ui: &mut Ui) {
    let values = effects.values.iter().zip(&effects.standard_errors).enumerate();
    let band = effects.null_band.map(|end| end * MILLI);
    let entries: Vec<ScoreEntry> = values
        .map(|(i, (value, error))| ScoreEntry {
            name: format!("expert {i}"),
            value: value * MILLI,
            each: Vec::new(),
            band: Some(band),
            singles: Vec::new(),
            error: Some(error * MILLI),
            interval: None,
            mark: MarkShape::Disc,
            color: theme.series(i),
        })
        .collect();
    let ends = entries.iter().flat_map(|entry| {
        let error = entry.error.unwrap_or(0.0);
        [entry.value - error, entry.value + error]
    });
    let (mut low, mut high) = (band[0], band[1]);
    ends.for_each(|end| (low, high) = (low.min(end), high.max(end)));
    let free = (0.08 * (high - low)).max(1e-6);
    ui.add_space(4.0);
    ui.label(RichText::new(title).strong().small());
    let axis = ScoreAxis {
        name: format!("thousandths of the {unit}"),
        range: [low - free, high + free],
        reference: (low - free < 0.0 && 0.0 < high + free).then(|| (0.0, "0".to_owned())),
        line: None,
    };
    dot_plot::ui(ui, theme, title, &entries, &axis);
}

fn pairs_ui(theme: &Theme, report: &WorthReport, ui: &mut Ui) {
    type Pair<'a> = Column<'a, ExpertPair>;
    let columns = vec![
        Pair::new("Pair", "", |ui, pair| {
            ui.horizontal(|ui| pair.experts.iter().for_each(|&expert| drop(verdict::expert_chip(ui, theme, expert))));
        }),
        Pair::number("Cosine", "Of the weights, mean over all banks", |pair| format!("{:.3}", pair.cosine)),
        Pair::number("Drop the first", "Change of the merged loss, in thousandths", |pair| milli(pair.drop_first)),
        Pair::number("Drop the second", "Change of the merged loss, in thousandths", |pair| milli(pair.drop_second)),
        Pair::number(
            "Both as one",
            "Both replaced by their mean, which counts like each other expert: change of the merged loss, in thousandths",
            |pair| milli(pair.as_one),
        ),
    ];
    listing::grid(ui, "pairs of experts", columns, &report.pairs);
    export_menu::table(ui, "pairs of experts table", || pairs_table(report));
}

/// The cosines bank by bank.
fn banks_ui(theme: &Theme, report: &WorthReport, kind: MixtureKind, ui: &mut Ui) {
    let columns: Vec<String> =
        report.pairs.iter().map(|pair| format!("{}–{}", pair.experts[0], pair.experts[1])).collect();
    let bank_name = |i: usize| {
        let bank = report.banks.get(i);
        bank.map_or_else(String::new, |bank| format!("{} {}", names::layer(&bank.module), names::side(kind, bank.side)))
    };
    let row_width = cell_grid::name_width((0..report.banks.len()).map(bank_name));
    let cell = if columns.len() > 10 { vec2(34.0, 18.0) } else { vec2(52.0, 20.0) };
    let name = "Cosine of each pair, bank by bank";
    let spec = GridSpec { name, columns: &columns, rows: report.banks.len(), row_width, cell, clickable: false };
    let scale = Scale::Diverging(1.0);
    egui::ScrollArea::horizontal().id_salt("cosines of the pairs").show(ui, |ui| {
        cell_grid::ui(ui, theme, &spec, bank_name, |row, column| {
            let cosine = report.pairs[column].by_bank.get(row).copied().unwrap_or(f64::NAN);
            GridCell {
                text: format!("{cosine:.2}"),
                fill: Some(color(theme, scale, cosine as f32)),
                value: Some(cosine),
                about: format!("{}, pair {}: cosine {cosine:.3}", bank_name(row), columns[column]),
                chosen: false,
            }
        });
    });
    legend::bar(ui, theme, scale, "cosine of the weights", 220.0);
    let widest = report.banks.iter().map(|bank| bank.chance).fold(0.0, f64::max);
    let words = format!(
        "Two unrelated directions have a cosine of 0 with a spread of 1 / √d, here at most {}; trained experts share a direction, \
         so that all pairs lie far above it. Twins stand out from the other pairs, in many banks.",
        format::significant(widest, 2)
    );
    cards::caption(ui, theme, words);
}

fn worth_table(report: &WorthReport) -> Table {
    let mut table = Table::new(["measure", "expert", "value", "standard_error", "band_low", "band_high", "p"]);
    let measures = report.shapley.iter().map(|effects| ("shapley", effects));
    for (name, effects) in measures.chain([("leave_one_out", &report.leave_one_out)]) {
        for (i, (&value, &error)) in effects.values.iter().zip(&effects.standard_errors).enumerate() {
            let [low, high] = effects.null_band;
            table.push([name.into(), i.into(), value.into(), error.into(), low.into(), high.into(), effects.p.into()]);
        }
    }
    table
}

fn pairs_table(report: &WorthReport) -> Table {
    let head = ["first", "second", "cosine", "drop_first", "drop_second", "as_one"].map(str::to_owned);
    let banks = report.banks.iter().map(|bank| format!("cosine {}", bank.module));
    let mut table = Table::new(head.into_iter().chain(banks));
    for pair in &report.pairs {
        let front = [pair.experts[0].into(), pair.experts[1].into(), pair.cosine.into()];
        let costs = [pair.drop_first, pair.drop_second, pair.as_one].map(|cost| cost.value.into());
        table.push(front.into_iter().chain(costs).chain(pair.by_bank.iter().map(|&cosine| cosine.into())));
    }
    table
}

const EXPLANATION: [&str; 4] = [
    "The Shapley value of an expert is the mean, over all orders in which experts could join the merge, of what it takes from the \
     loss when it joins. All values together are exactly what all experts take from the loss of the model without modules.",
    "Left out: the merge of all others minus the merge of all. It is negative where the others alone are better.",
    "The band shuffles the experts within each row: it is what M equal experts would show by luck on these rows. An expert inside \
     of it is not shown to differ; one outside of it was seen on these rows only.",
    "Twins are two experts that are close in many modules at once. The limit shuffles the experts within each module, which keeps \
     how alike they are there and breaks only that it is the same two everywhere. With few modules nothing can be shown.",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn report(values: [f64; 3], twin_p: f64) -> WorthReport {
        let effects = ExpertEffects {
            values: values.to_vec(),
            standard_errors: vec![0.001; 3],
            null_band: [0.0, 0.02],
            p: 0.004,
        };
        let cost = Estimate { value: 0.002, se: 0.0005 };
        let pair = |experts: [usize; 2], cosine: f64| ExpertPair {
            experts,
            cosine,
            by_bank: vec![cosine],
            drop_first: cost,
            drop_second: cost,
            as_one: cost,
        };
        WorthReport {
            step: 9,
            experts: 3,
            loss_all: 0.5,
            loss_none: 0.6,
            shapley: Some(effects.clone()),
            leave_one_out: effects,
            pairs: vec![pair([0, 1], 0.4), pair([0, 2], 0.98), pair([1, 2], 0.5)],
            banks: Vec::new(),
            twin_limit: 0.7,
            twin_p,
            probe_rows: 64,
            forwards: 11,
            seconds: 0.1,
        }
    }

    #[test]
    fn only_what_chance_does_not_show_stands_out() {
        assert_eq!(worth_text(&report([0.01, 0.012, 0.02], 0.5)).0, Verdict::Passed);
        let (verdict, words) = worth_text(&report([0.01, 0.03, 0.02], 0.5));
        assert!(verdict == Verdict::Unsure && words.starts_with("Expert 1: the Shapley value"), "{words}");
        let (verdict, words) = twins_text(&report([0.0; 3], 0.5));
        assert!(
            verdict == Verdict::Passed && words.contains("Closest: 0 and 2") && words.contains("no twins"),
            "{words}"
        );
        let (verdict, words) = twins_text(&report([0.0; 3], 0.01));
        assert!(verdict == Verdict::Unsure && words.contains("Experts 0 and 2 are twins"), "{words}");
        assert!(words.contains("+2.00 ± 0.50 thousandths"), "{words}");
        let report = report([0.01, 0.03, 0.02], 0.5);
        assert_eq!((worth_table(&report).rows.len(), pairs_table(&report).rows.len()), (6, 3));
    }
}
