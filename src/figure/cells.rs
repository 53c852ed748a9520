//! A coloured matrix.

use super::drawing::{Anchor, Drawing, INK, MARGIN, MUTED, SMALL, fitted, text_width};
use super::{Cells, Color, Table};
use crate::format;

impl Cells {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new([""].into_iter().chain(self.columns.iter().map(String::as_str)));
        for (name, row) in self.rows.iter().zip(&self.cells) {
            table.push(std::iter::once(name.as_str().into()).chain(row.iter().map(|(value, _)| (*value).into())));
        }
        table
    }
}

/// Black or white, whichever reads better.
fn text_on([r, g, b]: Color) -> Color {
    let light = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if light > 140.0 { INK } else { [255; 3] }
}

pub(super) fn draw(drawing: &mut Drawing, cells: &Cells) {
    let longest = cells.rows.iter().map(|name| text_width(name, SMALL)).fold(20.0, f64::max);
    let names = longest.min(0.35 * drawing.width) + 10.0;
    let columns = cells.columns.len().max(1);
    let pitch = ((drawing.width - 2.0 * MARGIN - names) / columns as f64).min(64.0);
    let row_height = if cells.rows.len() > 80 { 8.0 } else { 18.0 };
    let mut at = MARGIN;
    for (name, color) in &cells.keys {
        drawing.rect([at, drawing.height + 2.0, 10.0, 10.0], *color, 1.0);
        drawing.text([at + 14.0, drawing.height + 11.0], Anchor::Start, MUTED, name.clone());
        at += 26.0 + text_width(name, SMALL);
    }
    let top = drawing.height + if cells.keys.is_empty() { 18.0 } else { 34.0 };
    let left = MARGIN + names;
    let every = (40.0 / pitch).ceil().max(1.0) as usize;
    for (k, name) in cells.columns.iter().enumerate().filter(|(k, _)| k.is_multiple_of(every)) {
        let at = [left + pitch * (k as f64 + 0.5), top - 5.0];
        drawing.text(at, Anchor::Middle, MUTED, fitted(name, SMALL, pitch * every as f64));
    }
    for (i, (name, row)) in cells.rows.iter().zip(&cells.cells).enumerate() {
        let y = top + row_height * i as f64;
        if row_height > SMALL {
            drawing.text([MARGIN, y + 13.0], Anchor::Start, INK, fitted(name, SMALL, names - 6.0));
        }
        for (k, (value, color)) in row.iter().enumerate() {
            let x = left + pitch * k as f64;
            drawing.rect([x, y, pitch - 0.5, row_height - 0.5], *color, 1.0);
            if pitch >= 40.0 && row_height > SMALL && value.is_finite() {
                let at = [x + 0.5 * pitch, y + 13.0];
                drawing.text(at, Anchor::Middle, text_on(*color), format::significant(*value, 3));
            }
        }
    }
    drawing.height = top + row_height * cells.rows.len() as f64 + 6.0;
}
