//! What the run on screen is doing, in the same words in the toolbar and in the views.

use super::run_columns;
use super::run_view::RunView;
use super::session::Session;
use super::theme::Theme;
use crate::format;
use crate::protocol::{EndReason, RunPhase, RunStatus};
use egui::Color32;

/// The state of the run on screen, and its colour.
pub fn describe(session: &Session, theme: &Theme) -> (String, Color32) {
    match &session.opened {
        Some(run) => opened(run, theme),
        None => live(session.phase, session.live.as_ref(), theme),
    }
}

/// The state of a run on disk, and its colour.
pub fn status_label(status: RunStatus, theme: &Theme) -> (&'static str, Color32) {
    let color = match status {
        RunStatus::Running => theme.accent,
        RunStatus::Finished => theme.ok,
        RunStatus::Stopped | RunStatus::Interrupted => theme.warning,
        RunStatus::Diverged | RunStatus::Damaged => theme.error,
    };
    (run_columns::status(status), color)
}

fn at(what: &str, step: u64) -> String {
    format!("{what} at step {}", format::count(step))
}

fn opened(run: &RunView, theme: &Theme) -> (String, Color32) {
    let status = run.status.unwrap_or_default();
    let words = match (status, run.end.as_ref().map(|end| &end.reason)) {
        (RunStatus::Running, _) => "In training by another process".to_owned(),
        (RunStatus::Finished, Some(EndReason::EarlyStopped)) => at("Stopped early", run.step()),
        (RunStatus::Finished, _) => "Finished".to_owned(),
        (RunStatus::Stopped, _) => at("Stopped", run.step()),
        (RunStatus::Interrupted, _) => at("Interrupted", run.step()),
        (RunStatus::Diverged, _) => at("Diverged", run.step()),
        (RunStatus::Damaged, _) => "Damaged".to_owned(),
    };
    (words, status_label(status, theme).1)
}

fn live(phase: RunPhase, run: Option<&RunView>, theme: &Theme) -> (String, Color32) {
    let end = run.and_then(|run| run.end.as_ref());
    match (phase, end.map(|end| (&end.reason, end.step))) {
        (RunPhase::Finished, Some((EndReason::Stopped(_), step))) => (at("Stopped", step), theme.warning),
        (RunPhase::Finished, Some((EndReason::EarlyStopped, step))) => (at("Stopped early", step), theme.ok),
        (RunPhase::Failed, Some((EndReason::Diverged { step, .. }, _))) => (at("Diverged", *step), theme.error),
        _ => {
            let (words, color) = phase_label(phase, theme);
            (words.to_owned(), color)
        }
    }
}

fn phase_label(phase: RunPhase, theme: &Theme) -> (&'static str, Color32) {
    match phase {
        RunPhase::Idle => ("Ready", theme.muted),
        RunPhase::Preparing => ("Preparing", theme.accent),
        RunPhase::Training => ("Training", theme.accent),
        RunPhase::Paused => ("Paused", theme.warning),
        RunPhase::Evaluating => ("Evaluating", theme.accent),
        RunPhase::Stopping => ("Stopping", theme.warning),
        RunPhase::Finished => ("Finished", theme.ok),
        RunPhase::Failed => ("Failed", theme.error),
    }
}

/// What the progress bar shows: its share, 0 to 1, its words, and its tooltip.
pub struct ProgressWords {
    /// Share done, 0 to 1.
    pub share: f32,
    /// On the bar.
    pub text: String,
    /// What is counted.
    pub tip: &'static str,
}

/// The progress of the run on screen; none before it is known.
pub fn progress(session: &Session) -> Option<ProgressWords> {
    let run = session.shown().filter(|run| run.start.total_steps > 0)?;
    let active = session.shows_live() && session.phase.is_active();
    let left = |seconds: Option<f64>| match seconds {
        Some(seconds) if active && seconds > 0.0 => format!("   {} left", format::duration(seconds)),
        _ => String::new(),
    };
    if let Some(evaluating) = run.evaluating.filter(|_| active) {
        let (what, tip) = if evaluating.comparison {
            ("Comparing", "Rows done by the merged model, random routes and single experts together, of all they see")
        } else {
            ("Evaluating", "Evaluation rows done of those there are")
        };
        let rows = format!("{} / {} rows", format::count(evaluating.done), format::count(evaluating.rows));
        let text = format!("{what} {rows}{}", left(evaluating.seconds_left));
        return Some(ProgressWords { share: evaluating.share(), text, tip });
    }
    let steps = format!("{} / {}", format::count(run.step()), format::count(run.start.total_steps));
    let text = format!("{steps}{}", left(run.seconds_left()));
    Some(ProgressWords { share: run.progress(), text, tip: "Steps done of the steps planned" })
}
