//! How a file is laid out and what its examples are, by its contents. Its ending counts only where the contents leave it
//! open: a `.csv` with unknown columns is refused and not taken for plain text.

use super::split_json::{self, JsonElement};
use crate::config::{FileFormat, TextConfig, TextFormat, choice_name};
use crate::data::Table;
use crate::data::table::{lines, list};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::path::Path;

/// Records looked at before the format is decided.
const LOOKED_AT: usize = 50;

/// How a file is cut into records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileLayout {
    /// The elements of one JSON array; where each stands.
    JsonArray(Vec<JsonElement>),
    /// One JSON object a line.
    JsonLines,
    /// Rows under a header.
    Table(FileFormat),
    /// Lines `mr||ref`.
    Piped,
    /// Text, and nothing else.
    Text,
}

/// A recognised file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    pub layout: FileLayout,
    pub format: TextFormat,
}

/// Looks into the contents of a file, its byte order mark already taken off.
pub(super) fn recognise(name: &str, body: &[u8], given: FileFormat, text: &TextConfig) -> Result<Recognised> {
    let layout = layout(name, body, given, text)?;
    let format = match (text.format, &layout) {
        (TextFormat::Auto, FileLayout::Text) => TextFormat::Plain,
        (TextFormat::Auto, FileLayout::Piped) => TextFormat::E2e,
        (TextFormat::Auto, FileLayout::Table(format)) => {
            let object = header(name, body, *format)?;
            shape(&object, text).ok_or_else(|| unknown(name, &object))?
        }
        (TextFormat::Auto, FileLayout::JsonArray(elements)) => {
            vote(name, text, elements.iter().map(|element| &body[element.bytes.clone()]))?
        }
        (TextFormat::Auto, FileLayout::JsonLines) => vote(name, text, lines(body).map(|(_, line)| line))?,
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

fn layout(name: &str, body: &[u8], given: FileFormat, text: &TextConfig) -> Result<FileLayout> {
    match given {
        FileFormat::Tsv | FileFormat::Csv => return Ok(FileLayout::Table(given)),
        FileFormat::Jsonl | FileFormat::Auto => {}
    }
    let start = body.trim_ascii_start();
    let json = match start.first() {
        Some(b'[') => array(body, false),
        Some(b'{') => object(body),
        _ => None,
    };
    if let Some(layout) = json {
        return Ok(layout);
    }
    let not_json = || {
        Error::data(format!(
            "the file is neither a JSON array of objects nor one JSON object a line (or it is cut off); write one of them: {name}"
        ))
    };
    if given == FileFormat::Jsonl {
        return Err(not_json());
    }
    let ending = Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
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
        let Ok(object) = header(name, body, format) else { continue };
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

/// An array of objects; `inside`: the first array in the object that the file is.
fn array(body: &[u8], inside: bool) -> Option<FileLayout> {
    let elements = split_json::elements(body, inside)?;
    let objects = elements.first().is_none_or(|first| body[first.bytes.clone()].trim_ascii().starts_with(b"{"));
    objects.then_some(FileLayout::JsonArray(elements))
}

/// One object a line, or one object around an array.
fn object(body: &[u8]) -> Option<FileLayout> {
    // The first line may be broken, and is then one bad row.
    if lines(body).take(LOOKED_AT).any(|(_, line)| !line.trim_ascii_start().starts_with(b"{")) {
        return array(body, true).or(Some(FileLayout::JsonLines));
    }
    let mut lines = lines(body);
    let first = lines.next().and_then(|(_, line)| serde_json::from_slice::<Map<String, Value>>(line).ok());
    let Some(first) = first else { return Some(FileLayout::JsonLines) };
    let around =
        |value: &Value| value.as_array().is_some_and(|list| list.len() > 1 && list.iter().all(Value::is_object));
    let alone = lines.next().is_none() && first.len() == 1 && first.values().any(around);
    // A single conversation in its file is a list of objects too, but its keys are known.
    if alone && shape(&first, &TextConfig::default()).is_none() {
        array(body, true)
    } else {
        Some(FileLayout::JsonLines)
    }
}

/// The format that most of the first records have.
fn vote<'a>(name: &str, text: &TextConfig, records: impl Iterator<Item = &'a [u8]>) -> Result<TextFormat> {
    let mut votes: Vec<(TextFormat, usize)> = Vec::new();
    let mut other = None;
    for record in records.take(LOOKED_AT) {
        let Ok(object) = serde_json::from_slice::<Map<String, Value>>(record) else { continue };
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
        let format = if text.prompt_column.is_empty() { TextFormat::Plain } else { TextFormat::Completion };
        return [&text.prompt_column, &text.completion_column]
            .iter()
            .all(|column| column.is_empty() || object.contains_key(*column))
            .then_some(format);
    }
    let has = |key: &str| object.contains_key(key);
    let is_list = |key: &str| object.get(key).is_some_and(Value::is_array);
    let item_has = |key: &str, inner: &str| {
        let first = object.get(key).and_then(|list| list.as_array()?.first()?.as_object());
        first.is_some_and(|item| item.contains_key(inner))
    };
    let has_any = |keys: [&str; 2]| keys.into_iter().any(has);
    let wraps_triples = |value: &Value| value.get("modifiedtripleset").is_some();
    if has("chosen") && has("rejected") {
        None
    } else if ["conversations", "conversation"].into_iter().any(|key| is_list(key) && item_has(key, "from")) {
        Some(TextFormat::Sharegpt)
    } else if is_list("messages")
        || is_list("conversations")
        || is_list("conversation")
        || (is_list("prompt") && is_list("completion"))
    {
        Some(TextFormat::Messages)
    } else if has("tripleset") && has("annotations") {
        Some(TextFormat::Dart)
    } else if has("modifiedtripleset") || (!object.is_empty() && object.values().all(wraps_triples)) {
        Some(TextFormat::Webnlg)
    } else if (has("mr") && has_any(["ref", "human_reference"])) || (has("context") && has("completion")) {
        Some(TextFormat::E2e)
    } else if has("instruction") && has_any(["output", "response"]) {
        Some(TextFormat::Alpaca)
    } else if (has("prompt") && has_any(["completion", "response"])) || (has("question") && has("answer")) {
        Some(TextFormat::Completion)
    } else if has("text") {
        Some(TextFormat::Plain)
    } else {
        None
    }
}

fn unknown(name: &str, object: &Map<String, Value>) -> Error {
    let keys: Vec<String> = object.keys().cloned().collect();
    if object.contains_key("chosen") && object.contains_key("rejected") {
        return Error::data(format!(
            "the rows hold a chosen and a rejected answer, and learning from preferences is not what this program does; to learn the chosen ones set prompt_column = \"prompt\" and completion_column = \"chosen\": {name}"
        ));
    }
    Error::data(format!(
        "the columns {} do not tell what the texts are; name them with prompt_column and completion_column (completion_column alone for texts without a prompt): {name}",
        list(&keys, 12)
    ))
}
