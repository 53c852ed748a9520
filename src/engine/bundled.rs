//! What a bundled model would have beside its weights, as files: whole-model exports carry them along.

use crate::artifact::atomic;
use crate::data::lab;
use crate::error::{Error, Result};
use crate::model::{LmSource, ModelSource};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory with `config.json` and a tokenizer; gone when this is dropped.
pub(super) struct BundledFiles {
    dir: PathBuf,
}

impl BundledFiles {
    /// Those of the lab's encoder.
    pub fn lab() -> Result<Self> {
        let tokens = ["unk", "sep", "pad", "cls", "mask"].map(|name| (name, format!("[{}]", name.to_uppercase())));
        Self::new(ModelSource::bundled_config(), lab::tokenizer_json(), &tokens)
    }

    /// Those of the writing model.
    pub fn writer() -> Result<Self> {
        let tokens = ["bos", "eos"].map(|name| (name, lab::WRITER_END.to_owned()));
        Self::new(LmSource::bundled_config(), lab::writer_tokenizer_json(), &tokens)
    }

    fn new(config: &str, tokenizer: &[u8], tokens: &[(&str, String)]) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("adamix-bundled-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|err| Error::io("creating a directory", &dir, err))?;
        let files = Self { dir };
        let mut words = serde_json::Map::new();
        words.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        words.extend(tokens.iter().map(|(name, token)| (format!("{name}_token"), token.as_str().into())));
        let words = serde_json::Value::Object(words).to_string();
        for (name, bytes) in [
            ("config.json", config.as_bytes()),
            ("tokenizer.json", tokenizer),
            ("tokenizer_config.json", words.as_bytes()),
        ] {
            atomic::write_file(&files.dir.join(name), bytes)?;
        }
        Ok(files)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for BundledFiles {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok(); // a leftover in the system's temporary directory does no harm
    }
}
