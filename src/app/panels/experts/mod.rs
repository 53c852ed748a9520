//! Weights of the experts and distances between them.

mod maps;
mod numbers;
mod time;

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::{PanelCtx, shown_run};
use crate::app::run_view::RunView;
use crate::app::widgets::{cards, labeled, verdict};
use crate::config::Method;
use crate::protocol::{ExpertSnapshot, Side, SideSnapshot};
use egui::{Key, Modifiers, RichText, Ui};

/// Most experts with a button each; more are chosen from a list.
const BUTTONS: usize = 16;

/// What the view remembers on screen.
#[derive(Default)]
pub struct ExpertsPanel {
    expert: usize,
    distance: bool,
    maps: maps::HeatMaps,
}

/// One side of one adapted module of a snapshot.
struct Focus<'a> {
    snapshot: &'a ExpertSnapshot,
    site: usize,
    side: Side,
    data: &'a SideSnapshot,
}

impl ExpertsPanel {
    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let hint = "The experts of a layer start from different random numbers and are trained on different batches. Press \
                    Start to see their weights, norms and distances change.";
        let Some(run) = shown_run(ctx, ui, "No experts yet", hint) else { return };
        if run.config.model.method != Method::Adamix {
            let hint = "This run trains without a mixture, so there are no experts. Choose the method AdaMix in Setup.";
            return cards::empty(ui, ctx.theme, "No mixture in this run", hint, |_| {});
        }
        let Some(snapshot) = ctx.session.experts() else { return missing_ui(ctx, run, ui) };
        self.choose_ui(ctx, snapshot, ui);
        if let Some(error) = &ctx.session.inspect.error {
            cards::error(ui, ctx.theme, error);
            ask_button(ctx, "Try again", ui);
        }
        let (site, side) = wanted(ctx);
        let Some(data) = snapshot.sides.get(site * 2 + side as usize) else {
            return cards::loading(ui, "Waiting for the weights of this layer", None);
        };
        let focus = Focus { snapshot, site, side, data };
        self.expert = self.expert.min(data.experts.len().saturating_sub(1));
        shared_ui(ctx, run, &focus, ui);
        ui.add_space(4.0);
        self.maps.ui(ctx, &focus, &mut self.expert, ui);
        ui.add_space(4.0);
        numbers::ui(ctx, &focus, &mut self.expert, &mut self.distance, ui);
        ui.add_space(4.0);
        time::ui(ctx, run, &focus, ui);
    }

    /// Layer, side and expert, by mouse and by keys.
    fn choose_ui(&mut self, ctx: &PanelCtx<'_>, snapshot: &ExpertSnapshot, ui: &mut Ui) {
        let (mut site, mut side) = wanted(ctx);
        let before = (site, side);
        // A run with fewer layers may have been opened since the choice was made.
        let last = snapshot.sites.len().saturating_sub(1);
        site = site.min(last);
        let keys = |key: Key| ui.input_mut(|input| input.consume_key(Modifiers::ALT, key));
        let steps = [Key::ArrowUp, Key::ArrowDown, Key::ArrowLeft, Key::ArrowRight].map(keys);
        cards::card(ui, ctx.theme, "", |ui| {
            ui.horizontal_wrapped(|ui| {
                let name = ui.label("Layer");
                let lower = ui.add_enabled(site > 0, egui::Button::new("◀")).accessible_name("Layer below");
                let lower = lower.on_hover_text("The layer below (Alt and arrow down)").clicked();
                let layers: Vec<String> = snapshot.sites.iter().map(|name| names::site(name)).collect();
                labeled::layer_list(ui, "experts layer", &name, &layers, &mut site);
                let upper = ui.add_enabled(site < last, egui::Button::new("▶")).accessible_name("Layer above");
                let upper = upper.on_hover_text("The layer above (Alt and arrow up)").clicked();
                site = match (upper || steps[0], lower || steps[1]) {
                    (true, _) => (site + 1).min(last),
                    (_, true) => site.saturating_sub(1),
                    _ => site,
                };
                ui.add_space(8.0);
                ui.label("Side").on_hover_text("W^D leads from the hidden size to the bottleneck, W^U back");
                ui.selectable_value(&mut side, Side::Down, "Down");
                ui.selectable_value(&mut side, Side::Up, "Up");
                ui.add_space(8.0);
                let experts = snapshot.sides.get(site * 2 + side as usize).map_or(0, |data| data.experts.len());
                self.expert_ui(ctx, experts, ui);
                self.expert = match (steps[2], steps[3]) {
                    (true, _) => self.expert.saturating_sub(1),
                    (_, true) => (self.expert + 1).min(experts.saturating_sub(1)),
                    _ => self.expert,
                };
            });
            let as_of = format!("Weights after step {}", crate::format::count(snapshot.step));
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(as_of).small().color(ctx.theme.muted));
                if ctx.session.inspect.is_pending() {
                    cards::loading(ui, "reading the weights", None);
                } else if !receives(ctx) {
                    ask_button(ctx, "Read again", ui);
                }
            });
        });
        if (site, side) != before {
            // During training the engine sends the watched snapshots; otherwise a query is needed.
            ctx.push(Action::FocusExperts(site, side));
            if !receives(ctx)
                && let Some(subject) = ctx.session.subject()
            {
                ctx.push(Action::Inspect(subject, site, side));
            }
        }
    }

    fn expert_ui(&mut self, ctx: &PanelCtx<'_>, experts: usize, ui: &mut Ui) {
        if experts <= 1 {
            ui.label(RichText::new("shared by all experts").color(ctx.theme.muted));
            return;
        }
        let name = ui.label("Expert").on_hover_text("Alt and arrow left or right");
        if experts <= BUTTONS {
            for expert in 0..experts {
                let chosen = self.expert == expert;
                let color = ctx.theme.expert(expert);
                let words = RichText::new(format!(" {expert} ")).monospace();
                let button = egui::Button::selectable(chosen, words).stroke(egui::Stroke::new(1.5, color));
                if ui.add(button).accessible_name(format!("Expert {expert}")).clicked() {
                    self.expert = expert;
                }
            }
        } else {
            egui::ComboBox::from_id_salt("experts expert")
                .selected_text(self.expert.to_string())
                .width(60.0)
                .show_ui(ui, |ui| {
                    for expert in 0..experts {
                        ui.selectable_value(&mut self.expert, expert, expert.to_string());
                    }
                })
                .response
                .labelled_by(name.id);
        }
    }
}

/// The chosen module and side.
fn wanted(ctx: &PanelCtx<'_>) -> (usize, Side) {
    (ctx.session.focus.0, ctx.session.focus.1.unwrap_or(Side::Down))
}

/// Whether the engine sends snapshots by itself.
fn receives(ctx: &PanelCtx<'_>) -> bool {
    ctx.session.shows_live() && ctx.session.phase.is_active()
}

/// A button that asks for the weights.
fn ask_button(ctx: &PanelCtx<'_>, words: &str, ui: &mut Ui) {
    let Some(subject) = ctx.session.subject() else { return };
    let (site, side) = wanted(ctx);
    drop(ctx.button_as(ui, Action::Inspect(subject, site, side), egui::Button::new(words)));
}

/// There are no weights: not yet, not requested, or refused.
fn missing_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    if let Some(error) = &ctx.session.inspect.error {
        cards::error(ui, ctx.theme, error);
        ui.add_space(4.0);
        return ask_button(ctx, "Try again", ui);
    }
    if ctx.session.inspect.is_pending() || receives(ctx) {
        return cards::loading(ui, ctx.waiting_text("Waiting for the weights"), None);
    }
    let hint = format!("Reads the weights of all experts of {}: heat maps, norms, distances.", run.name());
    cards::empty(ui, ctx.theme, "Weights of the experts", &hint, |ui| ask_button(ctx, "Look inside", ui));
}

/// Explains a shared side.
fn shared_ui(ctx: &PanelCtx<'_>, run: &RunView, focus: &Focus<'_>, ui: &mut Ui) {
    if focus.data.experts.len() != 1 || run.config.mixture.num_experts <= 1 {
        return;
    }
    ui.add_space(4.0);
    let side = names::side(focus.side);
    let words = format!(
        "The {side}-projection of this layer is shared: one matrix serves all {} experts, so there is nothing to draw, to \
         compare or to merge here. Sharing the up-projection is the paper's default (section 3.4): fewer parameters, and \
         more data for each.",
        run.config.mixture.num_experts
    );
    verdict::line(ui, ctx.theme, verdict::Verdict::Open, &words);
}

/// The paper's symbol of a side.
fn side_symbol(side: Side) -> &'static str {
    if side == Side::Down { "W^D" } else { "W^U" }
}
