//! A modal dialog.

use egui::{Context, Id, RichText, Ui};

/// State of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogState {
    /// It is open.
    Open,
    /// Escape was pressed, or a click was outside.
    Dismissed,
}

/// A modal dialog with a title; its contents bring their own buttons.
pub fn dialog(ctx: &Context, name: &str, title: &str, width: f32, contents: impl FnOnce(&mut Ui)) -> DialogState {
    let frame = egui::Frame::popup(&ctx.global_style()).inner_margin(egui::Margin::same(16));
    let response = egui::Modal::new(Id::unique(("dialog", name))).frame(frame).show(ctx, |ui| {
        ui.set_width(width);
        ui.label(RichText::new(title).heading());
        ui.add_space(6.0);
        contents(ui);
    });
    if response.should_close() { DialogState::Dismissed } else { DialogState::Open }
}
