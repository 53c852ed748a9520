//! A striped, selectable list with a header.

use egui::{RichText, Ui};
use egui_extras::{Column, TableBuilder};

/// Height of a row, in points.
const HEIGHT: f32 = 22.0;
/// Height of a row of numbers, in points.
const NUMBER_HEIGHT: f32 = 18.0;
/// Height of the list before it scrolls, in points.
const MOST: f32 = 320.0;

/// A column: its title, what it means, and how wide it is.
pub struct Heading<'a> {
    /// Title; none for a column of boxes to tick.
    pub title: &'a str,
    /// Its tooltip.
    pub tip: &'a str,
    /// Its width.
    pub column: Column,
}

impl<'a> Heading<'a> {
    /// A column of this many points.
    pub fn exact(title: &'a str, tip: &'a str, width: f32) -> Self {
        Self { title, tip, column: Column::exact(width).clip(true) }
    }

    /// The column that takes what is left, at least so many points.
    pub fn rest(title: &'a str, tip: &'a str, least: f32) -> Self {
        Self { title, tip, column: Column::remainder().at_least(least).clip(true) }
    }
}

/// Draws the list; `row` draws the cells of row number `row.index()`.
pub fn show(
    ui: &mut Ui,
    name: &str,
    headings: &[Heading<'_>],
    rows: usize,
    row: impl FnMut(egui_extras::TableRow<'_, '_>),
) {
    let mut table = TableBuilder::new(ui)
        .id_salt(name)
        .striped(true)
        .sense(egui::Sense::click())
        .max_scroll_height(MOST)
        .cell_layout(egui::Layout::left_to_right(egui::Align::Center));
    for heading in headings {
        table = table.column(heading.column);
    }
    let table = table.header(HEIGHT, |mut row| {
        for heading in headings {
            row.col(|ui| {
                let title = egui::Label::new(RichText::new(heading.title).strong()).truncate();
                drop(ui.add(title).on_hover_text(heading.tip));
            });
        }
    });
    table.body(|body| body.rows(HEIGHT, rows, row));
}

/// As [`show`] without selection: lower rows, `height` points before it scrolls.
pub fn numbers(
    ui: &mut Ui,
    name: &str,
    headings: &[Heading<'_>],
    height: f32,
    rows: usize,
    row: impl FnMut(egui_extras::TableRow<'_, '_>),
) {
    ui.push_id(name, |ui| {
        let layout = egui::Layout::left_to_right(egui::Align::Center);
        let mut table = TableBuilder::new(ui).striped(true).max_scroll_height(height).cell_layout(layout);
        for heading in headings {
            table = table.column(heading.column);
        }
        let table = table.header(NUMBER_HEIGHT, |mut row| {
            for heading in headings {
                row.col(|ui| drop(ui.strong(heading.title)));
            }
        });
        table.body(|body| body.rows(NUMBER_HEIGHT, rows, row));
    });
}

/// A striped grid under titles with tooltips, scrolled horizontally; `rows` draws its rows.
pub fn grid(ui: &mut Ui, name: &str, spacing: f32, titles: &[(&str, &str)], rows: impl FnOnce(&mut Ui)) {
    egui::ScrollArea::horizontal().id_salt(name).show(ui, |ui| {
        egui::Grid::new(name).striped(true).spacing([spacing, 4.0]).show(ui, |ui| {
            for (title, tip) in titles {
                let response = ui.strong(*title);
                if !tip.is_empty() {
                    response.on_hover_text(*tip);
                }
            }
            ui.end_row();
            rows(ui);
        });
    });
}
