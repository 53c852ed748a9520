//! From a record to examples: the formats people have on disk.

use super::example::{Example, Role, Turn};
use super::triples;
use crate::config::{TextConfig, TextFormat};
use serde_json::{Map, Value};

type Found<T> = Result<T, String>;

/// The examples of one record (several where the record has several references), or why there are none.
pub(super) fn examples(
    format: TextFormat,
    record: &Map<String, Value>,
    text_config: &TextConfig,
    entry: usize,
    line: usize,
) -> Found<Vec<Example>> {
    // The columns the user named; empty: the usual ones.
    let (prompt_column, completion_column) = (&text_config.prompt_column, &text_config.completion_column);
    match format {
        TextFormat::Alpaca => Ok(vec![alpaca(record, line)?]),
        TextFormat::Sharegpt | TextFormat::Messages => Ok(vec![conversation(record, line)?]),
        TextFormat::Webnlg => triples::webnlg(record, entry, line),
        TextFormat::Dart => triples::dart(record, entry, line),
        TextFormat::E2e => {
            let (mr, reference) =
                (first(record, &["mr", "context"])?, first(record, &["ref", "human_reference", "completion"])?);
            Ok(vec![Example::pair(triples::meaning(&mr)?, reference.trim(), line)])
        }
        TextFormat::Completion if !prompt_column.is_empty() => {
            Ok(vec![Example::pair(text(record, prompt_column)?, answer(record, completion_column)?, line)])
        }
        TextFormat::Completion => {
            let prompt = first(record, &["prompt", "question"])?;
            let completion = first(record, &["completion", "response", "answer"])?;
            Ok(vec![Example::pair(prompt, completion, line)])
        }
        TextFormat::Plain | TextFormat::Auto => {
            let column = if completion_column.is_empty() { "text" } else { completion_column };
            Ok(vec![Example::new(vec![Turn::new(Role::Assistant, answer(record, column)?)], line)])
        }
    }
}

/// `instruction`, perhaps `input`, `system` and `history`, and `output`.
fn alpaca(record: &Map<String, Value>, line: usize) -> Found<Example> {
    let optional = |names: &[&str]| -> Found<String> {
        let name = names.iter().find(|name| record.get(**name).is_some_and(|value| !value.is_null()));
        name.map_or(Ok(String::new()), |name| text(record, name))
    };
    let mut turns = Vec::new();
    let system = optional(&["system"])?;
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
    let (instruction, input) = (text(record, "instruction")?, optional(&["input", "context"])?);
    if instruction.trim().is_empty() && input.trim().is_empty() {
        return Err("the instruction is empty".to_owned());
    }
    let parts: Vec<String> = [instruction, input].into_iter().filter(|part| !part.trim().is_empty()).collect();
    turns.push(Turn::new(Role::User, parts.join("\n")));
    turns.push(Turn::new(Role::Assistant, first(record, &["output", "response"])?));
    Ok(Example::new(turns, line))
}

/// A list of messages under one of the usual names, or a prompt and a completion that are such lists.
fn conversation(record: &Map<String, Value>, line: usize) -> Found<Example> {
    let names = ["messages", "conversations", "conversation"];
    let mut messages: Vec<&Value> = Vec::new();
    match names.iter().find_map(|name| record.get(*name).and_then(Value::as_array)) {
        Some(list) => messages.extend(list),
        None => {
            for name in ["prompt", "completion"] {
                let list = record.get(name).and_then(Value::as_array);
                messages.extend(list.ok_or_else(|| format!("no list of messages: {}", names.join(", ")))?);
            }
        }
    }
    let mut turns = Vec::new();
    if let Some(Value::String(system)) = record.get("system").filter(|_| !messages.is_empty())
        && !system.trim().is_empty()
    {
        turns.push(Turn::new(Role::System, system));
    }
    for (number, message) in messages.into_iter().enumerate() {
        turns.push(turn(message).map_err(|reason| format!("message {}: {reason}", number + 1))?);
    }
    // Nothing is learned from turns after the last answer.
    let answers = turns.iter().rposition(|turn| turn.role == Role::Assistant);
    turns.truncate(answers.map_or(0, |last| last + 1));
    if !turns.iter().any(|turn| turn.role == Role::Assistant && turn.learned) {
        return Err("no answer (a turn of the assistant) to learn".to_owned());
    }
    let tools = match record.get("tools") {
        None | Some(Value::Null) => None,
        // Some files hold the list as a text.
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => {
            Some(serde_json::from_str(text).map_err(|err| format!("\"tools\" is not JSON ({err})"))?)
        }
        Some(list) => Some(list.clone()),
    };
    Ok(Example { tools, ..Example::new(turns, line) })
}

fn turn(message: &Value) -> Found<Turn> {
    let message = message.as_object().ok_or("not an object")?;
    let named = |names: [&str; 2]| names.into_iter().find_map(|name| message.get(name));
    let who = named(["role", "from"]).and_then(Value::as_str).ok_or("no text \"role\" (or \"from\")")?;
    let role = match who.to_lowercase().as_str() {
        "system" | "developer" => Role::System,
        "user" | "human" | "prompter" => Role::User,
        "assistant" | "gpt" | "model" | "bot" | "chatgpt" | "function_call" => Role::Assistant,
        "tool" | "observation" | "function" | "ipython" | "tool_response" | "function_response" => Role::Tool,
        _ => return Err(format!("the role {who:?} is unknown; system, user, assistant and tool are known")),
    };
    let text = match named(["content", "value"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(part).collect::<Found<Vec<&str>>>()?.concat(),
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err("its content is neither text nor a list of parts".to_owned()),
    };
    let calls = message.get("tool_calls").is_some_and(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty()));
    if text.trim().is_empty() && !calls && role == Role::Assistant {
        return Err("the answer is empty".to_owned());
    }
    let off = message.get("train").is_some_and(|train| train == false)
        || message.get("weight").is_some_and(|weight| weight.as_f64() == Some(0.0));
    let known = ["role", "from", "content", "value", "train", "weight"];
    let fields = message.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    Ok(Turn {
        role,
        text,
        learned: role == Role::Assistant && !off,
        fields: fields.map(|(key, value)| (key.clone(), value.clone())).collect(),
    })
}

/// The text of one part of a message.
fn part(part: &Value) -> Found<&str> {
    match part.get("type").and_then(Value::as_str) {
        None | Some("text") => part.get("text").and_then(Value::as_str).ok_or_else(|| "a part without text".to_owned()),
        Some(other) => Err(format!("a part of type {other:?}; only texts can be learned")),
    }
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
