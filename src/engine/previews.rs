//! Models and data before training, in the window's terms.

use super::snapshots::{DataPreview, ModelInfo, PreviewRow, SplitPreview};
use super::{prepare, run};
use crate::config::{Problem, RunConfig, Task};
use crate::data::preview::{Lengths, Preview, SampleRow, Split};
use crate::data::text::TextPreview;
use crate::data::text::preview::{SampleText, TextSplit};
use crate::error::Result;
use crate::model::{Family, LmSource, ModelSource};
use std::path::Path;

/// Rows of a list of rows that were left out.
const SKIPPED: usize = 300;
/// Texts shown of each split.
const SHOWN_TEXTS: usize = 20;

/// What a model's directory says about it; the tensors are listed, not read.
pub(super) fn model(path: &str) -> Result<ModelInfo> {
    match prepare::language_model_source(path)? {
        Some(source) => Ok(language_model(path, &source)),
        None => encoder(path),
    }
}

fn language_model(path: &str, source: &LmSource) -> ModelInfo {
    let spec = &source.spec;
    let mut notes = vec!["a language model: for task text".to_owned()];
    if spec.num_kv_heads != spec.num_heads {
        notes.push(format!("{} heads share keys and values", spec.num_heads / spec.num_kv_heads.max(1)));
    }
    ModelInfo {
        path: path.to_owned(),
        family: spec.family.model_type().to_owned(),
        layers: spec.num_layers,
        hidden_size: spec.hidden_size,
        heads: spec.num_heads,
        vocab_size: spec.vocab_size,
        max_length: spec.max_length(),
        parameters: spec.matmul_parameters() + spec.vocab_size * spec.hidden_size * if spec.tied { 1 } else { 2 },
        file_bytes: weight_bytes(Path::new(path)),
        notes,
    }
}

fn encoder(path: &str) -> Result<ModelInfo> {
    let source = ModelSource::open(path)?;
    let spec = &source.spec;
    let values = |name: &str| source.weights.shape(name).map_or(0, |shape| shape.iter().product::<usize>());
    let names: Vec<&str> = source.weights.names().collect();
    let mut notes = Vec::new();
    if names.iter().any(|name| name.starts_with("classifier.")) {
        notes.push("brings a classification head, which is used when it fits the task".to_owned());
    }
    if spec.hidden_dropout != spec.attention_dropout {
        let (hidden, attention) = (spec.hidden_dropout, spec.attention_dropout);
        notes.push(format!("dropout {hidden} in the layers, {attention} in the attention"));
    }
    Ok(ModelInfo {
        path: path.to_owned(),
        family: match spec.family {
            Family::Bert => "BERT",
            Family::Roberta => "RoBERTa",
        }
        .to_owned(),
        layers: spec.num_layers,
        hidden_size: spec.hidden_size,
        heads: spec.num_heads,
        vocab_size: spec.vocab_size,
        max_length: spec.max_length(),
        parameters: names.iter().map(|name| values(name)).sum(),
        file_bytes: source.dir.as_deref().map_or(0, weight_bytes),
        notes,
    })
}

fn weight_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let weights = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "safetensors"));
    weights.filter_map(|entry| std::fs::metadata(entry.path()).ok()).map(|meta| meta.len()).sum()
}

/// The preview of the rows or texts that these settings name, as it is drawn.
pub(super) fn of_data(config: &RunConfig) -> Result<DataPreview> {
    match config.data.task {
        Task::Text => Ok(texts(run::text_preview(config, SHOWN_TEXTS)?)),
        _ => Ok(data(run::preview(config)?)),
    }
}

fn texts(preview: TextPreview) -> DataPreview {
    let part = |split: &TextSplit, duplicates: usize| SplitPreview {
        rows: split.examples,
        sample: split.sample.iter().map(text_row).collect(),
        labels: Vec::new(),
        values: None,
        token_histogram: split.lengths.histogram.clone(),
        token_bin: split.lengths.bin_width,
        mean_tokens: split.lengths.mean,
        max_tokens: split.lengths.max,
        truncated_rows: split.truncated,
        truncated_tokens: split.cut_share,
        duplicates,
    };
    DataPreview {
        columns: vec![format!("{} tokens to learn", preview.train.learned_tokens), preview.layout.clone()],
        train: part(&preview.train, preview.duplicates_in_train),
        dev: part(&preview.dev, 0),
        leaks: preview.leaks,
        skipped: preview.skipped.iter().take(SKIPPED).map(place).collect(),
        skipped_rows: preview.skipped.len(),
        labels: Vec::new(),
        leak_examples: preview.leak_examples,
        name: preview.name,
    }
}

/// A text with what is learned of it apart.
fn text_row(sample: &SampleText) -> PreviewRow {
    let part = |learned: bool| {
        let tokens = sample.tokens.iter().filter(|token| token.learned == learned);
        tokens.map(|token| token.text.as_str()).collect::<String>()
    };
    PreviewRow { text: part(false), pair: None, label: part(true), tokens: sample.tokens.len() }
}

fn place(row: &crate::data::SkippedRow) -> String {
    format!("{}:{}: {}", row.file, row.line, row.reason)
}

/// A data preview as it is drawn.
fn data(preview: Preview) -> DataPreview {
    let Preview { labels, problem, max_length, .. } = &preview;
    let part = |split: &Split, duplicates: usize| split_preview(split, labels, *problem, *max_length, duplicates);
    DataPreview {
        columns: preview.columns.names.clone(),
        train: part(&preview.train, preview.duplicates_in_train),
        dev: part(&preview.dev, 0),
        leaks: preview.leaks,
        skipped: preview.skipped.iter().take(SKIPPED).map(place).collect(),
        skipped_rows: preview.skipped.len(),
        labels: preview.labels.clone(),
        leak_examples: preview.leak_examples,
        name: preview.name,
    }
}

fn split_preview(
    split: &Split,
    labels: &[String],
    problem: Problem,
    max_length: usize,
    duplicates: usize,
) -> SplitPreview {
    let row = |row: &SampleRow| PreviewRow {
        text: row.text.clone(),
        pair: row.pair.clone(),
        label: row.label.clone(),
        tokens: row.tokens.len(),
    };
    let none = Lengths::default();
    let lengths = split.lengths.as_ref().unwrap_or(&none);
    let balance = labels.iter().cloned().zip(split.balance.iter().copied());
    SplitPreview {
        rows: split.rows,
        sample: split.sample.iter().map(row).collect(),
        labels: if problem == Problem::Classification { balance.collect() } else { Vec::new() },
        values: split.targets,
        token_histogram: lengths.histogram.clone(),
        token_bin: lengths.bin_width,
        mean_tokens: lengths.mean,
        max_tokens: lengths.max,
        truncated_rows: (lengths.truncated_share * split.rows as f64).round() as usize,
        truncated_tokens: cut_share(lengths, max_length),
        duplicates,
    }
}

/// Share of the tokens beyond the largest length, from the histogram: each row counts as the middle of its bar.
fn cut_share(lengths: &Lengths, max_length: usize) -> f64 {
    if lengths.truncated_share == 0.0 {
        return 0.0;
    }
    let middle = |bar: usize| (bar as f64 + 0.5) * lengths.bin_width as f64;
    let sum = |share: &dyn Fn(f64) -> f64| {
        let bars = lengths.histogram.iter().enumerate();
        bars.map(|(bar, &rows)| rows as f64 * share(middle(bar))).sum::<f64>()
    };
    sum(&|length| (length - max_length as f64).max(0.0)) / sum(&|length| length).max(1.0)
}
