//! Result of a run, with links to the next views.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::view::View;
use crate::app::widgets::cards;
use crate::app::widgets::verdict::{self, Verdict};
use crate::format;
use crate::protocol::{EndReason, EvalReport};
use egui::Ui;

/// Draws the outcome of a run that has ended; nothing before.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let Some(end) = &run.end else { return };
    let (verdict, how) = match &end.reason {
        EndReason::Finished => (Verdict::Passed, "Finished".to_owned()),
        EndReason::EarlyStopped => (Verdict::Passed, "Stopped early, because the metric got no better".to_owned()),
        EndReason::Stopped(_) => (Verdict::Open, "Stopped; Resume in Runs continues from here".to_owned()),
        // Its failure is shown already.
        EndReason::Diverged { .. } => return,
    };
    ui.add_space(4.0);
    cards::card(ui, ctx.theme, "", |ui| {
        let words = match &end.report {
            Some(report) => format!("{how}. {}", report_words(report)),
            None => format!("{how} (step {}).", format::count(end.step)),
        };
        verdict::line(ui, ctx.theme, verdict, &words);
        ui.horizontal_wrapped(|ui| {
            let show = |ui: &mut Ui, words: &str, view: View| {
                drop(ctx.button_as(ui, Action::Show(view), egui::Button::new(words)));
            };
            show(ui, "Merged against unmerged", View::Compare);
            show(ui, "Export with proof", View::Export);
            if matches!(end.reason, EndReason::Stopped(_)) {
                show(ui, "Runs", View::Runs);
            }
        });
    });
}

/// The scores in a sentence.
fn report_words(report: &EvalReport) -> String {
    let metric = format::metric;
    let mut words = format!("Merged {} {}", report.metric, metric(report.merged.primary));
    if !report.random.is_empty() && !report.fixed.is_empty() {
        let band = report.random_band();
        words.push_str(&format!(
            "; {} random routes {} on average ({} to {})",
            report.random.len(),
            metric(band.mean),
            metric(band.min),
            metric(band.max)
        ));
    }
    if report.majority.is_finite() {
        let without = if report.base.is_some() { "the base model" } else { "always the same answer" };
        words.push_str(&format!("; {without} {}", metric(report.majority)));
    }
    format!("{words}; {} evaluation rows.", format::count(report.rows as u64))
}
