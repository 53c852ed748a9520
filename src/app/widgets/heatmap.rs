//! A matrix as one texture, with a cursor that mouse and arrow keys move.

use crate::app::theme::Theme;
use egui::{
    Color32, ColorImage, EventFilter, Key, Modifiers, Rect, Response, Sense, Stroke, StrokeKind, TextureHandle,
    TextureOptions, Ui, Vec2, WidgetInfo, pos2, vec2,
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Signed: `-limit..=limit`.
    Diverging(f32),
    /// From the first to the second.
    Sequential(f32, f32),
}

#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub rows: usize,
    pub cols: usize,
    /// The value in a row and a column.
    pub at: &'a dyn Fn(usize, usize) -> f32,
}

/// Row and column of a cell, from the upper left.
pub type Place = (usize, usize);

/// What a heat map is drawn with.
#[derive(Clone, Copy)]
pub struct HeatMapSpec<'a> {
    pub matrix: Matrix<'a>,
    pub scale: Scale,
    /// Must change whenever the values do.
    pub version: u64,
    pub size: Vec2,
    /// Read by screen readers, before the value under the cursor.
    pub name: &'a str,
}

/// Keeps the texture between frames.
#[derive(Default)]
pub struct HeatMapView {
    texture: Option<TextureHandle>,
    key: Option<(u64, bool)>,
}

pub fn color(theme: &Theme, scale: Scale, value: f32) -> Color32 {
    match scale {
        Scale::Diverging(limit) => theme.diverging(if limit > 0.0 { value / limit } else { 0.0 }),
        Scale::Sequential(low, high) => theme.sequential(if high > low { (value - low) / (high - low) } else { 0.0 }),
    }
}

impl HeatMapView {
    /// Draws the matrix. The pointer and, when the map has the keyboard focus, the arrow keys move the cursor; `about` says what
    /// lies there.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        theme: &Theme,
        spec: HeatMapSpec<'_>,
        cursor: &mut Option<Place>,
        about: impl Fn(Place) -> String,
    ) -> Response {
        let HeatMapSpec { matrix: Matrix { rows, cols, at }, scale, version, size, name } = spec;
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        if rows * cols == 0 {
            response.widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, name));
            return response;
        }
        let key = Some((version, theme.dark));
        if self.key != key || self.texture.is_none() {
            let cells = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
            let pixels = cells.map(|(row, col)| color(theme, scale, at(row, col))).collect();
            let image = ColorImage::new([cols, rows], pixels);
            match &mut self.texture {
                Some(texture) => texture.set(image, TextureOptions::NEAREST),
                None => self.texture = Some(ui.ctx().load_texture(name, image, TextureOptions::NEAREST)),
            }
            self.key = key;
        }
        if let Some(texture) = &self.texture {
            let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(texture.id(), rect, uv, Color32::WHITE);
        }
        let border =
            if response.has_focus() { ui.visuals().selection.stroke } else { Stroke::new(1.0, theme.card_border) };
        ui.painter().rect_stroke(rect, 0.0, border, StrokeKind::Outside);
        let cell = |t: f32, n: usize| ((t.max(0.0) * n as f32) as usize).min(n - 1);
        if let Some(pointer) = response.hover_pos()
            && ui.input(|input| input.pointer.is_moving() || input.pointer.any_pressed())
        {
            let row = cell((pointer.y - rect.top()) / rect.height(), rows);
            *cursor = Some((row, cell((pointer.x - rect.left()) / rect.width(), cols)));
        }
        if response.clicked() {
            response.request_focus();
        }
        if response.has_focus() {
            keys(ui, &response, (rows, cols), cursor);
        }
        *cursor = cursor.map(|(row, col)| (row.min(rows - 1), col.min(cols - 1)));
        let words = cursor.map_or_else(|| name.to_owned(), |place| format!("{name}; {}", about(place)));
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, &words));
        if let Some(place) = *cursor {
            mark(ui, rect, (rows, cols), place);
            if response.hovered() {
                return response.on_hover_text_at_pointer(format!("{name}\n{}", about(place)));
            }
        }
        response
    }
}

/// The arrow keys move by one cell, with Shift by ten.
fn keys(ui: &Ui, response: &Response, (rows, cols): (usize, usize), cursor: &mut Option<Place>) {
    let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    let pressed = |key: Key| {
        let count = |modifiers| ui.input_mut(|input| input.count_and_consume_key(modifiers, key));
        count(Modifiers::NONE) + 10 * count(Modifiers::SHIFT)
    };
    let [up, down, left, right] = [Key::ArrowUp, Key::ArrowDown, Key::ArrowLeft, Key::ArrowRight].map(pressed);
    if up + down + left + right == 0 && cursor.is_some() {
        return;
    }
    let (row, col) = cursor.unwrap_or((0, 0));
    *cursor = Some(((row + down).min(rows - 1).saturating_sub(up), (col + right).min(cols - 1).saturating_sub(left)));
}

/// A frame around a cell that is seen on every colour.
fn mark(ui: &Ui, rect: Rect, (rows, cols): (usize, usize), (row, col): Place) {
    let size = vec2(rect.width() / cols as f32, rect.height() / rows as f32);
    let min = rect.min + vec2(size.x * col as f32, size.y * row as f32);
    let place = Rect::from_center_size(min + 0.5 * size, size.max(vec2(5.0, 5.0)));
    let painter = ui.painter().with_clip_rect(rect.expand(4.0).intersect(ui.clip_rect()));
    painter.rect_stroke(place, 0.0, Stroke::new(3.0, Color32::BLACK), StrokeKind::Outside);
    painter.rect_stroke(place, 0.0, Stroke::new(1.5, Color32::WHITE), StrokeKind::Outside);
}
