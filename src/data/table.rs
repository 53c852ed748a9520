//! Files cut into cells: TSV (never quoted), separated and quoted text, JSON in lines or arrays, and the rows of binary
//! formats. Each record comes with its line number (its row number, of a binary format), or with the reason why it cannot be
//! read.

use super::files::encoding::GUESSED;
use super::files::unpack::unpacked_name;
use super::files::{self, Contents, Records};
use super::json::{self, JsonLayout, NoObject};
use super::lines::{BOM, lines, list, sniff_delimiter, utf8};
use crate::config::FileFormat;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

/// Records whose keys are the columns of JSON: not every object has every key.
const LOOKED_AT: usize = 100;

/// A file whose layout is settled and whose columns are found.
#[derive(Clone, Debug)]
pub struct Table {
    /// The file's path, for messages.
    pub name: String,
    /// How it is laid out, never by its ending any more.
    pub format: FileFormat,
    delimiter: u8,
    header: bool,
    /// How it is stored, in words: the encoding of its characters, what it is packed with.
    pub encoding: String,
    /// Names of the columns in order; `0`, `1`, ... without a header; the keys of the first objects for JSON.
    pub columns: Vec<String>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Text(Cow<'static, [u8]>),
    Json(Cow<'static, [u8]>, JsonLayout),
    Records(Records),
}

/// The argument of the visitor of [`Table::visit`]: the wanted cells in order, or why the record cannot be read.
pub type Cells<'a> = std::result::Result<Vec<Cow<'a, str>>, String>;

impl Table {
    /// Reads a file. `header` says whether the first row names the columns (not of JSON, Parquet and Arrow).
    pub fn open(path: &Path, format: FileFormat, header: bool) -> Result<Self> {
        let name = path.display().to_string();
        match files::open(path, "reading the data", format, header)? {
            Contents::Text(text, encoding) => {
                let format = settle(&unpacked_name(path), format, &name)?;
                Self::of_text(&name, (text, encoding), format, header)
            }
            Contents::Records(records) => Ok(Self {
                name,
                format: records.format,
                delimiter: 0,
                header,
                encoding: records.stored.clone(),
                columns: records.columns.clone(),
                body: Body::Records(records),
            }),
        }
    }

    /// As [`Table::open`] for bytes that are already there; `name` stands for the file in messages, and `Auto` means TSV.
    pub fn from_bytes(name: &str, bytes: Cow<'static, [u8]>, format: FileFormat, header: bool) -> Result<Self> {
        let text = files::encoding::decoded(name, bytes)?;
        Self::of_text(name, text, format, header)
    }

    /// Of text in UTF-8, and how it was stored.
    fn of_text(
        name: &str,
        (text, encoding): (Cow<'static, [u8]>, String),
        format: FileFormat,
        header: bool,
    ) -> Result<Self> {
        let text = match text {
            Cow::Owned(mut text) if text.starts_with(BOM) => Cow::Owned(text.split_off(BOM.len())),
            Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(BOM).unwrap_or(text)),
            owned => owned,
        };
        if text.trim_ascii().is_empty() {
            return Err(Error::data(format!("the file is empty; choose a file with rows: {name}")));
        }
        let delimiter = if format == FileFormat::Csv { sniff_delimiter(&text) } else { b'\t' };
        let body = if format == FileFormat::Jsonl {
            // An object with a list of objects holds the rows and is none.
            let holds = |value: &Value| {
                value.as_array().is_some_and(|list| list.len() > 1 && list.iter().all(Value::is_object))
            };
            let layout = json::layout(&text, |object| !object.values().any(holds)).unwrap_or(JsonLayout::Lines);
            Body::Json(text, layout)
        } else {
            Body::Text(text)
        };
        let mut table = Self { name: name.to_owned(), format, delimiter, header, encoding, columns: Vec::new(), body };
        table.columns = table.find_columns()?;
        Ok(table)
    }

    /// What stands between two cells; absent where nothing does (JSON, binary formats).
    pub fn delimiter(&self) -> Option<char> {
        matches!(self.body, Body::Text(_)).then_some(char::from(self.delimiter))
    }

    /// How the file is laid out and stored, in words.
    pub fn describe(&self) -> String {
        let what = match (&self.body, self.format) {
            (Body::Records(_), _) => return self.encoding.clone(),
            (Body::Json(_, JsonLayout::Lines), _) => "JSON lines".to_owned(),
            (Body::Json(..), _) => "JSON objects".to_owned(),
            (Body::Text(_), FileFormat::Csv) => match self.delimiter {
                b',' => "CSV".to_owned(),
                b'\t' => "CSV separated by tabs".to_owned(),
                other => format!("CSV separated by {:?}", char::from(other)),
            },
            (Body::Text(_), _) => "TSV".to_owned(),
        };
        format!("{what}, {}", self.encoding)
    }

    /// Whether the encoding is a guess.
    pub(super) fn is_guessed(&self) -> bool {
        self.encoding.contains(GUESSED)
    }

    /// The position of a column given by name, or by number from 0.
    pub fn column(&self, wanted: &str) -> Result<usize> {
        let wanted = wanted.trim();
        let mut named = self.columns.iter().enumerate().filter(|(_, name)| name.as_str() == wanted);
        match (named.next(), named.next()) {
            (Some((index, _)), None) => return Ok(index),
            (Some(_), Some(_)) => {
                return Err(Error::data(format!(
                    "more than one column is called {wanted:?}; choose it by number: {}",
                    self.name
                )));
            }
            _ => {}
        }
        if let Some(index) = wanted.parse::<usize>().ok().filter(|&index| index < self.columns.len()) {
            return Ok(index);
        }
        let hint = if self.header && matches!(self.body, Body::Text(_)) {
            " (if these are not names but the first row, set data.header = false and choose columns by number)"
        } else {
            ""
        };
        Err(Error::data(format!(
            "there is no column {wanted:?}; choose one of {}{hint}: {}",
            list(&self.columns, 20),
            self.name
        )))
    }

    /// Calls `visit` with the line number (from 1) and the cells of `wanted` columns of each record, until it returns an
    /// error or `Break`. Empty lines are passed over.
    pub fn visit(
        &self,
        wanted: &[usize],
        mut visit: impl FnMut(usize, Cells<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        match &self.body {
            Body::Text(text) if self.format == FileFormat::Csv => self.visit_csv(text, wanted, &mut visit),
            Body::Text(text) => {
                for (line, bytes) in lines(text).skip(usize::from(self.header)) {
                    let cells: Vec<&[u8]> = bytes.split(|&byte| byte == b'\t').collect();
                    if visit(line, cells_of(&cells, self.columns.len(), wanted))?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Body::Json(text, layout) => {
                let mut record = |line: usize, bytes: &[u8], element: bool| {
                    let object = json_object(bytes, element);
                    visit(line, object.and_then(|object| json_cells(object, &self.columns, wanted)))
                };
                match layout {
                    JsonLayout::Lines => {
                        for (line, bytes) in lines(text) {
                            if record(line, bytes, false)?.is_break() {
                                break;
                            }
                        }
                    }
                    JsonLayout::Elements(elements) => {
                        for element in elements {
                            if record(element.line, &text[element.bytes.clone()], true)?.is_break() {
                                break;
                            }
                        }
                    }
                }
                Ok(())
            }
            Body::Records(records) => {
                records.visit(&mut |number, row| visit(number, json_cells(row, &self.columns, wanted)))
            }
        }
    }

    fn visit_csv(
        &self,
        text: &[u8],
        wanted: &[usize],
        visit: &mut dyn FnMut(usize, Cells<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut reader = self.csv_reader(text, self.header);
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|err| self.broken(&err.to_string()))? {
            let line = record.position().map_or(0, |position| position.line() as usize);
            if visit(line, cells_of(&record.iter().collect::<Vec<_>>(), self.columns.len(), wanted))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn csv_reader<'a>(&self, text: &'a [u8], header: bool) -> csv::Reader<&'a [u8]> {
        csv::ReaderBuilder::new().has_headers(header).flexible(true).delimiter(self.delimiter).from_reader(text)
    }

    fn broken(&self, reason: &str) -> Error {
        Error::data(format!("the file cannot be read: {reason}: {}", self.name))
    }

    fn find_columns(&self) -> Result<Vec<String>> {
        let in_line = |line: usize, reason: String| Error::data(format!("line {line}: {reason}: {}", self.name));
        let owned = |cell: &[u8]| utf8(cell).map(Cow::into_owned).map_err(|reason| in_line(1, reason));
        let cells = match &self.body {
            Body::Records(records) => return Ok(records.columns.clone()),
            Body::Json(text, JsonLayout::Lines) => {
                return self.keys(lines(text).map(|(line, bytes)| (line, json_object(bytes, false))));
            }
            Body::Json(text, JsonLayout::Elements(elements)) => {
                let parsed = |bytes| json_object(bytes, true);
                return self.keys(elements.iter().map(|one| (one.line, parsed(&text[one.bytes.clone()]))));
            }
            Body::Text(text) if self.format == FileFormat::Csv => {
                let mut record = csv::ByteRecord::new();
                let mut reader = self.csv_reader(text, false);
                reader.read_byte_record(&mut record).map_err(|err| self.broken(&err.to_string()))?;
                record.iter().map(owned).collect::<Result<Vec<String>>>()?
            }
            Body::Text(text) => {
                let first = lines(text).next().map(|(_, bytes)| bytes).unwrap_or_default();
                first.split(|&byte| byte == b'\t').map(owned).collect::<Result<Vec<String>>>()?
            }
        };
        Ok(if self.header {
            cells.into_iter().map(|cell| cell.trim().to_owned()).collect()
        } else {
            (0..cells.len()).map(|index| index.to_string()).collect()
        })
    }

    /// The keys of the first objects, in the order in which they come up.
    fn keys(
        &self,
        objects: impl Iterator<Item = (usize, std::result::Result<Map<String, Value>, String>)>,
    ) -> Result<Vec<String>> {
        let (mut names, mut seen, mut first) = (Vec::new(), BTreeSet::new(), None);
        for (line, object) in objects.take(LOOKED_AT) {
            match object {
                Ok(object) => {
                    names.extend(object.into_iter().map(|(key, _)| key).filter(|key| seen.insert(key.clone())));
                }
                Err(reason) => first = first.or(Some((line, reason))),
            }
        }
        if names.is_empty() {
            return Err(match first {
                Some((line, reason)) => Error::data(format!("line {line}: {reason}: {}", self.name)),
                None => Error::data(format!("there are no rows with columns; choose another file: {}", self.name)),
            });
        }
        Ok(names)
    }

    /// Whether the first line holds one of these names as a cell: how a header is told from a first row.
    pub(super) fn first_line_names(path: &Path, format: FileFormat, names: &[&str]) -> Result<bool> {
        let table = Self::open(path, format, true)?;
        Ok(table.columns.iter().any(|column| names.contains(&column.as_str())))
    }
}

/// The layout from the file's ending, where it is not given.
fn settle(path: &Path, format: FileFormat, name: &str) -> Result<FileFormat> {
    if format != FileFormat::Auto {
        return Ok(format);
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "tsv" | "tab" | "txt" => Ok(FileFormat::Tsv),
        "csv" | "psv" | "ssv" => Ok(FileFormat::Csv),
        "jsonl" | "ndjson" | "json" => Ok(FileFormat::Jsonl),
        _ => Err(Error::data(format!(
            "the ending {ending:?} does not tell how the file is laid out; set data.format to tsv, csv or jsonl (or save it as Parquet, Arrow or a sheet, which are known by their contents): {name}"
        ))),
    }
}

/// The wanted ones of a record's cells.
fn cells_of<'a>(cells: &[&'a [u8]], columns: usize, wanted: &[usize]) -> Cells<'a> {
    if cells.len() != columns {
        let s = if cells.len() == 1 { "" } else { "s" };
        let spread = cells.iter().any(|cell| cell.contains(&b'\n'));
        let hint = if spread { " (a cell spans several lines: perhaps a quote is not closed)" } else { "" };
        return Err(format!("{} column{s} where {columns} were expected{hint}", cells.len()));
    }
    wanted.iter().map(|&index| utf8(cells[index])).collect()
}

fn json_object(bytes: &[u8], element: bool) -> std::result::Result<Map<String, Value>, String> {
    json::object_of(&utf8(bytes)?).map_err(|why| match why {
        NoObject::Other if element => "not a JSON object".to_owned(),
        NoObject::Other => "not a JSON object; write one object a line".to_owned(),
        NoObject::Broken(err) if element => format!("broken JSON ({err}, counted from the start of the row)"),
        NoObject::Broken(err) => format!("broken JSON ({err}); write one object a line"),
    })
}

fn json_cells(mut object: Map<String, Value>, columns: &[String], wanted: &[usize]) -> Cells<'static> {
    let cell = |&index: &usize| match object.get_mut(&columns[index]).map(Value::take) {
        Some(Value::String(text)) => Ok(Cow::Owned(text)),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Cow::Owned(value.to_string())),
        Some(Value::Null) | None => Err(format!("no value for {:?}", columns[index])),
        Some(_) => Err(format!("{:?} is a list or an object where text or a number was expected", columns[index])),
    };
    wanted.iter().map(cell).collect()
}
