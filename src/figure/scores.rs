//! Named scores on one axis.

use super::drawing::{Anchor, Drawing, INK, MARGIN, MUTED, SMALL, Shape, fitted, text_width};
use super::lines::{Scale, x_axis};
use super::{Cell, Scores, Table};
use crate::format;

const ROW: f64 = 22.0;
const VALUES: f64 = 62.0;

impl Scores {
    pub(super) fn table(&self) -> Table {
        let value = if self.axis.name.is_empty() { "value".to_owned() } else { self.axis.name.clone() };
        let mut table = Table::new([
            "name".to_owned(),
            value,
            "lowest".to_owned(),
            "highest".to_owned(),
            "standard error".to_owned(),
            "interval from".to_owned(),
            "interval to".to_owned(),
        ]);
        for entry in &self.entries {
            let band = entry.band;
            table.push([
                entry.name.as_str().into(),
                entry.value.into(),
                band.map(|b| b[0]).into(),
                band.map(|b| b[1]).into(),
                entry.error.into(),
                entry.interval.map(|ends| ends[0]).into(),
                entry.interval.map(|ends| ends[1]).into(),
            ]);
            for (i, single) in entry.singles.iter().enumerate() {
                table.push([format!("{} {}", entry.name, i + 1).into(), Cell::Number(*single)]);
            }
        }
        if let Some((value, name)) = &self.reference {
            table.push([name.as_str().into(), Cell::Number(*value)]);
        }
        table
    }
}

pub(super) fn draw(drawing: &mut Drawing, scores: &Scores) {
    let longest = scores.entries.iter().map(|e| text_width(&e.name, SMALL)).fold(40.0, f64::max);
    let names = longest.min(0.4 * drawing.width) + 12.0;
    let top = drawing.height + if scores.reference.is_some() { 18.0 } else { 4.0 };
    let (left, right) = (MARGIN + names, drawing.width - MARGIN - VALUES);
    let bottom = top + ROW * scores.entries.len() as f64 + 4.0;
    let values = scores.entries.iter().flat_map(|entry| {
        let error = entry.error.unwrap_or(0.0);
        let ends = entry.band.into_iter().flatten().chain(entry.singles.iter().copied());
        let ends = ends.chain(entry.interval.into_iter().flatten());
        ends.chain([entry.value - error, entry.value + error]).collect::<Vec<_>>()
    });
    let reference = scores.reference.iter().map(|(value, _)| *value);
    let x = Scale::new(&scores.axis, values.chain(reference), [left, right], 0.06);
    x_axis(drawing, [left, top, right, bottom], &scores.axis, &x);
    if let Some((value, name)) = &scores.reference
        && let Some(at) = x.at(*value)
    {
        drawing.line(vec![[at, top - 4.0], [at, bottom]], MUTED, 1.5, 4.0);
        let anchor = if at > 0.5 * (left + right) { Anchor::End } else { Anchor::Start };
        drawing.text([at, top - 7.0], anchor, MUTED, name.clone());
    }
    for (i, entry) in scores.entries.iter().enumerate() {
        let y = top + ROW * (i as f64 + 0.5) + 2.0;
        drawing.text([MARGIN, y + 4.0], Anchor::Start, INK, fitted(&entry.name, SMALL, names - 8.0));
        if let Some([low, high]) = entry.band.map(|band| band.map(|value| x.at(value)))
            && let (Some(low), Some(high)) = (low, high)
        {
            drawing.rect([low, y - 6.0, (high - low).max(1.0), 12.0], entry.color, 0.25);
        }
        for at in entry.singles.iter().filter_map(|&single| x.at(single)) {
            drawing.shapes.push(Shape::Disc { at: [at, y], radius: 2.5, color: entry.color, ring: true });
        }
        let Some(at) = x.at(entry.value) else { continue };
        let error = entry.error.map(|error| [entry.value - error, entry.value + error]);
        for [from, to] in [error, entry.interval].into_iter().flatten() {
            let (Some(a), Some(b)) = (x.at(from), x.at(to)) else { continue };
            drawing.line(vec![[a, y], [b, y]], INK, 1.5, 0.0);
            for end in [a, b] {
                drawing.line(vec![[end, y - 4.0], [end, y + 4.0]], INK, 1.5, 0.0);
            }
        }
        drawing.shapes.push(Shape::Disc { at: [at, y], radius: 4.5, color: entry.color, ring: false });
        drawing.text([drawing.width - MARGIN, y + 4.0], Anchor::End, INK, format::metric(entry.value));
    }
    drawing.height = bottom + if scores.axis.name.is_empty() { 20.0 } else { 38.0 };
}
