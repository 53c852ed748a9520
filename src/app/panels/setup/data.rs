//! The data card: files and columns.

use super::data_preview::preview_ui;
use super::text_preview;
use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::labeled::{self, choice, number, number_or, toggle};
use crate::config::{
    BadRows, DataConfig, FileFormat, Metric, MixtureKind, Problem, RunConfig, Task, TextFormat, Truncate,
};
use egui::Ui;
use std::path::{Path, PathBuf};

const TASKS: [(Task, &str); 11] = [
    (Task::Lab, "Lab: film reviews (bundled)"),
    (Task::Custom, "My own files: classes or numbers"),
    (Task::Text, "My own texts: a model that writes"),
    (Task::Cola, "CoLA: acceptability"),
    (Task::Sst2, "SST-2: sentiment"),
    (Task::Mrpc, "MRPC: paraphrase"),
    (Task::Stsb, "STS-B: similarity"),
    (Task::Qqp, "QQP: duplicate questions"),
    (Task::Mnli, "MNLI: inference"),
    (Task::Qnli, "QNLI: answer or not"),
    (Task::Rte, "RTE: entailment"),
];

const METRICS: [(Metric, &str); 7] = [
    (Metric::Auto, "The task's own"),
    (Metric::Accuracy, "Accuracy"),
    (Metric::F1, "F1"),
    (Metric::Matthews, "Matthews correlation"),
    (Metric::Pearson, "Pearson correlation"),
    (Metric::Spearman, "Spearman correlation"),
    (Metric::Loss, "Loss"),
];

const FORMATS: [(TextFormat, &str); 9] = [
    (TextFormat::Auto, "Detected"),
    (TextFormat::Messages, "Chat messages"),
    (TextFormat::Sharegpt, "ShareGPT conversations"),
    (TextFormat::Alpaca, "Alpaca instructions"),
    (TextFormat::Completion, "Prompt and completion"),
    (TextFormat::Plain, "Plain text"),
    (TextFormat::E2e, "E2E"),
    (TextFormat::Webnlg, "WebNLG"),
    (TextFormat::Dart, "DART"),
];

pub fn data_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig, columns: Option<&(PathBuf, Vec<String>)>) {
    let before = form.data.task;
    choice(ui, "Task", &tip("data.task"), &mut form.data.task, &TASKS);
    if (before == Task::Text) != (form.data.task == Task::Text) {
        // What the paper gives encoders, and what it gives language models.
        form.mixture.kind = if form.data.task == Task::Text { MixtureKind::Lora } else { MixtureKind::Adapter };
    }
    if form.data.task == Task::Text {
        texts_ui(ctx, ui, form);
    }
    let data = &mut form.data;
    match data.task {
        Task::Lab | Task::Text => {}
        Task::Custom => custom_ui(ctx, ui, data, columns),
        _ => {
            let hint = "a directory with train.tsv and dev.tsv";
            ctx.path(ui, "Data directory", &tip("data.path"), hint, &mut data.path, Purpose::DataDir);
        }
    }
    number(ui, "Longest input (tokens)", &tip("data.max_length"), &mut data.max_length, 4..=65_536, 1.0);
    egui::CollapsingHeader::new("More about the data").show(ui, |ui| {
        if form.data.task == Task::Text {
            more_texts_ui(ui, form);
        }
        more_ui(ui, &mut form.data);
    });
    ui.add_space(4.0);
    match form.data.task {
        Task::Text => text_preview::preview_ui(ctx, ui),
        _ => preview_ui(ctx, ui, form.data.max_length),
    }
}

fn custom_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, data: &mut DataConfig, columns: Option<&(PathBuf, Vec<String>)>) {
    let hint = "TSV, CSV or JSONL; drop it onto the window";
    let (tooltip, file) = (tip("data.train_file"), &mut data.train_file);
    let edit = ctx.path(ui, "Training file", &tooltip, hint, file, Purpose::TrainFile);
    if edit.lost_focus() && !data.train_file.is_empty() {
        // Reads the column names of a typed path too.
        ctx.push(Action::UsePath(Purpose::TrainFile, PathBuf::from(&data.train_file)));
    }
    eval_file_ui(ctx, ui, data, "empty: a share of the training rows is held out");
    let known = columns.filter(|(path, _)| Path::new(&data.train_file) == path).map(|(_, names)| names.as_slice());
    let from_preview = ctx.session.data.value.as_ref().map(|preview| preview.columns.names.as_slice());
    let names = known.or(from_preview).unwrap_or_default();
    column_ui(ui, "Text column", "data.text_column", &mut data.text_column, names, false);
    column_ui(ui, "Second text column", "data.text_pair_column", &mut data.text_pair_column, names, true);
    column_ui(ui, "Label column", "data.label_column", &mut data.label_column, names, false);
    let problems = [(Problem::Classification, "Classes"), (Problem::Regression, "A number")];
    choice(ui, "What is predicted", &tip("data.problem"), &mut data.problem, &problems);
}

/// The evaluation file; without one, the share of the training data that is held out.
fn eval_file_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, data: &mut DataConfig, hint: &str) {
    ctx.path(ui, "Evaluation file", &tip("data.dev_file"), hint, &mut data.dev_file, Purpose::DevFile);
    if data.dev_file.is_empty() {
        number(ui, "Share held out", &tip("data.dev_fraction"), &mut data.dev_fraction, 0.01..=0.9, 0.005);
    }
}

/// A column: chosen where the names are known, typed where they are not.
fn column_ui(ui: &mut Ui, label: &str, key: &str, value: &mut String, names: &[String], optional: bool) {
    if names.is_empty() {
        let hint = if optional { "none" } else { "name or number from 0" };
        labeled::text(ui, label, &tip(key), hint, value);
        return;
    }
    let mut options: Vec<_> = names.iter().map(|name| (name.clone(), name.clone())).collect();
    if optional {
        options.insert(0, (String::new(), "none: single sentences".to_owned()));
    }
    if !names.contains(value) && !value.is_empty() {
        options.push((value.clone(), format!("{value} (typed)")));
    }
    choice(ui, label, &tip(key), value, &options);
}

fn more_ui(ui: &mut Ui, data: &mut DataConfig) {
    if data.task == Task::Custom {
        let formats = [
            (FileFormat::Auto, "By the file's ending"),
            (FileFormat::Tsv, "TSV"),
            (FileFormat::Csv, "CSV"),
            (FileFormat::Jsonl, "JSONL"),
        ];
        choice(ui, "Format", &tip("data.format"), &mut data.format, &formats);
        toggle(ui, "The first line names the columns", &tip("data.header"), &mut data.header);
        let mut labels = data.labels.join(", ");
        let hint = "empty: as found, sorted";
        if labeled::text(ui, "Label names in order", &tip("data.labels"), hint, &mut labels).changed() {
            data.labels = split_names(&labels);
        }
    }
    if data.task != Task::Text {
        choice(ui, "Deciding metric", &tip("data.metric"), &mut data.metric, &METRICS);
    }
    let bad = [(BadRows::Refuse, "Stop and say where"), (BadRows::Skip, "Leave out and list")];
    choice(ui, "Unusable rows", &tip("data.bad_rows"), &mut data.bad_rows, &bad);
    let rows = 0..=usize::MAX;
    let (label, key) = ("Most training rows", tip("data.max_train_rows"));
    number_or(ui, label, &key, "all", &mut data.max_train_rows, rows.clone(), 10.0);
    number_or(ui, "Most evaluation rows", &tip("data.max_eval_rows"), "all", &mut data.max_eval_rows, rows, 10.0);
}

/// Names separated by commas.
pub fn split_names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn texts_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig) {
    let RunConfig { data, text, .. } = form;
    let hint = "JSONL, JSON, CSV, TSV, XML or plain text; drop it onto the window";
    ctx.path(ui, "Training file", &tip("data.train_file"), hint, &mut data.train_file, Purpose::TrainFile);
    if data.train_file.is_empty() {
        let hint = "instead of files: a directory with train and valid files";
        ctx.path(ui, "Data directory", &tip("data.path"), hint, &mut data.path, Purpose::DataDir);
    }
    eval_file_ui(ctx, ui, data, "empty: a share of the training texts is held out");
    choice(ui, "Format", &tip("text.format"), &mut text.format, &FORMATS);
    template_ui(ui, &mut text.template);
    toggle(ui, "Learn the prompts too", &tip("text.learn_prompt"), &mut text.learn_prompt);
}

/// The fields under *More about the data*.
fn more_texts_ui(ui: &mut Ui, form: &mut RunConfig) {
    let text = &mut form.text;
    if matches!(text.format, TextFormat::Auto | TextFormat::Completion | TextFormat::Plain) {
        let hint = "empty: the usual names";
        labeled::text(ui, "Prompt column", &tip("text.prompt_column"), hint, &mut text.prompt_column);
        labeled::text(ui, "Completion column", &tip("text.completion_column"), hint, &mut text.completion_column);
    }
    let ends = [(Truncate::End, "The end"), (Truncate::Start, "The start")];
    choice(ui, "Cut off of long texts", &tip("text.truncate"), &mut text.truncate, &ends);
    let (label, key) = ("Tokens a batch", tip("text.max_tokens_per_batch"));
    number_or(ui, label, &key, "by examples", &mut text.max_tokens_per_batch, 0..=1 << 24, 8.0);
    labeled::text(ui, "Date in templates", &tip("text.date"), "empty: today", &mut text.date);
}

/// The chat template: one of the words, or a file.
fn template_ui(ui: &mut Ui, template: &mut String) {
    let words = [
        ("auto", "The model's own for conversations"),
        ("model", "The model's own for everything"),
        ("none", "None: a plain layout"),
    ];
    let mut options: Vec<_> = words.map(|(word, says)| (word.to_owned(), says)).into();
    let file = !words.iter().any(|(word, _)| word == template);
    let path = if file { template.clone() } else { "template.jinja".to_owned() };
    options.push((path, "A Jinja file"));
    choice(ui, "Chat template", &tip("text.template"), template, &options);
    if file {
        labeled::text(ui, "Template file", &tip("text.template"), "path of a Jinja file", template);
    }
}
