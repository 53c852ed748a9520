//! From the cells of a table to rows with targets.

use super::exclusion;
use super::hold_out::{self, groups};
use super::lines::list;
use super::notes::Notes;
use super::tasks::ColumnPlan;
use super::{Row, SkippedRow, Table, Target};
use crate::config::{BadRows, Problem};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// More classes than this are taken for a wrong column.
const MOST_CLASSES: usize = 1000;

/// A row whose label is still text.
#[derive(Clone, Debug)]
pub(super) struct RawRow {
    pub file: Arc<str>,
    pub line: usize,
    pub text: String,
    pub pair: Option<String>,
    pub label: String,
}

/// Collects what cannot be used, or stops at it.
#[derive(Debug)]
pub(super) struct Refusals {
    pub mode: BadRows,
    pub skipped: Vec<SkippedRow>,
    /// What is used, with a word to the user.
    pub notes: Notes,
}

impl Refusals {
    pub(super) fn new(mode: BadRows) -> Self {
        Self { mode, skipped: Vec::new(), notes: Notes::default() }
    }

    /// Notes a bad row, or is the error it causes.
    pub(super) fn bad(&mut self, file: &str, line: usize, reason: String) -> Result<()> {
        match self.mode {
            BadRows::Refuse => Err(Error::data(format!(
                "line {line}: {reason}; correct the row, or set bad_rows = \"skip\" to leave such rows out: {file}"
            ))),
            BadRows::Skip => {
                self.skipped.push(SkippedRow { file: file.to_owned(), line, reason });
                Ok(())
            }
        }
    }

    /// The error of a file without a usable row; `empty` is the reason where none was skipped.
    pub(super) fn no_rows(&self, file: &str, empty: &str) -> Error {
        let why = match self.skipped.iter().find(|row| row.file == file) {
            Some(row) => format!("every row was skipped, the first (line {}) for: {}", row.line, row.reason),
            None => empty.to_owned(),
        };
        Error::data(format!("{why}; choose a file with usable rows: {file}"))
    }
}

/// The position of the first of `names` that is there.
fn find(table: &Table, names: &[String]) -> Result<usize> {
    let mut first = None;
    for name in names {
        match table.column(name) {
            Ok(index) => return Ok(index),
            Err(err) => first = first.or(Some(err)),
        }
    }
    Err(first.unwrap_or_else(|| Error::config("no column chosen; give text_column and label_column")))
}

/// All usable rows of a table, labels as written.
pub(super) fn raw(table: &Table, plan: &ColumnPlan, refusals: &mut Refusals) -> Result<Vec<RawRow>> {
    let mut wanted = vec![find(table, &plan.text)?, find(table, &plan.label)?];
    if !plan.pair.is_empty() {
        wanted.push(find(table, &plan.pair)?);
    }
    for (index, column) in table.columns.iter().enumerate() {
        if exclusion::is_known(column) && !wanted.contains(&index) {
            refusals.notes.file(
                &table.name,
                &format!("the column {column:?} is not used: every row is learned, and counts alike; leave out what must not be learned"),
            );
        }
    }
    let file: Arc<str> = table.name.as_str().into();
    let mut rows = Vec::new();
    table.visit(&wanted, |line, cells| {
        let reason = match cells {
            Err(reason) => reason,
            Ok(cells) => match usable(&cells, plan.classes.as_deref()) {
                Some(reason) => reason,
                None => {
                    let mut cells = cells.into_iter().map(std::borrow::Cow::into_owned);
                    let (text, label) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
                    rows.push(RawRow {
                        file: Arc::clone(&file),
                        line,
                        text,
                        pair: cells.next(),
                        label: label.trim().to_owned(),
                    });
                    return Ok(ControlFlow::Continue(()));
                }
            },
        };
        refusals.bad(&table.name, line, reason).map(ControlFlow::Continue)
    })?;
    if rows.is_empty() {
        return Err(refusals.no_rows(&table.name, "there are no rows after the header"));
    }
    Ok(rows)
}

/// Why the cells text, label and perhaps second text cannot be a row.
fn usable(cells: &[impl AsRef<str>], classes: Option<&[String]>) -> Option<String> {
    let cell = |index: usize| cells.get(index).map(|cell| cell.as_ref().trim());
    let problems = [(0, "the text is empty"), (2, "the second text is empty"), (1, "the label is empty")];
    let empty = problems.into_iter().find(|(index, _)| cell(*index).is_some_and(str::is_empty));
    if let Some((_, problem)) = empty {
        return Some(problem.to_owned());
    }
    let label = cell(1)?;
    // What is no number has a message of its own, and so has what is none of the classes.
    let missing = MISSING.contains(&label) && classes.is_some_and(<[String]>::is_empty);
    missing.then(|| {
        format!(
            "the label is {label:?}, which is how programs write a missing one; where it is a class of yours, name all classes in data.labels"
        )
    })
}

/// What pandas, R, Excel, SQL and trainers write where there is no label.
const MISSING: [&str; 13] =
    ["NaN", "nan", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "None", "null", "NULL", "NaT", "-100"];

/// Class names in order: whole numbers by value, else by name.
pub(super) fn derive_labels(rows: &[RawRow], file: &str) -> Result<Vec<String>> {
    let distinct: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let mut labels: Vec<String> = distinct.iter().map(|&label| label.to_owned()).collect();
    if labels.len() > MOST_CLASSES || (rows.len() >= 20 && labels.len() * 2 > rows.len()) {
        return Err(Error::data(format!(
            "{} different labels in {} rows, such as {}; choose the label column, or set data.problem = \"regression\" for numbers: {file}",
            labels.len(),
            rows.len(),
            list(&labels, 3),
        )));
    }
    if labels.iter().all(|label| label.parse::<i64>().is_ok()) {
        labels.sort_by_key(|label| label.parse::<i64>().unwrap_or_default());
    }
    Ok(labels)
}

/// Turns labels into targets. A class is found by its name, or by its number where no name is a number.
pub(super) fn resolve(
    rows: Vec<RawRow>,
    problem: Problem,
    labels: &[String],
    refusals: &mut Refusals,
) -> Result<Vec<Row>> {
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    if labels.iter().all(|label| label.parse::<i64>().is_err()) {
        known.extend((0..labels.len()).map(|index| (index.to_string(), index as u32)));
    }
    known.extend(labels.iter().enumerate().map(|(index, label)| (label.clone(), index as u32)));
    let mut found = Vec::with_capacity(rows.len());
    let first = rows.first().map_or_else(|| Arc::from(""), |row| Arc::clone(&row.file));
    for RawRow { file, line, text, pair, label } in rows {
        let target = match problem {
            Problem::Classification => known
                .get(&label)
                .map(|&class| Target::Class(class))
                .ok_or_else(|| format!("unknown label {label:?}; the known ones are {}", list(labels, 20))),
            Problem::Regression => match label.parse::<f32>() {
                Ok(value) if value.is_finite() => Ok(Target::Value(value)),
                Ok(_) => Err(format!("the target {label:?} is not a finite number")),
                Err(_) => Err(format!("the target {label:?} is not a number")),
            },
        };
        match target {
            Ok(target) => found.push(Row { text, pair, target }),
            Err(reason) => refusals.bad(&file, line, reason)?,
        }
    }
    if found.is_empty() {
        return Err(Error::data(format!(
            "no row has a usable label; the last one skipped: {}: {first}",
            refusals.skipped.last().map_or("none", |row| row.reason.as_str())
        )));
    }
    Ok(found)
}

/// Splits `rows` into training and held-out rows, both in their old order. Classes keep their shares, and rows with
/// the same text stay on the same side.
pub(super) fn hold_out(rows: Vec<Row>, fraction: f64) -> Result<(Vec<Row>, Vec<Row>)> {
    if rows.len() < 2 {
        return Err(Error::data("one row cannot be split into training and evaluation; give more rows or a dev_file"));
    }
    let mut strata: BTreeMap<u32, Vec<Vec<usize>>> = BTreeMap::new();
    for group in groups(rows.iter().map(Row::key)) {
        strata.entry(rows[group[0]].target.class().unwrap_or(0)).or_default().push(group);
    }
    let (kept, held) = hold_out::hold_out(rows, strata, fraction);
    if held.is_empty() {
        return Err(Error::data("too few different texts to hold some out for evaluation; give a file with dev_file"));
    }
    Ok((kept, held))
}

/// A classifier needs two classes to tell apart.
pub(super) fn require_two_classes(rows: &[Row], labels: &[String], file: &str, limited: bool) -> Result<()> {
    let mut classes = rows.iter().filter_map(|row| row.target.class());
    let Some(first) = classes.next() else { return Ok(()) };
    if classes.any(|class| class != first) {
        return Ok(());
    }
    let name = labels.get(first as usize).map_or("", String::as_str);
    let advice = if limited { "raise max_train_rows" } else { "give rows of at least two classes" };
    Err(Error::data(format!("all {} training rows have the label {name:?}; {advice}: {file}", rows.len())))
}
