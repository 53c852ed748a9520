//! Merges with weights chosen by sliders.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::cell_grid::{self, GridCell, GridSpec};
use crate::app::widgets::heatmap::{Scale, color};
use crate::app::widgets::{cards, labeled, verdict};
use crate::format;
use crate::protocol::{EvalReport, MergePlan, Subject};
use egui::{RichText, Ui, vec2};
use std::path::PathBuf;

/// Most steps of the sliders that can be taken back.
const UNDO: usize = 50;
/// Most experts with a column each in the overview of all layers.
const COLUMNS: usize = 12;

/// The sliders' positions; shares are these divided by their sum.
#[derive(Clone, Debug, Default, PartialEq)]
struct SliderWeights {
    per_site: bool,
    /// One list for all layers.
    global: Vec<f32>,
    /// One list for each layer.
    sites: Vec<Vec<f32>>,
}

impl SliderWeights {
    fn uniform(experts: usize, sites: usize) -> Self {
        // In the middle of the sliders, so that each can be raised and lowered.
        let list = vec![0.5; experts];
        Self { per_site: false, sites: vec![list.clone(); sites], global: list }
    }

    fn fits(&self, experts: usize, sites: usize) -> bool {
        self.shape() == (experts, sites) && self.sites.iter().all(|s| s.len() == experts)
    }

    /// Number of experts and of layers.
    fn shape(&self) -> (usize, usize) {
        (self.global.len(), self.sites.len())
    }

    fn list_mut(&mut self, site: usize) -> &mut Vec<f32> {
        if self.per_site && site < self.sites.len() { &mut self.sites[site] } else { &mut self.global }
    }

    /// What is asked of the engine, or why it cannot be.
    fn plan(&self) -> Result<MergePlan, String> {
        let uniform = |list: &[f32]| list.iter().all(|w| (w - list[0]).abs() < 1e-6);
        let zero = |list: &[f32]| list.iter().sum::<f32>() <= 1e-6;
        if self.per_site {
            if let Some(site) = self.sites.iter().position(|list| zero(list)) {
                return Err(format!("all weights of layer {site} are 0; raise at least one"));
            }
            if self.sites.iter().all(|list| uniform(list)) {
                return Ok(MergePlan::Uniform);
            }
            return Ok(MergePlan::PerSite(self.sites.iter().map(|list| normalised(list)).collect()));
        }
        match &self.global {
            list if zero(list) => Err("all weights are 0; raise at least one".to_owned()),
            list if uniform(list) => Ok(MergePlan::Uniform),
            list => Ok(MergePlan::Global(normalised(list))),
        }
    }

    fn from_plan(plan: &MergePlan, experts: usize, sites: usize) -> Self {
        let mut weights = Self::uniform(experts, sites);
        match plan {
            MergePlan::Uniform => {}
            MergePlan::Global(list) => weights.global = normalised(list),
            MergePlan::PerSite(lists) => {
                weights.per_site = true;
                weights.sites = lists.iter().map(|list| normalised(list)).collect();
            }
        }
        if weights.fits(experts, sites) { weights } else { Self::uniform(experts, sites) }
    }
}

fn normalised(list: &[f32]) -> Vec<f32> {
    let sum: f32 = list.iter().sum();
    if sum.abs() < 1e-9 { list.to_vec() } else { list.iter().map(|w| w / sum).collect() }
}

/// The sliders and the scored merges.
#[derive(Default)]
pub struct WeightsForm {
    weights: SliderWeights,
    site: usize,
    undo: Vec<SliderWeights>,
    /// The sliders before the drag under way.
    before_drag: Option<SliderWeights>,
    run: PathBuf,
}

impl WeightsForm {
    /// Draws sliders, buttons and history.
    pub fn ui(
        &mut self,
        ctx: &PanelCtx<'_>,
        run: &RunView,
        subject: &Subject,
        report: Option<&EvalReport>,
        ui: &mut Ui,
    ) {
        let (experts, sites) = (run.config.mixture.num_experts, run.start.sites.len());
        if self.run != run.dir || !self.weights.fits(experts, sites) {
            *self = Self { weights: SliderWeights::uniform(experts, sites), run: run.dir.clone(), ..Self::default() };
        }
        cards::card(ui, ctx.theme, "Weights of your own", |ui| {
            self.scope_ui(run, ui);
            self.sliders_ui(ctx, ui);
            if self.weights.per_site && experts <= COLUMNS {
                self.overview_ui(ctx, run, ui);
            }
            ui.add_space(4.0);
            self.buttons_ui(ctx, subject, ui);
            ctx.error_ui(ui, &ctx.session.merge);
        });
        if !ctx.session.tried.is_empty() {
            ui.add_space(4.0);
            cards::card(ui, ctx.theme, "Scored merges", |ui| self.history_ui(ctx, report, ui));
        }
    }

    fn remember(&mut self, old: SliderWeights) {
        if old != self.weights {
            self.undo.push(old);
            if self.undo.len() > UNDO {
                self.undo.remove(0);
            }
        }
    }

    fn change(&mut self, new: SliderWeights) {
        let old = std::mem::replace(&mut self.weights, new);
        self.remember(old);
    }

    fn scope_ui(&mut self, run: &RunView, ui: &mut Ui) {
        let old = self.weights.clone();
        ui.horizontal_wrapped(|ui| {
            ui.radio_value(&mut self.weights.per_site, false, "the same in all layers");
            ui.radio_value(&mut self.weights.per_site, true, "in each layer its own");
            if self.weights.per_site {
                self.site = self.site.min(run.start.sites.len().saturating_sub(1));
                let name = ui.label("Layer");
                let layers: Vec<String> = run.start.sites.iter().map(|site| names::site(site)).collect();
                labeled::layer_list(ui, "weights layer", &name, &layers, &mut self.site);
                let copy = ui.button("Copy to all layers").on_hover_text("Gives all layers the weights of this one");
                if copy.clicked() {
                    let list = self.weights.list_mut(self.site).clone();
                    self.weights.sites.iter_mut().for_each(|site| site.clone_from(&list));
                }
            }
        });
        self.remember(old);
    }

    fn sliders_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let before = self.weights.clone();
        let mut finished = false;
        let site = self.site;
        let list = self.weights.list_mut(site);
        let sum: f32 = list.iter().sum();
        for (expert, weight) in list.iter_mut().enumerate() {
            ui.horizontal(|ui| {
                verdict::expert_chip(ui, ctx.theme, expert);
                ui.spacing_mut().slider_width = (ui.available_width() - 260.0).clamp(80.0, 320.0);
                let slider = egui::Slider::new(weight, 0.0..=1.0).fixed_decimals(2).text(format!("Expert {expert}"));
                let tip = "How much this expert counts; all weights are divided by their sum. 0 leaves it out";
                let response = ui.add(slider).on_hover_text(tip);
                if response.drag_started() {
                    self.before_drag.get_or_insert_with(|| before.clone());
                }
                finished |= response.drag_stopped() || (response.changed() && !response.dragged());
                let share = if sum > 1e-6 { names::share(*weight / sum) } else { "-".to_owned() };
                ui.monospace(format!("{share:>7}")).on_hover_text("Its share of the merged module");
            });
        }
        if finished {
            let old = self.before_drag.take().unwrap_or(before);
            self.remember(old);
        }
        let words = match self.weights.plan() {
            Ok(MergePlan::Uniform) => "W = mean of all experts: the paper's merge.".to_owned(),
            Ok(MergePlan::Global(list)) => formula(&list, "W"),
            Ok(MergePlan::PerSite(lists)) => {
                formula(lists.get(self.site).map_or(&[][..], Vec::as_slice), &format!("W of layer {}", self.site))
            }
            Err(reason) => reason,
        };
        ui.label(RichText::new(words).small().color(ctx.theme.muted));
    }

    /// The shares of all layers; a click chooses the layer.
    fn overview_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
        let experts = self.weights.global.len();
        let columns: Vec<String> = (0..experts).map(|i| i.to_string()).collect();
        let rows = self.weights.sites.len();
        let (cell, name) = (vec2(52.0, 18.0), "Shares in all layers");
        let spec = GridSpec { name, columns: &columns, rows, row_width: 84.0, cell, clickable: true };
        let sites = &self.weights.sites;
        let chosen = self.site;
        let site_name = |row: usize| run.start.sites.get(row).map_or_else(String::new, |site| names::site(site));
        let clicked = cell_grid::ui(
            ui,
            ctx.theme,
            &spec,
            |row| site_name(rows - 1 - row),
            |row, column| {
                let site = rows - 1 - row;
                let share = normalised(&sites[site])[column];
                let text = names::share(share);
                let about = format!("{}, expert {column}: {text}", site_name(site));
                let fill = Some(color(ctx.theme, Scale::Sequential(0.0, 1.0), share));
                GridCell { text, fill, about, chosen: site == chosen }
            },
        );
        if let Some((row, _)) = clicked {
            self.site = rows - 1 - row;
        }
    }

    fn buttons_ui(&mut self, ctx: &PanelCtx<'_>, subject: &Subject, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            match self.weights.plan() {
                Ok(plan) => drop(ctx.button(ui, Action::Merge(subject.clone(), plan))),
                Err(reason) => {
                    let words = Action::Merge(subject.clone(), MergePlan::Uniform).text();
                    ui.add_enabled(false, egui::Button::new(words))
                        .on_disabled_hover_text(format!("Not now: {reason}"));
                }
            }
            let (experts, sites) = self.weights.shape();
            if ui.button("Uniform").on_hover_text("The same weight for all experts: the paper").clicked() {
                let new = SliderWeights { per_site: self.weights.per_site, ..SliderWeights::uniform(experts, sites) };
                self.change(new);
            }
            let undo = ui.add_enabled(!self.undo.is_empty(), egui::Button::new("Undo weights"));
            let undo = undo.on_hover_text("Puts the sliders back to where they were before the last change");
            if undo.on_disabled_hover_text("Not now: the weights were not changed yet").clicked()
                && let Some(old) = self.undo.pop()
            {
                self.weights = old;
            }
            ctx.pending_ui(ui, &ctx.session.merge, "scoring the merge");
        });
    }

    fn history_ui(&mut self, ctx: &PanelCtx<'_>, report: Option<&EvalReport>, ui: &mut Ui) {
        let tried = &ctx.session.tried;
        let better = |a: f64, b: f64| if report.is_none_or(|r| r.higher_is_better) { a > b } else { a < b };
        let best = (0..tried.len())
            .reduce(|best, i| if better(tried[i].scores.primary, tried[best].scores.primary) { i } else { best });
        let mut use_again = None;
        egui::ScrollArea::vertical().id_salt("tried").max_height(180.0).show(ui, |ui| {
            egui::Grid::new("tried weights").striped(true).spacing([14.0, 4.0]).show(ui, |ui| {
                let metric = tried.first().map_or("metric", |merge| names::metric(&merge.metric));
                for title in ["No.", "Shares of the experts", metric, "vs uniform", "Loss", "Took", ""] {
                    ui.strong(title);
                }
                ui.end_row();
                for (i, merge) in tried.iter().enumerate().rev() {
                    ui.monospace((i + 1).to_string());
                    ui.label(names::merge_plan(&merge.plan));
                    ui.horizontal(|ui| {
                        ui.monospace(format::metric(merge.scores.primary));
                        if best == Some(i) && tried.len() > 1 {
                            ui.label(RichText::new("▲ best").small().color(ctx.theme.ok));
                        }
                    });
                    let difference = report.map(|report| merge.scores.primary - report.merged.primary);
                    ui.monospace(difference.map_or_else(|| "-".to_owned(), |d| format!("{d:+.4}")));
                    ui.monospace(format::metric(merge.scores.loss));
                    ui.monospace(format::duration(merge.seconds));
                    let button = ui.small_button("Use").accessible_name(format!("Use weights {}", i + 1));
                    if button.on_hover_text("Puts the sliders to these weights").clicked() {
                        use_again = Some(merge.plan.clone());
                    }
                    ui.end_row();
                }
            });
        });
        if let Some(plan) = use_again {
            let (experts, sites) = self.weights.shape();
            self.change(SliderWeights::from_plan(&plan, experts, sites));
        }
        let words = "Weights chosen by their scores on these rows are slightly overfitted to them; confirm a choice on other rows.";
        ui.label(RichText::new(words).small().color(ctx.theme.muted));
    }
}

/// `W = 0.25 W0 + 0.75 W1`, experts with weight 0 left out.
fn formula(list: &[f32], name: &str) -> String {
    let parts: Vec<String> =
        list.iter().enumerate().filter(|(_, w)| **w > 0.0005).map(|(i, w)| format!("{w:.3} W{i}")).collect();
    let shown = parts.iter().take(8).cloned().collect::<Vec<_>>().join(" + ");
    format!("{name} = {shown}{}, for down and up alike.", if parts.len() > 8 { " + …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sliders_become_plans() {
        let mut weights = SliderWeights::uniform(4, 2);
        assert_eq!(weights.plan(), Ok(MergePlan::Uniform));
        weights.global = vec![1.0, 0.0, 0.0, 1.0];
        assert_eq!(weights.plan(), Ok(MergePlan::Global(vec![0.5, 0.0, 0.0, 0.5])));
        weights.global = vec![0.0; 4];
        assert!(weights.plan().is_err());
        weights.per_site = true;
        assert_eq!(weights.plan(), Ok(MergePlan::Uniform));
        weights.sites[1] = vec![3.0, 1.0, 0.0, 0.0];
        let plan = weights.plan().unwrap_or_default();
        assert_eq!(plan, MergePlan::PerSite(vec![vec![0.25; 4], vec![0.75, 0.25, 0.0, 0.0]]));
        assert_eq!(SliderWeights::from_plan(&plan, 4, 2).plan(), Ok(plan));
        assert_eq!(SliderWeights::from_plan(&MergePlan::Global(vec![1.0]), 4, 2), SliderWeights::uniform(4, 2));
    }

    #[test]
    fn formulas_leave_out_nothing_that_counts() {
        assert_eq!(formula(&[0.25, 0.0, 0.75], "W"), "W = 0.250 W0 + 0.750 W2, for down and up alike.");
    }
}
