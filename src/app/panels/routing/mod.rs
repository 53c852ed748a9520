//! The route map: what every layer drew, when, and how much it matters.
//!
//! What is uniform by construction is grey. Colour is kept for what differs for a reason (the zone *So what*), and for an
//! expert's identity where a single draw can be read.

mod all_routes;
mod counts;
mod fan;
mod figures;
mod grid;
mod law;
mod map;
mod now;
mod playhead;
mod replay;
mod reroll;
mod so_what;
mod table;
mod tiles;
mod time;
mod transport;
mod words;

use crate::analysis::timeline::{Ages, RouteTimeline};
use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::{PanelCtx, mixture_run};
use crate::app::run_view::RunView;
use crate::app::widgets::{canvas, cards, export_menu};
use crate::config::{MixtureKind, RoutingPolicy};
use crate::figure::{Content, Figure};
use crate::format;
use crate::protocol::{RoutingSnapshot, RunStatus, SIDES};
use counts::CellContent;
use egui::{Rect, RichText, Ui, UiBuilder, pos2, vec2};
use map::{Map, Rows};
use so_what::Pin;
use std::path::PathBuf;

/// From this width on the zones stand side by side.
const WIDE: f32 = 960.0;
/// Space between zones.
const GAP: f32 = 14.0;
/// Height of what stands above the rows but for the curves.
const HEAD: f32 = 30.0;
/// What the view needs besides the rows, about.
const AROUND: f32 = 330.0;

/// What the view remembers.
pub struct RoutingPanel {
    shown: CellContent,
    time: time::TimeZone,
    transport: transport::Transport,
    /// The step as a table instead of the zones.
    table: bool,
    trails: bool,
    /// The module that is drawn of layers with several; absent: all.
    module: Option<String>,
    /// The expert that was chosen in *So what*.
    pin: Option<Pin>,
    /// When each expert learned, at a step of a run.
    ages: Option<(PathBuf, u64, Ages)>,
}

impl Default for RoutingPanel {
    fn default() -> Self {
        Self {
            shown: CellContent::default(),
            time: time::TimeZone::default(),
            transport: transport::Transport::default(),
            table: false,
            trails: true,
            module: None,
            pin: None,
            ages: None,
        }
    }
}

impl RoutingPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let hint = "Each step draws at random which expert runs in which layer. Press Start, and the draws are shown here as \
                    they happen.";
        let Some(run) = mixture_run(ctx, ui, "No routes yet", hint) else { return };
        let kind = run.config.mixture.kind;
        let routes = &ctx.session.routes;
        match routes.shown(ctx.session.playhead).filter(|_| routes.dir == run.dir) {
            Some(step) => self.map_ui(ctx, run, step, ui),
            None => missing_ui(ctx, run, ui),
        }
        if let Some(routing) = &run.routing {
            let layers = names::by_layer(&routing.sites);
            cards::card(ui, ctx.theme, "Are the draws uniform?", |ui| {
                let fixed_expert = routing.fixed_expert;
                let active = match &ctx.session.opened {
                    Some(run) => run.status == Some(RunStatus::Running),
                    None => ctx.session.phase.is_active(),
                };
                let subject =
                    counts::Subject { theme: ctx.theme, routing, kind, fixed_expert, active, layers: &layers };
                counts::ui(subject, &mut self.shown, ui);
            });
        }
        // Cards about the step at the playhead stand below the zones.
        playhead::ui(ctx, ui);
        if let Some(routing) = &run.routing {
            figures_ui(ctx, routing, kind, ui);
        }
    }

    /// The line of the playhead and the three zones.
    fn map_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, step: u64, ui: &mut Ui) {
        let timeline = &ctx.session.routes.timeline;
        let layers = names::by_layer(&timeline.layout().sites);
        let Some(row) = timeline.row(step) else { return };
        let ages = self.ages_at(run, timeline, step);
        let module = self.module.clone();
        let studies = &ctx.session.studies;
        let map = Map {
            ctx,
            run,
            timeline,
            layers: &layers,
            module: module.as_deref(),
            step,
            row,
            ages: &ages,
            fit: ctx.session.routes.fit.value.as_ref(),
            causes: studies.causes.value.as_ref(),
            trails: self.trails,
        };
        let (all, passes) = (layers.len(), timeline.layout().passes);
        let line = words::step_line(step, all, &row, map.fit, passes);
        let sentence = words::spoken(step, all, &row, map.fit, passes);
        cards::card(ui, ctx.theme, "Route map", |ui| {
            let mut zoom = None;
            let mut switches = transport::Switches {
                zoom: &mut zoom,
                zoomed: self.time.is_zoomed(),
                table: &mut self.table,
                trails: &mut self.trails,
                module: &mut self.module,
            };
            self.transport.ui(&map, &line, &mut switches, ui);
            if let Some(factor) = zoom {
                self.time.zoom(&map, factor);
            }
            reading_ui(ctx, ui);
            let top = ui.cursor().top();
            if self.table {
                let response = ui.label(RichText::new(&sentence));
                response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, &sentence));
                table::ui(&map, ui);
            } else {
                self.zones_ui(&map, &sentence, ui);
            }
            let place = Rect::from_min_max(pos2(ui.min_rect().left(), top), ui.min_rect().max);
            self.transport.drawn(place);
            so_what::words_ui(&map, self.pin, ui);
        });
    }

    fn ages_at(&mut self, run: &RunView, timeline: &RouteTimeline, step: u64) -> Ages {
        match &self.ages {
            Some((dir, at, ages)) if *dir == run.dir && *at == step => ages.clone(),
            _ => {
                let ages = timeline.ages(step);
                self.ages = Some((run.dir.clone(), step, ages.clone()));
                ages
            }
        }
    }

    /// The zones: side by side where there is room, else one below the other.
    fn zones_ui(&mut self, map: &Map<'_>, sentence: &str, ui: &mut Ui) {
        let (width, layers) = (ui.available_width(), map.layers.len());
        let room = ui.clip_rect().height() - AROUND;
        let curves = time::TimeZone::curves(map) as f32 * time::CURVE;
        let height = Rows::height(layers, room);
        let about = "Route map: now, time, so what";
        if width < WIDE {
            let zones = [("Now", 2.0 * HEAD), ("Time", HEAD + curves), ("So what", 2.0 * HEAD)];
            for (zone, head) in zones {
                ui.label(RichText::new(zone).strong().small());
                let tail = if zone == "Time" { time::AXIS } else { 4.0 };
                let (rect, _) = canvas(ui, vec2(width, head + height + tail), egui::Role::Figure, zone);
                let (all, named) = parts(rect, head, height, layers);
                // The boxes have the names of the layers beside them already.
                let names = Rect::everything_right_of(rect.left() + now::names_width(map));
                let (head, rows) = parts(rect.intersect(names), head, height, layers);
                match zone {
                    "Now" => now_ui(map, all, &named, ui),
                    "Time" => self.time_ui(map, head, &rows, sentence, ui),
                    _ => self.so_what_ui(map, head, &rows, ui),
                }
                if zone != "Now" {
                    now::names(map, &named, ui);
                }
            }
            return;
        }
        let head = HEAD + curves.max(1.5 * HEAD);
        let (rect, _) = canvas(ui, vec2(width, head + height + time::AXIS), egui::Role::Figure, about);
        let experts = map.layout().most_experts() as f32;
        let now = (0.26 * width).clamp(250.0, (140.0 + 64.0 * experts).max(250.0));
        let so_what = (0.28 * width).clamp(260.0, 620.0);
        let zone = |left: f32, right: f32| {
            let own = Rect::from_min_max(pos2(left, rect.top()), pos2(right, rect.bottom()));
            parts(own, head, height, layers)
        };
        let (now_head, now_rows) = zone(rect.left(), rect.left() + now);
        now_ui(map, now_head, &now_rows, ui);
        let (time_head, time_rows) = zone(rect.left() + now + GAP, rect.right() - so_what - GAP);
        self.time_ui(map, time_head, &time_rows, sentence, ui);
        let (so_head, so_rows) = zone(rect.right() - so_what, rect.right());
        self.so_what_ui(map, so_head, &so_rows, ui);
    }

    fn time_ui(&mut self, map: &Map<'_>, head: Rect, rows: &Rows, sentence: &str, ui: &mut Ui) {
        self.time.ui(map, head, rows, sentence, ui);
        let shown = self.time.shown(map);
        export_menu::corner(ui, head, "Route map", &[], || (figures::draws(map, shown), None));
    }

    /// The zone *So what*; what is chosen in it is what the card *Pin one module* is about.
    fn so_what_ui(&mut self, map: &Map<'_>, head: Rect, rows: &Rows, ui: &mut Ui) {
        let before = self.pin;
        so_what::ui(map, head, rows, &mut self.pin, ui);
        if let Some(pin) = self.pin.filter(|_| self.pin != before) {
            let module = map.site_of(pin.layer).or_else(|| map.layers.get(pin.layer)?.sites.first().copied());
            module.into_iter().for_each(|module| grid::choose(ui, module));
        }
        export_menu::corner(ui, head, "What each layer causes", &[], || {
            (Figure::new("What each layer causes", Content::Table(figures::causes(map))), None)
        });
    }
}

/// What stands above the rows, and the rows.
fn parts(rect: Rect, head: f32, height: f32, layers: usize) -> (Rect, Rows) {
    let split = rect.top() + head;
    let rows = Rect::from_min_max(pos2(rect.left(), split), pos2(rect.right(), split + height));
    (Rect::from_min_max(rect.min, pos2(rect.right(), split - 4.0)), Rows { rect: rows, layers })
}

/// The zone *Now* with its legend above.
fn now_ui(map: &Map<'_>, head: Rect, rows: &Rows, ui: &mut Ui) {
    let mut legend = ui.new_child(UiBuilder::new().max_rect(head));
    legend.set_clip_rect(head.intersect(ui.clip_rect()));
    now::legend_ui(map, &mut legend);
    now::ui(map, rows, ui);
}

/// How far the record is read.
fn reading_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let routes = &ctx.session.routes;
    if let Some(error) = &routes.reading.error {
        cards::error(ui, ctx.theme, error);
    } else if !routes.complete {
        cards::loading(ui, "Reading the draws", Some(routes.share as f32));
    }
}

/// There are no draws: not yet, or the log cannot be read.
fn missing_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    if ctx.session.shows_live() && run.step() == 0 {
        if let Some(failure) = &run.failure {
            cards::error(ui, ctx.theme, failure);
            cards::muted(ui, ctx.theme, "The run ended before a route could be shown.");
            drop(ctx.button(ui, Action::StartRun));
        } else {
            cards::loading(ui, ctx.waiting_text("Waiting for the first routes"), None);
        }
        return;
    }
    let routes = &ctx.session.routes;
    let empty = routes.dir == run.dir && routes.complete && routes.timeline.is_empty();
    match &routes.reading.error {
        Some(error) => cards::error(ui, ctx.theme, &format!("The route log (routes.bin) cannot be read: {error}")),
        None if empty => {
            cards::error(ui, ctx.theme, "This run has no readable route log (routes.bin): nothing to draw.");
        }
        None => return cards::loading(ui, "Reading the draws", Some(routes.share as f32)),
    }
    if ctx.session.opened.is_some() {
        ui.add_space(4.0);
        let again = egui::Button::new("Read the run again");
        drop(ctx.button_as(ui, Action::OpenRun(run.dir.clone()), again));
    }
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
