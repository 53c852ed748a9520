//! `adamix inspect --spread`: what random routes and the merge do as the experts move from their mean.

use super::{Done, Failure, args, eval, out};
use crate::error::Result;
use crate::format;
use crate::protocol::{SpreadPlan, SpreadReport};
use crate::workflow::studies::spread::spread_subject;
use clap::{Arg, ArgMatches};

/// Points of the curves, and routes at each of them.
const DEFAULT: (usize, usize) = (9, 8);

/// The flags, for `inspect`.
pub(super) fn arguments() -> [Arg; 2] {
    [
        args::whole("spread", "POINTS", 2..=101)
            .group("study")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("9")
            .help(
                "Move the experts from their mean by factors from 0 to 2, so many of them, and measure random routes and their \
                 ensemble at each; the merged model stays the same",
            ),
        args::whole("random-routes", "R", 1..=1000).requires("spread").help("Whole random routes of the spread [default: 8]"),
    ]
}

pub(super) fn run(matches: &ArgMatches) -> Done {
    let points = args::given(matches, "spread").unwrap_or(DEFAULT.0);
    let plan = SpreadPlan::of(points, args::given(matches, "random-routes").unwrap_or(DEFAULT.1));
    eval::with_opened(matches, |opened| {
        out::note(&format!("{} passes over the evaluation rows", plan.forwards()));
        let report = spread_subject(&opened.subject, &opened.config, &plan, &|_| true)?;
        if matches.get_flag("json") {
            return out::with_run(opened.dir.path(), opened.weights, &report).map_err(Failure::from);
        }
        eval::title(opened)?;
        print(&report).map_err(Failure::from)
    })
}

fn print(report: &SpreadReport) -> Result<()> {
    let header = ["routes", "ensemble", "J", "G", "standard error"];
    let mut rows = vec![out::row("alpha", header)];
    for point in &report.points {
        let losses = [point.routes, point.ensemble].map(|loss| format!("{loss:.4}"));
        let gaps = [point.jensen, point.merging].map(|gap| format!("{gap:+.4}"));
        let mut row = out::row(format!("{:.2}", point.alpha), losses.into_iter().chain(gaps));
        row.push(format!("{:.4}", point.routes_standard_error));
        rows.push(row);
    }
    out::table(&rows)?;
    out::line(&format!(
        "\nmerged: loss {:.4} at every alpha ({} rows). J = mean loss of {} routes - loss of the mean of their probabilities; \
         G = mean loss of the routes - loss of the merged model",
        report.merged,
        format::count(report.rows),
        report.routes
    ))
}
