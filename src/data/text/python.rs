//! What chat templates expect of Python: its JSON and its dates.

use crate::error::{Error, Result};
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use serde_json::Value;
use std::fmt::Write as _;

/// Writes JSON as Python's `json.dumps` does with `ensure_ascii=False`: `", "` and `": "` between, unless indented.
pub(super) fn dumps(value: &Value, indent: Option<usize>) -> String {
    let mut out = String::new();
    write_json(&mut out, value, indent, 0);
    out
}

fn write_json(out: &mut String, value: &Value, indent: Option<usize>, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    let between = if indent.is_some() { "," } else { ", " };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                out.push_str(if number > 0 { between } else { "" });
                line(out, depth + 1);
                write_json(out, item, indent, depth + 1);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (number, (key, field)) in fields.iter().enumerate() {
                out.push_str(if number > 0 { between } else { "" });
                line(out, depth + 1);
                write_string(out, key);
                out.push_str(": ");
                write_json(out, field, indent, depth + 1);
            }
            line(out, depth);
            out.push('}');
        }
        Value::String(text) => write_string(out, text),
        other => out.push_str(&other.to_string()),
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => {
                // Writing to a string does not fail.
                write!(out, "\\u{:04x}", c as u32).ok();
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The current time, in UTC.
pub(super) fn now() -> DateTime {
    jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime()
}

/// As Python's `strftime`, with the codes that templates use.
pub(super) fn strftime(moment: DateTime, format: &str) -> Result<String> {
    strtime::format(format, moment).map_err(|err| Error::format(format!("strftime_now cannot write {format:?}: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use serde_json::json;

    #[test]
    fn json_is_pythons() {
        let value = json!({"b": [1, 2.5, true, null], "a": {"é\n\"": "\u{1}<&>"}, "e": [], "o": {}});
        // json.dumps(value, ensure_ascii=False), and with indent=2
        let line = "{\"b\": [1, 2.5, true, null], \"a\": {\"é\\n\\\"\": \"\\u0001<&>\"}, \"e\": [], \"o\": {}}";
        assert_eq!(dumps(&value, None), line);
        let lines = "{\n  \"b\": [\n    1,\n    2.5,\n    true,\n    null\n  ],\n  \"a\": {\n    \"é\\n\\\"\": \"\\u0001<&>\"\n  },\n  \"e\": [],\n  \"o\": {}\n}";
        assert_eq!(dumps(&value, Some(2)), lines);
    }

    #[test]
    fn dates_are_pythons() {
        // datetime(2024, 7, 4, 15, 5, 9).strftime(...)
        let moment = date(2024, 7, 4).at(15, 5, 9, 0);
        let text = strftime(moment, "%d %b %Y, %A %a %B %-d/%-m/%y %j %H:%M:%S %I %p 100%%").unwrap();
        assert_eq!(text, "04 Jul 2024, Thursday Thu July 4/7/24 186 15:05:09 03 PM 100%");
        assert!(strftime(moment, "%Q").unwrap_err().to_string().contains("%Q"));
        let midnight = date(2023, 1, 1).at(0, 0, 0, 0);
        assert_eq!(strftime(midnight, "%a %I %p %j").unwrap(), "Sun 12 AM 001");
    }
}
