//! What a figure is drawn with: lines, areas, discs and texts on a plane, in points from the upper left corner.

use super::Color;

/// Where a text is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// Something drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points.
    Line {
        /// At least two.
        points: Vec<[f64; 2]>,
        /// Its colour.
        color: Color,
        /// In points.
        width: f64,
        /// Lengths of dashes and gaps; 0: solid.
        dash: f64,
    },
    /// A filled polygon.
    Area {
        /// Its corners.
        points: Vec<[f64; 2]>,
        /// Its colour.
        color: Color,
        /// 0 to 1.
        opacity: f64,
    },
    /// A filled disc, or a ring.
    Disc {
        /// Its centre.
        at: [f64; 2],
        /// Its radius.
        radius: f64,
        /// Its colour.
        color: Color,
        /// Whether only its edge is drawn.
        ring: bool,
    },
    /// A line of text.
    Text {
        /// Its anchor, on the base line.
        at: [f64; 2],
        /// Which of its points that is.
        anchor: Anchor,
        /// Height of the letters.
        size: f64,
        /// Its colour.
        color: Color,
        /// Bold.
        strong: bool,
        /// Upwards instead of to the right.
        upright: bool,
        /// The words.
        text: String,
    },
}

/// What is drawn, on a white ground.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// In points.
    pub width: f64,
    /// In points.
    pub height: f64,
    /// From the back to the front.
    pub shapes: Vec<Shape>,
}

pub(super) const INK: Color = [0x22, 0x26, 0x2B];
pub(super) const MUTED: Color = [0x5C, 0x65, 0x70];
pub(super) const GRID: Color = [0xE1, 0xE5, 0xEA];
pub(super) const SMALL: f64 = 11.0;
/// Margin around everything.
pub(super) const MARGIN: f64 = 14.0;

impl Drawing {
    pub(super) fn line(&mut self, points: Vec<[f64; 2]>, color: Color, width: f64, dash: f64) {
        if points.len() > 1 {
            self.shapes.push(Shape::Line { points, color, width, dash });
        }
    }

    pub(super) fn rect(&mut self, [x, y, width, height]: [f64; 4], color: Color, opacity: f64) {
        let points = vec![[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
        self.shapes.push(Shape::Area { points, color, opacity });
    }

    pub(super) fn text(&mut self, at: [f64; 2], anchor: Anchor, color: Color, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.shapes.push(Shape::Text { at, anchor, size: SMALL, color, strong: false, upright: false, text });
        }
    }
}

/// Width of a text in points, roughly: the fonts that will draw it are not known here.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let width = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | 'I' | '(' | ')' | ' ' | 't' | 'f' | 'r' => 0.34,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.88,
        c if c.is_ascii_uppercase() => 0.68,
        c if c.is_ascii() => 0.57,
        // Chinese, Japanese, Korean are square.
        c if ('\u{1100}'..).contains(&c) => 1.0,
        _ => 0.6,
    };
    text.chars().map(width).sum::<f64>() * size
}

/// The text, or as much of its beginning as fits, with an ellipsis.
pub(super) fn fitted(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if text_width(&kept, size) > room - size {
            kept.pop();
            break;
        }
    }
    kept + "…"
}

/// A legend: a line or a square of each colour with its name, as many a row as there is room for.
pub(super) fn legend(drawing: &mut Drawing, entries: &[(String, Color, f64)]) {
    let right = drawing.width - MARGIN;
    let (mut x, mut y) = (MARGIN + 4.0, drawing.height + 10.0);
    for (name, color, dash) in entries {
        let name = fitted(name, SMALL, right - MARGIN - 30.0);
        let wide = 26.0 + text_width(&name, SMALL);
        if x + wide > right && x > MARGIN + 4.0 {
            (x, y) = (MARGIN + 4.0, y + 16.0);
        }
        drawing.line(vec![[x, y - 4.0], [x + 18.0, y - 4.0]], *color, 3.0, *dash);
        drawing.text([x + 23.0, y], Anchor::Start, INK, name);
        x += wide + 16.0;
    }
    if !entries.is_empty() {
        drawing.height = y + 8.0;
    }
}
