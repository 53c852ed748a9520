//! The score of a pinned probe set while weights are dragged.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::{MergePlan, ModelQuery, ReweighPlan, ReweighReport, Scores, Subject};
use egui::{RichText, Ui};

/// Whether the probe set is scored, and what was asked last.
pub struct DragForm {
    on: bool,
    rows: usize,
    asked: Option<(Subject, ReweighPlan)>,
    /// When, in seconds of the window.
    asked_at: f64,
}

/// Seconds after which an answer that is still computed gives way to newer weights.
const PATIENCE: f64 = 0.25;

impl Default for DragForm {
    fn default() -> Self {
        Self { on: false, rows: ReweighPlan::PROBE_ROWS, asked: None, asked_at: 0.0 }
    }
}

impl DragForm {
    /// Asks for the score of these weights whenever they are others than before.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, merge: Option<MergePlan>, ui: &mut Ui) {
        let tip = "Scores a fixed set of evaluation rows at once whenever the weights change. Kept are the outputs of the layers \
                   below the lowest one whose weights change, so that only the layers above run";
        labeled::toggle(ui, "Score while dragging", tip, &mut self.on);
        if !self.on {
            self.asked = None;
            return;
        }
        let tip = "Evaluation rows of the probe set, evenly spread; 0: all";
        labeled::number(ui, "Probe rows", tip, &mut self.rows, 0..=100_000, 4.0);
        let query = &ctx.session.reweigh;
        if let Some(merge) = merge {
            let asked = (subject.clone(), ReweighPlan { merge, probe_rows: self.rows });
            // The answer is dropped with the weights it was about: then it is asked for again.
            let gone = query.value.is_none() && query.error.is_none() && !query.is_pending();
            let (other, now) = (self.asked.as_ref() != Some(&asked), ui.input(|input| input.time));
            let busy = query.is_pending() && now < self.asked_at + PATIENCE;
            if other && busy {
                ui.ctx().request_repaint_after_secs(PATIENCE as f32);
            } else if gone || other {
                self.asked_at = now;
                let (subject, plan) = asked.clone();
                ctx.push(Action::Query(subject, ModelQuery::Reweigh(plan)));
                self.asked = Some(asked);
            }
        }
        match &query.value {
            Some(report) => report_ui(ctx, report, ui),
            None => cards::loading(ui, "running the probe set once", None),
        }
        ctx.error_ui(ui, query);
    }
}

fn report_ui(ctx: &PanelCtx<'_>, report: &ReweighReport, ui: &mut Ui) {
    ui.label(RichText::new(words(report)).strong());
    let kept = format!(
        "{}, {} of {} layer passes, {}; {} of layer outputs are kept. Chosen on these rows, weights are slightly overfitted to them.",
        format::counted(report.rows, "probe row"),
        format::count(report.layer_passes),
        format::count(report.all_layer_passes),
        format::duration(report.seconds),
        format::bytes(report.kept_bytes)
    );
    cards::caption(ui, ctx.theme, kept);
}

/// The scores beside those of the uniform mean.
fn words(report: &ReweighReport) -> String {
    let part = |name: String, value: fn(&Scores) -> f64| {
        let (now, uniform) = (value(&report.scores), value(&report.uniform));
        format!("{name} {} ({:+.4} against uniform)", format::metric(now), now - uniform)
    };
    let metric = part(names::metric(&report.metric).to_owned(), |scores| scores.primary);
    if report.metric == "loss" {
        metric
    } else {
        format!("{metric}, loss {}", part(String::new(), |scores| scores.loss).trim())
    }
}
