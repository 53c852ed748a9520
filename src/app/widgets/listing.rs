//! Tables: a selectable list, rows of numbers, and a small grid.

use super::term;
use crate::app::glossary;
use egui::{RichText, Ui};
use egui_extras::{TableBuilder, TableRow};

/// Height of a row, in points.
const HEIGHT: f32 = 22.0;
/// Height of a row of numbers, in points.
const NUMBER_HEIGHT: f32 = 18.0;
/// Height of the list before it scrolls, in points.
const MOST: f32 = 320.0;

/// A column: its title, what it means, and how wide it is.
pub struct Heading<'a> {
    /// Title; none for a column of boxes to tick.
    title: &'a str,
    /// Its tooltip; may be empty.
    tip: &'a str,
    width: egui_extras::Column,
}

impl<'a> Heading<'a> {
    /// A column of this many points.
    pub fn exact(title: &'a str, tip: &'a str, width: f32) -> Self {
        Self { title, tip, width: egui_extras::Column::exact(width).clip(true) }
    }

    /// The column that takes what is left, at least so many points.
    pub fn rest(title: &'a str, tip: &'a str, least: f32) -> Self {
        Self { title, tip, width: egui_extras::Column::remainder().at_least(least).clip(true) }
    }
}

type Cell<'a, T> = Box<dyn FnMut(&mut Ui, &T) + 'a>;

/// A column of a table whose rows are `T`: its heading, and what draws a cell.
pub struct Column<'a, T> {
    heading: Heading<'a>,
    cell: Cell<'a, T>,
}

impl<'a, T> Column<'a, T> {
    /// A column whose cells are drawn by `cell`, as one widget each.
    pub fn new<R>(title: &'a str, tip: &'a str, mut cell: impl FnMut(&mut Ui, &T) -> R + 'a) -> Self {
        let draw = move |ui: &mut Ui, row: &T| {
            cell(ui, row);
        };
        Self { heading: Heading::rest(title, tip, 0.0), cell: Box::new(draw) }
    }

    /// A column of numbers.
    pub fn number(title: &'a str, tip: &'a str, value: impl Fn(&T) -> String + 'a) -> Self {
        Self::new(title, tip, move |ui, row| ui.monospace(value(row)))
    }

    /// As many points wide; a grid fits its columns to their cells instead.
    pub fn exact(self, width: f32) -> Self {
        Self { heading: Heading::exact(self.heading.title, self.heading.tip, width), ..self }
    }

    /// As wide as there is room, at least so many points; a grid fits its columns to their cells instead.
    pub fn rest(self, least: f32) -> Self {
        Self { heading: Heading::rest(self.heading.title, self.heading.tip, least), ..self }
    }
}

/// Draws a list whose rows can be selected; `row` draws the cells of row number `row.index()`.
pub fn show(ui: &mut Ui, name: &str, headings: &[Heading<'_>], rows: usize, row: impl FnMut(TableRow<'_, '_>)) {
    let table = TableBuilder::new(ui).id_salt(name).sense(egui::Sense::click()).max_scroll_height(MOST);
    draw(table, HEIGHT, headings, rows, row);
}

/// As [`show`], with headings that can be clicked: `sorted` is the one that the rows are sorted by, and whether downwards.
/// Returns the heading that was clicked.
pub fn sortable(
    ui: &mut Ui,
    name: &str,
    headings: &[Heading<'_>],
    sorted: Option<(usize, bool)>,
    rows: usize,
    row: impl FnMut(TableRow<'_, '_>),
) -> Option<usize> {
    let table = TableBuilder::new(ui).id_salt(name).sense(egui::Sense::click()).max_scroll_height(MOST);
    let table = table.striped(true).cell_layout(egui::Layout::left_to_right(egui::Align::Center));
    let table = headings.iter().fold(table, |table, heading| table.column(heading.width));
    let mut clicked = None;
    let table = table.header(HEIGHT, |mut header| {
        for (i, heading) in headings.iter().enumerate() {
            header.col(|ui| {
                if heading.title.is_empty() {
                    return;
                }
                let arrow = match sorted {
                    Some((by, downwards)) if by == i => {
                        if downwards {
                            " ▼"
                        } else {
                            " ▲"
                        }
                    }
                    _ => "",
                };
                let title = egui::Button::new(RichText::new(format!("{}{arrow}", heading.title)).strong());
                let button = ui.add(title.frame(false).truncate());
                let tip = glossary::tooltip(heading.title, &format!("{}. A click sorts by it", heading.tip));
                let response = button.on_hover_text(tip);
                if response.clicked() {
                    clicked = Some(i);
                }
                response.accessible_name(format!("Sort by {}", heading.title));
            });
        }
    });
    table.body(|body| body.rows(HEIGHT, rows, row));
    clicked
}

/// Draws rows of numbers, `height` points before they scroll.
pub fn numbers<T>(ui: &mut Ui, name: &str, height: f32, columns: Vec<Column<'_, T>>, rows: &[T]) {
    let table = TableBuilder::new(ui).id_salt(name).max_scroll_height(height);
    let (headings, mut cells): (Vec<_>, Vec<_>) =
        columns.into_iter().map(|column| (column.heading, column.cell)).unzip();
    draw(table, NUMBER_HEIGHT, &headings, rows.len(), |mut row| {
        let shown = &rows[row.index()];
        for cell in &mut cells {
            row.col(|ui| cell(ui, shown));
        }
    });
}

fn draw(
    table: TableBuilder<'_>,
    height: f32,
    headings: &[Heading<'_>],
    rows: usize,
    row: impl FnMut(TableRow<'_, '_>),
) {
    let table = table.striped(true).cell_layout(egui::Layout::left_to_right(egui::Align::Center));
    let table = headings.iter().fold(table, |table, heading| table.column(heading.width));
    let table = table.header(height, |mut row| {
        for heading in headings {
            let title = egui::Label::new(RichText::new(heading.title).strong()).truncate();
            row.col(|ui| drop(term::name(ui, heading.title, title, heading.tip)));
        }
    });
    table.body(|body| body.rows(height, rows, row));
}

/// Draws a striped grid that scrolls horizontally.
pub fn grid<T>(ui: &mut Ui, name: &str, mut columns: Vec<Column<'_, T>>, rows: &[T]) {
    egui::ScrollArea::horizontal().id_salt(name).show(ui, |ui| {
        egui::Grid::new(name).striped(true).spacing([14.0, 4.0]).show(ui, |ui| {
            for Column { heading, .. } in &columns {
                term::name(ui, heading.title, egui::Label::new(RichText::new(heading.title).strong()), heading.tip);
            }
            ui.end_row();
            for row in rows {
                columns.iter_mut().for_each(|column| (column.cell)(ui, row));
                ui.end_row();
            }
        });
    });
}
