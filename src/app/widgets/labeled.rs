//! Input widgets that always have an accessible name: their label.

use super::{term, with_tip};
use crate::app::glossary;
use egui::{Response, Ui, emath::Numeric};
use std::ops::RangeInclusive;

/// Width of the label column of a form.
const LABEL_WIDTH: f32 = 150.0;

/// Widest line of text: paths are long.
const WIDEST_TEXT: f32 = 640.0;

/// Least width of a number.
const NUMBER_WIDTH: f32 = 72.0;

/// Narrower than this, the widget stands below its label instead of behind it.
const ONE_LINE_FROM: f32 = 330.0;

/// One line of a form: the label, then the widget, with one tooltip for both; in a narrow pane one above the other.
fn row(ui: &mut Ui, label: &str, tooltip: &str, add: impl FnOnce(&mut Ui) -> Response) -> Response {
    let name_ui = |ui: &mut Ui| term::name(ui, label, egui::Label::new(label).truncate(), tooltip);
    // Numbers are aligned in a column.
    let field = |ui: &mut Ui, name: Response| {
        ui.spacing_mut().interact_size.x = NUMBER_WIDTH;
        let response = add(ui).labelled_by(name.id);
        with_tip(response, &glossary::tooltip(label, tooltip))
    };
    if ui.available_width() < ONE_LINE_FROM {
        let name = name_ui(ui);
        return ui.horizontal(|ui| field(ui, name)).inner;
    }
    ui.horizontal(|ui| {
        let size = egui::vec2(LABEL_WIDTH, ui.spacing().interact_size.y);
        let name = ui
            .allocate_ui_with_layout(size, egui::Layout::left_to_right(egui::Align::Center), |ui| {
                ui.set_min_size(size);
                name_ui(ui)
            })
            .inner;
        field(ui, name)
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
    let decimals = if N::INTEGRAL { 0 } else { 6 };
    bounded(ui, label, tooltip, range, typed, |bounds| drag(value, bounds, speed).max_decimals(decimals))
}

/// A number to drag; values from files that are out of range are kept, and the pre-flight check reports them.
fn drag<N: Numeric>(value: &mut N, range: RangeInclusive<N>, speed: f64) -> egui::DragValue<'_> {
    egui::DragValue::new(value).range(range).clamp_existing_to_range(false).speed(speed)
}

/// A typed number.
fn typed(text: &str) -> Option<f64> {
    text.trim().replace('−', "-").parse().ok()
}

/// A number in a range. A typed number beyond it becomes the bound, and the row says so until the value changes again.
fn bounded<'a, N: Numeric>(
    ui: &mut Ui,
    label: &str,
    tooltip: &str,
    range: RangeInclusive<N>,
    parse: impl Fn(&str) -> Option<f64>,
    widget: impl FnOnce(RangeInclusive<N>) -> egui::DragValue<'a>,
) -> Response {
    let (low, high) = (range.start().to_f64(), range.end().to_f64());
    // What was typed: beyond which bound it is, if any.
    let said = std::cell::Cell::new(None);
    let parser = |text: &str| {
        let number = parse(text)?;
        said.set(Some(match number {
            number if number > high => Some(format!("at most {}", plain(high))),
            number if number < low => Some(format!("at least {}", plain(low))),
            _ => None,
        }));
        Some(number)
    };
    row(ui, label, tooltip, |ui| {
        let response = with_parser(ui, widget(range), &parser);
        let key = response.id.with("bound");
        match said.take() {
            Some(Some(words)) => ui.data_mut(|data| {
                data.insert_temp(key, words);
            }),
            Some(None) => ui.data_mut(|data| data.remove::<String>(key)),
            None if response.changed() => ui.data_mut(|data| data.remove::<String>(key)),
            None => {}
        }
        if let Some(words) = ui.data(|data| data.get_temp::<String>(key)) {
            ui.label(egui::RichText::new(words).small().color(ui.visuals().warn_fg_color));
        }
        response
    })
}

/// Adds the number with this parser, which lives no longer than the call.
fn with_parser<'a>(ui: &mut Ui, widget: egui::DragValue<'a>, parser: &'a dyn Fn(&str) -> Option<f64>) -> Response {
    ui.add(widget.custom_parser(parser))
}

/// A bound in a few characters.
fn plain(bound: f64) -> String {
    let size = bound.abs();
    if bound != 0.0 && !(1e-4..1e9).contains(&size) { crate::format::scientific(bound) } else { format!("{bound}") }
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
    let words = move |x: f64, _: RangeInclusive<usize>| match x {
        0.0 => zero.to_owned(),
        x => format!("{}", (x * 1e6).round() / 1e6),
    };
    let parse = move |text: &str| if text.trim().eq_ignore_ascii_case(zero) { Some(0.0) } else { typed(text) };
    bounded(ui, label, tooltip, range, parse, |bounds| drag(value, bounds, speed).custom_formatter(words))
}

/// A small positive number such as a learning rate, shown and typed like `1e-3`.
pub fn small_number(ui: &mut Ui, label: &str, tooltip: &str, value: &mut f64, range: RangeInclusive<f64>) -> Response {
    let speed = (*value * 0.01).max(1e-12);
    bounded(ui, label, tooltip, range, typed, |bounds| {
        drag(value, bounds, speed).custom_formatter(|x, _| crate::format::scientific(x))
    })
}

pub fn toggle(ui: &mut Ui, label: &str, tooltip: &str, value: &mut bool) -> Response {
    with_tip(ui.checkbox(value, label), &glossary::tooltip(label, tooltip))
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
            .width(160.0_f32.min(ui.available_width() - 8.0))
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
