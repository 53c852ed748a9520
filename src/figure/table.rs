//! Tables of texts and numbers, written with every digit.

use crate::format;

/// One cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// Nothing is known.
    #[default]
    Empty,
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<f32> for Cell {
    /// The shortest decimal number that is read back as the same `f32`.
    fn from(value: f32) -> Self {
        Self::Number(value.to_string().parse().unwrap_or(f64::from(value)))
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Number(value as f64)
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Number(value as f64)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

impl Cell {
    /// With every digit: the shortest text that is read back as the same number. Numbers that are not finite are
    /// `NaN`, `inf` and `-inf`.
    pub fn exact(&self) -> String {
        match self {
            Self::Empty => String::new(),
            // Without an exponent a small number would be a row of zeros.
            Self::Number(value) if *value != 0.0 && !(1e-4..1e16).contains(&value.abs()) && value.is_finite() => {
                format!("{value:e}")
            }
            Self::Number(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    /// For people: five significant digits.
    pub fn short(&self) -> String {
        match self {
            Self::Number(value) if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e15 => {
                let sign = if *value < 0.0 { "-" } else { "" };
                format!("{sign}{}", format::count(value.abs() as u64))
            }
            Self::Number(value) => format::significant(*value, 5),
            other => other.exact(),
        }
    }
}

/// A table: rows of cells under named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Each as long as [`Table::columns`].
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = row.into_iter().collect();
        row.resize(self.columns.len(), Cell::Empty);
        self.rows.push(row);
    }

    /// As CSV (RFC 4180, but with lines that end in `\n`): a cell with a comma, a quote or a new line is quoted.
    ///
    /// A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-` or `@`) gets an apostrophe in front.
    pub fn csv(&self) -> String {
        self.written(',')
    }

    /// As values separated by tabs: what spreadsheets take from the clipboard. Tabs and new lines in texts become spaces.
    pub fn tsv(&self) -> String {
        self.written('\t')
    }

    fn written(&self, separator: char) -> String {
        let mut text = String::new();
        let heads = self.columns.iter().map(|name| Cell::Text(name.clone()));
        let mut line = |cells: &mut dyn Iterator<Item = String>| {
            text.push_str(&cells.collect::<Vec<_>>().join(&separator.to_string()));
            text.push('\n');
        };
        line(&mut heads.map(|cell| field(&cell, separator)));
        for row in &self.rows {
            line(&mut row.iter().map(|cell| field(cell, separator)));
        }
        text
    }
}

fn field(cell: &Cell, separator: char) -> String {
    let mut text = cell.exact();
    if matches!(cell, Cell::Text(_)) && text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err() {
        text.insert(0, '\'');
    }
    if separator == '\t' {
        return text.replace(['\t', '\n', '\r'], " ");
    }
    if text.contains([separator, '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}
