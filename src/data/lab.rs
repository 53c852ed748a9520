//! The bundled files of both labs. Provenance and licences are in `assets/lab/DATA.md` and `assets/writer/DATA.md`.

/// Training rows: TSV with the columns `sentence` and `label` (0 or 1).
pub const TRAIN_TSV: &[u8] = include_bytes!("../../assets/lab/train.tsv");
/// Evaluation rows with the same columns.
pub const DEV_TSV: &[u8] = include_bytes!("../../assets/lab/dev.tsv");
/// `tokenizer.json` of the lab's encoder.
pub const TOKENIZER_JSON: &[u8] = include_bytes!("../../assets/lab/tokenizer.json");
/// Class names in order.
pub const LABELS: [&str; 2] = ["negative", "positive"];

/// Training texts of the bundled language model: CSV with the columns `mr` and `ref`.
pub const WRITER_TRAIN_CSV: &[u8] = include_bytes!("../../assets/writer/train.csv");
/// Evaluation texts with the same columns: every input with all its references.
pub const WRITER_DEV_CSV: &[u8] = include_bytes!("../../assets/writer/dev.csv");
/// `tokenizer.json` of the bundled language model.
pub const WRITER_TOKENIZER_JSON: &[u8] = include_bytes!("../../assets/writer/tokenizer.json");
/// The token between the texts of the bundled language model: its start and its end token.
pub const WRITER_END: &str = "<|endoftext|>";
