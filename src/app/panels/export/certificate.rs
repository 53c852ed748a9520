//! The certificate of an export.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::tables;
use crate::app::theme::Theme;
use crate::app::widgets::export_menu;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, labeled};
use crate::format;
use crate::protocol::loading::{self, ExportedRun, LoadingSnippet};
use crate::protocol::{ExportReport, FileHash, NumberFormat, TensorCheck};
use egui::{RichText, Ui};

pub fn ui(ctx: &PanelCtx<'_>, report: &ExportReport, all_tensors: &mut bool, ui: &mut Ui) {
    let title = format!("{}, {}", report.target.info().title, report.dtype.as_str());
    let dir = report.dir.display().to_string();
    ui.push_id(("export", &dir), |ui| {
        cards::card(ui, ctx.theme, &title, |ui| {
            verdict_ui(ctx.theme, report, ui);
            ui.add_space(4.0);
            figures_ui(ctx.theme, report, ui);
            ui.add_space(4.0);
            ui.horizontal_wrapped(|ui| {
                ui.label("Written to");
                ui.add(egui::Label::new(RichText::new(&dir).monospace().small()).wrap());
                copy_button(ctx, ui, "Copy path", dir.clone());
                copy_button(ctx, ui, "Copy certificate", describe(report));
                ctx.button_as(ui, Action::OpenFolder(report.dir.clone()), egui::Button::new("Open folder").small());
            });
            loading_ui(ctx, report, ui);
            files_ui(ctx, report, ui);
            rounding_ui(ctx, report, all_tensors, ui);
        });
    });
}

fn copy_button(ctx: &PanelCtx<'_>, ui: &mut Ui, words: &str, text: String) {
    drop(ctx.button_as(ui, Action::Copy(text), egui::Button::new(words).small()));
}

/// What other programs need to be told to load the files.
fn loading_ui(ctx: &PanelCtx<'_>, report: &ExportReport, ui: &mut Ui) {
    let Some(run) = ctx.session.shown() else { return };
    let outputs = run.start.labels.len().max(1);
    let about = ExportedRun { model: &run.config.model.path, task: run.config.data.task, outputs };
    let snippets = loading::snippets(report, about);
    if snippets.is_empty() {
        return;
    }
    egui::CollapsingHeader::new("How to load it").show(ui, |ui| {
        for LoadingSnippet { program, text, .. } in snippets {
            ui.horizontal(|ui| {
                ui.strong(program);
                let copy = egui::Button::new("Copy").small();
                let response = ctx.button_as(ui, Action::Copy(text.clone()), copy);
                drop(response.accessible_name(format!("Copy the lines for {program}")));
            });
            egui::Frame::new().fill(ui.visuals().extreme_bg_color).inner_margin(6).show(ui, |ui| {
                ui.set_min_width(ui.available_width());
                ui.add(egui::Label::new(RichText::new(text.trim_end()).monospace()).wrap());
            });
            ui.add_space(4.0);
        }
    });
}

fn verdict_ui(theme: &Theme, report: &ExportReport, ui: &mut Ui) {
    let certificate = &report.certificate;
    let verdict = if certificate.passed { Verdict::Passed } else { Verdict::Failed };
    let words = match (certificate.passed, report.dtype) {
        (true, NumberFormat::F32) => {
            "Passed: the model read back from the files gives exactly the outputs of the model in memory."
        }
        (true, _) => {
            "Passed: the model read back from the files gives the outputs of the model in memory, up to the rounding of the format."
        }
        (false, _) => {
            "Failed: the model read back from the files gives other outputs. Do not use these files; export again."
        }
    };
    verdict::line(ui, theme, verdict, words);
    for problem in &certificate.problems {
        ui.label(RichText::new(problem).color(theme.error));
    }
}

fn figures_ui(theme: &Theme, report: &ExportReport, ui: &mut Ui) {
    let certificate = &report.certificate;
    let probe = &certificate.probe;
    let bytes: u64 = certificate.files.iter().map(|file| file.bytes).sum();
    let merged = certificate.merge.as_ref().map_or("-", |recipe| recipe.method.as_str()).to_owned();
    let mut figures = vec![
        ("Merged by", merged, "How the experts became one; the recipe stands in the certificate"),
        ("Weights", weights_text(report), "Training steps of the weights in these files, and why these were chosen"),
        (
            "Largest difference of a logit",
            difference(probe.max_abs_delta),
            "Largest absolute difference of a logit between the model in memory and the one loaded from the files",
        ),
        ("Allowed", format::scientific(probe.tolerance), "The largest difference that this number format may cause"),
        (
            "Predictions that changed",
            format!("{} of {}", probe.flipped, format::count(probe.rows)),
            "Probe rows whose most likely class is another one now",
        ),
    ];
    if let Some(worst) = certificate.tensors.iter().filter_map(|tensor| tensor.max_abs_error).reduce(f64::max) {
        let tip = "Over all tensors: largest |stored - trained|";
        figures.push(("Largest rounding of a weight", difference(Some(worst)), tip));
    }
    figures.push(("Size", format::bytes(bytes), "All files together"));
    cards::figures(ui, theme, &figures);
}

/// `step 400 (best checkpoint)`
fn weights_text(report: &ExportReport) -> String {
    report.certificate.weights().map_or_else(|| "not recorded".to_owned(), |weights| weights.to_string())
}

fn difference(value: Option<f64>) -> String {
    match value {
        None => "not measured".to_owned(),
        Some(0.0) => "0 (identical)".to_owned(),
        Some(value) => format::scientific(value),
    }
}

fn files_ui(ctx: &PanelCtx<'_>, report: &ExportReport, ui: &mut Ui) {
    ui.add_space(2.0);
    type File<'a> = Column<'a, FileHash>;
    let columns = vec![
        File::new("File", "", |ui, file| ui.label(&file.name)),
        File::number("Size", "", |file| format::bytes(file.bytes)),
        File::new("SHA-256", "", |ui, file| {
            let short: String = file.sha256.chars().take(16).collect();
            ui.monospace(format!("{short}…")).on_hover_text(&file.sha256)
        }),
        File::new("", "", |ui, file| {
            let button = egui::Button::new("Copy hash").small();
            let response = ctx.button_as(ui, Action::Copy(file.sha256.clone()), button);
            response.accessible_name(format!("Copy the hash of {}", file.name))
        }),
    ];
    listing::grid(ui, "files", columns, &report.certificate.files);
}

/// What the number format did to each tensor.
fn rounding_ui(ctx: &PanelCtx<'_>, report: &ExportReport, all_tensors: &mut bool, ui: &mut Ui) {
    let tensors = &report.certificate.tensors;
    if tensors.is_empty() {
        return;
    }
    ui.add_space(2.0);
    let tip = "Largest change of a weight of each tensor by storing it in this number format";
    labeled::toggle(ui, "Rounding of each tensor", tip, all_tensors);
    if !*all_tensors {
        return;
    }
    type Tensor<'a> = Column<'a, TensorCheck>;
    let share = |share: f64| format!("{} %", format::significant(100.0 * share, 2));
    let columns = vec![
        Tensor::new("Tensor", "", |ui, tensor| ui.label(&tensor.name)).rest(160.0),
        Tensor::number("Largest change", "", |tensor| difference(tensor.max_abs_error)).exact(110.0),
        Tensor::number("of largest weight", "", |tensor| tensor.max_rel_error.map_or_else(|| "-".to_owned(), share))
            .exact(110.0),
        Tensor::new("Verdict", "", |ui, tensor| match tensor.problem {
            Some(_) => ui.label(RichText::new("wrong").color(ctx.theme.error)),
            None => cards::muted(ui, ctx.theme, "as rounded"),
        })
        .exact(70.0),
    ];
    listing::numbers(ui, "rounding", 200.0, columns, tensors);
    export_menu::table(ui, "rounding of each tensor table", || tables::tensor_checks(tensors));
}

pub fn describe(report: &ExportReport) -> String {
    let certificate = &report.certificate;
    let mut text = format!(
        "{} ({}): {}\nweights: {}\nlargest difference of a logit: {} (allowed {})\npredictions changed: {} of {}\n",
        report.target.info().title,
        report.dtype.as_str(),
        if certificate.passed { "PASSED" } else { "FAILED" },
        weights_text(report),
        difference(certificate.probe.max_abs_delta),
        format::scientific(certificate.probe.tolerance),
        certificate.probe.flipped,
        certificate.probe.rows,
    );
    certificate.problems.iter().for_each(|problem| text.push_str(&format!("problem: {problem}\n")));
    for file in &report.certificate.files {
        text.push_str(&format!("{}  {}\n", file.sha256, file.name));
    }
    text
}
