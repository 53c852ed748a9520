//! `adamix inspect --causes`, `--averages`, `--rounding`, `--plane` and `--worth`: what the draw causes, three averages of the
//! experts, what number formats cost, the loss on a plane, and what each expert is worth.

use super::results::{score_cells, score_columns};
use super::{Done, args, causes, eval, out, plane, routes, spread, usage, worth};
use crate::config::RunConfig;
use crate::error::Result;
use crate::format;
use crate::protocol::{
    AveragesReport, ExportTarget, FilesBudget, FormatBudget, MergePlan, PlanePlan, RoundingPlan, RoundingReport,
    RoutesPlan,
};
use crate::workflow::saved_run::Opened;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches};

/// The flags, for `inspect`.
pub fn arguments() -> Vec<Arg> {
    let targets = ExportTarget::all().map(ExportTarget::as_str);
    let [weights, method] = eval::merge_arguments();
    let mut all = vec![
        args::switch("causes").groups(["study", "probing"]).help(
            "Measure what the draw causes: the disagreement of the two passes for each layer that differs, the consensus of the \
             experts, and each layer on each expert and without its modules on some evaluation rows",
        ),
        args::whole("after", "STEP", 0..=1 << 40)
            .requires("causes")
            .help("Count the passes' disagreement after this step [default: a quarter of all]"),
        // 0 stands for the flag without a number.
        args::whole("routes", "N", 0..=RoutesPlan::ALL as u64)
            .groups(["study", "probing"])
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("0")
            .help(
                "Measure the loss along every route of a small mixture (at most 4096), or along N random ones [default of a larger \
                 mixture: 64], on some evaluation rows: spread, merged, ensemble, and how far one number for each expert explains it",
            ),
        args::whole("probe-rows", "N", 0..=1 << 32).requires("probing").help(
            "Evaluation rows that are measured; with --causes 0: only what the files say, without the model [default: 256; \
             of a plane 128]",
        ),
        args::switch("averages").group("study").help(
            "Average the experts' factors (AdaMix), their products and their answers, and measure each on the evaluation rows",
        ),
        args::option("rounding", "TARGET")
            .group("study")
            .num_args(0..=1)
            .require_equals(true)
            .value_delimiter(',')
            .default_missing_value("merged")
            .value_parser(PossibleValuesParser::new(targets.into_iter().chain(["all"])))
            .help(
                "Measure what each number format would do to these exports, before anything is written; hf and gguf are \
                 whole models, all others hold the merged module [default: merged]",
            ),
        args::switch("by-layer")
            .requires("rounding")
            .help("Round each layer alone too, to see which causes the change"),
        args::option("plane", "POINTS")
            .groups(["study", "probing"])
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("")
            .help(
                "Measure the loss on the plane through three points (numbers of experts, merged, start; such as 0,1,merged) and the \
                 barriers on the straight lines between them [default: the first two experts and merged]",
            ),
        args::whole("grid", "N", 3..=PlanePlan::MOST as u64)
            .requires("plane")
            .help("Places along each side of the plane: N x N passes over the probe rows [default: 15]"),
        args::switch("worth").groups(["study", "probing"]).help(
            "Measure what each expert adds to the merged model: Shapley values of up to 8 experts (2^M merges), leave-one-out, and \
             how alike each pair is with the cost of dropping or merging it",
        ),
        weights.requires("rounding"),
        method.requires("rounding"),
        eval::dev_file().requires("study"),
        args::threads().requires("study"),
    ];
    all.extend(spread::arguments());
    all
}

/// Whether these flags ask for a study.
pub fn wanted(matches: &ArgMatches) -> bool {
    let flags = ["causes", "averages", "worth"].iter().any(|flag| matches.get_flag(flag));
    flags || ["rounding", "routes", "plane", "spread"].iter().any(|name| matches.contains_id(name))
}

pub fn run(matches: &ArgMatches) -> Done {
    if matches.get_flag("causes") {
        return causes::run(matches);
    }
    if matches.contains_id("routes") {
        return routes::run(matches);
    }
    if matches.contains_id("plane") {
        return plane::run(matches);
    }
    if matches.get_flag("worth") {
        return worth::run(matches);
    }
    if matches.contains_id("spread") {
        return spread::run(matches);
    }
    let merge = usage(eval::merge_plan(matches))?;
    eval::with_opened(matches, |opened| {
        let json = matches.get_flag("json");
        if matches.get_flag("averages") {
            let report = opened.averages()?;
            if json { out::with_run(opened.dir.path(), opened.weights, &report)? } else { averages(opened, &report)? }
        } else {
            let merge = merge.unwrap_or_else(|| MergePlan::own(&opened.config.mixture));
            let report = opened.rounding(&plan(matches, &opened.config, merge))?;
            if json { out::with_run(opened.dir.path(), opened.weights, &report)? } else { rounding(opened, &report)? }
        }
        Ok(())
    })
}

fn plan(matches: &ArgMatches, config: &RunConfig, merge: MergePlan) -> RoundingPlan {
    let names: Vec<&String> = matches.get_many::<String>("rounding").into_iter().flatten().collect();
    let all = names.iter().any(|name| *name == "all");
    let fits = |target: &ExportTarget| target.refusal(config.data.task, config.mixture.kind).is_none();
    let named = |target: &ExportTarget| names.iter().any(|name| *name == target.as_str());
    let targets = ExportTarget::all().filter(|target| named(target) || all && fits(target)).collect();
    RoundingPlan { targets, merge, causes: matches.get_flag("by-layer") }
}

fn averages(opened: &Opened, report: &AveragesReport) -> Result<()> {
    eval::title(opened)?;
    let Some(first) = report.ways.first() else { return Ok(()) };
    let (names, titles) = score_columns(&first.scores, &report.metric);
    let mut rows = vec![out::row(format!("average of, {} rows", format::count(report.rows)), titles)];
    rows[0].extend(["parameters", "passes", "KL to ensemble", "changed"].map(str::to_owned));
    for way in &report.ways {
        let mut row = out::row(way.average.words(), score_cells(&way.scores, &names));
        row.extend([format::count(way.parameters), way.forwards.to_string()]);
        let from = way.from_outputs;
        row.push(out::or_dash(from.and_then(|from| from.kl), |kl| format!("{kl:.2e}")));
        let changed = from.filter(|from| from.kl.is_some());
        row.push(out::or_dash(changed, |from| format!("{} of {}", from.changed, report.probe_rows)));
        rows.push(row);
    }
    out::table(&rows)?;
    for (way, paired) in report.ways.iter().filter_map(|way| Some((way, way.paired?))) {
        let words = paired.describe(&report.metric, report.higher_is_better);
        out::line(&format!("{} less factors, on the same rows: {words}", way.average.words()))?;
    }
    if let Some(words) = &report.without_deltas {
        return out::line(&format!("\n{words}"));
    }
    out::line(match report.shared {
        true => "\none side is shared: the mean of the factors is exactly the mean of the products\n",
        false if report.tied => {
            "\none draw decided both sides: the M products of equal index (deltas) are what was trained, and the product of the \
             means brings in all other pairs. How far it is off, module by module\n"
        }
        false => {
            "\nboth sides were drawn independently: the product of the means (factors) is exactly the mean over all M x M products, \
             which are what was trained; the M products of equal index (deltas) are an arbitrary part of them. How far this and the \
             other parts of M products are from the mean over all, module by module\n"
        }
    })?;
    let header =
        ["|factors|", "|deltas|", "off", "equal index", "other parts", "crossed", "rank", "rank r loses", "parameters"];
    let mut rows = vec![out::row("module", header)];
    rows.extend(report.sites.iter().map(|module| {
        vec![
            module.name.clone(),
            format!("{:.4}", module.factors_norm),
            format!("{:.4}", module.deltas_norm),
            format::percent(module.off),
            out::or_dash(module.parts.first(), |part| format::percent(*part)),
            out::or_dash(module.other_parts(), |[low, high]| {
                format!("{} to {}", format::percent(low), format::percent(high))
            }),
            format::percent(module.crossed),
            format!("{} -> {}", module.rank, module.deltas_rank),
            format::percent(module.truncated_off),
            format!("{} -> {}", format::count(module.parameters), format::count(module.deltas_parameters)),
        ]
    }));
    out::table(&rows)
}

fn rounding(opened: &Opened, report: &RoundingReport) -> Result<()> {
    eval::title(opened)?;
    let (names, titles) = score_columns(&report.exact, &report.metric);
    for files in &report.files {
        let what = match files.target {
            ExportTarget::Merged => "merged module and head",
            ExportTarget::Hf => "whole model (hf)",
            _ => "whole model (gguf)",
        };
        let mut rows = vec![out::row(format!("{what}, {} rows", format::count(report.rows)), titles.clone())];
        let more = ["size", "weights", "ulps", "logits", "allowed", "flips", "certificate"];
        rows[0].extend(more.map(str::to_owned));
        rows.push(out::row("in memory", score_cells(&report.exact, &names)));
        rows.extend(files.formats.iter().map(|budget| format_row(budget, &names, report.probe_rows)));
        out::line("")?;
        out::table(&rows)?;
        by_layer(files)?;
    }
    Ok(())
}

fn format_row(budget: &FormatBudget, names: &[&str], probe_rows: usize) -> Vec<String> {
    let mut row = vec![budget.dtype.as_str().to_owned()];
    match &budget.scores {
        Some(scores) => row.extend(score_cells(scores, names)),
        None => row.extend(names.iter().map(|_| "-".to_owned())),
    }
    let small = |value: f64| if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") };
    row.extend([
        format::bytes(budget.bytes),
        small(budget.weights.norm),
        format!("{:.2}", budget.weights.ulps),
        small(budget.measured),
        small(budget.allowed),
        format!("{} of {probe_rows}", budget.flipped),
        match (&budget.problem, budget.kept) {
            (Some(problem), _) => problem.clone(),
            (None, true) => "kept".to_owned(),
            (None, false) => "LOST".to_owned(),
        },
    ]);
    row
}

/// Which parts cause the change, a column for each format.
fn by_layer(files: &FilesBudget) -> Result<()> {
    let found: Vec<&FormatBudget> = files.formats.iter().filter(|format| !format.causes.is_empty()).collect();
    let Some(coarsest) = found.last() else { return Ok(()) };
    let formats = found.iter().map(|format| format.dtype.as_str().to_owned());
    let mut rows = vec![out::row("alone, changes a logit by", formats)];
    for cause in &coarsest.causes {
        let of = |format: &&FormatBudget| {
            let same = format.causes.iter().find(|other| other.part == cause.part);
            out::or_dash(same, |same| format!("{:.1e}", same.change))
        };
        rows.push(out::row(cause.part.clone(), found.iter().map(of)));
    }
    let sums = found.iter().map(|format| out::or_dash(format.predicted, |sum| format!("{sum:.1e}")));
    rows.push(out::row("all, at most", sums));
    out::line("")?;
    out::table(&rows)
}
