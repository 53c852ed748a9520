//! Curves of a run's histories.

use super::history::ValueHistory;
use super::run_view::RunView;
use super::theme::Theme;
use super::widgets::metric_plot::{Curve, EventLine, ValueRange};
use egui::Color32;

/// A series as a smoothed line over its raw range.
pub fn curve(series: &ValueHistory, name: &str, color: Color32, half_life: f64) -> Curve {
    let finite = series.buckets().iter().filter(|bucket| bucket.n > 0);
    let ranges: Vec<ValueRange> = finite
        .map(|bucket| ValueRange { x: bucket.x(), min: f64::from(bucket.min), max: f64::from(bucket.max) })
        .collect();
    let line = Curve::line(name, color, series.smoothed(half_life));
    if ranges.iter().any(|range| range.min != range.max) {
        return Curve { ranges, ..line };
    }
    // Where every bucket is a single step, the range is a line.
    let raw = if half_life > 0.0 { ranges.iter().map(|range| [range.x, range.min]).collect() } else { Vec::new() };
    Curve { raw, ..line }
}

/// The deciding metric over time.
pub fn metric(run: &RunView, name: &str, color: Color32) -> Curve {
    let line = run.evals.iter().map(|eval| [eval.step as f64, eval.merged.primary]).collect();
    Curve { dots: true, ..Curve::line(name, color, line) }
}

/// The evaluation loss over time.
pub fn eval_loss(run: &RunView, name: &str, color: Color32) -> Curve {
    let line = run.evals.iter().map(|eval| [eval.step as f64, eval.merged.loss]).collect();
    Curve { dots: true, dashed: true, ..Curve::line(name, color, line) }
}

/// What happened when: the best checkpoint, values that were not finite.
pub fn marks(run: &RunView, theme: &Theme) -> Vec<EventLine> {
    let mark = |x: f64, name: &str, color| EventLine { x, name: name.to_owned(), color };
    let best = run.best_eval().map(|best| mark(best.step as f64, "best evaluation", theme.series(6)));
    let first = run.start.first_step;
    let resumed = (first > 0).then(|| mark(first as f64, "resumed here", theme.muted));
    let bad = run.history.loss.bad_steps().into_iter().map(|x| mark(x, "not a finite number", theme.error));
    best.into_iter().chain(resumed).chain(bad).collect()
}
