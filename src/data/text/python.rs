//! What chat templates expect of Python: its JSON and its dates.

use crate::error::{Error, Result};
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

/// Writes JSON as Python's `json.dumps` does with `ensure_ascii=False`: `", "` and `": "` between, unless indented.
pub(super) fn dumps(value: &Value, indent: Option<usize>) -> serde_json::Result<String> {
    dumps_with(value, indent, [", ", ": "])
}

/// The same with what stands between items, and between a key and its value; not where it is indented.
pub(super) fn dumps_with(value: &Value, indent: Option<usize>, between: [&str; 2]) -> serde_json::Result<String> {
    let mut out = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, OneLine(between)))?,
        Some(width) => {
            let indent = " ".repeat(width);
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// As [`CompactFormatter`](serde_json::ser::CompactFormatter), with these texts between items, and after a key.
struct OneLine<'a>([&'a str; 2]);

impl Formatter for OneLine<'_> {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.0[0].as_bytes()) }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.0[1].as_bytes())
    }
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
        assert_eq!(dumps(&value, None).unwrap(), line);
        let lines = "{\n  \"b\": [\n    1,\n    2.5,\n    true,\n    null\n  ],\n  \"a\": {\n    \"é\\n\\\"\": \"\\u0001<&>\"\n  },\n  \"e\": [],\n  \"o\": {}\n}";
        assert_eq!(dumps(&value, Some(2)).unwrap(), lines);
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
