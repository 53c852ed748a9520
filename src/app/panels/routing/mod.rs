//! Which expert each layer uses, in both passes, and how often.

mod counts;
mod diagram;

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::{PanelCtx, mixture_run};
use crate::app::run_view::RunView;
use crate::app::widgets::cards;
use crate::format;
use crate::protocol::RoutingSnapshot;
use counts::CellContent;
use egui::Ui;

#[derive(Default)]
pub struct RoutingPanel {
    shown: CellContent,
    second_pass: bool,
}

impl RoutingPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let Self { shown, second_pass } = self;
        let hint = "Each step draws at random which expert runs in which layer. Press Start, and the draws are shown here as \
                    they happen.";
        let Some(run) = mixture_run(ctx, ui, "No routes yet", hint) else { return };
        let Some(routing) = &run.routing else { return missing_ui(ctx, run, ui) };
        figures_ui(ctx, routing, ui);
        cards::card(ui, ctx.theme, "Paths of the newest step", |ui| {
            diagram::ui(ctx.theme, routing, second_pass, ui);
        });
        cards::card(ui, ctx.theme, "Are the draws uniform?", |ui| {
            counts::ui(ctx.theme, routing, run.config.mixture.fixed_expert, shown, ui);
        });
    }
}

/// There are no routes: not yet, or the log cannot be read.
fn missing_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    if ctx.session.shows_live() {
        if let Some(failure) = &run.failure {
            cards::error(ui, ctx.theme, failure);
            cards::muted(ui, ctx.theme, "The run ended before a route could be shown.");
            drop(ctx.button(ui, Action::StartRun));
        } else {
            cards::loading(ui, ctx.waiting_text("Waiting for the first routes"), None);
        }
        return;
    }
    cards::error(ui, ctx.theme, "This run has no readable route log (routes.bin): nothing to draw.");
    ui.add_space(4.0);
    let again = egui::Button::new("Read the run again");
    drop(ctx.button_as(ui, Action::OpenRun(run.dir.clone()), again));
}

fn figures_ui(ctx: &PanelCtx<'_>, routing: &RoutingSnapshot, ui: &mut Ui) {
    let theme = ctx.theme;
    cards::card(ui, theme, "", |ui| {
        let (paths, paths_tip) = paths_text(routing);
        let [down, up] = routing.experts.map(|n| if n == 1 { "shared".to_owned() } else { n.to_string() });
        // Of the sides that have something to draw.
        let drawn = routing.draws.iter().enumerate().filter(|(cell, _)| routing.experts[cell % 2] > 1);
        let figures = [
            ("Step", format::count(routing.step), "Steps done when these routes were drawn"),
            (
                "Passes per step",
                if routing.passes == 2 { "2 (A and B)" } else { "1" }.to_owned(),
                "With the consistency term every step runs the same batch twice, each time with its own route (AdaMix, \
                 section 3.2)",
            ),
            (
                "Experts per layer",
                format!("{down} down, {up} up"),
                "A shared side has one matrix for all experts (section 3.4)",
            ),
            (
                "Draws so far",
                format::count(drawn.map(|(_, draws)| *draws).sum::<u64>()),
                "Over all layers, sides and passes of this run",
            ),
            ("Possible paths", paths, &paths_tip),
        ];
        cards::figures(ui, theme, &figures);
        ui.add_space(2.0);
        let (name, description) = names::policy(routing.policy);
        ui.label(format!("Routing policy: {name}.")).on_hover_text(description);
        cards::caption(ui, theme, description);
    });
}

/// Number of possible paths, M to the power of the layers, with an explanation.
fn paths_text(routing: &RoutingSnapshot) -> (String, String) {
    let [down, up] = routing.experts;
    let (choices, layers) = (down * up, routing.sites.len());
    let power = layers as f64 * (choices as f64).log10();
    let value = if power < 6.0 {
        format::count((choices as u64).saturating_pow(layers as u32))
    } else {
        format!("{:.1}e{:.0}", 10f64.powf(power.fract()), power.floor())
    };
    let tried = routing.step * routing.passes as u64;
    let story = format!(
        "{choices} choices in each of {layers} layers: {choices}^{layers} paths through the network. With one draw a \
         batch, this run has tried at most {} of them; the merged model approximates their mean.",
        format::count(tried)
    );
    (format!("{choices}^{layers} = {value}"), story)
}
