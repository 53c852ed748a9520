//! From a record to examples: the formats people have on disk.

use super::example::{Example, Role, Turn};
use super::{message, triples};
use crate::config::{TextConfig, TextFormat};
use crate::data::exclusion;
use serde_json::{Map, Value};

type Found<T> = Result<T, String>;

/// What a record is made into.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// Several where the record has several references; none where the file keeps the record out of the loss.
    pub examples: Vec<Example>,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

/// The examples of one record, or why there are none.
pub(super) fn examples(
    format: TextFormat,
    record: &Map<String, Value>,
    text_config: &TextConfig,
    entry: usize,
    line: usize,
) -> Found<Converted> {
    let mut notes = Vec::new();
    let chosen = !text_config.completion_column.is_empty();
    if !chosen && let Some(reason) = message::refused_kind(record) {
        return Err(reason);
    }
    if let Some(key) = exclusion::of_row(record) {
        notes.push(format!("the file keeps the row out of the loss ({key}); it is left out"));
        return Ok(Converted { examples: Vec::new(), notes });
    }
    let examples = match format {
        TextFormat::Alpaca => vec![alpaca(record, line)?],
        TextFormat::Sharegpt | TextFormat::Messages => {
            conversation(record, text_config, line, &mut notes)?.into_iter().collect()
        }
        TextFormat::Webnlg => triples::webnlg(record, entry, line)?,
        TextFormat::Dart => triples::dart(record, entry, line)?,
        TextFormat::E2e => {
            let (mr, reference) =
                (first(record, &["mr", "context"])?, first(record, &["ref", "human_reference", "completion"])?);
            vec![Example::pair(triples::meaning(&mr)?, reference.trim(), line)]
        }
        TextFormat::Completion if !text_config.prompt_column.is_empty() => {
            let prompt = text(record, &text_config.prompt_column)?;
            vec![Example::pair(prompt, answer(record, &text_config.completion_column)?, line)]
        }
        TextFormat::Completion => {
            let prompt = ["prompt", "question"].into_iter().find(|name| record.contains_key(*name));
            let prompt = text(record, prompt.ok_or("no value for \"prompt\"")?)?;
            vec![Example::pair(prompt, first(record, &["completion", "response", "answer"])?, line)]
        }
        TextFormat::Plain | TextFormat::Auto => {
            let column = if chosen { &text_config.completion_column } else { "text" };
            vec![Example::new(vec![Turn::new(Role::Assistant, answer(record, column)?)], line)]
        }
    };
    Ok(Converted { examples, notes })
}

/// `instruction` (or `question`, `prompt`), perhaps `input`, `system` and `history`, and `output`.
fn alpaca(record: &Map<String, Value>, line: usize) -> Found<Example> {
    let filled = |names: &[&'static str]| {
        names.iter().copied().find(|name| record.get(*name).is_some_and(|value| !value.is_null()))
    };
    let optional = |names: &[&'static str]| filled(names).map_or(Ok(String::new()), |name| text(record, name));
    let mut turns = Vec::new();
    let system = optional(&["system", "system_prompt"])?;
    if !system.trim().is_empty() {
        turns.push(Turn::new(Role::System, system));
    }
    for round in record.get("history").and_then(Value::as_array).into_iter().flatten() {
        match round.as_array().map(Vec::as_slice) {
            Some([Value::String(question), Value::String(answer)]) => {
                turns.push(Turn::new(Role::User, question));
                turns.push(Turn::new(Role::Assistant, answer));
            }
            _ => return Err("\"history\" is not a list of pairs of texts".to_owned()),
        }
    }
    let name = filled(&["instruction", "question", "prompt"]).unwrap_or("instruction");
    let (instruction, input) = (text(record, name)?, optional(&["input", "context"])?);
    if instruction.trim().is_empty() && input.trim().is_empty() {
        return Err(format!("the {name} is empty"));
    }
    let parts: Vec<String> = [instruction, input].into_iter().filter(|part| !part.trim().is_empty()).collect();
    turns.push(Turn::new(Role::User, parts.join("\n")));
    turns.push(Turn::new(Role::Assistant, first(record, &["output", "response", "completion", "answer"])?));
    Ok(Example::new(turns, line))
}

/// Names under which conversations are found.
pub(super) const CONVERSATIONS: [&str; 3] = ["messages", "conversations", "conversation"];

/// The messages under `name`: a list, the text of one (tables), or a single message.
fn messages(record: &Map<String, Value>, name: &str) -> Found<Option<Vec<Value>>> {
    Ok(match record.get(name) {
        Some(Value::Array(list)) => Some(list.clone()),
        Some(one @ Value::Object(_)) => Some(vec![one.clone()]),
        Some(Value::String(text)) if text.trim_start().starts_with(['[', '{']) => {
            match serde_json::from_str::<Value>(text) {
                Ok(Value::Array(list)) => Some(list),
                Ok(one) => Some(vec![one]),
                Err(err) => {
                    return Err(format!("{name:?} holds a list that is not JSON ({err}); write it with json.dumps"));
                }
            }
        }
        _ => None,
    })
}

/// The turns of a list of messages: objects with a role, rounds of `input` and `output`, or texts in turn.
fn turns(list: &[Value], notes: &mut Vec<String>) -> Found<Vec<Turn>> {
    let mut turns = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let numbered = |reason: String| format!("message {}: {reason}", index + 1);
        match item {
            Value::String(text) => {
                let role = if index % 2 == 0 { Role::User } else { Role::Assistant };
                if text.trim().is_empty() && role == Role::Assistant {
                    return Err(numbered("the answer is empty".to_owned()));
                }
                turns.push(Turn::new(role, text));
            }
            Value::Object(round) if round.contains_key("input") && round.contains_key("output") => {
                turns.push(Turn::new(Role::User, text(round, "input").map_err(numbered)?));
                turns.push(Turn::new(Role::Assistant, answer(round, "output").map_err(numbered)?));
            }
            message => {
                let found = message::message(message).map_err(numbered)?;
                notes.extend(found.notes);
                if let Some(key) = found.excluded {
                    notes.push(format!("the file keeps an answer out of the loss ({key}); it is read and not learned"));
                }
                turns.push(found.turn);
            }
        }
    }
    Ok(turns)
}

/// A list of messages under one of the usual names, or a prompt and a completion that are such lists; nothing where the
/// file keeps every answer out of the loss.
fn conversation(
    record: &Map<String, Value>,
    text_config: &TextConfig,
    line: usize,
    notes: &mut Vec<String>,
) -> Found<Option<Example>> {
    let mut turns = match &text_config.completion_column {
        column if !column.is_empty() => asked_and_answered(record, &text_config.prompt_column, column, notes)?,
        _ => {
            let mut found = None;
            for name in CONVERSATIONS {
                found = found.or(messages(record, name)?);
            }
            match found {
                Some(list) => turns(&list, notes)?,
                None => asked_and_answered(record, "prompt", "completion", notes)?,
            }
        }
    };
    for name in ["system", "system_prompt"] {
        if let Some(Value::String(system)) = record.get(name).filter(|_| !turns.is_empty())
            && !system.trim().is_empty()
            && turns.iter().all(|turn| turn.role != Role::System)
        {
            turns.insert(0, Turn::new(Role::System, system));
        }
    }
    // Nothing is learned from turns after the last answer.
    let answers = turns.iter().rposition(|turn| turn.role == Role::Assistant);
    turns.truncate(answers.map_or(0, |last| last + 1));
    if turns.is_empty() {
        return Err("no answer (a turn of the assistant) to learn".to_owned());
    }
    if !turns.iter().any(|turn| turn.learned) {
        notes.push("the file keeps every answer of the row out of the loss; the row is left out".to_owned());
        return Ok(None);
    }
    Ok(Some(Example { tools: message::tools(record)?, ..Example::new(turns, line) }))
}

/// A prompt and its completion, each a list of messages or a text. Only the completion is learned.
fn asked_and_answered(
    record: &Map<String, Value>,
    prompt: &str,
    completion: &str,
    notes: &mut Vec<String>,
) -> Found<Vec<Turn>> {
    let mut read = |name: &str, role: Role| -> Found<Vec<Turn>> {
        match messages(record, name)? {
            Some(list) => turns(&list, notes),
            None if record.get(name).is_some_and(Value::is_string) => Ok(vec![Turn::new(role, text(record, name)?)]),
            None => Err(format!("no list of messages: {}, or prompt and completion", CONVERSATIONS.join(", "))),
        }
    };
    let mut all = if prompt.is_empty() { Vec::new() } else { read(prompt, Role::User)? };
    all.iter_mut().for_each(|turn| turn.learned = false);
    let answers = read(completion, Role::Assistant)?;
    // Some completions repeat the prompt.
    let repeats =
        !all.is_empty() && answers.len() > all.len() && all.iter().zip(&answers).all(|(a, b)| a.text == b.text);
    all.extend(answers.into_iter().skip(if repeats { all.len() } else { 0 }));
    Ok(all)
}

/// The text under the first of these names that is there; it must not be empty.
fn first(record: &Map<String, Value>, names: &[&str]) -> Found<String> {
    match names.iter().find(|name| record.contains_key(**name)) {
        Some(name) => answer(record, name),
        None => Err(format!("no value for {:?}", names[0])),
    }
}

fn answer(record: &Map<String, Value>, name: &str) -> Found<String> {
    let text = text(record, name)?;
    if text.trim().is_empty() { Err(format!("{name:?} is empty")) } else { Ok(text) }
}

fn text(record: &Map<String, Value>, name: &str) -> Found<String> {
    match record.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Null) | None => Err(format!("no value for {name:?}")),
        Some(_) => Err(format!("{name:?} is not a text")),
    }
}
