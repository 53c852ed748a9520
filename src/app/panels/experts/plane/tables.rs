//! The numbers of a plane: its points, the barriers, the loss along the lines.

use super::name;
use crate::app::theme::Theme;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, export_menu};
use crate::figure::Table;
use crate::format;
use crate::protocol::{PlaneLine, PlaneMark, PlaneReport};
use egui::{RichText, Ui};

pub(super) fn tables_ui(theme: &Theme, report: &PlaneReport, unit: &str, ui: &mut Ui) {
    type Point<'a> = Column<'a, PlaneMark>;
    ui.label(RichText::new("Points").strong());
    let columns = vec![
        Point::new("Point", "", |ui, mark| ui.label(name(mark.point))),
        Point::number("Loss", "Mean over the rows", |mark| format!("{:.4}", mark.loss)),
        Point::number("±", "Standard error of the mean", |mark| format!("{:.4}", mark.standard_error)),
        Point::number("Accuracy", "Share of right answers", |mark| {
            mark.accuracy.map_or_else(|| "-".to_owned(), |share| format!("{share:.4}"))
        }),
        Point::number("x", "Along the first axis", |mark| format!("{:.3}", mark.place.x)),
        Point::number("y", "Along the second axis", |mark| format!("{:.3}", mark.place.y)),
        Point::number("Off", "Distance from the plane", |mark| format!("{:.3}", mark.place.off)),
    ];
    listing::grid(ui, "points of the plane", columns, &report.marks);
    export_menu::table(ui, "points of the plane table", || points_table(report));
    type Line<'a> = Column<'a, PlaneLine>;
    ui.label(RichText::new("Barriers on straight lines").strong());
    let columns = vec![
        Line::new("From", "", |ui, line| ui.label(name(line.from))),
        Line::new("To", "", |ui, line| ui.label(name(line.to))),
        Line::number("Barrier", "Largest loss above the line that joins the losses of both ends", |line| {
            format!("{:.4}", line.barrier.height)
        }),
        Line::number("±", "Standard error over the rows, paired", |line| {
            format!("{:.4}", line.barrier.standard_error)
        }),
        Line::number("At", "Share of the way", |line| match line.barrier.height > 0.0 {
            true => format::percent(line.barrier.at),
            false => "-".to_owned(),
        }),
    ];
    listing::grid(ui, "barriers of the plane", columns, &report.lines);
    export_menu::table(ui, "barriers of the plane table", || lines_table(report));
    let curve = |(i, line): (usize, &PlaneLine)| {
        let places = line.losses.len().saturating_sub(1).max(1) as f64;
        let points = line.losses.iter().enumerate().map(|(k, &loss)| [k as f64 / places, loss]).collect();
        let words = format!("{} to {}", name(line.from), name(line.to));
        Curve { dots: true, ..Curve::line(words, theme.series(i), points) }
    };
    let curves: Vec<Curve> = report.lines.iter().enumerate().map(curve).collect();
    let title = if unit == "squared error" { "Squared error" } else { "Loss on the straight lines" };
    let options =
        PlotOptions { title, height: 170.0, legend: true, x: Some("share of the way"), ..PlotOptions::default() };
    metric_plot::ui(ui, theme, "loss on the straight lines", &curves, &[], &options);
    let words = format!(
        "{} evaluation rows, {} passes, {}; the head stays as it is after step {}.",
        format::count(report.probe_rows),
        format::count(report.forwards),
        format::duration(report.seconds),
        format::count(report.step)
    );
    cards::caption(ui, theme, words);
}

pub(super) fn points_table(report: &PlaneReport) -> Table {
    let mut table = Table::new(["point", "x", "y", "off_plane", "loss", "standard_error", "accuracy"]);
    for mark in &report.marks {
        table.push([
            name(mark.point).into(),
            mark.place.x.into(),
            mark.place.y.into(),
            mark.place.off.into(),
            mark.loss.into(),
            mark.standard_error.into(),
            mark.accuracy.into(),
        ]);
    }
    table
}

pub(super) fn lines_table(report: &PlaneReport) -> Table {
    let places = report.lines.first().map_or(0, |line| line.losses.len());
    let head = ["from", "to", "barrier", "standard_error", "at"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain((0..places).map(|i| format!("loss_{i}_of_{}", places - 1))));
    for line in &report.lines {
        let front = [name(line.from).into(), name(line.to).into(), line.barrier.height.into()];
        let rest = [line.barrier.standard_error.into(), line.barrier.at.into()];
        table.push(front.into_iter().chain(rest).chain(line.losses.iter().map(|&loss| loss.into())));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn the_tables_have_every_point_and_line() {
        let report = report(0.0);
        assert_eq!(points_table(&report).rows.len(), 3);
        assert!(lines_table(&report).csv().starts_with("from,to,barrier,standard_error,at,loss_0_of_2"));
    }
}
