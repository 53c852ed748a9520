//! `adamix inspect --routes`: the loss along every route of a small mixture, or along some of a large one.

use super::{Done, Failure, args, eval, out};
use crate::config::choice_name;
use crate::error::Result;
use crate::format;
use crate::protocol::{RoutesPlan, RoutesReport};
use crate::workflow::studies::routes::{RoutesWork, routes_subject};
use clap::ArgMatches;

/// Differences of a loss are shown in thousandths.
const MILLI: f64 = 1e3;
/// Best and worst routes that are shown.
const SHOWN: usize = 3;

pub(super) fn run(matches: &ArgMatches) -> Done {
    let plan = RoutesPlan {
        routes: args::given(matches, "routes").filter(|&routes| routes > 0),
        probe_rows: args::given(matches, "probe-rows").unwrap_or(RoutesPlan::PROBE_ROWS),
    };
    eval::with_opened(matches, |opened| {
        let (subject, config) = (&opened.subject, &opened.config);
        let work = RoutesWork::of(subject, config, &plan)?;
        out::note(&format!(
            "{} routes: {} layer passes over at most {} rows, {} without sharing",
            format::count(work.routes.len()),
            format::count(work.layer_passes),
            format::count(plan.probe_rows),
            format::count(work.without_sharing)
        ));
        let report = routes_subject(subject, config, &plan, &|_| true)?;
        if matches.get_flag("json") {
            return Ok(out::with_run(opened.dir.path(), opened.weights, &report)?);
        }
        eval::title(opened)?;
        print(&report).map_err(Failure::from)
    })
}

fn print(report: &RoutesReport) -> Result<()> {
    let possible = report.possible.map_or_else(|| "more than can be counted".to_owned(), format::count);
    let kind = if report.squared_error { "squared error" } else { "loss in nats" };
    out::line(&match report.all {
        true => format!("all {possible} routes, {kind} on {} rows", format::count(report.probe_rows)),
        false => format!(
            "{} random routes of {possible}, {kind} on {} rows",
            format::count(report.routes.len()),
            format::count(report.probe_rows)
        ),
    })?;
    let fixed = |value: f64| format!("{value:.5}");
    let [low, high] = report.range.map(fixed);
    out::fields(
        22,
        [
            ("mean of the routes", format!("{} (standard deviation {})", fixed(report.mean), fixed(report.sd))),
            ("range", format!("{low} to {high}")),
            (
                "merged",
                format!(
                    "{}; {} of {} routes are below",
                    fixed(report.merged),
                    report.below_merged,
                    report.routes.len()
                ),
            ),
            ("ensemble of the routes", fixed(report.ensemble)),
            (
                "sum of the effects",
                report.explained.map_or_else(
                    || "not known: too few routes, or nothing varies".to_owned(),
                    |share| format!("explains {} of the variance", format::percent(share)),
                ),
            ),
        ],
    )?;
    effects(report)?;
    let mut order: Vec<usize> = (0..report.routes.len()).collect();
    order.sort_by(|&a, &b| report.routes[a].loss.total_cmp(&report.routes[b].loss));
    let mut rows = vec![out::row("\nroute, as experts of the modules above", ["loss", "sum of the effects"])];
    let best = order.iter().take(SHOWN);
    let worst = order.iter().skip(SHOWN.max(order.len().saturating_sub(SHOWN)));
    rows.extend(best.chain(worst).map(|&at| {
        let route = &report.routes[at];
        let experts: Vec<String> = route.experts.iter().map(u8::to_string).collect();
        out::row(experts.join(" "), [fixed(route.loss), out::or_dash(route.predicted, fixed)])
    }));
    out::table(&rows)
}

fn effects(report: &RoutesReport) -> Result<()> {
    let most = report.factors.iter().map(|factor| factor.effects.len()).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    out::line("\neffect of each expert in thousandths, against the mean of all routes")?;
    let header = (0..most).map(|expert| format!("expert {expert}"));
    let mut rows = vec![out::row("module", header.chain(["share of the variance".to_owned()]))];
    rows.extend(report.factors.iter().map(|factor| {
        let effects = (0..most).map(|expert| {
            factor.effects.get(expert).map_or_else(String::new, |effect| format!("{:+.2}", effect * MILLI))
        });
        let share = out::or_dash(factor.share, format::percent);
        out::row(format!("{}.{}", factor.module, choice_name(factor.side)), effects.chain([share]))
    }));
    out::table(&rows)
}
