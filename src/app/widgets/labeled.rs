//! Input widgets that always have an accessible name: their label.

use super::with_tip;
use egui::{Response, Ui, emath::Numeric};
use std::ops::RangeInclusive;

/// Width of the label column of a form.
const LABEL_WIDTH: f32 = 150.0;

/// Widest line of text: paths are long.
const WIDEST_TEXT: f32 = 640.0;

/// Least width of a number.
const NUMBER_WIDTH: f32 = 72.0;

/// One line of a form: the label, then the widget, with one tooltip for both.
fn row(ui: &mut Ui, label: &str, tooltip: &str, add: impl FnOnce(&mut Ui) -> Response) -> Response {
    ui.horizontal(|ui| {
        let size = egui::vec2(LABEL_WIDTH, ui.spacing().interact_size.y);
        let name = ui
            .allocate_ui_with_layout(size, egui::Layout::left_to_right(egui::Align::Center), |ui| {
                ui.set_min_size(size);
                ui.add(egui::Label::new(label).truncate().show_tooltip_when_elided(false))
            })
            .inner;
        // Numbers are aligned in a column.
        ui.spacing_mut().interact_size.x = NUMBER_WIDTH;
        let response = add(ui).labelled_by(name.id);
        with_tip(name, tooltip);
        with_tip(response, tooltip)
    })
    .inner
}

/// A line of text.
pub fn text(ui: &mut Ui, label: &str, tooltip: &str, hint: &str, value: &mut String) -> Response {
    text_and(ui, label, tooltip, hint, value, 4.0, |_| {})
}

/// A line of text with something behind it that needs `room` points.
pub fn text_and(
    ui: &mut Ui,
    label: &str,
    tooltip: &str,
    hint: &str,
    value: &mut String,
    room: f32,
    after: impl FnOnce(&mut Ui),
) -> Response {
    row(ui, label, tooltip, |ui| {
        let width = (ui.available_width() - room).clamp(60.0, WIDEST_TEXT);
        let edit = ui.add(egui::TextEdit::singleline(value).hint_text(hint).desired_width(width));
        after(ui);
        edit
    })
}

/// A number that can be typed or dragged.
pub fn number<N: Numeric>(
    ui: &mut Ui,
    label: &str,
    tooltip: &str,
    value: &mut N,
    range: RangeInclusive<N>,
    speed: f64,
) -> Response {
    row(ui, label, tooltip, |ui| ui.add(drag(value, range, speed).max_decimals(if N::INTEGRAL { 0 } else { 6 })))
}

/// A number to drag; values from files that are out of range are kept, and the pre-flight check reports them.
fn drag<N: Numeric>(value: &mut N, range: RangeInclusive<N>, speed: f64) -> egui::DragValue<'_> {
    egui::DragValue::new(value).range(range).clamp_existing_to_range(false).speed(speed)
}

/// As [`number`], with a word for 0 where that is no amount but a meaning: `never`, `all`.
pub fn number_or<N: Numeric>(
    ui: &mut Ui,
    label: &str,
    tooltip: &str,
    zero: &'static str,
    value: &mut N,
    range: RangeInclusive<N>,
    speed: f64,
) -> Response {
    row(ui, label, tooltip, |ui| {
        let words = move |x: f64, _: RangeInclusive<usize>| match x {
            0.0 => zero.to_owned(),
            x => format!("{}", (x * 1e6).round() / 1e6),
        };
        let parsed = move |text: &str| match text.trim() {
            "" => None,
            text if text.eq_ignore_ascii_case(zero) => Some(0.0),
            text => text.parse().ok(),
        };
        ui.add(drag(value, range, speed).custom_formatter(words).custom_parser(parsed))
    })
}

/// A small positive number such as a learning rate, shown and typed like `1e-3`.
pub fn small_number(ui: &mut Ui, label: &str, tooltip: &str, value: &mut f64, range: RangeInclusive<f64>) -> Response {
    let speed = (*value * 0.01).max(1e-12);
    row(ui, label, tooltip, |ui| {
        let drag = drag(value, range, speed).custom_parser(|text| text.trim().parse().ok());
        ui.add(drag.custom_formatter(|x, _| crate::format::scientific(x)))
    })
}

pub fn toggle(ui: &mut Ui, label: &str, tooltip: &str, value: &mut bool) -> Response {
    with_tip(ui.checkbox(value, label), tooltip)
}

/// One of a few values; a value that is none of `options` shows as `not chosen`.
pub fn choice<T: PartialEq + Clone, S: AsRef<str>>(
    ui: &mut Ui,
    label: &str,
    tooltip: &str,
    value: &mut T,
    options: &[(T, S)],
) -> Response {
    let mut changed = false;
    let mut response = row(ui, label, tooltip, |ui| {
        let shown = options.iter().find(|(option, _)| option == value).map_or("not chosen", |(_, name)| name.as_ref());
        egui::ComboBox::from_id_salt(label)
            .selected_text(shown)
            .width(160.0)
            .height(320.0)
            .show_ui(ui, |ui| {
                for (option, name) in options {
                    changed |= ui.selectable_value(value, option.clone(), name.as_ref()).changed();
                }
            })
            .response
    });
    if changed {
        response.mark_changed();
    }
    response
}

/// A list of layers by name, the top layer first; `label` names it.
pub fn layer_list(ui: &mut Ui, id: &str, label: &Response, names: &[String], layer: &mut usize) {
    egui::ComboBox::from_id_salt(id)
        .selected_text(names.get(*layer).map_or("", String::as_str))
        .width(96.0)
        .show_ui(ui, |ui| {
            for (i, name) in names.iter().enumerate().rev() {
                ui.selectable_value(layer, i, name);
            }
        })
        .response
        .labelled_by(label.id);
}
