//! Model, data and settings of the next run, with the pre-flight check.

pub mod files;

mod data;
mod data_preview;
mod plan;
mod text_preview;
mod training;

use crate::app::actions::{Action, ActionQueue};
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::panel_ctx::PanelCtx;
use crate::app::session::Session;
use crate::app::theme::Theme;
use crate::app::widgets::{cards, labeled};
use crate::config::{DeviceChoice, DtypeChoice, Method, RunConfig, Task, WRITER_LAB, presets};
use crate::format;
use crate::protocol::ModelInfo;
use egui::Ui;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct SetupPanel {
    /// Columns found in the training file, and whose they are.
    columns: Option<(PathBuf, Vec<String>)>,
}

impl SetupPanel {
    /// Takes the first bytes of a table: offers its columns and guesses their roles.
    pub fn take_head(&mut self, path: &Path, head: &str, session: &Session, actions: &ActionQueue) {
        let names = files::columns(path, session.form.data.format, head);
        let mut form = session.form.clone();
        if Path::new(&form.data.train_file) == path {
            files::guess_columns(&mut form, &names);
            actions.push(Action::EditForm(Box::new(form)));
        }
        self.columns = Some((path.to_owned(), names));
    }

    /// Draws the view. Changes are made in a copy of the form, which is queued as an action when it differs.
    pub fn ui(&self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let mut form = ctx.session.form.clone();
        preset_ui(ctx, ui, &mut form);
        ui.add_space(4.0);
        plan::plan_ui(ctx, ui);
        cards::card(ui, ctx.theme, "Model", |ui| model_ui(ctx, ui, &mut form));
        cards::card(ui, ctx.theme, "Data", |ui| data::data_ui(ctx, ui, &mut form, self.columns.as_ref()));
        training::training_ui(ctx, ui, &mut form);
        plan::command_ui(ctx, ui, &form);
        if form != ctx.session.form {
            ctx.push(Action::EditForm(Box::new(form)));
        }
    }
}

/// Presets, undo, files.
fn preset_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig) {
    ui.horizontal_wrapped(|ui| {
        let label = ui.label("Preset");
        let all = presets::all();
        let current = all.iter().find(|preset| {
            let mut with = form.clone();
            preset.apply(&mut with);
            with == *form
        });
        let shown = current.map_or("Changed by hand", |preset| preset.title.as_str());
        egui::ComboBox::from_id_salt("preset")
            .selected_text(shown)
            .width(240.0)
            .height(420.0)
            .show_ui(ui, |ui| {
                for preset in &all {
                    let chosen = current.is_some_and(|current| current.name == preset.name);
                    if ui.selectable_label(chosen, &preset.title).on_hover_text(&preset.note).clicked() {
                        preset.apply(form);
                    }
                }
            })
            .response
            .labelled_by(label.id)
            .on_hover_text("Fills in all settings of a known run; model and data files stay");
        ctx.button(ui, Action::UndoForm);
        ctx.button(ui, Action::RedoForm);
    });
}

fn model_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, form: &mut RunConfig) {
    let model = &mut form.model;
    let hint = "a directory, a GGUF file, a name (org/name), lab, or writer-lab";
    let (bundled, words, about) = match form.data.task {
        Task::Text => {
            (WRITER_LAB, "the bundled language model", "A small language model that trains in about a minute")
        }
        _ => ("lab", "the bundled lab model", "A small encoder that trains in under a minute; works without internet"),
    };
    ctx.path(ui, "Model", &tip("model.path"), hint, &mut model.path, Purpose::Model);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        cards::caption(ui, ctx.theme, "Or take");
        if ui.small_button(words).on_hover_text(about).clicked() {
            model.path = bundled.to_owned();
        }
        for recent in ctx.settings.recent_models.iter().take(3) {
            let name = recent.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if ui.small_button(name).on_hover_text(recent.display().to_string()).clicked() {
                model.path = recent.to_string_lossy().into_owned();
            }
        }
    });
    if let Some(info) = ctx.answer(ui, &ctx.session.model, "Reading the model", "Choose a model.") {
        model_info_ui(ui, ctx.theme, info);
    }
    let methods = [
        (Method::Adamix, "A mixture of experts (AdaMix)"),
        (Method::HeadOnly, "Classification head only"),
        (Method::Full, "All weights"),
    ];
    labeled::choice(ui, "What is trained", &tip("model.method"), &mut model.method, &methods);
    egui::CollapsingHeader::new("Device").show(ui, |ui| {
        let devices = [
            (DeviceChoice::Auto, "Automatic"),
            (DeviceChoice::Cpu, "CPU"),
            (DeviceChoice::Gpu(0), "GPU"),
            (DeviceChoice::Cuda(0), "NVIDIA GPU through CUDA"),
        ];
        labeled::choice(ui, "Device", &tip("model.device"), &mut model.device, &devices);
        let formats = [
            (DtypeChoice::Auto, "Automatic"),
            (DtypeChoice::F32, "f32"),
            (DtypeChoice::Bf16, "bf16"),
            (DtypeChoice::F16, "f16"),
        ];
        labeled::choice(ui, "Number format", &tip("model.dtype"), &mut model.dtype, &formats);
        labeled::number_or(ui, "CPU threads", &tip("model.threads"), "automatic", &mut model.threads, 0..=1024, 0.1);
        labeled::toggle(ui, "Dropout in the frozen base model", &tip("model.trunk_dropout"), &mut model.trunk_dropout);
    });
}

fn model_info_ui(ui: &mut Ui, theme: &Theme, info: &ModelInfo) {
    let parameters = format::short_count(info.parameters as f64);
    let mut figures = vec![
        ("Family", info.family.clone(), "Architecture"),
        ("Layers", info.layers.to_string(), "Transformer layers"),
        ("Hidden size", info.hidden_size.to_string(), "d in the paper"),
        ("Heads", info.heads.to_string(), "Attention heads"),
        ("Parameters", parameters, "All of the model; they stay frozen unless all weights are trained"),
        ("Longest input", info.max_length.to_string(), "In tokens"),
    ];
    if info.file_bytes > 0 {
        figures.push(("On disk", format::bytes(info.file_bytes), "Weight files"));
    }
    cards::figures(ui, theme, &figures);
    for note in &info.notes {
        cards::caption(ui, theme, note);
    }
}
