//! A matrix as one texture.

use super::canvas;
use crate::app::theme::Theme;
use egui::{Color32, ColorImage, Rect, Response, TextureHandle, TextureOptions, Ui, Vec2};

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
    #[expect(clippy::too_many_arguments, reason = "what to draw, how, and where")]
    /// Draws the matrix into `size`. `version` must change whenever the values do. Hovering names row, column and value.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        theme: &Theme,
        matrix: Matrix<'_>,
        scale: Scale,
        version: u64,
        size: Vec2,
        name: &str,
    ) -> Response {
        let (rect, response) = canvas(ui, size, egui::Role::Image, name);
        let Matrix { rows, cols, at } = matrix;
        if rows * cols == 0 {
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
            let uv = Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
            ui.painter().image(texture.id(), rect, uv, Color32::WHITE);
            ui.painter().rect_stroke(rect, 0.0, egui::Stroke::new(1.0, theme.card_border), egui::StrokeKind::Inside);
        }
        let Some(pointer) = response.hover_pos() else { return response };
        let cell = |t: f32, n: usize| ((t * n as f32) as usize).min(n - 1);
        let row = cell((pointer.y - rect.top()) / rect.height(), rows);
        let col = cell((pointer.x - rect.left()) / rect.width(), cols);
        response.on_hover_text_at_pointer(format!("{name}\nrow {row}, column {col}: {:.5}", at(row, col)))
    }
}
