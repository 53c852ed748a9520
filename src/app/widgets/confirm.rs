//! A question in front of everything else.

use egui::{Context, Id, RichText, Ui};

/// How a dialog was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not yet.
    Open,
    /// Escape, or a click beside it.
    Dismissed,
}

/// A modal dialog with a title; its contents bring their own buttons.
pub fn dialog(ctx: &Context, name: &str, title: &str, width: f32, contents: impl FnOnce(&mut Ui)) -> Answer {
    let frame = egui::Frame::popup(&ctx.global_style()).inner_margin(egui::Margin::same(16));
    let response = egui::Modal::new(Id::unique(("dialog", name))).frame(frame).show(ctx, |ui| {
        ui.set_width(width);
        ui.label(RichText::new(title).heading());
        ui.add_space(6.0);
        contents(ui);
    });
    if response.should_close() { Answer::Dismissed } else { Answer::Open }
}
