//! Arrangements of the views: save under a name, take, delete.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use egui::{Button, Key, Ui};

/// Draws the dialog; `name` is what the user types.
pub fn ui(ui: &mut Ui, ctx: &PanelCtx<'_>, name: &mut String) {
    ui.label("Views can be dragged by their tabs, split and put side by side. An arrangement is kept under a name.");
    ui.add_space(6.0);
    for saved in ctx.settings.layouts.keys() {
        ui.horizontal(|ui| {
            let width = (ui.available_width() - 90.0).max(60.0);
            let take = Button::new(saved).truncate().min_size(egui::vec2(width, 0.0));
            let response = ctx.button_as(ui, Action::UseLayout(saved.clone()), take);
            response.accessible_name(format!("Take {saved}"));
            let delete = ctx.button_as(ui, Action::DeleteLayout(saved.clone()), Button::new("Delete"));
            delete.accessible_name(format!("Delete {saved}"));
        });
    }
    if ctx.settings.layouts.is_empty() {
        ui.label("None is kept yet.");
    }
    ui.add_space(6.0);
    ui.horizontal(|ui| {
        let label = ui.label("Name");
        let edit = egui::TextEdit::singleline(name).hint_text("such as lecture").char_limit(40).desired_width(200.0);
        let edit = ui.add(edit).labelled_by(label.id);
        let typed = name.trim().to_owned();
        let enter = edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if typed.is_empty() {
            ctx.refused(ui, "Keep this arrangement", "it has no name");
        } else {
            let words = if ctx.settings.layouts.contains_key(&typed) { "Replace" } else { "Keep this arrangement" };
            let save = Action::SaveLayout(typed);
            ctx.button_as(ui, save.clone(), Button::new(words));
            if enter {
                ctx.push(save);
            }
        }
    });
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        ctx.button(ui, Action::ResetLayout);
        if ui.button("Close").clicked() {
            ctx.push(Action::CloseDialog);
        }
    });
}
