//! The bundled data of the lab: film-review sentences and the tokenizer of the lab's encoder.
//!
//! Provenance and licence of the sentences are in `assets/lab/DATA.md`.

use super::TextTokenizer;
use crate::error::Result;

const TRAIN: &[u8] = include_bytes!("../../assets/lab/train.tsv");
const DEV: &[u8] = include_bytes!("../../assets/lab/dev.tsv");
const TOKENIZER: &[u8] = include_bytes!("../../assets/lab/tokenizer.json");

/// Class names in order.
pub const LABELS: [&str; 2] = ["negative", "positive"];

/// The training rows: TSV with the columns `sentence` and `label` (0 or 1).
pub fn train_tsv() -> &'static [u8] {
    TRAIN
}

/// The evaluation rows, laid out as [`train_tsv`].
pub fn dev_tsv() -> &'static [u8] {
    DEV
}

/// The tokenizer of the lab's encoder, as the bytes of its `tokenizer.json`.
pub fn tokenizer_json() -> &'static [u8] {
    TOKENIZER
}

/// The tokenizer of the lab's encoder.
pub fn tokenizer() -> Result<TextTokenizer> {
    TextTokenizer::from_bytes(TOKENIZER)
}
