//! This sitting as a script: shown, copied, saved.

use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::panel_ctx::PanelCtx;
use egui::{Button, RichText, Ui};

/// Draws the dialog.
pub fn ui(ui: &mut Ui, ctx: &PanelCtx<'_>, unix: u64) {
    let script = ctx.session.sitting.script(unix);
    if ctx.session.sitting.is_empty() {
        ui.label(
            "Nothing was done yet: training, measuring, merging, exporting and writing are noted here as commands.",
        );
    } else {
        ui.label("What was done in this window, in order, as commands that do it again without a window.");
        ui.add_space(4.0);
        egui::Frame::new().fill(ui.visuals().extreme_bg_color).inner_margin(6).show(ui, |ui| {
            egui::ScrollArea::both().max_height(300.0).auto_shrink([false, true]).show(ui, |ui| {
                ui.add(egui::Label::new(RichText::new(&script).monospace()).extend());
            });
        });
    }
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        ctx.button_as(ui, Action::Copy(script), Button::new("Copy")).accessible_name("Copy the script");
        ctx.button(ui, Action::Pick(Purpose::SaveScript));
        if ui.button("Close").clicked() {
            ctx.push(Action::CloseDialog);
        }
    });
}
