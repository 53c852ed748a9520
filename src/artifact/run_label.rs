//! `label.toml` in a run directory: what people call a run, wrote about it, and which run it was made from.
//!
//! The directory keeps its name, so that nothing that refers to it breaks. The file may be missing.

use super::run_dir::RUN_FILE;
use crate::atomic::write_file;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// Name of the file.
const LABEL_FILE: &str = "label.toml";
/// A larger file is not ours.
const MOST_BYTES: u64 = 1 << 20;

/// What people call a run and wrote about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunLabel {
    /// Its name in lists; empty: that of the directory.
    pub title: String,
    /// Free text.
    pub notes: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Directory name of the run whose settings it was started with, or from which it goes on; empty: none is known.
    pub parent: String,
    /// What is other than in that run, in a few words: `from step 400: learning_rate 0.003 -> 0.001`.
    pub edge: String,
}

impl RunLabel {
    /// Of a run directory; what cannot be read is empty, so that a run is never hidden by its label.
    pub fn read(dir: &Path) -> Self {
        let path = dir.join(LABEL_FILE);
        let text = match fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() <= MOST_BYTES => fs::read_to_string(&path),
            Ok(_) => Err(io::Error::other("not a file of at most 1 MB")),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(err) => Err(err),
        };
        let parsed =
            text.map_err(|err| err.to_string()).and_then(|text| toml::from_str(&text).map_err(|err| err.to_string()));
        parsed.unwrap_or_else(|err: String| {
            log::warn!("the label of a run cannot be read and is left out: {err}: {}", path.display());
            Self::default()
        })
    }

    /// Writes the label of a run; an empty one removes the file.
    ///
    /// # Errors
    ///
    /// The directory holds no run, or cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        if !dir.join(RUN_FILE).is_file() {
            return Err(Error::config(format!("not a run directory, it holds no {RUN_FILE}: {}", dir.display())));
        }
        let path = dir.join(LABEL_FILE);
        if *self == Self::default() {
            return match fs::remove_file(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", &path, err)),
                _ => Ok(()),
            };
        }
        let text =
            toml::to_string_pretty(self).map_err(|err| Error::internal(format!("a label cannot be written: {err}")))?;
        write_file(&path, text.as_bytes())
    }
}
