//! Cards, figures, badges, and the states of a view: empty, loading, error.

use crate::app::theme::Theme;
use egui::{Color32, CornerRadius, Margin, RichText, Ui};

/// A framed group with a title.
pub fn card<R>(ui: &mut Ui, theme: &Theme, title: &str, contents: impl FnOnce(&mut Ui) -> R) -> R {
    egui::Frame::new()
        .fill(theme.card)
        .stroke(egui::Stroke::new(1.0, theme.card_border))
        .corner_radius(CornerRadius::same(6))
        .inner_margin(Margin::symmetric(10, 8))
        .show(ui, |ui| {
            ui.set_min_width(ui.available_width());
            if !title.is_empty() {
                ui.label(RichText::new(title).strong());
                ui.add_space(2.0);
            }
            contents(ui)
        })
        .inner
}

/// A value with its name above it; in a wrapping row it wraps as a whole.
pub fn figure(ui: &mut Ui, theme: &Theme, name: &str, value: &str, tooltip: &str) {
    let style = ui.style();
    let format = |text_style: egui::TextStyle, color| egui::TextFormat::simple(text_style.resolve(style), color);
    let mut job = egui::text::LayoutJob::default();
    job.append(&format!("{name}\n"), 0.0, format(egui::TextStyle::Small, theme.muted));
    job.append(value, 0.0, format(egui::TextStyle::Monospace, ui.visuals().text_color()));
    let response = ui.add(egui::Label::new(job).wrap_mode(egui::TextWrapMode::Extend));
    if !tooltip.is_empty() {
        response.on_hover_text(tooltip);
    }
}

/// A short text on a tinted background.
pub fn badge(ui: &mut Ui, text: &str, color: Color32) -> egui::Response {
    egui::Frame::new()
        .fill(color.gamma_multiply(0.16))
        .corner_radius(CornerRadius::same(4))
        .inner_margin(Margin::symmetric(6, 1))
        .show(ui, |ui| ui.label(RichText::new(text).color(color).small()))
        .inner
}

/// The empty state of a view: its purpose and the next action.
pub fn empty(ui: &mut Ui, theme: &Theme, title: &str, hint: &str, next: impl FnOnce(&mut Ui)) {
    ui.add_space((ui.available_height() * 0.25).min(120.0));
    ui.vertical_centered(|ui| {
        ui.set_max_width(420.0);
        ui.label(RichText::new(title).heading());
        ui.add_space(4.0);
        ui.label(RichText::new(hint).color(theme.muted));
        ui.add_space(8.0);
        next(ui);
    });
}

/// The loading state; `share` from 0 to 1 where it is known.
pub fn loading(ui: &mut Ui, what: &str, share: Option<f32>) {
    ui.horizontal(|ui| match share {
        // No spinner: it would repaint continuously and slow down the training.
        None => {
            ui.label(RichText::new("…").strong());
            ui.label(what);
        }
        Some(share) => {
            ui.add(egui::ProgressBar::new(share).desired_width(160.0).text(what));
        }
    });
}

/// An error message.
pub fn error(ui: &mut Ui, theme: &Theme, text: &str) {
    note(ui, theme.error, text);
}

/// A short paragraph in small muted letters.
pub fn caption(ui: &mut Ui, theme: &Theme, text: &str) {
    ui.add(egui::Label::new(RichText::new(text).small().color(theme.muted)).wrap());
}

/// Paragraphs that explain something, folded; `id`: unique on screen.
pub fn explanation(ui: &mut Ui, theme: &Theme, id: &str, title: &str, paragraphs: &[&str]) {
    egui::CollapsingHeader::new(title).id_salt(id).show(ui, |ui| {
        for text in paragraphs {
            ui.add(egui::Label::new(RichText::new(*text).color(theme.muted)).wrap());
            ui.add_space(3.0);
        }
    });
}

/// A row of [`figure`]s: name, value, tooltip. It wraps.
pub fn figures(ui: &mut Ui, theme: &Theme, figures: &[(&str, String, &str)]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 16.0;
        for (name, value, tooltip) in figures {
            figure(ui, theme, name, value, tooltip);
        }
    });
}

/// A message on a tinted background.
pub fn note(ui: &mut Ui, color: Color32, text: &str) {
    egui::Frame::new()
        .fill(color.gamma_multiply(0.12))
        .stroke(egui::Stroke::new(1.0, color.gamma_multiply(0.5)))
        .corner_radius(CornerRadius::same(4))
        .inner_margin(Margin::symmetric(8, 4))
        .show(ui, |ui| {
            ui.set_min_width(ui.available_width());
            ui.add(egui::Label::new(RichText::new(text).color(color)).wrap());
        });
}
