//! `adamix eval RUN --rows`: two ways of running a model, row by row.

use super::results::{fixed_width, score_cells, score_columns};
use super::{Done, args, opened, out, runs, usage};
use crate::analysis::paired::RESAMPLES;
use crate::error::{Error, Result};
use crate::format;
use crate::protocol::studies::{RowSlice, SliceBy};
use crate::protocol::{RowsPlan, RowsReport, Way};
use crate::workflow::studies::rows::rows_subject;
use clap::{Arg, ArgMatches};
use std::path::PathBuf;

/// Rows that are shown in the terminal unless something else is said.
const WORST: usize = 10;

/// The flags, for `eval`.
pub fn arguments() -> Vec<Arg> {
    let way = |name: &'static str| {
        args::option(name, "WAY").value_parser(|text: &str| text.parse::<Way>().map_err(|err| err.to_string()))
    };
    vec![
        way("rows").num_args(0..=1).require_equals(true).default_missing_value("merged").help(
            "Two ways on the same rows, row by row: which rows they answer differently, confusion, calibration, slices, paired \
             intervals. A way is merged, expert:J, route:N (of the random routes, from 1), ensemble:R, base, checkpoint:STEP \
             (best, last) or run:RUN (another run on the same rows) [default: merged]",
        ),
        way("against").requires("rows").help(
            "The way that is compared with it [default: the ensemble of the run's random routes; without experts base]",
        ),
        args::whole("max-rows", "N", 2..=1 << 40)
            .requires("rows")
            .help("Measure N evaluation rows, evenly spread [default: all]"),
        args::whole("worst", "N", 0..=1 << 32)
            .requires("rows")
            .help("Show the N rows whose losses differ most [default: 10]"),
        args::path("csv", "FILE").requires("rows").help("Write every row with both answers as CSV"),
    ]
}

/// Whether these flags ask for it.
pub fn wanted(matches: &ArgMatches) -> bool {
    matches.contains_id("rows")
}

pub fn run(matches: &ArgMatches) -> Done {
    for other in ["generate", "random-routes"] {
        if matches.contains_id(other) {
            let text = format!("--{other} and --rows are two different measurements; give one of them");
            return usage(Err(Error::config(text)));
        }
    }
    let named = |name: &str| matches.get_one::<Way>(name).cloned();
    let located = |way: Way| -> Result<Way> {
        Ok(match way {
            Way::Run(dir) => Way::Run(runs::open_named(&dir, matches)?.path().to_owned()),
            way => way,
        })
    };
    let first = located(named("rows").unwrap_or_default())?;
    let second = named("against").map(located).transpose()?;
    opened::with_opened(matches, |opened| {
        let (subject, config) = (&opened.subject, &opened.config);
        let usual = || match subject.model().mixture() {
            Some(_) => Way::Ensemble(config.eval.random_routes.max(1)),
            None => Way::Base,
        };
        let plan = RowsPlan {
            first: first.clone(),
            second: second.unwrap_or_else(usual),
            rows: args::given(matches, "max-rows").unwrap_or(0),
            dev_file: matches.get_one::<PathBuf>("dev-file").cloned(),
        };
        let all = subject.dev().rows;
        let rows = if plan.rows == 0 { all } else { plan.rows.min(all) };
        out::note(&format!(
            "{} against {}: {} passes over {}, {} resamples",
            plan.first,
            plan.second,
            plan.forwards(),
            format::counted(rows, "row"),
            format::count(RESAMPLES)
        ));
        let report = rows_subject(subject, config, &opened.dir, &plan, &|_| true)?;
        if let Some(file) = matches.get_one::<PathBuf>("csv") {
            let csv = report.table(&report.entries).csv();
            std::fs::write(file, csv).map_err(|err| Error::io("writing the rows", file, err))?;
            out::note(&format!("{} in {}", format::counted(report.entries.len(), "row"), file.display()));
        }
        if matches.get_flag("json") {
            out::with_run(opened.dir.path(), opened.weights, &report)?;
        } else {
            opened::title(opened)?;
            print(&report, args::given(matches, "worst").unwrap_or(WORST))?;
        }
        Ok(())
    })
}

fn print(report: &RowsReport, worst: usize) -> Result<()> {
    ways(report)?;
    out::line("in brackets: 95 % intervals on the same rows (paired bootstrap)")?;
    out::line(&report.verdict())?;
    confusion(report)?;
    calibration(report)?;
    residuals(report)?;
    slices(report)?;
    rows(report, worst)
}

fn ways(report: &RowsReport) -> Result<()> {
    let (names, titles) = score_columns(&report.ways[0].scores, &report.metric);
    let mut rows = vec![out::row(format!("{} rows", format::count(report.rows)), titles)];
    rows[0].extend(["rows ahead", "parameters", "passes", "multiply-adds", "time"].map(str::to_owned));
    let first = report.ways[0].seconds;
    for way in &report.ways {
        let mut cells = out::row(way.name.to_lowercase(), score_cells(&way.scores, &names));
        cells.push(format::count(way.ahead));
        cells.extend(["-", "-", "-"].map(str::to_owned));
        if let Some(cost) = way.cost {
            let short = |n: usize| format::short_count(n as f64);
            cells.truncate(cells.len() - 3);
            cells.extend([short(cost.parameters), cost.forwards.to_string(), short(cost.multiply_adds)]);
        }
        let ratio = if first > 0.0 { format!(" (x {:.2})", way.seconds / first) } else { String::new() };
        cells.push(format!("{}{ratio}", format::duration(way.seconds)));
        rows.push(cells);
    }
    out::table(&rows)
}

fn confusion(report: &RowsReport) -> Result<()> {
    for way in report.ways.iter().filter(|way| !way.confusion.is_empty()) {
        let label = |class: usize| out::one_line(&report.label(class), 16);
        let mut rows = vec![out::row(
            format!("{}: right class, answered", way.name.to_lowercase()),
            (0..way.confusion.len()).map(label),
        )];
        rows.extend(
            way.confusion
                .iter()
                .enumerate()
                .map(|(class, counts)| out::row(label(class), counts.iter().map(|count| format::count(*count)))),
        );
        out::line("")?;
        out::table(&rows)?;
    }
    Ok(())
}

fn calibration(report: &RowsReport) -> Result<()> {
    let found: Vec<_> =
        report.ways.iter().filter_map(|way| Some((way.name.to_lowercase(), way.calibration.as_ref()?))).collect();
    let Some((_, first)) = found.first() else { return Ok(()) };
    let title = format!("calibration, {} bins", first.bins.len());
    let mut rows = vec![out::row(title, ["ECE", "Brier", "too sure by", "AURC"])];
    rows.extend(found.iter().map(|(name, c)| {
        let sure = format!("{:+.4}", c.overconfidence);
        out::row(name.clone(), [fixed_width(c.ece), fixed_width(c.brier), sure, fixed_width(c.aurc)])
    }));
    out::line("")?;
    out::table(&rows)?;
    let mut rows = vec![out::row("confidence", ["rows", "confident", "right", "rows", "confident", "right"])];
    for bin in 0..first.bins.len() {
        let mut cells = vec![format!("{:.1} to {:.1}", first.bins[bin].from, first.bins[bin].to)];
        for (_, calibration) in &found {
            let bin = calibration.bins[bin];
            let share = |value: f64| if bin.rows > 0 { format!("{value:.3}") } else { "-".to_owned() };
            cells.extend([format::count(bin.rows), share(bin.confidence), share(bin.accuracy)]);
        }
        rows.push(cells);
    }
    out::table(&rows)
}

fn residuals(report: &RowsReport) -> Result<()> {
    let mut rows = vec![out::row("residuals", ["mean", "sd", "mean size", "5 %", "25 %", "50 %", "75 %", "95 %"])];
    for way in &report.ways {
        let Some(found) = &way.residuals else { return Ok(()) };
        let numbers = [found.mean, found.sd, found.mean_abs].into_iter().chain(found.quantiles);
        rows.push(out::row(way.name.to_lowercase(), numbers.map(fixed_width)));
    }
    out::line("")?;
    out::table(&rows)
}

fn slices(report: &RowsReport) -> Result<()> {
    let accuracy = report.slices.iter().any(|slice| slice.accuracies.is_some());
    let [first, second] = [0, 1].map(|way| report.ways[way].name.to_lowercase());
    let mut header = vec!["slice".to_owned(), "rows".to_owned(), first, second];
    header.extend(accuracy.then(|| "accuracy apart".to_owned()));
    header.push("loss apart".to_owned());
    let row = |slice: &RowSlice| {
        let by = match slice.by {
            SliceBy::Label => "class ",
            SliceBy::Value => "value ",
            SliceBy::Length => "",
        };
        let mut cells = vec![format!("{by}{}", out::one_line(&slice.name, 24)), format::count(slice.rows)];
        for way in 0..2 {
            cells.push(match slice.accuracies {
                Some(shares) => {
                    let [share, low, high] = shares[way];
                    format!("{share:.3} ({low:.3} to {high:.3})")
                }
                None => fixed_width(slice.losses[way]),
            });
        }
        let difference = slice.difference;
        let apart = difference.and_then(|difference| difference.accuracy);
        cells.extend(accuracy.then(|| out::or_dash(apart, |apart| apart.describe())));
        cells.push(out::or_dash(difference, |difference| difference.loss.describe()));
        cells
    };
    out::line("")?;
    out::table(&std::iter::once(header).chain(report.slices.iter().map(row)).collect::<Vec<_>>())?;
    out::line("whether a slice shows a difference is adjusted for all of them (Holm)")
}

fn rows(report: &RowsReport, worst: usize) -> Result<()> {
    if worst == 0 || report.entries.is_empty() {
        return Ok(());
    }
    let [first, second] = [0, 1].map(|way| report.ways[way].name.to_lowercase());
    out::line("")?;
    let mut rows = vec![out::row("row", ["right".to_owned(), first, second, "loss apart".to_owned()])];
    rows.extend(report.entries.iter().take(worst).map(|entry| {
        let answers = [0, 1].map(|way| out::one_line(&report.answer(entry, way), 24));
        let [a, b] = answers;
        out::row(
            (entry.row + 1).to_string(),
            [out::one_line(&report.truth(entry), 16), a, b, format!("{:+.4}", entry.difference())],
        )
    }));
    out::line(&format!("the {} rows whose losses differ most (--csv FILE has all)", rows.len() - 1))?;
    out::table(&rows)?;
    for entry in report.entries.iter().take(worst) {
        let pair = entry.pair.as_deref().map_or_else(String::new, |pair| format!(" -> {}", out::one_line(pair, 100)));
        out::line(&format!("{:>5}  {}{pair}", entry.row + 1, out::one_line(&entry.text, 140)))?;
    }
    Ok(())
}
