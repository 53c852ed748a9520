//! Pictures of the real window, taken by itself: for documentation and for a test that it opens at all.

use super::Picture;
use super::actions::{Action, ActionQueue};
use crate::error::Error;
use eframe::icon_data::IconDataExt as _;
use egui::ColorImage;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Counts frames, then takes the picture and closes the window.
#[derive(Default)]
pub struct Shooting {
    picture: Option<Picture>,
    frame: u32,
    asked: bool,
    done: Arc<AtomicBool>,
    /// Why the picture could not be written.
    pub result: Arc<Mutex<Option<Error>>>,
}

impl Shooting {
    /// Will take this picture, if any.
    pub fn new(picture: Option<Picture>) -> Self {
        Self { picture, ..Self::default() }
    }

    /// Whether a picture is to be taken.
    pub fn is_active(&self) -> bool {
        self.picture.is_some()
    }

    /// Called after each drawn frame.
    pub fn after_picture(&mut self, ctx: &egui::Context, actions: &ActionQueue) {
        let Some(picture) = &self.picture else { return };
        self.frame += 1;
        if self.frame == 1
            && let Some(appearance) = picture.appearance
        {
            actions.push(Action::SetAppearance(appearance));
        }
        if self.frame == 4 {
            picture.actions.iter().for_each(|action| actions.push(action.clone()));
            if let Some(view) = picture.view {
                actions.push(Action::Show(view));
            }
        }
        if self.frame >= picture.frames.max(6) && !self.asked {
            self.asked = true;
            match picture.file.clone() {
                None => self.done.store(true, Ordering::Release),
                Some(file) => {
                    let (done, result, ctx_of_window) = (self.done.clone(), self.result.clone(), ctx.clone());
                    ctx.request_screenshot(move |image| {
                        *result.lock() = save(&image, &file).err();
                        done.store(true, Ordering::Release);
                        ctx_of_window.request_repaint();
                    });
                }
            }
        }
        if self.done.swap(false, Ordering::AcqRel) {
            actions.push(Action::QuitNow);
        }
        ctx.request_repaint();
    }
}

fn save(image: &ColorImage, file: &Path) -> Result<(), Error> {
    let [width, height] = image.size;
    let rgba = image.pixels.iter().flat_map(|pixel| pixel.to_array()).collect();
    let picture = egui::IconData { rgba, width: width as u32, height: height as u32 };
    let png = picture.to_png_bytes().map_err(|err| Error::internal(format!("the picture cannot be encoded: {err}")))?;
    std::fs::write(file, png).map_err(|err| Error::io("writing the picture", file, err))
}
