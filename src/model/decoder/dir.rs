//! Where a language model comes from: a Hugging Face directory, a GGUF file, or the bundled writing model.

use super::spec::DecoderSpec;
use crate::config::WRITER_LAB;
use crate::error::{Context as _, Error, Result};
use crate::model::dir::read_config;
use crate::model::gguf::GgufWeights;
use crate::model::weights::Weights;
use crate::model_store;
use crate::tensor::gguf::is_gguf;
use std::path::{Path, PathBuf};

/// A language model on disk or inside the program, opened but not yet read.
pub struct LmSource {
    /// Shape and constants.
    pub spec: DecoderSpec,
    /// The tensors.
    pub weights: Weights,
    /// The directory, with tokenizer and weights, or the GGUF file, which has both; of the bundled
    /// model its name.
    pub dir: PathBuf,
}

impl LmSource {
    /// Opens a directory or a GGUF file (told by its contents, not its name), or the bundled model for the path
    /// [`WRITER_LAB`].
    pub fn open(path: &Path) -> Result<Self> {
        if path == Path::new(WRITER_LAB) {
            return Self::bundled();
        }
        let path = model_store::locate(&path.to_string_lossy())?;
        let path = path.as_path();
        if !path.is_file() {
            return Self::open_dir(path);
        }
        if !is_gguf(path)? {
            return Err(Error::config(format!(
                "it does not start with GGUF; choose a model in GGUF format, or a directory in Hugging Face layout: {}",
                path.display()
            )));
        }
        let (spec, file) = GgufWeights::open(path)?;
        let weights = Weights::from_gguf(file).with_prefix(spec.family.prefix());
        Ok(Self { spec, weights, dir: path.to_owned() })
    }

    /// The `config.json` of the bundled writing model.
    pub fn bundled_config() -> &'static str {
        include_str!("../../../assets/writer/config.json")
    }

    fn bundled() -> Result<Self> {
        let spec = DecoderSpec::from_json(Self::bundled_config())?;
        let weights = Weights::bundled(include_bytes!("../../../assets/writer/model.safetensors"))?;
        let weights = weights.with_prefix(spec.family.prefix());
        Ok(Self { spec, weights, dir: PathBuf::from(WRITER_LAB) })
    }

    fn open_dir(dir: &Path) -> Result<Self> {
        let text = read_config(dir, "a language model's directory in Hugging Face layout")?;
        let spec = DecoderSpec::from_json(&text).with_context(|| dir.display().to_string())?;
        let weights = Weights::open(dir)?.with_prefix(spec.family.prefix());
        Ok(Self { spec, weights, dir: dir.to_owned() })
    }

    /// Whether a `config.json` names a family this module reads: to tell language models from encoders.
    pub fn reads(config_json: &str) -> bool {
        let json: Option<serde_json::Value> = serde_json::from_str(config_json).ok();
        let kind = json.as_ref().and_then(|json| json.get("model_type")?.as_str());
        kind.is_some_and(|kind| super::DecoderFamily::of(kind).is_some())
    }
}
