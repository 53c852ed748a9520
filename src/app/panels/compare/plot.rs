//! The scores as a plot: points, the band of the random routes, paired intervals.

use super::table::{self, ComparisonKind, ComparisonRow};
use crate::app::names;
use crate::app::theme::Theme;
use crate::app::widgets::dot_plot::{self, MarkShape, ScoreAxis, ScoreEntry};
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::{EvalReport, Scores};
use egui::{Color32, Ui};

/// What the plot shows.
#[derive(Clone, Copy, Debug)]
pub struct PlotView {
    /// The part where the values lie; else all that the metric can be.
    pub zoomed: bool,
    /// The loss instead of the deciding metric.
    pub loss: bool,
}

impl Default for PlotView {
    fn default() -> Self {
        Self { zoomed: true, loss: false }
    }
}

/// Draws the plot with its switches.
pub fn ui(theme: &Theme, report: &EvalReport, rows: &[ComparisonRow<'_>], view: &mut PlotView, ui: &mut Ui) {
    let loss = view.loss || report.metric == "loss";
    ui.horizontal_wrapped(|ui| {
        let tip = "On: only the part where the values lie, so differences look larger than they are. Off: the whole range that \
                   there can be";
        labeled::toggle(ui, "Zoom to the values", tip, &mut view.zoomed);
        if report.metric != "loss" {
            let tip = "The loss of each variant instead of the deciding metric: it sees changes that turn no answer over";
            labeled::toggle(ui, "Loss instead", tip, &mut view.loss);
        }
    });
    let metric = if loss { "loss" } else { report.metric.as_str() };
    let entries = entries(theme, report, rows, loss);
    // The constant answer has no loss of its own in a report by another metric.
    let baseline = if loss == (report.metric == "loss") { report.majority } else { f64::NAN };
    let range = if view.zoomed { near_range(&entries) } else { full_range(metric, baseline, &entries) };
    let better = if report.higher_is_better && !loss { "more is better" } else { "less is better" };
    let cut = if view.zoomed {
        format!("axis from {} to {} only", format::metric(range[0]), format::metric(range[1]))
    } else {
        "full range".to_owned()
    };
    let name = names::metric(metric);
    let axis = ScoreAxis {
        name: format!("{name}, {better} ({cut}; n = {})", format::counted(report.rows, "row")),
        range,
        reference: baseline.is_finite().then(|| (baseline, "baseline".to_owned())),
        line: report.paired.as_ref().map(|_| if loss { report.merged.loss } else { report.merged.primary }),
    };
    dot_plot::ui(ui, theme, "Scores of all variants on one axis", &entries, &axis);
    let mut words =
        "Disc: merged. Band, rings and bar: random routes with their mean. Squares: single experts. Triangle: \
                     ensemble. Diamonds: custom weights."
            .to_owned();
    if report.paired.is_some() {
        words.push_str(
            " Whiskers: 95 % intervals of the difference from merged, around each variant; one that reaches the thin line \
             through merged shows no difference.",
        );
    } else if let Some(error) = table::merged_error(report) {
        words.push_str(&format!(" Whisker: one standard error, {error:.4}."));
    }
    if baseline.is_finite() && !(range[0]..=range[1]).contains(&baseline) {
        let side = if baseline < range[0] { "left" } else { "right" };
        words.push_str(&format!(" The baseline, {}, lies {side} of this axis.", format::metric(baseline)));
    }
    cards::caption(ui, theme, words);
}

fn entries(theme: &Theme, report: &EvalReport, rows: &[ComparisonRow<'_>], loss: bool) -> Vec<ScoreEntry> {
    let of = |scores: &Scores| if loss { scores.loss } else { scores.primary };
    let merged = of(&report.merged);
    let error = table::merged_error(report).filter(|_| report.paired.is_none() && !loss);
    let shown = rows.iter().filter(|row| !matches!(row.kind, ComparisonKind::RandomEnd | ComparisonKind::Majority));
    shown
        .map(|row| {
            let random = row.kind == ComparisonKind::RandomMean;
            let text = if theme.dark { Color32::from_gray(230) } else { Color32::from_gray(30) };
            let (mark, color) = match row.kind {
                ComparisonKind::Merged => (MarkShape::Disc, text),
                ComparisonKind::Fixed(expert) => (MarkShape::Square, theme.series(expert)),
                ComparisonKind::Ensemble => (MarkShape::Triangle, text),
                ComparisonKind::Tried => (MarkShape::Diamond, theme.accent),
                _ => (MarkShape::Tick, theme.muted),
            };
            let singles: Vec<f64> = if random { report.random.iter().map(of).collect() } else { Vec::new() };
            let ends = singles.iter().copied().fold([f64::NAN; 2], |[low, high], v| [low.min(v), high.max(v)]);
            let apart = row.paired.map(|paired| if loss { paired.loss } else { paired.primary });
            ScoreEntry {
                name: if random { "Random routes".to_owned() } else { row.name.clone() },
                value: if loss { row.loss().unwrap_or(f64::NAN) } else { row.value },
                each: Vec::new(),
                band: random.then_some(ends),
                singles,
                error: error.filter(|_| row.kind == ComparisonKind::Merged),
                interval: apart.map(|apart| [merged + apart.low, merged + apart.high]),
                mark,
                color,
            }
        })
        .collect()
}

/// Both ends of everything that is drawn of an entry.
fn ends(entry: &ScoreEntry) -> impl Iterator<Item = f64> {
    let error = entry.error.map(|error| [entry.value - error, entry.value + error]);
    let drawn = [entry.band, entry.interval, error, Some([entry.value; 2])];
    drawn.into_iter().flatten().flatten().filter(|value| value.is_finite())
}

/// The whole range that the metric can have; losses start at 0.
fn full_range(metric: &str, baseline: f64, entries: &[ScoreEntry]) -> [f64; 2] {
    match metric {
        "accuracy" | "f1" => [0.0, 1.0],
        "matthews" | "pearson" | "spearman" => [-1.0, 1.0],
        _ => {
            let most = entries.iter().flat_map(ends).fold(baseline.max(0.0), f64::max);
            [0.0, if most > 0.0 { 1.05 * most } else { 1.0 }]
        }
    }
}

/// The range of the values with a margin.
fn near_range(entries: &[ScoreEntry]) -> [f64; 2] {
    let range = entries.iter().flat_map(ends).fold([f64::NAN; 2], |[low, high], v| [low.min(v), high.max(v)]);
    let [low, high] = range;
    let margin = (0.08 * (high - low)).max(1e-4);
    if low <= high { [low - margin, high + margin] } else { [0.0, 1.0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Interval, PairedDifference, PairedReport};

    fn report() -> EvalReport {
        let scores =
            |primary: f64| Scores { primary, loss: 1.3 - primary, accuracy: Some(primary), ..Scores::default() };
        let paired = |value: f64| {
            let primary = Interval { value, low: value - 0.01, high: value + 0.02, p: 0.3 };
            PairedDifference { primary, loss: primary.negated(), accuracy: Some(primary) }
        };
        EvalReport {
            metric: "accuracy".to_owned(),
            higher_is_better: true,
            rows: 100,
            merged: scores(0.75),
            random: [0.72, 0.74].map(scores).to_vec(),
            fixed: vec![scores(0.74)],
            ensemble: scores(0.76),
            majority: 0.5,
            paired: Some(Box::new(PairedReport { ensemble: Some(paired(0.01)), ..PairedReport::default() })),
            ..EvalReport::default()
        }
    }

    #[test]
    fn whiskers_are_the_paired_intervals_around_merged() {
        let report = report();
        let rows = table::rows(&report, &[]);
        let of = |loss| entries(&Theme::new(false), &report, &rows, loss);
        let near = |found: Option<[f64; 2]>, want: [f64; 2]| {
            let found = found.unwrap();
            assert!((found[0] - want[0]).abs() < 1e-12 && (found[1] - want[1]).abs() < 1e-12, "{found:?} {want:?}");
        };
        let accuracy = of(false);
        near(accuracy[3].interval, [0.75, 0.78]);
        near(accuracy[1].band, [0.72, 0.74]);
        assert_eq!((accuracy[0].interval, accuracy[0].error), (None, None));
        near(of(true)[3].interval, [0.55 - 0.03, 0.55]);
        let [low, high] = near_range(&accuracy);
        assert!(low < 0.72 && low > 0.70 && high > 0.78 && high < 0.80, "{low} {high}");
        assert_eq!(full_range("accuracy", 0.5, &accuracy), [0.0, 1.0]);
        assert_eq!(full_range("loss", f64::NAN, &of(true))[0], 0.0);
    }

    #[test]
    fn without_intervals_one_standard_error_is_drawn() {
        let mut report = report();
        report.paired = None;
        let rows = table::rows(&report, &[]);
        let found = entries(&Theme::new(true), &report, &rows, false);
        assert!((found[0].error.unwrap() - (0.75f64 * 0.25 / 100.0).sqrt()).abs() < 1e-12);
        assert_eq!(near_range(&[]), [0.0, 1.0]);
    }
}
