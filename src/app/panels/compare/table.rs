//! The table of scores: one row for each variant of the model.

use crate::analysis::verdict::{self as judgement, CustomMerge, Exportable};
use crate::app::names;
use crate::app::tables;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::app::widgets::export_menu;
use crate::app::widgets::listing::{self, Column};
use crate::format;
use crate::protocol::{EvalReport, Interval, MergeReport, MergedWith, PairedDifference, Scores, WayCost};
use egui::{Response, RichText, Ui};
use std::slice::from_ref;

/// Scored merges in the table; the history lists all.
const TRIED_SHOWN: usize = 4;

/// The variant of a row; the plot draws random routes as one band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonKind {
    Merged,
    /// Mean of the random routes.
    RandomMean,
    /// The worst or the best random route.
    RandomEnd,
    /// One expert everywhere.
    Fixed(usize),
    /// Mean of the probabilities of the random routes.
    Ensemble,
    /// Always the most frequent answer.
    Majority,
    /// A merge with chosen weights.
    Tried,
}

#[derive(Clone, Debug)]
pub struct ComparisonRow<'a> {
    pub kind: ComparisonKind,
    pub name: String,
    /// What it means.
    pub tip: String,
    /// The deciding metric.
    pub value: f64,
    /// All scores, of which the mean is shown; none for the constant answer.
    pub scores: &'a [Scores],
    /// What it scores less what the merged model does, with intervals; absent for the merged model itself, single routes, a constant
    /// answer, and in older records.
    pub paired: Option<PairedDifference>,
    pub cost: Option<WayCost>,
    /// Whether it is the best of what can be exported; a lead that may be chance does not count.
    pub best: bool,
}

impl ComparisonRow<'_> {
    /// The mean of its losses; none for the constant answer.
    pub fn loss(&self) -> Option<f64> {
        mean(self.scores, |scores| Some(scores.loss))
    }
}

/// One standard error of the score of a model that is compared with nothing.
pub fn merged_error(report: &EvalReport) -> Option<f64> {
    judgement::standard_error(&report.metric, report.merged.primary, report.rows)
}

/// Mean of what the scores have; absent where one has it not.
fn mean(all: &[Scores], part: ScoreField) -> Option<f64> {
    let sum: f64 = all.iter().map(part).sum::<Option<f64>>()?;
    (!all.is_empty()).then(|| sum / all.len() as f64)
}

fn custom_name(index: usize) -> String {
    format!("Weights {}", index + 1)
}

/// The scored merges for the verdict.
pub fn custom_merges(tried: &[MergeReport]) -> Vec<CustomMerge> {
    let merge = |(i, merge): (usize, &MergeReport)| CustomMerge {
        name: custom_name(i),
        score: merge.scores.primary,
        paired: merge.paired,
    };
    tried.iter().enumerate().map(merge).collect()
}

/// All rows of a report, the scored merges last; the best of what can be exported is marked.
pub fn rows<'a>(report: &'a EvalReport, tried: &'a [MergeReport]) -> Vec<ComparisonRow<'a>> {
    use ComparisonKind as Kind;
    let (paired, costs) = (report.paired.as_deref(), report.costs.as_deref());
    let row = |kind: Kind, name: &str, tip: &str, scores: &'a [Scores]| {
        let value = mean(scores, |scores| Some(scores.primary)).unwrap_or(report.majority);
        let paired = match kind {
            Kind::RandomMean => paired.and_then(|paired| paired.random_mean),
            Kind::Ensemble => paired.and_then(|paired| paired.ensemble),
            Kind::Fixed(expert) => paired.and_then(|paired| paired.fixed.get(expert).copied()),
            Kind::Majority => paired.and_then(|paired| paired.base),
            Kind::Merged | Kind::RandomEnd | Kind::Tried => None,
        };
        let cost = costs.and_then(|costs| match kind {
            Kind::Merged | Kind::Fixed(_) | Kind::Tried => Some(costs.merged),
            Kind::RandomMean => Some(costs.route),
            Kind::Ensemble => Some(costs.ensemble),
            Kind::Majority if report.base.is_some() => Some(costs.base),
            Kind::RandomEnd | Kind::Majority => None,
        });
        ComparisonRow { kind, name: name.to_owned(), tip: tip.to_owned(), value, scores, paired, cost, best: false }
    };
    let name = if report.fixed.is_empty() { "This model" } else { report.merged_name() };
    let tip = match report.merged_with {
        Some(MergedWith::UniformWeights) => "The mean of the experts' factors: the paper",
        Some(MergedWith::ImportedScores) => {
            "The mean of the experts' factors, weighted by the scores they were imported with"
        }
        None => "The experts merged into one",
    };
    let mut rows = vec![row(Kind::Merged, name, tip, from_ref(&report.merged))];
    let n = report.random.len();
    if n > 0 {
        let name = judgement::routes_name(n);
        rows.push(row(Kind::RandomMean, &name, "One draw for each layer, kept for all rows", &report.random));
        if n > 1 {
            let mut sorted: Vec<&Scores> = report.random.iter().collect();
            sorted.sort_by(|a, b| a.primary.total_cmp(&b.primary));
            if !report.higher_is_better {
                sorted.reverse();
            }
            let ends = [("  worst of them", sorted[0]), ("  best of them", sorted[n - 1])];
            let tip = "An end of the band of random routes: the luck of a draw, which nobody can export";
            rows.extend(ends.map(|(name, scores)| row(Kind::RandomEnd, name, tip, from_ref(scores))));
        }
    }
    for (i, scores) in report.fixed.iter().enumerate() {
        rows.push(row(Kind::Fixed(i), &judgement::expert_name(i), "This expert in all layers", from_ref(scores)));
    }
    if n > 0 {
        let tip = "Mean of the probabilities of the random routes: as many forwards as routes";
        rows.push(row(Kind::Ensemble, &judgement::ensemble_name(n), tip, from_ref(&report.ensemble)));
    }
    for (i, merge) in tried.iter().enumerate().skip(tried.len().saturating_sub(TRIED_SHOWN)) {
        let (name, tip) = (custom_name(i), names::merge_plan(&merge.plan));
        let row = row(Kind::Tried, &name, &tip, from_ref(&merge.scores));
        rows.push(ComparisonRow { paired: merge.paired, ..row });
    }
    let numbers = matches!(report.metric.as_str(), "pearson" | "spearman") || report.merged.accuracy.is_none();
    let (constant, tip) = match report.base {
        Some(_) => ("Base model, untrained", "The base model without a mixture: its score before training"),
        None => (
            if numbers { "Always the mean value" } else { "Always the same answer" },
            "The most frequent class of these rows (or their mean value): what a model reaches that has learned nothing",
        ),
    };
    let base = report.base.as_deref().map_or(&[][..], from_ref);
    rows.push(ComparisonRow { value: report.majority, ..row(Kind::Majority, constant, tip, base) });
    let best = judgement::best_exportable(report, &custom_merges(tried)).map(|best| match best {
        Exportable::Merged => (Kind::Merged, name.to_owned()),
        Exportable::Expert(i) => (Kind::Fixed(i), judgement::expert_name(i)),
        Exportable::Custom(i) => (Kind::Tried, custom_name(i)),
    });
    for row in &mut rows {
        row.best = best.as_ref().is_some_and(|(kind, name)| *kind == row.kind && *name == row.name);
    }
    rows
}

/// A score that some tasks have.
type ScoreField = fn(&Scores) -> Option<f64>;

pub fn ui(theme: &Theme, report: &EvalReport, rows: &[ComparisonRow<'_>], ui: &mut Ui) {
    let scores: [(&str, &str, ScoreField); 8] = [
        ("Accuracy", "accuracy", |s| s.accuracy),
        ("F1", "f1", |s| s.f1),
        ("Matthews", "matthews", |s| s.matthews),
        ("Pearson", "pearson", |s| s.pearson),
        ("Spearman", "spearman", |s| s.spearman),
        ("Loss", "loss", |s| Some(s.loss)),
        ("Perplexity", "perplexity", |s| s.perplexity),
        ("Next token", "token_accuracy", |s| s.token_accuracy),
    ];
    // Metrics that do not apply to the task have no column; the deciding one is first.
    let (deciding, others): (Vec<_>, Vec<_>) = scores
        .into_iter()
        .filter(|(_, _, part)| part(&report.merged).is_some())
        .partition(|(_, key, _)| *key == report.metric);
    let title = deciding.first().map_or(names::metric(&report.metric), |(title, _, _)| *title);
    let no_best = report.paired.is_some() && rows.iter().all(|row| !row.best);
    type Row<'a, 'b> = Column<'a, ComparisonRow<'b>>;
    let mut columns = vec![
        Row::new("Variant", "", |ui, row| ui.label(&row.name).on_hover_text(&row.tip)),
        Row::new(title, "The deciding metric of this run", move |ui, row| {
            score_ui(ui, theme, row.value, row.best, no_best && row.kind == ComparisonKind::Merged);
        }),
        Row::new("minus merged", MINUS_MERGED, |ui, row| difference_ui(ui, theme, report, row)),
    ];
    // The loss is said beside every metric: it is where small differences show first.
    if report.metric != "loss" {
        let loss = |row: &ComparisonRow<'_>| row.loss().map_or_else(|| "-".to_owned(), format::metric);
        columns.push(Row::number("Loss", "", loss));
        columns.push(Row::new("loss minus merged", "The same of the loss; less is better", |ui, row| {
            interval_ui(ui, theme, row.paired.map(|paired| paired.loss))
        }));
    }
    columns.extend(others.iter().filter(|(_, key, _)| *key != "loss").map(|(title, _, part)| {
        Row::number(title, "", move |row| mean(row.scores, *part).map_or_else(|| "-".to_owned(), format::metric))
    }));
    if rows.iter().any(|row| row.cost.is_some()) {
        let cost =
            |of: fn(WayCost) -> String| move |row: &ComparisonRow<'_>| row.cost.map_or_else(|| "-".to_owned(), of);
        columns.push(Row::number("Parameters", PARAMETERS, cost(|cost| format::short_count(cost.parameters as f64))));
        columns.push(Row::number(
            "Passes",
            "How often the model runs for one answer",
            cost(|cost| cost.forwards.to_string()),
        ));
        columns.push(Row::number(
            "Multiply-adds",
            MULTIPLY_ADDS,
            cost(|cost| format::short_count(cost.multiply_adds as f64)),
        ));
    }
    listing::grid(ui, "comparison", columns, rows);
    export_menu::table(ui, "comparison table", || comparison(rows, &report.metric));
    ui.add_space(2.0);
    cards::caption(ui, theme, noise_text(report));
}

const MINUS_MERGED: &str = "The difference from the merged model on the same rows, with its 95 % interval (paired bootstrap). Grey: \
                            no difference shown";
const PARAMETERS: &str =
    "Values that have to be kept beside the base model and the head: of one module, or of all experts";
const MULTIPLY_ADDS: &str = "For each token, all passes together, with the weights of the layers and their modules; attention between \
                             tokens and the head come on top and are the same in every pass";

/// A score, with a mark where it is the best; `no_best`: with the word that none is.
pub fn score_ui(ui: &mut Ui, theme: &Theme, score: f64, best: bool, no_best: bool) {
    ui.horizontal(|ui| {
        let text = RichText::new(format::metric(score)).monospace();
        ui.label(if best { text.strong() } else { text });
        if best {
            let tip = "Of the merged model, single experts and scored merges. Only the merged model or a scored merge can get this \
                       mark, never one of several experts or routes, and only where the paired interval of its lead leaves out \
                       0, for as many as are compared (Holm)";
            ui.label(RichText::new("▲ best of what can be exported").small().color(theme.ok)).on_hover_text(tip);
        }
        if no_best {
            let tip = "Of what can be exported, nothing is shown to be better than all the rest: the paired intervals of some \
                       differences have 0 inside, or p is 0.05 or more for as many as are compared (Holm)";
            ui.label(RichText::new("no best one shown").small().color(theme.muted)).on_hover_text(tip);
        }
    });
}

fn difference_ui(ui: &mut Ui, theme: &Theme, report: &EvalReport, row: &ComparisonRow<'_>) -> Response {
    match row.paired {
        _ if row.kind == ComparisonKind::Merged => ui.label(""),
        Some(paired) => interval_ui(ui, theme, Some(paired.primary)),
        None => {
            let difference = row.value - report.merged.primary;
            let text = RichText::new(format!("{difference:+.4}")).monospace().color(theme.muted);
            let tip = match row.kind {
                ComparisonKind::RandomEnd => "One draw, picked for its score: without an interval",
                ComparisonKind::Majority => "A constant answer: without an interval",
                _ => "Without an interval: measure again",
            };
            ui.label(text).on_hover_text(tip)
        }
    }
}

/// A difference with its interval, grey where it is not shown.
pub fn interval_ui(ui: &mut Ui, theme: &Theme, interval: Option<Interval>) -> Response {
    let Some(interval) = interval else { return ui.label("") };
    let text = RichText::new(interval.numbers()).monospace();
    let (text, verdict) = match interval.is_shown() {
        true => (text, "A difference is shown"),
        false => (text.color(theme.muted), "No difference shown"),
    };
    let tip = format!("{verdict}: 95 % interval in brackets, p = {}", format::significant(interval.p, 2));
    ui.label(text).on_hover_text(tip)
}

/// A single difference, without an interval.
pub fn plain_difference(ui: &mut Ui, difference: f64) -> Response {
    ui.monospace(format!("{difference:+.4}"))
}

/// What the differences mean.
pub fn noise_text(report: &EvalReport) -> String {
    let rows = format::counted(report.rows, "row");
    match (report.paired.as_deref(), merged_error(report)) {
        (Some(paired), _) => format!(
            "{rows}, the same ones for all variants. In brackets 95 % intervals of the differences (paired bootstrap, B = {}); grey: \
             no difference shown, as 0 is inside. Each is said for itself; the sentence above is adjusted for all of them. Another \
             training seed is no part of the intervals.",
            format::count(paired.resamples)
        ),
        (None, Some(error)) => format!(
            "{rows}: one standard error of an accuracy of {} is √(p (1 - p) / n) = {error:.4}.",
            format::metric(report.merged.primary)
        ),
        (None, None) => format!("{rows}, without intervals."),
    }
}

/// Merged against unmerged: scores, differences with intervals, costs.
fn comparison(rows: &[ComparisonRow<'_>], metric: &str) -> crate::figure::Table {
    let mut table = tables::scores(rows.iter().map(|row| (row.name.as_str(), row.value, row.scores)), metric);
    let more = ["low", "high", "p"];
    for of in ["difference", "loss_difference"] {
        table.columns.push(of.to_owned());
        table.columns.extend(more.map(|end| format!("{of}_{end}")));
    }
    table.columns.extend(["parameters", "passes", "multiply_adds_per_token"].map(str::to_owned));
    for (row, cells) in rows.iter().zip(&mut table.rows) {
        for of in [row.paired.map(|paired| paired.primary), row.paired.map(|paired| paired.loss)] {
            let parts: [fn(Interval) -> f64; 4] = [|i| i.value, |i| i.low, |i| i.high, |i| i.p];
            cells.extend(parts.map(|part| of.map(part).into()));
        }
        let cost = row.cost;
        cells.push(cost.map(|cost| cost.parameters).into());
        cells.push(cost.map(|cost| cost.forwards).into());
        cells.push(cost.map(|cost| cost.multiply_adds).into());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PairedReport;

    fn report(merged: f64, ensemble: f64) -> EvalReport {
        let scores = |primary: f64| Scores { primary, accuracy: Some(primary), ..Scores::default() };
        EvalReport {
            metric: "accuracy".to_owned(),
            higher_is_better: true,
            rows: 1000,
            merged: scores(merged),
            merged_with: Some(MergedWith::UniformWeights),
            random: [0.75, 0.76, 0.74].map(scores).to_vec(),
            fixed: [0.75, 0.755].map(scores).to_vec(),
            ensemble: scores(ensemble),
            majority: 0.5,
            paired: Some(Box::new(PairedReport {
                resamples: 2000,
                fixed: [0.75, 0.755].map(|score| apart(score - merged)).to_vec(),
                ensemble: Some(apart(ensemble - merged)),
                ..PairedReport::default()
            })),
            ..EvalReport::default()
        }
    }

    /// A difference in accuracy whose interval has a half width of 0.004.
    fn apart(value: f64) -> PairedDifference {
        let p = if value.abs() > 0.004 { 0.001 } else { 0.5 };
        let primary = Interval { value, low: value - 0.004, high: value + 0.004, p };
        PairedDifference { primary, loss: primary.negated(), accuracy: Some(primary) }
    }

    #[test]
    fn rows_are_complete_and_the_best_is_marked() {
        let report = report(0.76, 0.77);
        let rows = rows(&report, &[]);
        let best: Vec<&str> = rows.iter().filter(|row| row.best).map(|row| row.name.as_str()).collect();
        assert_eq!(best, ["Merged, uniform"], "an ensemble cannot be exported");
        assert!(rows.iter().any(|row| row.kind == ComparisonKind::Fixed(1) && row.paired.unwrap().primary.is_shown()));
        let worst = rows.iter().find(|row| row.name == "  worst of them").map(|row| row.value);
        assert_eq!(worst, Some(0.74));
        assert_eq!(rows.len(), 1 + 3 + 2 + 1 + 1);
    }

    #[test]
    fn only_a_uniform_merge_is_called_uniform() {
        let mut report = report(0.76, 0.77);
        let name = |report: &EvalReport| {
            let row = rows(report, &[]).remove(0);
            (row.name, row.tip)
        };
        assert!(name(&report).0.contains("uniform") && name(&report).1.contains("the paper"));
        for with in [Some(MergedWith::ImportedScores), None] {
            report.merged_with = with;
            let (name, tip) = name(&report);
            assert!(!name.contains("uniform") && !tip.contains("the paper"), "{name}: {tip}");
        }
    }

    #[test]
    fn close_scores_have_no_best_one() {
        let mut report = report(0.757, 0.77);
        assert!(rows(&report, &[]).iter().all(|row| !row.best), "one expert is too close");
        report.paired = None;
        assert!(rows(&report, &[]).iter().all(|row| !row.best && row.paired.is_none()), "an older record");
    }

    #[test]
    fn less_is_better_for_a_loss() {
        let mut report = report(0.4, 0.5);
        report.metric = "loss".to_owned();
        report.higher_is_better = false;
        let rows = rows(&report, &[]);
        assert!(rows[0].best && merged_error(&report).is_none());
        assert!(noise_text(&report).contains("B = 2,000"));
        let worst = rows.iter().find(|row| row.name == "  worst of them").map(|row| row.value);
        assert_eq!(worst, Some(0.76));
    }
}
