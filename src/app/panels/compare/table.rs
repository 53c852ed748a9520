//! The table of scores: one row for each variant of the model.

use crate::analysis::verdict::{self as judgement, CustomMerge, Exportable};
use crate::app::names;
use crate::app::tables;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::app::widgets::export_menu;
use crate::app::widgets::listing::{self, Column};
use crate::format;
use crate::protocol::{EvalReport, MergeReport, MergedWith, Scores};
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
    /// Whether it is the best of what can be exported; a lead that may be chance does not count.
    pub best: bool,
}

/// One standard error of the merged model's score.
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
    let merge = |(i, merge): (usize, &MergeReport)| CustomMerge { name: custom_name(i), score: merge.scores.primary };
    tried.iter().enumerate().map(merge).collect()
}

/// All rows of a report, the scored merges last; the best of what can be exported is marked.
pub fn rows<'a>(report: &'a EvalReport, tried: &'a [MergeReport]) -> Vec<ComparisonRow<'a>> {
    use ComparisonKind as Kind;
    let row = |kind: Kind, name: &str, tip: &str, scores: &'a [Scores]| {
        let value = mean(scores, |scores| Some(scores.primary)).unwrap_or(report.majority);
        ComparisonRow { kind, name: name.to_owned(), tip: tip.to_owned(), value, scores, best: false }
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
            let tip = "An end of the band of random routes";
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
        rows.push(row(Kind::Tried, &name, &tip, from_ref(&merge.scores)));
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
    let best = match judgement::best_exportable(report, &custom_merges(tried)) {
        Exportable::Merged => (Kind::Merged, name.to_owned()),
        Exportable::Expert(i) => (Kind::Fixed(i), judgement::expert_name(i)),
        Exportable::Custom(i) => (Kind::Tried, custom_name(i)),
    };
    for row in &mut rows {
        row.best = best == (row.kind, row.name.clone());
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
    type Row<'a, 'b> = Column<'a, ComparisonRow<'b>>;
    let mut columns = vec![
        Row::new("Variant", "", |ui, row| ui.label(&row.name).on_hover_text(&row.tip)),
        Row::new(title, "The deciding metric of this run", |ui, row| {
            score_ui(ui, theme, row.value, row.best);
        }),
        Row::new("vs merged", "Difference to the merged model in the deciding metric", |ui, row| {
            difference_ui(ui, theme, report, row)
        }),
    ];
    columns.extend(others.iter().map(|(title, _, part)| {
        Row::number(title, "", move |row| mean(row.scores, *part).map_or_else(|| "-".to_owned(), format::metric))
    }));
    listing::grid(ui, "comparison", columns, rows);
    let named = || rows.iter().map(|row| (row.name.as_str(), row.value, row.scores));
    export_menu::table(ui, "comparison table", || tables::scores(named(), &report.metric));
    ui.add_space(2.0);
    cards::caption(ui, theme, noise_text(report));
}

/// A score, with a mark where it is the best.
pub fn score_ui(ui: &mut Ui, theme: &Theme, score: f64, best: bool) {
    ui.horizontal(|ui| {
        let text = RichText::new(format::metric(score)).monospace();
        ui.label(if best { text.strong() } else { text });
        if best {
            let tip = "Of the merged model, single experts and scored merges. Another one counts as better only if its lead \
                       is larger than the luckiest of so many would have by chance";
            ui.label(RichText::new("▲ best of what can be exported").small().color(theme.ok)).on_hover_text(tip);
        }
    });
}

fn difference_ui(ui: &mut Ui, theme: &Theme, report: &EvalReport, row: &ComparisonRow<'_>) -> Response {
    let difference = row.value - report.merged.primary;
    let text = RichText::new(format!("{difference:+.4}")).monospace();
    match merged_error(report) {
        _ if row.kind == ComparisonKind::Merged => ui.label(""),
        None => ui.label(text),
        Some(error) if difference.abs() < 2.0 * error => {
            ui.label(text.color(theme.muted)).on_hover_text("Less than two standard errors: may be chance")
        }
        Some(_) => ui.label(text).on_hover_text("More than two standard errors"),
    }
}

/// The statistical error of a difference.
pub fn noise_text(report: &EvalReport) -> String {
    let rows = format::counted(report.rows, "row");
    match merged_error(report) {
        Some(error) => format!(
            "{rows}: one standard error of an accuracy of {} is √(p (1 - p) / n) = {error:.4}. Differences below \
             two of them ({:.4}, grey) may be chance; all variants see the same rows, which makes differences \
             more reliable than that.",
            format::metric(report.merged.primary),
            2.0 * error
        ),
        None => format!(
            "{rows}. For {} there is no simple standard error; compare with the band of the random routes before \
             relying on a small difference.",
            names::metric(&report.metric).to_lowercase()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            base: None,
        }
    }

    #[test]
    fn rows_are_complete_and_the_best_is_marked() {
        let report = report(0.76, 0.77);
        let rows = rows(&report, &[]);
        let best: Vec<&str> = rows.iter().filter(|row| row.best).map(|row| row.name.as_str()).collect();
        assert_eq!(best, ["Merged, uniform"], "an ensemble cannot be exported");
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
    fn less_is_better_for_a_loss() {
        let mut report = report(0.4, 0.5);
        report.metric = "loss".to_owned();
        report.higher_is_better = false;
        let rows = rows(&report, &[]);
        assert!(rows[0].best && merged_error(&report).is_none());
        let worst = rows.iter().find(|row| row.name == "  worst of them").map(|row| row.value);
        assert_eq!(worst, Some(0.76));
    }
}
