//! Small JSON files: manifests, certificates, configurations.

use crate::atomic::write_file;
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
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

/// A configuration, perhaps of another program.
pub fn read_config(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).map_err(|err| Error::io("reading", path, err))?.len();
    if size > LARGEST_CONFIG {
        return Err(Error::format(format!("{size} bytes are too many for a configuration: {}", path.display())));
    }
    read_json(path)
}

/// A JSON file of any size.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(|err| Error::io("reading", path, err))?;
    serde_json::from_slice(&text)
        .map_err(|err| Error::format(format!("its JSON cannot be understood: {err}: {}", path.display())))
}
