//! Curves of a run's histories.

use super::clock::{Clock, XScale};
use super::history::{ValueBucket, ValueHistory};
use super::run_view::{self, RunView};
use super::theme::Theme;
use super::widgets::metric_plot::{Curve, EventLine, ValueRange};
use crate::protocol::{Quantity, Scores};
use egui::Color32;

/// A series as a smoothed line over its raw range.
fn curve(series: &ValueHistory, name: &str, color: Color32, half_life: f64) -> Curve {
    let range = |bucket: &ValueBucket| ValueRange { x: bucket.x(), min: bucket.min.into(), max: bucket.max.into() };
    let ranges = series.finite().map(range).collect();
    Curve { ranges, ..Curve::line(name, color, series.smoothed(half_life)) }
}

/// A recorded quantity of a run as a curve.
pub fn of(run: &RunView, quantity: Quantity, name: &str, color: Color32, half_life: f64) -> Curve {
    let history = &run.history;
    let curve = match quantity {
        Quantity::Loss => curve(&history.loss, name, color, half_life),
        Quantity::TaskLoss => curve(&history.task_loss, name, color, half_life),
        Quantity::Consistency => curve(&history.consistency, name, color, half_life),
        Quantity::LearningRate => curve(&history.learning_rate, name, color, half_life),
        Quantity::GradNorm => curve(&history.grad_norm, name, color, half_life),
        Quantity::TokensPerSecond => curve(&history.tokens_per_s, name, color, half_life),
        Quantity::EvalLoss => evaluations(run, name, color, |scores| scores.loss),
        Quantity::EvalMetric => evaluations(run, name, color, |scores| scores.primary),
    };
    Curve { source: Some((run.dir.clone(), quantity)), ..curve }
}

/// Moves a curve from steps to what the axis counts.
pub fn on_axis(mut curve: Curve, clock: &Clock, x: &XScale) -> Curve {
    curve.line.iter_mut().for_each(|point| point[0] = x.at(clock, point[0]));
    curve.ranges.iter_mut().for_each(|range| range.x = x.at(clock, range.x));
    curve
}

/// A score of the merged model over time.
fn evaluations(run: &RunView, name: &str, color: Color32, score: fn(&Scores) -> f64) -> Curve {
    let line = run.evals.iter().map(|eval| [eval.step as f64, score(&eval.merged)]).collect();
    Curve { dots: true, ..Curve::line(name, color, line) }
}

/// What happened when: the best checkpoint, every resume, every change of the law, values that were not finite.
pub fn marks(run: &RunView, theme: &Theme) -> Vec<EventLine> {
    let mark = |x: f64, name: &str, color| EventLine { x, name: name.to_owned(), color };
    let known = run_view::marks(run).into_iter().map(|(name, step)| {
        let color = if name == "resumed" { theme.muted } else { theme.series(6) };
        mark(step as f64, &name, color)
    });
    let bad = run.history.loss.bad_steps().into_iter().map(|x| mark(x, "not a finite number", theme.error));
    known.chain(bad).collect()
}
