//! `adamix try --fan` and `--pin`: where routes part on one example, and one module on each of its experts.

use super::out;
use crate::error::Result;
use crate::format;
use crate::protocol::{FanReport, GridReport, likeliest};

/// As a table: a row for each route, the answer after each layer.
pub(super) fn print(report: &FanReport) -> Result<()> {
    for text in [Some(&report.text), report.pair.as_ref()].into_iter().flatten() {
        out::line(&out::one_line(text, 200))?;
    }
    out::line(&format!(
        "\n{} with the lowest layers on the route and all others merged; {} layer passes in {}",
        report.scale.words(),
        format::count(report.layer_passes),
        format::duration(report.seconds)
    ))?;
    let titles = (0..report.layers).map(|layer| format!("+ layer {layer}"));
    let mut rows = vec![out::row("route", std::iter::once("merged".to_owned()).chain(titles))];
    rows.extend(report.lines.iter().enumerate().map(|(number, line)| {
        out::row(format!("random route {number}"), line.at.iter().map(|value| format!("{value:.4}")))
    }));
    let moves = report.layer_moves.iter().map(|moved| format!("{moved:.4}"));
    rows.push(out::row("moved by the layer (root mean square)", std::iter::once(String::new()).chain(moves)));
    out::table(&rows)
}

/// As a table: a row for each expert below, a column for each above.
pub(super) fn print_grid(report: &GridReport) -> Result<()> {
    for text in [Some(&report.text), report.pair.as_ref()].into_iter().flatten() {
        out::line(&out::one_line(text, 200))?;
    }
    let [down, up] = report.experts;
    let merged = report.merged.get(if report.labels.is_empty() { 0 } else { likeliest(&report.merged) });
    out::line(&format!(
        "\n{} with {} on each pair of its experts, all others on random route {}; merged {}",
        report.words(),
        report.module,
        report.plan.route,
        out::or_dash(merged, |value| format!("{value:.4}"))
    ))?;
    let titles = (0..up).map(|j| if up == 1 { "up (shared)".to_owned() } else { format!("up {j}") });
    let mut rows = vec![out::row("", titles)];
    rows.extend((0..down).map(|i| {
        let cells = (0..up).map(|j| {
            let drawn = report.drawn.map(usize::from) == [i, j];
            let mark = if drawn { "* " } else { "" };
            format!("{mark}{}", out::or_dash(report.shown(i, j), |value| format!("{value:.4}")))
        });
        out::row(if down == 1 { "down (shared)".to_owned() } else { format!("down {i}") }, cells)
    }));
    out::table(&rows)?;
    out::line("*: what the route draws itself")
}
