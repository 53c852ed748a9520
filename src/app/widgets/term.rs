//! Labels whose words of the trade have a dotted line and explain themselves.

use crate::app::glossary::{self, Marking, Term};
use egui::text_selection::LabelSelectionState;
use egui::{Galley, Label, Pos2, Rect, Response, Role, Sense, Ui, WidgetInfo, WidgetText, pos2};
use std::ops::Range;

/// Distance of the dots below a word, in points.
const DOTS: f32 = 3.0;

/// A title: each of its terms can be reached with Tab, and explains itself then and under the pointer.
pub fn title(ui: &mut Ui, text: impl Into<WidgetText>) -> Response {
    words(ui, Label::new(text), Marking::All, Sense::focusable_noninteractive())
}

/// Running text: its terms explain themselves under the pointer.
pub fn running(ui: &mut Ui, text: impl Into<WidgetText>) -> Response {
    words(ui, Label::new(text), Marking::Running, Sense::hover())
}

/// The name of a field or a column, with which `label` begins: its tooltip is `tip`, and below it what the terms in the name mean. A name without
/// room for all of it is the tooltip's first line.
pub fn name(ui: &mut Ui, text: &str, label: Label, tip: &str) -> Response {
    let (response, found) = draw(ui, label, |all| glossary::find(&all[..text.len().min(all.len())], Marking::All));
    let tip = glossary::tooltip(text, tip);
    super::with_tip(response, &if found.elided { format!("{text}\n{tip}").trim_end().to_owned() } else { tip })
}

/// Ranges of bytes in a text, and the terms that stand there.
type Terms = Vec<(Range<usize>, &'static Term)>;

/// Where the terms of a drawn text are on the screen.
#[derive(Default)]
struct Found {
    terms: Vec<(Vec<Rect>, &'static Term)>,
    /// The text was cut off.
    elided: bool,
}

fn words(ui: &mut Ui, label: Label, marking: Marking, sense: Sense) -> Response {
    let (response, found) = draw(ui, label, |text| glossary::find(text, marking));
    for (i, (rects, term)) in found.terms.iter().enumerate() {
        for (row, rect) in rects.iter().enumerate() {
            // Of a term that is broken into two rows the first part takes the keyboard's focus.
            let sense = if row == 0 { sense } else { Sense::hover() };
            let part = ui.interact(*rect, response.id.with((i, row)), sense);
            if sense.is_focusable() {
                part.widget_info(|| WidgetInfo::labeled(Role::Label, true, term.explanation()));
            }
            if part.has_focus() {
                ui.painter().rect_stroke(*rect, 2.0, ui.visuals().selection.stroke, egui::StrokeKind::Outside);
                part.show_tooltip_text(term.explanation());
            }
            part.on_hover_cursor(egui::CursorIcon::Help).on_hover_text(term.explanation());
        }
    }
    response
}

/// Draws a label with dots below the terms that `find` finds in its text.
fn draw(ui: &mut Ui, label: Label, find: impl FnOnce(&str) -> Terms) -> (Response, Found) {
    let (pos, galley, response) = label.layout_in_ui(ui);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, ui.is_enabled(), galley.text()));
    let mut found = Found::default();
    if !ui.is_rect_visible(response.rect) {
        return (response, found);
    }
    for (range, term) in find(galley.text()) {
        let rects: Vec<Rect> = rects(&galley, pos, range).collect();
        rects.iter().for_each(|rect| dots(ui, *rect));
        found.terms.push((rects, term));
    }
    found.elided = galley.elided;
    let color = ui.visuals().text_color();
    if ui.style().interaction.selectable_labels {
        LabelSelectionState::label_text_selection(ui, &response, pos, galley, color, egui::Stroke::NONE);
    } else {
        ui.painter().add(egui::epaint::TextShape::new(pos, galley, color));
    }
    (response, found)
}

/// The places of a range of bytes, one for each row it touches. A row that was cut off shows nothing.
fn rects(galley: &Galley, origin: Pos2, bytes: Range<usize>) -> impl Iterator<Item = Rect> {
    let at = |byte: usize| galley.text()[..byte].chars().count();
    let (start, end) = (at(bytes.start), at(bytes.end));
    let mut first = 0;
    galley.rows.iter().filter_map(move |row| {
        let (from, length) = (first, row.glyphs.len());
        first += length + usize::from(row.ends_with_newline);
        let (a, b) = (start.max(from), end.min(from + length));
        (a < b).then(|| {
            let x = |char: usize| {
                let glyph = row.glyphs.get(char - from);
                origin.x + row.pos.x + glyph.map_or(row.size.x, |glyph| glyph.pos.x)
            };
            Rect::from_min_max(pos2(x(a), origin.y + row.min_y()), pos2(x(b), origin.y + row.max_y()))
        })
    })
}

fn dots(ui: &Ui, rect: Rect) {
    let color = ui.visuals().text_color().gamma_multiply(0.55);
    let y = rect.bottom() - 0.5;
    let line = [pos2(rect.left() + 0.5, y), pos2(rect.right(), y)];
    ui.painter().extend(egui::Shape::dotted_line(&line, color, DOTS, 0.6));
}
