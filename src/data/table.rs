//! Files cut into cells: TSV (never quoted), CSV (quoted) and JSON lines. Each record comes with its line number, or
//! with the reason why it cannot be read.

use crate::config::FileFormat;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

/// A file in memory, its layout settled and its columns found.
#[derive(Clone, Debug)]
pub struct Table {
    /// The file's path, for messages.
    pub name: String,
    /// How it is laid out, never by its ending any more.
    pub format: FileFormat,
    delimiter: u8,
    header: bool,
    /// How its characters are stored, in words.
    pub encoding: &'static str,
    /// Names of the columns in order; `0`, `1`, ... without a header; the keys of the first object for JSON lines.
    pub columns: Vec<String>,
    bytes: Cow<'static, [u8]>,
}

/// The argument of the visitor of [`Table::visit`]: the wanted cells in order, or why the record cannot be read.
pub type Cells<'a> = std::result::Result<Vec<Cow<'a, str>>, String>;

pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

impl Table {
    /// Reads a file. `header` says whether the first line of a TSV or CSV file names the columns.
    pub fn open(path: &Path, format: FileFormat, header: bool) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|err| Error::io("reading the data", path, err))?;
        let name = path.display().to_string();
        Self::from_bytes(&name, Cow::Owned(bytes), settle(path, format, &name)?, header)
    }

    /// As [`Table::open`] for bytes that are already there; `name` stands for the file in messages, and `Auto` means TSV.
    pub fn from_bytes(name: &str, bytes: Cow<'static, [u8]>, format: FileFormat, header: bool) -> Result<Self> {
        let (bytes, encoding) = decoded(name, bytes)?;
        let mut table =
            Self { name: name.to_owned(), format, delimiter: b'\t', header, encoding, columns: Vec::new(), bytes };
        if table.body().trim_ascii().is_empty() {
            return Err(Error::data(format!("the file is empty; choose a file with rows: {name}")));
        }
        if format == FileFormat::Csv {
            table.delimiter = sniff_delimiter(table.body());
        }
        table.columns = table.find_columns()?;
        Ok(table)
    }

    /// What stands between two cells; absent for JSON lines.
    pub fn delimiter(&self) -> Option<char> {
        (self.format != FileFormat::Jsonl).then_some(char::from(self.delimiter))
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
        let hint = if self.header && self.format != FileFormat::Jsonl {
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
        if self.format == FileFormat::Csv {
            return self.visit_csv(wanted, &mut visit);
        }
        let json = self.format == FileFormat::Jsonl;
        for (line, bytes) in lines(self.body()).skip(usize::from(self.header && !json)) {
            let cells = if json {
                json_cells(bytes, &self.columns, wanted)
            } else {
                let cells: Vec<&[u8]> = bytes.split(|&byte| byte == b'\t').collect();
                cells_of(&cells, self.columns.len(), wanted)
            };
            if visit(line, cells)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn visit_csv(
        &self,
        wanted: &[usize],
        visit: &mut dyn FnMut(usize, Cells<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut reader = self.csv_reader(self.header);
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|err| self.broken(&err.to_string()))? {
            let line = record.position().map_or(0, |position| position.line() as usize);
            if visit(line, cells_of(&record.iter().collect::<Vec<_>>(), self.columns.len(), wanted))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn csv_reader(&self, header: bool) -> csv::Reader<&[u8]> {
        csv::ReaderBuilder::new().has_headers(header).flexible(true).delimiter(self.delimiter).from_reader(self.body())
    }

    fn body(&self) -> &[u8] {
        self.bytes.strip_prefix(BOM).unwrap_or(&self.bytes)
    }

    fn broken(&self, reason: &str) -> Error {
        Error::data(format!("the file cannot be read: {reason}: {}", self.name))
    }

    fn find_columns(&self) -> Result<Vec<String>> {
        let in_line = |line: usize, reason: String| Error::data(format!("line {line}: {reason}: {}", self.name));
        if self.format == FileFormat::Jsonl {
            let (line, bytes) = lines(self.body()).next().ok_or_else(|| self.broken("no row"))?;
            let object = json_object(bytes).map_err(|reason| in_line(line, reason))?;
            return Ok(object.keys().cloned().collect());
        }
        let owned = |cell: &[u8]| utf8(cell).map(Cow::into_owned).map_err(|reason| in_line(1, reason));
        let cells = if self.format == FileFormat::Csv {
            let mut record = csv::ByteRecord::new();
            self.csv_reader(false).read_byte_record(&mut record).map_err(|err| self.broken(&err.to_string()))?;
            record.iter().map(owned).collect::<Result<Vec<String>>>()?
        } else {
            let first = lines(self.body()).next().map(|(_, bytes)| bytes).unwrap_or_default();
            first.split(|&byte| byte == b'\t').map(owned).collect::<Result<Vec<String>>>()?
        };
        Ok(if self.header {
            cells.into_iter().map(|cell| cell.trim().to_owned()).collect()
        } else {
            (0..cells.len()).map(|index| index.to_string()).collect()
        })
    }

    /// Whether the first line holds one of these names as a cell: how a header is told from a first row.
    pub(super) fn first_line_names(path: &Path, format: FileFormat, names: &[&str]) -> Result<bool> {
        let table = Self::open(path, format, true)?;
        Ok(table.columns.iter().any(|column| names.contains(&column.as_str())))
    }
}

/// A few names for a message, shortened.
pub(super) fn list(names: &[String], most: usize) -> String {
    let mut text = names.iter().take(most).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > most {
        text.push_str(&format!(" and {} more", names.len() - most));
    }
    text
}

/// The layout from the file's ending, where it is not given.
fn settle(path: &Path, format: FileFormat, name: &str) -> Result<FileFormat> {
    if format != FileFormat::Auto {
        return Ok(format);
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "tsv" | "tab" | "txt" => Ok(FileFormat::Tsv),
        "csv" => Ok(FileFormat::Csv),
        "jsonl" | "ndjson" | "json" => Ok(FileFormat::Jsonl),
        _ => Err(Error::data(format!(
            "the ending {ending:?} does not tell how the file is laid out; set data.format to tsv, csv or jsonl: {name}"
        ))),
    }
}

/// The bytes as UTF-8, and how they were stored. UTF-16 is told by its byte order mark. Files that are plainly no text
/// are refused as a whole, with what they seem to be.
pub(super) fn decoded<'a>(name: &str, bytes: Cow<'a, [u8]>) -> Result<(Cow<'a, [u8]>, &'static str)> {
    let start = &bytes[..bytes.len().min(4096)];
    let what = match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32 text; save it as UTF-8",
        [0xff, 0xfe, ..] => return from_utf16(name, &bytes, u16::from_le_bytes, "UTF-16 (little endian)"),
        [0xfe, 0xff, ..] => return from_utf16(name, &bytes, u16::from_be_bytes, "UTF-16 (big endian)"),
        [b'P', b'K', 3, 4, ..] => "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
        [0x1f, 0x8b, ..] => "a gzip archive; unpack it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd archive; unpack it first",
        [b'P', b'A', b'R', b'1', ..] => "a Parquet file; convert it to CSV or JSON lines",
        _ if start.contains(&0) => {
            "not UTF-8 text (it holds zero bytes: UTF-16 without a byte order mark, or a binary file); save it as UTF-8"
        }
        _ if start.starts_with(BOM) => return Ok((bytes, "UTF-8 with a byte order mark")),
        _ => return Ok((bytes, "UTF-8")),
    };
    Err(Error::data(format!("the file is {what}: {name}")))
}

fn from_utf16<'a>(
    name: &str,
    bytes: &[u8],
    unit: fn([u8; 2]) -> u16,
    encoding: &'static str,
) -> Result<(Cow<'a, [u8]>, &'static str)> {
    let (pairs, rest) = bytes[2..].as_chunks::<2>();
    let text = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).collect::<std::result::Result<String, _>>();
    match text {
        Ok(text) if rest.is_empty() => Ok((Cow::Owned(text.into_bytes()), encoding)),
        _ => Err(Error::data(format!(
            "the file begins as UTF-16 text and is broken (half a character); save it anew, as UTF-8: {name}"
        ))),
    }
}

/// Lines with their numbers from 1, without line ends; empty ones are left out.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
}

/// The most frequent of comma, semicolon, tab and bar in the first line, outside quotes.
pub(super) fn sniff_delimiter(bytes: &[u8]) -> u8 {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut quoted = false;
    let mut counts = [(b',', 0u32), (b';', 0), (b'\t', 0), (b'|', 0)];
    for &byte in line {
        quoted ^= byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(delimiter, _)| !quoted && *delimiter == byte) {
            *count += 1;
        }
    }
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |&(delimiter, _)| delimiter)
}

pub(super) fn utf8(bytes: &[u8]) -> std::result::Result<Cow<'_, str>, String> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|err| {
        let byte = bytes.get(err.valid_up_to()).copied().unwrap_or_default();
        format!("not UTF-8 text (byte 0x{byte:02x}; probably Latin-1 or Windows-1252): save the file as UTF-8")
    })
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

fn json_object(line: &[u8]) -> std::result::Result<serde_json::Map<String, serde_json::Value>, String> {
    let text = utf8(line)?;
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Object(object)) => Ok(object),
        Ok(serde_json::Value::Array(_)) => {
            Err("a JSON array; write one object a line, without brackets around".to_owned())
        }
        Ok(_) => Err("not a JSON object; write one object a line".to_owned()),
        Err(_) if text.trim_start().starts_with('[') => {
            Err("the file is one JSON array; write one object a line, without brackets around".to_owned())
        }
        Err(err) => Err(format!("broken JSON ({err}); write one object a line")),
    }
}

fn json_cells<'a>(line: &[u8], columns: &[String], wanted: &[usize]) -> Cells<'a> {
    use serde_json::Value;
    let mut object = json_object(line)?;
    let cell = |&index: &usize| match object.get_mut(&columns[index]).map(Value::take) {
        Some(Value::String(text)) => Ok(Cow::Owned(text)),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Cow::Owned(value.to_string())),
        Some(Value::Null) | None => Err(format!("no value for {:?}", columns[index])),
        Some(_) => Err(format!("{:?} is a list or an object where text or a number was expected", columns[index])),
    };
    wanted.iter().map(cell).collect()
}
