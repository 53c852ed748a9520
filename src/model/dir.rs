//! Where a model comes from: a Hugging Face directory, or the bundled lab encoder.

use super::spec::EncoderSpec;
use super::weights::Weights;
use crate::config::LAB;
use crate::error::{Context as _, Error, Result};
use crate::model_store;
use std::path::{Path, PathBuf};

/// A model on disk or inside the program, opened but not yet read.
pub struct ModelSource {
    /// Shape and constants.
    pub spec: EncoderSpec,
    /// The tensors.
    pub weights: Weights,
    /// The directory; absent for the lab.
    pub dir: Option<PathBuf>,
}

impl ModelSource {
    /// Opens a directory, a model of the cache by its name, or the lab for the path `lab`.
    pub fn open(path: &str) -> Result<Self> {
        if path == LAB { Self::lab() } else { Self::open_dir(&model_store::locate(path)?) }
    }

    fn open_dir(dir: &Path) -> Result<Self> {
        let text = read_config(dir, "an encoder's directory in Hugging Face layout, or \"lab\"")?;
        let spec = EncoderSpec::from_json(&text).with_context(|| dir.display().to_string())?;
        let weights = Weights::open(dir)?.with_prefix(spec.family.prefix());
        Ok(Self { spec, weights, dir: Some(dir.to_owned()) })
    }

    /// The `config.json` of the lab's encoder.
    pub fn bundled_config() -> &'static str {
        include_str!("../../assets/lab/config.json")
    }

    fn lab() -> Result<Self> {
        let spec = EncoderSpec::from_json(Self::bundled_config())?;
        let weights =
            Weights::bundled(include_bytes!("../../assets/lab/model.safetensors"))?.with_prefix(spec.family.prefix());
        Ok(Self { spec, weights, dir: None })
    }

    /// A short name for run directories and tables.
    pub fn name(&self) -> String {
        self.dir.as_deref().and_then(model_store::cache::short_name).unwrap_or_else(|| LAB.to_owned())
    }
}

/// The `config.json` of a model's directory; `choose`: what to choose where there is none.
pub(super) fn read_config(dir: &Path, choose: &str) -> Result<String> {
    let config = dir.join("config.json");
    if !config.is_file() {
        return Err(Error::config(format!("no config.json; choose {choose}: {}", dir.display())));
    }
    std::fs::read_to_string(&config).map_err(|err| Error::io("reading the model's config", &config, err))
}
