//! The window without a display: its own code, frame by frame, through egui's `Context`, tessellation included. Only the
//! drawing of the triangles is left out. For measurements (`adamix bench ui`) and for pictures without a screen.

use super::files::{FileAnswer, FilePicker, Purpose};
use super::layout::ViewLayout;
use super::settings::Settings;
use super::view::View;
use super::{WindowOptions, WorkbenchApp};
use crate::error::{Error, Result};
use crate::protocol::Engine;
use egui::{ClippedPrimitive, RawInput, Rect, TexturesDelta, Vec2, ViewportId, epaint::Primitive};
use std::path::{Path, PathBuf};

/// A window of a size, in pixels, that nobody sees.
pub struct Headless {
    ctx: egui::Context,
    /// The window itself.
    pub app: WorkbenchApp,
    pixels: Vec2,
    /// Seconds since it was opened.
    now: f64,
}

/// What one frame draws.
pub struct DrawnFrame {
    /// Meshes, each with the rectangle it is cut to, in points.
    pub primitives: Vec<ClippedPrimitive>,
    /// Changes of the textures.
    pub textures: TexturesDelta,
    /// Pixels of a point.
    pub pixels_per_point: f32,
}

impl DrawnFrame {
    /// Triangles of all meshes.
    pub fn triangles(&self) -> usize {
        let indices = |part: &ClippedPrimitive| match &part.primitive {
            Primitive::Mesh(mesh) => mesh.indices.len(),
            Primitive::Callback(_) => 0,
        };
        self.primitives.iter().map(indices).sum::<usize>() / 3
    }
}

/// Changes of textures that nobody took are dropped with the frame: egui calls that a mistake of a renderer otherwise.
impl Drop for DrawnFrame {
    fn drop(&mut self) {
        self.textures.clear();
    }
}

impl Headless {
    /// Opens a window over this engine; nothing is drawn yet. `pixels`: its width and height.
    pub fn open(
        engine: Result<Box<dyn Engine>>,
        settings: Settings,
        options: WindowOptions,
        [width, height]: [f32; 2],
    ) -> Self {
        let ctx = egui::Context::default();
        let app = WorkbenchApp::new(&ctx, engine, Box::new(NoDialogs), settings, options);
        Self { ctx, app, pixels: Vec2::new(width, height), now: 0.0 }
    }

    /// Another size in pixels, and how large everything is drawn in it; 1 is normal.
    pub fn set_size(&mut self, [width, height]: [f32; 2], zoom: f32) {
        self.pixels = Vec2::new(width, height);
        self.ctx.set_zoom_factor(zoom);
    }

    /// The next frame, `seconds` after the one before.
    pub fn frame(&mut self, seconds: f64) -> DrawnFrame {
        self.now += seconds;
        let size = self.pixels / self.ctx.pixels_per_point();
        let mut input = RawInput {
            screen_rect: Some(Rect::from_min_size(egui::Pos2::ZERO, size)),
            time: Some(self.now),
            predicted_dt: seconds as f32,
            focused: true,
            ..RawInput::default()
        };
        if let Some(viewport) = input.viewports.get_mut(&ViewportId::ROOT) {
            viewport.native_pixels_per_point = Some(1.0);
        }
        let app = &mut self.app;
        let output = self.ctx.run_ui(input, |ui| {
            let ctx = ui.ctx().clone();
            app.begin_frame(&ctx);
            app.draw(ui, None);
        });
        let pixels_per_point = output.pixels_per_point;
        let primitives = self.ctx.tessellate(output.shapes, pixels_per_point);
        DrawnFrame { primitives, textures: output.textures_delta, pixels_per_point }
    }

    /// Arranges the views so that all are visible at once, side by side.
    pub fn show_all_views(&mut self) -> Result<()> {
        let tree = egui_tiles::Tree::new_grid(egui::Id::unique("views"), View::ALL.to_vec());
        self.arrange(&serde_json::to_string(&tree).unwrap_or_default())
    }

    /// Arranges the views as this JSON text says, which `ViewLayout::to_json` wrote.
    pub fn arrange(&mut self, text: &str) -> Result<()> {
        let layout = ViewLayout::from_json(text);
        self.app.layout = layout.ok_or_else(|| Error::internal("an arrangement of the views is refused"))?;
        Ok(())
    }
}

/// Nobody is there to choose a file.
struct NoDialogs;

impl FilePicker for NoDialogs {
    fn pick(&mut self, _purpose: Purpose, _start: Option<&Path>) {}
    fn is_open(&self) -> bool {
        false
    }
    fn list(&mut self, _path: PathBuf) {}
    fn read(&mut self, _purpose: Purpose, _path: PathBuf) {}
    fn write(&mut self, _purpose: Purpose, _path: PathBuf, _bytes: Vec<u8>) {}

    fn reveal(&mut self, _dir: PathBuf) {}
    fn notice(&mut self, _title: String, _text: String) {}
    fn poll(&mut self) -> Option<FileAnswer> {
        None
    }
}
