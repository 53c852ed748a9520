//! `adamix try --fan`: where routes part on one example.

use super::out;
use crate::error::Result;
use crate::format;
use crate::protocol::FanReport;

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
