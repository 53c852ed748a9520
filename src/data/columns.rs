//! A look at a table before any column is chosen, through the reader that training uses: how it is laid out, what is in
//! its columns, which of them are likely the text and the label.

use super::{Table, file_sets};
use crate::config::{FileFormat, Problem};
use crate::error::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

/// Rows looked at.
const LOOKED_AT: usize = 1000;
/// Rows shown as they stand.
const SHOWN: usize = 20;
/// Values shown of each column.
const SAMPLES: usize = 3;
/// Characters kept of a value that is shown.
const SAMPLE_CHARS: usize = 120;
/// More distinct numbers than this are taken for amounts and not for classes.
const MOST_CLASSES: usize = 20;

/// The columns of a file and what they seem to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Columns {
    /// The file.
    pub file: String,
    /// How it is laid out; never `auto`.
    pub format: FileFormat,
    /// What stands between two cells; absent for JSON lines.
    pub delimiter: Option<char>,
    /// How its characters are stored, in words.
    pub encoding: String,
    /// How the file is laid out and stored, in words.
    pub layout: String,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Rows looked at.
    pub looked_at: usize,
    /// Names in order; `0`, `1`, ... without a header.
    pub names: Vec<String>,
    /// First few rows, all columns; a row that cannot be read is left out.
    pub rows: Vec<Vec<String>>,
    /// What is in each column, in the same order.
    pub facts: Vec<ColumnFacts>,
    /// Likely text column.
    pub text: Option<String>,
    /// Likely column of the second text.
    pub pair: Option<String>,
    /// Likely label column.
    pub label: Option<String>,
    /// What its values are: classes, or numbers.
    pub problem: Problem,
    /// Why this is likely the text, in words.
    pub text_reason: String,
    /// Why this is likely the label, in words.
    pub label_reason: String,
}

/// What is in a column, of the rows looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnFacts {
    /// The first different values, shortened.
    pub samples: Vec<String>,
    /// Cells that could be read and are not empty.
    pub filled: usize,
    /// Mean number of words in a filled cell.
    pub words: f64,
    /// Share of the filled cells that are numbers, 0 to 1.
    pub numeric: f64,
    /// Share of the filled cells that are whole numbers.
    pub whole: f64,
    /// Different values.
    pub distinct: usize,
}

impl Columns {
    /// What is in the column of this name.
    pub fn facts_of(&self, name: &str) -> Option<&ColumnFacts> {
        self.facts.get(self.names.iter().position(|own| own == name)?)
    }
}

impl ColumnFacts {
    /// What tells this column from others, in a few words.
    pub fn words(&self) -> String {
        let Self { filled, words, numeric, distinct, .. } = self;
        let values = if *distinct == 1 { "value" } else { "values" };
        match () {
            () if *filled == 0 => "empty".to_owned(),
            () if *numeric > 0.95 => format!("numbers, {distinct} different {values} in {filled} rows"),
            () if *words >= 2.0 => format!("{words:.0} words a row, {distinct} different {values} in {filled} rows"),
            () => format!("{distinct} different {values} in {filled} rows"),
        }
    }

    /// A name or a number for each row: nothing to learn from.
    fn is_id(&self) -> bool {
        let single = self.words < 1.5 && self.distinct == self.filled;
        single && (self.whole > 0.95 || self.numeric < 0.95 && self.filled >= 3)
    }

    /// Few values that come again: classes.
    fn is_classes(&self) -> bool {
        self.distinct >= 2 && self.distinct <= 1000 && (self.filled < 10 || self.distinct * 2 <= self.filled)
    }
}

/// Looks at a file. Without `header` the first line decides whether it names the columns.
pub fn columns(path: &Path, format: FileFormat, header: Option<bool>) -> Result<Columns> {
    let path = &file_sets::first(path)?;
    let open = |header| Table::open(path, format, header).context("the file cannot be looked at");
    let table = open(header.unwrap_or(true))?;
    let named = !matches!(table.format, FileFormat::Csv | FileFormat::Tsv | FileFormat::Sheet)
        || is_header(&table.columns)
        || has_usual_name(&table.columns);
    if header.is_none() && !named {
        return look(&open(false)?, false);
    }
    look(&table, header.unwrap_or(true))
}

fn look(table: &Table, header: bool) -> Result<Columns> {
    let facts = (0..table.columns.len()).map(|column| facts(table, column)).collect::<Result<Vec<_>>>()?;
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let (mut rows, mut looked_at) = (Vec::new(), 0);
    table.visit(&all, |_, cells| {
        looked_at += 1;
        if let (Ok(cells), true) = (cells, rows.len() < SHOWN) {
            rows.push(cells.into_iter().map(std::borrow::Cow::into_owned).collect::<Vec<_>>());
        }
        Ok(if looked_at < LOOKED_AT { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(guessed(Columns {
        file: table.name.clone(),
        format: table.format,
        delimiter: table.delimiter(),
        encoding: table.encoding.clone(),
        layout: table.describe(),
        header,
        looked_at,
        names: table.columns.clone(),
        rows,
        facts,
        ..Columns::default()
    }))
}

/// One column alone, so that a list in another one of a JSON file hides nothing.
fn facts(table: &Table, column: usize) -> Result<ColumnFacts> {
    let (mut facts, mut values) = (ColumnFacts::default(), BTreeSet::new());
    let (mut seen, mut words, mut numbers, mut whole) = (0, 0, 0, 0);
    table.visit(&[column], |_, cells| {
        seen += 1;
        let cell = cells.ok().and_then(|cells| cells.into_iter().next()).unwrap_or_default();
        let cell = cell.trim();
        if !cell.is_empty() {
            facts.filled += 1;
            words += count_words(cell);
            numbers += usize::from(is_number(cell));
            whole += usize::from(cell.parse::<i64>().is_ok());
            if values.insert(cell.to_owned()) && facts.samples.len() < SAMPLES {
                facts.samples.push(cell.chars().take(SAMPLE_CHARS).collect());
            }
        }
        Ok(if seen < LOOKED_AT { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    let filled = facts.filled.max(1) as f64;
    let share = |count: usize| count as f64 / filled;
    (facts.distinct, facts.words) = (values.len(), share(words));
    (facts.numeric, facts.whole) = (share(numbers), share(whole));
    Ok(facts)
}

/// Words between spaces; in scripts without spaces, characters.
fn count_words(text: &str) -> usize {
    let unspaced =
        |c: &char| matches!(u32::from(*c), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x3040..=0x30ff | 0x3400..=0x9fff);
    text.split_whitespace().count().max(text.chars().filter(unspaced).count())
}

/// A number, also with a comma for the decimals.
fn is_number(cell: &str) -> bool {
    cell.replacen(',', ".", 1).parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether these cells look like names of columns: short, different, none empty and none a number.
fn is_header(cells: &[String]) -> bool {
    let name = |cell: &String| !cell.is_empty() && !is_number(cell) && cell.split_whitespace().count() <= 6;
    cells.iter().all(name) && cells.iter().collect::<BTreeSet<_>>().len() == cells.len()
}

/// Usual names of columns, the likeliest first.
const PAIRS: [(&str, &str); 7] = [
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("#1 string", "#2 string"),
    ("text_a", "text_b"),
    ("text1", "text2"),
];
const TEXTS: [&str; 9] = ["text", "sentence", "review", "content", "comment", "body", "message", "question", "title"];
const LABELS: [&str; 14] = [
    "label",
    "labels",
    "gold_label",
    "quality",
    "is_duplicate",
    "class",
    "category",
    "target",
    "sentiment",
    "score",
    "stars",
    "rating",
    "y",
    "polarity",
];

/// Whether one of the names is a usual one: then the line is a header, whatever the others are.
fn has_usual_name(columns: &[String]) -> bool {
    let usual = |name: &String| {
        let name = name.to_lowercase();
        TEXTS.contains(&name.as_str())
            || LABELS.contains(&name.as_str())
            || PAIRS.iter().any(|(a, b)| name == *a || name == *b)
    };
    columns.iter().any(usual)
}

/// Likely text, second text and label column: by what is in them, with usual names where that leaves it open.
fn guessed(mut found: Columns) -> Columns {
    let place = |wanted: &str| found.names.iter().position(|name| name.to_lowercase() == wanted);
    let pair = PAIRS.iter().find_map(|(first, second)| place(first).zip(place(second)));
    let pair = pair.filter(|&(a, b)| found.facts[a].numeric < 0.5 && found.facts[b].numeric < 0.5);
    let text = match pair {
        Some((first, _)) => Some(first),
        None => longest(&found.facts).map(|longest| {
            let most = found.facts[longest].words;
            let near = |&column: &usize| found.facts[column].words * 2.0 >= most && !found.facts[column].is_id();
            let named = TEXTS.iter().find_map(|name| place(name).filter(near));
            named.filter(|&named| found.facts[named].numeric < 0.5).unwrap_or(longest)
        }),
    };
    let second = pair.map(|(_, second)| second);
    let others = || (0..found.names.len()).filter(|column| Some(*column) != text && Some(*column) != second);
    let usable = |column: &usize| !found.facts[*column].is_id() && found.facts[*column].filled > 0;
    let classes = |column: &usize| usable(column) && found.facts[*column].is_classes();
    let named = LABELS.iter().find_map(|name| place(name).filter(|column| others().any(|other| other == *column)));
    let label = named
        .filter(|column| usable(column) || found.looked_at < 10)
        .or_else(|| others().filter(classes).min_by_key(|&column| found.facts[column].distinct))
        .or_else(|| others().filter(usable).min_by_key(|&column| found.facts[column].distinct))
        .or_else(|| others().next_back());
    let reason = |column: Option<usize>| column.map(|column| found.facts[column].words()).unwrap_or_default();
    let (text_reason, label_reason) = (reason(text), reason(label));
    let amount = |facts: &ColumnFacts| facts.numeric > 0.95 && facts.distinct > MOST_CLASSES;
    if label.is_some_and(|column| amount(&found.facts[column])) {
        found.problem = Problem::Regression;
    }
    let name = |column: Option<usize>| column.map(|column| found.names[column].clone());
    (found.text, found.pair, found.label) = (name(text), name(second), name(label));
    (found.text_reason, found.label_reason) = (text_reason, label_reason);
    found
}

/// The column with the longest texts; numbers only where there is nothing else.
fn longest(facts: &[ColumnFacts]) -> Option<usize> {
    let order = |&a: &usize, &b: &usize| {
        let rank = |facts: &ColumnFacts| (facts.numeric < 0.5, facts.filled > 0);
        rank(&facts[a]).cmp(&rank(&facts[b])).then(facts[a].words.total_cmp(&facts[b].words)).then(b.cmp(&a))
    };
    (0..facts.len()).max_by(order)
}
