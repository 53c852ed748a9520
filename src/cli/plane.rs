//! `adamix inspect --plane`: the loss on a plane through three points of the mixture, and the barriers between them.

use super::{Done, Failure, args, eval, out, usage};
use crate::error::{Error, Result};
use crate::format;
use crate::protocol::{PlanePlan, PlanePoint, PlaneReport};
use crate::workflow::studies::plane::plane_subject;
use clap::ArgMatches;

pub(super) fn run(matches: &ArgMatches) -> Done {
    let points = usage(points(matches.get_one::<String>("plane").map_or("", String::as_str)))?;
    let json = matches.get_flag("json");
    eval::with_opened(matches, |opened| {
        let (subject, config) = (&opened.subject, &opened.config);
        let usual = PlanePlan::of(config.mixture.num_experts);
        let plan = PlanePlan {
            points: points.unwrap_or(usual.points),
            grid: args::given(matches, "grid").unwrap_or(usual.grid),
            probe_rows: args::given(matches, "probe-rows").unwrap_or(usual.probe_rows),
        };
        out::note(&format!(
            "{} x {} places, points and lines: {} passes over at most {} rows",
            plan.grid,
            plan.grid,
            format::count(plan.forwards(config.mixture.num_experts)),
            format::count(plan.probe_rows)
        ));
        let report = plane_subject(subject, config, (&opened.dir, opened.weights.step), &plan, &|_| true)?;
        let shown = if json { out::with_run(opened.dir.path(), opened.weights, &report) } else { print(&report) };
        shown.map_err(Failure::from)
    })
}

/// Three points; nothing where none are given.
fn points(text: &str) -> Result<Option<[PlanePoint; 3]>> {
    if text.is_empty() {
        return Ok(None);
    }
    let points: Vec<PlanePoint> =
        text.split(',').map(str::parse).collect::<std::result::Result<_, _>>().map_err(Error::config)?;
    let count = points.len();
    let three = points.try_into().map_err(|_| {
        Error::config(format!("a plane goes through three points, not {count}; give for example --plane=0,1,merged"))
    })?;
    Ok(Some(three))
}

/// A point in a sentence.
fn name(point: PlanePoint) -> String {
    match point {
        PlanePoint::Expert(expert) => format!("expert {expert}"),
        other => other.to_string(),
    }
}

fn print(report: &PlaneReport) -> Result<()> {
    out::line(&format!(
        "the plane through {}, weights of step {}; distances of weights, loss on {} rows",
        report.points.map(name).join(", "),
        format::count(report.step),
        format::count(report.probe_rows)
    ))?;
    let mut rows = vec![out::row("point", ["x", "y", "off the plane", "loss", "standard error", "accuracy"])];
    rows.extend(report.marks.iter().map(|mark| {
        let place = [mark.place.x, mark.place.y, mark.place.off].map(|value| format!("{value:.3}"));
        let rest = [
            format!("{:.4}", mark.loss),
            format!("{:.4}", mark.standard_error),
            out::or_dash(mark.accuracy, |accuracy| format!("{accuracy:.4}")),
        ];
        out::row(name(mark.point), place.into_iter().chain(rest))
    }));
    out::table(&rows)?;
    out::line("\nstraight lines: the highest place above the line that joins the losses of both ends")?;
    let mut rows = vec![out::row("from", ["to", "barrier", "standard error", "at"])];
    rows.extend(report.lines.iter().map(|line| {
        let barrier = line.barrier;
        let cells = [
            name(line.to),
            format!("{:.4}", barrier.height),
            format!("{:.4}", barrier.standard_error),
            if barrier.height > 0.0 { format::percent(barrier.at) } else { "-".to_owned() },
        ];
        out::row(name(line.from), cells)
    }));
    out::table(&rows)?;
    out::line(&format!(
        "\nloss; x from {:.3} to {:.3} to the right, y from {:.3} at the bottom to {:.3}",
        report.x[0], report.x[1], report.y[0], report.y[1]
    ))?;
    for row in report.losses.chunks(report.grid.max(1)).rev() {
        out::line(&row.iter().map(|loss| format!("{loss:.3}")).collect::<Vec<_>>().join(" "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_points_are_read() {
        let [a, b] = [PlanePoint::Expert(2), PlanePoint::Start];
        assert_eq!(points("2, merged,start").unwrap(), Some([a, PlanePoint::Merged, b]));
        assert_eq!(points("").unwrap(), None);
        for (text, words) in [("0,1", "not 2"), ("0,1,2,3", "not 4"), ("0,1,base", "no point")] {
            assert!(points(text).unwrap_err().to_string().contains(words), "{text}");
        }
    }
}
