//! Was it the route? The batch of a step under other routes, beside other batches.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::widgets::cards;
use crate::app::widgets::dot_plot::{self, MarkShape, ScoreAxis, ScoreEntry};
use crate::format;
use crate::protocol::{ModelQuery, RerollPlan, RerollReport, RolledLoss, RouteShare, Study};
use egui::Ui;

/// Draws the card.
pub fn ui(ctx: &PanelCtx<'_>, step: u64, ui: &mut Ui) {
    let Some(subject) = ctx.session.subject() else { return };
    cards::card(ui, ctx.theme, "Was it the route?", |ui| {
        let plan = RerollPlan { step, routes: RerollPlan::ROUTES };
        let words = format!(
            "The route or the batch? The same batch, with the same dropout, under {} other routes; and {} other batches \
             under routes of their own: {} batches through the model.",
            plan.routes,
            plan.routes,
            plan.batches()
        );
        cards::caption(ui, ctx.theme, words);
        let query = &ctx.session.studies.reroll;
        ctx.job_ui(ui, Action::Query(subject, ModelQuery::Study(Study::Reroll(plan))), query, "re-rolling the batch");
        if let Some(report) = query.value.as_ref().filter(|report| report.rerolled_step == step) {
            report_ui(ctx.theme, report, ui);
        }
    });
}

fn report_ui(theme: &Theme, report: &RerollReport, ui: &mut Ui) {
    for warning in &report.warnings {
        cards::note(ui, theme.warning, warning);
    }
    let step = format::count(report.rerolled_step);
    cards::muted(ui, theme, sentence(report));
    strips_ui(theme, report, ("Loss under other routes and of other batches", "loss of a step"), |roll| roll.loss, ui);
    if report.own.consistency_loss != 0.0 {
        let of = "task loss of a step, without the consistency term";
        strips_ui(theme, report, ("Task loss under other routes and of other batches", of), |roll| roll.task_loss, ui);
        if let Some(share) = report.task_loss.route_share {
            let words = format!("Of the task loss's variance the route explains {}.", format::percent(share));
            cards::caption(ui, theme, words);
        }
    }
    let words = format!(
        "Each ring is one batch; the filled mark of both strips is step {step} as it was. Law of the other routes: {}. The \
         other batches are those of the steps that follow. Took {}.",
        report.law,
        format::duration(report.seconds)
    );
    cards::caption(ui, theme, words);
}

/// What the picture says.
fn sentence(report: &RerollReport) -> String {
    let RouteShare { route_share, batch_share, excess, of_batch, of_route, .. } = report.loss;
    let (Some(route), Some(batch)) = (route_share, batch_share) else {
        return "Neither the route nor the batch changes this loss.".to_owned();
    };
    format!(
        "The route explains {} of the variance of the loss from batch to batch, the batch {}. This step's loss is {excess:+.4} off \
         the mean of the other batches: {of_batch:+.4} by its batch, {of_route:+.4} by its route; {} of {} other routes give \
         this batch a smaller loss.",
        format::percent(route),
        format::percent(batch),
        report.below(),
        report.rolls.len()
    )
}

fn strips_ui(
    theme: &Theme,
    report: &RerollReport,
    (name, axis): (&str, &str),
    of: fn(&RolledLoss) -> f64,
    ui: &mut Ui,
) {
    let strip = |name: &str, list: &[RolledLoss], mark: MarkShape, color: usize| ScoreEntry {
        name: name.to_owned(),
        value: of(&report.own),
        each: Vec::new(),
        band: None,
        singles: list.iter().map(of).collect(),
        error: None,
        interval: None,
        mark,
        color: theme.series(color),
    };
    let entries = [
        strip("this batch, other routes", &report.rolls, MarkShape::Diamond, 0),
        strip("other batches", &report.others, MarkShape::Disc, 1),
    ];
    let all = report.rolls.iter().chain(&report.others).map(of).chain([of(&report.own)]);
    let [low, high] = all.fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [a.min(v), b.max(v)]);
    let margin = (0.05 * (high - low)).max(1e-9);
    let reference = Some((of(&report.own), "this step".to_owned()));
    let axis = ScoreAxis { name: axis.to_owned(), range: [low - margin, high + margin], reference, line: None };
    dot_plot::ui(ui, theme, name, &entries, &axis);
}
