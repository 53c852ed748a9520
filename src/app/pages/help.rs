//! What each view shows, and the glossary.

use super::head_ui;
use crate::app::actions::Action;
use crate::app::glossary::{self, Term};
use crate::app::panel_ctx::PanelCtx;
use crate::app::view::{Page, View};
use crate::app::view_help;
use crate::app::widgets::{cards, term};
use egui::{Button, RichText, Ui};

/// Widest line of text, in points.
const WIDEST: f32 = 900.0;
/// Width of the left column, in points.
const LEFT: f32 = 170.0;

#[derive(Default)]
pub struct HelpPage {
    search: String,
}

impl HelpPage {
    pub fn ui(&mut self, appeared: bool, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        egui::ScrollArea::vertical().id_salt("help page").auto_shrink(false).show(ui, |ui| {
            let spare = ((ui.available_width() - WIDEST) / 2.0).max(16.0);
            ui.horizontal(|ui| {
                ui.add_space(spare);
                ui.vertical(|ui| {
                    ui.set_width((ui.available_width() - 16.0).min(WIDEST));
                    ui.add_space(12.0);
                    head_ui(ui, ctx, "Views and words");
                    ui.horizontal_wrapped(|ui| {
                        ctx.button(ui, Action::ShowPage(Page::Start));
                        ctx.button(ui, Action::ToggleShortcuts);
                        ctx.button(ui, Action::TogglePalette);
                    });
                    ui.add_space(8.0);
                    self.search_ui(appeared, ctx, ui);
                    ui.add_space(8.0);
                    self.views_ui(ctx, ui);
                    self.words_ui(ctx, ui);
                });
            });
        });
    }

    fn search_ui(&mut self, appeared: bool, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let edit = egui::TextEdit::singleline(&mut self.search).hint_text("Find a view or a word").desired_width(320.0);
        let words = format!("{} views, then {} words in alphabetical order", View::ALL.len(), glossary::terms().len());
        ui.horizontal_wrapped(|ui| {
            let edit = ui.add(edit).accessible_name("Find a view or a word");
            if appeared {
                edit.request_focus();
            }
            cards::caption(ui, ctx.theme, words);
        });
    }

    /// Whether one of these texts has all that is searched for.
    fn fits(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.search.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }

    fn views_ui(&self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let text = |view: View| view_help::of(view).parts().map(|(_, text)| text).join(" ");
        let shown: Vec<View> =
            View::ALL.into_iter().filter(|view| self.fits(&format!("{} {}", view.title(), text(*view)))).collect();
        if shown.is_empty() {
            return;
        }
        cards::card(ui, ctx.theme, "What each view shows", |ui| {
            for view in shown {
                row(
                    ui,
                    |ui| {
                        let button = Button::new(view.title()).min_size(egui::vec2(LEFT - 20.0, 0.0));
                        ctx.button_as(ui, Action::Show(view), button);
                    },
                    |ui| parts_ui(ctx, view, ui),
                );
            }
        });
    }

    fn words_ui(&self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        let fits = |term: &&Term| self.fits(&format!("{} {} {}", term.term, term.also.join(" "), term.text));
        let shown: Vec<&Term> = glossary::terms().iter().filter(fits).collect();
        cards::card(ui, ctx.theme, "Words", |ui| {
            if shown.is_empty() {
                cards::muted(ui, ctx.theme, format!("No word fits “{}”; try a part of it", self.search.trim()));
            }
            for term in shown {
                row(ui, |ui| drop(ui.label(RichText::new(term.term).strong())), |ui| word_ui(ctx, term, ui));
            }
        });
    }
}

fn word_ui(ctx: &PanelCtx<'_>, term: &Term, ui: &mut Ui) {
    ui.label(term.text);
    if let Some(formula) = term.formula {
        ui.label(RichText::new(formula).monospace());
    }
    if !term.also.is_empty() {
        ui.label(RichText::new(format!("also: {}", term.also.join(", "))).small().color(ctx.theme.muted));
    }
}

/// The parts of a view's text, each with its heading.
pub fn parts_ui(ctx: &PanelCtx<'_>, view: View, ui: &mut Ui) {
    for (heading, text) in view_help::of(view).parts() {
        ui.horizontal_top(|ui| {
            let size = egui::vec2(62.0, ui.spacing().interact_size.y);
            ui.allocate_ui_with_layout(size, egui::Layout::top_down(egui::Align::Min), |ui| {
                ui.set_min_width(size.x);
                ui.label(RichText::new(heading).color(ctx.theme.muted));
            });
            ui.vertical(|ui| term::running(ui, text));
        });
    }
}

fn row(ui: &mut Ui, left: impl FnOnce(&mut Ui), right: impl FnOnce(&mut Ui)) {
    ui.horizontal_top(|ui| {
        ui.allocate_ui_with_layout(egui::vec2(LEFT, 0.0), egui::Layout::top_down(egui::Align::Min), |ui| {
            ui.set_min_width(LEFT);
            ui.set_max_width(LEFT);
            left(ui);
        });
        ui.vertical(right);
    });
    ui.add_space(6.0);
}
