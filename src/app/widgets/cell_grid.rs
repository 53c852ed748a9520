//! A table of small coloured cells with numbers. Only visible cells are drawn.

use super::export_menu;
use crate::app::theme::Theme;
use crate::figure::{Cells, Content, Figure};
use egui::{Align2, Color32, FontId, Rect, Sense, Stroke, StrokeKind, Ui, Vec2, pos2, vec2};

#[derive(Clone, Debug, Default)]
pub struct GridCell {
    /// Text, drawn where there is room.
    pub text: String,
    pub fill: Option<Color32>,
    /// The value with every digit, where the text is rounded.
    pub value: Option<f64>,
    /// Description: tooltip and text for screen readers.
    pub about: String,
    /// Whether it is framed as the selected cell.
    pub chosen: bool,
}

/// What the table looks like.
#[derive(Clone, Debug)]
pub struct GridSpec<'a> {
    /// Its name; unique on screen.
    pub name: &'a str,
    pub columns: &'a [String],
    pub rows: usize,
    /// Width of the names of the rows.
    pub row_width: f32,
    /// Size of a cell.
    pub cell: Vec2,
    pub clickable: bool,
}

/// Height of the line with the names of the columns.
const HEADER: f32 = 18.0;
/// Space between two cells.
const GAP: f32 = 2.0;

/// Room for these names of rows.
pub fn name_width(names: impl Iterator<Item = String>) -> f32 {
    names.map(|name| name.chars().count()).max().map_or(0.0, |most| 6.8 * most as f32 + 10.0)
}

/// Draws the table; returns the clicked cell (row, column).
pub fn ui(
    ui: &mut Ui,
    theme: &Theme,
    spec: &GridSpec<'_>,
    row_name: impl Fn(usize) -> String,
    cell: impl Fn(usize, usize) -> GridCell,
) -> Option<(usize, usize)> {
    let pitch = spec.cell + Vec2::splat(GAP);
    let size = vec2(spec.row_width + spec.columns.len() as f32 * pitch.x, HEADER + spec.rows as f32 * pitch.y);
    let (rect, table) = super::canvas(ui, size, egui::Role::Table, spec.name);
    let painter = ui.painter().clone();
    let small = FontId::proportional(11.0);
    let text_color = ui.visuals().text_color();
    for (column, name) in spec.columns.iter().enumerate() {
        let x = rect.left() + spec.row_width + (column as f32 + 0.5) * pitch.x;
        painter.text(pos2(x, rect.top() + HEADER * 0.5), Align2::CENTER_CENTER, name, small.clone(), theme.muted);
    }
    let mut clicked = None;
    for row in 0..spec.rows {
        let top = rect.top() + HEADER + row as f32 * pitch.y;
        let line = Rect::from_min_size(pos2(rect.left(), top), vec2(size.x, spec.cell.y));
        if !ui.is_rect_visible(line) {
            continue;
        }
        let middle = pos2(rect.left(), line.center().y);
        painter.text(middle, Align2::LEFT_CENTER, row_name(row), FontId::proportional(12.5), text_color);
        for column in 0..spec.columns.len() {
            let min = pos2(rect.left() + spec.row_width + column as f32 * pitch.x, top);
            let place = Rect::from_min_size(min, spec.cell);
            if !ui.is_rect_visible(place) {
                continue;
            }
            let GridCell { text, fill, about, chosen, .. } = cell(row, column);
            let sense = if spec.clickable { Sense::click() } else { Sense::hover() };
            let response = ui.interact(place, table.id.with(("cell", row, column)), sense);
            let role = if spec.clickable { egui::Role::Button } else { egui::Role::Label };
            response.widget_info(|| egui::WidgetInfo::labeled(role, true, &about));
            if let Some(fill) = fill {
                painter.rect_filled(place, 3.0, fill);
            }
            let ink = fill.map_or(text_color, Theme::text_on);
            let font = FontId::monospace(if spec.cell.x < 44.0 { 10.0 } else { 11.5 });
            // A number that does not fit is in the tooltip only.
            let galley = painter.layout_no_wrap(text, font, ink);
            if galley.size().x <= spec.cell.x - 2.0 {
                painter.galley(place.center() - 0.5 * galley.size(), galley, ink);
            }
            if chosen || response.has_focus() || (spec.clickable && response.hovered()) {
                let width = if chosen { 2.0 } else { 1.0 };
                painter.rect_stroke(place, 3.0, Stroke::new(width, text_color), StrokeKind::Inside);
            }
            if response.clicked() {
                clicked = Some((row, column));
            }
            if !about.is_empty() {
                response.on_hover_text(about);
            }
        }
    }
    export_menu::corner(ui, rect.intersect(ui.clip_rect().expand2(vec2(0.0, f32::INFINITY))), spec.name, &[], || {
        (figure(spec, &row_name, &cell), None)
    });
    clicked
}

/// The same as a figure. The colours are those on screen, which mean something.
fn figure(spec: &GridSpec<'_>, row_name: &dyn Fn(usize) -> String, cell: &dyn Fn(usize, usize) -> GridCell) -> Figure {
    let shown = |row: usize, column: usize| {
        let GridCell { text, fill, value, .. } = cell(row, column);
        let [r, g, b, _] = fill.unwrap_or(Color32::WHITE).to_array();
        let number = || text.replace([',', '\u{202f}', ' '], "").parse().unwrap_or(f64::NAN);
        (value.unwrap_or_else(number), [r, g, b])
    };
    let columns = spec.columns.len();
    let content = Cells {
        rows: (0..spec.rows).map(row_name).collect(),
        columns: spec.columns.to_vec(),
        cells: (0..spec.rows).map(|row| (0..columns).map(|column| shown(row, column)).collect()).collect(),
        ..Cells::default()
    };
    Figure::new(spec.name, Content::Cells(content))
}
