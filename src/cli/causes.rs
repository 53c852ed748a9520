//! `adamix inspect --causes`: what the random draw causes.

use super::{Done, Failure, args, eval, out, runs};
use crate::analysis::causes::disagreement::AtDistance;
use crate::artifact::checkpoint_choice;
use crate::config::RunConfig;
use crate::error::Result;
use crate::format;
use crate::protocol::{CausesPlan, CausesReport, LayerPins};
use crate::workflow::studies::causes::{causes_subject, forwards, of_files};
use clap::ArgMatches;

/// Differences of a loss are shown in thousandths of a nat.
const MILLI: f64 = 1e3;

pub(super) fn run(matches: &ArgMatches) -> Done {
    let plan = CausesPlan {
        after: args::given(matches, "after").map(|step| step as u64),
        probe_rows: args::given(matches, "probe-rows").unwrap_or(CausesPlan::PROBE_ROWS),
    };
    let json = matches.get_flag("json");
    if plan.probe_rows == 0 {
        let dir = runs::open(matches)?;
        let weights = checkpoint_choice::resolve(&dir, runs::checkpoint(matches))?;
        let report = of_files(&dir, weights.step, &plan)?;
        let shown = if json { out::with_run(dir.path(), weights, &report) } else { print(&report, dir.config()) };
        return shown.map_err(Failure::from);
    }
    eval::with_opened(matches, |opened| {
        let (subject, config) = (&opened.subject, &opened.config);
        let layers = subject.model().layer_modules().len();
        out::note(&format!(
            "{} layers on {} experts each: {} passes over at most {} rows",
            layers,
            config.mixture.num_experts,
            forwards(layers, config.mixture.num_experts),
            format::count(plan.probe_rows)
        ));
        let report = causes_subject(subject, config, (&opened.dir, opened.weights.step), &plan, &|_| true)?;
        let shown =
            if json { out::with_run(opened.dir.path(), opened.weights, &report) } else { print(&report, config) };
        shown.map_err(Failure::from)
    })
}

fn print(report: &CausesReport, config: &RunConfig) -> Result<()> {
    disagreement(report)?;
    layers(report, config)?;
    if report.pin_effects.is_empty() {
        return Ok(());
    }
    pins(&report.pin_effects, report.probe_rows)
}

fn disagreement(report: &CausesReport) -> Result<()> {
    let (Some(slope), Some(slope_z), Some(intercept), Some(intercept_z)) =
        (report.kl_slope, report.kl_slope_z, report.kl_intercept, report.kl_intercept_z)
    else {
        return out::line(
            "the disagreement of two passes: nothing to see; it needs two passes whose draws differ in another number of layers from step to step",
        );
    };
    out::line(&format!(
        "the disagreement of the two passes, steps {} to {} ({} steps)",
        report.after + 1,
        report.until,
        format::count(report.steps)
    ))?;
    out::line(&format!("    {intercept:.5} where no layer differs (z {intercept_z:.1}): dropout"))?;
    out::line(&format!("  + {slope:.5} for each layer that differs (z {slope_z:.1}): routing"))?;
    if report.kl_at.is_empty() {
        return Ok(());
    }
    let se = |at: &AtDistance| out::or_dash(at.se, |se| format!("{se:.5}"));
    let mut rows = vec![out::row("layers that differ", ["steps", "mean", "standard error", "line"])];
    rows.extend(report.kl_at.iter().map(|at| {
        let line = intercept + slope * at.layers as f64;
        let cells = [format::count(at.steps), format!("{:.5}", at.mean), se(at), format!("{line:.5}")];
        out::row(at.layers.to_string(), cells)
    }));
    out::table(&rows)
}

fn layers(report: &CausesReport, config: &RunConfig) -> Result<()> {
    let experts = config.mixture.num_experts;
    out::line(&format!(
        "\nlayer by layer; consensus of the experts at step {} (1: they are one, {:.2}: strangers)",
        report.step,
        1.0 / (experts as f64).sqrt()
    ))?;
    let count = report.kl_slopes.len().max(report.consensus.len());
    let mut rows = vec![out::row("layer", ["adds to the disagreement", "z", "consensus"])];
    rows.extend((0..count).map(|layer| {
        let of = |list: &[Option<f64>]| list.get(layer).copied().flatten();
        let cells = [
            out::or_dash(of(&report.kl_slopes), |slope| format!("{slope:.5}")),
            out::or_dash(of(&report.kl_slopes_z), |z| format!("{z:.1}")),
            out::or_dash(of(&report.consensus), |q| format!("{q:.3}")),
        ];
        out::row(layer.to_string(), cells)
    }));
    out::table(&rows)
}

fn pins(layers: &[LayerPins], rows: usize) -> Result<()> {
    out::line(&format!(
        "\none layer on one expert, all others merged: change of the loss in thousandths, on {} rows",
        format::count(rows)
    ))?;
    let most = layers.iter().map(|layer| layer.effects.len()).max().unwrap_or(0);
    let header = (0..most).map(|expert| format!("expert {expert}"));
    let header = header.chain(["chance", "p", "without it"].map(str::to_owned));
    let mut table = vec![out::row("layer", header)];
    for layer in layers {
        let mut cells = vec![layer.layer.to_string()];
        cells.extend(layer.effects.iter().map(|effect| format!("{:+.2}", effect * MILLI)));
        let [low, high] = layer.null_band.map(|end| format!("{:+.2}", end * MILLI));
        cells.push(format!("{low} to {high}"));
        cells.push(format!("{:.2}", layer.p));
        let (off, se) = (layer.adapter_off * MILLI, layer.adapter_off_standard_error * MILLI);
        cells.push(format!("{off:+.2} ± {se:.2}"));
        table.push(cells);
    }
    out::table(&table)?;
    out::line("chance: where equal experts lie, all of them, in 95 of 100 cases; ±: one standard error")
}
