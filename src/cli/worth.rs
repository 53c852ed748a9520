//! `adamix inspect --worth`: what each expert adds to the merged model, and which two are nearly one.

use super::{Done, Failure, args, eval, out};
use crate::config::choice_name;
use crate::error::Result;
use crate::format;
use crate::protocol::{Estimate, ExpertEffects, WorthPlan, WorthReport};
use crate::workflow::studies::worth::worth_subject;
use clap::ArgMatches;

/// Differences of a loss are shown in thousandths of a nat.
const MILLI: f64 = 1e3;

pub(super) fn run(matches: &ArgMatches) -> Done {
    let plan = WorthPlan { probe_rows: args::given(matches, "probe-rows").unwrap_or(WorthPlan::PROBE_ROWS) };
    let json = matches.get_flag("json");
    eval::with_opened(matches, |opened| {
        let config = &opened.config;
        out::note(&format!(
            "merges of {} experts: {} passes over at most {} rows",
            config.mixture.num_experts,
            format::count(WorthPlan::forwards(config.mixture.num_experts)),
            format::count(plan.probe_rows)
        ));
        let report = worth_subject(&opened.subject, config, opened.weights.step, &plan, &|_| true)?;
        let shown = if json { out::with_run(opened.dir.path(), opened.weights, &report) } else { print(&report) };
        shown.map_err(Failure::from)
    })
}

fn print(report: &WorthReport) -> Result<()> {
    out::line(&format!(
        "loss of all {} experts merged {:.4}, without any module {:.4}; step {}, {} rows; in thousandths, ±: one standard error",
        report.experts,
        report.loss_all,
        report.loss_none,
        format::count(report.step),
        format::count(report.probe_rows)
    ))?;
    let experts = (0..report.experts).map(|expert| format!("expert {expert}"));
    let mut rows = vec![out::row("", experts.chain(["chance", "p"].map(str::to_owned)))];
    if let Some(shapley) = &report.shapley {
        rows.push(effects("takes from the loss (Shapley)", shapley));
    }
    rows.push(effects("left out, adds to the loss", &report.leave_one_out));
    out::table(&rows)?;
    out::line("chance: where equal experts lie, all of them, in 95 of 100 cases")?;
    let mut rows = vec![out::row("pair", ["cosine", "drop the first", "drop the second", "both as one"])];
    rows.extend(report.pairs.iter().map(|pair| {
        let [a, b] = pair.experts;
        let costs = [pair.drop_first, pair.drop_second, pair.as_one].map(milli);
        out::row(format!("{a} and {b}"), std::iter::once(format!("{:.3}", pair.cosine)).chain(costs))
    }));
    out::line("\ncosine of the weights, mean over the banks; what doing without costs in loss")?;
    out::table(&rows)?;
    if let Some((pair, beyond)) = report.twins() {
        let [a, b] = pair.experts;
        let verdict = if beyond { "closer than chance" } else { "no closer than chance would make one of them" };
        out::line(&format!(
            "closest: {a} and {b}, {verdict} (95 of 100 shuffles stay below {:.3}, p {:.2})",
            report.twin_limit, report.twin_p
        ))?;
    }
    let mut rows = vec![out::row(
        "cosine by bank",
        report
            .pairs
            .iter()
            .map(|pair| format!("{}-{}", pair.experts[0], pair.experts[1]))
            .chain(["strangers".to_owned()]),
    )];
    rows.extend(report.banks.iter().enumerate().map(|(i, bank)| {
        let cosines =
            report.pairs.iter().map(|pair| pair.by_bank.get(i).map_or_else(String::new, |c| format!("{c:.3}")));
        let name = format!("{}.{}", bank.module, choice_name(bank.side));
        out::row(name, cosines.chain([format!("0 ± {:.3}", bank.chance)]))
    }));
    out::line("")?;
    out::table(&rows)
}

fn milli(cost: Estimate) -> String {
    format!("{:+.2} ± {:.2}", cost.value * MILLI, cost.se * MILLI)
}

fn effects(name: &str, effects: &ExpertEffects) -> Vec<String> {
    let values = effects.values.iter().zip(&effects.standard_errors);
    let mut cells: Vec<String> = values.map(|(&value, &se)| milli(Estimate { value, se })).collect();
    let [low, high] = effects.null_band.map(|end| format!("{:+.2}", end * MILLI));
    cells.extend([format!("{low} to {high}"), format!("{:.2}", effects.p)]);
    out::row(name, cells)
}
