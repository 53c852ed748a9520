//! Rows of CSV and TSV files as objects, the way JSON files have them.

use crate::config::FileFormat;
use crate::data::Table;
use crate::error::Result;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::ControlFlow;

/// The names in the header.
pub(super) fn columns(name: &str, body: &[u8], format: FileFormat) -> Result<Vec<String>> {
    // The first line is enough, and a quoted cell with line ends in a header is nobody's.
    let end = body.iter().position(|&byte| byte == b'\n').map_or(body.len(), |at| at + 1);
    let table = Table::from_bytes(name, Cow::Owned(body[..end].to_vec()), format, true)?;
    Ok(table.columns().to_vec())
}

/// Calls `visit` with each row's line and its cells by column name, or with the reason why it cannot be read.
pub(super) fn visit(
    name: &str,
    body: Vec<u8>,
    format: FileFormat,
    visit: &mut dyn FnMut(usize, std::result::Result<Map<String, Value>, String>) -> Result<()>,
) -> Result<()> {
    let table = Table::from_bytes(name, Cow::Owned(body), format, true)?;
    let names = table.columns().to_vec();
    let all: Vec<usize> = (0..names.len()).collect();
    table.visit(&all, |line, cells| {
        let object = cells.map(|cells| {
            let cells = cells.into_iter().map(|cell| Value::from(cell.into_owned()));
            names.iter().cloned().zip(cells).collect()
        });
        visit(line, object).map(ControlFlow::Continue)
    })
}
