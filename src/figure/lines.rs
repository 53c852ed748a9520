//! Curves over a number.

use super::drawing::{Anchor, Drawing, GRID, MARGIN, MUTED, SMALL, Shape, fitted, legend, text_width};
use super::{Axis, Cell, Curve, Lines, Mark, Table, ticks};
use crate::format;

/// Points of a curve beyond which neighbours in the same pixel column are drawn as their extremes.
const DENSE: usize = 2000;

impl Lines {
    /// The drawn values: a row for each x of any curve, a column (with a band: three) for each curve.
    pub(super) fn table(&self) -> Table {
        let mut names = vec![if self.x.name.is_empty() { "x".to_owned() } else { self.x.name.clone() }];
        let mut xs: Vec<f64> = Vec::new();
        for curve in &self.curves {
            names.push(curve.name.clone());
            if !curve.band.is_empty() {
                names.extend([format!("{}, lower", curve.name), format!("{}, upper", curve.name)]);
            }
            xs.extend(curve.points.iter().map(|p| p[0]).chain(curve.band.iter().map(|b| b[0])));
        }
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let mut table = Table::new(names);
        let mut next = vec![[0usize; 2]; self.curves.len()];
        for x in xs {
            let mut row = vec![Cell::Number(x)];
            for (curve, [point, band]) in self.curves.iter().zip(&mut next) {
                row.push(take(&curve.points, point, x).map(|p| p[1]).into());
                if !curve.band.is_empty() {
                    let found = take(&curve.band, band, x);
                    row.extend([found.map(|b| b[1]).into(), found.map(|b| b[2]).into()]);
                }
            }
            table.push(row);
        }
        table
    }
}

/// The entry at `x`, if the next one lies there; of several the last one.
fn take<'a, const N: usize>(list: &'a [[f64; N]], next: &mut usize, x: f64) -> Option<&'a [f64; N]> {
    let mut found = None;
    while let Some(entry) = list.get(*next).filter(|entry| entry[0] <= x) {
        found = Some(entry).filter(|entry| entry[0] == x);
        *next += 1;
    }
    found
}

/// Space beyond a limit, as a share of what is between the values.
const BEYOND: f64 = 0.02;

/// Values to places along an axis.
pub(super) struct Scale {
    log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// `values` at `from..to` points; `margin`: a share of the span that is added on both sides.
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>, [from, to]: [f64; 2], margin: f64) -> Self {
        let scaled = |value: f64| if axis.log { value.log10() } else { value };
        let usable = |value: &f64| value.is_finite() && (!axis.log || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(usable).map(scaled) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            let around = if axis.log || low == 0.0 { 0.5 } else { 0.1 * low.abs() };
            (low, high) = (low - around, high + around);
        }
        let free = margin * (high - low);
        let (least, most) = match axis.limits {
            // A curve on a limit is not cut.
            Some([least, most]) => {
                let beyond = BEYOND * (high - low);
                (if axis.log { f64::NEG_INFINITY } else { least - beyond }, scaled(most) + beyond)
            }
            // Counts and shares do not reach below 0, so neither does their axis.
            None => (if low >= 0.0 && !axis.log { 0.0 } else { f64::NEG_INFINITY }, f64::INFINITY),
        };
        (low, high) = ((low - free).max(least), (high + free).min(most));
        if let Some([a, b]) = axis.range.map(|range| range.map(scaled)).filter(|[a, b]| a < b && (b - a).is_finite()) {
            (low, high) = (a, b);
        }
        Self { log: axis.log, low, high, from, to }
    }

    /// Where a value lies; absent where it cannot be shown.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let scaled = if self.log { value.log10() } else { value };
        let share = (scaled - self.low) / (self.high - self.low);
        // A range that was given may leave values out.
        (scaled.is_finite() && (-1e-9..=1.0 + 1e-9).contains(&share))
            .then_some(self.from + share * (self.to - self.from))
    }

    /// Round values with their places and words.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let scaled = if self.log {
            ticks::logarithmic(self.low, self.high, wanted)
        } else {
            ticks::linear(self.low, self.high, wanted)
        };
        let place = |t: f64| self.from + (t - self.low) / (self.high - self.low) * (self.to - self.from);
        let words = |t: f64| format::tick(if self.log { 10f64.powf(t) } else { t });
        scaled.into_iter().map(|t| (place(t), words(t))).collect()
    }
}

/// Left, top, right and bottom of a field.
pub(super) type Field = [f64; 4];

pub(super) fn x_axis(drawing: &mut Drawing, [left, top, right, bottom]: Field, axis: &Axis, scale: &Scale) {
    for (x, words) in scale.ticks(((right - left) / 80.0) as usize) {
        drawing.line(vec![[x, top], [x, bottom]], GRID, 1.0, 0.0);
        drawing.text([x, bottom + 15.0], Anchor::Middle, MUTED, words);
    }
    drawing.line(vec![[left, bottom], [right, bottom]], MUTED, 1.0, 0.0);
    drawing.text([0.5 * (left + right), bottom + 32.0], Anchor::Middle, MUTED, axis_name(axis));
}

pub(super) fn axis_name(axis: &Axis) -> String {
    match (axis.log, axis.name.is_empty()) {
        (true, false) => format!("{} (logarithmic)", axis.name),
        (true, true) => "logarithmic".to_owned(),
        (false, _) => axis.name.clone(),
    }
}

pub(super) fn y_axis(drawing: &mut Drawing, [left, top, right, bottom]: Field, axis: &Axis, scale: &Scale) {
    for (y, words) in scale.ticks(((bottom - top) / 40.0) as usize) {
        drawing.line(vec![[left, y], [right, y]], GRID, 1.0, 0.0);
        drawing.text([left - 6.0, y + 4.0], Anchor::End, MUTED, words);
    }
    drawing.line(vec![[left, top], [left, bottom]], MUTED, 1.0, 0.0);
    let text = axis_name(axis);
    if !text.is_empty() {
        let at = [MARGIN + SMALL - 2.0, 0.5 * (top + bottom)];
        let anchor = Anchor::Middle;
        let text = fitted(&text, SMALL, bottom - top);
        drawing.shapes.push(Shape::Text { at, anchor, size: SMALL, color: MUTED, strong: false, upright: true, text });
    }
}

pub(super) fn draw(drawing: &mut Drawing, lines: &Lines) {
    if lines.curves.len() > 1 || lines.curves.iter().any(|curve| !curve.band.is_empty()) {
        let dash = |curve: &Curve| if curve.dashed { 4.0 } else { 0.0 };
        let entries: Vec<_> = lines.curves.iter().map(|c| (c.name.clone(), c.color, dash(c))).collect();
        legend(drawing, &entries);
    }
    let names = mark_rows(&lines.marks);
    let top = drawing.height + 8.0 + 13.0 * names as f64;
    let name_room = if lines.y.name.is_empty() && !lines.y.log { 0.0 } else { 18.0 };
    let left = MARGIN + name_room + 48.0;
    let right = drawing.width - MARGIN - 6.0;
    let bottom = top + (0.42 * drawing.width).max(160.0);
    let xs = lines.curves.iter().flat_map(|c| c.points.iter().map(|p| p[0]).chain(c.band.iter().map(|b| b[0])));
    let x = Scale::new(&lines.x, xs.chain(lines.marks.iter().map(|mark| mark.x)), [left, right], 0.0);
    let ys =
        lines.curves.iter().flat_map(|c| c.points.iter().map(|p| p[1]).chain(c.band.iter().flat_map(|b| [b[1], b[2]])));
    let y = Scale::new(&lines.y, ys, [bottom, top], 0.05);
    let field = [left, top, right, bottom];
    y_axis(drawing, field, &lines.y, &y);
    x_axis(drawing, field, &lines.x, &x);
    draw_marks(drawing, &lines.marks, field, &x);
    for curve in &lines.curves {
        draw_band(drawing, curve, &x, &y);
    }
    for curve in &lines.curves {
        draw_curve(drawing, curve, &x, &y);
    }
    if lines.curves.iter().all(|curve| curve.points.is_empty()) {
        let middle = [0.5 * (left + right), 0.5 * (top + bottom)];
        drawing.text(middle, Anchor::Middle, MUTED, "nothing was measured");
    }
    drawing.height = bottom + if lines.x.name.is_empty() && !lines.x.log { 20.0 } else { 38.0 };
}

/// Rows of names above the field: at most three, then they repeat.
fn mark_rows(marks: &[Mark]) -> usize {
    marks.len().min(3)
}

fn draw_marks(drawing: &mut Drawing, marks: &[Mark], [left, top, right, bottom]: Field, scale: &Scale) {
    let rows = mark_rows(marks);
    for (i, mark) in marks.iter().enumerate() {
        let Some(x) = scale.at(mark.x) else { continue };
        let name_y = top - 4.0 - 13.0 * (i % rows.max(1)) as f64;
        drawing.line(vec![[x, name_y], [x, bottom]], mark.color, 1.0, 2.5);
        let wide = text_width(&mark.name, SMALL);
        let (at, anchor) =
            if x + wide + 4.0 > right && x - wide > left { (x - 3.0, Anchor::End) } else { (x + 3.0, Anchor::Start) };
        drawing.text([at, name_y], anchor, mark.color, mark.name.clone());
    }
}

fn draw_band(drawing: &mut Drawing, curve: &Curve, x: &Scale, y: &Scale) {
    let place = |&[at, low, high]: &[f64; 3]| Some([x.at(at)?, y.at(low)?, y.at(high)?]);
    let corners: Vec<[f64; 3]> = curve.band.iter().filter_map(place).collect();
    if corners.len() < 2 {
        return;
    }
    let below = corners.iter().map(|c| [c[0], c[1]]);
    let points = below.chain(corners.iter().rev().map(|c| [c[0], c[2]])).collect();
    drawing.shapes.push(Shape::Area { points, color: curve.color, opacity: 0.2 });
}

fn draw_curve(drawing: &mut Drawing, curve: &Curve, x: &Scale, y: &Scale) {
    let placed = curve.points.iter().filter_map(|&[at, value]| Some([x.at(at)?, y.at(value)?]));
    let points = thinned(placed.collect());
    let width = if curve.strong { 2.8 } else { 1.7 };
    if curve.dots || points.len() == 1 {
        for &at in &points {
            drawing.shapes.push(Shape::Disc { at, radius: 3.0, color: curve.color, ring: false });
        }
    }
    drawing.line(points, curve.color, width, if curve.dashed { 5.0 } else { 0.0 });
}

/// Where there are more points than pixels, the lowest and the highest of each half point of width, in their order.
fn thinned(points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    if points.len() <= DENSE {
        return points;
    }
    let mut kept: Vec<[f64; 2]> = Vec::new();
    for group in points.chunk_by(|a, b| (2.0 * a[0]).floor() == (2.0 * b[0]).floor()) {
        let by_value = |a: &&[f64; 2], b: &&[f64; 2]| a[1].total_cmp(&b[1]);
        let (Some(low), Some(high)) = (group.iter().min_by(by_value), group.iter().max_by(by_value)) else { continue };
        kept.extend(if low[0] <= high[0] { [*low, *high] } else { [*high, *low] });
    }
    kept.dedup();
    kept
}
