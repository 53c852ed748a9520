//! The data card: files and columns.

use super::data_preview::preview_ui;
use super::text_preview;
use crate::app::actions::Action;
use crate::app::fields::label;
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::cards;
use crate::app::widgets::labeled::{self, choice, number, number_or, toggle};
use crate::config::{BadRows, DataConfig, FileFormat, Metric, Problem, RunConfig, Task, TextFormat, Truncate};
use crate::format;
use crate::protocol::Columns;
use egui::Ui;
use std::path::PathBuf;

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

pub fn data_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig, previewed: &mut String) {
    let mut task = form.data.task;
    choice(ui, label("data.task"), tip("data.task"), &mut task, &TASKS);
    if task != form.data.task {
        // What belongs to the old task is kept aside; the form of the new one is drawn next.
        ctx.push(Action::ChooseTask(task));
    }
    match form.data.task {
        Task::Lab => {}
        Task::Text => texts_ui(ctx, ui, form),
        Task::Custom => custom_ui(ctx, ui, &mut form.data),
        _ => {
            let hint = "a directory with train.tsv and dev.tsv";
            let path = &mut form.data.path;
            ctx.path(ui, label("data.path"), tip("data.path"), hint, path, Purpose::DataDir);
        }
    }
    let length = &mut form.data.max_length;
    number(ui, label("data.max_length"), tip("data.max_length"), length, 4..=65_536, 1.0);
    egui::CollapsingHeader::new("More about the data").show(ui, |ui| {
        if form.data.task == Task::Text {
            more_texts_ui(ui, form);
        }
        more_ui(ctx, ui, &mut form.data);
    });
    ui.add_space(4.0);
    match form.data.task {
        Task::Text => text_preview::preview_ui(ctx, ui),
        _ => preview_ui(ctx, ui, form.data.max_length, previewed),
    }
}

fn custom_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, data: &mut DataConfig) {
    let hint = "TSV, CSV or JSONL; drop it onto the window";
    let (tooltip, file) = (tip("data.train_file"), &mut data.train_file);
    let edit = ctx.path(ui, label("data.train_file"), tooltip, hint, file, Purpose::TrainFile);
    if edit.lost_focus() && !data.train_file.is_empty() {
        // The columns of a typed path are guessed too.
        ctx.push(Action::UsePath(Purpose::TrainFile, PathBuf::from(&data.train_file)));
    }
    eval_file_ui(ctx, ui, data, "empty: a share of the training rows is held out");
    let query = &ctx.session.columns;
    if query.is_pending() {
        cards::loading(ui, "Reading the columns", None);
    }
    let known = query.value.as_ref();
    if let Some(found) = known {
        cards::caption(ui, ctx.theme, file_text(found));
    }
    for (key, optional) in [("data.text_column", false), ("data.text_pair_column", true), ("data.label_column", false)]
    {
        let value = match key {
            "data.text_column" => &mut data.text_column,
            "data.text_pair_column" => &mut data.text_pair_column,
            _ => &mut data.label_column,
        };
        let names = known.map(|found| found.names.as_slice()).unwrap_or_default();
        column_ui(ui, key, value, names, optional);
        if let Some(found) = known {
            facts_ui(ctx, ui, found, key, value);
        }
    }
    let problems = [(Problem::Classification, "Classes"), (Problem::Regression, "A number")];
    choice(ui, label("data.problem"), tip("data.problem"), &mut data.problem, &problems);
}

/// How a file is laid out, and how much of it was looked at.
fn file_text(found: &Columns) -> String {
    let rows = format::count(found.looked_at);
    let cells = match found.delimiter {
        None => {
            return format!("{} columns: {}; the first {rows} rows were looked at", found.names.len(), found.layout);
        }
        Some('\t') => "columns between tabs".to_owned(),
        Some(',') => "columns between commas".to_owned(),
        Some(';') => "columns between semicolons".to_owned(),
        Some('|') => "columns between bars".to_owned(),
        Some(other) => format!("columns between {other:?}"),
    };
    let header = if found.header { ", named by the first line" } else { ", without a line of names" };
    format!("{} {cells}{header}; {}; the first {rows} rows were looked at", found.names.len(), found.encoding)
}

/// What is in the chosen column, and whether it was guessed.
fn facts_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, found: &Columns, key: &str, chosen: &str) {
    let Some(facts) = found.facts_of(chosen) else { return };
    let (guess, why) = match key {
        "data.text_column" => (&found.text, "guessed, the longest texts: "),
        "data.text_pair_column" => (&found.pair, "guessed by its name: "),
        _ => (&found.label, "guessed, few values that come again: "),
    };
    let why = if guess.as_deref() == Some(chosen) { why } else { "" };
    let samples: Vec<String> =
        facts.samples.iter().map(|sample| format!("{:?}", format::ellipsis(sample, 30))).collect();
    let text = format!("{why}{}, such as {}", facts.words(), samples.join(", "));
    cards::caption(ui, ctx.theme, text);
    let is_text = key != "data.label_column";
    if is_text && facts.numeric > 0.5 {
        cards::note(ui, ctx.theme.warning, &format!("{chosen:?} holds numbers; choose the column with the texts"));
    } else if is_text && facts.filled > 0 && facts.words < 2.0 {
        let text = format!("{chosen:?} holds single words; choose the column with the texts");
        cards::note(ui, ctx.theme.warning, &text);
    }
}

/// The evaluation file; without one, the share of the training data that is held out.
fn eval_file_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, data: &mut DataConfig, hint: &str) {
    let file = &mut data.dev_file;
    ctx.path(ui, label("data.dev_file"), tip("data.dev_file"), hint, file, Purpose::DevFile);
    if data.dev_file.is_empty() {
        let share = &mut data.dev_fraction;
        number(ui, label("data.dev_fraction"), tip("data.dev_fraction"), share, 0.01..=0.9, 0.005);
    }
}

/// A column: chosen where the names are known, typed where they are not.
fn column_ui(ui: &mut Ui, key: &str, value: &mut String, names: &[String], optional: bool) {
    if names.is_empty() {
        let hint = if optional { "none" } else { "name or number from 0" };
        labeled::text(ui, label(key), tip(key), hint, value);
        return;
    }
    let mut options: Vec<_> = names.iter().map(|name| (name.clone(), name.clone())).collect();
    if optional {
        options.insert(0, (String::new(), "none: single sentences".to_owned()));
    }
    if !names.contains(value) && !value.is_empty() {
        options.push((value.clone(), format!("{value} (typed)")));
    }
    choice(ui, label(key), tip(key), value, &options);
}

fn more_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, data: &mut DataConfig) {
    let known_task = !matches!(data.task, Task::Lab | Task::Custom | Task::Text);
    if known_task {
        let (hint, file) = ("empty: the task's own", &mut data.dev_file);
        ctx.path(ui, label("data.dev_file"), tip("data.dev_file"), hint, file, Purpose::DevFile);
    }
    if data.task != Task::Lab {
        let formats = [
            (FileFormat::Auto, "Detected"),
            (FileFormat::Tsv, "TSV"),
            (FileFormat::Csv, "CSV"),
            (FileFormat::Jsonl, "JSON"),
            (FileFormat::Parquet, "Parquet"),
            (FileFormat::Arrow, "Arrow"),
            (FileFormat::Sheet, "Excel or OpenDocument"),
        ];
        choice(ui, label("data.format"), tip("data.format"), &mut data.format, &formats);
    }
    if data.task == Task::Custom {
        toggle(ui, label("data.header"), tip("data.header"), &mut data.header);
    }
    if data.task == Task::Custom && data.problem == Problem::Classification {
        let mut labels = data.labels.join(", ");
        let hint = "empty: as found, sorted";
        if labeled::text(ui, label("data.labels"), tip("data.labels"), hint, &mut labels).changed() {
            data.labels = split_names(&labels);
        }
    }
    if data.task != Task::Text {
        choice(ui, label("data.metric"), tip("data.metric"), &mut data.metric, &METRICS);
    }
    if data.task != Task::Lab {
        let bad = [(BadRows::Refuse, "Stop and say where"), (BadRows::Skip, "Leave out and list")];
        choice(ui, label("data.bad_rows"), tip("data.bad_rows"), &mut data.bad_rows, &bad);
    }
    let rows = 0..=usize::MAX;
    let (name, tooltip, most) = (label("data.max_train_rows"), tip("data.max_train_rows"), &mut data.max_train_rows);
    number_or(ui, name, tooltip, "all", most, rows.clone(), 10.0);
    let (name, tooltip, most) = (label("data.max_eval_rows"), tip("data.max_eval_rows"), &mut data.max_eval_rows);
    number_or(ui, name, tooltip, "all", most, rows, 10.0);
}

/// Names separated by commas.
pub fn split_names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn texts_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig) {
    let RunConfig { data, text, .. } = form;
    let hint = "JSONL, JSON, CSV, TSV, XML or plain text; drop it onto the window";
    ctx.path(ui, label("data.train_file"), tip("data.train_file"), hint, &mut data.train_file, Purpose::TrainFile);
    let (hint, path) = ("instead of files: a directory with train and valid files", &mut data.path);
    ctx.path(ui, label("data.path"), tip("data.path"), hint, path, Purpose::DataDir);
    eval_file_ui(ctx, ui, data, "empty: a share of the training texts is held out");
    choice(ui, label("text.format"), tip("text.format"), &mut text.format, &FORMATS);
    template_ui(ui, &mut text.template);
    toggle(ui, label("text.learn_prompt"), tip("text.learn_prompt"), &mut text.learn_prompt);
}

/// The fields under *More about the data*.
fn more_texts_ui(ui: &mut Ui, form: &mut RunConfig) {
    let text = &mut form.text;
    let hint = "empty: the usual names";
    if matches!(text.format, TextFormat::Auto | TextFormat::Completion) {
        let column = &mut text.prompt_column;
        labeled::text(ui, label("text.prompt_column"), tip("text.prompt_column"), hint, column);
    }
    if matches!(text.format, TextFormat::Auto | TextFormat::Completion | TextFormat::Plain) {
        let column = &mut text.completion_column;
        labeled::text(ui, label("text.completion_column"), tip("text.completion_column"), hint, column);
    }
    let ends = [(Truncate::End, "The end"), (Truncate::Start, "The start")];
    choice(ui, label("text.truncate"), tip("text.truncate"), &mut text.truncate, &ends);
    let (name, key) = (label("text.max_tokens_per_batch"), tip("text.max_tokens_per_batch"));
    number_or(ui, name, key, "by examples", &mut text.max_tokens_per_batch, 0..=1 << 24, 8.0);
    labeled::text(ui, label("text.date"), tip("text.date"), "empty: today", &mut text.date);
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
    choice(ui, label("text.template"), tip("text.template"), template, &options);
    if file {
        labeled::text(ui, "Template file", tip("text.template"), "path of a Jinja file", template);
    }
}
