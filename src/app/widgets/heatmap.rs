//! A matrix as one texture.

use crate::app::theme::Theme;
use egui::{Color32, ColorImage, Rect, Response, Sense, TextureHandle, TextureOptions, Ui, Vec2};

/// The colour scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Signed: `-limit..=limit`.
    Diverging(f32),
    /// From the first to the second.
    Sequential(f32, f32),
}

/// A matrix to draw. `[rows * cols]`, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Values.
    pub values: &'a [f32],
}

/// Keeps the texture between frames.
#[derive(Default)]
pub struct HeatMapView {
    texture: Option<TextureHandle>,
    key: Option<(u64, bool)>,
}

/// The colour of a value.
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
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, name));
        let cells = matrix.rows * matrix.cols;
        if cells == 0 || matrix.values.len() != cells {
            return response;
        }
        let key = Some((version, theme.dark));
        if self.key != key || self.texture.is_none() {
            let pixels = matrix.values.iter().map(|&value| color(theme, scale, value)).collect();
            let image = ColorImage::new([matrix.cols, matrix.rows], pixels);
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
        match response.hover_pos() {
            None => response,
            Some(at) => {
                let cell = |t: f32, n: usize| ((t * n as f32) as usize).min(n - 1);
                let row = cell((at.y - rect.top()) / rect.height(), matrix.rows);
                let col = cell((at.x - rect.left()) / rect.width(), matrix.cols);
                let value = matrix.values[row * matrix.cols + col];
                response.on_hover_text_at_pointer(format!("{name}\nrow {row}, column {col}: {value:.5}"))
            }
        }
    }
}
