//! Which expert each layer uses, in both passes, and how often.

mod all_routes;
mod compact;
mod counts;
mod diagram;
mod fan;
mod grid;
mod history;
mod law;
mod playhead;
mod replay;
mod reroll;

use crate::app::actions::Action;
use crate::app::names::{self, LayerGroup};
use crate::app::panel_ctx::{PanelCtx, mixture_run};
use crate::app::run_view::RunView;
use crate::app::widgets::{cards, labeled};
use crate::config::{MixtureKind, RoutingPolicy};
use crate::format;
use crate::protocol::{RoutingSnapshot, RunStatus, SIDES};
use counts::CellContent;
use egui::Ui;

/// Rows of boxes from which on each layer is a single line, unless the user chooses.
const MANY_ROWS: usize = 24;

#[derive(Default)]
pub struct RoutingPanel {
    shown: CellContent,
    second_pass: bool,
    /// One line for each layer; absent: as many modules as there are decide.
    compact: Option<bool>,
}

impl RoutingPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let hint = "Each step draws at random which expert runs in which layer. Press Start, and the draws are shown here as \
                    they happen.";
        let Some(run) = mixture_run(ctx, ui, "No routes yet", hint) else { return };
        let Some(routing) = &run.routing else { return missing_ui(ctx, run, ui) };
        let kind = run.config.mixture.kind;
        let layers = names::by_layer(&routing.sites);
        figures_ui(ctx, routing, kind, ui);
        let title =
            if routing.policy.is_per_batch() { "Paths of the newest step" } else { "Experts of the newest step" };
        cards::card(ui, ctx.theme, title, |ui| self.newest_ui(ctx, routing, kind, &layers, ui));
        cards::card(ui, ctx.theme, "Are the draws uniform?", |ui| {
            let fixed_expert = routing.fixed_expert;
            let active = match &ctx.session.opened {
                Some(run) => run.status == Some(RunStatus::Running),
                None => ctx.session.phase.is_active(),
            };
            let subject = counts::Subject { theme: ctx.theme, routing, kind, fixed_expert, active, layers: &layers };
            counts::ui(subject, &mut self.shown, ui);
        });
        playhead::ui(ctx, ui);
    }

    /// The newest step: a line for each layer, or the boxes of all experts.
    fn newest_ui(
        &mut self,
        ctx: &PanelCtx<'_>,
        routing: &RoutingSnapshot,
        kind: MixtureKind,
        layers: &[LayerGroup],
        ui: &mut Ui,
    ) {
        let theme = ctx.theme;
        let rows = routing.sites.len() * SIDES.len();
        let mut compact = self.compact.unwrap_or(rows > MANY_ROWS);
        ui.horizontal_wrapped(|ui| {
            let tip = "On: one line for each layer, with a cell for each module. Off: a box for each expert, and the steps \
                       before";
            if labeled::toggle(ui, "Compact", tip, &mut compact).changed() {
                self.compact = Some(compact);
            }
            if !compact && routing.passes > 1 && !routing.recent.is_empty() {
                let tip = "On: the history at the right shows pass B instead of pass A";
                labeled::toggle(ui, "History of pass B", tip, &mut self.second_pass);
            }
        });
        if kind == MixtureKind::Lora && layers.iter().any(|layer| layer.sites.len() > 1) {
            let words = "The matrices of a layer stand side by side, not one after the other: q, k and v read the same \
                         input, as do gate and up. Each draws for itself.";
            cards::caption(ui, theme, words);
        }
        if compact {
            return compact::ui(theme, routing, kind, layers, ui);
        }
        let in_series = layers.iter().all(|layer| layer.sites.len() == 1) || kind == MixtureKind::Adapter;
        diagram::legend_ui(theme, routing, in_series, ui);
        let subject =
            |sites| diagram::Subject { theme, routing, kind, sites, in_series, second_pass: self.second_pass };
        if in_series {
            let sites: Vec<usize> = (0..routing.sites.len()).collect();
            return diagram::ui(subject(&sites), ui);
        }
        for (i, layer) in layers.iter().enumerate().rev() {
            // Where there are many layers, the top one shows what the others look like.
            let open = rows <= MANY_ROWS || i + 1 == layers.len();
            egui::CollapsingHeader::new(&layer.name)
                .id_salt(("routes of", &layer.name))
                .default_open(open)
                .show(ui, |ui| diagram::ui(subject(&layer.sites), ui));
        }
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

fn figures_ui(ctx: &PanelCtx<'_>, routing: &RoutingSnapshot, kind: MixtureKind, ui: &mut Ui) {
    let theme = ctx.theme;
    cards::card(ui, theme, "", |ui| {
        let [down, up] = SIDES.map(|side| {
            let name = names::side(kind, side);
            match routing.experts[side as usize] {
                1 => format!("{name} shared"),
                n => format!("{n} {name}"),
            }
        });
        // Of the sides that have something to draw.
        let drawn = routing.draws.iter().enumerate().filter(|(cell, _)| routing.experts[cell % 2] > 1);
        let mut figures = vec![
            ("Step", format::count(routing.step), "Steps done when these routes were drawn"),
            (
                "Passes per step",
                if routing.passes == 2 { "2 (A and B)" } else { "1" }.to_owned(),
                "With the consistency term every step runs the same batch twice, each time with its own route (AdaMix, \
                 section 3.2)",
            ),
            (
                "Experts per module",
                format!("{down}, {up}"),
                "A shared side has one matrix for all experts (section 3.4)",
            ),
            (
                "Draws so far",
                format::count(drawn.map(|(_, draws)| *draws).sum::<u64>()),
                "Over all modules, sides and passes of this run",
            ),
        ];
        let paths = paths_text(routing);
        if let Some((paths, tip)) = &paths {
            figures.push(("Possible paths", paths.clone(), tip));
        }
        cards::figures(ui, theme, &figures);
        ui.add_space(2.0);
        let (name, description) = names::policy(routing.policy, &names::drawn_sides(kind, routing.experts));
        ui.label(format!("Routing policy: {name}."));
        cards::caption(ui, theme, description);
    });
}

/// Number of possible paths of a batch, with an explanation; nothing where a batch has no single path, or no choice.
fn paths_text(routing: &RoutingSnapshot) -> Option<(String, String)> {
    if routing.policy != RoutingPolicy::PerBatch {
        return None;
    }
    let [down, up] = routing.experts;
    let (choices, modules) = (down * up, routing.sites.len());
    let exponent = modules as f64 * (choices as f64).log10();
    let power = names::power(choices, modules);
    let value = if exponent < 6.0 {
        format::count((choices as u64).saturating_pow(modules as u32))
    } else {
        let (mantissa, whole) = (10f64.powf(exponent.fract()), exponent.floor() as usize);
        format!("{mantissa:.1} × 10{}", names::superscript(whole))
    };
    let tried = routing.step * routing.passes as u64;
    let tip = format!(
        "{choices} choices in each of {}: {power} paths through the network. With one draw a batch, this run has tried at \
         most {} of them; the merged model approximates their mean.",
        format::counted(modules, "module"),
        format::count(tried)
    );
    Some((format!("{power} = {value}"), tip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(policy: RoutingPolicy, modules: usize) -> Option<String> {
        let sites = (0..modules).map(|n| format!("layers.{n}.ffn")).collect();
        let routing = RoutingSnapshot { policy, sites, experts: [4, 1], passes: 2, ..RoutingSnapshot::default() };
        paths_text(&routing).map(|(paths, _)| paths)
    }

    #[test]
    fn paths_are_counted_where_a_batch_has_one() {
        assert_eq!(paths(RoutingPolicy::PerBatch, 4).as_deref(), Some("4⁴ = 256"));
        assert_eq!(paths(RoutingPolicy::PerBatch, 28).as_deref(), Some("4²⁸ = 7.2 × 10¹⁶"));
        for policy in
            [RoutingPolicy::PerExample, RoutingPolicy::PerToken, RoutingPolicy::Fixed, RoutingPolicy::RoundRobin]
        {
            assert_eq!(paths(policy, 4), None, "{policy:?}");
        }
    }
}
