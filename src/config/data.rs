//! Which rows, which columns, how they become tokens.

use super::{require, within};
use serde::{Deserialize, Serialize};

/// A known task, which fixes files, columns, labels and metric; or the user's own rows or texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The bundled film-review sentences.
    #[default]
    Lab,
    /// The user's own files and columns.
    Custom,
    /// Texts for a model that writes, as the `text` settings say.
    Text,
    /// Acceptability, one sentence, Matthews correlation.
    Cola,
    /// Sentiment, one sentence, accuracy.
    Sst2,
    /// Paraphrase, pair, F1 and accuracy.
    Mrpc,
    /// Similarity 0 to 5, pair, Pearson and Spearman.
    Stsb,
    /// Duplicate questions, pair, F1 and accuracy.
    Qqp,
    /// Inference, pair, three labels, accuracy.
    Mnli,
    /// Question answering as entailment, pair, accuracy.
    Qnli,
    /// Entailment, pair, accuracy.
    Rte,
}

/// How rows are laid out in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// By the file's contents where they tell (Parquet, Arrow, sheets), else by its ending: `.tsv`, `.csv`,
    /// `.jsonl`/`.ndjson`/`.json`.
    #[default]
    Auto,
    /// Tab-separated, never quoted (GLUE's way).
    Tsv,
    /// Quoted, separated by whatever the first lines are separated by.
    Csv,
    /// JSON: one object a line, an array of objects, or objects over several lines.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow: the file format (Feather) or a stream.
    Arrow,
    /// The first sheet with rows of an Excel or OpenDocument workbook.
    Sheet,
}

/// What to do with a row that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// Stop with the file and the line.
    #[default]
    Refuse,
    /// Leave it out, counted and listed.
    Skip,
}

/// What is predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// One of C classes.
    #[default]
    Classification,
    /// One number.
    Regression,
}

/// The metric that decides which checkpoint is best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The task's own: Matthews for CoLA, Pearson for STS-B, the loss for texts, else accuracy.
    #[default]
    Auto,
    /// Share of right predictions.
    Accuracy,
    /// F1 of the positive class (label 1) for two classes, macro-averaged for more.
    F1,
    /// Matthews correlation coefficient.
    Matthews,
    /// Pearson correlation.
    Pearson,
    /// Spearman rank correlation.
    Spearman,
    /// Mean loss, lower is better.
    Loss,
}

/// Which rows, which columns, how they become tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A known task, `custom` or `text`.
    pub task: Task,
    /// Directory in GLUE layout for a known task; for texts one with files called train and valid.
    pub path: String,
    /// Training file. A run file may name one for a known task too: runs of earlier versions did.
    pub train_file: String,
    /// Evaluation file; for a known task only to override the usual name. Empty for `custom`: `dev_fraction` is held out.
    pub dev_file: String,
    /// Share of the training rows held out when there is no evaluation file.
    pub dev_fraction: f64,
    /// How the files are laid out.
    pub format: FileFormat,
    /// Column of the (first) text, by name or by number from 0.
    pub text_column: String,
    /// Column of the second text of a pair; empty: single sentences.
    pub text_pair_column: String,
    /// Column of the label.
    pub label_column: String,
    /// Whether the first line names the columns (TSV and CSV).
    pub header: bool,
    /// What is predicted.
    pub problem: Problem,
    /// Label names in class order; empty: the sorted distinct labels of the training file.
    pub labels: Vec<String>,
    /// Which metric decides.
    pub metric: Metric,
    /// Longest input in tokens, special tokens counted; longer ones are truncated. Paper: 128.
    pub max_length: usize,
    /// What to do with a row that cannot be used.
    pub bad_rows: BadRows,
    /// Use only the first so many training rows; 0: all.
    pub max_train_rows: usize,
    /// Use only the first so many evaluation rows; 0: all.
    pub max_eval_rows: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            task: Task::Lab,
            path: String::new(),
            train_file: String::new(),
            dev_file: String::new(),
            dev_fraction: 0.1,
            format: FileFormat::Auto,
            text_column: "sentence".to_owned(),
            text_pair_column: String::new(),
            label_column: "label".to_owned(),
            header: true,
            problem: Problem::Classification,
            labels: Vec::new(),
            metric: Metric::Auto,
            max_length: 128,
            bad_rows: BadRows::Refuse,
            max_train_rows: 0,
            max_eval_rows: 0,
        }
    }
}

impl DataConfig {
    pub(super) fn problems(&self, found: &mut Vec<String>) {
        match self.task {
            Task::Lab => {}
            Task::Text => {
                require(found, !self.train_file.is_empty() || !self.path.is_empty(), || {
                    "no text file chosen; give train_file, or data.path, a directory with train and valid files"
                        .to_owned()
                });
            }
            Task::Custom => {
                require(found, !self.train_file.is_empty(), || "no training file chosen; give train_file".to_owned());
                require(found, !self.text_column.is_empty(), || "no text column chosen; give text_column".to_owned());
                require(found, !self.label_column.is_empty(), || {
                    "no label column chosen; give label_column".to_owned()
                });
                require(found, self.text_pair_column.is_empty() || self.text_pair_column != self.text_column, || {
                    format!(
                        "text_column and text_pair_column are both {:?}; choose two different columns",
                        self.text_column
                    )
                });
            }
            _ => require(found, !self.path.is_empty() || !self.train_file.is_empty(), || {
                "no data directory chosen; give data.path, a directory in GLUE layout".to_owned()
            }),
        }
        require(found, !self.dev_file.is_empty() || (self.dev_fraction > 0.0 && self.dev_fraction < 1.0), || {
            format!("dev_fraction is {}; choose a share between 0 and 1, or give dev_file", self.dev_fraction)
        });
        within(found, "max_length", self.max_length, 4..=65_536, "choose 4 to 65536 (the paper uses 128)");
        let regression_metric = matches!(self.metric, Metric::Pearson | Metric::Spearman);
        let class_metric = matches!(self.metric, Metric::Accuracy | Metric::F1 | Metric::Matthews);
        let regression = self.task == Task::Stsb || (self.task == Task::Custom && self.problem == Problem::Regression);
        if self.task == Task::Text {
            require(found, matches!(self.metric, Metric::Auto | Metric::Loss), || {
                format!("data.metric {:?} does not fit texts; choose auto or loss", self.metric).to_lowercase()
            });
            return;
        }
        require(found, !(regression && class_metric || !regression && regression_metric), || {
            format!(
                "data.metric {:?} does not fit a {} task",
                self.metric,
                if regression { "regression" } else { "classification" }
            )
        });
    }
}
