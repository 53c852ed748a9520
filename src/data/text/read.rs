//! Text files to examples.

use super::convert;
use super::dataset_info::DatasetInfo;
use super::example::{Example, Role, Turn};
use super::recognise::{Described, FileLayout, Recognised, of_records, recognise};
use super::threads;
use super::triples;
use crate::config::{BadRows, FileFormat, TextConfig, TextFormat};
use crate::data::file_sets;
use crate::data::files::encoding::{GUESSED, decoded};
use crate::data::files::{self, Contents, Records};
use crate::data::json::{JsonLayout, NoObject, object_of};
use crate::data::lines::{BOM, lines, utf8};
use crate::data::rows::Refusals;
use crate::data::{SkippedRow, Table};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

/// A plain text file is read in pieces of about so many bytes, cut at empty lines: what can be held out and shuffled.
const PIECE: usize = 2000;
/// No piece is made shorter than this on purpose.
const SHORTEST: usize = 200;

/// The examples of a file.
#[derive(Clone, Debug)]
pub struct Examples {
    /// In the order of the file.
    pub examples: Vec<Example>,
    /// What they are; never [`TextFormat::Auto`].
    pub format: TextFormat,
    /// The files, for messages; [`Example::file`] is the number of one.
    pub files: Vec<String>,
    /// How the file is laid out and stored, in words.
    pub stored: String,
}

impl Examples {
    /// The files in a few words.
    pub fn name(&self) -> String {
        file_sets::words(&self.files)
    }

    /// The file of an example.
    pub fn file_of(&self, example: &Example) -> &str {
        self.files.get(example.file).map_or("", String::as_str)
    }
}

/// Reads a text file, and lists the rows that were left out (only where `bad_rows` allows it).
pub fn read(path: &Path, text: &TextConfig, bad_rows: BadRows) -> Result<(Examples, Vec<SkippedRow>)> {
    let mut refusals = Refusals::new(bad_rows);
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
    let name = path.display().to_string();
    match files::open(path, "reading the texts", layout, true)? {
        Contents::Text(body, stored) => from_text(&name, (&body, &stored), layout, text, refusals),
        Contents::Records(records) => from_records(&name, &records, text, refusals),
    }
}

/// As [`read_file`] for bytes that are already there; `name` stands for the file in messages.
pub(super) fn from_bytes(
    name: &str,
    bytes: &[u8],
    layout: FileFormat,
    text: &TextConfig,
    refusals: &mut Refusals,
) -> Result<Examples> {
    let (bytes, stored) = decoded(name, Cow::Borrowed(bytes))?;
    from_text(name, (&bytes, &stored), layout, text, refusals)
}

/// Collects the examples of records.
struct Collector<'a> {
    name: &'a str,
    format: TextFormat,
    text: &'a TextConfig,
    info: Option<&'a DatasetInfo>,
    refusals: &'a mut Refusals,
    entry: usize,
    examples: Vec<Example>,
    /// Messages of trees, each with its line.
    messages: Vec<(usize, Map<String, Value>)>,
}

impl<'a> Collector<'a> {
    fn new(name: &'a str, format: TextFormat, (text, info): Described<'a>, refusals: &'a mut Refusals) -> Self {
        Self { name, format, text, info, refusals, entry: 0, examples: Vec::new(), messages: Vec::new() }
    }

    fn add(&mut self, line: usize, record: std::result::Result<Map<String, Value>, String>) -> Result<()> {
        self.entry += 1;
        let record = record.map(|record| match self.info {
            Some(info) => info.usual(record),
            None => record,
        });
        if let (TextFormat::Messages, Ok(record)) = (self.format, &record) {
            if threads::is_message(record) {
                self.messages.push((line, record.clone()));
                return Ok(());
            }
            if threads::is_tree(record) {
                self.examples.extend(threads::of_tree(record, line));
                return Ok(());
            }
        }
        let found = record.and_then(|record| convert::examples(self.format, &record, self.text, self.entry, line));
        match found {
            Ok(found) => {
                self.examples.extend(found.examples);
                found.notes.iter().for_each(|note| self.refusals.notes.row(self.name, line, note));
                Ok(())
            }
            Err(reason) => self.refusals.bad(self.name, line, reason),
        }
    }

    fn finish(mut self, stored: String) -> Result<Examples> {
        self.examples.extend(threads::of_messages(&self.messages));
        if self.examples.is_empty() {
            let words = self.refusals.notes.words();
            let empty = words.last().map_or("there are no rows", String::as_str);
            return Err(self.refusals.no_rows(self.name, empty));
        }
        if stored.contains(GUESSED) {
            self.refusals.notes.file(self.name, &format!("read as {stored}"));
        }
        Ok(Examples { examples: self.examples, format: self.format, files: vec![self.name.to_owned()], stored })
    }
}

/// What is said of the file's columns beside it, unless the settings name them.
fn described(name: &str, text: &TextConfig) -> Result<Option<DatasetInfo>> {
    if text.completion_column.is_empty() { DatasetInfo::beside(Path::new(name)) } else { Ok(None) }
}

fn from_records(name: &str, records: &Records, text: &TextConfig, refusals: &mut Refusals) -> Result<Examples> {
    let info = described(name, text)?;
    let format = of_records(name, records, (text, info.as_ref()))?;
    let mut all = Collector::new(name, format, (text, info.as_ref()), refusals);
    records.visit(&mut |number, row| all.add(number, Ok(row)).map(ControlFlow::Continue))?;
    all.finish(records.stored.clone())
}

fn from_text(
    name: &str,
    (body, stored): (&[u8], &str),
    layout: FileFormat,
    text: &TextConfig,
    refusals: &mut Refusals,
) -> Result<Examples> {
    let body = body.strip_prefix(BOM).unwrap_or(body);
    if body.trim_ascii().is_empty() {
        return Err(Error::data(format!("the file is empty; choose a file with texts: {name}")));
    }
    let info = described(name, text)?;
    let Recognised { layout, format } = recognise(name, body, layout, (text, info.as_ref()))?;
    let mut all = Collector::new(name, format, (text, info.as_ref()), refusals);
    let laid_out = match layout {
        FileLayout::Json(JsonLayout::Elements(elements)) => {
            for element in elements {
                all.add(element.line, json(&body[element.bytes], true))?;
            }
            "JSON objects".to_owned()
        }
        FileLayout::Json(JsonLayout::Lines) => {
            for (line, bytes) in lines(body) {
                all.add(line, json(bytes, false))?;
            }
            "JSON lines".to_owned()
        }
        FileLayout::Table(format) => {
            let table = Table::from_bytes(name, Cow::Owned(body.to_vec()), format, true)?;
            let columns: Vec<usize> = (0..table.columns.len()).collect();
            table.visit(&columns, |line, cells| {
                let object = cells.map(|cells| {
                    let cells = cells.into_iter().map(|cell| Value::from(cell.into_owned()));
                    table.columns.iter().cloned().zip(cells).collect()
                });
                all.add(line, object).map(ControlFlow::Continue)
            })?;
            let described = table.describe();
            described.split(", ").next().unwrap_or_default().to_owned()
        }
        FileLayout::Piped if format == TextFormat::E2e => {
            for (line, bytes) in lines(body) {
                let pair = utf8(bytes).and_then(|text| {
                    let (mr, reference) = triples::piped(&text)?;
                    Ok(Example::pair(triples::meaning(mr)?, reference, line))
                });
                match pair {
                    Ok(pair) => all.examples.push(pair),
                    Err(reason) => all.refusals.bad(name, line, reason)?,
                }
            }
            "lines mr||ref".to_owned()
        }
        FileLayout::Piped | FileLayout::Text => {
            all.examples = plain(name, body)?;
            "plain text".to_owned()
        }
    };
    all.finish(format!("{laid_out}, {stored}"))
}

fn json(bytes: &[u8], element: bool) -> std::result::Result<Map<String, Value>, String> {
    object_of(&utf8(bytes)?).map_err(|why| match why {
        NoObject::Other => "not a JSON object".to_owned(),
        NoObject::Broken(err) if element => format!("broken JSON ({err}, counted from the start of the row)"),
        NoObject::Broken(err) => format!("broken JSON ({err}); write one object a line"),
    })
}

/// A text in pieces cut at empty lines, or at line ends where paragraphs are long. Only the last piece ends.
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
    // A short text is cut too, so that some of it can be held out.
    let size = PIECE.min(text.len() / 2).max(SHORTEST);
    let (mut start, mut line, mut examples) = (0, 1, Vec::new());
    for end in cuts(&text, size) {
        if end - start >= size || end == text.len() {
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

/// Where a text may be cut: after the empty lines that end a paragraph; in a paragraph of more than twice `size` bytes also
/// after its lines, and in such a line after its words; and at the end of the text.
fn cuts(text: &str, size: usize) -> impl Iterator<Item = usize> {
    let mut start = 0;
    paragraph_ends(text).flat_map(move |end| {
        let from = std::mem::replace(&mut start, end);
        let mut inside = Vec::new();
        if end - from > 2 * size {
            let mut at = from;
            for line in text[from..end].split_inclusive('\n') {
                if line.len() > 2 * size {
                    let spaces = line.match_indices(' ').map(|(space, _)| at + space + 1);
                    inside.extend(spaces);
                }
                at += line.len();
                inside.push(at);
            }
            inside.pop();
        }
        inside.into_iter().chain(std::iter::once(end))
    })
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
