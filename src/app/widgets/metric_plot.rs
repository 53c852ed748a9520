//! A plot that cannot lie: the raw range is always drawn under the smoothed line, and what was not finite is marked.

use crate::app::format;
use crate::app::theme::Theme;
use egui::{Color32, Stroke, Ui};
use egui_plot::{
    ColorConflictHandling, FilledArea, HPlacement, HoverPosition, Legend, Line, LineStyle, Plot, PlotPoint, PlotPoints,
    Points, VLine,
};

/// Smallest and largest raw value at each x.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    /// Where.
    pub xs: Vec<f64>,
    /// Smallest.
    pub min: Vec<f64>,
    /// Largest.
    pub max: Vec<f64>,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend and when hovered.
    pub name: String,
    /// Its colour.
    pub color: Color32,
    /// The line, `[x, y]`, x ascending.
    pub line: Vec<[f64; 2]>,
    /// The raw range under it.
    pub envelope: Option<Envelope>,
    /// The raw values under it, drawn thin, where there is no range. `[x, y]`
    pub raw: Vec<[f64; 2]>,
    /// Draw a dot at every point (evaluations).
    pub dots: bool,
    /// Draw it dashed.
    pub dashed: bool,
}

impl Curve {
    /// A plain line.
    pub fn line(name: impl Into<String>, color: Color32, line: Vec<[f64; 2]>) -> Self {
        Self { name: name.into(), color, line, envelope: None, raw: Vec::new(), dots: false, dashed: false }
    }
}

/// A vertical line that says what happened.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// What happened.
    pub name: String,
    /// Its colour.
    pub color: Color32,
}

/// How a plot is drawn.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Height in points.
    pub height: f32,
    /// Logarithmic value axis; values at or below 0 are left out.
    pub log: bool,
    /// Show names in a legend.
    pub legend: bool,
    /// Plots with the same name zoom and point together along x.
    pub link: Option<&'static str>,
    /// Name of the x-axis in hover texts.
    pub x_name: &'static str,
}

/// Most marks drawn.
const MARKS: usize = 50;

/// Draws curves and marks.
pub fn ui(ui: &mut Ui, theme: &Theme, name: &'static str, curves: &[Curve], marks: &[Mark], options: &Options) {
    let log = options.log;
    let x_name = if options.x_name.is_empty() { "step" } else { options.x_name };
    let value = move |y: f64| if log { 10f64.powf(y) } else { y };
    let mut plot = Plot::new(name)
        .height(options.height)
        .allow_scroll(false)
        .allow_double_click_reset(true)
        .show_background(false)
        .grid_color(theme.muted.gamma_multiply(0.6))
        .y_axis_min_width(52.0)
        .y_axis_position(HPlacement::Left)
        .y_axis_formatter(move |mark, _| format::significant(value(mark.value), 3))
        .x_axis_formatter(|mark, _| if mark.value < 0.0 { String::new() } else { format::short_count(mark.value) })
        .label_formatter(move |hover| match hover {
            HoverPosition::NearDataPoint { plot_name, position, .. } => {
                Some(hover_text(plot_name, x_name, position, value))
            }
            HoverPosition::Elsewhere { .. } => None,
        });
    if options.legend {
        plot = plot.legend(
            Legend::default()
                .follow_insertion_order(true)
                .background_alpha(0.6)
                .color_conflict_handling(ColorConflictHandling::PickLast),
        );
    }
    if let Some(link) = options.link {
        let id = egui::Id::unique(("plot link", link));
        plot = plot.link_axis(id, [true, false]).link_cursor(id, [true, false]);
    }
    let response = plot.show(ui, |plot_ui| {
        for mark in marks.iter().take(MARKS) {
            plot_ui.vline(
                VLine::new(mark.name.clone(), mark.x)
                    .stroke(Stroke::new(1.0, mark.color))
                    .style(LineStyle::dotted_dense()),
            );
        }
        for curve in curves {
            draw(plot_ui, theme, curve, log);
        }
    });
    response.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Figure, true, name));
}

fn hover_text(name: &str, x_name: &str, at: &PlotPoint, value: impl Fn(f64) -> f64) -> String {
    let place = format!("{x_name} {}", format::count(at.x.max(0.0).round() as u64));
    if name.is_empty() { place } else { format!("{name}\n{place}\n{}", format::significant(value(at.y), 4)) }
}

fn draw(plot_ui: &mut egui_plot::PlotUi<'_>, theme: &Theme, curve: &Curve, log: bool) {
    if let Some(envelope) = &curve.envelope {
        let alpha = if theme.dark { 0.28 } else { 0.2 };
        let kept: Vec<usize> = (0..envelope.xs.len()).filter(|&i| !log || envelope.min[i] > 0.0).collect();
        let pick = |values: &[f64], scale: bool| -> Vec<f64> {
            kept.iter().map(|&i| if scale && log { values[i].log10() } else { values[i] }).collect()
        };
        if kept.len() > 1 {
            let (xs, low, high) = (pick(&envelope.xs, false), pick(&envelope.min, true), pick(&envelope.max, true));
            // Same name as the line: the legend switches both together.
            let area = FilledArea::new(curve.name.clone(), &xs, &low, &high).id(("range", &curve.name));
            plot_ui.add(area.fill_color(curve.color.gamma_multiply(alpha)).allow_hover(false));
        }
    }
    let shown = |points: &[[f64; 2]]| -> Vec<[f64; 2]> {
        let finite = points.iter().filter(|p| p[1].is_finite() && (!log || p[1] > 0.0));
        finite.map(|&[x, y]| [x, if log { y.log10() } else { y }]).collect()
    };
    if !curve.raw.is_empty() {
        let raw = Line::new(curve.name.clone(), PlotPoints::from(shown(&curve.raw))).id(("raw", &curve.name));
        plot_ui.line(raw.color(curve.color.gamma_multiply(0.4)).width(1.0).allow_hover(false));
    }
    let points = shown(&curve.line);
    if curve.dots {
        let dots = Points::new(curve.name.clone(), PlotPoints::from(points.clone())).id(("dots", &curve.name));
        plot_ui.points(dots.color(curve.color).radius(3.0).allow_hover(false));
    }
    let style = if curve.dashed { LineStyle::dashed_dense() } else { LineStyle::Solid };
    plot_ui.line(Line::new(curve.name.clone(), PlotPoints::from(points)).color(curve.color).width(1.8).style(style));
}
