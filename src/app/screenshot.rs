//! Screenshots that the window takes of itself: for documentation, and for a test that it opens.

use super::actions::{Action, ActionQueue};
use super::settings::Appearance;
use super::view::View;
use crate::error::{Error, Result};
use eframe::icon_data::IconDataExt as _;
use egui::ColorImage;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Size of the window in points at the first start.
pub const WINDOW_SIZE: [f32; 2] = [1280.0, 800.0];

/// A screenshot that the window takes of itself.
#[derive(Clone, Debug)]
pub struct Screenshot {
    /// PNG file to write; absent: no file is written.
    pub file: Option<PathBuf>,
    /// Frames to draw before it is taken.
    pub frames: u32,
    /// Light or dark; absent: as the settings say.
    pub appearance: Option<Appearance>,
    /// View that is brought to the front.
    pub view: Option<View>,
    /// Actions executed after the first frames.
    pub actions: Vec<Action>,
    /// Window size in points at zoom 1.
    pub size: [f32; 2],
    /// Size of everything; 1 is normal.
    pub zoom: f32,
}

impl Default for Screenshot {
    fn default() -> Self {
        Self { file: None, frames: 40, appearance: None, view: None, actions: Vec::new(), size: WINDOW_SIZE, zoom: 1.0 }
    }
}

/// Counts frames, takes the screenshot and closes the window.
#[derive(Default)]
pub struct ScreenshotTaker {
    screenshot: Option<Screenshot>,
    frame: u32,
    asked: bool,
    /// Whether the file could be written; absent: it is not there yet.
    pub result: Arc<Mutex<Option<Result<()>>>>,
}

impl ScreenshotTaker {
    /// Takes this screenshot, if any.
    pub fn new(screenshot: Option<Screenshot>) -> Self {
        Self { screenshot, ..Self::default() }
    }

    /// Whether a screenshot is to be taken.
    pub fn is_active(&self) -> bool {
        self.screenshot.is_some()
    }

    /// Called after each drawn frame.
    pub fn after_frame(&mut self, ctx: &egui::Context, actions: &ActionQueue) {
        let Some(screenshot) = &self.screenshot else { return };
        self.frame += 1;
        if self.frame == 1
            && let Some(appearance) = screenshot.appearance
        {
            actions.push(Action::SetAppearance(appearance));
        }
        if self.frame == 2 && screenshot.zoom != 1.0 {
            ctx.set_zoom_factor(screenshot.zoom);
        }
        if self.frame == 4 {
            screenshot.actions.iter().for_each(|action| actions.push(action.clone()));
            if let Some(view) = screenshot.view {
                actions.push(Action::Show(view));
            }
        }
        if self.frame >= screenshot.frames.max(6) && !self.asked {
            self.asked = true;
            match screenshot.file.clone() {
                None => *self.result.lock() = Some(Ok(())),
                Some(file) => {
                    let (result, ctx_of_window) = (self.result.clone(), ctx.clone());
                    ctx.request_screenshot(move |image| {
                        *result.lock() = Some(save(&image, &file));
                        ctx_of_window.request_repaint();
                    });
                }
            }
        }
        if self.result.lock().is_some() {
            actions.push(Action::QuitNow);
        }
        ctx.request_repaint();
    }
}

fn save(image: &ColorImage, file: &Path) -> Result<()> {
    let [width, height] = image.size;
    let rgba = image.pixels.iter().flat_map(|pixel| pixel.to_array()).collect();
    let screenshot = egui::IconData { rgba, width: width as u32, height: height as u32 };
    let png =
        screenshot.to_png_bytes().map_err(|err| Error::internal(format!("the screenshot cannot be encoded: {err}")))?;
    std::fs::write(file, png).map_err(|err| Error::io("writing the screenshot", file, err))
}
