//! Models and data before training, in the window's terms.

use crate::config::Problem;
use crate::data::preview::{Lengths, Preview, SampleRow, Split};
use crate::error::Result;
use crate::model::decoder::targets::lora_targets;
use crate::model::decoder::{DecoderFamily, LmSource};
use crate::model::loras::Target;
use crate::model::weights::Weights;
use crate::model::{Family, ModelSource, encoder};
use crate::protocol::snapshots::{DataPreview, ModelInfo, PreviewRow, SplitPreview};
use crate::workflow::prepare;
use std::path::Path;

/// Rows of a list of rows that were left out.
const SKIPPED: usize = 300;

/// Texts of each split that are shown token by token.
pub(crate) const TEXTS: usize = 3;

/// What a model's files say about it; the tensors are listed, not read.
pub(crate) fn model(path: &str) -> Result<ModelInfo> {
    match prepare::language_model_source(path)? {
        Some(source) => Ok(language_model(path, &source)),
        None => encoder(path),
    }
}

fn language_model(path: &str, source: &LmSource) -> ModelInfo {
    let spec = &source.spec;
    let mut notes = Vec::new();
    if spec.tied {
        notes.push("the head is the word table".to_owned());
    }
    if spec.num_kv_heads != spec.num_heads {
        notes.push(format!("{} heads share keys and values", spec.num_heads / spec.num_kv_heads.max(1)));
    }
    if let Some(window) = spec.sliding_window {
        notes.push(format!("attention looks back {window} tokens; longer inputs are refused"));
    }
    ModelInfo {
        path: path.to_owned(),
        family: match spec.family {
            DecoderFamily::Gpt2 => "GPT-2",
            DecoderFamily::Llama => "Llama",
            DecoderFamily::Mistral => "Mistral",
            DecoderFamily::Qwen2 => "Qwen2",
            DecoderFamily::Qwen3 => "Qwen3",
        }
        .to_owned(),
        layers: spec.num_layers,
        hidden_size: spec.hidden_size,
        heads: spec.num_heads,
        vocab_size: spec.vocab_size,
        max_length: spec.max_length(),
        parameters: parameters(&source.weights),
        file_bytes: weight_bytes(&source.dir),
        writes: true,
        lora_targets: paths(&lora_targets(spec)),
        notes,
    }
}

fn parameters(weights: &Weights) -> usize {
    weights.names().map(|name| weights.shape(name).map_or(0, |shape| shape.iter().product::<usize>())).sum()
}

fn paths(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| target.path.clone()).collect()
}

fn encoder(path: &str) -> Result<ModelInfo> {
    let source = ModelSource::open(path)?;
    let spec = &source.spec;
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
        parameters: parameters(&source.weights),
        file_bytes: source.dir.as_deref().map_or(0, weight_bytes),
        writes: false,
        lora_targets: paths(&encoder::lora_targets(spec)),
        notes,
    })
}

fn weight_bytes(dir: &Path) -> u64 {
    if dir.is_file() {
        return std::fs::metadata(dir).map_or(0, |meta| meta.len());
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let weights = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "safetensors"));
    weights.filter_map(|entry| std::fs::metadata(entry.path()).ok()).map(|meta| meta.len()).sum()
}

fn place(row: &crate::data::SkippedRow) -> String {
    format!("{}:{}: {}", row.file, row.line, row.reason)
}

/// A data preview as it is drawn.
pub(crate) fn data(preview: Preview) -> DataPreview {
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
