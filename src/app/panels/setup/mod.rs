//! Model, data and settings of the next run, with the pre-flight check.

pub mod files;

mod branch;
mod data;
mod data_preview;
mod plan;
mod text_preview;
mod training;

use crate::app::actions::Action;
use crate::app::fields::{in_fields, label};
use crate::app::files::Purpose;
use crate::app::help::tip;
use crate::app::pages;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::view::View;
use crate::app::widgets::{cards, follow_focus, labeled};
use crate::config::{DeviceChoice, DtypeChoice, Method, RunConfig, Task, WRITER_LAB, presets};
use crate::format;
use crate::protocol::ModelInfo;
use egui::Ui;

/// Least height at which presets and plan stay in place above the form.
const PINNED_FROM: f32 = 340.0;

#[derive(Default)]
pub struct SetupPanel {
    /// The training file whose preview was opened.
    previewed: String,
}

impl SetupPanel {
    /// Draws the view. Changes are made in a copy of the form, which is queued as an action when it differs. Presets and
    /// plan stay in place, and their height does not depend on what they say: the form does not move under the mouse.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let pinned = ui.available_height() >= PINNED_FROM;
        if pinned {
            head_ui(ctx, ui);
        }
        egui::ScrollArea::both().id_salt("form").auto_shrink(false).show(ui, |ui| {
            if !ctx.settings.explained.contains(&View::Setup) {
                pages::explanation_ui(ctx, View::Setup, ui);
            }
            if !pinned {
                head_ui(ctx, ui);
            }
            branch::ui(ctx, ui);
            let mut form = ctx.session.form.clone();
            cards::card(ui, ctx.theme, "Model", |ui| model_ui(ctx, ui, &mut form));
            cards::card(ui, ctx.theme, "Data", |ui| data::data_ui(ctx, ui, &mut form, &mut self.previewed));
            training::training_ui(ctx, ui, &mut form);
            plan::command_ui(ctx, ui, &ctx.session.run_config());
            if form != ctx.session.form {
                ctx.push(Action::EditForm(Box::new(form)));
            }
            follow_focus(ui);
        });
    }
}

fn head_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    preset_ui(ctx, ui);
    ui.add_space(4.0);
    plan::plan_ui(ctx, ui);
}

/// Presets, undo, files.
fn preset_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let session = ctx.session;
    let form = &session.form;
    ui.horizontal_wrapped(|ui| {
        let label = ui.label("Preset");
        let all = presets::all();
        let current = all.iter().find(|preset| {
            let mut with = form.clone();
            preset.apply(&mut with);
            with == *form
        });
        let fits = session.memory.suggested.as_ref() == Some(form);
        let shown = match current {
            Some(preset) => preset.title.as_str(),
            None if fits => "Fitting model and data",
            None => "Changed by hand",
        };
        egui::ComboBox::from_id_salt("preset")
            .selected_text(shown)
            .width((ui.available_width() - 126.0).clamp(100.0, 240.0))
            .truncate()
            .height(420.0)
            .show_ui(ui, |ui| {
                let fit = Action::FitForm;
                if ui.selectable_label(current.is_none() && fits, fit.text()).on_hover_text(fit.tooltip()).clicked() {
                    ctx.push(fit);
                }
                for preset in &all {
                    let chosen = current.is_some_and(|current| current.name == preset.name);
                    if ui.selectable_label(chosen, &preset.title).on_hover_text(in_fields(&preset.note)).clicked() {
                        ctx.push(Action::ApplyPreset(preset.name.clone()));
                    }
                }
            })
            .response
            .labelled_by(label.id)
            .on_hover_text("Fills in all settings of a known run; the model, and the files of each task, stay");
        ctx.button(ui, Action::UndoForm);
        ctx.button(ui, Action::RedoForm);
    });
}

/// What can be computed with, in words: the GPUs by name, and the chosen one where it is not among them.
fn devices(gpus: &[String], chosen: DeviceChoice) -> Vec<(DeviceChoice, String)> {
    let mut devices = vec![(DeviceChoice::Auto, "Automatic".to_owned()), (DeviceChoice::Cpu, "CPU".to_owned())];
    devices.extend(
        gpus.iter().enumerate().map(|(index, name)| (DeviceChoice::Gpu(index), format!("GPU {index}: {name}"))),
    );
    if gpus.is_empty() {
        devices.push((DeviceChoice::Gpu(0), "GPU".to_owned()));
    }
    devices.push((DeviceChoice::Cuda(0), "NVIDIA GPU through CUDA".to_owned()));
    if devices.iter().all(|(device, _)| *device != chosen) {
        devices.push((chosen, chosen.to_string()));
    }
    devices
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
    ctx.path(ui, label("model.path"), tip("model.path"), hint, &mut model.path, Purpose::Model);
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
    labeled::choice(ui, label("model.method"), tip("model.method"), &mut model.method, &methods);
    egui::CollapsingHeader::new("Device").show(ui, |ui| {
        let gpus = ctx.session.preflight.value.as_ref().map_or(&[][..], |report| &report.gpus);
        let devices = devices(gpus, model.device);
        labeled::choice(ui, label("model.device"), tip("model.device"), &mut model.device, &devices);
        let formats = [
            (DtypeChoice::Auto, "Automatic"),
            (DtypeChoice::F32, "f32"),
            (DtypeChoice::Bf16, "bf16"),
            (DtypeChoice::F16, "f16"),
        ];
        labeled::choice(ui, label("model.dtype"), tip("model.dtype"), &mut model.dtype, &formats);
        labeled::number_or(
            ui,
            label("model.threads"),
            tip("model.threads"),
            "automatic",
            &mut model.threads,
            0..=1024,
            0.1,
        );
        labeled::toggle(ui, label("model.trunk_dropout"), tip("model.trunk_dropout"), &mut model.trunk_dropout);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gpu_can_be_chosen_by_name_and_a_choice_is_never_lost() {
        let two = ["RTX".to_owned(), "Arc".to_owned()];
        let words = |gpus: &[String], chosen| {
            devices(gpus, chosen).into_iter().map(|(device, words)| format!("{device} {words}")).collect::<Vec<_>>()
        };
        let listed = words(&two, DeviceChoice::Auto);
        assert!(listed.contains(&"gpu:1 GPU 1: Arc".to_owned()), "{listed:?}");
        assert!(!words(&two, DeviceChoice::Gpu(1)).iter().any(|line| line == "gpu:1 gpu:1"), "named once");
        let without = words(&[], DeviceChoice::Gpu(3));
        assert_eq!(without.last().unwrap(), "gpu:3 gpu:3", "a GPU of another computer");
        assert!(without.iter().any(|line| line.ends_with(" GPU")));
    }
}
