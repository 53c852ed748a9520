//! Where text leaves the program: results on stdout, everything else on stderr.
//!
//! A closed pipe (`adamix ... | head`) is no failure: the rest of the output is dropped and training goes on.

use crate::error::{Error, Result};
use crate::protocol::WeightsOf;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

/// Writes one line to stdout.
pub fn line(text: &str) -> Result<()> {
    piece(&format!("{text}\n"))
}

/// Writes a piece of a line to stdout at once.
pub fn piece(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("writing the results", Path::new("standard output"), err))
        }
        _ => Ok(()),
    }
}

/// Writes one value to stdout as one line of JSON. Numbers that are not finite become `null`.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string(value).map_err(|err| Error::internal(format!("no JSON of a result: {err}")))?)
}

/// A result for programs (`--json`), or printed for people.
pub fn result(as_json: bool, value: &impl Serialize, print: impl FnOnce() -> Result<()>) -> Result<()> {
    if as_json { json(value) } else { print() }
}

/// The report's fields, and which checkpoint of which run it is about.
pub fn with_run(run: &Path, weights: WeightsOf, report: &impl Serialize) -> Result<()> {
    let mut all = serde_json::Map::new();
    if let serde_json::Value::Object(fields) = serde_json::json!(report) {
        all.extend(fields);
    }
    all.insert("run_dir".to_owned(), serde_json::json!(run));
    all.insert("step".to_owned(), serde_json::json!(weights.step));
    all.insert("checkpoint".to_owned(), serde_json::json!(weights.checkpoint));
    json(&all)
}

/// Writes one event to stdout: the value's fields after `"event": name`, as one line of JSON.
pub fn event(name: &str, value: &impl Serialize) -> Result<()> {
    let mut object = serde_json::Map::new();
    object.insert("event".to_owned(), name.into());
    match serde_json::to_value(value).map_err(|err| Error::internal(format!("no JSON of an event: {err}")))? {
        serde_json::Value::Object(fields) => object.extend(fields),
        other => drop(object.insert("value".to_owned(), other)),
    }
    json(&object)
}

/// Writes one line to stderr; failures are ignored.
pub fn note(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// A text as one line of at most `most` characters: white space runs become one space, control characters are escaped.
pub fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain: String = words
        .join(" ")
        .chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() })
        .collect();
    match plain.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

/// A progress bar on stderr with this template.
pub fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Whether stderr is a terminal, so that a progress bar makes sense.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Writes rows to stdout with aligned columns: the first column to the left, the others to the right.
pub fn table(rows: &[Vec<String>]) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        line(&aligned(row, &widths))?;
    }
    Ok(())
}

/// Writes rows of a name and a value to stdout, the values from column `width` + 1 on.
pub fn fields<'a>(width: usize, rows: impl IntoIterator<Item = (&'a str, String)>) -> Result<()> {
    rows.into_iter().try_for_each(|(name, value)| line(&format!("{name:<width$} {value}")))
}

/// What `show` makes of a value, or a dash where there is none.
pub fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// A first cell and those after it.
pub fn row<C: Into<String>>(first: impl Into<String>, cells: impl IntoIterator<Item = C>) -> Vec<String> {
    std::iter::once(first.into()).chain(cells.into_iter().map(Into::into)).collect()
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_harmless_line() {
        assert_eq!(one_line(" a\n\n b\tc ", 10), "a b c");
        assert_eq!(one_line("\u{1b}[2Jäöü", 20), "\\u{1b}[2Jäöü");
        assert_eq!(one_line("äöüß", 3), "äöü…");
        assert_eq!(one_line("äöüß", 4), "äöüß");
    }

    #[test]
    fn columns_are_aligned() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
        assert_eq!(aligned(&row(&["ab", "1"]), &[4, 3]), "ab      1");
        assert_eq!(aligned(&row(&["ab"]), &[4, 3]), "ab");
    }
}
