//! How a file is laid out and what its examples are, by its contents. Its ending counts only where the contents leave it
//! open: a `.csv` with unknown columns is refused and not taken for plain text.

use super::convert::CONVERSATIONS;
use super::dataset_info::DatasetInfo;
use super::threads;
use crate::config::{FileFormat, TextConfig, TextFormat, choice_name};
use crate::data::Table;
use crate::data::files::Records;
use crate::data::files::unpack::unpacked_name;
use crate::data::json::{self, JsonLayout, object_of};
use crate::data::lines::{lines, list, utf8};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

/// Records looked at before the format is decided.
const LOOKED_AT: usize = 50;
/// Bytes of a table looked at for that.
const BYTES_LOOKED_AT: usize = 1 << 20;

/// How a file is cut into records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileLayout {
    /// JSON, in lines or otherwise.
    Json(JsonLayout),
    /// Rows under a header.
    Table(FileFormat),
    /// Lines `mr||ref`.
    Piped,
    /// Text, and nothing else.
    Text,
}

/// The settings, and what is said of the file's columns beside it.
pub(super) type Described<'a> = (&'a TextConfig, Option<&'a DatasetInfo>);

fn usual(record: Map<String, Value>, info: Option<&DatasetInfo>) -> Map<String, Value> {
    match info {
        Some(info) => info.usual(record),
        None => record,
    }
}

/// A recognised file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    pub layout: FileLayout,
    pub format: TextFormat,
}

/// Looks into the contents of a file, its byte order mark already taken off.
pub(super) fn recognise(name: &str, body: &[u8], given: FileFormat, (text, info): Described<'_>) -> Result<Recognised> {
    let layout = layout(name, body, given, (text, info))?;
    let format = match (text.format, &layout) {
        (TextFormat::Auto, FileLayout::Text) => TextFormat::Plain,
        (TextFormat::Auto, FileLayout::Piped) => TextFormat::E2e,
        (TextFormat::Auto, FileLayout::Table(format)) => match first_rows(name, body, *format)? {
            // Without rows the header tells; that there are none is said later.
            rows if rows.is_empty() => {
                let object = usual(header(name, body, *format)?, info);
                shape(&object, text).ok_or_else(|| unknown(name, &object))?
            }
            rows => vote(name, (text, info), rows.into_iter())?,
        },
        (TextFormat::Auto, FileLayout::Json(JsonLayout::Elements(elements))) => {
            vote(name, (text, info), elements.iter().filter_map(|element| parsed(&body[element.bytes.clone()])))?
        }
        (TextFormat::Auto, FileLayout::Json(JsonLayout::Lines)) => {
            vote(name, (text, info), lines(body).take(LOOKED_AT).filter_map(|(_, line)| parsed(line)))?
        }
        (format, _) => format,
    };
    let fits = match (&layout, format) {
        (FileLayout::Piped, format) => matches!(format, TextFormat::E2e | TextFormat::Plain),
        (FileLayout::Text, format) => format == TextFormat::Plain,
        _ => true,
    };
    if !fits {
        return Err(Error::data(format!(
            "text_format is {}, but the file is plain text; choose another file, or leave text_format at auto: {name}",
            choice_name(format)
        )));
    }
    Ok(Recognised { layout, format })
}

fn layout(name: &str, body: &[u8], given: FileFormat, (text, info): Described<'_>) -> Result<FileLayout> {
    match given {
        FileFormat::Tsv | FileFormat::Csv => return Ok(FileLayout::Table(given)),
        // Binary files never come here.
        FileFormat::Jsonl | FileFormat::Auto | FileFormat::Parquet | FileFormat::Arrow | FileFormat::Sheet => {}
    }
    if let Some(layout) = json::layout(body, |object| shape(&usual(object.clone(), info), text).is_some()) {
        return Ok(FileLayout::Json(layout));
    }
    let not_json = || {
        Error::data(format!(
            "the file is neither a JSON array of objects nor one JSON object a line (or it is cut off); write one of them: {name}"
        ))
    };
    if given == FileFormat::Jsonl {
        return Err(not_json());
    }
    let ending = unpacked_name(Path::new(name)).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut first = lines(body).take(LOOKED_AT).peekable();
    if first.peek().is_some() && first.all(|(_, line)| line.windows(2).any(|two| two == b"||")) {
        return Ok(FileLayout::Piped);
    }
    // A table is known by columns that say what they are.
    let mut formats = [FileFormat::Tsv, FileFormat::Csv];
    if ending == "csv" {
        formats.reverse();
    }
    for format in formats {
        let Ok(object) = header(name, body, format).map(|object| usual(object, info)) else { continue };
        let alone = object.len() == 1 && ending != if format == FileFormat::Csv { "csv" } else { "tsv" };
        if shape(&object, text).is_some() && !alone {
            return Ok(FileLayout::Table(format));
        }
        if (format == FileFormat::Csv && ending == "csv") || (format == FileFormat::Tsv && ending == "tsv") {
            return Err(unknown(name, &object));
        }
    }
    if ["json", "jsonl", "ndjson"].contains(&ending.as_str()) { Err(not_json()) } else { Ok(FileLayout::Text) }
}

/// The names in the header of a CSV or TSV file, as keys of an object of empty texts.
fn header(name: &str, body: &[u8], format: FileFormat) -> Result<Map<String, Value>> {
    // The first line is enough: no header has a quoted cell with line ends.
    let end = body.iter().position(|&byte| byte == b'\n').map_or(body.len(), |at| at + 1);
    let table = Table::from_bytes(name, Cow::Owned(body[..end].to_vec()), format, true)?;
    Ok(table.columns.iter().map(|name| (name.clone(), Value::from(""))).collect())
}

/// The first rows of a CSV or TSV file that can be read.
fn first_rows(name: &str, body: &[u8], format: FileFormat) -> Result<Vec<Map<String, Value>>> {
    let start = &body[..body.len().min(BYTES_LOOKED_AT)];
    let table = Table::from_bytes(name, Cow::Owned(start.to_vec()), format, true)?;
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let mut rows = Vec::new();
    table.visit(&all, |_, cells| {
        if let Ok(cells) = cells {
            let cells = cells.into_iter().map(|cell| Value::from(cell.into_owned()));
            rows.push(table.columns.iter().cloned().zip(cells).collect());
        }
        Ok(if rows.len() < LOOKED_AT { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(rows)
}

/// The format of the rows of a binary file.
pub(super) fn of_records(name: &str, records: &Records, (text, info): Described<'_>) -> Result<TextFormat> {
    match text.format {
        TextFormat::Auto => vote(name, (text, info), records.first(LOOKED_AT)?.into_iter()),
        given => Ok(given),
    }
}

fn parsed(record: &[u8]) -> Option<Map<String, Value>> {
    object_of(&utf8(record).ok()?).ok()
}

/// The format that most of the first records have.
fn vote(
    name: &str,
    (text, info): Described<'_>,
    records: impl Iterator<Item = Map<String, Value>>,
) -> Result<TextFormat> {
    let mut votes: Vec<(TextFormat, usize)> = Vec::new();
    let mut other = None;
    for object in records.take(LOOKED_AT).map(|object| usual(object, info)) {
        match shape(&object, text) {
            Some(format) => match votes.iter_mut().find(|(known, _)| *known == format) {
                Some((_, count)) => *count += 1,
                None => votes.push((format, 1)),
            },
            None => other = other.or(Some(object)),
        }
    }
    // The first one wins a tie.
    let best = votes.iter().rev().max_by_key(|(_, count)| *count).map(|(format, _)| *format);
    best.ok_or_else(|| match other {
        Some(object) => unknown(name, &object),
        None => Error::data(format!("no row of the file is a JSON object; write objects: {name}")),
    })
}

/// What a record is, by its keys.
pub(super) fn shape(object: &Map<String, Value>, text: &TextConfig) -> Option<TextFormat> {
    if !text.completion_column.is_empty() {
        let there = [&text.prompt_column, &text.completion_column];
        if !there.iter().all(|column| column.is_empty() || object.contains_key(*column)) {
            return None;
        }
        let listed = there.iter().any(|column| object.get(*column).is_some_and(holds_turns));
        return Some(match text.prompt_column.is_empty() {
            _ if listed => TextFormat::Messages,
            true => TextFormat::Plain,
            false => TextFormat::Completion,
        });
    }
    let has = |key: &str| object.contains_key(key);
    let is_list = |key: &str| object.get(key).is_some_and(is_conversation);
    let item_has = |key: &str, inner: &str| {
        let first = object.get(key).and_then(|list| list.as_array()?.first()?.as_object());
        first.is_some_and(|item| item.contains_key(inner))
    };
    let has_any = |keys: &[&str]| keys.iter().any(|key| has(key));
    let wraps_triples = |value: &Value| value.get("modifiedtripleset").is_some();
    if threads::is_message(object) || threads::is_tree(object) {
        Some(TextFormat::Messages)
    } else if has("chosen") && has("rejected") {
        None
    } else if CONVERSATIONS.into_iter().any(|key| is_list(key) && item_has(key, "from")) {
        Some(TextFormat::Sharegpt)
    } else if CONVERSATIONS.into_iter().any(is_list)
        || (object.get("completion").is_some_and(holds_turns) && has("prompt"))
    {
        Some(TextFormat::Messages)
    } else if has("tripleset") && has("annotations") {
        Some(TextFormat::Dart)
    } else if has("modifiedtripleset") || (!object.is_empty() && object.values().all(wraps_triples)) {
        Some(TextFormat::Webnlg)
    } else if (has("mr") && has_any(&["ref", "human_reference"])) || (has("context") && has("completion")) {
        Some(TextFormat::E2e)
    } else if has("instruction") && has_any(&ANSWERS) {
        Some(TextFormat::Alpaca)
    } else if has_any(&["system", "system_prompt"]) && has_any(&["question", "prompt"]) && has_any(&ANSWERS) {
        // A question under a system message: OpenOrca's columns.
        Some(TextFormat::Alpaca)
    } else if (has("prompt") || has("question")) && has_any(&["completion", "response", "answer"]) {
        Some(TextFormat::Completion)
    } else if has("text") {
        Some(TextFormat::Plain)
    } else {
        None
    }
}

/// Names of the column with the answer.
const ANSWERS: [&str; 4] = ["output", "response", "completion", "answer"];

/// A list of turns or one of them, or the text of it, as tables hold it.
fn holds_turns(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => true,
        Value::String(text) => text.trim_start().starts_with("[{"),
        _ => false,
    }
}

/// The same, or the empty cell of a table's header.
fn is_conversation(value: &Value) -> bool {
    holds_turns(value) || value.as_str().is_some_and(str::is_empty)
}

fn unknown(name: &str, object: &Map<String, Value>) -> Error {
    let keys: Vec<String> = object.keys().cloned().collect();
    if let Some(chosen) = object.get("chosen").filter(|_| object.contains_key("rejected")) {
        return Error::data(format!(
            "the rows hold a chosen and a rejected answer, and learning from preferences is not what this program does; to learn the chosen ones set {}: {name}",
            chosen_advice(object, chosen)
        ));
    }
    Error::data(format!(
        "the columns {} do not tell what the texts are; name them with prompt_column and completion_column (completion_column alone for texts without a prompt): {name}",
        list(&keys, 12)
    ))
}

/// The settings with which the chosen answers of this record can be read.
fn chosen_advice(object: &Map<String, Value>, chosen: &Value) -> String {
    let whole = matches!(chosen, Value::Array(turns) if turns.len() > 1);
    let asks = ["prompt", "question", "instruction", "input", "query", "conversations", "messages", "conversation"];
    // An empty text is the cell of a table's header.
    let fits = |value: &Value| value.is_string() || is_conversation(value);
    match asks.into_iter().find(|key| object.get(*key).is_some_and(fits)).filter(|_| !whole) {
        Some(key) => format!("prompt_column = {key:?} and completion_column = \"chosen\""),
        None => "completion_column = \"chosen\"".to_owned(),
    }
}
