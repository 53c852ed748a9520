//! Cards, figures, badges, and the states of a view: empty, loading, error.

use super::term;
use crate::app::theme::Theme;
use egui::text::{LayoutJob, TextFormat};
use egui::{Color32, CornerRadius, Margin, Response, RichText, TextStyle, Ui};

/// A framed group with a title, and the space below it.
pub fn card<R>(ui: &mut Ui, theme: &Theme, title: &str, contents: impl FnOnce(&mut Ui) -> R) -> R {
    egui::Frame::new()
        .fill(theme.card)
        .stroke(egui::Stroke::new(1.0, theme.card_border))
        .corner_radius(CornerRadius::same(6))
        .inner_margin(Margin::symmetric(10, 8))
        .outer_margin(Margin { bottom: 4, ..Margin::ZERO })
        .show(ui, |ui| {
            ui.set_min_width(ui.available_width());
            if !title.is_empty() {
                term::title(ui, RichText::new(title).strong());
                ui.add_space(2.0);
            }
            contents(ui)
        })
        .inner
}

/// A short text on a tinted background.
pub fn badge(ui: &mut Ui, text: &str, color: Color32) -> Response {
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
        muted(ui, theme, hint);
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

pub fn error(ui: &mut Ui, theme: &Theme, text: &str) {
    note(ui, theme.error, text);
}

/// Secondary text.
pub fn muted(ui: &mut Ui, theme: &Theme, text: impl Into<String>) -> Response {
    term::running(ui, RichText::new(text).color(theme.muted))
}

/// Secondary text in small letters.
pub fn caption(ui: &mut Ui, theme: &Theme, text: impl Into<String>) -> Response {
    term::running(ui, RichText::new(text).small().color(theme.muted))
}

/// Paragraphs that explain something, folded.
pub fn explanation(ui: &mut Ui, theme: &Theme, title: &str, paragraphs: &[&str]) {
    egui::CollapsingHeader::new(title).show(ui, |ui| {
        for text in paragraphs {
            muted(ui, theme, *text);
            ui.add_space(3.0);
        }
    });
}

/// A row of values, each with its name above it: name, value, tooltip. It wraps.
pub fn figures(ui: &mut Ui, theme: &Theme, figures: &[(&str, String, &str)]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 16.0;
        let [small, mono] = [TextStyle::Small, TextStyle::Monospace].map(|style| style.resolve(ui.style()));
        for (name, value, tip) in figures {
            let mut job = LayoutJob::default();
            job.append(&format!("{name}\n"), 0.0, TextFormat::simple(small.clone(), theme.muted));
            job.append(value, 0.0, TextFormat::simple(mono.clone(), ui.visuals().text_color()));
            // Each wraps as a whole.
            term::name(ui, name, egui::Label::new(job).wrap_mode(egui::TextWrapMode::Extend), tip);
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
