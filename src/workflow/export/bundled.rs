//! What a bundled model would have beside its weights, as files: whole-model exports carry them along.

use crate::artifact::export::base::BaseKind;
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
    /// Those of the bundled model of this kind, in a new directory.
    pub fn new(kind: BaseKind<'_>, dir: &Path) -> Result<Self> {
        let (config, tokenizer, tokens) = match kind {
            BaseKind::Encoder(_) => {
                let named = |name: &'static str| (name, format!("[{}]", name.to_uppercase()));
                let tokens = ["unk", "sep", "pad", "cls", "mask"].map(named).to_vec();
                (ModelSource::bundled_config(), lab::TOKENIZER_JSON, tokens)
            }
            BaseKind::Decoder(_) => {
                let tokens = ["bos", "eos"].map(|name| (name, lab::WRITER_END.to_owned())).to_vec();
                (LmSource::bundled_config(), lab::WRITER_TOKENIZER_JSON, tokens)
            }
        };
        std::fs::create_dir_all(dir).map_err(|err| Error::io("creating a directory", dir, err))?;
        let files = Self { dir: dir.to_owned() };
        let mut words = serde_json::Map::from_iter([("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into())]);
        words.extend(tokens.into_iter().map(|(name, token)| (format!("{name}_token"), token.into())));
        atomic::write_file(&dir.join("config.json"), config.as_bytes())?;
        atomic::write_file(&dir.join("tokenizer.json"), tokenizer)?;
        let words = serde_json::Value::Object(words).to_string();
        atomic::write_file(&dir.join("tokenizer_config.json"), words.as_bytes())?;
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
