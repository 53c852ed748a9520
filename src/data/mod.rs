//! From files to packed batches: readers, tasks, tokenizing, seeded restartable batches.
//!
//! [`load`] gives the rows of a classification task, checked and encoded; [`preview()`] describes them before training.
//! [`text`] does the same for language models; [`order`] says which rows come when.
//!
//! ```
//! use adamix::config::{RunConfig, presets};
//! use adamix::data::{self, TextTokenizer};
//!
//! let mut config = RunConfig::default();
//! presets::lab().apply(&mut config);
//! config.data.max_train_rows = 100;
//! let task = data::load(&config.data, &TextTokenizer::lab()?)?;
//! // Packed: the tokens of all rows one after the other, without padding.
//! let batch = task.train.batch(&[3, 1, 4]);
//! assert_eq!(batch.offsets.len(), 3 + 1);
//! assert_eq!(batch.ids.len(), batch.offsets[3]);
//! # Ok::<(), adamix::error::Error>(())
//! ```

pub mod batch;
pub mod columns;
mod exclusion;
mod file_sets;
mod files;
pub mod gguf;
mod hold_out;
mod json;
pub mod lab;
mod lines;
mod notes;
pub mod order;
pub mod preview;
pub mod references;
mod rows;
mod split_json;
mod table;
pub mod tasks;
pub mod text;
pub mod tokenizer;
mod tokenizer_files;

pub use batch::{Batch, Labels};
pub use preview::{DataPreview, preview};
pub use table::{Cells, Table};
pub use tokenizer::{Encoded, TextTokenizer};

use crate::config::{BadRows, DataConfig, FileFormat, Metric, Problem, Task};
use crate::error::{Context as _, Error, Result};
use notes::Notes;
use rows::{RawRow, Refusals};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What is to be predicted for a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// Class index.
    Class(u32),
    /// A finite number.
    Value(f32),
}

impl Target {
    /// The class index, unless it is a number.
    pub fn class(self) -> Option<u32> {
        if let Self::Class(class) = self { Some(class) } else { None }
    }
    /// The number, unless it is a class.
    pub fn value(self) -> Option<f32> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

/// One example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The (first) text, as in the file.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// The answer.
    pub target: Target,
}

impl Row {
    /// What two rows share when they are duplicates: their texts without spaces around.
    pub(crate) fn key(&self) -> (&str, Option<&str>) {
        (self.text.trim(), self.pair.as_deref().map(str::trim))
    }
}

/// A row that was left out because it could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRow {
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Why it could not be used.
    pub reason: String,
}

/// Rows with their token ids: encoded once, batched many times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The examples.
    pub rows: Vec<Row>,
    /// Their token ids, in the same order.
    pub encoded: Vec<Encoded>,
}

impl Dataset {
    /// Encodes `rows`, cut to `max_length` tokens each, on all threads of the current pool.
    pub fn encode(rows: Vec<Row>, tokenizer: &TextTokenizer, max_length: usize) -> Result<Self> {
        let texts: Vec<_> = rows.iter().map(|row| (row.text.as_str(), row.pair.as_deref())).collect();
        let encoded = tokenizer.encode_all(&texts, max_length)?;
        Ok(Self { rows, encoded })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokens of all rows together.
    pub fn tokens(&self) -> usize {
        self.encoded.iter().map(|text| text.ids.len()).sum()
    }

    /// Packs the rows with these numbers (each below [`Dataset::len`]), in this order.
    pub fn batch(&self, rows: &[usize]) -> Batch {
        let tokens = rows.iter().map(|&row| self.encoded[row].ids.len()).sum();
        let mut batch = Batch {
            ids: Vec::with_capacity(tokens),
            type_ids: Vec::with_capacity(tokens),
            offsets: Vec::with_capacity(rows.len() + 1),
            labels: self.labels(rows),
            rows: rows.to_vec(),
        };
        batch.offsets.push(0);
        for &row in rows {
            batch.ids.extend(&self.encoded[row].ids);
            batch.type_ids.extend(&self.encoded[row].type_ids);
            batch.offsets.push(batch.ids.len());
        }
        batch
    }

    /// The answers of the rows with these numbers.
    pub fn labels(&self, rows: &[usize]) -> Labels {
        let targets = rows.iter().map(|&row| self.rows[row].target);
        match self.rows.first().map(|row| row.target) {
            Some(Target::Value(_)) => Labels::Values(targets.filter_map(Target::value).collect()),
            _ => Labels::Classes(targets.filter_map(Target::class).collect()),
        }
    }

    /// The answers of all rows.
    pub fn all_labels(&self) -> Labels {
        self.labels(&(0..self.len()).collect::<Vec<_>>())
    }
}

/// Everything a run needs to know of its task.
#[derive(Clone, Debug)]
pub struct TaskData {
    /// The rows to learn from.
    pub train: Dataset,
    /// The rows to measure on.
    pub dev: Dataset,
    /// Class names in order; empty for regression.
    pub labels: Vec<String>,
    /// What is predicted.
    pub problem: Problem,
    /// The deciding metric, never [`Metric::Auto`].
    pub metric: Metric,
    /// Rows left out because they could not be used.
    pub skipped: Vec<SkippedRow>,
    /// What the user should know although nothing was refused, one line each.
    pub notes: Vec<String>,
}

/// Rows of both splits before they are encoded.
#[derive(Debug)]
pub(crate) struct TaskRows {
    pub train: Vec<Row>,
    pub dev: Vec<Row>,
    pub labels: Vec<String>,
    pub skipped: Vec<SkippedRow>,
    pub notes: Notes,
    /// Files of the splits; the same twice where the evaluation rows were held out.
    pub files: [String; 2],
}

/// Reads, checks and encodes the rows of a run. Errors name the file and the line. Rows that cannot be used are refused
/// or listed in [`TaskData::skipped`], as the settings say.
pub fn load(config: &DataConfig, tokenizer: &TextTokenizer) -> Result<TaskData> {
    let task = read_rows(config, config.bad_rows)?;
    Ok(TaskData {
        train: Dataset::encode(task.train, tokenizer, config.max_length)?,
        dev: Dataset::encode(task.dev, tokenizer, config.max_length)?,
        labels: task.labels,
        problem: tasks::problem(config),
        metric: tasks::metric(config),
        skipped: task.skipped,
        notes: task.notes.words(),
    })
}

/// One split as it stands in its files.
struct RawSplit {
    /// The files in a few words.
    file: String,
    rows: Vec<RawRow>,
}

fn read_rows(config: &DataConfig, mode: BadRows) -> Result<TaskRows> {
    splits(config, mode).with_context(|| format!("the data of {} cannot be used", tasks::name(config)))
}

fn splits(config: &DataConfig, mode: BadRows) -> Result<TaskRows> {
    if config.task == Task::Text {
        return Err(Error::config("task text is for models that write; a classifier needs a task with labels"));
    }
    let mut refusals = Refusals::new(mode);
    let (train, dev) = sources(config, &mut refusals)?;
    let problem = tasks::problem(config);
    let labels = match tasks::spec(config.task) {
        _ if problem == Problem::Regression => Vec::new(),
        Some(spec) => spec.labels.iter().map(|&label| label.to_owned()).collect(),
        None if config.task == Task::Lab => lab::LABELS.map(str::to_owned).to_vec(),
        None if !config.labels.is_empty() => config.labels.clone(),
        None => rows::derive_labels(&train.rows, &train.file)?,
    };
    let train_file = train.file.clone();
    let mut train = rows::resolve(train.rows, problem, &labels, &mut refusals)?;
    rows::require_two_classes(&train, &labels, &train_file, false)?;
    let (mut dev, dev_file) = match dev {
        Some(dev) => (rows::resolve(dev.rows, problem, &labels, &mut refusals)?, dev.file),
        None => {
            let (kept, held) = rows::hold_out(train, config.dev_fraction).with_context(|| train_file.clone())?;
            train = kept;
            (held, train_file.clone())
        }
    };
    let limit = |rows: &mut Vec<Row>, most: usize| rows.truncate(if most == 0 { usize::MAX } else { most });
    limit(&mut train, config.max_train_rows);
    limit(&mut dev, config.max_eval_rows);
    rows::require_two_classes(&train, &labels, &train_file, config.max_train_rows > 0)?;
    note_classes(&train, &labels, &train_file, &mut refusals.notes);
    let Refusals { skipped, notes, .. } = refusals;
    Ok(TaskRows { train, dev, labels, skipped, notes, files: [train_file, dev_file] })
}

/// Notes classes that hardly can be learned.
fn note_classes(train: &[Row], labels: &[String], file: &str, notes: &mut Notes) {
    let mut counts = vec![0usize; labels.len()];
    for class in train.iter().filter_map(|row| row.target.class()) {
        if let Some(count) = counts.get_mut(class as usize) {
            *count += 1;
        }
    }
    for (label, count) in labels.iter().zip(counts).filter(|_| train.len() >= 20) {
        match count {
            0 => notes.file(file, &format!("no training row has the label {label:?}, which cannot be learned so")),
            1 => notes.file(file, &format!("only one training row has the label {label:?}; perhaps it is a mistake")),
            _ => {}
        }
    }
}

/// The rows of the training and, where there is one, of the evaluation file.
fn sources(config: &DataConfig, refusals: &mut Refusals) -> Result<(RawSplit, Option<RawSplit>)> {
    if config.task == Task::Lab {
        let names = DataConfig::default();
        let plan = tasks::columns(&DataConfig { task: Task::Custom, ..names }, Path::new(""))?;
        let mut read = |name: &str, bytes: &'static [u8]| -> Result<RawSplit> {
            let table = Table::from_bytes(name, Cow::Borrowed(bytes), FileFormat::Tsv, true)?;
            Ok(RawSplit { file: name.to_owned(), rows: rows::raw(&table, &plan, refusals)? })
        };
        return Ok((read("lab/train.tsv", lab::TRAIN_TSV)?, Some(read("lab/dev.tsv", lab::DEV_TSV)?)));
    }
    let files = tasks::files(config)?;
    let mut read = |paths: &[PathBuf]| -> Result<RawSplit> {
        let (mut rows, mut names) = (Vec::new(), Vec::new());
        for path in paths {
            let plan = tasks::columns(config, path)?;
            let table = Table::open(path, plan.format, plan.header)?;
            rows.extend(rows::raw(&table, &plan, refusals)?);
            if table.is_guessed() {
                refusals.notes.file(&table.name, &format!("read as {}", table.describe()));
            }
            names.push(table.name);
        }
        Ok(RawSplit { file: file_sets::words(&names), rows })
    };
    Ok((read(&files.train)?, files.dev.map(|paths| read(&paths)).transpose()?))
}
