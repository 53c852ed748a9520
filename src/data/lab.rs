//! The bundled files of the labs as bytes: film-review sentences and the tokenizer of the lab's encoder; restaurant
//! descriptions and the tokenizer of the bundled language model.
//!
//! Provenance and licences are in `assets/lab/DATA.md` and `assets/writer/DATA.md`.

const TRAIN: &[u8] = include_bytes!("../../assets/lab/train.tsv");
const DEV: &[u8] = include_bytes!("../../assets/lab/dev.tsv");
const TOKENIZER: &[u8] = include_bytes!("../../assets/lab/tokenizer.json");

const WRITER_TRAIN: &[u8] = include_bytes!("../../assets/writer/train.csv");
const WRITER_DEV: &[u8] = include_bytes!("../../assets/writer/dev.csv");
const WRITER_TOKENIZER: &[u8] = include_bytes!("../../assets/writer/tokenizer.json");
/// The token between the texts of the bundled language model: its start and its end token.
pub const WRITER_END: &str = "<|endoftext|>";

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

/// The training texts of the bundled language model: CSV with the columns `mr` and `ref`.
pub fn writer_train_csv() -> &'static [u8] {
    WRITER_TRAIN
}

/// Its evaluation texts, laid out as [`writer_train_csv`]: every input with all its references.
pub fn writer_dev_csv() -> &'static [u8] {
    WRITER_DEV
}

/// The tokenizer of the bundled language model, as the bytes of its `tokenizer.json`.
pub fn writer_tokenizer_json() -> &'static [u8] {
    WRITER_TOKENIZER
}
