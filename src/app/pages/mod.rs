//! Pages in front of all views: the start page, and help with the glossary.

mod choices;
mod help;
mod picture;
mod start;

use super::actions::Action;
use super::panel_ctx::PanelCtx;
use super::view::{Page, View};
use super::widgets::cards;
use egui::{Button, RichText, Ui};

/// The pages with what they remember on screen.
#[derive(Default)]
pub struct Pages {
    start: start::StartPage,
    help: help::HelpPage,
}

impl Pages {
    /// Draws one page; `appeared`: it was not there in the last frame.
    pub fn ui(&mut self, page: Page, appeared: bool, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        match page {
            Page::Start => self.start.ui(appeared, ctx, ui),
            Page::Help => self.help.ui(appeared, ctx, ui),
        }
    }
}

/// What a view shows, in a card above it, and a button that closes it for good.
pub fn explanation_ui(ctx: &PanelCtx<'_>, view: View, ui: &mut Ui) {
    cards::card(ui, ctx.theme, "", |ui| {
        ui.horizontal(|ui| {
            ui.strong("What you see here");
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let button = Button::new("Close").small();
                let close = ctx.button_as(ui, Action::ToggleExplanation(view), button);
                close.accessible_name(format!("Close what {} shows", view.title()));
            });
        });
        help::parts_ui(ctx, view, ui);
    });
}

/// Title of a page, and the way back to the views at its right.
fn head_ui(ui: &mut Ui, ctx: &PanelCtx<'_>, title: &str) {
    ui.horizontal(|ui| {
        ui.label(RichText::new(title).size(24.0).strong());
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            ctx.button_as(ui, Action::ClosePage, Button::new("To the views"));
        });
    });
}
