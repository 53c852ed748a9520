//! Small JSON files: manifests, certificates, configurations.

use crate::atomic::write_file;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Larger configurations are taken for something else.
const LARGEST_CONFIG: u64 = 4 << 20;

/// Writes indented JSON. Atomic.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|err| Error::internal(format!("{} cannot be written: {err}", path.display())))?;
    text.push(b'\n');
    write_file(path, &text)
}

/// A small JSON file.
pub fn read_json(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).map_err(|err| Error::io("reading", path, err))?.len();
    if size > LARGEST_CONFIG {
        return Err(Error::format(format!("{size} bytes are too many for a configuration: {}", path.display())));
    }
    let text = std::fs::read(path).map_err(|err| Error::io("reading", path, err))?;
    serde_json::from_slice(&text).map_err(|err| Error::format(format!("not valid JSON: {err}: {}", path.display())))
}
