//! Messages as chat templates see them, and values as Python writes them.

use super::example::Turn;
use super::python;
use crate::config::choice_name;
use minijinja::value::{Enumerator, Object, Serde, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use serde_json::Value as Json;
use std::fmt;
use std::sync::Arc;

/// How the arguments of a call are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    /// As a mapping that prints as its text.
    Mapping,
    /// As JSON text.
    Text,
}

/// A message: role, content, and whatever else the file has.
pub(super) fn message(turn: &Turn, given: Arguments) -> Value {
    let field = |(key, value): (&String, &Json)| {
        let value = match value {
            Json::Array(calls) if key == "tool_calls" => calls.iter().map(|call| self::call(call, given)).collect(),
            value => Value::from(Serde(value)),
        };
        (key.clone(), value)
    };
    let own = [
        ("role".to_owned(), Value::from(choice_name(turn.role))),
        ("content".to_owned(), Value::from(turn.text.as_str())),
    ];
    Value::from_pairs(own.into_iter().chain(turn.fields.iter().map(field)))
}

/// A call, with its arguments as `given` says; they may stand in a `function` or beside the name.
fn call(call: &Json, given: Arguments) -> Value {
    let Json::Object(parts) = call else { return Value::from(Serde(call)) };
    Value::from_pairs(parts.iter().map(|(key, value)| {
        let value = match (key.as_str(), value) {
            ("function", Json::Object(_)) => self::call(value, given),
            ("arguments", _) => arguments(value, given),
            _ => Value::from(Serde(value)),
        };
        (key.clone(), value)
    }))
}

/// OpenAI's files hold the arguments as JSON text, others as an object.
fn arguments(value: &Json, given: Arguments) -> Value {
    let text = match value {
        Json::String(text) => text.clone(),
        other => python::dumps(other, None).unwrap_or_else(|_| other.to_string()),
    };
    let parsed = match value {
        Json::String(text) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    };
    match (parsed, given) {
        (Some(parsed @ Json::Object(_)), Arguments::Mapping) => {
            Value::from_object(CallArguments { mapping: Value::from(Serde(&parsed)), text })
        }
        (Some(Json::Object(_)), Arguments::Text) | (None, _) => Value::from(text),
        (Some(other), _) => Value::from(Serde(&other)),
    }
}

/// The arguments of a call: a mapping, and the text they have in the file.
#[derive(Debug)]
struct CallArguments {
    mapping: Value,
    text: String,
}

impl Object for CallArguments {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.mapping.get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.mapping.try_iter().map(Iterator::collect).unwrap_or_default())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What Python's `str` makes of a value.
pub(super) fn python_text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Map | ValueKind::Seq if value.downcast_object_ref::<CallArguments>().is_none() => python_repr(value),
        _ => value.to_string(),
    }
}

/// What Python's `repr` makes of a value.
fn python_repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let pair = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", python_repr(&key), python_repr(&item))
            };
            format!("{{{}}}", keys.map(pair).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Seq => {
            let items: Vec<String> = value.try_iter().into_iter().flatten().map(|item| python_repr(&item)).collect();
            match (value.downcast_object_ref::<Tuple>().is_some(), items.as_slice()) {
                (true, [one]) => format!("({one},)"),
                (true, _) => format!("({})", items.join(", ")),
                (false, _) => format!("[{}]", items.join(", ")),
            }
        }
        _ => value.to_string(),
    }
}

/// A text in quotes: single ones, unless it has such and no double ones.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Python's methods of texts, lists and mappings.
pub(super) fn python_methods(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args);
    };
    let part = |args: &[Value]| -> Result<String, Error> {
        let (part,): (String,) = from_args(args)?;
        if part.is_empty() {
            return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
        }
        Ok(part)
    };
    let three = |found: Option<(&str, &str)>, part: &str, missing: [&str; 2]| {
        let [first, last] = missing;
        let (before, middle, after) = match found {
            Some((before, after)) => (before, part, after),
            None => (first, "", last),
        };
        Value::from(Tuple::from([before, middle, after].map(Value::from)))
    };
    match method {
        "removeprefix" => {
            let (part,): (String,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(part.as_str()).unwrap_or(text)))
        }
        "removesuffix" => {
            let (part,): (String,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(part.as_str()).unwrap_or(text)))
        }
        "partition" => {
            let part = part(args)?;
            Ok(three(text.split_once(part.as_str()), &part, [text, ""]))
        }
        "rpartition" => {
            let part = part(args)?;
            Ok(three(text.rsplit_once(part.as_str()), &part, ["", text]))
        }
        "rsplit" if args.len() == 2 => {
            let (part, most): (String, usize) = from_args(args)?;
            if part.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
            }
            let mut pieces: Vec<Value> = text.rsplitn(most.saturating_add(1), part.as_str()).map(Value::from).collect();
            pieces.reverse();
            Ok(Value::from(pieces))
        }
        "rsplit" => minijinja_contrib::pycompat::unknown_method_callback(state, value, "split", args),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_in_python() {
        // str(...) of the same values
        let value = json!({"a": [1, 2.5, true, null, "it's", "\"x\" 'y'\n\u{1}"], "é": {}});
        assert_eq!(
            python_text(&Value::from(Serde(&value))),
            r#"{'a': [1, 2.5, True, None, "it's", '"x" \'y\'\n\x01'], 'é': {}}"#
        );
        assert_eq!(python_text(&Value::from("plain 'text'")), "plain 'text'");
        assert_eq!(python_text(&Value::from(true)), "True");
    }
}
