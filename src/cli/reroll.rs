//! `adamix reroll`: the batch of one step under other routes, beside other batches under routes of their own.

use super::replay::{step_argument, with_step};
use super::{Done, args, out, runs};
use crate::artifact::RunDir;
use crate::error::Result;
use crate::format;
use crate::protocol::{RerollPlan, RerollReport, RolledLoss, RouteShare};
use crate::workflow::studies::reroll::reroll;
use clap::{ArgMatches, Command};

pub(super) fn command() -> Command {
    Command::new("reroll")
        .about(
            "Was it the route? The batch of one step under other routes with the weights before that step, beside as many other batches \
             under routes of their own; the variance that the route explains, and the batch",
        )
        .after_help(
            "Every loss is that of a training step: both passes, with the dropout masks of its step. The other batches are those of the \
             steps that follow. Nothing is written.",
        )
        .args([
            runs::argument(),
            runs::root_argument(),
            step_argument(),
            args::whole("routes", "R", 2..=RerollPlan::MOST as u64)
                .help("Other routes, and other batches [default: 64]"),
            args::threads(),
        ])
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let routes = args::given(matches, "routes").unwrap_or(RerollPlan::ROUTES);
    with_step(matches, |dir, step| {
        let plan = RerollPlan { step, routes };
        out::note(&format!("{} batches go through the model, without a backward pass", format::count(plan.batches())));
        let report = reroll(dir, plan, &|_| true)?;
        for warning in &report.warnings {
            out::note(&format!("warning: {warning}"));
        }
        if matches.get_flag("json") {
            return Ok(out::json(&serde_json::json!({ "run_dir": dir.path(), "reroll": report }))?);
        }
        Ok(print(dir, &report)?)
    })
}

fn print(dir: &RunDir, report: &RerollReport) -> Result<()> {
    out::line(&format!("{}, step {}", dir.path().display(), report.rerolled_step))?;
    let mut rows = vec![out::row("", ["loss", "task loss", "consistency"])];
    let cells =
        |roll: RolledLoss| [roll.loss, roll.task_loss, roll.consistency_loss].map(|value| format!("{value:.5}"));
    rows.push(out::row("this step", cells(report.own)));
    let routes = report.rolls.len();
    for (name, list) in [("this batch, other routes", &report.rolls), ("other batches, own routes", &report.others)] {
        let of = |pick: &dyn Fn(&[f64]) -> f64| {
            let all = |get: fn(&RolledLoss) -> f64| pick(&list.iter().map(get).collect::<Vec<_>>());
            let values = [all(|roll| roll.loss), all(|roll| roll.task_loss), all(|roll| roll.consistency_loss)];
            values.map(|value| format!("{value:.5}"))
        };
        rows.push(out::row(
            format!("{name}: mean of {routes}"),
            of(&|list| list.iter().sum::<f64>() / list.len() as f64),
        ));
        rows.push(out::row("    smallest", of(&|list| list.iter().copied().fold(f64::INFINITY, f64::min))));
        rows.push(out::row("    largest", of(&|list| list.iter().copied().fold(f64::NEG_INFINITY, f64::max))));
    }
    out::table(&rows)?;
    out::line("")?;
    for (name, share) in [("loss", &report.loss), ("task loss", &report.task_loss)] {
        out::line(&parts(name, share))?;
    }
    out::line(&format!(
        "{} of {routes} other routes give this batch a smaller loss; law {}",
        report.below(),
        report.law
    ))
}

fn parts(name: &str, share: &RouteShare) -> String {
    let shares = match (share.route_share, share.batch_share) {
        (Some(route), Some(batch)) => {
            format!("route {}, batch {} of the variance", format::percent(route), format::percent(batch))
        }
        _ => "nothing varies".to_owned(),
    };
    format!(
        "{name}: {shares}; this step is {:+.5} off the mean of the other batches: {:+.5} by its batch, {:+.5} by its route",
        share.excess, share.of_batch, share.of_route
    )
}
