//! Merges with weights chosen by sliders.

use super::drag::DragForm;
use super::kept::KeptForm;
use super::slider_weights::{Scope, SliderWeights, normalised};
use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::heatmap::{Scale, color};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::{cards, labeled, simplex, verdict};
use crate::config::MixtureKind;
use crate::format;
use crate::protocol::{EvalReport, MergePlan, MergeReport, ModelQuery, Subject};
use egui::util::undoer::Undoer;
use egui::{Ui, vec2};
use std::path::PathBuf;

/// Height of the overview before it scrolls.
const OVERVIEW: f32 = 340.0;
/// Most experts with a column each in the overview of all layers.
const COLUMNS: usize = 12;

/// The sliders and the scored merges.
#[derive(Default)]
pub struct WeightsForm {
    weights: SliderWeights,
    group: usize,
    layer: usize,
    undo: Undoer<SliderWeights>,
    drag: DragForm,
    kept: KeptForm,
    run: PathBuf,
}

impl WeightsForm {
    pub fn ui(
        &mut self,
        ctx: &PanelCtx<'_>,
        run: &RunView,
        subject: &Subject,
        report: Option<&EvalReport>,
        ui: &mut Ui,
    ) {
        let (experts, sites) = (run.config.mixture.num_experts, &run.start.sites);
        if self.run != run.dir || !self.weights.fits(experts, sites) {
            *self = Self { weights: SliderWeights::uniform(experts, sites), run: run.dir.clone(), ..Self::default() };
        }
        // A drag is one step of the undo.
        if !ui.input(|input| input.pointer.any_down()) {
            self.undo.add_undo(&self.weights);
        }
        cards::card(ui, ctx.theme, "Custom weights", |ui| {
            self.scope_ui(run, ui);
            self.sliders_ui(ctx, run.config.mixture.kind, ui);
            if self.weights.scope == Scope::Module && experts <= COLUMNS {
                self.overview_ui(ctx, run, ui);
            }
            ui.add_space(4.0);
            self.buttons_ui(ctx, run, subject, ui);
            self.drag.ui(ctx, subject, self.weights.plan().ok(), ui);
            if let Some(plan) = self.kept.ui(ctx, run, self.weights.plan().ok(), ui) {
                self.weights = SliderWeights::from_plan(&plan, experts, sites);
            }
            ctx.error_ui(ui, &ctx.session.merge);
        });
        if !ctx.session.tried.is_empty() {
            cards::card(ui, ctx.theme, "Scored merges", |ui| self.history_ui(ctx, run, report, ui));
        }
    }

    fn scope_ui(&mut self, run: &RunView, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            ui.radio_value(&mut self.weights.scope, Scope::All, "the same in all modules");
            let tip = "The lower, middle and upper third of the layers";
            ui.radio_value(&mut self.weights.scope, Scope::Group, "by layer group").on_hover_text(tip);
            ui.radio_value(&mut self.weights.scope, Scope::Module, "in each module its own");
            if self.weights.scope == Scope::Group {
                let name = ui.label("Group");
                let names: Vec<String> = self.weights.group_names().iter().map(|name| (*name).to_owned()).collect();
                labeled::layer_list(ui, "weights group", &name, &names, &mut self.group);
            }
            if self.weights.scope == Scope::Module {
                self.layer = self.layer.min(run.start.sites.len().saturating_sub(1));
                let name = ui.label("Module");
                let layers: Vec<String> = run.start.sites.iter().map(|site| names::layer(site)).collect();
                labeled::layer_list(ui, "weights layer", &name, &layers, &mut self.layer);
                let copy = ui.button("Copy to all modules").on_hover_text("Gives all modules the weights of this one");
                if copy.clicked() {
                    let list = self.weights.list_mut(self.group, self.layer).clone();
                    self.weights.layers.iter_mut().for_each(|layer| layer.clone_from(&list));
                }
            }
        });
    }

    fn sliders_ui(&mut self, ctx: &PanelCtx<'_>, kind: MixtureKind, ui: &mut Ui) {
        let list = self.weights.list_mut(self.group, self.layer);
        if let &mut [a, b, c] = &mut list[..] {
            let mut shares = [a, b, c];
            let tip = "Drag the point: a corner is one expert alone, the middle the mean of all three";
            let names = ["Expert 0", "Expert 1", "Expert 2"];
            simplex::ui(ui, ctx.theme, "Shares of three experts", names, &mut shares).on_hover_text(tip);
            list.copy_from_slice(&shares);
        }
        let sum: f32 = list.iter().sum();
        for (expert, weight) in list.iter_mut().enumerate() {
            ui.horizontal(|ui| {
                verdict::expert_chip(ui, ctx.theme, expert);
                ui.spacing_mut().slider_width = (ui.available_width() - 260.0).clamp(80.0, 320.0);
                let slider = egui::Slider::new(weight, 0.0..=1.0).fixed_decimals(2).text(format!("Expert {expert}"));
                let tip = "How much this expert counts; all weights are divided by their sum. 0 leaves it out";
                ui.add(slider).on_hover_text(tip);
                let share = if sum > 1e-6 { names::share(*weight / sum) } else { "-".to_owned() };
                ui.monospace(format!("{share:>7}")).on_hover_text("Its share of the merged module");
            });
        }
        let words = match self.weights.plan() {
            Ok(MergePlan::Uniform) => "W = mean of all experts: the paper's merge.".to_owned(),
            Ok(MergePlan::Global(list)) => formula(&list, "W", kind),
            Ok(_) => {
                let of = if self.weights.scope == Scope::Group { "W of these layers" } else { "W of this module" };
                formula(&normalised(self.weights.list_mut(self.group, self.layer)), of, kind)
            }
            Err(reason) => reason,
        };
        cards::caption(ui, ctx.theme, words);
    }

    /// The shares of all layers; a click chooses the layer.
    fn overview_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
        let experts = self.weights.global.len();
        let columns: Vec<String> = (0..experts).map(|i| i.to_string()).collect();
        let rows = self.weights.layers.len();
        let (cell, name) = (vec2(52.0, 18.0), "Shares in all modules");
        let layer_name = |row: usize| run.start.sites.get(rows - 1 - row).map_or_else(String::new, |n| names::layer(n));
        let row_width = cell_grid::name_width((0..rows).map(layer_name));
        let spec = GridSpec { name, columns: &columns, rows, row_width, cell, clickable: true };
        // Many modules scroll in themselves.
        let scroll = egui::ScrollArea::vertical().id_salt("shares of all modules").max_height(OVERVIEW);
        let clicked = scroll
            .show(ui, |ui| {
                cell_grid::ui(ui, ctx.theme, &spec, layer_name, |row, column| {
                    let layer = rows - 1 - row;
                    let share = normalised(&self.weights.layers[layer])[column];
                    let text = names::share(share);
                    let about = format!("{}, expert {column}: {text}", layer_name(row));
                    let fill = Some(color(ctx.theme, Scale::Sequential(0.0, 1.0), share));
                    GridCell { text, fill, value: Some(f64::from(share)), about, chosen: layer == self.layer }
                })
            })
            .inner;
        if let Some((row, _)) = clicked {
            self.layer = rows - 1 - row;
        }
    }

    fn buttons_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, subject: &Subject, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            let merge = |plan| Action::Query(subject.clone(), ModelQuery::Merge(plan));
            match self.weights.plan() {
                Ok(plan) => {
                    ctx.button(ui, merge(plan.clone()));
                    ctx.command_button(ui, &merge(plan));
                }
                Err(reason) => ctx.refused(ui, merge(MergePlan::Uniform).text(), &reason),
            }
            if ui.button("Uniform").on_hover_text("The same weight for all experts: the paper").clicked() {
                let uniform = SliderWeights::uniform(run.config.mixture.num_experts, &run.start.sites);
                self.weights = uniform.with_scope(self.weights.scope);
            }
            let undo = ui.add_enabled(self.undo.has_undo(&self.weights), egui::Button::new("Undo weights"));
            let undo = undo.on_hover_text("Puts the sliders back to where they were before the last change");
            if undo.on_disabled_hover_text("Not now: the weights were not changed yet").clicked()
                && let Some(old) = self.undo.undo(&self.weights)
            {
                self.weights.clone_from(old);
            }
            let redo = ui.add_enabled(self.undo.has_redo(&self.weights), egui::Button::new("Redo weights"));
            let redo = redo.on_hover_text("Puts the sliders to where they were before the last Undo");
            if redo.on_disabled_hover_text("Not now: nothing was undone").clicked()
                && let Some(new) = self.undo.redo(&self.weights)
            {
                self.weights.clone_from(new);
            }
            ctx.pending_ui(ui, &ctx.session.merge, "scoring the merge");
        });
    }

    fn history_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, report: Option<&EvalReport>, ui: &mut Ui) {
        let tried = &ctx.session.tried;
        let mut chosen = None;
        egui::ScrollArea::vertical().id_salt("tried").max_height(180.0).show(ui, |ui| {
            let metric = tried.first().map_or("metric", |merge| names::metric(&merge.metric));
            type Row<'a, 'b> = Column<'a, (usize, &'b MergeReport)>;
            let difference = |merge: &MergeReport| Some(merge.scores.primary - report?.merged.primary);
            let columns = vec![
                Row::number("No.", "", |(i, _)| (i + 1).to_string()),
                Row::new("Shares of the experts, or way", "", |ui, (_, merge)| {
                    ui.label(names::merge_plan(&merge.plan)).on_hover_text(found_words(merge))
                }),
                Row::number(metric, "", |(_, merge)| format::metric(merge.scores.primary)),
                Row::number("vs uniform", "", |(_, merge)| {
                    difference(merge).map_or_else(|| "-".to_owned(), |difference| format!("{difference:+.4}"))
                }),
                Row::number("Loss", "", |(_, merge)| format::metric(merge.scores.loss)),
                Row::number("Width", "Bottleneck or rank of the merged modules", |(_, merge)| merge.width.to_string()),
                Row::number("Parameters", "Values of the merged modules, without the head", |(_, merge)| {
                    format::short_count(merge.parameters as f64)
                }),
                Row::number("Time", "", |(_, merge)| format::duration(merge.seconds)),
                Row::new("", "", |ui, (i, merge)| {
                    if !merge.plan.is_weights() {
                        return;
                    }
                    let button = ui.small_button("Use").accessible_name(format!("Use weights {}", i + 1));
                    if button.on_hover_text("Puts the sliders to these weights").clicked() {
                        chosen = Some(&merge.plan);
                    }
                }),
            ];
            let rows: Vec<(usize, &MergeReport)> = tried.iter().enumerate().rev().collect();
            listing::grid(ui, "tried weights", columns, &rows);
        });
        if let Some(plan) = chosen {
            self.weights = SliderWeights::from_plan(plan, run.config.mixture.num_experts, &run.start.sites);
        }
        let words = "Weights chosen by their scores on these rows are slightly overfitted to them; confirm a choice on other rows.";
        cards::caption(ui, ctx.theme, words);
    }
}

/// The weights that a way of merging found, where it looks for weights.
fn found_words(merge: &MergeReport) -> String {
    match &merge.found {
        Some(found) => {
            let weights: Vec<f32> = found.iter().map(|&weight| weight as f32).collect();
            format!("Weights found: {}", names::shares(&weights))
        }
        None => format!("{} evaluation rows", format::count(merge.rows)),
    }
}

/// `W = 0.25 W0 + 0.75 W1`, experts with weight 0 left out.
fn formula(list: &[f32], name: &str, kind: MixtureKind) -> String {
    let parts: Vec<String> =
        list.iter().enumerate().filter(|(_, w)| **w > 0.0005).map(|(i, w)| format!("{w:.3} W{i}")).collect();
    let shown = parts.iter().take(8).cloned().collect::<Vec<_>>().join(" + ");
    let sides = if kind == MixtureKind::Lora { "A and B" } else { "down and up" };
    format!("{name} = {shown}{}, for {sides} alike.", if parts.len() > 8 { " + …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_leave_out_nothing_that_counts() {
        let words = |kind| formula(&[0.25, 0.0, 0.75], "W", kind);
        assert_eq!(words(MixtureKind::Adapter), "W = 0.250 W0 + 0.750 W2, for down and up alike.");
        assert_eq!(words(MixtureKind::Lora), "W = 0.250 W0 + 0.750 W2, for A and B alike.");
    }
}
