//! The line above the zones: the step at the playhead, and what moves it.
//!
//! Keys belong to the map while the pointer is over it or it has the focus, and while no run trains also without either: then
//! Space plays and the arrows step here. Otherwise Space pauses the training and the right arrow makes a single step, as
//! everywhere.

use super::map::Map;
use crate::app::actions::Action;
use crate::app::widgets::{claim_keys, focused_widget, labeled};
use crate::format;
use egui::{Button, Key, Modifiers, Rect, RichText, Ui};

/// Steps a second that can be chosen.
const SPEEDS: [u32; 5] = [2, 5, 20, 100, 500];

/// What plays.
pub struct Transport {
    playing: bool,
    speed: u32,
    /// Parts of a step that are due.
    due: f32,
    /// Where the map was in the last frame, and what can have its focus.
    place: Rect,
}

impl Default for Transport {
    fn default() -> Self {
        Self { playing: false, speed: 5, due: 0.0, place: Rect::NOTHING }
    }
}

/// The view's switches beside the buttons.
pub struct Switches<'a> {
    pub zoom: &'a mut Option<Option<f64>>,
    pub zoomed: bool,
    pub table: &'a mut bool,
    pub trails: &'a mut bool,
    pub module: &'a mut Option<String>,
}

impl Transport {
    /// Draws the line.
    pub fn ui(&mut self, map: &Map<'_>, line: &str, switches: &mut Switches<'_>, ui: &mut Ui) {
        self.keys(map, ui);
        self.play(map, ui);
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(line).monospace().strong());
        });
        ui.horizontal_wrapped(|ui| {
            let (first, last) = (map.timeline.first(), map.timeline.last());
            let go = |ui: &mut Ui, text: &str, name: &str, tip: &str, to: u64| {
                let enabled = to != map.step || map.ctx.session.playhead.is_none() && to == last;
                let button = ui.add_enabled(enabled, Button::new(text)).on_hover_text(tip);
                let button = button.on_disabled_hover_text("Not now: there is no step on that side");
                if button.accessible_name(name).clicked() {
                    map.ctx.push(Action::SetPlayhead(Some(to)));
                }
            };
            go(ui, "|◀", "First step", "To the first step (Home)", first);
            go(ui, "◀", "One step back", "One step back (left arrow; with Shift ten)", before(map, 1));
            let (text, name) = if self.playing { ("■", "Stop playing") } else { ("▶ Play", "Play") };
            let play = ui.add(Button::new(text)).on_hover_text("Moves the playhead on by itself (Space over the map)");
            if play.accessible_name(format!("{name} the draws")).clicked() {
                self.toggle(map);
            }
            go(ui, "▶", "One step on", "One step on (right arrow; with Shift ten)", after(map, 1));
            go(ui, "▶|", "Last step", "To the last step (End)", last);
            let shown = format!("{} steps/s", self.speed);
            let list = egui::ComboBox::from_id_salt("speed of the playhead").selected_text(shown).width(86.0);
            let list = list.show_ui(ui, |ui| {
                for speed in SPEEDS {
                    ui.selectable_value(&mut self.speed, speed, format!("{speed} steps/s"));
                }
            });
            drop(list.response.on_hover_text("Steps a second that playing makes").accessible_name("Playing speed"));
            let mut follow = map.ctx.session.playhead.is_none();
            if labeled::toggle(ui, "Follow", "The newest step, also while the run goes on (F)", &mut follow).changed() {
                map.ctx.push(Action::SetPlayhead((!follow).then_some(map.step)));
            }
            ui.separator();
            for (text, name, tip, factor) in [
                ("+", "Zoom in", "A shorter time, wider (Ctrl and the wheel)", Some(0.5)),
                ("−", "Zoom out", "A longer time, narrower (Ctrl and the wheel)", Some(2.0)),
                ("All", "Whole run", "The whole run", None),
            ] {
                let enabled = factor == Some(0.5) || switches.zoomed;
                let button = ui.add_enabled(enabled, Button::new(text)).on_hover_text(tip);
                if button.on_disabled_hover_text("Not now: the whole run is shown").accessible_name(name).clicked() {
                    *switches.zoom = Some(factor);
                }
            }
            ui.separator();
            let tip = "Thin grey lines: the paths of the last steps";
            labeled::toggle(ui, "Trails", tip, switches.trails);
            let tip = "The step at the playhead as a table, layer by layer; the same keys";
            labeled::toggle(ui, "As a table", tip, switches.table);
            module_ui(map, switches, ui);
            if map.timeline.dropped() > 0 {
                let words =
                    format!("{} at the start do not fit into memory", format::counted(map.timeline.dropped(), "step"));
                ui.label(RichText::new(words).small().color(map.theme().warning));
            }
        });
    }

    /// The map has been drawn here.
    pub fn drawn(&mut self, place: Rect) {
        self.place = place;
    }

    fn toggle(&mut self, map: &Map<'_>) {
        self.playing = !self.playing;
        self.due = 0.0;
        if self.playing && map.step >= map.timeline.last() {
            map.ctx.push(Action::SetPlayhead(Some(map.timeline.first())));
        }
    }

    fn play(&mut self, map: &Map<'_>, ui: &Ui) {
        if !self.playing {
            return;
        }
        ui.ctx().request_repaint();
        self.due += ui.input(|input| input.stable_dt.min(0.1)) * self.speed as f32;
        let steps = self.due.floor();
        if steps >= 1.0 && map.ctx.session.playhead.is_some() {
            self.due -= steps;
            let next = after(map, steps as u64);
            self.playing = next > map.step;
            map.ctx.push(Action::SetPlayhead(Some(next)));
        }
    }

    /// Keys, where they belong to the map.
    fn keys(&mut self, map: &Map<'_>, ui: &Ui) {
        let time = egui::Id::unique("route map time");
        let focused = focused_widget(ui.ctx());
        let over = ui.ctx().pointer_hover_pos().is_some_and(|at| self.place.intersect(ui.clip_rect()).contains(at));
        let mine = focused == Some(time) || focused.is_none() && (over || !map.ctx.session.phase.is_active());
        if !mine || !ui.memory(|memory| memory.allows_interaction(ui.layer_id())) {
            return;
        }
        if focused == Some(time) {
            let filter = egui::EventFilter { horizontal_arrows: true, ..egui::EventFilter::default() };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(time, filter));
        }
        claim_keys(ui.ctx());
        let pressed = |modifiers: Modifiers, key: Key| {
            let keys = ui.input(|input| !input.modifiers.any() || input.modifiers == modifiers);
            if keys { ui.input_mut(|input| input.count_and_consume_key(modifiers, key)) } else { 0 }
        };
        let mut to = None;
        for (modifiers, steps) in [(Modifiers::SHIFT, 10), (Modifiers::NONE, 1)] {
            for (key, forward) in [(Key::ArrowLeft, false), (Key::ArrowRight, true)] {
                let n = pressed(modifiers, key) as u64 * steps;
                if n > 0 {
                    to = Some(Some(if forward { after(map, n) } else { before(map, n) }));
                }
            }
        }
        for (key, step) in
            [(Key::Home, Some(map.timeline.first())), (Key::End, Some(map.timeline.last())), (Key::F, None)]
        {
            if pressed(Modifiers::NONE, key) > 0 {
                to = Some(step);
            }
        }
        if let Some(step) = to {
            map.ctx.push(Action::SetPlayhead(step));
        }
        if pressed(Modifiers::NONE, Key::Space) > 0 {
            self.toggle(map);
        }
    }
}

/// The recorded step so many steps before the playhead.
fn before(map: &Map<'_>, steps: u64) -> u64 {
    let wanted = map.step.saturating_sub(steps).max(map.timeline.first());
    (map.timeline.first()..=wanted).rev().find(|step| map.timeline.row(*step).is_some()).unwrap_or(map.step)
}

/// The recorded step so many steps after the playhead.
fn after(map: &Map<'_>, steps: u64) -> u64 {
    let wanted = map.step.saturating_add(steps).min(map.timeline.last());
    (wanted..=map.timeline.last()).find(|step| map.timeline.row(*step).is_some()).unwrap_or(map.step)
}

fn module_ui(map: &Map<'_>, switches: &mut Switches<'_>, ui: &mut Ui) {
    let modules = map.modules();
    if modules.is_empty() {
        return;
    }
    ui.separator();
    let tip = "Which matrix of a layer is drawn; each draws for itself. All: shares of the layer's matrices";
    let name = ui.label("Module").on_hover_text(tip);
    let shown = switches.module.clone().unwrap_or_else(|| "all".to_owned());
    let list =
        egui::ComboBox::from_id_salt("module of the route map").selected_text(shown).width(70.0).show_ui(ui, |ui| {
            ui.selectable_value(switches.module, None, "all");
            for module in modules {
                ui.selectable_value(switches.module, Some(module.clone()), module);
            }
        });
    drop(list.response.labelled_by(name.id).on_hover_text(tip));
}
