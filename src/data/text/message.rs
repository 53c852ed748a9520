//! One message of a conversation, in the layouts people have: OpenAI, its older form, ShareGPT, parts.

use super::example::{Role, Turn};
use crate::data::exclusion;
use serde_json::{Map, Value, json};

type Found<T> = Result<T, String>;

/// A turn, and what the user should know of it.
pub(super) struct Message {
    pub turn: Turn,
    /// The key and value with which the file keeps the answer out of the loss.
    pub excluded: Option<String>,
    pub notes: Vec<String>,
}

/// Keys that are read here; all others go on to the chat template.
const READ: [&str; 7] = ["role", "from", "content", "value", "text", "tool_calls", "function_call"];

pub(super) fn message(message: &Value) -> Found<Message> {
    let message = message.as_object().ok_or("not an object")?;
    let who = ["role", "from"].into_iter().find_map(|name| message.get(name)).and_then(Value::as_str);
    let who = who.ok_or("no text \"role\" (or \"from\")")?.to_lowercase();
    let (role, is_call) = role(&who)?;
    let content = ["content", "value", "text"].into_iter().find_map(|name| message.get(name));
    let mut fields = Map::new();
    let mut calls = calls_of(message)?;
    let mut text = match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts_text(parts, &mut calls, &mut fields)?,
        Some(Value::Null) => String::new(),
        None if calls.is_empty() => return Err("no \"content\" (or \"value\")".to_owned()),
        None => String::new(),
        Some(_) => return Err("its content is neither text nor a list of parts".to_owned()),
    };
    if is_call {
        calls.extend(calls_in_text(&text)?);
        text.clear();
    }
    if text.trim().is_empty() && calls.is_empty() {
        match role {
            Role::Assistant => return Err("the answer is empty".to_owned()),
            Role::User | Role::System if content.is_some_and(Value::is_null) => {
                return Err("its content is null".to_owned());
            }
            _ => {}
        }
    }
    if !calls.is_empty() {
        fields.insert("tool_calls".to_owned(), calls.into());
    }
    let read = |key: &str| READ.contains(&key) || exclusion::is_known(key);
    fields.extend(message.iter().filter(|(key, _)| !read(key)).map(|(key, value)| (key.clone(), value.clone())));
    let found = exclusion::of_message(message);
    let excluded = found.excluded.filter(|_| role == Role::Assistant);
    Ok(Message {
        turn: Turn { fields, learned: role == Role::Assistant && excluded.is_none(), ..Turn::new(role, text) },
        excluded,
        notes: found.not_understood,
    })
}

/// Who speaks, and whether the text is a call of a tool.
fn role(who: &str) -> Found<(Role, bool)> {
    Ok(match who {
        "system" | "developer" => (Role::System, false),
        "user" | "human" | "prompter" => (Role::User, false),
        "assistant" | "gpt" | "model" | "bot" | "chatgpt" | "ai" => (Role::Assistant, false),
        "function_call" | "tool_call" => (Role::Assistant, true),
        "tool" | "observation" | "function" | "ipython" | "tool_response" | "function_response" | "tool_result" => {
            (Role::Tool, false)
        }
        _ => return Err(format!("the role {who:?} is unknown; system, user, assistant and tool are known")),
    })
}

/// `tool_calls`, and the one `function_call` that came before it.
fn calls_of(message: &Map<String, Value>) -> Found<Vec<Value>> {
    let mut calls = match message.get("tool_calls") {
        Some(Value::Array(calls)) => calls.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.trim().is_empty() => Vec::new(),
        // Tables hold the list as a text.
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Array(calls)) => calls,
            _ => return Err("\"tool_calls\" is not a list".to_owned()),
        },
        Some(_) => return Err("\"tool_calls\" is not a list".to_owned()),
    };
    match message.get("function_call") {
        None | Some(Value::Null) => {}
        Some(call) => calls.push(wrapped(call)?),
    }
    Ok(calls)
}

/// The calls that a text spells out as JSON: one object, or a list of them.
fn calls_in_text(text: &str) -> Found<Vec<Value>> {
    let broken = |why: &str| format!("a function call that is no JSON object with \"name\" and \"arguments\" ({why})");
    match serde_json::from_str(text) {
        Ok(Value::Array(calls)) => calls.iter().map(wrapped).collect(),
        Ok(call) => Ok(vec![wrapped(&call)?]),
        Err(err) => Err(broken(&err.to_string())),
    }
}

/// A call in the form that chat templates are made for.
fn wrapped(call: &Value) -> Found<Value> {
    if call.get("function").is_some_and(Value::is_object) {
        return Ok(call.clone());
    }
    let name = call.get("name").and_then(Value::as_str);
    let name = name.ok_or("a function call without a \"name\"")?;
    let arguments = call.get("arguments").or_else(|| call.get("parameters")).cloned().unwrap_or_else(|| json!({}));
    Ok(json!({ "type": "function", "function": { "name": name, "arguments": arguments } }))
}

/// The text of a list of parts; calls and thoughts among them are put aside.
fn parts_text(parts: &[Value], calls: &mut Vec<Value>, fields: &mut Map<String, Value>) -> Found<String> {
    let mut texts = String::new();
    for part in parts {
        if let Value::String(text) = part {
            texts.push_str(text);
            continue;
        }
        let text = ["text", "value", "content"].into_iter().find_map(|key| part.get(key)).and_then(Value::as_str);
        let text = || text.ok_or_else(|| "a part without text".to_owned());
        match part.get("type").and_then(Value::as_str) {
            None | Some("text" | "input_text" | "output_text") => texts.push_str(text()?),
            Some("tool_call" | "function_call") => calls.extend(calls_in_text(text()?)?),
            Some("reasoning" | "thinking") => {
                fields.insert("reasoning_content".to_owned(), text()?.into());
            }
            Some(other) => return Err(format!("a part of type {other:?}; only texts can be learned")),
        }
    }
    Ok(texts)
}

/// The tools as chat templates know them: of a list, of the text of a list, of the older `functions`.
pub(super) fn tools(record: &Map<String, Value>) -> Found<Option<Value>> {
    let (key, value) = match (record.get("tools"), record.get("functions")) {
        (None | Some(Value::Null), Some(functions)) => ("functions", functions),
        (Some(tools), _) => ("tools", tools),
        (None, None) => return Ok(None),
    };
    let list = match value {
        Value::Null => return Ok(None),
        // Some files hold the list as a text.
        Value::String(text) if ["", "none", "null"].contains(&text.trim().to_lowercase().as_str()) => return Ok(None),
        Value::String(text) => serde_json::from_str(text).map_err(|err| format!("{key:?} is not JSON ({err})"))?,
        list => list.clone(),
    };
    match list {
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(list) if key == "functions" => {
            let wrap = |function: Value| json!({ "type": "function", "function": function });
            Ok(Some(list.into_iter().map(wrap).collect()))
        }
        Value::Null => Ok(None),
        list => Ok(Some(list)),
    }
}

/// What a preference file marks as unwanted, and media that this program cannot learn: why such a row is none.
pub(super) fn refused_kind(record: &Map<String, Value>) -> Option<String> {
    let unwanted = |value: &Value| match value {
        Value::Bool(wanted) => !wanted,
        Value::String(text) => text.trim().eq_ignore_ascii_case("false"),
        _ => false,
    };
    if let Some(key) = ["label", "kto_tag", "desirable"].into_iter().find(|key| record.get(*key).is_some_and(unwanted))
    {
        return Some(format!(
            "an answer that is marked as unwanted ({key:?}: false, as in KTO data), and learning from preferences is not what this program does"
        ));
    }
    let there = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty() && text.trim() != "[]",
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => true,
        _ => false,
    };
    let media = ["images", "image", "videos", "video", "audios", "audio"];
    media.into_iter().find(|key| record.get(*key).is_some_and(there)).map(|key| {
        format!("it comes with {key:?}, which a language model of texts cannot see; only texts can be learned")
    })
}
