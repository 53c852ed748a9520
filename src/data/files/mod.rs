//! Files people have, opened by what is in them: text of any usual encoding, packed or not, and the binary formats of tables
//! (Parquet, Arrow, sheets), whose rows come as JSON objects, a chunk at a time.

mod arrow;
pub(super) mod encoding;
mod parquet;
mod sheet;
pub(super) mod unpack;

use crate::config::{FileFormat, choice_name};
use crate::error::{Error, Result};
use encoding::decoded;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file holds.
#[derive(Clone, Debug)]
pub(super) enum Contents {
    /// Text in UTF-8 (perhaps with a byte order mark), and how it was stored, in words.
    Text(Cow<'static, [u8]>, String),
    /// Rows of a binary format.
    Records(Records),
}

/// The rows of a binary file.
#[derive(Clone, Debug)]
pub(super) struct Records {
    pub format: FileFormat,
    /// How the file is stored, in words.
    pub stored: String,
    /// Names of the columns in order.
    pub columns: Vec<String>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Parquet(PathBuf),
    Arrow(PathBuf),
    Sheet(Arc<sheet::Rows>),
}

/// What is called with each row: its number from 1 (that of the sheet's row, of a sheet), and its cells.
pub(super) type RowVisitor<'a> = dyn FnMut(usize, Map<String, Value>) -> Result<ControlFlow<()>> + 'a;

/// Opens a file. `what` is what the caller is doing, for messages; `header`: whether the first row of a sheet names the
/// columns.
pub(super) fn open(path: &Path, what: &str, given: FileFormat, header: bool) -> Result<Contents> {
    let start = File::open(path).and_then(|mut file| unpack::first_bytes(&mut file));
    let start = start.map_err(|err| Error::io(what, path, err))?;
    let found = match start.as_slice() {
        [b'P', b'A', b'R', b'1', ..] => Some(FileFormat::Parquet),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Some(FileFormat::Arrow),
        [b'F', b'E', b'A', b'1', ..] => {
            return Err(Error::data(format!(
                "the file is Feather of version 1, which was given up; save it as Feather 2 or Parquet: {}",
                path.display()
            )));
        }
        // A stream begins with its schema; older ones without the four bytes ahead.
        [0xff, 0xff, 0xff, 0xff, ..] if arrow::is_stream(path) => Some(FileFormat::Arrow),
        [b'P', b'K', 3, 4, ..] | [0xd0, 0xcf, 0x11, 0xe0, ..] if sheet::is_one(path) => Some(FileFormat::Sheet),
        _ => None,
    };
    let binary = [FileFormat::Parquet, FileFormat::Arrow, FileFormat::Sheet];
    if binary.contains(&given) && found != Some(given) {
        return Err(Error::data(format!(
            "data.format is {}, and the file is none; leave data.format at auto: {}",
            choice_name(given),
            path.display()
        )));
    }
    match found {
        Some(FileFormat::Parquet) => parquet::open(path).map(Contents::Records),
        Some(FileFormat::Arrow) => arrow::open(path).map(Contents::Records),
        Some(_) => sheet::open(path, header).map(Contents::Records),
        None => {
            let (bytes, packing) = unpack::read(path, what)?;
            let (text, encoding) = decoded(&path.display().to_string(), Cow::Owned(bytes))?;
            let stored =
                packing.map_or_else(|| encoding.clone(), |packing| format!("{encoding}, packed with {packing}"));
            Ok(Contents::Text(text, stored))
        }
    }
}

impl Records {
    /// Calls `visit` with every row, until it returns an error or `Break`.
    pub(super) fn visit(&self, visit: &mut RowVisitor<'_>) -> Result<()> {
        match &self.source {
            Source::Parquet(path) => parquet::visit(path, visit),
            Source::Arrow(path) => arrow::visit(path, visit),
            Source::Sheet(rows) => rows.visit(&self.columns, visit),
        }
    }

    /// The first rows.
    pub(super) fn first(&self, most: usize) -> Result<Vec<Map<String, Value>>> {
        let mut found = Vec::new();
        self.visit(&mut |_, row| {
            found.push(row);
            Ok(if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }
}

/// A broken binary file.
fn broken(path: &Path, what: &str, err: &dyn std::error::Error) -> Error {
    Error::data(format!("the {what} file cannot be read ({err}): {}", path.display()))
}
