//! A step made again, beside what the record says.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cards;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::verdict::{self, Verdict};
use crate::format;
use crate::protocol::{ModelQuery, ReplayPlan, ReplayReport, ReplayedValue, Study};
use egui::Ui;

/// Draws the card.
pub fn ui(ctx: &PanelCtx<'_>, step: u64, ui: &mut Ui) {
    let Some(subject) = ctx.session.subject() else { return };
    cards::card(ui, ctx.theme, "Replay this step", |ui| {
        let words = "Batch, dropout and routes of a step follow from the seed and the step, so it can be made again: the same \
                     loss, the same gradient, bit for bit.";
        cards::caption(ui, ctx.theme, words);
        let query = &ctx.session.studies.replay;
        let study = Study::Replay(ReplayPlan { step });
        ctx.job_ui(ui, Action::Query(subject, ModelQuery::Study(study)), query, "making the step again");
        if let Some(report) = query.value.as_ref().filter(|report| report.replayed_step == step) {
            report_ui(ctx, report, ui);
        }
    });
}

fn report_ui(ctx: &PanelCtx<'_>, report: &ReplayReport, ui: &mut Ui) {
    let sign = if report.is_equal() { Verdict::Passed } else { Verdict::Failed };
    verdict::line(ui, ctx.theme, sign, &report.verdict());
    type Value<'a> = Column<'a, ReplayedValue>;
    let columns = vec![
        Value::new("Number", "As the record names it", |ui, value| ui.label(&value.name)),
        Value::number("Made again", "Computed now", |value| value.replayed.to_string()),
        Value::number("Recorded", "In metrics.jsonl, with every digit", |value| value.recorded.to_string()),
        Value::new("Same bits", "Whether all 64 bits are the same", |ui, value| {
            ui.label(if value.is_equal() { "equal" } else { "not equal" })
        }),
    ];
    listing::grid(ui, "replayed step", columns, &report.values);
    for warning in &report.warnings {
        cards::note(ui, ctx.theme.warning, warning);
    }
    let picks: usize = report.routes.iter().map(|route| route.picks.len()).sum();
    let routes = match (report.routes_recorded, report.picks_differing) {
        (0, _) => "The routes of this step are not recorded.".to_owned(),
        (_, 0) => format!("All {picks} picks of its routes are those of the record."),
        (_, n) => format!("{n} of {picks} picks of its routes are not those of the record:"),
    };
    cards::muted(ui, ctx.theme, routes);
    for words in &report.different_picks {
        cards::muted(ui, ctx.theme, words.as_str());
    }
    if report.weights.is_none() {
        cards::caption(ui, ctx.theme, "There is no checkpoint of this step to compare the weights after it with.");
    }
    cards::caption(
        ui,
        ctx.theme,
        format!("Law of the draws: {}; took {}.", report.law, format::duration(report.seconds)),
    );
}
