//! Histograms of the weights of all experts.

use super::Focus;
use crate::app::theme::Theme;
use crate::app::widgets::dot_plot::ticks;
use crate::app::widgets::legend::{self, LegendEntry};
use crate::app::widgets::metric_plot::grid_marks;
use crate::app::widgets::{cards, export_menu};
use crate::figure::{Axis, Content, Curve, Figure, Lines};
use crate::format;
use crate::protocol::HISTOGRAM_BINS;
use egui::Ui;
use egui_plot::{HoverPosition, Line, Plot, PlotPoints};

/// Draws the histograms; that of `expert` is thick.
pub fn ui(theme: &Theme, focus: &Focus<'_>, expert: usize, ui: &mut Ui) {
    let [low, high] = focus.data.range.map(f64::from);
    if high.partial_cmp(&low) != Some(std::cmp::Ordering::Greater) {
        cards::muted(ui, theme, "All weights are the same.");
        return;
    }
    let width = (high - low) / HISTOGRAM_BINS as f64;
    let experts = focus.data.experts.len();
    let series = |i: usize| match experts {
        1 => ("shared".to_owned(), theme.accent),
        _ => (format!("expert {i}"), theme.series(i)),
    };
    let entry = |i: usize| {
        let (name, color) = series(i);
        LegendEntry { name, color, dashed: false }
    };
    let hidden = legend::toggles(ui, theme, "histogram", &(0..experts).map(entry).collect::<Vec<_>>());
    let plot = Plot::new("histogram of weights")
        .height(160.0)
        .allow_scroll(false)
        .allow_zoom(false)
        .allow_drag(false)
        .show_background(false)
        .include_y(0.0)
        .y_axis_min_width(44.0)
        .x_axis_label("weight")
        .y_axis_label("weights a bin")
        .x_grid_spacer(|grid| grid_marks(ticks(grid.bounds.0, grid.bounds.1, 8)))
        .x_axis_formatter(|mark, _| format::tick(mark.value))
        .y_axis_formatter(|mark, _| if mark.value < 0.0 { String::new() } else { format::short_count(mark.value) })
        .label_formatter(|hover| match hover {
            HoverPosition::NearDataPoint { plot_name, position, .. } => Some(format!(
                "{plot_name}\nweight about {}\n{} of the weights in the bin",
                format::significant(position.x, 2),
                format::count(position.y.max(0.0) as u64),
            )),
            HoverPosition::Elsewhere { .. } => None,
        });
    let response = plot.show(ui, |plot| {
        for (i, stats) in focus.data.experts.iter().enumerate() {
            let points = outline(&stats.histogram, low, width);
            let (name, color) = series(i);
            if hidden.contains(&name) {
                continue;
            }
            let chosen = i == expert || experts == 1;
            let line = Line::new(name, PlotPoints::from(points)).color(color).allow_band(false);
            plot.line(line.width(if chosen { 2.5 } else { 1.0 }));
        }
    });
    let name = "Histogram of the weights of all experts";
    response.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Figure, true, name));
    // The legend above hides curves; a file has them all.
    export_menu::corner(ui, response.response.rect, "histogram of weights", &[], || {
        let curve = |(i, stats): (usize, &crate::protocol::ExpertStats)| {
            let (name, color) = series(i);
            let points = outline(&stats.histogram, low, width);
            Curve { name, color: theme.on_paper(color), points, strong: i == expert, ..Curve::default() }
        };
        let axis = |name: &str| Axis { name: name.to_owned(), ..Axis::default() };
        let curves = focus.data.experts.iter().enumerate().map(curve).collect();
        let lines = Lines { x: axis("weight"), y: axis("weights a bin"), curves, marks: Vec::new() };
        let step = format::count(focus.snapshot.step);
        let title = format!("Weights of the {} of {}, step {step}", focus.side_in_words(), focus.name());
        (Figure::new(title, Content::Lines(lines)), None)
    });
}

/// The upper edge of the columns, from left to right.
fn outline(histogram: &[u32], low: f64, width: f64) -> Vec<[f64; 2]> {
    let mut points = Vec::with_capacity(2 * histogram.len());
    for (bin, &n) in histogram.iter().enumerate() {
        let left = low + bin as f64 * width;
        points.push([left, f64::from(n)]);
        points.push([left + width, f64::from(n)]);
    }
    points
}
