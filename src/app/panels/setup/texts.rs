//! The data card of a language model: files, format, template.

use super::data::eval_file_ui;
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::panel_ctx::PanelCtx;
use crate::app::widgets::labeled;
use crate::config::{RunConfig, TextFormat, Truncate};
use egui::Ui;

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

/// The fields of a task with texts.
pub fn texts_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig) {
    let RunConfig { data, text, .. } = form;
    let hint = "JSONL, JSON, CSV, TSV, XML or plain text; drop it onto the window";
    ctx.path(ui, "Training file", &tip("data.train_file"), hint, &mut data.train_file, Purpose::TrainFile);
    if data.train_file.is_empty() {
        let hint = "instead of files: a directory with train and valid files";
        ctx.path(ui, "Data directory", &tip("data.path"), hint, &mut data.path, Purpose::DataDir);
    }
    eval_file_ui(ctx, ui, data, "empty: a share of the training texts is held out");
    labeled::choice(ui, "Format", &tip("text.format"), &mut text.format, &FORMATS);
    template_ui(ui, &mut text.template);
    labeled::toggle(ui, "Learn the prompts too", &tip("text.learn_prompt"), &mut text.learn_prompt);
}

/// The fields under *More about the data*.
pub fn more_ui(ui: &mut Ui, form: &mut RunConfig) {
    let text = &mut form.text;
    if matches!(text.format, TextFormat::Auto | TextFormat::Completion | TextFormat::Plain) {
        let hint = "empty: the usual names";
        labeled::text(ui, "Prompt column", &tip("text.prompt_column"), hint, &mut text.prompt_column);
        labeled::text(ui, "Completion column", &tip("text.completion_column"), hint, &mut text.completion_column);
    }
    let ends = [(Truncate::End, "The end"), (Truncate::Start, "The start")];
    labeled::choice(ui, "Cut off of long texts", &tip("text.truncate"), &mut text.truncate, &ends);
    let (label, key) = ("Tokens a batch", tip("text.max_tokens_per_batch"));
    labeled::number_or(ui, label, &key, "by examples", &mut text.max_tokens_per_batch, 0..=1 << 24, 8.0);
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
    labeled::choice(ui, "Chat template", &tip("text.template"), template, &options);
    if file {
        labeled::text(ui, "Template file", &tip("text.template"), "path of a Jinja file", template);
    }
}
