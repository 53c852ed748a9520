//! The scores as a plot: points, the band of the random routes, one standard error.

use super::table::{self, ComparisonKind, ComparisonRow};
use crate::app::names;
use crate::app::theme::Theme;
use crate::app::widgets::dot_plot::{self, MarkShape, ScoreAxis, ScoreEntry};
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::EvalReport;
use egui::{Color32, Ui};

/// Values closer than this share of what the metric can be are drawn on an axis of their own range.
const CLOSE: f64 = 0.25;

/// Draws the plot with its switch between the full range and the range of the values; `zoomed`: the user's choice.
pub fn ui(theme: &Theme, report: &EvalReport, rows: &[ComparisonRow<'_>], zoomed: &mut Option<bool>, ui: &mut Ui) {
    let error = table::merged_error(report);
    let entries = entries(theme, report, rows, error);
    let (full, near) = (full_range(report, &entries), near_range(&entries, error));
    let mut cut_off = zoomed.unwrap_or(are_close(near, full));
    let tip = "Off: the whole range the metric can have. On: only the part where the values lie, so differences look \
               larger than they are";
    if labeled::toggle(ui, "Zoom to the values", tip, &mut cut_off).changed() {
        *zoomed = Some(cut_off);
    }
    let range = if cut_off { near } else { full };
    let name = names::metric(&report.metric);
    let better = if report.higher_is_better { "more is better" } else { "less is better" };
    let cut = if cut_off {
        format!("axis from {} to {} only", format::metric(range[0]), format::metric(range[1]))
    } else {
        "full range".to_owned()
    };
    let axis = ScoreAxis {
        name: format!("{name}, {better} ({cut}; n = {})", format::counted(report.rows, "row")),
        range,
        reference: report.majority.is_finite().then(|| (report.majority, "baseline".to_owned())),
    };
    dot_plot::ui(ui, theme, "Scores of all variants on one axis", &entries, &axis);
    let mut words =
        "Disc: merged. Band, rings and bar: random routes with their mean. Squares: single experts. Triangle: \
                     ensemble. Diamonds: custom weights."
            .to_owned();
    if let Some(error) = error {
        words.push_str(&format!(" Whisker: one standard error, {error:.4}."));
    }
    if report.majority.is_finite() && !(range[0]..=range[1]).contains(&report.majority) {
        let side = if report.majority < range[0] { "left" } else { "right" };
        words.push_str(&format!(" The baseline, {}, lies {side} of this axis.", format::metric(report.majority)));
    }
    cards::caption(ui, theme, words);
}

fn entries(theme: &Theme, report: &EvalReport, rows: &[ComparisonRow<'_>], error: Option<f64>) -> Vec<ScoreEntry> {
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
            let band = report.random_band();
            ScoreEntry {
                name: if random { "Random routes".to_owned() } else { row.name.clone() },
                value: row.value,
                band: random.then_some([band.min, band.max]),
                singles: if random { report.random.iter().map(|s| s.primary).collect() } else { Vec::new() },
                error: error.filter(|_| row.kind == ComparisonKind::Merged),
                mark,
                color,
            }
        })
        .collect()
}

/// The whole range that the metric can have; losses start at 0.
fn full_range(report: &EvalReport, entries: &[ScoreEntry]) -> [f64; 2] {
    match report.metric.as_str() {
        "accuracy" | "f1" => [0.0, 1.0],
        "matthews" | "pearson" | "spearman" => [-1.0, 1.0],
        _ => {
            let ends = entries.iter().flat_map(|e| [e.value, e.band.map_or(e.value, |band| band[1])]);
            let most = ends.filter(|v| v.is_finite()).fold(report.majority.max(0.0), f64::max);
            [0.0, if most > 0.0 { 1.05 * most } else { 1.0 }]
        }
    }
}

/// Whether the values fill so little of the whole range that they would lie on one spot.
fn are_close(near: [f64; 2], full: [f64; 2]) -> bool {
    near[1] - near[0] < CLOSE * (full[1] - full[0])
}

/// The range of the values with a margin, within what the metric can be.
fn near_range(entries: &[ScoreEntry], error: Option<f64>) -> [f64; 2] {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for entry in entries {
        let spread = entry.error.or(error).unwrap_or(0.0);
        let [from, to] = entry.band.unwrap_or([entry.value; 2]);
        for value in [from, to, entry.value - spread, entry.value + spread] {
            if value.is_finite() {
                (low, high) = (low.min(value), high.max(value));
            }
        }
    }
    let margin = (0.08 * (high - low)).max(1e-4);
    if low <= high { [low - margin, high + margin] } else { [0.0, 1.0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_values_get_an_axis_of_their_own() {
        assert!(are_close([0.73, 0.79], [0.0, 1.0]));
        assert!(!are_close([0.2, 0.9], [0.0, 1.0]));
        // Seven losses around 1.3 would all stand at one spot of an axis from 0.
        assert!(are_close([1.29, 1.31], [0.0, 1.4]));
    }
}
