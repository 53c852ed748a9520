//! Use cases without threads, shared by the window's engine and the command line: prepare, train, open a saved run,
//! import, export with proof, study, generate.

mod advice;
pub mod branch;
pub mod capsule;
pub mod export;
mod fingerprint;
pub mod generate;
pub mod import;
pub mod merging;
pub mod playground;
pub mod preflight;
pub mod prepare;
pub mod previews;
pub mod progress;
pub mod prompts;
pub mod rebuild;
pub mod record_table;
pub mod report;
pub mod reweigh;
pub mod run;
pub mod runs;
pub mod saved_run;
pub mod snapshot;
pub mod studies;
pub mod timeline;
pub mod try_it;
pub mod written_texts;
