//! Curves of a run's histories.

use super::history::ValueHistory;
use super::run_view::RunView;
use super::theme::Theme;
use super::widgets::metric_plot::{Curve, Envelope, EventLine};
use egui::Color32;

/// A series as a smoothed line over its raw range.
pub fn curve(series: &ValueHistory, name: &str, color: Color32, half_life: f64) -> Curve {
    let finite = || series.buckets().iter().filter(|bucket| bucket.n > 0);
    let envelope = Envelope {
        xs: finite().map(|bucket| bucket.x()).collect(),
        min: finite().map(|bucket| f64::from(bucket.min)).collect(),
        max: finite().map(|bucket| f64::from(bucket.max)).collect(),
    };
    let line = Curve::line(name, color, series.smoothed(half_life));
    // Where every bucket is a single step, the range is a line.
    if envelope.min == envelope.max {
        let raw = if half_life > 0.0 {
            envelope.xs.iter().zip(&envelope.min).map(|(&x, &y)| [x, y]).collect()
        } else {
            Vec::new()
        };
        Curve { raw, ..line }
    } else {
        Curve { envelope: Some(envelope), ..line }
    }
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
    let mut marks = Vec::new();
    if let Some(best) = run.best_eval() {
        marks.push(EventLine { x: best.step as f64, name: "best evaluation".to_owned(), color: theme.series(6) });
    }
    if run.start.first_step > 0 {
        marks.push(EventLine { x: run.start.first_step as f64, name: "resumed here".to_owned(), color: theme.muted });
    }
    for x in run.history.loss.bad_steps() {
        marks.push(EventLine { x, name: "not a finite number".to_owned(), color: theme.error });
    }
    marks
}
