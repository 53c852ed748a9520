//! Texts for models that write: formats, templates, masks, batches, GGUF files.

mod cli;
mod codecs;
mod formats;
mod gguf;
mod layouts;
mod masks;
mod preview;
mod templates;

use super::support::gguf::{self as files, Entries};
use adamix::config::{DataConfig, Task, TextConfig};
use adamix::data::text::{self, TextCodec, TextData};
use adamix::error::{Error, Result};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A directory with these files.
fn dir(contents: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in contents {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// A model file with this metadata in `dir`.
fn model(dir: &Path, entries: &Entries) -> PathBuf {
    let path = dir.join("model.bin");
    std::fs::write(&path, files::file(entries, &[], 0)).unwrap();
    path
}

fn codec_of(entries: &Entries) -> Result<TextCodec> {
    let dir = tempfile::tempdir().unwrap();
    TextCodec::open(&model(dir.path(), entries))
}

/// A byte-level codec with ChatML's tokens and template.
fn codec() -> TextCodec {
    codec_of(&files::chatml(CHATML)).unwrap()
}

/// Settings for a training and an evaluation file in `dir`.
fn data(dir: &Path, train: &str, dev: &str) -> DataConfig {
    DataConfig {
        task: Task::Text,
        path: dir.display().to_string(),
        train_file: train.to_owned(),
        dev_file: dev.to_owned(),
        max_length: 512,
        ..DataConfig::default()
    }
}

/// One file, read for training and evaluation.
fn load_with(name: &str, contents: &str, change: impl Fn(&mut DataConfig, &mut TextConfig)) -> Result<TextData> {
    let dir = dir(&[(name, contents)]);
    let (mut data, mut text) = (data(dir.path(), name, name), TextConfig::default());
    change(&mut data, &mut text);
    text::load(&data, &text, &codec())
}

fn load(name: &str, contents: &str) -> Result<TextData> {
    load_with(name, contents, |_, _| {})
}

/// The tokens of a sequence as text: not learned, [learned].
fn shown(data: &TextData, number: usize) -> String {
    let encoded = &data.train.encoded[number];
    let codec = &data.encoder.codec;
    let runs = encoded.ids.iter().zip(&encoded.learn).collect::<Vec<_>>();
    let mut out = String::new();
    for run in runs.chunk_by(|a, b| a.1 == b.1) {
        let ids: Vec<u32> = run.iter().map(|(id, _)| **id).collect();
        let piece = codec.decode(&ids).unwrap();
        out += &if *run[0].1 { format!("[{piece}]") } else { piece };
    }
    out
}

#[track_caller]
fn says(err: &Error, parts: &[&str]) {
    let message = err.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
