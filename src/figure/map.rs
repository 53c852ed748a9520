//! A coloured field over two numbers, with lines, marks and a colour bar.

use super::drawing::{Anchor, Drawing, INK, MARGIN, MUTED, SMALL, Shape, fitted, text_width};
use super::lines::{Scale, x_axis, y_axis};
use super::{Cell, Map, Table};
use crate::format;

/// Least and most height of the field.
const HEIGHT: [f64; 2] = [90.0, 620.0];

impl Map {
    /// A row for each row of cells from the top, a column for each column, named by their places.
    pub(super) fn table(&self) -> Table {
        let corner = format!("{} \\ {}", self.y.name, self.x.name);
        let columns = self.columns.iter().map(|place| Cell::Number(*place).exact());
        let mut table = Table::new(std::iter::once(corner).chain(columns));
        for (place, row) in self.rows.iter().zip(&self.cells) {
            table.push(std::iter::once((*place).into()).chain(row.iter().map(|(value, _)| (*value).into())));
        }
        table
    }
}

pub(super) fn draw(drawing: &mut Drawing, map: &Map) {
    let (left, right) = (MARGIN + 66.0, drawing.width - MARGIN - 6.0);
    let top = drawing.height + 8.0;
    let span = |range: Option<[f64; 2]>| range.map_or(1.0, |[low, high]| (high - low).abs().max(f64::MIN_POSITIVE));
    // The same scale on both axes, as far as the height allows.
    let height = ((right - left) * span(map.y.range) / span(map.x.range)).clamp(HEIGHT[0], HEIGHT[1]);
    let right = match map.equal {
        true => left + (right - left).min(height * span(map.x.range) / span(map.y.range)),
        false => right,
    };
    let bottom = top + height;
    let x = Scale::new(&map.x, map.columns.iter().copied(), [left, right], 0.0);
    let y_ends = if map.downwards { [top, bottom] } else { [bottom, top] };
    let y = Scale::new(&map.y, map.rows.iter().copied(), y_ends, 0.0);
    let field = [left, top, right, bottom];
    y_axis(drawing, field, &map.y, &y);
    x_axis(drawing, field, &map.x, &x);
    let (rows, columns) = (map.cells.len().max(1) as f64, map.columns.len().max(1) as f64);
    let (wide, high) = ((right - left) / columns, height / rows);
    for (i, row) in map.cells.iter().enumerate() {
        for (k, (value, color)) in row.iter().enumerate() {
            let at = [left + wide * k as f64, top + high * i as f64];
            if value.is_finite() {
                // A hair larger, so that no gap shows between two cells.
                let size = [(wide + 0.3).min(right - at[0]), (high + 0.3).min(bottom - at[1])];
                drawing.rect([at[0], at[1], size[0], size[1]], *color, 1.0);
            }
        }
    }
    for line in &map.lines {
        let points = line.points.iter().filter_map(|&[a, b]| Some([x.at(a)?, y.at(b)?])).collect();
        drawing.line(points, line.color, if line.strong { 2.0 } else { 0.9 }, if line.dashed { 3.0 } else { 0.0 });
    }
    for (name, [a, b], color) in &map.marks {
        let (Some(a), Some(b)) = (x.at(*a), y.at(*b)) else { continue };
        drawing.shapes.push(Shape::Disc { at: [a, b], radius: 5.5, color: [255; 3], ring: false });
        drawing.shapes.push(Shape::Disc { at: [a, b], radius: 4.0, color: *color, ring: false });
        let wide = text_width(name, SMALL);
        let (from, anchor) = if a + wide + 10.0 > right { (a - 8.0, Anchor::End) } else { (a + 8.0, Anchor::Start) };
        let start = if anchor == Anchor::End { from - wide } else { from };
        drawing.rect([start - 2.0, b - 9.0, wide + 4.0, 14.0], [255; 3], 0.8);
        drawing.text([from, b + 2.0], anchor, INK, name.clone());
    }
    drawing.height = bottom + 38.0;
    bar(drawing, map, left);
}

/// The colours from the lowest to the highest value, with both ends, the middle, and what they measure.
fn bar(drawing: &mut Drawing, map: &Map, left: f64) {
    let bar = &map.bar;
    if bar.colors.is_empty() {
        return;
    }
    let (wide, top) = (240.0, drawing.height + 4.0);
    let each = wide / bar.colors.len() as f64;
    for (i, color) in bar.colors.iter().enumerate() {
        drawing.rect([left + each * i as f64, top, each + 0.3, 10.0], *color, 1.0);
    }
    let [low, high] = bar.range;
    let ends = [(0.0, Anchor::Start, low), (0.5, Anchor::Middle, 0.5 * (low + high)), (1.0, Anchor::End, high)];
    for (share, anchor, value) in ends {
        drawing.text([left + wide * share, top + 22.0], anchor, MUTED, format::significant(value, 3));
    }
    let room = drawing.width - MARGIN - left - wide - 12.0;
    drawing.text([left + wide + 12.0, top + 9.0], Anchor::Start, MUTED, fitted(&bar.name, SMALL, room));
    drawing.height = top + 28.0;
}
