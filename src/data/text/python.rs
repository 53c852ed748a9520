//! What chat templates expect of Python: its JSON, its dates, its words for truth and nothing.

use crate::error::{Error, Result};
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

/// A day, and the seconds since its midnight (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub seconds: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Moment {
    /// Now, in UTC.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (mut days, seconds) = ((since / 86_400) as i64, (since % 86_400) as u32);
        let mut year = 1970;
        while days >= year_days(year) {
            days -= year_days(year);
            year += 1;
        }
        let mut month = 1;
        while days >= i64::from(month_days(year, month)) {
            days -= i64::from(month_days(year, month));
            month += 1;
        }
        Self { year, month, day: days as u32 + 1, seconds }
    }

    /// Days since the first of January, from 0.
    fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| month_days(self.year, month)).sum::<u32>() + self.day - 1
    }

    /// Days since Monday, from 0.
    fn weekday(self) -> usize {
        let years: i64 = (1970..self.year).map(year_days).sum::<i64>() - (self.year..1970).map(year_days).sum::<i64>();
        // 1970 began on a Thursday.
        (years + i64::from(self.day_of_year()) + 3).rem_euclid(7) as usize
    }

    /// As Python's `strftime`, with the codes that stand in templates.
    pub fn strftime(self, format: &str) -> Result<String> {
        let (hour, minute, second) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        let (month, weekday) = (MONTHS[(self.month as usize + 11) % 12], DAYS[self.weekday()]);
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = rest.next();
            let unpadded = code == Some('-');
            if unpadded {
                code = rest.next();
            }
            let number = |value: u32, width: usize| {
                if unpadded { value.to_string() } else { format!("{value:0width$}") }
            };
            let piece = match code {
                Some('Y') => self.year.to_string(),
                Some('y') => number((self.year.rem_euclid(100)) as u32, 2),
                Some('m') => number(self.month, 2),
                Some('d') => number(self.day, 2),
                Some('B') => month.to_owned(),
                Some('b') => month[..3].to_owned(),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('j') => number(self.day_of_year() + 1, 3),
                Some('H') => number(hour, 2),
                Some('I') => number((hour + 11) % 12 + 1, 2),
                Some('M') => number(minute, 2),
                Some('S') => number(second, 2),
                Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
                Some('%') => "%".to_owned(),
                other => {
                    let code = other.map_or(String::new(), String::from);
                    return Err(Error::format(format!("strftime_now does not know %{code} (in {format:?})")));
                }
            };
            out.push_str(&piece);
        }
        Ok(out)
    }
}

fn year_days(year: i64) -> i64 {
    if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 }
}

fn month_days(year: i64, month: u32) -> u32 {
    match month {
        2 => year_days(year) as u32 - 337,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let moment = Moment { year: 2024, month: 7, day: 4, seconds: 15 * 3600 + 5 * 60 + 9 };
        let text = moment.strftime("%d %b %Y, %A %a %B %-d/%-m/%y %j %H:%M:%S %I %p 100%%").unwrap();
        assert_eq!(text, "04 Jul 2024, Thursday Thu July 4/7/24 186 15:05:09 03 PM 100%");
        assert!(moment.strftime("%Q").unwrap_err().to_string().contains("%Q"));
        let midnight = Moment { year: 2023, month: 1, day: 1, seconds: 0 };
        assert_eq!(midnight.strftime("%a %I %p %j").unwrap(), "Sun 12 AM 001");
        assert!(Moment::now().year >= 2024);
    }
}
