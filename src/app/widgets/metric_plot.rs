//! A line plot that always draws the raw range under the smoothed line, and marks values that are not finite.

mod curve;
mod paper;
mod value_axis;

use super::dot_plot::ticks;
use super::export_menu::{self, Switch};
use super::legend::{self, LegendEntry};
use crate::app::theme::Theme;
use crate::figure::ticks::logarithmic;
use crate::format;
use egui::{FontId, Id, Rangef, Rect, RichText, Stroke, Ui, vec2};
use egui_plot::{
    FilledArea, GridMark, HPlacement, HoverPosition, Line, LineStyle, Plot, PlotPoint, PlotPoints, PlotTransform,
    Points, VLine,
};
use std::collections::BTreeSet;
use value_axis::ValueAxis;

use curve::MARKS;
pub use curve::{Curve, EventLine, PlotOptions, ValueRange};

/// From this height on the marks of a plot have names.
const NAMED_MARKS: f32 = 150.0;

pub fn ui(
    ui: &mut Ui,
    theme: &Theme,
    name: &'static str,
    curves: &[Curve],
    marks: &[EventLine],
    options: &PlotOptions<'_>,
) {
    let log_switch = Id::unique(("logarithmic values", name));
    let mut options = *options;
    options.log |= export_menu::is_on(ui, log_switch);
    let PlotOptions { log, log_x, .. } = options;
    let [value, x_value] = [log, log_x].map(|log| move |v: f64| if log { 10f64.powf(v) } else { v });
    // As many lines as there is room for numbers beside them.
    let wanted = [ui.available_width() / 72.0, options.height / 34.0].map(|n| (n as usize).clamp(2, 12));
    let hidden = if options.legend {
        let mut entries: Vec<LegendEntry> = Vec::new();
        for curve in curves.iter().filter(|curve| curve.listed) {
            if entries.iter().all(|entry| entry.name != curve.name) {
                entries.push(LegendEntry { name: curve.name.clone(), color: curve.color, dashed: curve.dashed });
            }
        }
        legend::toggles(ui, theme, name, &entries)
    } else {
        BTreeSet::new()
    };
    let shown: Vec<&Curve> = curves.iter().filter(|curve| !hidden.contains(&curve.name)).collect();
    let enabled = options.log || curves.iter().any(|curve| curve.line.iter().any(|point| point[1] > 0.0));
    let tip = "Logarithmic value axis; values at or below 0 are left out";
    let switch = Switch { text: "Logarithmic values", tip, enabled, id: log_switch };
    let memory = Id::unique(("value axis", name));
    let before: Option<ValueAxis> = ui.data(|data| data.get_temp(memory));
    let place = Rect::from_min_size(ui.cursor().min, vec2(ui.available_width(), options.height));
    if !ui.is_rect_visible(place) {
        // Out of sight it only keeps its place and its name, and its axis is no choice of the user's.
        if !before.is_some_and(ValueAxis::is_chosen) {
            ui.data_mut(|data| data.remove_temp::<ValueAxis>(memory));
        }
        let (place, _) = super::canvas(ui, place.size(), egui::Role::Figure, name);
        export_menu::corner(ui, place, name, &[switch], || paper::figure(theme, &shown, marks, &options));
        return;
    }
    let limits = options.limits.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
    let (x_name, whole) = (options.x_name(), options.x_name() == "step");
    let mut plot =
        Plot::new(name)
            .height(options.height)
            .allow_scroll(false)
            .allow_double_click_reset(true)
            .show_background(false)
            .grid_color(theme.muted.gamma_multiply(0.6))
            .y_axis_min_width(46.0)
            .y_axis_position(HPlacement::Left)
            .x_axis_label(RichText::new(x_name).small())
            .x_grid_spacer(move |grid| {
                let (low, high) = grid.bounds;
                grid_marks(match (log_x, whole) {
                    (true, _) => logarithmic(low, high, wanted[0]),
                    (false, true) => step_ticks((low, high), wanted[0]),
                    (false, false) => ticks(low, high, wanted[0]),
                })
            })
            .y_grid_spacer(move |grid| {
                let (low, high) = grid.bounds;
                grid_marks(if log {
                    logarithmic(low, high, wanted[1])
                } else {
                    ticks(low.max(limits[0]), high.min(limits[1]), wanted[1])
                })
            })
            .y_axis_formatter(move |mark, _| format::tick(value(mark.value)))
            .x_axis_formatter(move |mark, _| {
                if mark.value < 0.0 && !log_x { String::new() } else { format::tick(x_value(mark.value)) }
            })
            .label_formatter(move |hover| match hover {
                HoverPosition::NearDataPoint { plot_name, position, .. } => {
                    let place = x_text(x_name, x_value(position.x));
                    Some(hover_text(plot_name, &place, position, value))
                }
                HoverPosition::Elsewhere { .. } => None,
            });
    if let Some(link) = options.link {
        let id = Id::unique(("plot link", link));
        plot = plot.link_axis(id, [true, false]).link_cursor(id, [true, false]);
    }
    let seen = |mark: &&EventLine| !log_x || mark.x > 0.0;
    let place = |x: f64| if log_x { x.log10() } else { x };
    let response = plot.show(ui, |plot_ui| {
        let axis = ValueAxis::next(plot_ui, before, &shown, [log_x, log], limits);
        for mark in marks.iter().filter(seen).take(MARKS) {
            let line = VLine::new(mark.name.clone(), place(mark.x)).stroke(Stroke::new(1.0, mark.color));
            plot_ui.vline(line.style(LineStyle::dotted_dense()));
        }
        for curve in &shown {
            draw(plot_ui, theme, curve, log, log_x);
        }
        axis
    });
    ui.data_mut(|data| data.insert_temp(memory, response.inner));
    // In a small plot the names would lie on the curve; its neighbours have the same marks, and the largest names them.
    if options.height >= NAMED_MARKS {
        let names = marks.iter().filter(seen).map(|mark| (place(mark.x), mark));
        mark_names(ui, *response.transform.frame(), &response.transform, names);
    }
    let place = response.response.rect;
    export_menu::corner(ui, place, name, &[switch], || paper::figure(theme, &shown, marks, &options));
    response.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Figure, true, name));
}

/// Writes the names of events at the top beside their lines, where they do not cover each other; to the left of lines in
/// the right half.
fn mark_names<'a>(ui: &Ui, rect: Rect, transform: &PlotTransform, marks: impl Iterator<Item = (f64, &'a EventLine)>) {
    let painter = ui.painter().with_clip_rect(rect.intersect(ui.clip_rect()));
    // Up to three lines of names; what of each is taken.
    let mut taken: [Vec<Rangef>; 3] = Default::default();
    for (x, mark) in marks.take(MARKS) {
        let x = transform.position_from_point_x(x);
        if !rect.x_range().contains(x) {
            continue;
        }
        let galley = painter.layout_no_wrap(mark.name.clone(), FontId::proportional(10.5), mark.color);
        let width = galley.size().x;
        let left = if x > rect.center().x { x - 3.0 - width } else { x + 3.0 };
        let span = Rangef::new(left - 4.0, left + width + 4.0);
        let free = |names: &Vec<Rangef>| names.iter().all(|name| !name.intersects(span));
        let Some(row) = taken.iter().position(free) else { continue };
        taken[row].push(span);
        painter.galley(egui::pos2(left, rect.top() + 2.0 + 12.0 * row as f32), galley, mark.color);
    }
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

/// Where something lies on the x-axis, in words.
fn x_text(name: &str, x: f64) -> String {
    match name {
        "step" => format!("step {}", format::count(x.max(0.0).round() as u64)),
        name => format!("{name} {}", format::significant(x, 4)),
    }
}

fn hover_text(name: &str, place: &str, at: &PlotPoint, value: impl Fn(f64) -> f64) -> String {
    if name.is_empty() { place.to_owned() } else { format!("{name}\n{place}\n{}", format::significant(value(at.y), 4)) }
}

/// Groups of neighbours in the same pixel column; `None`: there is room for all. `column`: width of a pixel on the
/// x-axis.
fn by_pixel<T>(items: &[T], x: fn(&T) -> f64, column: f64) -> Option<impl Iterator<Item = &[T]>> {
    let span = x(items.last()?) - x(items.first()?);
    let crowded = column.is_finite() && column > 0.0 && items.len() as f64 * column >= 2.0 * span;
    // Steps are not negative, so that cutting off the fraction is rounding down, without a call.
    let pixel = move |item: &T| (x(item) / column) as i64;
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

fn draw(plot_ui: &mut egui_plot::PlotUi<'_>, theme: &Theme, curve: &Curve, log: bool, log_x: bool) {
    let column = plot_ui.plot_bounds().width() / f64::from(plot_ui.response().rect.width().max(1.0));
    let placed = |x: f64| if log_x { x.log10() } else { x };
    let shown = curve.ranges.iter().filter(|range| (!log || range.min > 0.0) && (!log_x || range.x > 0.0));
    let shown: Vec<ValueRange> = shown.map(|range| ValueRange { x: placed(range.x), ..*range }).collect();
    let ranges = thin_ranges(&shown, column);
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
    let usable = |p: &&[f64; 2]| p[1].is_finite() && (!log || p[1] > 0.0) && (!log_x || p[0] > 0.0);
    let points = thin(curve.line.iter().filter(usable).map(|&[x, y]| [placed(x), scaled(y)]).collect(), column);
    if curve.dots {
        let dots = Points::new(curve.name.clone(), PlotPoints::from(points.clone())).id(("dots", &curve.name));
        plot_ui.points(dots.color(curve.color).radius(3.0).allow_hover(false));
    }
    let style = if curve.dashed { LineStyle::dashed_dense() } else { LineStyle::Solid };
    plot_ui.line(
        Line::new(curve.name.clone(), PlotPoints::from(points))
            .color(curve.color)
            .width(if curve.strong { 3.0 } else { 1.8 })
            .style(style),
    );
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

    #[test]
    fn steps_are_whole() {
        assert_eq!(step_ticks((0.0, 3.0), 12), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(step_ticks((-20.0, 820.0), 5), [0.0, 200.0, 400.0, 600.0, 800.0]);
    }
}
