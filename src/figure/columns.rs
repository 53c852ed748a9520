//! Grouped columns.

use super::drawing::{Anchor, Drawing, MARGIN, MUTED, SMALL, fitted, legend, text_width};
use super::lines::{Scale, y_axis};
use super::{Columns, Table};

impl Columns {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(["group"].into_iter().chain(self.series.iter().map(|(name, ..)| name.as_str())));
        for (i, group) in self.groups.iter().enumerate() {
            let values = self.series.iter().map(|(.., values)| values.get(i).copied().into());
            table.push(std::iter::once(group.as_str().into()).chain(values));
        }
        table
    }
}

pub(super) fn draw(drawing: &mut Drawing, columns: &Columns) {
    if columns.series.len() > 1 {
        let entries: Vec<_> = columns.series.iter().map(|(name, color, _)| (name.clone(), *color, 0.0)).collect();
        legend(drawing, &entries);
    }
    let name_room = if columns.y.name.is_empty() { 0.0 } else { 18.0 };
    let (left, right) = (MARGIN + name_room + 48.0, drawing.width - MARGIN);
    let top = drawing.height + 8.0;
    let bottom = top + 200.0;
    let values = columns.series.iter().flat_map(|(.., values)| values).copied();
    let y = Scale::new(&columns.y, values.chain([0.0]), [bottom, top], 0.05);
    y_axis(drawing, [left, top, right, bottom], &columns.y, &y);
    drawing.line(vec![[left, bottom], [right, bottom]], MUTED, 1.0, 0.0);
    let pitch = (right - left) / columns.groups.len().max(1) as f64;
    let widest = columns.groups.iter().map(|name| text_width(name, SMALL)).fold(20.0, f64::max).min(110.0);
    let every = (widest / pitch).ceil().max(1.0) as usize;
    for (i, group) in columns.groups.iter().enumerate() {
        let width = (0.8 * pitch / columns.series.len().max(1) as f64).clamp(0.5, 30.0);
        let start = left + pitch * i as f64 + 0.5 * (pitch - width * columns.series.len() as f64);
        for (k, (_, color, values)) in columns.series.iter().enumerate() {
            let Some(high) = values.get(i).and_then(|&value| y.at(value)) else { continue };
            drawing.rect([start + width * k as f64, high, 0.94 * width, bottom - high], *color, 1.0);
        }
        if i.is_multiple_of(every) {
            let at = [left + pitch * (i as f64 + 0.5), bottom + 15.0];
            drawing.text(at, Anchor::Middle, MUTED, fitted(group, SMALL, pitch * every as f64));
        }
    }
    drawing.height = bottom + 22.0;
}
