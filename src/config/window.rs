//! How the window is opened.

use std::path::PathBuf;

/// What the command line says to the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowOptions {
    /// A run directory to open at once.
    pub run: Option<PathBuf>,
    /// Close by itself after so many frames: a check that the window works on this machine.
    pub frames: Option<u32>,
    /// Where to write a picture of the last of these frames (PNG).
    pub screenshot: Option<PathBuf>,
}
