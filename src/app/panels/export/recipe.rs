//! What the export computes: as text, as TOML, and as a command.

use crate::app::actions::Action;
use crate::app::commands;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::cards;
use crate::config::MixtureConfig;
use crate::protocol::{ExportPlan, MergePlan, Recipe, Subject};
use egui::{RichText, Ui};

/// Draws the recipe with its copy buttons.
pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, subject: &Subject, plan: &ExportPlan, ui: &mut Ui) {
    ui.add_space(4.0);
    egui::CollapsingHeader::new("The recipe as text and as TOML").show(ui, |ui| {
        let mixture = &run.config.mixture;
        let weights = ctx.session.weights_of_shown();
        let of = weights.map_or_else(String::new, |weights| format!(" The experts are those after {weights}."));
        ui.add(egui::Label::new(describe(&plan.merge, mixture) + &of).wrap());
        let at = ctx.session.command_checkpoint(subject).map(|which| commands::at(&commands::path(&run.dir), which));
        let command = at.map(|at| commands::export(&at, plan, &run.config));
        let toml = ("TOML", toml(&plan.merge, mixture, &run.start.sites, run.start.experts));
        if command.is_none() {
            let words =
                "No command gives the same files: these weights are in no checkpoint. Choose one above to have it.";
            cards::caption(ui, ctx.theme, words);
        }
        for (name, text) in std::iter::once(toml).chain(command.map(|command| ("Command", command))) {
            ui.add_space(4.0);
            ui.horizontal(|ui| {
                ui.strong(name);
                let copy = egui::Button::new("Copy").small();
                let response = ctx.button_as(ui, Action::Copy(text.clone()), copy);
                drop(response.accessible_name(format!("Copy the {}", name.to_lowercase())));
            });
            egui::Frame::new().fill(ui.visuals().extreme_bg_color).inner_margin(6).show(ui, |ui| {
                egui::ScrollArea::vertical().id_salt(name).max_height(140.0).show(ui, |ui| {
                    ui.set_min_width(ui.available_width());
                    ui.add(egui::Label::new(RichText::new(&text).monospace().small()).wrap());
                });
            });
        }
        cards::caption(ui, ctx.theme, "The same recipe is written into the metadata of the safetensors file.");
    });
}

/// The computation as a paragraph.
pub fn describe(plan: &MergePlan, mixture: &MixtureConfig) -> String {
    let experts = mixture.num_experts;
    let base = "In each layer the merged down-projection (of LoRA: A) is the weighted mean of its experts' down-projections, \
                and likewise the up-projection (B); a projection that all experts share is taken as it is.";
    match plan {
        MergePlan::Uniform => format!("{base} Every one of the {experts} experts has the weight 1/{experts}."),
        MergePlan::Global(weights) => {
            format!("{base} The weights are {} in all layers.", crate::app::names::shares(weights))
        }
        MergePlan::PerSite(lists) => {
            format!("{base} Each of the {} layers has its own weights (see the TOML).", lists.len())
        }
        other => Recipe::of(other, mixture).describe(),
    }
}

/// The computation as TOML, as in the metadata of the file.
pub fn toml(plan: &MergePlan, mixture: &MixtureConfig, sites: &[String], sides: [usize; 2]) -> String {
    let experts = mixture.num_experts;
    if !plan.is_weights() {
        return Recipe::of(plan, mixture).to_toml().unwrap_or_else(|err| err.to_string());
    }
    let mut text = format!("method = \"average-of-factors\"\nnum_experts = {experts}\n");
    let list = |weights: &[f32], side: usize| {
        if sides[side] <= 1 {
            return "[1.0]".to_owned();
        }
        let sum: f32 = weights.iter().sum();
        let parts: Vec<String> =
            weights.iter().map(|w| format!("{:?}", (f64::from(w / sum) * 1e6).round() / 1e6)).collect();
        format!("[{}]", parts.join(", "))
    };
    for (i, site) in sites.iter().enumerate() {
        let weights = match plan {
            MergePlan::Uniform => break,
            MergePlan::Global(weights) => weights,
            MergePlan::PerSite(lists) => match lists.get(i) {
                Some(weights) => weights,
                None => break,
            },
            _ => break,
        };
        text.push_str(&format!("\n[sites.\"{site}\"]\ndown = {}\nup = {}\n", list(weights, 0), list(weights, 1)));
    }
    text
}
