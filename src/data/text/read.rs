//! Text files to examples.

use super::convert;
use super::example::{Example, Role, Turn};
use super::recognise::{FileLayout, Recognised, recognise};
use super::triples;
use crate::config::{BadRows, FileFormat, TextConfig, TextFormat};
use crate::data::rows::Refusals;
use crate::data::table::{BOM, decoded, lines, utf8};
use crate::data::{SkippedRow, Table};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

/// A plain text file is read in pieces of about so many bytes, cut at empty lines: what can be held out and shuffled.
const PIECE: usize = 2000;

/// The examples of a file.
#[derive(Clone, Debug)]
pub struct Examples {
    /// In the order of the file.
    pub examples: Vec<Example>,
    /// What they are; never [`TextFormat::Auto`].
    pub format: TextFormat,
    /// The file, for messages.
    pub file: String,
}

/// Reads a text file, and lists the rows that were left out (only where `bad_rows` allows it).
pub fn read(path: &Path, text: &TextConfig, bad_rows: BadRows) -> Result<(Examples, Vec<SkippedRow>)> {
    let mut refusals = Refusals { mode: bad_rows, skipped: Vec::new() };
    let examples = read_file(path, FileFormat::Auto, text, &mut refusals)?;
    Ok((examples, refusals.skipped))
}

/// As [`read`], with the rows' layout given and the refusals collected.
pub(super) fn read_file(
    path: &Path,
    layout: FileFormat,
    text: &TextConfig,
    refusals: &mut Refusals,
) -> Result<Examples> {
    let bytes = std::fs::read(path).map_err(|err| Error::io("reading the texts", path, err))?;
    from_bytes(&path.display().to_string(), &bytes, layout, text, refusals)
}

/// As [`read_file`] for bytes that are already there; `name` stands for the file in messages.
pub(super) fn from_bytes(
    name: &str,
    bytes: &[u8],
    layout: FileFormat,
    text: &TextConfig,
    refusals: &mut Refusals,
) -> Result<Examples> {
    let (bytes, _) = decoded(name, Cow::Borrowed(bytes))?;
    let body = bytes.strip_prefix(BOM).unwrap_or(&bytes);
    if body.trim_ascii().is_empty() {
        return Err(Error::data(format!("the file is empty; choose a file with texts: {name}")));
    }
    let Recognised { layout, format } = recognise(name, body, layout, text)?;
    let mut examples = Vec::new();
    let mut add = |line, found: std::result::Result<Vec<Example>, String>| match found {
        Ok(found) => {
            examples.extend(found);
            Ok(())
        }
        Err(reason) => refusals.bad(name, line, reason),
    };
    let mut entry = 0;
    let mut record = |line, object: std::result::Result<Map<String, Value>, String>| {
        entry += 1;
        object.and_then(|object| convert::examples(format, &object, text, entry, line))
    };
    match layout {
        FileLayout::JsonArray(elements) => {
            for element in elements {
                add(element.line, record(element.line, json(&body[element.bytes], true)))?;
            }
        }
        FileLayout::JsonLines => {
            for (line, bytes) in lines(body) {
                add(line, record(line, json(bytes, false)))?;
            }
        }
        FileLayout::Table(format) => {
            let table = Table::from_bytes(name, Cow::Owned(body.to_vec()), format, true)?;
            let all: Vec<usize> = (0..table.columns.len()).collect();
            table.visit(&all, |line, cells| {
                let object = cells.map(|cells| {
                    let cells = cells.into_iter().map(|cell| Value::from(cell.into_owned()));
                    table.columns.iter().cloned().zip(cells).collect()
                });
                add(line, record(line, object)).map(ControlFlow::Continue)
            })?;
        }
        FileLayout::Piped if format == TextFormat::E2e => {
            for (line, bytes) in lines(body) {
                let pair = utf8(bytes).and_then(|text| {
                    let (mr, reference) = triples::piped(&text)?;
                    Ok(vec![Example::pair(triples::meaning(mr)?, reference, line)])
                });
                add(line, pair)?;
            }
        }
        FileLayout::Piped | FileLayout::Text => examples = plain(name, body)?,
    }
    if examples.is_empty() {
        return Err(refusals.no_rows(name, "there are no rows"));
    }
    Ok(Examples { examples, format, file: name.to_owned() })
}

fn json(bytes: &[u8], element: bool) -> std::result::Result<Map<String, Value>, String> {
    match serde_json::from_str(&utf8(bytes)?) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(err) if element => Err(format!("broken JSON ({err}, counted from the start of the row)")),
        Err(err) => Err(format!("broken JSON ({err}); write one object a line")),
    }
}

/// A text in pieces cut at empty lines. Only the last piece ends.
fn plain(file: &str, body: &[u8]) -> Result<Vec<Example>> {
    let text = match utf8(body) {
        Ok(text) => text.replace("\r\n", "\n"),
        Err(reason) => {
            let valid = std::str::from_utf8(body).err().map_or(0, |err| err.valid_up_to());
            let line = 1 + body[..valid].iter().filter(|&&byte| byte == b'\n').count();
            // There is no row to skip: the file is one text.
            return Err(Error::data(format!("line {line}: {reason}: {file}")));
        }
    };
    let (mut start, mut line, mut examples) = (0, 1, Vec::new());
    for end in paragraph_ends(&text) {
        if end - start >= PIECE || end == text.len() {
            let piece = &text[start..end];
            if !piece.trim().is_empty() {
                let turn = Turn::new(Role::Assistant, piece);
                examples.push(Example { ends: false, ..Example::new(vec![turn], line) });
            }
            line += piece.matches('\n').count();
            start = end;
        }
    }
    if let Some(last) = examples.last_mut() {
        last.ends = true;
        for turn in &mut last.turns {
            turn.text.truncate(turn.text.trim_end().len());
        }
    }
    Ok(examples)
}

/// Where a paragraph ends: after its empty lines; and the end of the text.
fn paragraph_ends(text: &str) -> impl Iterator<Item = usize> {
    let mut at = 0;
    let mut blank = false;
    let ends = text.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        let after_blank = std::mem::replace(&mut blank, line.trim().is_empty());
        (after_blank && !line.trim().is_empty()).then_some(start)
    });
    ends.chain(std::iter::once(text.len()))
}
