//! What a bundled model would have beside its weights, as files: whole-model exports carry them along.

use crate::atomic;
use crate::data::lab;
use crate::error::{Error, Result};
use crate::model::{LmSource, ModelSource};
use std::path::{Path, PathBuf};

/// A directory with `config.json` and a tokenizer; removed when this is dropped.
pub(crate) struct BundledFiles {
    dir: PathBuf,
}

impl BundledFiles {
    /// Those of the lab's encoder, in a new directory.
    pub fn lab(dir: &Path) -> Result<Self> {
        let tokens = ["unk", "sep", "pad", "cls", "mask"].map(|name| (name, format!("[{}]", name.to_uppercase())));
        Self::new(dir, ModelSource::bundled_config(), lab::TOKENIZER_JSON, &tokens)
    }

    /// Those of the bundled language model, in a new directory.
    pub fn writer(dir: &Path) -> Result<Self> {
        let tokens = ["bos", "eos"].map(|name| (name, lab::WRITER_END.to_owned()));
        Self::new(dir, LmSource::bundled_config(), lab::WRITER_TOKENIZER_JSON, &tokens)
    }

    fn new(dir: &Path, config: &str, tokenizer: &[u8], tokens: &[(&str, String)]) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|err| Error::io("creating a directory", dir, err))?;
        let files = Self { dir: dir.to_owned() };
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
        std::fs::remove_dir_all(&self.dir).ok(); // what is left is tidied up as after a kill
    }
}
