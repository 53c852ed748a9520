//! The data card: files and columns.

use super::data_preview::preview_ui;
use super::{text_preview, texts};
use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::labeled;
use crate::config::{BadRows, DataConfig, FileFormat, Metric, MixtureKind, Problem, RunConfig, Task};
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

/// The data card.
pub fn data_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig, columns: Option<&(PathBuf, Vec<String>)>) {
    let before = form.data.task;
    labeled::choice(ui, "Task", &tip("data.task"), &mut form.data.task, &TASKS);
    if (before == Task::Text) != (form.data.task == Task::Text) {
        // What the paper gives encoders, and what it gives language models.
        form.mixture.kind = if form.data.task == Task::Text { MixtureKind::Lora } else { MixtureKind::Adapter };
    }
    if form.data.task == Task::Text {
        texts::texts_ui(ctx, ui, form);
    }
    let data = &mut form.data;
    match data.task {
        Task::Lab | Task::Text => {}
        Task::Custom => custom_ui(ctx, ui, data, columns),
        _ => {
            let hint = "a directory with train.tsv and dev.tsv";
            let (_, browse) =
                labeled::path(ui, "Data directory", &tip("data.path"), hint, &mut data.path, !ctx.session.dialog_open);
            if browse {
                ctx.push(Action::Pick(Purpose::DataDir));
            }
        }
    }
    labeled::number(ui, "Longest input (tokens)", &tip("data.max_length"), &mut data.max_length, 4..=65_536, 1.0);
    egui::CollapsingHeader::new("More about the data").id_salt("more data").show(ui, |ui| {
        if form.data.task == Task::Text {
            texts::more_ui(ui, form);
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
    let can_browse = !ctx.session.dialog_open;
    let hint = "TSV, CSV or JSONL; drop it onto the window";
    let (edit, browse) =
        labeled::path(ui, "Training file", &tip("data.train_file"), hint, &mut data.train_file, can_browse);
    if browse {
        ctx.push(Action::Pick(Purpose::TrainFile));
    }
    if edit.lost_focus() && !data.train_file.is_empty() {
        // Reads the column names of a typed path too.
        ctx.push(Action::UsePath(Purpose::TrainFile, PathBuf::from(&data.train_file)));
    }
    let hint = "empty: a share of the training rows is held out";
    let (_, browse) = labeled::path(ui, "Evaluation file", &tip("data.dev_file"), hint, &mut data.dev_file, can_browse);
    if browse {
        ctx.push(Action::Pick(Purpose::DevFile));
    }
    if data.dev_file.is_empty() {
        labeled::number(ui, "Share held out", &tip("data.dev_fraction"), &mut data.dev_fraction, 0.01..=0.9, 0.005);
    }
    let known = columns.filter(|(path, _)| Path::new(&data.train_file) == path).map(|(_, names)| names.as_slice());
    let from_preview = ctx.session.data.value.as_ref().map(|preview| preview.columns.names.as_slice());
    let names = known.or(from_preview).unwrap_or_default();
    column_ui(ui, "Text column", "data.text_column", &mut data.text_column, names, false);
    column_ui(ui, "Second text column", "data.text_pair_column", &mut data.text_pair_column, names, true);
    column_ui(ui, "Label column", "data.label_column", &mut data.label_column, names, false);
    let problems = [(Problem::Classification, "Classes"), (Problem::Regression, "A number")];
    labeled::choice(ui, "What is predicted", &tip("data.problem"), &mut data.problem, &problems);
}

/// A column: chosen where the names are known, typed where they are not.
fn column_ui(ui: &mut Ui, label: &str, key: &str, value: &mut String, names: &[String], optional: bool) {
    if names.is_empty() {
        let hint = if optional { "none" } else { "name or number from 0" };
        labeled::text(ui, label, &tip(key), hint, value);
        return;
    }
    let mut options: Vec<(String, String)> = names.iter().map(|name| (name.clone(), name.clone())).collect();
    if optional {
        options.insert(0, (String::new(), "none: single sentences".to_owned()));
    } else if !names.contains(value) && !value.is_empty() {
        options.push((value.clone(), format!("{value} (typed)")));
    }
    labeled::choice_text(ui, label, &tip(key), value, &options);
}

fn more_ui(ui: &mut Ui, data: &mut DataConfig) {
    if data.task == Task::Custom {
        let formats = [
            (FileFormat::Auto, "By the file's ending"),
            (FileFormat::Tsv, "TSV"),
            (FileFormat::Csv, "CSV"),
            (FileFormat::Jsonl, "JSONL"),
        ];
        labeled::choice(ui, "Format", &tip("data.format"), &mut data.format, &formats);
        labeled::toggle(ui, "The first line names the columns", &tip("data.header"), &mut data.header);
        let mut labels = data.labels.join(", ");
        let response =
            labeled::text(ui, "Label names in order", &tip("data.labels"), "empty: as found, sorted", &mut labels);
        if response.changed() {
            data.labels =
                labels.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        }
    }
    if data.task != Task::Text {
        metric_ui(ui, &mut data.metric);
    }
    let bad = [(BadRows::Refuse, "Stop and say where"), (BadRows::Skip, "Leave out and list")];
    labeled::choice(ui, "Unusable rows", &tip("data.bad_rows"), &mut data.bad_rows, &bad);
    let rows = 0..=usize::MAX;
    let (label, key) = ("Most training rows", tip("data.max_train_rows"));
    labeled::number_or(ui, label, &key, "all", &mut data.max_train_rows, rows.clone(), 10.0);
    let (label, key) = ("Most evaluation rows", tip("data.max_eval_rows"));
    labeled::number_or(ui, label, &key, "all", &mut data.max_eval_rows, rows, 10.0);
}

fn metric_ui(ui: &mut Ui, metric: &mut Metric) {
    let metrics = [
        (Metric::Auto, "The task's own"),
        (Metric::Accuracy, "Accuracy"),
        (Metric::F1, "F1"),
        (Metric::Matthews, "Matthews correlation"),
        (Metric::Pearson, "Pearson correlation"),
        (Metric::Spearman, "Spearman correlation"),
        (Metric::Loss, "Loss"),
    ];
    labeled::choice(ui, "Deciding metric", &tip("data.metric"), metric, &metrics);
}
