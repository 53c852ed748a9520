//! A line plot that always draws the raw range under the smoothed line, and marks values that are not finite.

use super::dot_plot::ticks;
use super::legend::{self, LegendEntry};
use crate::app::theme::Theme;
use crate::format;
use egui::{Align2, Color32, RichText, Stroke, Ui};
use egui_plot::{
    FilledArea, GridMark, HPlacement, HoverPosition, Line, LineStyle, Plot, PlotPoint, PlotPoints, Points, Text, VLine,
};
use std::collections::BTreeSet;

/// Smallest and largest raw value at an x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueRange {
    pub x: f64,
    pub min: f64,
    pub max: f64,
}

#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend and when hovered.
    pub name: String,
    pub color: Color32,
    /// The line, `[x, y]`, x ascending.
    pub line: Vec<[f64; 2]>,
    /// The raw range under it; drawn as a thin line where smallest and largest are the same everywhere.
    pub ranges: Vec<ValueRange>,
    /// Draw a dot at every point (evaluations).
    pub dots: bool,
    pub dashed: bool,
}

impl Curve {
    pub fn line(name: impl Into<String>, color: Color32, line: Vec<[f64; 2]>) -> Self {
        Self { name: name.into(), color, line, ranges: Vec::new(), dots: false, dashed: false }
    }
}

/// A vertical line at an event.
#[derive(Clone, Debug)]
pub struct EventLine {
    pub x: f64,
    pub name: String,
    pub color: Color32,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct PlotOptions {
    /// Height in points.
    pub height: f32,
    /// Logarithmic value axis; values at or below 0 are left out.
    pub log: bool,
    /// A legend above the plot, whose entries hide and show the curves.
    pub legend: bool,
    /// Smallest and largest value that there can be; the axis ends there. Absent: any.
    pub limits: Option<[f64; 2]>,
    /// Plots with the same name zoom and point together along x.
    pub link: Option<&'static str>,
}

/// From this height on the marks of a plot have names.
const NAMED_MARKS: f32 = 150.0;
/// Most marks drawn.
const MARKS: usize = 50;

pub fn ui(
    ui: &mut Ui,
    theme: &Theme,
    name: &'static str,
    curves: &[Curve],
    marks: &[EventLine],
    options: &PlotOptions,
) {
    let log = options.log;
    let value = move |y: f64| if log { 10f64.powf(y) } else { y };
    // As many lines as there is room for numbers beside them.
    let wanted = [ui.available_width() / 72.0, options.height / 34.0].map(|n| (n as usize).clamp(2, 12));
    let hidden = if options.legend {
        let entry = |curve: &Curve| LegendEntry { name: curve.name.clone(), color: curve.color, dashed: curve.dashed };
        legend::toggles(ui, theme, name, &curves.iter().map(entry).collect::<Vec<_>>())
    } else {
        BTreeSet::new()
    };
    let shown: Vec<&Curve> = curves.iter().filter(|curve| !hidden.contains(&curve.name)).collect();
    let limits = options.limits.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
    let mut plot = Plot::new(name)
        .height(options.height)
        .allow_scroll(false)
        .allow_double_click_reset(true)
        .show_background(false)
        .grid_color(theme.muted.gamma_multiply(0.6))
        .y_axis_min_width(46.0)
        .y_axis_position(HPlacement::Left)
        .x_axis_label(RichText::new("step").small())
        .x_grid_spacer(move |grid| grid_marks(step_ticks(grid.bounds, wanted[0])))
        .y_grid_spacer(move |grid| {
            let (low, high) = grid.bounds;
            grid_marks(if log {
                log_ticks((low, high), wanted[1])
            } else {
                ticks(low.max(limits[0]), high.min(limits[1]), wanted[1])
            })
        })
        .y_axis_formatter(move |mark, _| format::tick(value(mark.value)))
        .x_axis_formatter(|mark, _| if mark.value < 0.0 { String::new() } else { format::tick(mark.value) })
        .label_formatter(move |hover| match hover {
            HoverPosition::NearDataPoint { plot_name, position, .. } => Some(hover_text(plot_name, position, value)),
            HoverPosition::Elsewhere { .. } => None,
        });
    if let Some(link) = options.link {
        let id = egui::Id::unique(("plot link", link));
        plot = plot.link_axis(id, [true, false]).link_cursor(id, [true, false]);
    }
    let memory = egui::Id::unique(("value axis", name));
    let before: Option<ValueAxis> = ui.data(|data| data.get_temp(memory));
    let response = plot.show(ui, |plot_ui| {
        let axis = ValueAxis::next(plot_ui, before, &shown, log, limits);
        let [_, top] = axis.range;
        for (i, mark) in marks.iter().take(MARKS).enumerate() {
            mark_ui(plot_ui, mark, top, i);
        }
        for curve in &shown {
            draw(plot_ui, theme, curve, log);
        }
        axis
    });
    ui.data_mut(|data| data.insert_temp(memory, response.inner));
    response.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Figure, true, name));
}

/// An upright line with its name at the top; the names of neighbours are at different heights.
fn mark_ui(plot_ui: &mut egui_plot::PlotUi<'_>, mark: &EventLine, top: f64, number: usize) {
    let line = VLine::new(mark.name.clone(), mark.x).stroke(Stroke::new(1.0, mark.color));
    plot_ui.vline(line.style(LineStyle::dotted_dense()));
    let (bounds, size) = (plot_ui.plot_bounds(), plot_ui.response().rect.size());
    let right = mark.x > 0.5 * (bounds.min()[0] + bounds.max()[0]);
    let point = [bounds.width() / f64::from(size.x.max(1.0)), bounds.height() / f64::from(size.y.max(1.0))];
    // In a small plot the name would lie on the curve; its neighbours have the same marks, and the largest names them.
    if size.y < NAMED_MARKS {
        return;
    }
    let at = [mark.x + if right { -3.0 } else { 3.0 } * point[0], top - (2.0 + 12.0 * (number % 3) as f64) * point[1]];
    let anchor = if right { Align2::RIGHT_TOP } else { Align2::LEFT_TOP };
    let words = RichText::new(mark.name.clone()).small();
    let text = Text::new(format!("{} at {}", mark.name, mark.x), PlotPoint::new(at[0], at[1]), words);
    plot_ui.text(text.color(mark.color).anchor(anchor).allow_hover(false));
}

/// The value axis of a plot as it was drawn last.
#[derive(Clone, Copy, Debug)]
struct ValueAxis {
    range: [f64; 2],
    /// The user has chosen the range; a double click forgets it.
    chosen: bool,
}

impl ValueAxis {
    /// Fits the axis to the visible part of the curves, unless the user has chosen another range; never beyond `limits`.
    fn next(
        plot_ui: &mut egui_plot::PlotUi<'_>,
        before: Option<Self>,
        curves: &[&Curve],
        log: bool,
        limits: [f64; 2],
    ) -> Self {
        let bounds = plot_ui.plot_bounds();
        let now = [bounds.min()[1], bounds.max()[1]];
        let moved = |before: Self| {
            let span = before.range[1] - before.range[0];
            before.range.iter().zip(now).any(|(a, b)| (a - b).abs() > 1e-6 * span)
        };
        let chosen =
            before.is_some_and(|before| before.chosen || moved(before)) && !plot_ui.response().double_clicked();
        let visible = (!plot_ui.auto_bounds().x).then(|| [bounds.min()[0], bounds.max()[0]]);
        let range = if chosen { clamped(now, log, limits) } else { value_range(curves, visible, log, limits) };
        plot_ui.set_plot_bounds_y(range[0]..=range[1]);
        Self { range, chosen }
    }
}

/// Space beyond the highest and the lowest value, as a share of what lies between them.
const MARGIN: f64 = 0.06;
/// What of it is left beyond a limit, so that a curve on the limit is not cut.
const BEYOND: f64 = 0.02;

/// A range cut off just beyond the limits.
fn clamped([low, high]: [f64; 2], log: bool, limits: [f64; 2]) -> [f64; 2] {
    let ends = if log { [f64::NEG_INFINITY, f64::INFINITY] } else { limits };
    let beyond = BEYOND * (high.min(ends[1]) - low.max(ends[0])).max(0.0);
    let limits =
        if log { limits.map(|limit| if limit > 0.0 { limit.log10() } else { f64::NEG_INFINITY }) } else { limits };
    let top = if limits[1].is_finite() { limits[1] + beyond } else { f64::INFINITY };
    let range = [low.max(limits[0] - beyond), high.min(top)];
    if range[0] < range[1] { range } else { [low, high] }
}

/// Lowest and highest value of the axis for the part of the curves between two ends of the x-axis; where nothing lies
/// there, for the whole curves.
fn value_range(curves: &[&Curve], visible: Option<[f64; 2]>, log: bool, limits: [f64; 2]) -> [f64; 2] {
    let inside = |x: f64| visible.is_none_or(|[from, to]| (from..=to).contains(&x));
    let ends = |all: bool| {
        let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
        let mut add = |x: f64, y: f64| {
            if (all || inside(x)) && y.is_finite() && (!log || y > 0.0) {
                let y = if log { y.log10() } else { y };
                ends = [ends[0].min(y), ends[1].max(y)];
            }
        };
        for curve in curves {
            curve.line.iter().for_each(|&[x, y]| add(x, y));
            curve.ranges.iter().for_each(|range| {
                add(range.x, range.min);
                add(range.x, range.max);
            });
        }
        (ends[0] <= ends[1]).then_some(ends)
    };
    let Some([low, high]) = ends(false).or_else(|| ends(true)) else { return clamped([0.0, 1.0], log, limits) };
    let margin = if high > low { MARGIN * (high - low) } else { (MARGIN * high.abs()).max(1e-6) };
    clamped([low - margin, high + margin], log, limits)
}

/// Grid lines at these values, all of the same strength.
pub fn grid_marks(values: Vec<f64>) -> Vec<GridMark> {
    let step_size = values.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let step_size = if step_size.is_finite() { step_size } else { 1.0 };
    values.into_iter().map(|value| GridMark { value, step_size }).collect()
}

/// Whole steps only.
fn step_ticks((from, to): (f64, f64), wanted: usize) -> Vec<f64> {
    let wanted = wanted.min((to - from).max(1.0) as usize);
    ticks(from, to, wanted).into_iter().filter(|tick| tick.fract().abs() < 1e-9).collect()
}

/// Round numbers on a logarithmic axis, whose ends are powers of ten: 1, 2 and 5 of each decade, or only 1 where
/// there are many decades, or evenly spaced ones where there is less than one.
fn log_ticks((from, to): (f64, f64), wanted: usize) -> Vec<f64> {
    if !(to - from).is_finite() || to - from < 1.0 || to - from > 60.0 {
        let even = ticks(10f64.powf(from), 10f64.powf(to), wanted);
        return even.into_iter().filter(|&value| value > 0.0).map(f64::log10).collect();
    }
    let few: &[f64] = if to - from < wanted as f64 / 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = from.floor() as i32..=to.ceil() as i32;
    let all = decades.flat_map(|decade| few.iter().map(move |digit| f64::from(decade) + digit.log10()));
    all.filter(|tick| (from..=to).contains(tick)).collect()
}

fn hover_text(name: &str, at: &PlotPoint, value: impl Fn(f64) -> f64) -> String {
    let place = format!("step {}", format::count(at.x.max(0.0).round() as u64));
    if name.is_empty() { place } else { format!("{name}\n{place}\n{}", format::significant(value(at.y), 4)) }
}

/// Groups of neighbours in the same pixel column; `None`: there is room for all. `column`: width of a pixel on the
/// x-axis.
fn by_pixel<T>(items: &[T], x: fn(&T) -> f64, column: f64) -> Option<impl Iterator<Item = &[T]>> {
    let span = x(items.last()?) - x(items.first()?);
    let crowded = column.is_finite() && column > 0.0 && items.len() as f64 * column >= 2.0 * span;
    let pixel = move |item: &T| (x(item) / column).floor();
    crowded.then(|| items.chunk_by(move |a, b| pixel(a) == pixel(b)))
}

/// Points of a curve that fall into the same pixel column become two: the lowest and the highest, in their order.
/// What is drawn stays the same, with far fewer corners.
fn thin(points: Vec<[f64; 2]>, column: f64) -> Vec<[f64; 2]> {
    let Some(groups) = by_pixel(&points, |point| point[0], column) else { return points };
    // The ends stay: they are the ends of the axis.
    let mut kept = vec![points[0]];
    for group in groups {
        let by_value = |a: &&[f64; 2], b: &&[f64; 2]| a[1].total_cmp(&b[1]);
        let (Some(low), Some(high)) = (group.iter().min_by(by_value), group.iter().max_by(by_value)) else { continue };
        kept.extend(if low[0] <= high[0] { [*low, *high] } else { [*high, *low] });
    }
    kept.push(points[points.len() - 1]);
    kept.dedup();
    kept
}

/// As [`thin`]: one range a pixel column.
fn thin_ranges(ranges: &[ValueRange], column: f64) -> Vec<ValueRange> {
    let Some(groups) = by_pixel(ranges, |range| range.x, column) else { return ranges.to_vec() };
    let widen = |a: ValueRange, b: ValueRange| ValueRange { min: a.min.min(b.min), max: a.max.max(b.max), ..a };
    groups.filter_map(|group| group.iter().copied().reduce(widen)).collect()
}

fn draw(plot_ui: &mut egui_plot::PlotUi<'_>, theme: &Theme, curve: &Curve, log: bool) {
    let column = plot_ui.plot_bounds().width() / f64::from(plot_ui.response().rect.width().max(1.0));
    let mut ranges = thin_ranges(&curve.ranges, column);
    ranges.retain(|range| !log || range.min > 0.0);
    let scaled = |value: f64| if log { value.log10() } else { value };
    if !ranges.is_empty() && ranges.iter().all(|range| range.min == range.max) {
        let raw: Vec<[f64; 2]> = ranges.iter().map(|range| [range.x, scaled(range.min)]).collect();
        let raw = Line::new(curve.name.clone(), PlotPoints::from(raw)).id(("raw", &curve.name));
        plot_ui.line(raw.color(curve.color.gamma_multiply(0.4)).width(1.0).allow_hover(false));
    } else if ranges.len() > 1 {
        let alpha = if theme.dark { 0.28 } else { 0.2 };
        let xs: Vec<f64> = ranges.iter().map(|range| range.x).collect();
        let low: Vec<f64> = ranges.iter().map(|range| scaled(range.min)).collect();
        let high: Vec<f64> = ranges.iter().map(|range| scaled(range.max)).collect();
        let area = FilledArea::new(curve.name.clone(), &xs, &low, &high).id(("range", &curve.name));
        plot_ui.add(area.fill_color(curve.color.gamma_multiply(alpha)).allow_hover(false));
    }
    let finite = curve.line.iter().filter(|p| p[1].is_finite() && (!log || p[1] > 0.0));
    let points = thin(finite.map(|&[x, y]| [x, scaled(y)]).collect(), column);
    if curve.dots {
        let dots = Points::new(curve.name.clone(), PlotPoints::from(points.clone())).id(("dots", &curve.name));
        plot_ui.points(dots.color(curve.color).radius(3.0).allow_hover(false));
    }
    let style = if curve.dashed { LineStyle::dashed_dense() } else { LineStyle::Solid };
    plot_ui.line(Line::new(curve.name.clone(), PlotPoints::from(points)).color(curve.color).width(1.8).style(style));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_extreme_and_both_ends() {
        let mut points: Vec<[f64; 2]> = (0..2000).map(|i| [f64::from(i), f64::from(i % 7)]).collect();
        points[1234][1] = 99.0;
        points[777][1] = -99.0;
        let thinned = thin(points.clone(), 10.0);
        assert!(thinned.len() <= 402, "{}", thinned.len());
        assert!(thinned.contains(&[1234.0, 99.0]) && thinned.contains(&[777.0, -99.0]));
        assert_eq!((thinned.first(), thinned.last()), (points.first(), points.last()));
        assert!(thinned.windows(2).all(|w| w[0][0] <= w[1][0]), "not in order");
        assert_eq!(thin(points.clone(), 0.5), points, "where there is room nothing is left out");
        for column in [0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(thin(points.clone(), column).len(), 2000);
        }
        let ranges: Vec<ValueRange> = points.iter().map(|&[x, y]| ValueRange { x, min: y, max: y }).collect();
        let thinned = thin_ranges(&ranges, 10.0);
        assert_eq!(thinned.len(), 200);
        assert_eq!(thinned.iter().map(|range| range.max).fold(0.0, f64::max), 99.0);
        assert_eq!(thinned.iter().map(|range| range.min).fold(0.0, f64::min), -99.0);
        assert_eq!(thin_ranges(&ranges, 0.1), ranges);
    }

    fn range(points: &[[f64; 2]], visible: Option<[f64; 2]>, limits: [f64; 2]) -> [f64; 2] {
        value_range(&[&Curve::line("accuracy", Color32::RED, points.to_vec())], visible, false, limits)
    }

    #[test]
    fn an_axis_ends_where_its_metric_ends() {
        let (share, loss) = ([0.0, 1.0], [0.0, f64::INFINITY]);
        // One value is in the middle of a narrow axis, and there is no axis from -50 to 50.
        let [low, high] = range(&[[200.0, 0.64]], None, share);
        assert!(low > 0.5 && low < 0.64 && high > 0.64 && high < 0.75, "{low} to {high}");
        let [low, high] = range(&[[200.0, 0.3]], None, loss);
        assert!(low > 0.2 && high < 0.4, "{low} to {high}");
        for (points, limits) in [(&[[1.0, 0.0], [2.0, 1.0]], share), (&[[1.0, -1.0], [2.0, 1.0]], [-1.0, 1.0])] {
            let [low, high] = range(points, None, limits);
            let span = limits[1] - limits[0];
            assert!(low >= limits[0] - 0.03 * span && high <= limits[1] + 0.03 * span, "{low} to {high}");
        }
        assert!(range(&[[1.0, 0.001], [2.0, 3.0]], None, loss)[0] > -0.1);
        assert!(range(&[], None, share)[1] <= 1.03, "without a value");
        // What the user chooses ends there too.
        assert_eq!(clamped([-20.0, 20.0], false, share), [-0.02, 1.02]);
    }

    #[test]
    fn an_axis_fits_what_is_visible_and_everything_where_nothing_is() {
        let points: Vec<[f64; 2]> = (0..100).map(|i| [f64::from(i), if i < 5 { 9.0 } else { 0.5 }]).collect();
        let any = [f64::NEG_INFINITY, f64::INFINITY];
        assert!(range(&points, Some([10.0, 50.0]), any)[1] < 0.6);
        assert_eq!(range(&points, Some([200.0, 300.0]), any), range(&points, None, any));
        assert!(range(&points, Some([0.0, 50.0]), any)[1] > 9.0);
    }

    #[test]
    fn steps_are_whole_and_logarithmic_lines_are_round() {
        assert_eq!(step_ticks((0.0, 3.0), 12), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(step_ticks((-20.0, 820.0), 5), [0.0, 200.0, 400.0, 600.0, 800.0]);
        let values =
            |ticks: Vec<f64>| -> Vec<f64> { ticks.iter().map(|t| (1e6 * 10f64.powf(*t)).round() / 1e6).collect() };
        assert_eq!(values(log_ticks((-1.0, 1.0), 6)), [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(values(log_ticks((-0.5, 0.1), 5)), [0.4, 0.6, 0.8, 1.0, 1.2]);
        assert_eq!(log_ticks((-5.0, 5.0), 6).len(), 11, "one a decade");
        assert!(log_ticks((f64::NEG_INFINITY, 1.0), 6).len() < 20);
    }
}
