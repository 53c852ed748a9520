//! What is in the data, before training: plain serde data. Rows that cannot be used are all listed here, also where
//! training would refuse the first of them.

pub use super::columns::{ColumnFacts, Columns, columns};
use super::{Row, SkippedRow, Target, TextTokenizer, tasks};
use crate::config::{BadRows, DataConfig, Metric, Problem, Task};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rows shown of each split.
const SAMPLE: usize = 20;
/// Rows whose tokens are counted, evenly spread; more would make the window wait.
const MEASURED: usize = 20_000;
/// Bars of a histogram.
const BINS: usize = 32;
/// Examples shown of duplicates, leaks and conflicts.
const EXAMPLES: usize = 10;

/// What is in the data of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataPreview {
    /// The task's name for people.
    pub name: String,
    /// What is predicted.
    pub problem: Problem,
    /// The deciding metric, never `auto`.
    pub metric: Metric,
    /// Class names in order; empty for regression.
    pub labels: Vec<String>,
    /// The columns of the training file and what they seem to be.
    pub columns: Columns,
    /// The rows to learn from.
    pub train: SplitPreview,
    /// The rows to measure on.
    pub dev: SplitPreview,
    /// Whether the evaluation rows were held out of the training file.
    pub held_out: bool,
    /// Largest length used for the token counts.
    pub max_length: usize,
    /// Training rows whose texts occurred in an earlier training row.
    pub duplicates_in_train: usize,
    /// Evaluation rows whose texts are also in a training row: the score will be too good.
    pub leaks: usize,
    /// The first few of these texts.
    pub leak_examples: Vec<String>,
    /// Texts in the training rows that have more than one label.
    pub conflicts: usize,
    /// The first few of these texts.
    pub conflict_examples: Vec<String>,
    /// Rows that cannot be used.
    pub skipped: Vec<SkippedRow>,
    /// Whether training would stop at the first of them.
    pub refused: bool,
    /// What the user should know although nothing is refused, one line each.
    pub notes: Vec<String>,
}

/// One split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitPreview {
    /// Its file.
    pub file: String,
    /// Usable rows.
    pub rows: usize,
    /// The first rows.
    pub sample: Vec<SampleRow>,
    /// Rows of each class, in class order; empty for regression.
    pub balance: Vec<usize>,
    /// Smallest, mean and largest target of a regression.
    pub targets: Option<[f64; 3]>,
    /// Token counts; absent without a tokenizer.
    pub lengths: Option<Lengths>,
}

/// A row as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleRow {
    /// The (first) text.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
    /// The class name or the number.
    pub label: String,
    /// The tokens the model will see; empty without a tokenizer.
    pub tokens: Vec<String>,
    /// Whether tokens were cut off.
    pub truncated: bool,
}

/// How long the rows are in tokens, special tokens counted, before they are cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Rows that were counted: all, or that many evenly spread ones.
    pub measured: usize,
    /// Shortest row.
    pub min: usize,
    /// Mean length.
    pub mean: f64,
    /// Median length.
    pub median: usize,
    /// 95 of 100 rows are at most this long.
    pub p95: usize,
    /// Longest row.
    pub max: usize,
    /// Share of the rows that are cut at the run's largest length, 0 to 1.
    pub truncated_share: f64,
    /// Rows per bar; bar `i` counts lengths from `i * bin_width` up to, not including, `(i + 1) * bin_width`.
    pub histogram: Vec<usize>,
    /// Tokens a bar spans.
    pub bin_width: usize,
}

impl Lengths {
    /// Share of the tokens beyond `max_length`, 0 to 1; each row counts as the middle of its bar.
    pub fn cut_share(&self, max_length: usize) -> f64 {
        if self.truncated_share == 0.0 {
            return 0.0;
        }
        let sum = |tokens: &dyn Fn(f64) -> f64| -> f64 {
            let bars = self.histogram.iter().enumerate();
            bars.map(|(bar, &rows)| rows as f64 * tokens((bar as f64 + 0.5) * self.bin_width as f64)).sum()
        };
        sum(&|length| (length - max_length as f64).max(0.0)) / sum(&|length| length).max(1.0)
    }
}

/// Reads the rows of a run and tells what is in them; with a tokenizer also how long they are.
pub fn preview(config: &DataConfig, tokenizer: Option<&TextTokenizer>) -> Result<DataPreview> {
    let task = super::read_rows(config, BadRows::Skip)?;
    let found = match config.task {
        Task::Lab => Columns::default(),
        _ => {
            let files = tasks::files(config)?;
            let train = files.train.first().ok_or_else(|| Error::config("no training file chosen; give train_file"))?;
            let plan = tasks::columns(config, train)?;
            columns(train, plan.format, Some(plan.header))?
        }
    };
    let [train_file, dev_file] = task.files;
    let split = |file: &str, rows: &[Row]| describe(file, rows, &task.labels, tokenizer, config.max_length);
    let mut preview = DataPreview {
        name: tasks::name(config),
        problem: tasks::problem(config),
        metric: tasks::metric(config),
        columns: found,
        train: split(&train_file, &task.train)?,
        dev: split(&dev_file, &task.dev)?,
        held_out: config.task == Task::Custom && config.dev_file.is_empty(),
        max_length: config.max_length,
        refused: config.bad_rows == BadRows::Refuse && !task.skipped.is_empty(),
        notes: task.notes.words(),
        skipped: task.skipped,
        ..DataPreview::default()
    };
    compare(&mut preview, &task.train, &task.dev);
    preview.labels = task.labels;
    Ok(preview)
}

/// Duplicates, leaks and conflicts.
fn compare(preview: &mut DataPreview, train: &[Row], dev: &[Row]) {
    let shown = |key: (&str, Option<&str>)| match key {
        (text, Some(pair)) => format!("{text} | {pair}"),
        (text, None) => text.to_owned(),
    };
    // Text to its first label, and whether another one was seen.
    let mut seen: BTreeMap<(&str, Option<&str>), (Target, bool)> = BTreeMap::new();
    for row in train {
        let Some((label, conflict)) = seen.get_mut(&row.key()) else {
            seen.insert(row.key(), (row.target, false));
            continue;
        };
        preview.duplicates_in_train += 1;
        if *label != row.target && !std::mem::replace(conflict, true) {
            preview.conflicts += 1;
            if preview.conflict_examples.len() < EXAMPLES {
                preview.conflict_examples.push(shown(row.key()));
            }
        }
    }
    for row in dev.iter().filter(|row| seen.contains_key(&row.key())) {
        preview.leaks += 1;
        if preview.leak_examples.len() < EXAMPLES {
            preview.leak_examples.push(shown(row.key()));
        }
    }
}

fn describe(
    file: &str,
    rows: &[Row],
    labels: &[String],
    tokenizer: Option<&TextTokenizer>,
    max_length: usize,
) -> Result<SplitPreview> {
    let mut sample = Vec::new();
    for row in rows.iter().take(SAMPLE) {
        let encoded = tokenizer.map(|tokenizer| tokenizer.encode(&row.text, row.pair.as_deref(), max_length));
        let encoded = encoded.transpose()?.unwrap_or_default();
        sample.push(SampleRow {
            text: row.text.clone(),
            pair: row.pair.clone(),
            label: match row.target {
                Target::Class(class) => labels.get(class as usize).cloned().unwrap_or_default(),
                Target::Value(value) => value.to_string(),
            },
            tokens: tokenizer.map(|tokenizer| tokenizer.tokens(&encoded.ids)).unwrap_or_default(),
            truncated: encoded.truncated,
        });
    }
    let mut balance = vec![0; labels.len()];
    for class in rows.iter().filter_map(|row| row.target.class()) {
        if let Some(count) = balance.get_mut(class as usize) {
            *count += 1;
        }
    }
    let values: Vec<f64> = rows.iter().filter_map(|row| row.target.value()).map(f64::from).collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let targets = (!values.is_empty()).then(|| {
        let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or(mean);
        [fold(f64::min), mean, fold(f64::max)]
    });
    let lengths = tokenizer.map(|tokenizer| measure(rows, tokenizer, max_length)).transpose()?;
    Ok(SplitPreview { file: file.to_owned(), rows: rows.len(), sample, balance, targets, lengths })
}

fn measure(rows: &[Row], tokenizer: &TextTokenizer, max_length: usize) -> Result<Lengths> {
    let step = rows.len().div_ceil(MEASURED).max(1);
    let texts: Vec<_> = rows.iter().step_by(step).map(|row| (row.text.as_str(), row.pair.as_deref())).collect();
    let encoded = tokenizer.encode_all(&texts, usize::MAX)?;
    Ok(lengths(encoded.iter().map(|text| text.ids.len()).collect(), max_length))
}

/// Statistics of these lengths.
pub(super) fn lengths(mut lengths: Vec<usize>, max_length: usize) -> Lengths {
    lengths.sort_unstable();
    let at = |share: f64| {
        let rank = (share * lengths.len() as f64).ceil() as usize;
        lengths.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    let max = lengths.last().copied().unwrap_or(0);
    let bin_width = (max + 1).div_ceil(BINS).max(1);
    let mut histogram = vec![0; (max / bin_width) + 1];
    for length in &lengths {
        histogram[length / bin_width] += 1;
    }
    let measured = lengths.len();
    let cut = lengths.iter().filter(|&&length| length > max_length).count();
    Lengths {
        measured,
        min: lengths.first().copied().unwrap_or(0),
        mean: lengths.iter().sum::<usize>() as f64 / measured.max(1) as f64,
        median: at(0.5),
        p95: at(0.95),
        max,
        truncated_share: cut as f64 / measured.max(1) as f64,
        histogram,
        bin_width,
    }
}
