//! Presenter mode: one view, large, with the shortcuts below it, and a training slow enough to be watched.

use super::actions::Action;
use super::chrome;
use super::panel_ctx::PanelCtx;
use super::panels::Panels;
use super::run_state;
use super::view::View;
use super::widgets::cards;
use crate::format;
use crate::protocol::RunPhase;
use egui::{RichText, Ui};

/// How much larger everything is.
pub const SCALE: f32 = 1.6;
/// Steps a second that can be chosen; 0: as fast as possible.
const PACES: [u32; 5] = [1, 2, 5, 20, 0];

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presenter {
    /// The view.
    pub view: View,
    /// Steps a second at most; 0: as fast as possible.
    pub pace: u32,
}

/// Draws the window in presenter mode.
pub fn ui(presenter: Presenter, panels: &mut Panels, ctx: &PanelCtx<'_>, ui: &mut Ui) {
    egui::Panel::top("presenter bar").show(ui, |ui| {
        ui.add_space(3.0);
        ui.horizontal_wrapped(|ui| top_ui(presenter, ctx, ui));
        ui.add_space(3.0);
    });
    egui::Panel::bottom("presenter keys").show(ui, |ui| {
        ui.add_space(2.0);
        ui.horizontal_wrapped(|ui| keys_ui(ctx, ui));
        ui.add_space(2.0);
    });
    let ground = egui::Frame::new().fill(ui.visuals().panel_fill).inner_margin(egui::Margin::symmetric(12, 8));
    egui::CentralPanel::no_frame().frame(ground).show(ui, |ui| {
        egui::ScrollArea::vertical().id_salt(("presented", presenter.view)).auto_shrink(false).show(ui, |ui| {
            panels.ui(presenter.view, ctx, ui);
        });
    });
}

fn top_ui(presenter: Presenter, ctx: &PanelCtx<'_>, ui: &mut Ui) {
    ui.strong(presenter.view.title());
    let (state, color) = run_state::describe(ctx.session, ctx.theme);
    cards::badge(ui, &state, color);
    if let Some(run) = ctx.session.shown() {
        chrome::capsule_ui(ui, ctx, run);
        ui.label(format!("step {} of {}", format::count(run.step()), format::count(run.start.total_steps)));
    }
    ui.separator();
    ui.label("Steps a second");
    for pace in PACES {
        let words = if pace == 0 { "full speed".to_owned() } else { pace.to_string() };
        let tip = "The training waits between two steps; the weights are the same as at full speed";
        let name = if pace == 0 { words.clone() } else { format!("{words} steps a second") };
        let response = ui.selectable_label(presenter.pace == pace, words).on_hover_text(tip);
        if response.clicked() {
            ctx.push(Action::SetPace(pace));
        }
        response.accessible_name(name);
    }
    ui.separator();
    ctx.button_as(ui, Action::TogglePresenter, egui::Button::new("Leave"));
}

/// The shortcuts that make sense now.
fn keys_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let run = if ctx.session.phase == RunPhase::Paused { Action::Resume } else { Action::Pause };
    let actions = [Action::StartRun, run, Action::Step, Action::Stop];
    for action in actions {
        let Some(keys) = action.keys(ui.ctx()) else { continue };
        let color = if action.enabled(ctx.session).is_ok() { ctx.theme.accent } else { ctx.theme.muted };
        key_ui(ctx, ui, &keys, &action.text(), color);
    }
    let first = Action::Show(View::Setup).keys(ui.ctx()).unwrap_or_default();
    key_ui(ctx, ui, &format!("{first} … 9"), "another view", ctx.theme.accent);
    key_ui(ctx, ui, "Esc", "leave", ctx.theme.accent);
}

fn key_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, keys: &str, words: &str, color: egui::Color32) {
    ui.label(RichText::new(keys).monospace().color(color));
    cards::muted(ui, ctx.theme, words);
    ui.add_space(6.0);
}
