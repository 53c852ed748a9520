//! Pictures and tables of data as plain values, and what they are written as: SVG, PNG, CSV.
//!
//! A [`Figure`] says what is shown (curves, scores, columns, cells, a table), never where a line lies. [`layout`] makes
//! lines, areas and texts of it, which [`svg`] and `png` (with the window) write down. Figures are for paper and for other programs:
//! they have a light background whatever the window has. [`Table`] keeps every digit.

pub mod drawing;
pub mod layout;
#[cfg(feature = "gui")]
pub mod png;
pub mod svg;
pub mod table;
pub mod ticks;

mod cells;
mod columns;
mod lines;
mod map;
mod scores;

pub use table::{Cell, Table};

/// Red, green and blue, 0 to 255.
pub type Color = [u8; 3];

/// Colours of curves on a light background, in order: those of the window (Okabe and Ito, safe for colour blindness).
pub const SERIES: [Color; 8] = [
    [0x00, 0x72, 0xB2],
    [0xD5, 0x5E, 0x00],
    [0x00, 0x9E, 0x73],
    [0xB0, 0x57, 0x8B],
    [0xC9, 0x86, 0x00],
    [0x3A, 0x9B, 0xD0],
    [0x8A, 0x7E, 0x00],
    [0x55, 0x55, 0x55],
];

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Above it; may be empty.
    pub title: String,
    /// A sentence below it; may be empty.
    pub note: String,
    /// Width in points (1/96 inch); the height follows from the contents, but for curves, whose height is half of it.
    pub width: f64,
    /// What is shown.
    pub content: Content,
}

/// What a [`Figure`] shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Curves over a number.
    Lines(Lines),
    /// Named scores on one axis.
    Scores(Scores),
    /// Grouped columns.
    Columns(Columns),
    /// A coloured matrix.
    Cells(Cells),
    /// A coloured field over two numbers.
    Map(Map),
    /// A table of texts and numbers.
    Table(Table),
}

/// Width of a figure unless something else is said.
pub const WIDTH: f64 = 720.0;

impl Figure {
    /// A figure of the usual width, without a note.
    pub fn new(title: impl Into<String>, content: Content) -> Self {
        Self { title: title.into(), note: String::new(), width: WIDTH, content }
    }

    /// Its values as a table: those that are drawn.
    pub fn table(&self) -> Table {
        match &self.content {
            Content::Lines(lines) => lines.table(),
            Content::Scores(scores) => scores.table(),
            Content::Columns(columns) => columns.table(),
            Content::Cells(cells) => cells.table(),
            Content::Map(map) => map.table(),
            Content::Table(table) => table.clone(),
        }
    }
}

/// An axis of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// Name and unit.
    pub name: String,
    /// Logarithmic; values at or below 0 are left out.
    pub log: bool,
    /// Ends; absent: those of the values.
    pub range: Option<[f64; 2]>,
    /// Smallest and largest value that there can be; the axis ends there. Absent: any.
    pub limits: Option<[f64; 2]>,
}

/// Curves over a number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The curves, in the order of the legend.
    pub curves: Vec<Curve>,
    /// Events, drawn as upright lines with their names.
    pub marks: Vec<Mark>,
}

/// One curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// `[x, y]`, x ascending. Values that are not finite are left out.
    pub points: Vec<[f64; 2]>,
    /// A band around it: `[x, low, high]`.
    pub band: Vec<[f64; 3]>,
    /// A dot at each point.
    pub dots: bool,
    /// Dashed instead of solid.
    pub dashed: bool,
    /// Wider than the others.
    pub strong: bool,
}

/// An event at an x.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// What happened.
    pub name: String,
    /// Its colour.
    pub color: Color,
}

/// Named scores on one axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The axis.
    pub axis: Axis,
    /// One line each.
    pub entries: Vec<Score>,
    /// An upright line across all entries, with its name.
    pub reference: Option<(f64, String)>,
}

/// One named score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Its name, left of the axis.
    pub name: String,
    /// The score; not finite: none is drawn.
    pub value: f64,
    /// A range around it, drawn as a band.
    pub band: Option<[f64; 2]>,
    /// Single values, drawn as rings.
    pub singles: Vec<f64>,
    /// Half the length of a whisker.
    pub error: Option<f64>,
    /// Ends of a whisker of its own.
    pub interval: Option<[f64; 2]>,
    /// Its colour.
    pub color: Color,
}

/// Grouped columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Upwards, from 0.
    pub y: Axis,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// Name, colour, and a value (not negative) for each group.
    pub series: Vec<(String, Color, Vec<f64>)>,
}

/// A coloured matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cells {
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// `[rows][columns]`: value and colour.
    pub cells: Vec<Vec<(f64, Color)>>,
    /// What colours mean, where they stand for names.
    pub keys: Vec<(String, Color)>,
}

/// A coloured field over two numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    /// To the right; its range is that of the field.
    pub x: Axis,
    /// Upwards; its range is that of the field.
    pub y: Axis,
    /// Whether y grows downwards, as rows of a matrix do.
    pub downwards: bool,
    /// Whether both axes have the same scale.
    pub equal: bool,
    /// Places of the columns.
    pub columns: Vec<f64>,
    /// Places of the rows, from the top.
    pub rows: Vec<f64>,
    /// `[rows][columns]`: value and colour.
    pub cells: Vec<Vec<(f64, Color)>>,
    /// Contours and paths.
    pub lines: Vec<MapLine>,
    /// Name, place and colour of each marked point.
    pub marks: Vec<(String, [f64; 2], Color)>,
    /// What the colours say.
    pub bar: ColorBar,
}

/// A line on a [`Map`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapLine {
    /// `[x, y]` along it.
    pub points: Vec<[f64; 2]>,
    /// Its colour.
    pub color: Color,
    /// Wider than the others.
    pub strong: bool,
    /// Dashed instead of solid.
    pub dashed: bool,
}

/// What colours say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColorBar {
    /// What is measured, with its unit.
    pub name: String,
    /// Values of the first and the last colour.
    pub range: [f64; 2],
    /// From the lowest to the highest value.
    pub colors: Vec<Color>,
}

#[cfg(test)]
mod tests;
