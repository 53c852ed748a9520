//! Where things lie: a [`Figure`] becomes lines, areas, discs and texts on a plane, in points from the upper left corner.

use super::drawing::{Anchor, Drawing, INK, MARGIN, MUTED, SMALL, Shape, fitted, text_width};
use super::{Cell, Color, Content, Figure, Table, cells, columns, lines, map, scores};

/// Lines of words that fit into `room`.
fn wrapped(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(word, size) + 0.34 * size <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fitted(word, size, room)),
        }
    }
    lines
}

/// Lays a figure out.
pub fn layout(figure: &Figure) -> Drawing {
    let width = figure.width.clamp(240.0, 4000.0);
    let mut drawing = Drawing { width, height: MARGIN, shapes: Vec::new() };
    for line in wrapped(&figure.title, 15.0, width - 2.0 * MARGIN) {
        drawing.height += 18.0;
        let at = [MARGIN, drawing.height - 4.0];
        let text =
            Shape::Text { at, anchor: Anchor::Start, size: 15.0, color: INK, strong: true, upright: false, text: line };
        drawing.shapes.push(text);
    }
    if !figure.title.is_empty() {
        drawing.height += 6.0;
    }
    match &figure.content {
        Content::Lines(content) => lines::draw(&mut drawing, content),
        Content::Scores(content) => scores::draw(&mut drawing, content),
        Content::Columns(content) => columns::draw(&mut drawing, content),
        Content::Cells(content) => cells::draw(&mut drawing, content),
        Content::Map(content) => map::draw(&mut drawing, content),
        Content::Table(table) => draw_table(&mut drawing, table),
    }
    for line in wrapped(&figure.note, SMALL, width - 2.0 * MARGIN) {
        drawing.height += 15.0;
        drawing.text([MARGIN, drawing.height - 3.0], Anchor::Start, MUTED, line);
    }
    drawing.height += MARGIN;
    drawing
}

/// Most rows of a table that are drawn; a CSV has them all.
const TABLE_ROWS: usize = 200;
const ROW: f64 = 18.0;

fn draw_table(drawing: &mut Drawing, table: &Table) {
    let shown = &table.rows[..table.rows.len().min(TABLE_ROWS)];
    let cells: Vec<Vec<String>> = shown.iter().map(|row| row.iter().map(Cell::short).collect()).collect();
    let n = table.columns.len();
    let wide = |i: usize| {
        let words = cells.iter().filter_map(|row| row.get(i)).chain([&table.columns[i]]);
        words.map(|text| text_width(text, SMALL)).fold(20.0, f64::max).min(320.0)
    };
    let wanted: Vec<f64> = (0..n).map(wide).collect();
    let room = drawing.width - 2.0 * MARGIN - 14.0 * n.saturating_sub(1) as f64;
    let all: f64 = wanted.iter().sum();
    let share = if all > room { room / all } else { 1.0 };
    let numbers = |i: usize| {
        let mut column = shown.iter().filter_map(|row| row.get(i)).peekable();
        column.peek().is_some() && column.all(|cell| !matches!(cell, Cell::Text(_)))
    };
    let line = |drawing: &mut Drawing, row: &[String], color: Color| {
        let mut x = MARGIN;
        drawing.height += ROW;
        for (i, text) in row.iter().enumerate().take(n) {
            let wide = wanted[i] * share;
            let text = fitted(text, SMALL, wide + 1.0);
            let base = drawing.height - 5.0;
            if numbers(i) {
                drawing.text([x + wide, base], Anchor::End, color, text);
            } else {
                drawing.text([x, base], Anchor::Start, color, text);
            }
            x += wide + 14.0;
        }
    };
    line(drawing, &table.columns, MUTED);
    let (left, right) = (MARGIN, drawing.width - MARGIN);
    let y = drawing.height;
    drawing.line(vec![[left, y], [right, y]], MUTED, 1.0, 0.0);
    for (i, row) in cells.iter().enumerate() {
        if i % 2 == 1 {
            drawing.rect([left - 4.0, drawing.height, right - left + 8.0, ROW], [0xF4, 0xF6, 0xF8], 1.0);
        }
        line(drawing, row, INK);
    }
    if table.rows.len() > TABLE_ROWS {
        drawing.height += ROW;
        let words = format!("{} of {} rows; the CSV file has them all", TABLE_ROWS, table.rows.len());
        drawing.text([MARGIN, drawing.height - 5.0], Anchor::Start, MUTED, words);
    }
    drawing.height += 4.0;
}
