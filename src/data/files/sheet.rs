//! Excel and OpenDocument workbooks: the first sheet that has rows.

use super::{Records, RowVisitor, Source, broken};
use crate::config::FileFormat;
use crate::error::{Error, Result};
use calamine::{Data, Reader as _, Sheets, open_workbook_auto_from_rs};
use serde_json::{Map, Value, json};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

/// Largest workbook that is opened: its sheets are read into memory, where they are many times as large.
const MOST: u64 = 512 << 20;

/// The rows of a sheet with their numbers, empty ones left out.
#[derive(Debug)]
pub(super) struct Rows {
    rows: Vec<(usize, Vec<Value>)>,
}

impl Rows {
    pub(super) fn visit(&self, columns: &[String], visit: &mut RowVisitor<'_>) -> Result<()> {
        for (number, cells) in &self.rows {
            let object: Map<String, Value> = columns.iter().cloned().zip(cells.iter().cloned()).collect();
            if visit(*number, object)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn workbook(path: &Path) -> Result<Sheets<Cursor<Arc<[u8]>>>> {
    let failed = |err| Error::io("reading the data", path, err);
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MOST {
        return Err(Error::data(format!(
            "the workbook is larger than {} MB; save the sheet as CSV: {}",
            MOST >> 20,
            path.display()
        )));
    }
    let bytes: Arc<[u8]> = std::fs::read(path).map_err(failed)?.into();
    open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(|err| broken(path, "Excel or OpenDocument", &err))
}

/// Whether a zip archive (or a file of Microsoft's older container) is a workbook.
pub(super) fn is_one(path: &Path) -> bool {
    workbook(path).is_ok()
}

pub(super) fn open(path: &Path, header: bool) -> Result<Records> {
    let mut book = workbook(path)?;
    let names = book.sheet_names();
    for name in &names {
        let range = book.worksheet_range(name).map_err(|err| broken(path, "Excel or OpenDocument", &err))?;
        let top = range.start().map_or(0, |(row, _)| row as usize);
        let all = range.rows().enumerate().map(|(index, cells)| (top + index + 1, cells.iter().map(value).collect()));
        let mut rows: Vec<(usize, Vec<Value>)> =
            all.filter(|(_, cells): &(usize, Vec<Value>)| cells.iter().any(|cell| !cell.is_null())).collect();
        if rows.is_empty() {
            continue;
        }
        let width = rows.first().map_or(0, |(_, cells)| cells.len());
        let columns = if header { named(&rows.remove(0).1) } else { (0..width).map(|i| i.to_string()).collect() };
        let others = if names.len() > 1 { format!(" of {}", names.len()) } else { String::new() };
        let stored = format!("the sheet {name:?}{others} of a workbook");
        let source = Source::Sheet(Arc::new(Rows { rows }));
        return Ok(Records { format: FileFormat::Sheet, stored, columns, source });
    }
    Err(Error::data(format!("the workbook has no sheet with rows: {}", path.display())))
}

/// The names in the first row; a cell without one gets its number.
fn named(cells: &[Value]) -> Vec<String> {
    let name = |(index, cell): (usize, &Value)| match cell {
        Value::String(text) if !text.trim().is_empty() => text.trim().to_owned(),
        Value::Null | Value::String(_) => index.to_string(),
        other => other.to_string(),
    };
    cells.iter().enumerate().map(name).collect()
}

fn value(cell: &Data) -> Value {
    match cell {
        Data::Empty => Value::Null,
        Data::Int(number) => json!(number),
        // Sheets keep every number as a fraction.
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => json!(*number as i64),
        Data::Float(number) => json!(number),
        Data::Bool(yes) => json!(yes),
        Data::String(text) if text.trim().is_empty() => Value::Null,
        other => json!(other.to_string()),
    }
}
