//! Whether each way knows how sure it may be: reliability, and risk at each coverage.

use crate::app::theme::Theme;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions, ValueRange};
use crate::app::widgets::{cards, export_menu};
use crate::figure::Table;
use crate::format;
use crate::protocol::{Calibration, RowsReport};
use egui::Ui;

/// A way's name and its calibration.
type Row<'a> = (&'a str, &'a Calibration);

pub fn ui(theme: &Theme, report: &RowsReport, ui: &mut Ui) {
    let ways: Vec<Row<'_>> =
        report.ways.iter().filter_map(|way| Some((way.name.as_str(), way.calibration.as_ref()?))).collect();
    let bins = ways.first().map_or(0, |(_, calibration)| calibration.bins.len());
    type Number<'a, 'b> = Column<'a, Row<'b>>;
    let ece = format!("ECE, {bins} bins");
    let columns = vec![
        Number::new("Way", "", |ui, (name, _)| ui.label(*name)),
        Number::number(&ece, "Mean gap between confidence and right answers, 0 to 1; less is better", |(_, c)| {
            format::metric(c.ece)
        }),
        Number::number("Brier", "Mean squared error of all probabilities, 0 to 2; less is better", |(_, c)| {
            format::metric(c.brier)
        }),
        Number::number("Too sure by", "Mean confidence less accuracy; below 0: not sure enough", |(_, c)| {
            format!("{:+.4}", c.overconfidence)
        }),
        Number::number("AURC", "Mean share of wrong answers over all coverages; less is better", |(_, c)| {
            format::metric(c.aurc)
        }),
    ];
    listing::grid(ui, "calibration", columns, &ways);
    export_menu::table(ui, "reliability table", || reliability_table(&ways));
    let height = 190.0;
    let reliability = |ui: &mut Ui| {
        cards::caption(ui, theme, "Right answers by confidence; on the dashed line both are the same");
        let options = PlotOptions {
            title: "Share of right answers by confidence",
            height,
            legend: true,
            limits: Some([0.0, 1.0]),
            x: Some("confidence"),
            ..PlotOptions::default()
        };
        metric_plot::ui(ui, theme, "Reliability", &reliability_curves(theme, &ways), &[], &options);
    };
    let risk = |ui: &mut Ui| {
        cards::caption(ui, theme, "Wrong answers among the rows it is surest of");
        let options = PlotOptions {
            title: "Share of wrong answers by coverage",
            height,
            legend: true,
            limits: Some([0.0, 1.0]),
            x: Some("coverage"),
            ..PlotOptions::default()
        };
        let curve = |(i, (name, calibration)): (usize, &Row<'_>)| {
            let mut curve = Curve::line(*name, theme.series(i), calibration.risk_coverage.clone());
            curve.dashed = i > 0;
            curve
        };
        let curves: Vec<Curve> = ways.iter().enumerate().map(curve).collect();
        metric_plot::ui(ui, theme, "Risk and coverage", &curves, &[], &options);
    };
    if ui.available_width() > 820.0 {
        ui.columns(2, |columns| {
            reliability(&mut columns[0]);
            risk(&mut columns[1]);
        });
    } else {
        reliability(ui);
        ui.add_space(6.0);
        risk(ui);
    }
    let words = "Bands: 95 % intervals of the share in each bin (Wilson); bins without rows are left out.";
    cards::caption(ui, theme, words);
}

fn reliability_curves(theme: &Theme, ways: &[Row<'_>]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for (i, (name, calibration)) in ways.iter().enumerate() {
        let bins = || calibration.bins.iter().filter(|bin| bin.rows > 0);
        let line = bins().map(|bin| [bin.confidence, bin.accuracy]).collect();
        let mut curve = Curve::line(*name, theme.series(i), line);
        curve.ranges =
            bins().map(|bin| ValueRange { x: bin.confidence, min: bin.interval[0], max: bin.interval[1] }).collect();
        (curve.dots, curve.dashed) = (true, i > 0);
        curves.push(curve);
    }
    let mut equal = Curve::line("as sure as right", theme.muted, vec![[0.0, 0.0], [1.0, 1.0]]);
    (equal.dashed, equal.listed) = (true, false);
    curves.push(equal);
    curves
}

fn reliability_table(ways: &[Row<'_>]) -> Table {
    let mut table =
        Table::new(["way", "confidence_from", "confidence_to", "rows", "confidence", "accuracy", "low", "high"]);
    for (name, calibration) in ways {
        for bin in &calibration.bins {
            let [low, high] = bin.interval;
            table.push([
                (*name).into(),
                bin.from.into(),
                bin.to.into(),
                bin.rows.into(),
                bin.confidence.into(),
                bin.accuracy.into(),
                low.into(),
                high.into(),
            ]);
        }
    }
    table
}
