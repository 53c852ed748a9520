//! The known tasks: where their files, columns and labels are. Labels are in the order of Hugging Face's GLUE; files
//! may hold their numbers or their names.

use super::file_sets::FileSets;
use crate::config::{DataConfig, FileFormat, Metric, Problem, Task};
use crate::error::Result;
use std::path::Path;

/// What is fixed for a known task.
#[derive(Clone, Copy, Debug)]
pub struct TaskSpec {
    /// The name people use.
    pub name: &'static str,
    /// Names the text column goes by.
    pub text: &'static [&'static str],
    /// Names the column of the second text goes by; empty for single sentences.
    pub pair: &'static [&'static str],
    /// Names the label column goes by.
    pub label: &'static [&'static str],
    /// Text and label column by number, where the task's own file has no header.
    pub headerless: Option<(usize, usize)>,
    /// Class names in order; empty for regression.
    pub labels: &'static [&'static str],
    /// The metric that decides.
    pub metric: Metric,
    /// Stems of the evaluation file, best first.
    pub dev_stems: &'static [&'static str],
}

const ENTAILMENT: &[&str] = &["entailment", "not_entailment"];

/// Accuracy on single sentences.
const SENTENCES: TaskSpec = TaskSpec {
    name: "",
    text: &["sentence"],
    pair: &[],
    label: &["label"],
    headerless: None,
    labels: &[],
    metric: Metric::Accuracy,
    dev_stems: &["dev", "validation", "dev_subset", "val"],
};
/// Accuracy on pairs of sentences.
const PAIRS: TaskSpec = TaskSpec { text: &["sentence1"], pair: &["sentence2"], ..SENTENCES };

/// The fixed parts of a known task; nothing for the lab and for the user's own rows and texts.
pub fn spec(task: Task) -> Option<TaskSpec> {
    Some(match task {
        Task::Lab | Task::Custom | Task::Text => return None,
        Task::Cola => TaskSpec {
            name: "CoLA",
            headerless: Some((3, 1)),
            labels: &["unacceptable", "acceptable"],
            metric: Metric::Matthews,
            ..SENTENCES
        },
        Task::Sst2 => TaskSpec { name: "SST-2", labels: &["negative", "positive"], ..SENTENCES },
        Task::Mrpc => TaskSpec {
            name: "MRPC",
            text: &["#1 String", "sentence1"],
            pair: &["#2 String", "sentence2"],
            label: &["Quality", "label"],
            labels: &["not_equivalent", "equivalent"],
            ..PAIRS
        },
        Task::Stsb => TaskSpec { name: "STS-B", label: &["score", "label"], metric: Metric::Pearson, ..PAIRS },
        Task::Qqp => TaskSpec {
            name: "QQP",
            text: &["question1"],
            pair: &["question2"],
            label: &["is_duplicate", "label"],
            labels: &["not_duplicate", "duplicate"],
            ..PAIRS
        },
        Task::Mnli => TaskSpec {
            name: "MNLI",
            text: &["sentence1", "premise"],
            pair: &["sentence2", "hypothesis"],
            label: &["gold_label", "label"],
            labels: &["entailment", "neutral", "contradiction"],
            dev_stems: &["dev_matched", "validation_matched", "dev", "dev_subset"],
            ..PAIRS
        },
        Task::Qnli => TaskSpec { name: "QNLI", text: &["question"], pair: &["sentence"], labels: ENTAILMENT, ..PAIRS },
        Task::Rte => TaskSpec { name: "RTE", labels: ENTAILMENT, ..PAIRS },
    })
}

/// What is predicted in this run.
pub fn problem(config: &DataConfig) -> Problem {
    match config.task {
        Task::Stsb => Problem::Regression,
        Task::Custom => config.problem,
        _ => Problem::Classification,
    }
}

/// The deciding metric of this run, never [`Metric::Auto`].
pub fn metric(config: &DataConfig) -> Metric {
    match (config.metric, spec(config.task), problem(config)) {
        (Metric::Auto, Some(spec), _) => spec.metric,
        (Metric::Auto, None, Problem::Regression) => Metric::Pearson,
        (Metric::Auto, None, Problem::Classification) => Metric::Accuracy,
        (metric, ..) => metric,
    }
}

/// The name of the task for people: `SST-2`, `lab`, the training file's stem, or the name of the directory of texts.
pub fn name(config: &DataConfig) -> String {
    match spec(config.task) {
        Some(spec) => spec.name.to_owned(),
        None if config.task == Task::Lab => "lab".to_owned(),
        None if config.train_file.is_empty() => {
            Path::new(&config.path).file_name().unwrap_or_default().to_string_lossy().into_owned()
        }
        None => Path::new(&config.train_file).file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// The training files, and the evaluation files where there are such.
pub(super) fn files(config: &DataConfig) -> Result<FileSets> {
    FileSets::of(config, spec(config.task).map(|spec| spec.dev_stems))
}

/// How the columns of one file are found.
#[derive(Clone, Debug)]
pub(super) struct ColumnPlan {
    pub format: FileFormat,
    pub header: bool,
    pub text: Vec<String>,
    pub pair: Vec<String>,
    pub label: Vec<String>,
    /// Names of the classes that the settings or the task give; nothing for numbers.
    pub classes: Option<Vec<String>>,
}

/// The columns of `file` for this run; a known task's file may also come without its header.
pub(super) fn columns(config: &DataConfig, file: &Path) -> Result<ColumnPlan> {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let Some(spec) = spec(config.task) else {
        let one = |name: &str| if name.is_empty() { Vec::new() } else { vec![name.to_owned()] };
        return Ok(ColumnPlan {
            format: config.format,
            header: config.header,
            text: one(&config.text_column),
            pair: one(&config.text_pair_column),
            label: one(&config.label_column),
            classes: (config.problem == Problem::Classification).then(|| config.labels.clone()),
        });
    };
    let mut plan = ColumnPlan {
        format: config.format,
        header: true,
        text: owned(spec.text),
        pair: owned(spec.pair),
        label: owned(spec.label),
        classes: (!spec.labels.is_empty()).then(|| owned(spec.labels)),
    };
    if let Some((text, label)) = spec.headerless
        && !super::Table::first_line_names(file, config.format, spec.text)?
    {
        plan = ColumnPlan { header: false, text: vec![text.to_string()], label: vec![label.to_string()], ..plan };
    }
    Ok(plan)
}
